//! What differs between systems: how names are made below the target, and how metadata is set.
//!
//! May not decide what is restored. The only place of this crate that names a system. Tested with the rest.

#[cfg(unix)]
mod unix;

#[cfg(unix)]
pub(crate) use unix::{Existing, Folder, NewFile, Object, Target, is_full, is_privileged, to_path};
