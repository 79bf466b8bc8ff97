//! What a system has to forget when the list of snapshots changed.

use crate::Ino;

/// Inodes and names whose cached state is no longer true. Everything else is for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invalidations {
    /// Folders of the mount whose listing or attributes changed.
    pub inodes: Vec<Ino>,
    /// Names, in their folder, that came, went, or now mean something else.
    pub entries: Vec<(Ino, Vec<u8>)>,
}

impl Invalidations {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.inodes.is_empty() && self.entries.is_empty()
    }
}
