//! What differs between systems: how a directory is listed, a file looked at, opened and read.
//!
//! May not decide what is walked. The only place of this crate that names a system. Tested in each part.

#[cfg(unix)]
mod unix;

#[cfg(unix)]
pub(crate) use unix::{Folder, Found, Look, NameKind, bytes_to_path, mounts_of, path_to_bytes};
#[cfg(unix)]
pub use unix::{LocalFiles, OwnMount, SourceFile, own_mounts, real_path};
