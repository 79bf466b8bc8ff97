//! What a snapshot list shows without fetching roots; sealed into the ledger's record.
use crate::FormatError;
use backupengine_model::SnapshotInfo;
/// Longest encoded label, so that the sealed one stays within the ledger's 1024 bytes.
pub const LABEL_MAX: usize = 960;
/// Encodes device name, tags and sources; drops sources, then tags, from the end until it fits in
/// [`LABEL_MAX`] and marks that it did.
pub fn encode(_info: &SnapshotInfo) -> Vec<u8> {
    todo!()
}
/// The text parts of a label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// Device name.
    pub device_name: String,
    /// Tags, sorted.
    pub tags: Vec<String>,
    /// Pushed paths.
    pub sources: Vec<Vec<u8>>,
    /// Something was left out for want of room: the root has it.
    pub cut: bool,
}
/// # Errors
/// [`FormatError`].
pub fn decode(_bytes: &[u8]) -> Result<Label, FormatError> {
    todo!()
}
