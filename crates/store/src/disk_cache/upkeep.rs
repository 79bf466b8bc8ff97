//! What keeps a cache in order: slots that come and go, news of other processes, files that went away, pins.
//!
//! May not touch a block's bytes but to move them. What always holds: nothing here waits for another process on the
//! read path; what cannot be done now is done later or not at all. Tested through the cache.

use super::files::{Files, Look, NEWS_MAX, SETTINGS};
use super::index::{Index, Place, Vacant};
use super::pins::Pins;
use super::record::{Name, Record};
use super::{BlobKey, DiskCache, Pinned, State, room, size};
use crate::StoreError;
use backupengine_model::VaultId;
use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Calls between two looks at the disk: 16 MiB of puts.
const LOOK_AFTER: u64 = 256;
/// Slots that are added at once: 64 MiB.
const STEP: u32 = 1024;

/// Opens files and reads the table; says how long the news are.
pub(super) fn open(folder: &Path, vault: VaultId, wait: bool) -> io::Result<(State, u64)> {
    let files = Files::open(folder, vault, wait)?;
    let look = files.look()?;
    let wanted = Pins::load(folder)?.wanted();
    let mut index = Index::new(wanted, std::process::id().wrapping_mul(0x9e37_79b9));
    index.extend(files.records(0, look.capacity)?);
    Ok((State { index, files: Arc::new(files) }, look.news))
}

