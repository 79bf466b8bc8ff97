//! The index as a reader asks it: whether this device knows that content lies at a place.
//!
//! **What it is.** The segments that the manifest names, opened to be read; opened again when a push replaced the
//! manifest. **What it may not do.** Write, rebuild, or fail: what does not read is not known.
//! **What always holds.** Each yes rests on a record whose tag this vault's keys made. The memory it takes is bounded
//! by the number of records it agrees to open.
//! **Where it is tested.** Below; `tests/cli` through a mount.
use super::index::{manifest_path, segment_path};
use super::manifest::Manifest;
use super::segment::Segment;
use super::{DedupKey, Place};
use backupengine_model::{PackRef, VaultId};
use backupengine_seal::ContentIdKey;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

/// Bytes of memory that an open segment takes for a record: fences and filter, rounded up.
const RECORD_MEMORY: u64 = 2;
/// How often the index is opened again when a push replaced it just then.
const TRIES: usize = 3;

/// See the module header.
pub(crate) struct Known {
    folder: PathBuf,
    vault: VaultId,
    ids: ContentIdKey,
    memory: u64,
    open: RwLock<Open>,
}

/// Which manifest it was: a new one is another file.
type Stamp = (u64, u64, i64, i64);

#[derive(Default)]
struct Open {
    stamp: Option<Stamp>,
    segments: Vec<Segment>,
}

fn stamp(folder: &Path) -> Option<Stamp> {
    let meta = fs::metadata(manifest_path(folder)).ok()?;
    Some((meta.ino(), meta.len(), meta.ctime(), meta.ctime_nsec()))
}

impl Known {
    /// Opens what is there. An index that would take more than `memory` bytes counts as none.
    pub(crate) fn open(folder: PathBuf, vault: VaultId, ids: ContentIdKey, memory: u64) -> Self {
        let known = Self { folder, vault, ids, memory, open: RwLock::default() };
        known.reopen(stamp(&known.folder));
        known
    }

    /// Whether nothing is known at all.
    pub(crate) fn is_empty(&self) -> bool {
        let empty = || self.open.read().unwrap_or_else(PoisonError::into_inner).segments.is_empty();
        // A push may have made it meanwhile.
        empty() && (!self.refresh() || empty())
    }

    /// Whether a record says that this content lies at this place.
    pub(crate) fn holds(&self, key: &DedupKey, place: &Place) -> bool {
        // A push may have added it meanwhile.
        self.ask(key, place) || (self.refresh() && self.ask(key, place))
    }

