//! Which processes keep a mount busy.
//!
//! Reads `/proc` only, never the mount: the question must not hang where the mount does. What always holds:
//! only processes whose details this user may see are found.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

/// A process that holds something of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// One thing it holds: an open or mapped file, or the folder it works in.
    pub path: PathBuf,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// Processes that have a file of `mountpoint` open or mapped, or work in one of its folders.
pub fn who_holds(mountpoint: &Path) -> Vec<Holder> {
    let mut found: BTreeMap<u32, Holder> = BTreeMap::new();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let at = process.path();
        if let Some(path) = held_by(&at, mountpoint) {
            let name = fs::read_to_string(at.join("comm")).unwrap_or_default().trim_end().to_owned();
            found.insert(pid, Holder { pid, name, path });
        }
    }
    found.into_values().collect()
}

fn held_by(process: &Path, mountpoint: &Path) -> Option<PathBuf> {
    let below = |path: &Path| path.starts_with(mountpoint);
    let links = ["cwd", "root", "exe"].into_iter().filter_map(|link| fs::read_link(process.join(link)).ok());
    let files = fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok());
    links.chain(files).find(|path| below(path)).or_else(|| {
        // address perms offset dev inode path
        let maps = fs::read(process.join("maps")).ok()?;
        maps.split(|&b| b == b'\n')
            .filter_map(|line| line.iter().position(|&b| b == b'/').map(|at| &line[at..]))
            .map(|path| Path::new(OsStr::from_bytes(path)))
            .find(|path| below(path))
            .map(Path::to_owned)
    })
}
