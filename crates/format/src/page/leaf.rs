//! Leaf pages: runs of nodes.
use super::{Content, HardLink, Xattr};
use crate::FormatError;
use backupengine_model::{Attributes, Class, NodeKey, TreePath};
use std::sync::Arc;
/// One node in a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafEntry {
    /// Directory that holds it; shared between neighbours.
    pub parent: Arc<TreePath>,
    /// Its name.
    pub name: Vec<u8>,
    /// Attributes.
    pub attributes: Attributes,
    /// Where its bytes are.
    pub content: Content,
    /// Extended attributes, sorted by name; shared between nodes that have the same.
    pub xattrs: Arc<[Xattr]>,
    /// Hard links.
    pub hard_link: HardLink,
}
impl LeafEntry {
    /// Its place in the order.
    pub fn key(&self) -> NodeKey {
        NodeKey::new(self.class(), &self.parent, &self.name)
    }
    /// Its class.
    pub fn class(&self) -> Class {
        if self.attributes.kind == backupengine_model::Kind::Directory {
            Class::Directory
        } else {
            Class::Other
        }
    }
}
/// A run of nodes of one class, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafPage {
    /// At least one, all of one class.
    pub entries: Vec<LeafEntry>,
}
impl LeafPage {
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
