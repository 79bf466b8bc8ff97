//! Mounting and serving until somebody unmounts.
//!
//! What always holds: when [`mount`] returns, the tree answers; when a [`Mounted`] is gone, so is its
//! mountpoint; whatever fails before leaves nothing mounted.

use crate::mountpoint::{MountError, check_mountpoint, clear_dead};
use crate::requests::Requests;
use crate::shell::Shell;
use crate::signals::Signals;
use crate::table::mounted_at;
use crate::unmount::{UnmountHow, detach};
use crate::watch::Watcher;
use backupengine_vfs::{ContentReader, ReadOnlyFs, TreeReader};
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

/// Kernel read-ahead that measured best, in KiB; more brought nothing.
const READ_AHEAD_KIB: &str = "1024";

/// How to mount.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// An empty folder.
    pub mountpoint: PathBuf,
    /// Let other users in, under the permissions of the files.
    pub allow_other: bool,
    /// More options for the kernel, as of mount(8) `-o`.
    pub options: Vec<String>,
    /// Threads that answer requests; each may wait for one fetch.
    pub threads: usize,
    /// How often to look for new snapshots.
    pub poll: Duration,
}

impl ServeConfig {
    /// The usual settings: eight threads, a look every second, for this user alone.
    pub fn new(mountpoint: impl Into<PathBuf>) -> Self {
        Self {
            mountpoint: mountpoint.into(),
            allow_other: false,
            options: Vec::new(),
            threads: 8,
            poll: Duration::from_secs(1),
        }
    }
}

/// User and group of this process: whom the mount's own folders belong to.
pub fn mounter() -> (u32, u32) {
    (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
}

/// A mount that is being served by threads of this process. Dropping it takes the mountpoint away at once.
pub struct Mounted {
    mountpoint: PathBuf,
    requests: Requests,
    session: Option<BackgroundSession>,
    watcher: Option<Watcher>,
    signals: Option<Signals>,
}

impl Mounted {
    /// Where, in full. Whoever wants the mount ended calls [`unmount`](crate::unmount) with it, from any
    /// thread or process; [`Mounted::wait`] then returns.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// What is being answered, to be looked at from any thread.
    pub fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// Serves until somebody unmounts, and the last open file is closed.
    ///
    /// # Errors
    /// When serving ended for another reason.
    pub fn wait(mut self) -> io::Result<()> {
        let ended = self.session.take().map_or(Ok(()), BackgroundSession::join);
        (self.watcher, self.signals) = (None, None);
        if ended.is_err() && mounted_at(&self.mountpoint)?.is_some_and(|entry| entry.is_ours()) {
            detach(&self.mountpoint, UnmountHow::Detach)?;
        }
        ended
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        // Where serving has ended, another mount may stand there by now.
        if !session.guard.is_finished()
            && let Err(error) = detach(&self.mountpoint, UnmountHow::Detach)
        {
            tracing::warn!(mountpoint = ?self.mountpoint, %error, "the mountpoint could not be taken away");
        }
        (self.watcher, self.signals) = (None, None);
    }
}

/// Mounts `core` and answers from threads of this process. Clears what a dead mount of ours left there.
///
/// # Errors
/// See [`MountError`]; nothing is mounted then.
pub fn mount<T, C>(core: ReadOnlyFs<T, C>, config: &ServeConfig) -> Result<Mounted, MountError>
where
    T: TreeReader + 'static,
    C: ContentReader + 'static,
{
    let mountpoint = check_mountpoint(&config.mountpoint)?;
    clear_dead(&mountpoint)?;
    // What lay under a dead mount is only visible now.
    let mountpoint = check_mountpoint(&mountpoint)?;
    let system = |source| MountError::System { mountpoint: mountpoint.clone(), source };

    let core = Arc::new(core);
    let requests = Requests::default();
    let shell = || Shell::new(core.clone(), requests.clone(), config.allow_other);
    let session = match mount_directly(&mountpoint, config)? {
        Some(device) => {
            let acl = session_config(config);
            Session::from_fd(shell(), device, acl.acl, acl).map_err(|error| {
                // The kernel keeps the name until it is told otherwise.
                match detach(&mountpoint, UnmountHow::Detach) {
                    Ok(()) => system(error),
                    Err(left) => system(left),
                }
            })?
        }
        None => mount_by_helper(shell(), &mountpoint, config)?,
    };
    let mut mounted =
        Mounted { mountpoint: mountpoint.clone(), requests, session: None, watcher: None, signals: None };
    let notifier = session.notifier();
    mounted.session =
        Some(session.spawn().map_err(|error| match detach(&mountpoint, UnmountHow::Detach) {
            Ok(()) => system(error),
            Err(left) => system(left),
        })?);
    raise_read_ahead(&mountpoint);
    mounted.signals = Some(Signals::watch(mounted.requests()).map_err(system)?);
    mounted.watcher = Some(Watcher::start(core, notifier, config.poll).map_err(system)?);
    Ok(mounted)
}

fn session_config(config: &ServeConfig) -> Config {
    let mut out = Config::default();
    out.mount_options = vec![
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::DefaultPermissions,
        MountOption::FSName(crate::NAME.to_owned()),
        MountOption::Subtype(crate::NAME.to_owned()),
    ];
    out.mount_options.extend(config.options.iter().cloned().map(MountOption::CUSTOM));
    out.acl = if config.allow_other { SessionACL::All } else { SessionACL::Owner };
    out.n_threads = Some(config.threads.max(1));
    // Each thread with a channel of its own needs the right to open the device.
    out.clone_fd = open_device().is_ok();
    out
}

fn open_device() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/fuse")
}

