//! The list of a pack's frames and what data frames hold: enough to rebuild the dedup index (format.md 5.8).
use crate::FormatError;
use backupengine_model::{ContentId, FrameKind};
/// One frame of a pack, in order from offset 0; frames lie without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FooterFrame {
    /// What it is for.
    pub kind: FrameKind,
    /// Bytes in the pack.
    pub stored_len: u32,
    /// Bytes when opened and decompressed.
    pub plain_len: u32,
    /// What a data frame holds; empty for other kinds, and for the 2nd and later frames of a chunk.
    pub contents: Vec<FooterContent>,
}
/// Something with a content id that lies in (or begins with) a data frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FooterContent {
    /// A chunk of a large file: this frame and the `frames - 1` after it, whole.
    Chunk {
        /// Keyed id of the chunk's plaintext.
        id: ContentId,
        /// How many frames, at least 1.
        frames: u32,
    },
    /// A small file or xattr value inside a bundle frame.
    Piece {
        /// Keyed id of its bytes.
        id: ContentId,
        /// Where it begins in the frame's plaintext.
        inner: u32,
        /// Its length.
        len: u32,
    },
}
/// A pack's footer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    /// All frames of the pack, footer and head not counted.
    pub frames: Vec<FooterFrame>,
}
impl Footer {
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
