//! Damage to the files of a disk cache that holds the whole vault, while the store is sound.
//!
//! May not lose anything: a damaged block is fetched again. What always holds: besides random damage there are slots whose
//! checksums were made to fit, as nobody but an attacker makes them: then the seal is what finds it. What a case
//! leaves in the cache stays for the next one; now and then the cache is filled anew.

use super::ground::{Ground, copy};
use super::harm::{Harm, garbage};
use super::objects::{CACHE, ask, open_cache};
use super::tally::Row;
use super::{Done, EVERYTHING, Group};
use backupengine_model::SessionNo;
use backupengine_store::{
    BLOCK_LEN, BlobKey, BlockCache, DiskCache, END_BLOCK, FolderStore, Readable, WriteBehind,
};
use backupengine_testkit::recording::Call;
use backupengine_testkit::{Late, Recording, Seeded};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

/// Things asked that need a damaged block, and others.
const HIT: usize = 10;
const OTHERS: usize = 6;
/// Length of a record of the table, and where its parts lie (`store`, `disk_cache::record`).
const RECORD: usize = 32;
const ROOT: u32 = 1 << 31;

pub(crate) struct Cached {
    ground: Arc<Ground>,
    _vault: TempDir,
    store: FolderStore,
    folder: TempDir,
    /// Kept open over several cases, as a mount keeps it.
    open: Option<Arc<DiskCache>>,
}

/// A slot that holds something.
#[derive(Clone, Copy, Debug)]
struct Slot {
    at: usize,
    blob: BlobKey,
    block: u32,
    len: usize,
}

