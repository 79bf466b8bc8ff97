//! Which blocks to fetch before they are asked for, judged by where in the packs reading goes on. Pure.
//!
//! **What it is.** Two rules, for each pack. Reading *in order* is followed with a window that grows while it
//! goes on, for some cursors a pack. Reading *here and there* among pages and small files is met like a choice
//! between renting and buying: each miss costs a round trip, so each miss allows to fetch as many further bytes of
//! the pack as come in a few round trips; where much of a pack is read, all of it soon is there, and where
//! little is, little was wasted. Random reads of large files buy nothing.
//! **What it may not do.** Fetch, wait, read a clock. **What always holds.** No block is named twice while it is
//! remembered; the table is bounded; a pack whose blocks were named, lost and missed again buys no more.
//! **Where it is tested.** Below; by counts in `tests/oracle`.
//!
//! *Source.* Renting and buying: Karlin, Manasse, Rudolph and Sleator, "Competitive snoopy caching",
//! Algorithmica 3 (1988).

use super::link::Link;
use backupengine_store::BlobKey;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// Packs that are remembered.
const PACKS: usize = 128;
/// Places in one pack where reading goes on in order.
const CURSORS: usize = 4;
/// How far from the expected block a read may be and still go on with it, in blocks.
const SLACK: u32 = 16;
/// First window and what it grows by each time it is half used, in blocks; largest window.
const WINDOW_MIN: u32 = 16;
const GROWTH: u32 = 4;
const WINDOW_MAX: u32 = 512;
/// No window is longer than what comes in this time.
const WINDOW_TIME: Duration = Duration::from_millis(700);
/// Bytes that one miss buys, in round trips' worth, and the bounds of that.
const BOUGHT_TRIPS: u32 = 4;
const BOUGHT_MAX: u64 = 16 << 20;
/// Of a pack whose length is not known yet, at most so many blocks are named at once.
const BLINDLY: u32 = 32;

/// What is read, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A page: its neighbours are likely to be wanted.
    Page,
    /// A bundle of small files: so are its neighbours.
    Small,
    /// A piece of a large file: only what follows it, if anything.
    Large,
}

/// A read of blocks.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) blob: BlobKey,
    pub(crate) blocks: Range<u32>,
    pub(crate) class: Class,
    /// Whether it has to wait for the store.
    pub(crate) missed: bool,
    /// Length of the blob in blocks, where it is known.
    pub(crate) total: Option<u32>,
}

#[derive(Clone, Copy)]
struct Cursor {
    next: u32,
    /// Everything before this was named.
    ahead: u32,
    window: u32,
    steps: u32,
}

struct Pack {
    blob: BlobKey,
    named: Bits,
    /// Named, and not read since.
    unread: Bits,
    cursors: VecDeque<Cursor>,
    misses: u64,
    /// Blocks bought so far.
    bought: u64,
    /// A named block was missed: what is fetched ahead does not stay until it is read.
    lost: bool,
}

/// The packs that are being read; the one read last stands last.
#[derive(Default)]
pub(crate) struct Rent {
    packs: VecDeque<Pack>,
}

impl Rent {
    /// Notes a read and says which blocks of the same pack to fetch ahead, nearest first: at most `room` blocks now,
    /// and no window longer than the `stay` blocks that stay until they are read.
    pub(crate) fn read(
        &mut self,
        access: &Access,
        link: &Link,
        block: u64,
        room: u32,
        stay: u32,
    ) -> Vec<Range<u32>> {
        let at = self.packs.iter().rposition(|pack| pack.blob == access.blob);
        let mut pack = at.and_then(|at| self.packs.remove(at)).unwrap_or_else(|| Pack::new(access.blob));
        if access.missed && access.blocks.clone().any(|block| pack.named.get(block)) {
            pack.lost = true;
        }
        for block in access.blocks.clone() {
            pack.named.set(block);
            pack.unread.clear(block);
        }
        let end = access.total.unwrap_or(access.blocks.end.saturating_add(BLINDLY));
        let mut wanted = Vec::new();
        let mut room = room;
        if let Some(window) = pack.follow(&access.blocks, end, link, block, stay) {
            pack.name(window, &mut room, &mut wanted);
        }
        if access.missed && access.class != Class::Large && !pack.lost {
            pack.misses += 1;
            let unit = link.carries(link.round_trip() * BOUGHT_TRIPS).min(BOUGHT_MAX) / block;
            let mut left = (pack.misses * unit).saturating_sub(pack.bought).min(room.into()) as u32;
            let before = left;
            // What follows first: neighbours were written in the order they are usually read.
            pack.name(access.blocks.end..end, &mut left, &mut wanted);
            let near = access.blocks.start.saturating_sub(left);
            pack.name(near..access.blocks.start, &mut left, &mut wanted);
            pack.bought += u64::from(before - left);
        }
        if self.packs.len() == PACKS {
            self.packs.pop_front();
        }
        self.packs.push_back(pack);
        wanted
    }

