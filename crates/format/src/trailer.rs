//! The last 64 bytes of a pack: all that stands outside the seals (format.md 5.3).
use crate::FormatError;
use backupengine_model::PackRef;
/// Length of a trailer.
pub const TRAILER_LEN: usize = 64;
/// A pack's trailer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Which pack this is.
    pub pack: PackRef,
    /// Bytes of the sealed footer.
    pub footer_len: u32,
    /// Bytes of the sealed head between footer and trailer; 0 where there is none.
    pub head_len: u32,
    /// Key commitment.
    pub commitment: [u8; 16],
}
impl Trailer {
    /// The 64 bytes.
    pub fn encode(&self) -> [u8; TRAILER_LEN] {
        todo!()
    }
    /// # Errors
    /// [`FormatError`] for a wrong magic, version, checksum, or non-zero spare bytes.
    pub fn decode(_bytes: &[u8]) -> Result<Self, FormatError> {
        todo!()
    }
}
