//! A cache of sealed blocks on this device's disk.
//!
//! **What it is.** [`DiskCache`], which fills the port [`BlockCache`]: slots of 64 KiB in one file, the order of use
//! in memory (`lru`). It lives in a folder of its own, one a vault, shared by all processes of this user.
//! [`WriteBehind`] is for readers that shall not wait for a put.
//!
//! **What it may not do.** Hold anything opened, or an envelope; fail or stall a reader: trouble with the disk is a
//! miss, told once at debug. Take the last 5 % of the disk. Sync: everything here can be fetched again.
//!
//! **What always holds.** What `get` gives has the length and checksum (crc32c) that were put under that name; that
//! nobody forged it is for whoever opens the seal to find, who then calls `drop_blocks`. No lock is held over I/O
//! but by whoever changes the number of slots. Killed at any point it leaves a cache that opens: a slot is written
//! before its record, and what does not match its record is a miss.
//!
//! **How processes share it.** Each believes its own index and trusts none: a read is checked against the sum, and
//! before a slot is written its record is read, so that what another process put there is learned instead of lost.
//! Each slot written is told in `news`, which whoever misses reads first. Two writers that race for a slot cost
//! each other a miss. Only the number of slots changes under a lock (flock on `table`), which readers never take and
//! writers never wait for.
//!
//! **Where it is tested.** `tests.rs` beside this file, with other handles, processes, kills and damage;
//! `benches/disk_cache.rs` has the figures.

mod behind;
mod files;
mod index;
mod pins;
mod record;
mod room;
mod size;
#[cfg(test)]
mod tests;
mod upkeep;

use crate::{BLOCK_LEN, BlobKey, BlockCache, StoreError};
use backupengine_model::VaultId;
pub use behind::WriteBehind;
use bytes::Bytes;
use files::Files;
use index::{Index, Place, Vacant};
use pins::Pins;
use record::{Name, Record};
use room::Room;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Looks for a slot that nobody else took in the meantime, at most.
const TRIES: usize = 8;

/// What a cache is opened with.
#[derive(Clone, Debug)]
pub struct DiskCacheConfig {
    /// Whose blocks these are. A folder that holds another vault's is emptied.
    pub vault: VaultId,
    /// Bytes on disk to stay within, all files together but the list of pins; below about 400 KiB nothing is kept.
    /// It holds for all processes, and is remembered: `None` is what was given last, and where nothing was, 10 GiB or
    /// a tenth of the disk, whichever is less.
    pub size: Option<u64>,
}

/// What a cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheInfo {
    /// Bytes it may take.
    pub size: u64,
    /// Bytes its files take.
    pub on_disk: u64,
    /// Blocks it holds.
    pub blocks: u64,
    /// Bytes in these blocks.
    pub bytes: u64,
    /// Blocks of these that are pinned.
    pub pinned_blocks: u64,
    /// Bytes in the pinned ones.
    pub pinned_bytes: u64,
}

/// A pinned set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// What it was called.
    pub name: String,
    /// Blocks in it.
    pub blocks: u64,
    /// How many of them are held now.
    pub held: u64,
}

type AskRoom = Box<dyn Fn(&Path) -> io::Result<Room> + Send + Sync>;

/// The cache of one vault on this device's disk.
pub struct DiskCache {
    folder: PathBuf,
    vault: VaultId,
    /// See [`DiskCacheConfig::size`]; another process may give another.
    size: AtomicU64,
    room: AskRoom,
    state: Mutex<State>,
    /// How far the news were read.
    news: Mutex<u64>,
    /// Held by whoever changes the number of slots, or the files.
    changing: Mutex<()>,
    /// Gets and puts so far: what is looked after now and then is by this count, not by a clock.
    calls: AtomicU64,
    /// After files went away and could not be made again: when to try next, by `calls`.
    retry_at: AtomicU64,
    told: AtomicBool,
}

struct State {
    index: Index,
    files: Arc<Files>,
}

impl DiskCache {
    /// Opens the cache in `folder`, which is made (for this user alone) where it is missing. Reads 32 bytes a slot.
    ///
    /// # Errors
    /// `Denied`, `Full`, `Io`: where there can be no cache now; `Full` where what is pinned does not fit into the size
    /// that is given: the one before stays.
    pub fn open(folder: impl Into<PathBuf>, config: DiskCacheConfig) -> Result<Self, StoreError> {
        Self::open_with(folder.into(), config, Box::new(Room::of))
    }

    fn open_with(folder: PathBuf, config: DiskCacheConfig, room: AskRoom) -> Result<Self, StoreError> {
        let fail = |e| StoreError::from_io("open", &folder, e);
        let (state, news) = upkeep::open(&folder, config.vault, true).map_err(fail)?;
        if let Some(size) = config.size {
            // What is pinned was promised to stay.
            room::fits(Pins::load(&folder).map_err(fail)?.wanted().len(), size)?;
        }
        let size = size::settle(&folder, config.size, &*room).map_err(fail)?;
        if config.size.is_some() {
            state.files.tell(files::SETTINGS).map_err(fail)?;
        }
        let cache = Self {
            folder,
            vault: config.vault,
            size: AtomicU64::new(size),
            room,
            state: Mutex::new(state),
            news: Mutex::new(news),
            changing: Mutex::new(()),
            calls: AtomicU64::new(0),
            retry_at: AtomicU64::new(0),
            told: AtomicBool::new(false),
        };
        cache.look_after();
        Ok(cache)
    }

    /// What it holds.
    pub fn info(&self) -> CacheInfo {
        self.catch_up();
        let state = self.state();
        let (all, pinned) = state.index.count();
        CacheInfo {
            size: self.size(),
            on_disk: state.files.on_disk(),
            blocks: all.blocks,
            bytes: all.bytes,
            pinned_blocks: pinned.blocks,
            pinned_bytes: pinned.bytes,
        }
    }

