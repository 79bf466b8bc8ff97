//! The list of a pack's frames and what data frames hold: enough to rebuild the dedup index (FORMAT.md, *Footer*).
//!
//! What always holds: frames lie without gaps from offset 0 on, so offsets are sums and are not written.
//! Tested below, in `tests/golden/footer`, and by its fuzz target.

use crate::FormatError;
use crate::limits::{DATA_FRAME_MAX, HEAD_MAX, PACK_MAX, PAGE_MAX};
use crate::varint::{Cursor, put};
use backupengine_model::{ContentId, FrameKind};

const WHAT: &str = "pack footer";
const VERSION: u64 = 1;

/// One frame of a pack, in order from offset 0; frames lie without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FooterFrame {
    /// What it is for. Never a root, footer or forwarding table: those are not among the frames.
    pub kind: FrameKind,
    /// Bytes in the pack, at least 1.
    pub stored_len: u32,
    /// Bytes when opened and decompressed.
    pub plain_len: u32,
    /// What a data frame holds; empty for other kinds, and for the 2nd and later frames of a chunk.
    pub contents: Vec<FooterContent>,
}

/// Something with a content id that lies in (or begins with) a data frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FooterContent {
    /// A chunk of a large file: this frame and the `frames - 1` after it, whole. Alone in its frame.
    Chunk {
        /// Keyed id of the chunk's plaintext.
        id: ContentId,
        /// How many frames, at least 1.
        frames: u32,
    },
    /// A small file or xattr value inside a bundle frame; in ascending order of `inner`.
    Piece {
        /// Keyed id of its bytes.
        id: ContentId,
        /// Where it begins in the frame's plaintext.
        inner: u32,
        /// Its length, at least 1.
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
        let mut out = Vec::with_capacity(8 + self.frames.len() * 24);
        put(&mut out, VERSION);
        put(&mut out, self.frames.len() as u64);
        for frame in &self.frames {
            out.push(frame.kind as u8);
            put(&mut out, frame.stored_len.into());
            put(&mut out, frame.plain_len.into());
            if frame.kind != FrameKind::Data {
                continue;
            }
            put(&mut out, frame.contents.len() as u64);
            for content in &frame.contents {
                // The lowest bit tells the two kinds apart.
                match *content {
                    FooterContent::Chunk { id, frames } => {
                        out.extend_from_slice(&id.0);
                        put(&mut out, u64::from(frames) << 1);
                    }
                    FooterContent::Piece { id, inner, len } => {
                        out.extend_from_slice(&id.0);
                        put(&mut out, u64::from(inner) << 1 | 1);
                        put(&mut out, len.into());
                    }
                }
            }
        }
        out
    }

    /// Decodes it.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(bytes, WHAT);
        cursor.require(bytes.len() <= HEAD_MAX, "is larger than 16 MiB")?;
        let version = cursor.uv()?;
        if version != VERSION {
            return Err(FormatError::TooNew { what: WHAT, feature: format!("footer version {version}") });
        }
        let count = cursor.count(usize::MAX, 3)?;
        let mut frames = Vec::with_capacity(count);
        let mut end = 0u64;
        // Frames of the current chunk that are still to come.
        let mut owed = 0u32;
        for _ in 0..count {
            let frame = decode_frame(&mut cursor)?;
            end += u64::from(frame.stored_len);
            cursor.require(end <= PACK_MAX, "frames lie beyond 256 MiB")?;
            if owed > 0 {
                let goes_on = frame.kind == FrameKind::Data && frame.contents.is_empty();
                cursor.require(goes_on, "a chunk is broken off by another frame")?;
                owed -= 1;
            } else if let [FooterContent::Chunk { frames, .. }] = frame.contents[..] {
                owed = frames - 1;
            }
            frames.push(frame);
        }
        cursor.require(owed == 0, "a chunk has more frames than follow")?;
        cursor.finish()?;
        Ok(Self { frames })
    }
}

