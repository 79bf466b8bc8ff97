//! Forwarding tables: where frames of a moved pack lie now (format.md 5.5).
use crate::FormatError;
use backupengine_model::SessionNo;
/// One moved frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forward {
    /// Session of the old pack.
    pub session: SessionNo,
    /// Number of the old pack.
    pub number: u32,
    /// Old offset.
    pub old_offset: u32,
    /// Offset in the relocation pack.
    pub new_offset: u32,
    /// Stored length there.
    pub new_len: u32,
}
/// The head of a relocation pack, sorted by (session, number, old offset).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardTable {
    /// Sorted, without duplicates.
    pub entries: Vec<Forward>,
}
impl ForwardTable {
    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }
    /// # Errors
    /// [`FormatError`].
    pub fn decode(_bytes: &[u8]) -> Result<Self, FormatError> {
        todo!()
    }
    /// New offset and length of a frame.
    pub fn find(&self, _session: SessionNo, _number: u32, _old_offset: u32) -> Option<(u32, u32)> {
        todo!()
    }
}
