//! Mounts of this program as the system sees them, and who keeps one busy.
//!
//! **What it may not do.** End a mount that is not this program's.
//! **What always holds.** Works without privileges; what another user's process holds may stay unseen.
//! **Where it is tested.** `tests/cli`.

use crate::error::{Failure, Kind};
use backupengine_source::{OwnMount, own_mounts};
use std::fs;
use std::path::{Path, PathBuf};

/// Mounted vaults.
///
/// # Errors
/// When the system does not say.
pub(crate) fn mounted() -> Result<Vec<OwnMount>, Failure> {
    own_mounts().map_err(|e| Failure::io("read", Path::new("the list of mounts"), e))
}

/// The mount at `path`, if one is there. Asks nothing of the mount itself, which may not answer.
///
/// # Errors
/// When the system does not say.
pub(crate) fn at(path: &Path) -> Result<Option<OwnMount>, Failure> {
    let path = settle(path);
    Ok(mounted()?.into_iter().find(|mount| mount.path == path))
}

/// The real path of a mountpoint. Its last name is not looked at: a dead mount would answer with an error.
pub(crate) fn settle(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = parent.canonicalize().unwrap_or_else(|_| parent.to_owned());
            let real = parent.join(name);
            match fs::read_link(&real) {
                Ok(_) => real.canonicalize().unwrap_or(real),
                Err(_) => real,
            }
        }
        _ => absolute,
    }
}

/// A process that has something of a mount open, or stands in it.
pub(crate) struct Holder {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) what: PathBuf,
}

/// Who holds the mount at `mountpoint`. Links below `/proc` are text: the mount is not asked.
pub(crate) fn holders(mountpoint: &Path) -> Vec<Holder> {
    let mut found = Vec::new();
    let own = std::process::id();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid == own {
            continue;
        }
        let process = entry.path();
        let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|fd| fd.path());
        let places = [process.join("cwd"), process.join("root"), process.join("exe")].into_iter().chain(open);
        let held = places.filter_map(|link| fs::read_link(link).ok()).find(|to| to.starts_with(mountpoint));
        if let Some(what) = held {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned();
            found.push(Holder { pid, name, what });
        }
    }
    found
}

/// What a busy mount is told as: who holds it.
pub(crate) fn busy(mountpoint: &Path) -> Failure {
    let mut failure = Failure::new(Kind::InUse, format!("{} is busy", mountpoint.display()));
    for holder in holders(mountpoint) {
        failure = failure.hint(format!(
            "{} (process {}) has {} open",
            holder.name,
            holder.pid,
            crate::output::shown_path(&holder.what)
        ));
    }
    if failure.hints.is_empty() {
        failure = failure.hint("a process of another user has something of it open");
    }
    failure.hint("end it, or leave the folder, and unmount again")
}