    /// Every record of content that lies in one of these packs; what does not read is left out.
    pub(crate) fn records_in(&self, packs: &HashSet<PackRef>) -> Vec<(DedupKey, Place)> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for segment in open.segments.iter().filter(|segment| segment.names_any(packs)) {
            for block in 0..segment.blocks() {
                match segment.block(block) {
                    Ok(records) => {
                        found.extend(records.into_iter().filter(|(_, place)| packs.contains(&place.pack)));
                    }
                    Err(error) => tracing::info!(%error, "a part of the dedup index does not read"),
                }
            }
        }
        found
    }

    /// Opens the index again if a push replaced it; whether it did.
    fn refresh(&self) -> bool {
        let now = stamp(&self.folder);
        let same = now == self.open.read().unwrap_or_else(PoisonError::into_inner).stamp;
        if !same {
            self.reopen(now);
        }
        !same
    }

    fn ask(&self, key: &DedupKey, place: &Place) -> bool {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        // Content that was stored twice is in two segments, each with a place of its own.
        open.segments.iter().any(|segment| segment.get(key).is_ok_and(|found| found.as_ref() == Some(place)))
    }

    fn reopen(&self, mut stamp_now: Option<Stamp>) {
        let mut segments = Vec::new();
        for _ in 0..TRIES {
            segments = self.load();
            let after = stamp(&self.folder);
            if after == stamp_now {
                break;
            }
            stamp_now = after;
        }
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = Open { stamp: stamp_now, segments };
    }

    fn load(&self) -> Vec<Segment> {
        let Some(manifest) = Manifest::load(&manifest_path(&self.folder), self.vault) else {
            return Vec::new();
        };
        let records: u64 = manifest.segments.iter().map(|listed| listed.records).fold(0, u64::saturating_add);
        if records.saturating_mul(RECORD_MEMORY) > self.memory {
            tracing::warn!(records, "the dedup index is too large to be asked by a mount");
            return Vec::new();
        }
        let open = |number| {
            Segment::open(&segment_path(&self.folder, number), &self.ids)
                .inspect_err(|error| tracing::info!(%error, "a segment of the dedup index does not read"))
                .ok()
        };
        manifest.segments.iter().filter_map(|listed| open(listed.number)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Listed;
    use super::super::segment::SegmentWriter;
    use super::super::segment::tests::{ids, record};
    use super::*;

    const VAULT: VaultId = VaultId([1; 16]);

    /// Segments with the records between these numbers, newest first.
    fn write(folder: &Path, numbers: &[u32]) {
        let mut manifest = Manifest::default();
        for (number, ends) in (10..).zip(numbers.windows(2)) {
            let mut records: Vec<_> = (ends[0]..ends[1]).map(record).collect();
            records.sort_by_key(|(key, _)| *key);
            let path = segment_path(folder, number);
            let mut writer = SegmentWriter::create(&path, records.len() as u64, &ids(1)).unwrap();
            records.iter().for_each(|(key, place)| writer.push(key, place).unwrap());
            let records = writer.finish().unwrap();
            manifest.segments.push(Listed { number, level: 0, records });
        }
        manifest.store(&manifest_path(folder), VAULT).unwrap();
    }

    fn holds(known: &Known, n: u32) -> bool {
        let (key, place) = record(n);
        assert!(!known.holds(&key, &Place { offset: place.offset + 1, ..place.clone() }), "another place");
        known.holds(&key, &place)
    }

    #[test]
    fn what_pushes_add_is_known_and_what_is_gone_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let known = Known::open(dir.path().to_owned(), VAULT, ids(1), 1 << 20);
        assert!(known.is_empty() && !holds(&known, 3));
        write(dir.path(), &[0, 500, 900]);
        assert!(!known.is_empty(), "the first push came after it was opened");
        assert!((0..900).step_by(7).all(|n| holds(&known, n)) && !holds(&known, 900));
        write(dir.path(), &[0, 1000]);
        assert!(holds(&known, 999) && holds(&known, 0));
        fs::remove_file(manifest_path(dir.path())).unwrap();
        let (key, place) = record(5);
        assert!(known.holds(&key, &place), "what was read once was true");
        // A question that finds nothing has it looked at again.
        assert!(!holds(&known, 1000) && known.is_empty() && !holds(&known, 5));
    }

    #[test]
    fn content_that_lies_twice_is_known_at_both_places() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[0, 40, 40]);
        let (key, place) = record(7);
        let twin = Place { offset: place.offset + 1, ..place.clone() };
        let mut writer = SegmentWriter::create(&segment_path(dir.path(), 11), 1, &ids(1)).unwrap();
        writer.push(&key, &twin).unwrap();
        writer.finish().unwrap();
        let known = Known::open(dir.path().to_owned(), VAULT, ids(1), 1 << 20);
        assert!(known.holds(&key, &place) && known.holds(&key, &twin));
    }

    #[test]
    fn all_that_lies_in_a_pack_is_told() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[0, 500, 900]);
        let known = Known::open(dir.path().to_owned(), VAULT, ids(1), u64::MAX);
        let pack = record(3).1.pack;
        let mut told = known.records_in(&HashSet::from([pack]));
        told.sort_by_key(|(key, _)| *key);
        let mut all: Vec<_> = (0..900).map(record).filter(|(_, place)| place.pack == pack).collect();
        all.sort_by_key(|(key, _)| *key);
        assert!(all.len() > 1 && told == all);
        assert_eq!(known.records_in(&HashSet::new()), []);
    }

    #[test]
    fn damage_another_vault_and_too_much_are_nothing_known() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[0, 100]);
        let open = |vault, keys, memory| Known::open(dir.path().to_owned(), vault, ids(keys), memory);
        assert!(holds(&open(VAULT, 1, 200), 5));
        assert!(open(VAULT, 1, 199).is_empty());
        assert!(open(VaultId([2; 16]), 1, 1 << 20).is_empty());
        assert!(open(VAULT, 2, 1 << 20).is_empty());
        let path = segment_path(dir.path(), 10);
        let mut bytes = fs::read(&path).unwrap();
        bytes[9] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let known = open(VAULT, 1, 1 << 20);
        assert!((0..100).all(|n| !holds(&known, n)));
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(open(VAULT, 1, 1 << 20).is_empty());
    }
}
