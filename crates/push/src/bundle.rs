//! Gathers small files that follow each other in the walk into one frame.
//!
//! May not look anything up, compress or place. What always holds: a frame's plaintext is at most [`ROOM`]; who
//! put bytes in holds a slot that is set when the frame has its place. Tested below.
use crate::packer::FrameSlot;
use backupengine_format::footer::FooterContent;
use backupengine_model::ContentId;

/// Plaintext bytes of a bundle at most: a quarter of what a frame may hold. Who reads one small file opens the whole
/// frame, and that is most of what a cold read costs; what is lost by the smaller window, bundles get back by being
/// compressed harder ([`Sealer::bundle`](crate::sealer::Sealer::bundle)).
pub(crate) const ROOM: usize = 64 << 10;

/// A frame's worth of small files.
#[derive(Default)]
pub(crate) struct Bundle {
    /// The bytes.
    pub(crate) plain: Vec<u8>,
    /// Where it will be.
    pub(crate) slot: FrameSlot,
    /// What the footer says of it.
    pub(crate) contents: Vec<FooterContent>,
    /// What it does not say, being too short to be looked up: ids, and where they begin.
    pub(crate) short: Vec<(ContentId, u32)>,
}

impl Bundle {
    /// Whether `len` bytes more fit in.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.plain.len() + len <= ROOM
    }

    /// Appends a piece; says where it begins.
    pub(crate) fn push(&mut self, bytes: &[u8], id: ContentId, named: bool) -> u32 {
        debug_assert!(self.has_room(bytes.len()));
        let inner = self.plain.len() as u32;
        if self.plain.is_empty() {
            self.plain.reserve(ROOM);
        }
        self.plain.extend_from_slice(bytes);
        if named {
            self.contents.push(FooterContent::Piece { id, inner, len: bytes.len() as u32 });
        } else {
            self.short.push((id, inner));
        }
        inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_lie_one_behind_the_other_up_to_the_limit() {
        let mut bundle = Bundle::default();
        let id = ContentId([1; 16]);
        assert_eq!(bundle.push(b"abc", ContentId([2; 16]), false), 0);
        assert_eq!(bundle.push(&[7; 1000], id, true), 3);
        assert_eq!(bundle.short, [(ContentId([2; 16]), 0)]);
        assert_eq!(bundle.contents, [FooterContent::Piece { id, inner: 3, len: 1000 }]);
        assert!(bundle.has_room(ROOM - 1003) && !bundle.has_room(ROOM - 1002));
    }
}
