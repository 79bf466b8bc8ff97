//! Content ids, the hash chain of roots, short hashes, and tags of what a device keeps: keyed BLAKE3.
//!
//! **What it may not do.** Print, or use one key for two purposes.
//! **What always holds.** All four keys come from the dedup secret, which never rotates: ids of equal bytes
//! stay equal over every epoch of a vault, and differ between vaults.
//! **Where it is tested.** Below (frozen vectors).

use crate::context;
use backupengine_model::{ContentId, RootHash};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// K_cid and its siblings for roots, short hashes and a device's own files.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ContentIdKey {
    content: [u8; 32],
    root: [u8; 32],
    short: [u8; 32],
    state: [u8; 32],
}

/// Bytes of a [`ContentIdKey::state_tag`].
pub const STATE_TAG_LEN: usize = 16;

impl ContentIdKey {
    pub(crate) fn derive(dedup: &[u8; 32], vault: &[u8; 16]) -> Self {
        let key = |context| *context::derive::<32>(dedup, context, &[vault]);
        Self {
            content: key(context::CONTENT_ID),
            root: key(context::ROOT_HASH),
            short: key(context::HASH64),
            state: key(context::STATE),
        }
    }

    /// First 16 bytes of keyed BLAKE3 of `plain`.
    pub fn content_id(&self, plain: &[u8]) -> ContentId {
        cut(&blake3::keyed_hash(&self.content, plain))
    }

    /// Begins a content id of bytes that come in parts.
    pub fn hasher(&self) -> ContentHasher {
        ContentHasher(Box::new(blake3::Hasher::new_keyed(&self.content)))
    }

    /// The whole hash, under its own key, of an encoded root record.
    pub fn root_hash(&self, record: &[u8]) -> RootHash {
        RootHash(*blake3::keyed_hash(&self.root, record).as_bytes())
    }

    /// The first 8 bytes, little-endian, of a hash under its own key: for the cut rule of pages and keys of
    /// side files.
    pub fn hash64(&self, bytes: &[u8]) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&blake3::keyed_hash(&self.short, bytes).as_bytes()[..8]);
        u64::from_le_bytes(first)
    }

    /// First 16 bytes of a hash, under its own key, of `role ‖ bytes`: by it a device knows files of its own again that
    /// rest outside the vault. `role` tells apart what must not stand in for each other.
    pub fn state_tag(&self, role: u8, bytes: &[u8]) -> [u8; STATE_TAG_LEN] {
        let mut hasher = blake3::Hasher::new_keyed(&self.state);
        let hash = hasher.update(&[role]).update(bytes).finalize();
        hasher.zeroize();
        cut(&hash).0
    }
}

/// A content id in the making.
pub struct ContentHasher(Box<blake3::Hasher>);

impl ContentHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The id of all of them.
    pub fn finish(self) -> ContentId {
        cut(&self.0.finalize())
    }
}

impl Drop for ContentHasher {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for ContentHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentHasher(secret)")
    }
}

fn cut(hash: &blake3::Hash) -> ContentId {
    let mut id = [0; ContentId::LEN];
    id.copy_from_slice(&hash.as_bytes()[..ContentId::LEN]);
    ContentId(id)
}

impl fmt::Debug for ContentIdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentIdKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{keyring, keyring_of};

    #[test]
    fn ids_depend_on_bytes_vault_and_purpose_alone() {
        let (ids, other) = (keyring().content_ids(), keyring_of([9; 16]).content_ids());
        assert_eq!(ids.content_id(b"bytes"), ids.content_id(b"bytes"));
        assert_ne!(ids.content_id(b"bytes"), ids.content_id(b"bytez"));
        assert_ne!(ids.content_id(b"bytes"), other.content_id(b"bytes"));
        assert_ne!(ids.root_hash(b"bytes"), other.root_hash(b"bytes"));
        assert_ne!(ids.hash64(b"bytes"), other.hash64(b"bytes"));
        assert_ne!(ids.root_hash(b"bytes").0[..16], ids.content_id(b"bytes").0);
        assert_ne!(ids.root_hash(b"bytes").0[..8], ids.hash64(b"bytes").to_le_bytes());
        assert_eq!(ids.state_tag(1, b"bytes"), ids.state_tag(1, b"bytes"));
        assert_ne!(ids.state_tag(1, b"bytes"), ids.state_tag(2, b"bytes"));
        assert_ne!(ids.state_tag(1, b"bytes"), ids.state_tag(1, b"bytez"));
        assert_ne!(ids.state_tag(1, b"bytes"), other.state_tag(1, b"bytes"));
        assert_ne!(ids.state_tag(b'b', b"ytes"), ids.content_id(b"bytes").0);
    }

    #[test]
    fn bytes_in_parts_have_the_same_id() {
        let (ids, bytes) = (keyring().content_ids(), [7; 5000]);
        let mut hasher = ids.hasher();
        bytes.chunks(999).for_each(|part| hasher.update(part));
        assert_eq!(format!("{hasher:?} {ids:?}"), "ContentHasher(secret) ContentIdKey(secret)");
        assert_eq!(hasher.finish(), ids.content_id(&bytes));
    }
}
