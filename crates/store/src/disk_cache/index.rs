//! Which slot holds which block, in memory, in the order of use.
//!
//! May not do I/O. What always holds: it is a belief, not the truth: another process may have written a slot since,
//! which the checksum of a place tells at each read, and the record on disk before each write. A pinned block is
//! never handed out as a slot to write to. Tested below and through the cache.

use super::record::{Name, Record};
use lru::LruCache;
use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroUsize;

/// Where a block is believed to be, and what tells that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) slot: u32,
    pub(super) len: u32,
    pub(super) sum: u32,
    pub(super) stamp: u32,
}

impl Place {
    pub(super) fn of(slot: u32, record: &Record) -> Self {
        Self { slot, len: record.len, sum: record.sum, stamp: record.stamp }
    }

    pub(super) fn record(&self, name: Name) -> Record {
        Record { name, len: self.len, sum: self.sum, stamp: self.stamp }
    }
}

/// A slot to write to, and what its record was when it was last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vacant {
    pub(super) slot: u32,
    pub(super) known: Option<Record>,
}

impl Vacant {
    /// Whether the slot may be written to, where its record is `found`: nobody else wrote to it.
    pub(super) fn is_still(&self, found: Option<&Record>) -> bool {
        match (found, &self.known) {
            (None, _) => true,
            (Some(found), Some(known)) => found.same_bytes(known),
            (Some(_), None) => false,
        }
    }
}

/// What is believed of all slots.
#[derive(Debug)]
pub(super) struct Index {
    /// A slot each: the block that is believed to be in it. About 110 bytes a slot with the rest, 18 MB for 10 GiB.
    owners: Vec<Option<Name>>,
    /// Slots to write to first. One that got an owner since is passed over.
    vacant: VecDeque<Vacant>,
    /// May be evicted, least recently used first.
    loose: LruCache<Name, Place>,
    /// May not.
    pinned: HashMap<Name, Place>,
    /// What is to be pinned when it comes.
    wanted: HashSet<Name>,
    /// On their way to a slot.
    writing: HashSet<Name>,
    stamp: u32,
    /// So that two processes do not fill the same slots in the same order.
    turn: u32,
}

/// Blocks and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) blocks: u64,
    pub(super) bytes: u64,
}

impl Index {
    pub(super) fn new(wanted: HashSet<Name>, turn: u32) -> Self {
        Self {
            owners: Vec::new(),
            vacant: VecDeque::new(),
            loose: LruCache::unbounded(),
            pinned: HashMap::new(),
            wanted,
            writing: HashSet::new(),
            stamp: 0,
            turn,
        }
    }

    pub(super) fn capacity(&self) -> u32 {
        u32::try_from(self.owners.len()).unwrap_or(u32::MAX)
    }

    fn owner(&mut self, slot: u32) -> Option<&mut Option<Name>> {
        self.owners.get_mut(slot as usize)
    }

    fn place(&self, name: Name) -> Option<&Place> {
        self.pinned.get(&name).or_else(|| self.loose.peek(&name))
    }

    pub(super) fn holds(&self, name: Name) -> bool {
        self.place(name).is_some()
    }

    /// Where a block is, for use; and whether the use should be noted on disk: when it was not for half a turn of
    /// the whole cache.
    pub(super) fn get(&mut self, name: Name) -> Option<(Place, bool)> {
        let capacity = self.capacity();
        let place = self.pinned.get(&name).or_else(|| self.loose.get(&name))?;
        let half = (capacity / 2).max(64);
        Some((*place, self.stamp.wrapping_sub(place.stamp) > half))
    }

    /// Notes the use of a block that is still where it was: what to write to its record.
    pub(super) fn used(&mut self, name: Name, place: Place) -> Option<Record> {
        let stamp = self.next_stamp();
        let held = match self.pinned.get_mut(&name) {
            Some(held) => held,
            None => self.loose.peek_mut(&name)?,
        };
        if *held != place {
            return None;
        }
        held.stamp = stamp;
        Some(held.record(name))
    }

    fn next_stamp(&mut self) -> u32 {
        self.stamp = self.stamp.wrapping_add(1);
        self.stamp
    }

    /// Begins to write a block, unless it is there or on its way: its stamp.
    pub(super) fn begin(&mut self, name: Name) -> Option<u32> {
        (!self.holds(name) && self.writing.insert(name)).then(|| self.next_stamp())
    }

