//! `unmount`: ends a mount, or says who keeps it busy.
use crate::args::Unmount;
use crate::error::{Failure, Outcome};
use crate::output;
use crate::wire::Wire;
use backupengine_fuse::{UnmountHow, unmount};
use serde_json::Map;
use std::path::Path;

/// Unmounts.
///
/// # Errors
/// Where no vault is mounted there, or it is busy.
pub(crate) fn run(wire: &Wire, args: &Unmount) -> Result<Outcome, Failure> {
    let at = &args.mountpoint;
    let mountpoint = std::path::absolute(at).map_err(|e| Failure::io("resolve", at, e))?;
    // Started inside the mount, this process would be one of those that keep it busy.
    std::env::set_current_dir("/").map_err(|e| Failure::io("enter", Path::new("/"), e))?;
    unmount(&mountpoint, UnmountHow::UnlessBusy)?;
    if wire.global.json {
        let mut object = Map::new();
        output::put_path(&mut object, "mountpoint", mountpoint.as_os_str().as_encoded_bytes());
        object.insert("mounted".into(), false.into());
        output::json(&object.into())?;
    } else if !wire.global.quiet {
        output::line(format!("unmounted {}", output::shown_path(&mountpoint)))?;
    }
    Ok(Outcome::Done)
}