impl Cached {
    pub(crate) fn new(ground: Arc<Ground>) -> Self {
        let (vault, store) = copy(&ground);
        let mut cached =
            Self { ground, _vault: vault, store, folder: tempfile::tempdir().unwrap(), open: None };
        cached.fill();
        cached
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn far(&self) -> Recording {
        Recording::new(Arc::new(Late::new(Arc::new(self.store.clone()))))
    }

    /// Empties the cache, reads everything, and pins a part.
    fn fill(&mut self) {
        self.open = None;
        for name in ["slots", "table", "news", "pins", "size"] {
            drop(fs::remove_file(self.file(name)));
        }
        let cache = Arc::new(open_cache(self.folder.path(), Some(CACHE)));
        let blocks = Arc::clone(&cache) as Arc<dyn BlockCache>;
        let reader = self.ground.open(Arc::new(self.far()), Some(blocks)).unwrap();
        let everything: Vec<usize> = (0..self.ground.things.len()).collect();
        ask(&self.ground, &reader, &everything, &BTreeSet::new(), &mut Row::default()).unwrap();
        let first = self.ground.infos[1].session;
        cache.pin("some", (0..8).map(|block| (BlobKey::Pack(first, 0), block))).unwrap();
        let held = self.slots().len();
        assert!(held > 40, "only {held} blocks are in the cache");
    }

    fn slots(&self) -> Vec<Slot> {
        let table = fs::read(self.file("table")).unwrap_or_default();
        let number = |at: usize| u32::from_le_bytes(table[at..at + 4].try_into().unwrap());
        let starts = (RECORD..table.len()).step_by(RECORD).filter(|at| at + RECORD <= table.len());
        let held = starts
            .filter(|at| &table[*at..at + 4] == b"BKSL" && sum(&table[*at..at + 28]) == number(at + 28));
        let slot = |at: usize| {
            let (session, block) = (SessionNo(number(at + 4)), number(at + 12));
            let blob = match block & ROOT {
                0 => BlobKey::Pack(session, number(at + 8)),
                _ => BlobKey::Root(session),
            };
            Slot { at: at / RECORD - 1, blob, block: block & !ROOT, len: number(at + 16) as usize }
        };
        held.map(slot).collect()
    }

    /// Damages one of the files; says what was hit, and which blocks are in doubt.
    fn damage(&mut self, random: &Seeded) -> (&'static str, String, Vec<Slot>) {
        let slots = self.slots();
        let one = || slots[random.below(slots.len() as u64) as usize];
        match random.below(100) {
            0..40 => {
                let slot = one();
                let place = slot.at * BLOCK_LEN..slot.at * BLOCK_LEN + slot.len;
                let act = self.harm("slots", random, &place);
                // A run may reach into the next slot, a cut takes all after it.
                let after = slots.iter().filter(|other| other.at >= slot.at).take(HIT).copied();
                ("cached block", act, after.collect())
            }
            40..65 => {
                let slot = one();
                let at = (slot.at + 1) * RECORD;
                let act = self.harm("table", random, &(at..at + RECORD));
                ("record of a block", act, vec![slot, one()])
            }
            65..68 => ("head of the table", self.harm("table", random, &(0..RECORD)), vec![one()]),
            68..76 => ("news", self.harm("news", random, &(0..usize::MAX)), vec![one()]),
            76..82 => ("pins", self.harm("pins", random, &(0..usize::MAX)), vec![one()]),
            82..84 => ("size of the cache", self.harm("size", random, &(0..usize::MAX)), vec![one()]),
            _ => self.forge(random, one(), one()),
        }
    }

    fn harm(&self, name: &str, random: &Seeded, place: &Range<usize>) -> String {
        let sound = fs::read(self.file(name)).unwrap_or_default();
        let place = place.start.min(sound.len())..place.end.min(sound.len());
        let harm = Harm::draw(random, &sound, &place);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(self.file(name)).unwrap();
        harm.apply(&file);
        format!("{:?}", harm.act)
    }

    /// Damages a block, or gives it another one's bytes, length or name, and makes its checksums fit.
    fn forge(&self, random: &Seeded, slot: Slot, other: Slot) -> (&'static str, String, Vec<Slot>) {
        let file = |name: &str| OpenOptions::new().read(true).write(true).open(self.file(name)).unwrap();
        let (slots, table) = (file("slots"), file("table"));
        let mut record = read(&table, (slot.at + 1) * RECORD, RECORD);
        let mut bytes = read(&slots, slot.at * BLOCK_LEN, slot.len);
        let act = match random.below(5) {
            0 => {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
                "forged flip"
            }
            1 => {
                bytes = read(&slots, other.at * BLOCK_LEN, other.len);
                "forged bytes of another"
            }
            2 => {
                bytes.truncate(1 + random.below(bytes.len() as u64) as usize);
                "forged cut"
            }
            3 => {
                // The length of its blob, where it is an end.
                let len = bytes.len().min(8);
                bytes[..len].copy_from_slice(&garbage(random, len));
                "forged length"
            }
            _ => {
                let name = read(&table, (other.at + 1) * RECORD, RECORD);
                record[4..16].copy_from_slice(&name[4..16]);
                "forged name"
            }
        };
        record[16..20].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        record[20..24].copy_from_slice(&sum(&bytes).to_le_bytes());
        let check = sum(&record[..28]);
        record[28..].copy_from_slice(&check.to_le_bytes());
        slots.write_all_at(&bytes, (slot.at * BLOCK_LEN) as u64).unwrap();
        table.write_all_at(&record, ((slot.at + 1) * RECORD) as u64).unwrap();
        ("forged block", act.to_owned(), vec![slot, other])
    }

    /// Things that need bytes of these blocks, and others.
    fn choose(&self, random: &Seeded, doubtful: &[Slot], all: bool) -> Vec<usize> {
        let total = self.ground.things.len();
        if all {
            return (0..total).collect();
        }
        let mut hit = BTreeSet::new();
        for slot in doubtful {
            for ask in self.ground.asks_of.get(&slot.blob).into_iter().flatten() {
                let ask = &self.ground.asks[*ask];
                let end = ask.range.start / BLOCK_LEN..ask.range.end.div_ceil(BLOCK_LEN);
                if (slot.block == END_BLOCK && ask.from_end) || end.contains(&(slot.block as usize)) {
                    hit.extend(ask.things.iter().copied());
                }
            }
        }
        let mut hit: Vec<usize> = hit.into_iter().collect();
        while hit.len() > HIT {
            hit.swap_remove(random.below(hit.len() as u64) as usize);
        }
        hit.extend((0..OTHERS).map(|_| random.below(total as u64) as usize));
        hit
    }

    /// The cache as it is met: opened anew, as the next mount does, or by the one that had it open all the while.
    fn meet(&mut self, random: &Seeded) -> Arc<dyn BlockCache> {
        if random.below(2) == 0 {
            self.open = None;
        }
        let cache = self.open.take().unwrap_or_else(|| {
            let size = (random.below(2) == 0).then_some(CACHE);
            Arc::new(open_cache(self.folder.path(), size))
        });
        self.open = Some(Arc::clone(&cache));
        if random.below(2) == 0 { cache } else { Arc::new(WriteBehind::new(cache, 4 << 20)) }
    }
}

impl Group for Cached {
    fn case(&mut self, number: u64, random: &Seeded, row: &mut Row) -> Done {
        if self.slots().len() < 40 {
            self.fill();
        }
        if self.open.is_none() {
            self.open = Some(Arc::new(open_cache(self.folder.path(), Some(CACHE))));
        }
        let (kind, act, doubtful) = self.damage(random);
        let cache = self.meet(random);
        let store = self.far();
        let reader = self.ground.open(Arc::new(store.clone()) as Arc<dyn Readable>, Some(cache)).unwrap();
        let asked = self.choose(random, &doubtful, number.is_multiple_of(EVERYTHING));
        let failed = ask(&self.ground, &reader, &asked, &BTreeSet::new(), row).err();
        let gets = store.calls().into_iter().filter(|call| matches!(call, Call::Get { .. }));
        row.fetched += gets.count() as u64;
        if kind == "size of the cache" || failed.is_some() {
            self.fill();
        }
        Done { kind, act, row: *row, failed }
    }
}

/// Zeros where the file ends earlier: an earlier case may have cut it.
fn read(file: &File, at: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while let Ok(more @ 1..) = file.read_at(&mut bytes[filled..], (at + filled) as u64) {
        filled += more;
    }
    bytes
}

/// crc32c (Castagnoli), bit by bit: written here, so that a forger needs nothing of the cache's.
fn sum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg()))
    })
}