    /// Whether it is too small to hold a block.
    pub fn keeps_nothing(&self) -> bool {
        room::slots_in(self.size()) == 0
    }

    fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> Arc<Files> {
        self.state().files.clone()
    }

    /// Where a block is now, and whether its use is to be noted.
    fn look(&self, name: Name) -> Option<(Arc<Files>, Place, bool)> {
        let mut state = self.state();
        let (place, note) = state.index.get(name)?;
        Some((state.files.clone(), place, note))
    }

    /// Does something to the index, unless its files were replaced meanwhile.
    fn with_index<T>(&self, of: &Arc<Files>, act: impl FnOnce(&mut Index) -> T) -> Option<T> {
        let mut state = self.state();
        Arc::ptr_eq(&state.files, of).then(|| act(&mut state.index))
    }

    fn read(&self, name: Name) -> Option<Bytes> {
        let (files, place, note) = self.look(name)?;
        let bytes = files.read(place.slot, place.len).inspect_err(|error| self.note(error)).ok();
        let Some(bytes) = bytes.filter(|b| b.len() == place.len as usize && crc32c::crc32c(b) == place.sum)
        else {
            self.lost(&files, name, place);
            return None;
        };
        if note {
            let record = self.with_index(&files, |index| index.used(name, place)).flatten();
            if let Some(Err(error)) = record.map(|record| files.write_record(place.slot, Some(&record))) {
                self.note(&error);
            }
        }
        Some(bytes.into())
    }

    /// A block was not where it was believed to be.
    fn lost(&self, files: &Arc<Files>, name: Name, place: Place) {
        if self.with_index(files, |index| index.remove_at(name, place)) != Some(true) {
            return;
        }
        let mut found = files.record(place.slot);
        if found.is_some_and(|found| found.same_bytes(&place.record(name))) {
            // Damaged. What cannot be written is believed by nobody who checks.
            tracing::debug!(folder = %self.folder.display(), slot = place.slot, "a cached block is damaged");
            drop(files.write_record(place.slot, None));
            found = None;
        }
        self.with_index(files, |index| match found {
            Some(found) => index.learn(place.slot, Some(&found)),
            None => index.give_back(Vacant { slot: place.slot, known: None }),
        });
    }

    /// A slot to write to, in the caller's hand.
    fn slot_for(&self, files: &Arc<Files>) -> Option<u32> {
        let mut grown = false;
        for _ in 0..TRIES {
            let vacant = match self.with_index(files, Index::vacant)? {
                Some(vacant) => vacant,
                None if !grown => {
                    grown = true;
                    self.grow(files);
                    continue;
                }
                None => self.with_index(files, Index::evict)??,
            };
            let found = files.record(vacant.slot);
            if vacant.is_still(found.as_ref()) {
                return Some(vacant.slot);
            }
            self.with_index(files, |index| index.learn(vacant.slot, found.as_ref()));
            // Where one was written by another process, more were.
            self.catch_up();
        }
        None
    }

    fn write(&self, files: &Arc<Files>, record: &Record, bytes: &[u8]) -> Option<Place> {
        let slot = self.slot_for(files)?;
        match files.write(slot, bytes, record) {
            Ok(()) => Some(Place::of(slot, record)),
            Err(error) => {
                self.note(&error);
                let known = files.record(slot);
                self.with_index(files, |index| index.give_back(Vacant { slot, known }));
                if error.kind() == io::ErrorKind::StorageFull {
                    self.look_after();
                }
                None
            }
        }
    }
}

impl BlockCache for DiskCache {
    fn get(&self, key: BlobKey, block: u32) -> Option<Bytes> {
        let name = Name::new(key, block)?;
        self.count_call();
        self.read(name).or_else(|| {
            // Another process may have it, or have moved it.
            self.catch_up();
            self.read(name)
        })
    }

    fn put(&self, key: BlobKey, block: u32, bytes: &Bytes) {
        let Some(name) = Name::new(key, block) else { return };
        if bytes.is_empty() || bytes.len() > BLOCK_LEN {
            return;
        }
        self.count_call();
        let Some(files) = self.named_files() else { return };
        let Some(Some(stamp)) = self.with_index(&files, |index| index.begin(name)) else { return };
        let record = Record { name, len: bytes.len() as u32, sum: crc32c::crc32c(bytes), stamp };
        let place = self.write(&files, &record, bytes);
        self.with_index(&files, |index| index.end(name, place));
    }

    fn holds(&self, key: BlobKey, block: u32) -> bool {
        let Some(name) = Name::new(key, block) else { return false };
        if self.state().index.holds(name) {
            return true;
        }
        self.catch_up();
        self.state().index.holds(name)
    }

    fn drop_blocks(&self, key: BlobKey, blocks: Range<u32>) {
        let Some(first) = Name::new(key, blocks.start) else { return };
        let files = self.files();
        let dropped = self.with_index(&files, |index| {
            let names = index.held_in(first, blocks.end.saturating_sub(blocks.start));
            names.iter().filter_map(|name| index.remove(*name)).collect::<Vec<_>>()
        });
        for place in dropped.unwrap_or_default() {
            if let Err(error) = files.write_record(place.slot, None).and_then(|()| files.tell(place.slot)) {
                self.note(&error);
            }
            self.with_index(&files, |index| index.give_back(Vacant { slot: place.slot, known: None }));
        }
    }
}

impl fmt::Debug for DiskCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskCache({}, {} bytes)", self.folder.display(), self.size())
    }
}
