//! One sorted, immutable file of the dedup index.
//!
//! **What it is.** Blocks of about 128 records, each with its side area and a keyed tag in the fence that
//! points at it; behind them the pack table, the fences and a Bloom filter, which are kept in memory (about
//! 2 bytes per record), under a tag of their own. A look-up that the filter refuses costs no I/O, any other costs
//! one read.
//! **What it may not do.** Know which sessions count: that is the index's matter.
//! **What always holds.** A record that is returned was written by a device with this vault's keys: tags are keyed,
//! because seeds believe records. A file that does not read is an error, never a wrong answer.
//! **Where it is tested.** Below.
use super::{Content, DedupKey, Place};
use super::{ROLE_BLOCK, ROLE_END};
use backupengine_model::{ContentId, FrameLen, PackRef, SessionNo};
use backupengine_seal::{ContentIdKey, STATE_TAG_LEN};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: &[u8; 8] = b"BKEDEDU3";
/// Magic, number of records, where the blocks end, numbers of packs, fences and words of the filter; then the tag.
const TAIL_LEN: usize = 40 + STATE_TAG_LEN;
const FENCE_LEN: u64 = 28 + STATE_TAG_LEN as u64;
const RECORD_LEN: usize = 28;
const BLOCK_RECORDS: usize = 128;
const PIECE_BIT: u32 = 1 << 31;
const BITS_PER_KEY: u64 = 10;
const PROBES: u64 = 7;

/// Where a block begins and what it must look like.
#[derive(Clone, Copy)]
struct Fence {
    first: [u8; 16],
    offset: u64,
    len: u32,
    tag: [u8; STATE_TAG_LEN],
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn bloom_bits(id: &ContentId, bits: u64) -> impl Iterator<Item = u64> {
    let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| id.0[at + i]));
    let (start, step) = (half(0), half(8) | 1);
    (0..PROBES).map(move |i| start.wrapping_add(step.wrapping_mul(i)) % bits)
}

/// Writes a segment from records in ascending order of their keys.
pub(super) struct SegmentWriter {
    ids: ContentIdKey,
    out: BufWriter<File>,
    offset: u64,
    packs: Vec<PackRef>,
    slots: HashMap<PackRef, u32>,
    fences: Vec<Fence>,
    bloom: Vec<u64>,
    block: Vec<u8>,
    side: Vec<u32>,
    first: [u8; 16],
    last: [u8; 16],
    in_block: usize,
    records: u64,
}

impl SegmentWriter {
    /// Begins a segment of about `expected` records.
    pub(super) fn create(path: &Path, expected: u64, ids: &ContentIdKey) -> io::Result<Self> {
        let words = (expected * BITS_PER_KEY).div_ceil(64).max(1) as usize;
        Ok(Self {
            ids: ids.clone(),
            out: BufWriter::with_capacity(1 << 16, File::create(path)?),
            offset: 0,
            packs: Vec::new(),
            slots: HashMap::new(),
            fences: Vec::new(),
            bloom: vec![0; words],
            block: Vec::new(),
            side: Vec::new(),
            first: [0; 16],
            last: [0; 16],
            in_block: 0,
            records: 0,
        })
    }

