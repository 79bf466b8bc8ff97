//! Extended attributes: the stored ones, and some that only answer when asked by name.
//!
//! What always holds: the virtual ones are in no list, so a copy carries away only what was pushed; a stored
//! one of the same name wins.

use crate::fs::ReadOnlyFs;
use crate::inode::Place;
use crate::{FsError, Ino};
use backupengine_model::{ContentReader, Kind, Nearness, NodeFlags, TreeReader};
use bytes::Bytes;

/// Why the last read of this inode was refused.
const ERROR: &[u8] = b"user.backupengine.error";
/// Present where the file changed while it was pushed.
const TORN: &[u8] = b"user.backupengine.torn";

/// Of a file: the share of its content that is on this device, in whole percent, rounded down: `100%` says that
/// reading it asks nothing of the store.
const CACHED: &[u8] = b"user.backupengine.cached";
/// Of a file: bytes that have to be fetched before it can be read whole.
const FETCH_BYTES: &[u8] = b"user.backupengine.fetch_bytes";

/// A virtual attribute.
enum Virtual {
    Error,
    Torn,
    Cached,
    FetchBytes,
}

impl Virtual {
    fn of(name: &[u8]) -> Option<Self> {
        match name {
            ERROR => Some(Self::Error),
            TORN => Some(Self::Torn),
            CACHED => Some(Self::Cached),
            FETCH_BYTES => Some(Self::FetchBytes),
            _ => None,
        }
    }
}

/// The value of [`TORN`].
fn torn_value() -> Bytes {
    Bytes::from_static(b"changed while it was pushed")
}

fn cached_value(near: &Nearness) -> Bytes {
    let percent = match near.to_fetch {
        0 => 100,
        // Where nothing of the content is missing, something is that says how to open it.
        _ => (u128::from(near.near) * 100 / u128::from(near.stored.max(1))).min(99),
    };
    format!("{percent}%").into()
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
            Some(asked @ (Virtual::Cached | Virtual::FetchBytes)) if node.attributes.kind == Kind::File => {
                let near =
                    self.content.nearness(id).map_err(|e| self.failed(ino, &e, FsError::NoAttribute))?;
                let near = near.ok_or(FsError::NoAttribute)?;
                Ok(match asked {
                    Virtual::Cached => cached_value(&near),
                    _ => near.to_fetch.to_string().into(),
                })
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_said_only_where_nothing_is_to_be_fetched() {
        let said = |stored, near, to_fetch| {
            String::from_utf8(cached_value(&Nearness { stored, near, to_fetch }).to_vec()).unwrap()
        };
        assert_eq!(said(0, 0, 0), "100%");
        assert_eq!(said(1000, 1000, 0), "100%");
        assert_eq!(said(1000, 1000, 65_536), "99%");
        assert_eq!(said(1000, 995, 65_536), "99%");
        assert_eq!(said(1000, 5, 65_536), "0%");
        assert_eq!(said(u64::MAX, u64::MAX / 2, 1), "49%");
        assert_eq!(said(0, 0, 65_536), "0%");
    }
}