fn decode_frame(cursor: &mut Cursor<'_>) -> Result<FooterFrame, FormatError> {
    let kind = FrameKind::from_u8(cursor.u8()?).ok_or_else(|| cursor.broken("a frame is of unknown kind"))?;
    let plain_max = match kind {
        FrameKind::Data => DATA_FRAME_MAX,
        FrameKind::Leaf | FrameKind::Index | FrameKind::Extents | FrameKind::Dedup => PAGE_MAX,
        FrameKind::ReferenceSet => HEAD_MAX,
        FrameKind::Root | FrameKind::Footer | FrameKind::Forwarding => {
            return Err(cursor.broken("a frame is of a kind that stands outside the frames"));
        }
    };
    let (stored_len, plain_len) = (cursor.uv32()?, cursor.uv32()?);
    cursor.require(stored_len > 0, "a frame is empty")?;
    cursor.require(plain_len as usize <= plain_max, "a frame's plaintext is larger than its kind may be")?;
    let contents = if kind == FrameKind::Data { decode_contents(cursor, plain_len)? } else { Vec::new() };
    Ok(FooterFrame { kind, stored_len, plain_len, contents })
}

fn decode_contents(cursor: &mut Cursor<'_>, plain_len: u32) -> Result<Vec<FooterContent>, FormatError> {
    let count = cursor.count(DATA_FRAME_MAX, 17)?;
    let mut contents = Vec::with_capacity(count);
    let mut from = 0u32;
    for _ in 0..count {
        let id = ContentId(cursor.array()?);
        let number = cursor.uv()?;
        let value =
            u32::try_from(number >> 1).map_err(|_| cursor.broken("a number takes more than 32 bits"))?;
        contents.push(if number & 1 == 0 {
            cursor.require(value > 0, "a chunk has no frames")?;
            cursor.require(count == 1, "a chunk shares its frame")?;
            FooterContent::Chunk { id, frames: value }
        } else {
            let len = cursor.uv32()?;
            cursor.require(len > 0, "a piece is empty")?;
            cursor.require(value >= from, "pieces overlap or are not in order")?;
            from = value
                .checked_add(len)
                .filter(|&end| end <= plain_len)
                .ok_or_else(|| cursor.broken("a piece lies beyond its frame"))?;
            FooterContent::Piece { id, inner: value, len }
        });
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(contents: Vec<FooterContent>) -> FooterFrame {
        FooterFrame { kind: FrameKind::Data, stored_len: 70, plain_len: 100, contents }
    }
    fn chunk(frames: u32) -> FooterContent {
        FooterContent::Chunk { id: ContentId([1; 16]), frames }
    }
    fn piece(inner: u32, len: u32) -> FooterContent {
        FooterContent::Piece { id: ContentId([2; 16]), inner, len }
    }
    fn page() -> FooterFrame {
        FooterFrame { kind: FrameKind::Leaf, stored_len: 9, plain_len: 20, contents: Vec::new() }
    }
    fn round(frames: Vec<FooterFrame>) -> bool {
        let footer = Footer { frames };
        Footer::decode(&footer.encode()).is_ok_and(|back| back == footer)
    }

    #[test]
    fn footers_go_both_ways() {
        assert!(round(Vec::new()));
        assert!(round(vec![
            data(vec![chunk(2)]),
            data(vec![]),
            page(),
            data(vec![piece(0, 10), piece(10, 90)])
        ]));
        assert!(round(vec![data(vec![]), page()]));
    }

    #[test]
    fn chunks_and_pieces_stay_within_their_frames() {
        assert!(!round(vec![data(vec![chunk(2)])]));
        assert!(!round(vec![data(vec![chunk(0)])]));
        assert!(!round(vec![data(vec![chunk(2)]), page()]));
        assert!(!round(vec![data(vec![chunk(2)]), data(vec![chunk(1)])]));
        assert!(!round(vec![data(vec![chunk(1), piece(0, 1)])]));
        assert!(!round(vec![data(vec![piece(50, 51)])]));
        assert!(!round(vec![data(vec![piece(0, 10), piece(9, 10)])]));
        assert!(!round(vec![data(vec![piece(0, 0)])]));
    }

    #[test]
    fn frames_hold_something_and_lie_within_a_pack() {
        let page_of = |stored_len| FooterFrame { stored_len, ..page() };
        let half = (PACK_MAX / 2) as u32;
        assert!(!round(vec![page_of(0)]));
        assert!(round(vec![page_of(half), page_of(half)]));
        assert!(!round(vec![page_of(half), page_of(half), page_of(1)]));
    }
}