    /// Appends a record.
    pub(super) fn push(&mut self, key: &DedupKey, place: &Place) -> io::Result<()> {
        // Equal ids (of a chunk and a piece) stay in one block, so that a look-up reads one.
        if self.in_block >= BLOCK_RECORDS && key.id.0 != self.last {
            self.end_block()?;
        }
        if self.in_block == 0 {
            self.first = key.id.0;
        }
        let next = self.packs.len() as u32;
        let slot = *self.slots.entry(place.pack).or_insert(next);
        if slot == next {
            self.packs.push(place.pack);
        }
        let bits = self.bloom.len() as u64 * 64;
        for bit in bloom_bits(&key.id, bits) {
            self.bloom[(bit / 64) as usize] |= 1 << (bit % 64);
        }
        let side_at = self.side.len() as u32;
        let piece = match &place.content {
            Content::Chunk { lens } => {
                self.side.push(lens.len() as u32);
                lens.iter().for_each(|len| self.side.extend_from_slice(&[len.stored, len.plain]));
                0
            }
            Content::Piece { stored_len, inner } => {
                self.side.extend_from_slice(&[*stored_len, *inner]);
                PIECE_BIT
            }
        };
        self.block.extend_from_slice(&key.id.0);
        for word in [slot | piece, place.offset, side_at] {
            self.block.extend_from_slice(&word.to_le_bytes());
        }
        self.last = key.id.0;
        self.in_block += 1;
        self.records += 1;
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.in_block == 0 {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(4 + self.block.len() + self.side.len() * 4);
        bytes.extend_from_slice(&(self.in_block as u32).to_le_bytes());
        bytes.append(&mut self.block);
        self.side.drain(..).for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        self.fences.push(Fence {
            first: self.first,
            offset: self.offset,
            len: bytes.len() as u32,
            tag: self.ids.state_tag(ROLE_BLOCK, &bytes),
        });
        self.out.write_all(&bytes)?;
        self.offset += bytes.len() as u64;
        self.in_block = 0;
        Ok(())
    }

    /// Writes what stands behind the blocks and makes the file durable. Says how many records it has.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.end_block()?;
        let mut end = Vec::new();
        for pack in &self.packs {
            end.extend_from_slice(&pack.session.0.to_le_bytes());
            end.extend_from_slice(&pack.number.to_le_bytes());
            end.extend_from_slice(&pack.salt);
            end.extend_from_slice(&pack.epoch.to_le_bytes());
        }
        for fence in &self.fences {
            end.extend_from_slice(&fence.first);
            end.extend_from_slice(&fence.offset.to_le_bytes());
            end.extend_from_slice(&fence.len.to_le_bytes());
            end.extend_from_slice(&fence.tag);
        }
        self.bloom.iter().for_each(|word| end.extend_from_slice(&word.to_le_bytes()));
        end.extend_from_slice(MAGIC);
        end.extend_from_slice(&self.records.to_le_bytes());
        end.extend_from_slice(&self.offset.to_le_bytes());
        end.extend_from_slice(&(self.packs.len() as u32).to_le_bytes());
        end.extend_from_slice(&(self.fences.len() as u32).to_le_bytes());
        end.extend_from_slice(&(self.bloom.len() as u64).to_le_bytes());
        let tag = self.ids.state_tag(ROLE_END, &end);
        self.out.write_all(&end)?;
        self.out.write_all(&tag)?;
        self.out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(self.records)
    }
}

/// An open segment.
pub(super) struct Segment {
    ids: ContentIdKey,
    file: File,
    packs: Vec<PackRef>,
    fences: Vec<Fence>,
    bloom: Vec<u64>,
}

/// Reads little-endian words front to back; the lengths were checked before.
struct Words<'a>(&'a [u8]);
impl Words<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let (head, rest) = self.0.split_at(N.min(self.0.len()));
        out[..head.len()].copy_from_slice(head);
        self.0 = rest;
        out
    }
    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

impl Segment {
    /// Opens and checks all but the blocks, which are checked as they are read.
    pub(super) fn open(path: &Path, ids: &ContentIdKey) -> io::Result<Self> {
        let file = File::open(path)?;
        let total = file.metadata()?.len();
        let tail_at = total.checked_sub(TAIL_LEN as u64).ok_or_else(|| damaged("too short"))?;
        let mut tail = [0; TAIL_LEN];
        file.read_exact_at(&mut tail, tail_at)?;
        let mut words = Words(&tail);
        if &words.take::<8>() != MAGIC {
            return Err(damaged("wrong end"));
        }
        // Believed only once the tag was seen to fit; until then a length that is no longer than the file.
        let (_records, end_at) = (words.u64(), words.u64());
        let (packs, fences, bloom) = (words.u32() as u64, words.u32() as u64, words.u64());
        let tag: [u8; STATE_TAG_LEN] = words.take();
        let wanted = bloom.checked_mul(8).and_then(|b| b.checked_add(packs * 18 + fences * FENCE_LEN));
        if end_at.checked_add(wanted.unwrap_or(u64::MAX)) != Some(tail_at) {
            return Err(damaged("lengths do not add up"));
        }
        let mut end = vec![0; (total - end_at) as usize - STATE_TAG_LEN];
        file.read_exact_at(&mut end, end_at)?;
        if ids.state_tag(ROLE_END, &end) != tag {
            return Err(damaged("wrong tag"));
        }
        let mut words = Words(&end);
        let packs = (0..packs)
            .map(|_| PackRef {
                session: SessionNo(words.u32()),
                number: words.u32(),
                salt: words.take(),
                epoch: words.u16(),
            })
            .collect();
        let fences = (0..fences)
            .map(|_| Fence { first: words.take(), offset: words.u64(), len: words.u32(), tag: words.take() })
            .collect();
        let bloom = (0..bloom).map(|_| words.u64()).collect();
        Ok(Self { ids: ids.clone(), file, packs, fences, bloom })
    }