/// Mounts without a helper, which root may; `None` where the system wants the helper. Done here and not by
/// `fuser`, for it leaves the subtype out and turns every failure into one text.
fn mount_directly(mountpoint: &Path, config: &ServeConfig) -> Result<Option<OwnedFd>, MountError> {
    if !Path::new("/dev/fuse").exists() {
        return Err(MountError::NoDevice);
    }
    let system = |source| MountError::System { mountpoint: mountpoint.to_owned(), source };
    let device = open_device().map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => MountError::DeviceDenied,
        io::ErrorKind::NotFound => MountError::NoDevice,
        _ => system(error),
    })?;
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let (uid, gid) = mounter();
    let mut data =
        format!("fd={},rootmode=40000,user_id={uid},group_id={gid},default_permissions", device.as_raw_fd());
    if config.allow_other {
        data.push_str(",allow_other");
    }
    for option in &config.options {
        data.push(',');
        data.push_str(option);
    }
    let data = CString::new(data).map_err(|_| system(io::ErrorKind::InvalidInput.into()))?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    let fs_type = format!("fuse.{}", crate::NAME);
    match rustix::mount::mount(crate::NAME, mountpoint, fs_type, flags, data.as_c_str()) {
        Ok(()) => Ok(Some(device.into())),
        Err(Errno::PERM) => Ok(None),
        Err(error) => Err(system(error.into())),
    }
}

/// Mounts through fusermount3, as everyone but root has to.
fn mount_by_helper<T, C>(
    shell: Shell<T, C>,
    mountpoint: &Path,
    config: &ServeConfig,
) -> Result<Session<Shell<T, C>>, MountError>
where
    T: TreeReader + 'static,
    C: ContentReader + 'static,
{
    if !helper_is_there() {
        return Err(MountError::NoHelper);
    }
    Session::new(shell, mountpoint, &session_config(config)).map_err(|source| {
        let said = source.to_string();
        if said.contains("user_allow_other") {
            MountError::AllowOtherRefused
        } else if said.contains("/dev/fuse") && said.contains("ermission")
            || source.raw_os_error() == Some(Errno::ACCESS.raw_os_error())
        {
            // The second is the library's own attempt to open the device.
            MountError::DeviceDenied
        } else if said.contains("no write access") || said.contains("not owned by user") {
            MountError::Permission(mountpoint.to_owned())
        } else {
            MountError::System { mountpoint: mountpoint.to_owned(), source }
        }
    })
}

fn helper_is_there() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/bin", "/sbin", "/usr/bin"].map(PathBuf::from));
    folders.flat_map(|folder| ["fusermount3", "fusermount"].map(|name| folder.join(name))).any(|f| f.exists())
}

/// Lets the kernel read ahead as far as pays, where this process may say so.
fn raise_read_ahead(mountpoint: &Path) {
    let Ok(Some(entry)) = mounted_at(mountpoint) else { return };
    let knob = format!("/sys/class/bdi/{}/read_ahead_kb", entry.device);
    if let Err(error) = fs::write(&knob, READ_AHEAD_KIB) {
        tracing::debug!(%error, "the kernel keeps its usual read-ahead");
    }
}
