//! Content ids and the hash chain of roots: keyed BLAKE3.
use backupengine_model::{ContentId, RootHash};
/// K_cid.
#[derive(Clone)]
pub struct ContentIdKey(pub(crate) [u8; 32]);
impl ContentIdKey {
    /// First 16 bytes of keyed BLAKE3 of `plain`.
    pub fn content_id(&self, _plain: &[u8]) -> ContentId {
        todo!()
    }
    /// The whole hash, in its own domain, of an encoded root record.
    pub fn root_hash(&self, _record: &[u8]) -> RootHash {
        todo!()
    }
    /// A keyed 64-bit hash in its own domain, for the cut rule of pages and keys of side files.
    pub fn hash64(&self, _bytes: &[u8]) -> u64 {
        todo!()
    }
}