impl DiskCache {
    /// Tells of trouble, the first time.
    pub(super) fn note(&self, error: &io::Error) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::debug!(folder = %self.folder.display(), %error, "the disk cache has trouble and goes on with misses");
        }
    }

    pub(super) fn count_call(&self) {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        if calls % LOOK_AFTER == LOOK_AFTER - 1 {
            self.look_after();
        }
    }

    /// The files, where they still are what is found under their names; made anew where they are not.
    pub(super) fn named_files(&self) -> Option<Arc<Files>> {
        let files = self.files();
        match files.look() {
            Ok(look) if look.named => {
                self.fit(&files, &look);
                Some(files)
            }
            Ok(_) => self.reopen(&files).then(|| self.files()),
            Err(error) => {
                self.note(&error);
                None
            }
        }
    }

    /// Somebody deleted the files: others are made, and the old ones closed, which gives their room back.
    fn reopen(&self, old: &Arc<Files>) -> bool {
        let calls = self.calls.load(Ordering::Relaxed);
        let Ok(_changing) = self.changing.try_lock() else { return false };
        if calls < self.retry_at.load(Ordering::Relaxed) {
            return false;
        }
        if !Arc::ptr_eq(&self.files(), old) {
            return true;
        }
        match open(&self.folder, self.vault, false) {
            Ok((state, news)) => {
                *self.news.lock().unwrap_or_else(PoisonError::into_inner) = news;
                *self.state() = state;
                true
            }
            Err(error) => {
                self.note(&error);
                self.retry_at.store(calls + LOOK_AFTER / 4, Ordering::Relaxed);
                false
            }
        }
    }

    /// Believes the number of slots that the files have.
    fn fit(&self, files: &Arc<Files>, look: &Look) {
        let Some(believed) = self.with_index(files, |index| index.capacity()) else { return };
        if look.capacity < believed {
            self.with_index(files, |index| index.cut(look.capacity));
        } else if look.capacity > believed {
            match files.records(believed, look.capacity) {
                Ok(records) => drop(self.with_index(files, |index| index.extend(records))),
                Err(error) => self.note(&error),
            }
        }
    }

    /// Learns what other processes wrote since the last time.
    pub(super) fn catch_up(&self) {
        // One thread does; the others miss, as they would have a moment ago.
        let Ok(mut read) = self.news.try_lock() else { return };
        let files = self.files();
        let look = match files.look() {
            Ok(look) => look,
            Err(error) => return self.note(&error),
        };
        if !look.named {
            drop(read);
            self.reopen(&files);
            return;
        }
        self.fit(&files, &look);
        let whole = look.news < *read;
        if look.news == *read {
            return;
        }
        let told = if whole { Ok(Vec::new()) } else { files.news(*read, look.news) };
        *read = look.news;
        let done = told.and_then(|slots| {
            if whole || slots.contains(&SETTINGS) {
                let wanted = Pins::load(&self.folder)?.wanted();
                self.with_index(&files, |index| index.want(wanted));
                if let Some(size) = size::load(&self.folder) {
                    self.size.store(size, Ordering::Relaxed);
                }
            }
            if !whole {
                let slots: HashSet<u32> = slots.into_iter().filter(|slot| *slot < look.capacity).collect();
                self.learn(&files, slots.into_iter().map(|slot| (slot, files.record(slot))));
                return Ok(());
            }
            let records = files.records(0, look.capacity)?;
            self.learn(&files, records.into_iter());
            Ok(())
        });
        if let Err(error) = done {
            self.note(&error);
        }
    }

    fn learn(&self, files: &Arc<Files>, slots: impl Iterator<Item = (u32, Option<Record>)>) {
        let slots: Vec<_> = slots.collect();
        // Readers come in between.
        for some in slots.chunks(512) {
            self.with_index(files, |index| {
                some.iter().for_each(|(slot, record)| index.learn(*slot, record.as_ref()))
            });
        }
    }

    /// Adds slots, where size and disk allow.
    pub(super) fn grow(&self, files: &Arc<Files>) {
        let Ok(_changing) = self.changing.try_lock() else { return };
        let Some(now) = self.with_index(files, |index| index.capacity()) else { return };
        if now >= room::slots_in(self.size()) {
            return;
        }
        let grown = files.lock(false).and_then(|_held| {
            let look = files.look()?;
            if look.capacity == now {
                let allowed = room::allowed(self.size(), now, (self.room)(&self.folder)?);
                if allowed <= now {
                    return Ok(());
                }
                files.grow(self.vault, now, allowed.min(now + STEP))?;
            }
            self.fit(files, &files.look()?);
            Ok(())
        });
        match grown {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.note(&error),
            _ => {}
        }
    }

    /// Now and then: gives slots back that the disk or the size has no room for, and keeps the news short.
    pub(super) fn look_after(&self) {
        let Ok(_changing) = self.changing.try_lock() else { return };
        let files = self.files();
        let looked_after = files.look().and_then(|look| {
            self.fit(&files, &look);
            if look.news > NEWS_MAX {
                files.forget_news()?;
            }
            let allowed = room::allowed(self.size(), look.capacity, (self.room)(&self.folder)?);
            if allowed < look.capacity {
                let _held = files.lock(false)?;
                self.shrink(&files, allowed)?;
            }
            Ok(())
        });
        match looked_after {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.note(&error),
            _ => {}
        }
    }

    /// Gives the slots from `to` on back; pinned blocks in them move down as far as there is room. The caller holds
    /// both locks.
    fn shrink(&self, files: &Arc<Files>, to: u32) -> io::Result<()> {
        let moves = self.with_index(files, |index| index.moves_below(to)).unwrap_or_default();
        for (name, from, vacant) in moves {
            let record = from.record(name);
            let bytes = files.read(from.slot, from.len)?;
            if crc32c::crc32c(&bytes) == from.sum && files.write(vacant.slot, &bytes, &record).is_ok() {
                self.with_index(files, |index| index.moved(name, from, Place::of(vacant.slot, &record)));
            }
        }
        self.with_index(files, |index| index.cut(to));
        files.shrink(to)
    }

    /// Empties it, of all but what is pinned; other processes notice. Says how many bytes of disk that gave back.
    ///
    /// # Errors
    /// `Io`, where the files cannot be cut.
    pub fn clear(&self) -> Result<u64, StoreError> {
        self.catch_up();
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let files = self.files();
        let before = files.on_disk();
        let cleared = files.lock(true).and_then(|_held| {
            self.fit(&files, &files.look()?);
            let pinned = self.with_index(&files, |index| index.count().1.blocks).unwrap_or(0);
            self.shrink(&files, u32::try_from(pinned).unwrap_or(u32::MAX))?;
            // What else lies below is not pinned.
            for name in self.with_index(&files, Index::loose_names).unwrap_or_default() {
                if let Some(place) = self.with_index(&files, |index| index.remove(name)).flatten() {
                    files.write_record(place.slot, None)?;
                    self.with_index(&files, |index| {
                        index.give_back(Vacant { slot: place.slot, known: None })
                    });
                }
            }
            files.forget_news()
        });
        cleared.map_err(|e| StoreError::from_io("empty", &self.folder, e))?;
        Ok(before.saturating_sub(files.on_disk()))
    }

    /// Keeps blocks from being evicted, now or when they are put, until the set is unpinned; a set of that name is
    /// replaced. Holds for all processes, and for those to come.
    ///
    /// # Errors
    /// `Full` where all pinned sets would take more than three quarters of the size; `Denied`, `Io`.
    pub fn pin(
        &self,
        name: &str,
        blocks: impl IntoIterator<Item = (BlobKey, u32)>,
    ) -> Result<(), StoreError> {
        let blocks: BTreeSet<Name> =
            blocks.into_iter().filter_map(|(key, block)| Name::new(key, block)).collect();
        self.change_pins(|pins| {
            pins.insert(name, blocks);
            true
        })
        .map(drop)
    }

    /// Lets a set go. Says whether there was one; its blocks stay until others take their room.
    ///
    /// # Errors
    /// `Denied`, `Io`.
    pub fn unpin(&self, name: &str) -> Result<bool, StoreError> {
        self.change_pins(|pins| pins.remove(name))
    }

    /// The pinned sets, by name.
    ///
    /// # Errors
    /// `Denied`, `Io`.
    pub fn pins(&self) -> Result<Vec<Pinned>, StoreError> {
        self.catch_up();
        let pins = Pins::load(&self.folder).map_err(|e| StoreError::from_io("read", &self.folder, e))?;
        let state = self.state();
        let sets = pins.sets(|name| state.index.holds(name));
        Ok(sets.into_iter().map(|(name, blocks, held)| Pinned { name, blocks, held }).collect())
    }

    fn change_pins(&self, change: impl FnOnce(&mut Pins) -> bool) -> Result<bool, StoreError> {
        let fail = |e| StoreError::from_io("write", &self.folder.join("pins"), e);
        let files = self.named_files().unwrap_or_else(|| self.files());
        let held = files.lock(true).map_err(fail)?;
        let mut pins = Pins::load(&self.folder).map_err(fail)?;
        let before = pins.wanted().len();
        if !change(&mut pins) {
            return Ok(false);
        }
        let wanted = pins.wanted();
        if wanted.len() > before {
            room::fits(wanted.len(), self.size())?;
        }
        pins.save(&self.folder).map_err(fail)?;
        self.with_index(&files, |index| index.want(wanted));
        files.tell(SETTINGS).map_err(fail)?;
        drop(held);
        Ok(true)
    }
}