    /// Looks a key up.
    pub(super) fn get(&self, key: &DedupKey) -> io::Result<Option<Place>> {
        let bits = self.bloom.len() as u64 * 64;
        let may =
            bloom_bits(&key.id, bits).all(|bit| self.bloom[(bit / 64) as usize] & (1 << (bit % 64)) != 0);
        let at = self.fences.partition_point(|fence| fence.first <= key.id.0);
        if !may || at == 0 {
            return Ok(None);
        }
        let block = self.block(at - 1)?;
        let found = block.partition_point(|(k, _)| k < key);
        Ok(block.into_iter().nth(found).filter(|(k, _)| k == key).map(|(_, place)| place))
    }

    /// Whether it has records of one of these packs.
    pub(super) fn names_any(&self, packs: &HashSet<PackRef>) -> bool {
        self.packs.iter().any(|pack| packs.contains(pack))
    }

    /// How many blocks there are.
    pub(super) fn blocks(&self) -> usize {
        self.fences.len()
    }

    /// All records of one block.
    pub(super) fn block(&self, index: usize) -> io::Result<Vec<(DedupKey, Place)>> {
        let fence = self.fences.get(index).ok_or_else(|| damaged("no such block"))?;
        let mut bytes = vec![0; fence.len as usize];
        self.file.read_exact_at(&mut bytes, fence.offset)?;
        if self.ids.state_tag(ROLE_BLOCK, &bytes) != fence.tag {
            return Err(damaged("wrong tag of a block"));
        }
        let mut words = Words(&bytes);
        let count = words.u32() as usize;
        let side_at = 4 + count * RECORD_LEN;
        let side = |index: usize| -> io::Result<u32> {
            let at = side_at + index * 4;
            let word = bytes.get(at..at + 4).ok_or_else(|| damaged("side area too short"))?;
            Ok(u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        };
        (0..count)
            .map(|_| {
                let id = ContentId(words.take());
                let (slot, offset, at) = (words.u32(), words.u32(), words.u32() as usize);
                let piece = slot & PIECE_BIT != 0;
                let pack =
                    *self.packs.get((slot & !PIECE_BIT) as usize).ok_or_else(|| damaged("no such pack"))?;
                let content = if piece {
                    Content::Piece { stored_len: side(at)?, inner: side(at + 1)? }
                } else {
                    let first = at.saturating_add(1);
                    let len = |i| {
                        io::Result::Ok(FrameLen {
                            stored: side(first + i * 2)?,
                            plain: side(first + i * 2 + 1)?,
                        })
                    };
                    Content::Chunk { lens: (0..side(at)? as usize).map(len).collect::<Result<_, _>>()? }
                };
                Ok((DedupKey { id, piece }, Place { pack, offset, content }))
            })
            .collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The n-th record of a made-up index: even ones are chunks, odd ones pieces.
    pub(in super::super) fn record(n: u32) -> (DedupKey, Place) {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b1).to_be_bytes());
        id[8..12].copy_from_slice(&n.wrapping_mul(0x85eb_ca6b).to_be_bytes());
        let piece = n % 2 == 1;
        let pack = PackRef { session: SessionNo(n % 5 + 1), number: n % 3, salt: [n as u8 % 3; 8], epoch: 1 };
        let content = if piece {
            Content::Piece { stored_len: n + 17, inner: n }
        } else {
            Content::Chunk { lens: (0..n % 17).map(|i| FrameLen { stored: i, plain: n - i }).collect() }
        };
        (DedupKey { id: ContentId(id), piece }, Place { pack, offset: n * 3, content })
    }

