//! Extent pages of large files.
use super::{Extent, ExtentPageRef};
use crate::FormatError;
/// What an extent page holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtentRows {
    /// Level 0: runs.
    Extents(Vec<Extent>),
    /// Higher levels: pages.
    Pages(Vec<ExtentPageRef>),
}
/// A page of extents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentPage {
    /// 0 for runs.
    pub level: u8,
    /// At least one row.
    pub rows: ExtentRows,
}
impl ExtentPage {
    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }
    /// # Errors
    /// [`FormatError`].
    pub fn decode(_bytes: &[u8]) -> Result<Self, FormatError> {
        todo!()
    }
}
