//! `unmount`: ends a mount, or says who keeps it busy.
use crate::args::Unmount;
use crate::error::{Failure, Kind, Outcome};
use crate::mounts;
use crate::output;
use crate::wire::Wire;
use serde_json::Map;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to end after its mount is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Unmounts.
///
/// # Errors
/// Where no vault is mounted there, or it is busy.
pub(crate) fn run(wire: &Wire, args: &Unmount) -> Result<Outcome, Failure> {
    let Some(mount) = mounts::at(&args.mountpoint)? else {
        let at = args.mountpoint.display();
        return Err(Failure::new(Kind::Failed, format!("no vault is mounted at {at}"))
            .hint("`backupengine status` lists what is mounted"));
    };
    end(&mount.path)?;
    let begun = Instant::now();
    while mounts::at(&mount.path)?.is_some_and(|m| m.device == mount.device) && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    if wire.global.json {
        let mut object = Map::new();
        output::put_path(&mut object, "mountpoint", mount.path.as_os_str().as_encoded_bytes());
        object.insert("mounted".into(), false.into());
        output::json(&object.into())?;
    } else if !wire.global.quiet {
        output::line(format!("unmounted {}", output::shown_path(&mount.path)))?;
    }
    Ok(Outcome::Done)
}

/// Asks the kernel, or where that needs privileges FUSE's own program.
pub(crate) fn end(mountpoint: &Path) -> Result<(), Failure> {
    use rustix::io::Errno;
    use rustix::mount::{UnmountFlags, unmount};
    match unmount(mountpoint, UnmountFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(mounts::busy(mountpoint)),
        Err(Errno::PERM) => by_fusermount(mountpoint),
        Err(error) => Err(Failure::io("unmount", mountpoint, error.into())),
    }
}

fn by_fusermount(mountpoint: &Path) -> Result<(), Failure> {
    let done = Command::new("fusermount3").arg("-u").arg("--").arg(mountpoint).stdin(Stdio::null()).output();
    let done = done.map_err(|e| {
        Failure::io("start", Path::new("fusermount3"), e).hint("install it: apt-get install fuse3")
    })?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    if said.contains("busy") {
        return Err(mounts::busy(mountpoint));
    }
    Err(Failure::new(
        Kind::Failed,
        format!("fusermount3 could not unmount it: {}", output::shown(said.as_bytes())),
    ))
}