    /// Keys of a vault that differs by this number.
    pub(in super::super) fn ids(vault: u8) -> ContentIdKey {
        let [master, dedup] = [1, 2];
        let root = backupengine_seal::RootKey::from_seed([7; 32]).public();
        let master = backupengine_seal::MasterSecret::from_bytes([master; 32]);
        let dedup = backupengine_seal::DedupSecret::from_bytes([dedup; 32]);
        let vault = backupengine_model::VaultId([vault; 16]);
        backupengine_seal::Keyring::new(vault, master, dedup, root).content_ids()
    }

    fn write(path: &Path, count: u32) -> Vec<(DedupKey, Place)> {
        let mut records: Vec<_> = (0..count).map(record).collect();
        records.sort_by_key(|(key, _)| *key);
        let mut writer = SegmentWriter::create(path, u64::from(count), &ids(1)).unwrap();
        records.iter().for_each(|(key, place)| writer.push(key, place).unwrap());
        assert_eq!(writer.finish().unwrap(), u64::from(count));
        records
    }

    #[test]
    fn what_was_written_is_found_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let records = write(&path, 3000);
        let segment = Segment::open(&path, &ids(1)).unwrap();
        for (key, place) in &records {
            assert_eq!(segment.get(key).unwrap().as_ref(), Some(place));
            assert_eq!(segment.get(&DedupKey { piece: !key.piece, ..*key }).unwrap(), None);
        }
        for n in 3000..6000 {
            assert_eq!(segment.get(&record(n).0).unwrap(), None);
        }
        let all: Vec<_> = (0..segment.blocks()).flat_map(|i| segment.block(i).unwrap()).collect();
        assert_eq!(all, records);
        let mut empty = vec![];
        write(&path, 0);
        empty
            .extend((0..5).filter_map(|n| Segment::open(&path, &ids(1)).unwrap().get(&record(n).0).unwrap()));
        assert!(empty.is_empty());
    }

    #[test]
    fn who_lacks_the_keys_cannot_write_one() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a"), dir.path().join("b"));
        write(&path, 300);
        assert!(Segment::open(&path, &ids(2)).is_err(), "another vault's");
        // A block of another segment of the same vault in the place of one of this.
        let records: Vec<_> = write(&path, 40);
        let moved =
            |(key, place): &(DedupKey, Place)| (*key, Place { offset: place.offset + 1, ..place.clone() });
        let mut writer = SegmentWriter::create(&other, 40, &ids(1)).unwrap();
        records.iter().map(moved).for_each(|(key, place)| writer.push(&key, &place).unwrap());
        writer.finish().unwrap();
        let (mut one, two) = (std::fs::read(&path).unwrap(), std::fs::read(&other).unwrap());
        let len = Segment::open(&other, &ids(1)).unwrap().fences[0].len as usize;
        one[..len].copy_from_slice(&two[..len]);
        std::fs::write(&path, &one).unwrap();
        let segment = Segment::open(&path, &ids(1)).unwrap();
        assert!(segment.block(0).is_err() && segment.get(&records[0].0).is_err());
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let records = write(&path, 40);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let Ok(segment) = Segment::open(&path, &ids(1)) else { continue };
            let wrong = records.iter().any(|(key, place)| match segment.get(key) {
                Ok(Some(found)) => found != *place,
                _ => false,
            });
            assert!(!wrong && (0..segment.blocks()).any(|i| segment.block(i).is_err()), "byte {at}");
        }
        std::fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(Segment::open(&path, &ids(1)).is_err());
    }
}