    /// How many of these blocks were named and not read since: who has to fetch one of them again has lost it.
    pub(crate) fn unread(&self, blob: BlobKey, blocks: Range<u32>) -> u64 {
        let pack = self.packs.iter().rfind(|pack| pack.blob == blob);
        pack.map_or(0, |pack| blocks.filter(|&block| pack.unread.get(block)).count() as u64)
    }

    /// Blocks that were fetched for another reason, or were not fetched after all.
    pub(crate) fn named(&mut self, blob: BlobKey, blocks: Range<u32>, named: bool) {
        if let Some(pack) = self.packs.iter_mut().rfind(|pack| pack.blob == blob) {
            for block in blocks {
                for bits in [&mut pack.named, &mut pack.unread] {
                    if named { bits.set(block) } else { bits.clear(block) }
                }
            }
        }
    }
}

impl Pack {
    fn new(blob: BlobKey) -> Self {
        let (named, unread, cursors) = (Bits::default(), Bits::default(), VecDeque::with_capacity(CURSORS));
        Self { blob, named, unread, cursors, misses: 0, bought: 0, lost: false }
    }

    /// The window to be there now, where the read goes on with one before it.
    fn follow(
        &mut self,
        blocks: &Range<u32>,
        end: u32,
        link: &Link,
        block: u64,
        stay: u32,
    ) -> Option<Range<u32>> {
        let goes_on = |cursor: &Cursor| {
            // Of two neighbours the second may be asked for first, however long they are.
            let (slack, from) = if cursor.steps > 0 { (SLACK, blocks.end) } else { (1, blocks.start) };
            from.saturating_add(slack) >= cursor.next && blocks.start <= cursor.next + slack
        };
        let Some(at) = self.cursors.iter().rposition(goes_on) else {
            if self.cursors.len() == CURSORS {
                self.cursors.pop_front();
            }
            let fresh = Cursor { next: blocks.end, ahead: blocks.end, window: WINDOW_MIN, steps: 0 };
            self.cursors.push_back(fresh);
            return None;
        };
        let mut cursor = self.cursors.remove(at)?;
        // The same blocks once more are no step.
        if blocks.end <= cursor.next {
            self.cursors.push_back(cursor);
            return None;
        }
        cursor.steps += 1;
        cursor.next = blocks.end;
        cursor.ahead = cursor.ahead.max(cursor.next);
        let most = ((link.carries(WINDOW_TIME) / block).clamp(4, WINDOW_MAX.into()) as u32).min(stay.max(1));
        let window = cursor.window.min(most);
        let to = cursor.next.saturating_add(window).min(end);
        let wanted = (to > cursor.ahead && (to - cursor.ahead >= window / 2 || to == end)).then(|| {
            let wanted = cursor.ahead..to;
            cursor.ahead = to;
            cursor.window = (cursor.window * GROWTH).min(WINDOW_MAX);
            wanted
        });
        self.cursors.push_back(cursor);
        wanted
    }

    /// Names what is not named yet of these blocks, as far as `left` goes.
    fn name(&mut self, blocks: Range<u32>, left: &mut u32, out: &mut Vec<Range<u32>>) {
        for block in blocks {
            if *left == 0 {
                return;
            }
            if self.named.get(block) {
                continue;
            }
            self.named.set(block);
            self.unread.set(block);
            *left -= 1;
            match out.last_mut() {
                Some(run) if run.end == block => run.end += 1,
                _ => out.push(block..block + 1),
            }
        }
    }
}

