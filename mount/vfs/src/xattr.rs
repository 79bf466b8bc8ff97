//! Extended attributes: the stored ones, and two that only answer when asked by name.
//!
//! What always holds: the virtual ones are in no list, so a copy carries away only what was pushed; a stored
//! one of the same name wins.

use crate::fs::ReadOnlyFs;
use crate::inode::Place;
use crate::{FsError, Ino};
use backupengine_model::{ContentReader, NodeFlags, TreeReader};
use bytes::Bytes;

/// Why the last read of this inode was refused.
const ERROR: &[u8] = b"user.backupengine.error";
/// Present where the file changed while it was pushed.
const TORN: &[u8] = b"user.backupengine.torn";

/// A virtual attribute.
enum Virtual {
    Error,
    Torn,
}

impl Virtual {
    fn of(name: &[u8]) -> Option<Self> {
        match name {
            ERROR => Some(Self::Error),
            TORN => Some(Self::Torn),
            _ => None,
        }
    }
}

/// The value of [`TORN`].
fn torn_value() -> Bytes {
    Bytes::from_static(b"changed while it was pushed")
}

impl<T: TreeReader, C: ContentReader> ReadOnlyFs<T, C> {
    /// Value of an extended attribute.
    ///
    /// # Errors
    /// [`FsError::NoAttribute`] where there is none of that name.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Bytes, FsError> {
        let Place::Node(id) = self.place(ino) else { return Err(FsError::NoAttribute) };
        let virtual_one = Virtual::of(name);
        if let Some(Virtual::Error) = virtual_one
            && let Some(reason) = self.reasons.of(ino)
        {
            return Ok(Bytes::copy_from_slice(reason.as_bytes()));
        }
        let node = self.node(ino, id)?;
        if node.has_xattrs {
            let all = self.tree.xattrs(id).map_err(|e| self.failed(ino, &e, FsError::NoAttribute))?;
            if let Ok(at) = all.binary_search_by(|(stored, _)| stored.as_slice().cmp(name)) {
                return Ok(all[at].1.clone());
            }
        }
        match virtual_one {
            Some(Virtual::Torn) if node.attributes.flags.contains(NodeFlags::TORN) => Ok(torn_value()),
            _ => Err(FsError::NoAttribute),
        }
    }

    /// Names of the stored extended attributes.
    ///
    /// # Errors
    /// See [`FsError`].
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<Vec<u8>>, FsError> {
        let Place::Node(id) = self.place(ino) else { return Ok(Vec::new()) };
        if !self.node(ino, id)?.has_xattrs {
            return Ok(Vec::new());
        }
        let all = self.tree.xattrs(id).map_err(|e| self.failed(ino, &e, FsError::NoAttribute))?;
        Ok(all.into_iter().map(|(name, _)| name).collect())
    }
}
