//! The mount on Linux: serves the core to the kernel through FUSE.
//!
//! **What it is.** A [`fuser`] shell around [`ReadOnlyFs`](backupengine_vfs::ReadOnlyFs), mounting and
//! unmounting, and what a person is told when that does not work.
//!
//! **What it may not do.** Cache, retry, decide by kind of node, read a clock but to see since when a request waits, log a
//! name above debug.
//!
//! **What always holds.** Every request is answered. What would change something is answered by one constant.
//! Nothing here is kept per open file: the kernel opens without asking.
//!
//! **Where it is tested.** `tests/mount`, on real mounts.
#![forbid(unsafe_code)]
#![cfg(unix)]

mod errno;
mod holders;
mod mountpoint;
mod requests;
mod serve;
mod shell;
mod signals;
mod table;
mod unmount;
mod watch;

pub use holders::{Holder, who_holds};
pub use mountpoint::{MountError, check_mountpoint};
pub use requests::{Pending, Requests};
pub use serve::{Mounted, ServeConfig, mount, mounter};
pub use table::waiting;
pub use unmount::{UnmountError, UnmountHow, unmount};

/// How names are shown by this system: as they are.
pub const NAMES: backupengine_vfs::NamePolicy = backupengine_vfs::NamePolicy::RawBytes;

/// What mounts are called in the system's table, and how they are recognised as ours.
const NAME: &str = "backupengine";