/// A set of small numbers.
#[derive(Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn get(&self, at: u32) -> bool {
        self.0.get(at as usize / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn set(&mut self, at: u32) {
        let word = at as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (at % 64);
    }

    fn clear(&mut self, at: u32) {
        if let Some(word) = self.0.get_mut(at as usize / 64) {
            *word &= !(1 << (at % 64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::SessionNo;

    const BLOCK: u64 = 64 << 10;
    const LEN: u32 = 512;
    const BLOB: BlobKey = BlobKey::Pack(SessionNo(1), 0);

    fn far() -> Link {
        let mut link = Link::default();
        for _ in 0..20 {
            link.landed(BLOCK, Duration::from_millis(41), 0);
            link.landed(1 << 20, Duration::from_millis(51), 0);
        }
        link
    }

    fn slow() -> Link {
        let mut link = Link::default();
        for _ in 0..20 {
            link.landed(BLOCK, Duration::from_millis(564), 0);
            link.landed(4 * BLOCK, Duration::from_millis(2137), 0);
        }
        link
    }

    fn access(blocks: Range<u32>, class: Class, missed: bool) -> Access {
        Access { blob: BLOB, blocks, class, missed, total: Some(LEN) }
    }

    fn count(runs: &[Range<u32>]) -> u32 {
        runs.iter().map(|run| run.end - run.start).sum()
    }

    #[test]
    fn small_files_read_here_and_there_soon_have_their_whole_pack() {
        let (mut rent, link) = (Rent::default(), far());
        let mut there = Bits::default();
        let mut misses = 0;
        for step in 0..200_u32 {
            let at = step * 193 % LEN;
            let missed = !there.get(at);
            misses += u32::from(missed);
            there.set(at);
            for run in rent.read(&access(at..at + 1, Class::Small, missed), &link, BLOCK, 4096, 4096) {
                run.for_each(|block| {
                    assert!(!there.get(block), "named twice");
                    there.set(block);
                });
            }
        }
        assert!(misses <= 4, "{misses} round trips");
    }

    #[test]
    fn a_slow_link_buys_little_and_large_files_nothing() {
        let (mut rent, link) = (Rent::default(), slow());
        let first = rent.read(&access(100..102, Class::Small, true), &link, BLOCK, 4096, 4096);
        assert!(count(&first) <= 64, "{first:?}");
        let (mut rent, link) = (Rent::default(), far());
        for step in 0..200_u32 {
            let at = step * 193 % LEN;
            assert_eq!(rent.read(&access(at..at + 1, Class::Large, true), &link, BLOCK, 4096, 4096), []);
        }
    }

    #[test]
    fn reading_in_order_is_followed_by_a_growing_window_and_never_missed_again() {
        let (mut rent, link) = (Rent::default(), far());
        let mut there = Bits::default();
        let mut largest = 0;
        for at in (0..LEN).step_by(2) {
            let missed = !there.get(at);
            assert!(at < 4 || !missed, "block {at} was waited for");
            there.set(at);
            there.set(at + 1);
            for run in rent.read(&access(at..at + 2, Class::Large, missed), &link, BLOCK, 4096, 4096) {
                largest = largest.max(run.end - at);
                run.for_each(|block| there.set(block));
            }
        }
        assert!(largest > 200, "{largest}");
    }

    #[test]
    fn long_neighbours_that_come_the_wrong_way_round_are_one_stream() {
        let (mut rent, link) = (Rent::default(), far());
        for piece in 0..LEN / 16 - 1 {
            // The first two in order; from then on the second of two comes first.
            let piece = if piece < 2 { piece } else { piece ^ 1 };
            let blocks = piece * 16..(piece + 1) * 16;
            rent.read(&access(blocks, Class::Large, false), &link, BLOCK, 4096, 4096);
        }
        assert_eq!(rent.packs[0].cursors.len(), 1);
    }

    #[test]
    fn what_does_not_stay_is_not_bought_again() {
        let (mut rent, link) = (Rent::default(), far());
        let named = rent.read(&access(100..101, Class::Small, true), &link, BLOCK, 4096, 4096);
        assert!(named.iter().any(|run| run.contains(&110)));
        // That one was named; it is missed all the same.
        assert_eq!(rent.read(&access(110..111, Class::Small, true), &link, BLOCK, 4096, 4096), []);
        assert_eq!(rent.read(&access(300..301, Class::Small, true), &link, BLOCK, 4096, 4096), []);
    }

    #[test]
    fn a_pack_of_unknown_length_is_named_carefully_and_room_is_kept() {
        let (mut rent, link) = (Rent::default(), far());
        let blind = Access { total: None, ..access(5..6, Class::Page, true) };
        let named = rent.read(&blind, &link, BLOCK, 4096, 4096);
        assert!(named.iter().all(|run| run.end <= 6 + BLINDLY));
        assert!(count(&rent.read(&access(200..201, Class::Page, true), &link, BLOCK, 7, 4096)) <= 7);
        for n in 0..1000 {
            let other = Access { blob: BlobKey::Pack(SessionNo(2), n), ..access(0..1, Class::Page, false) };
            rent.read(&other, &link, BLOCK, 4096, 4096);
        }
        assert!(rent.packs.len() <= PACKS);
    }
}
