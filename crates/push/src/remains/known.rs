//! What is known to lie in lost packs: content ids with their places.
//!
//! May not read files. What always holds: an id is known by a sealed footer or by a record whose tag this vault's keys
//! made. Tested below and in `tests/damage`.
use crate::dedup::{Content, DedupKey, Place, short_key};
use backupengine_format::footer::{Footer, FooterContent};
use backupengine_model::{ContentId, FrameLen, FrameRef, PackRef};
use backupengine_seal::ContentIdKey;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

/// A chunk of a large file: frames one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) id: ContentId,
    /// Its first frame.
    pub(super) first: FrameRef,
    /// Lengths of all.
    pub(super) lens: Vec<FrameLen>,
}

impl Chunk {
    /// Which of its bytes this frame holds.
    fn part(&self, at: &FrameRef) -> Option<Range<usize>> {
        let (mut offset, mut from) = (self.first.offset, 0_usize);
        for len in &self.lens {
            let to = from.checked_add(len.plain as usize)?;
            if offset == at.offset {
                return (len.stored == at.stored_len).then_some(from..to);
            }
            offset = offset.checked_add(len.stored)?;
            from = to;
        }
        None
    }

    /// Length of all of it, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.lens.iter().map(|len| u64::from(len.plain)).sum()
    }
}

/// See the module header.
#[derive(Default)]
pub(super) struct Contents {
    /// By pack and first offset.
    chunks: HashMap<PackRef, BTreeMap<u32, Chunk>>,
    /// Ids of pieces, or their names where they are short, by frame and place in it.
    pieces: HashMap<(PackRef, u32), BTreeMap<u32, ContentId>>,
    /// All of these, and of chunks. Among them are names of pieces too short to be looked up, which no content has.
    ids: HashSet<DedupKey>,
}

impl Contents {
    /// Takes in records of the dedup index. One of a short piece is under a name that no content has.
    pub(super) fn learn(&mut self, records: Vec<(DedupKey, Place)>) {
        for (key, Place { pack, offset, content }) in records {
            match content {
                Content::Chunk { lens } => {
                    let stored_len = lens.first().map_or(0, |len| len.stored);
                    let first = FrameRef { pack, offset, stored_len };
                    self.ids.insert(key);
                    self.chunks.entry(pack).or_default().insert(offset, Chunk { id: key.id, first, lens });
                }
                Content::Piece { inner, .. } => {
                    self.ids.insert(key);
                    self.pieces.entry((pack, offset)).or_default().insert(inner, key.id);
                }
            }
        }
    }

    /// Takes in what a footer says.
    pub(super) fn read(&mut self, pack: PackRef, footer: &Footer) {
        let mut offset = 0_u32;
        for (index, frame) in footer.frames.iter().enumerate() {
            for content in &frame.contents {
                match *content {
                    FooterContent::Chunk { id, frames } => {
                        let frames = footer.frames[index..].iter().take(frames as usize);
                        let lens = frames
                            .map(|frame| FrameLen { stored: frame.stored_len, plain: frame.plain_len })
                            .collect();
                        let first = FrameRef { pack, offset, stored_len: frame.stored_len };
                        self.ids.insert(DedupKey { id, piece: false });
                        self.chunks.entry(pack).or_default().insert(offset, Chunk { id, first, lens });
                    }
                    FooterContent::Piece { id, inner, .. } => {
                        self.ids.insert(DedupKey { id, piece: true });
                        self.pieces.entry((pack, offset)).or_default().insert(inner, id);
                    }
                }
            }
            offset = offset.saturating_add(frame.stored_len);
        }
    }

    /// Chunks that this frame is one of, and which bytes of them it holds.
    pub(super) fn chunks_with(&self, at: &FrameRef) -> Vec<(Chunk, Range<usize>)> {
        let Some(chunks) = self.chunks.get(&at.pack) else { return Vec::new() };
        // The nearest that begins before or here; frames of two chunks do not lie among each other.
        let nearest = chunks.range(..=at.offset).next_back();
        let found = nearest.and_then(|(_, chunk)| Some((chunk.clone(), chunk.part(at)?)));
        found.into_iter().collect()
    }

    /// What stands in a frame from `inner` on: an id, or the name of a short piece.
    pub(super) fn piece_at(&self, at: &FrameRef, inner: u32) -> Option<ContentId> {
        self.pieces.get(&(at.pack, at.offset))?.get(&inner).copied()
    }

