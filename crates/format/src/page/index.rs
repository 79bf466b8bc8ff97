//! Index pages: children by separator key, with counts, so that every entry has a rank.
use crate::FormatError;
use backupengine_model::FrameRef;
/// One child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexChild {
    /// Shortest byte string that is above every key of the child before and not above any key of this one;
    /// empty for the first child of the whole tree.
    pub separator: Vec<u8>,
    /// Nodes below.
    pub entries: u64,
    /// Where it is.
    pub frame: FrameRef,
}
/// An index page; its children are leaves when `level` is 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexPage {
    /// 1 to 8.
    pub level: u8,
    /// Ascending separators.
    pub children: Vec<IndexChild>,
}
impl IndexPage {
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
/// Shortest separator between two neighbouring keys: above `before`, not above `after`.
pub fn separator(_before: &[u8], _after: &[u8]) -> Vec<u8> {
    todo!()
}