    /// Ends it; `place` where it was written.
    pub(super) fn end(&mut self, name: Name, place: Option<Place>) {
        self.writing.remove(&name);
        if let Some(place) = place {
            self.insert(name, place);
        }
    }

    /// An empty slot.
    pub(super) fn vacant(&mut self) -> Option<Vacant> {
        loop {
            let vacant = self.vacant.pop_front()?;
            if self.owner(vacant.slot).is_some_and(|owner| owner.is_none()) {
                return Some(vacant);
            }
        }
    }

    /// The slot of the block that was not used for longest.
    pub(super) fn evict(&mut self) -> Option<Vacant> {
        let (name, place) = self.loose.pop_lru()?;
        self.disown(place.slot);
        Some(Vacant { slot: place.slot, known: Some(place.record(name)) })
    }

    /// Takes a slot back that was not written to, or has no owner any more.
    pub(super) fn give_back(&mut self, vacant: Vacant) {
        if vacant.slot < self.capacity() {
            self.vacant.push_back(vacant);
        }
    }

    fn disown(&mut self, slot: u32) {
        if let Some(owner) = self.owner(slot) {
            *owner = None;
        }
    }

    fn insert(&mut self, name: Name, place: Place) {
        let Some(owner) = self.owner(place.slot) else { return };
        let before = owner.replace(name).filter(|before| *before != name);
        if let Some(before) = before {
            self.pinned.remove(&before).or_else(|| self.loose.pop(&before));
        }
        let pinned = self.wanted.contains(&name);
        let old = if pinned { self.pinned.insert(name, place) } else { self.loose.put(name, place) };
        if let Some(old) = old.filter(|old| old.slot != place.slot) {
            self.disown(old.slot);
            self.give_back(Vacant { slot: old.slot, known: Some(old.record(name)) });
        }
    }

    /// Believes what the table says of a slot: one that another process told of, that was taken to write to, or that
    /// did not hold what was believed.
    pub(super) fn learn(&mut self, slot: u32, record: Option<&Record>) {
        let Some(owner) = self.owner(slot) else { return };
        let before = *owner;
        let Some(record) = record else {
            // One without an owner is known to be empty, or in somebody's hand.
            if before.and_then(|before| self.remove(before)).is_some() {
                self.give_back(Vacant { slot, known: None });
            }
            return;
        };
        self.see(record.stamp);
        let place = Place::of(slot, record);
        if before == Some(record.name) {
            // What is known keeps its place in the order of use.
            if self.place(record.name).is_none_or(|held| held.sum != place.sum) {
                self.insert(record.name, place);
            }
            return;
        }
        if let Some(before) = before {
            self.remove(before);
        }
        // Of two slots with one block every process must forget the same one.
        match self.place(record.name) {
            Some(held) if (held.stamp, held.slot) > (place.stamp, slot) => {
                self.give_back(Vacant { slot, known: Some(*record) });
            }
            _ => self.insert(record.name, place),
        }
    }

    fn see(&mut self, stamp: u32) {
        // Half the circle ahead is ahead.
        if stamp.wrapping_sub(self.stamp) < u32::MAX / 2 {
            self.stamp = stamp;
        }
    }

    /// Forgets a block, where it still is at `place`.
    pub(super) fn remove_at(&mut self, name: Name, place: Place) -> bool {
        self.place(name).is_some_and(|held| held.slot == place.slot && held.sum == place.sum)
            && self.remove(name).is_some()
    }

    /// Forgets a block: its slot is in the caller's hand.
    pub(super) fn remove(&mut self, name: Name) -> Option<Place> {
        let place = self.pinned.remove(&name).or_else(|| self.loose.pop(&name))?;
        self.disown(place.slot);
        Some(place)
    }

    /// Names it holds in a range of blocks of one blob; `first` is the first of them.
    pub(super) fn held_in(&self, first: Name, count: u32) -> Vec<Name> {
        let end = first.block.saturating_add(count);
        let at = |block| Name { block, ..first };
        if (count as usize) < self.loose.len() + self.pinned.len() {
            return (first.block..end).map(at).filter(|name| self.holds(*name)).collect();
        }
        let all = self.pinned.keys().chain(self.loose.iter().map(|(name, _)| name));
        all.filter(|n| at(n.block) == **n && (first.block..end).contains(&n.block)).copied().collect()
    }