    /// Whether content with this id is known to lie there.
    pub(super) fn lies_at(&self, ids: &ContentIdKey, id: ContentId, at: &FrameRef, inner: u32) -> bool {
        let Some(known) = self.piece_at(at, inner) else { return false };
        known == id || known == short_key(ids, id, at, inner).id
    }

    /// Whether content of this id is looked for at all.
    pub(super) fn wants(&self, key: &DedupKey) -> bool {
        self.ids.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_format::footer::FooterFrame;
    use backupengine_model::{FrameKind, SessionNo};

    fn ids() -> ContentIdKey {
        let root = backupengine_seal::RootKey::from_seed([7; 32]).public();
        let (master, dedup) = ([1; 32], [2; 32]);
        let master = backupengine_seal::MasterSecret::from_bytes(master);
        let dedup = backupengine_seal::DedupSecret::from_bytes(dedup);
        let vault = backupengine_model::VaultId([1; 16]);
        backupengine_seal::Keyring::new(vault, master, dedup, root).content_ids()
    }

    fn pack() -> PackRef {
        PackRef { session: SessionNo(3), number: 1, salt: [5; 8], epoch: 1 }
    }

    fn at(offset: u32, stored_len: u32) -> FrameRef {
        FrameRef { pack: pack(), offset, stored_len }
    }

    #[test]
    fn frames_are_found_in_their_chunks() {
        let chunk = |id: u8, lens: &[u32], offset| {
            let key = DedupKey { id: ContentId([id; 16]), piece: false };
            let lens = lens.iter().map(|&stored| FrameLen { stored, plain: stored * 3 }).collect();
            (key, Place { pack: pack(), offset, content: Content::Chunk { lens } })
        };
        let mut contents = Contents::default();
        contents.learn(vec![chunk(1, &[10, 20, 5], 100), chunk(2, &[9], 135)]);
        let of = |offset, len| {
            let found = contents.chunks_with(&at(offset, len));
            found.into_iter().next().map(|(chunk, held)| (chunk.id.0[0], held))
        };
        assert_eq!(
            [of(100, 10), of(110, 20), of(130, 5), of(135, 9)].map(Option::unwrap),
            [(1, 0..30), (1, 30..90), (1, 90..105), (2, 0..27)]
        );
        for absent in [of(99, 10), of(100, 11), of(111, 20), of(144, 9)] {
            assert_eq!(absent, None);
        }
        assert_eq!(contents.chunks_with(&at(100, 10)).remove(0).0.len(), 105);
        let other = PackRef { salt: [6; 8], ..pack() };
        assert!(contents.chunks_with(&FrameRef { pack: other, ..at(100, 10) }).is_empty());
    }

    #[test]
    fn a_footer_says_what_the_index_would() {
        let frame = |contents| FooterFrame { kind: FrameKind::Data, stored_len: 30, plain_len: 9, contents };
        let (chunk, piece) = (ContentId([1; 16]), ContentId([2; 16]));
        let footer = Footer {
            frames: vec![
                frame(vec![FooterContent::Chunk { id: chunk, frames: 2 }]),
                frame(Vec::new()),
                frame(vec![FooterContent::Piece { id: piece, inner: 4, len: 5 }]),
            ],
        };
        let mut contents = Contents::default();
        contents.read(pack(), &footer);
        assert_eq!(contents.chunks_with(&at(30, 30)).remove(0).1, 9..18);
        assert!(contents.lies_at(&ids(), piece, &at(60, 30), 4));
        assert!(!contents.lies_at(&ids(), piece, &at(60, 30), 3));
        assert!(!contents.lies_at(&ids(), chunk, &at(60, 30), 4));
        assert!(contents.wants(&DedupKey { id: piece, piece: true }));
        assert!(!contents.wants(&DedupKey { id: piece, piece: false }));
    }

    #[test]
    fn a_short_piece_is_known_by_its_name() {
        let (ids, frame) = (ids(), at(0, 50));
        let id = ids.content_id(b"short");
        let key = short_key(&ids, id, &frame, 7);
        let mut contents = Contents::default();
        contents.learn(vec![(key, Place::of_piece(frame, 7))]);
        assert!(contents.lies_at(&ids, id, &frame, 7));
        assert!(!contents.lies_at(&ids, ids.content_id(b"shorT"), &frame, 7));
        assert!(!contents.lies_at(&ids, id, &at(0, 51), 7), "at another frame");
    }
}
