//! Sealing and opening one frame with its pack's key.
use backupengine_model::{FrameKind, PackRef};
use thiserror::Error;
/// Bytes a seal adds.
pub const TAG_LEN: usize = 16;
/// A sealed thing did not open. One way outward for every cause, so that nothing helps guessing.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the seal does not hold")]
pub struct OpenFailed;
/// Which library does the AES-256-GCM. Both give the same bytes; tests open each with the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// aws-lc-rs, where it builds.
    #[cfg(not(target_family = "wasm"))]
    AwsLc,
    /// RustCrypto's aes-gcm, everywhere.
    Portable,
}
/// The key of one pack, ready for use: AES-256-GCM key and commitment (format.md 5.2).
pub struct PackKey {
    pub(crate) _todo: (),
}
impl PackKey {
    /// What this key is for.
    pub fn pack(&self) -> &PackRef {
        todo!()
    }
    /// The 16 bytes a pack's trailer must show.
    pub fn commitment(&self) -> &[u8; 16] {
        todo!()
    }
    /// Compares in constant time.
    ///
    /// # Errors
    /// [`OpenFailed`].
    pub fn check_commitment(&self, _in_trailer: &[u8; 16]) -> Result<(), OpenFailed> {
        todo!()
    }
    /// Seals `buffer[start..]` in place and appends the tag: the frame is then `buffer[start..]`.
    /// `offset` is where the frame will stand in the pack; it must never be used twice for one key.
    pub fn seal(&self, _kind: FrameKind, _offset: u32, _buffer: &mut Vec<u8>, _start: usize) {
        todo!()
    }
    /// Opens a whole frame in place; the plaintext is `sealed[..len]`, whose length is returned.
    ///
    /// # Errors
    /// [`OpenFailed`]; `sealed` then holds nothing that may be used.
    pub fn open(&self, _kind: FrameKind, _offset: u32, _sealed: &mut [u8]) -> Result<usize, OpenFailed> {
        todo!()
    }
}