    /// Takes slots in that are new, by the order of their stamps. Ignored where they do not follow those there are.
    pub(super) fn extend(&mut self, mut records: Vec<(u32, Option<Record>)>) {
        if records.first().is_none_or(|(slot, _)| *slot != self.capacity()) {
            return;
        }
        self.owners.resize(self.owners.len() + records.len(), None);
        let newest = records.iter().filter_map(|(_, r)| r.map(|r| r.stamp)).max().unwrap_or(0);
        self.see(newest);
        records.sort_unstable_by_key(|(slot, r)| (r.map_or(0, |r| r.stamp), *slot));
        if let Some(slots) = NonZeroUsize::new(records.len()).filter(|_| self.loose.is_empty()) {
            // Room for all at once: an opening is mostly this table.
            self.loose = LruCache::new(slots);
            self.loose.resize(NonZeroUsize::MAX);
        }
        let vacant_before = self.vacant.len();
        for (slot, record) in records {
            match record {
                None => self.vacant.push_back(Vacant { slot, known: None }),
                Some(record) => self.insert(record.name, Place::of(slot, &record)),
            }
        }
        let new = self.vacant.len() - vacant_before;
        if new > 0 && vacant_before == 0 {
            self.vacant.rotate_left(self.turn as usize % new);
        }
    }

    /// Forgets all slots from `capacity` on.
    pub(super) fn cut(&mut self, capacity: u32) {
        if capacity >= self.capacity() {
            return;
        }
        self.owners.truncate(capacity as usize);
        self.vacant.retain(|v| v.slot < capacity);
        self.pinned.retain(|_, p| p.slot < capacity);
        self.loose.retain(|_, p| p.slot < capacity);
    }

    /// Pinned blocks in slots from `to` on, and as many slots below as there are to move them to.
    pub(super) fn moves_below(&mut self, to: u32) -> Vec<(Name, Place, Vacant)> {
        let high: Vec<_> = self.pinned.iter().filter(|(_, p)| p.slot >= to).map(|(n, p)| (*n, *p)).collect();
        let mut low = Vec::with_capacity(high.len());
        while low.len() < high.len() {
            let empty =
                |v: &Vacant| v.slot < to && self.owners.get(v.slot as usize).is_some_and(Option::is_none);
            let Some(at) = self.vacant.iter().position(empty) else { break };
            low.extend(self.vacant.remove(at));
        }
        let missing = high.len() - low.len();
        let evicted: Vec<Name> =
            self.loose.iter().rev().filter(|(_, p)| p.slot < to).map(|(n, _)| *n).take(missing).collect();
        for name in evicted {
            let place = self.remove(name);
            low.extend(place.map(|p| Vacant { slot: p.slot, known: Some(p.record(name)) }));
        }
        high.into_iter().zip(low).map(|((name, place), vacant)| (name, place, vacant)).collect()
    }

    /// All names that are not pinned.
    pub(super) fn loose_names(&mut self) -> Vec<Name> {
        self.loose.iter().map(|(name, _)| *name).collect()
    }

    /// A pinned block was moved.
    pub(super) fn moved(&mut self, name: Name, from: Place, to: Place) {
        if self.remove_at(name, from) {
            self.insert(name, to);
        }
    }

    /// Says anew what is to be pinned.
    pub(super) fn want(&mut self, wanted: HashSet<Name>) {
        self.wanted = wanted;
        let unpinned: Vec<_> = self.pinned.extract_if(|name, _| !self.wanted.contains(name)).collect();
        for (name, place) in unpinned {
            self.loose.put(name, place);
        }
        for name in &self.wanted {
            if let Some(place) = self.loose.pop(name) {
                self.pinned.insert(*name, place);
            }
        }
    }

    /// All it holds, and what of it is pinned.
    pub(super) fn count(&self) -> (Count, Count) {
        let count = |places: &mut dyn Iterator<Item = &Place>| {
            places.fold(Count::default(), |c, p| Count {
                blocks: c.blocks + 1,
                bytes: c.bytes + u64::from(p.len),
            })
        };
        let pinned = count(&mut self.pinned.values());
        let loose = count(&mut self.loose.iter().map(|(_, place)| place));
        (Count { blocks: pinned.blocks + loose.blocks, bytes: pinned.bytes + loose.bytes }, pinned)
    }
}
