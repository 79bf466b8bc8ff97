//! How large a cache may be: what was given last, kept in the file `size` as digits.
//!
//! May not shrink or grow anything. What always holds: a file that does not read is as good as none. Tested through
//! the cache.

use super::pins::replace;
use super::room::{Room, default_size};
use std::io;
use std::path::Path;

const FILE: &str = "size";

/// What was given last, in bytes.
pub(super) fn load(folder: &Path) -> Option<u64> {
    std::fs::read_to_string(folder.join(FILE)).ok()?.trim_end().parse().ok()
}

/// The size that holds from now on; remembered where it was given.
pub(super) fn settle(
    folder: &Path,
    given: Option<u64>,
    room: impl Fn(&Path) -> io::Result<Room>,
) -> io::Result<u64> {
    let before = load(folder);
    match (given, before) {
        (Some(size), before) => {
            if before != Some(size) {
                replace(folder, FILE, format!("{size}\n").as_bytes())?;
            }
            Ok(size)
        }
        (None, Some(size)) => Ok(size),
        (None, None) => Ok(default_size(room(folder)?)),
    }
}
