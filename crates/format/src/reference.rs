//! Pack tables of pages, and the reference set of a snapshot (every pack it needs).
use crate::FormatError;
use backupengine_model::SessionNo;
use std::collections::{BTreeMap, BTreeSet};
/// Every pack that any page or extent of a snapshot uses, by session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferenceSet {
    /// Pack numbers by session. Optional live-share bytes are not written by version 1 writers.
    pub packs: BTreeMap<SessionNo, BTreeSet<u32>>,
}
impl ReferenceSet {
    /// Run-coded.
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }
    /// # Errors
    /// [`FormatError`].
    pub fn decode(_bytes: &[u8]) -> Result<Self, FormatError> {
        todo!()
    }
}
