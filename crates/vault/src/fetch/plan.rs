//! Which bytes to open before they are asked for. Pure: reads in, ranges out.
//!
//! **What it is.** A cursor per place of a file that is read in order, followed after two adjacent reads, with a
//! window that grows while reading goes on. Twice in use: for what is opened ahead, and, with far larger
//! windows, for what is fetched ahead across a network.
//! **What it may not do.** Fetch, wait, read a clock. **What always holds.** The table is bounded.
//! **Where it is tested.** Below.

use backupengine_model::NodeId;
use std::collections::VecDeque;

/// How far to look ahead.
#[derive(Clone, Copy)]
pub(crate) struct Windows {
    /// First window in bytes: a random read that looks like the start of a stream costs no more than this.
    pub(crate) first: u64,
    /// What it grows by each time half of it is used.
    pub(crate) growth: u64,
    /// Largest window in bytes.
    pub(crate) most: u64,
    /// So much is asked for at once, in bytes, where half a window is more: what comes in between keeps the line busy.
    pub(crate) step: u64,
    /// Whether a read of the beginning is followed at once, by so many times what it asked for where the first window is
    /// less; 0 is no. Most who read the beginning go on, and who asks for much at once means to.
    pub(crate) from_start: u64,
}

/// What is opened ahead.
pub(crate) const OPENED: Windows =
    Windows { first: 256 << 10, growth: 2, most: 8 << 20, step: 4 << 20, from_start: 0 };
/// What is fetched ahead across a network: up to what is on its way on a fast and far link.
pub(crate) const FETCHED: Windows =
    Windows { first: 2 << 20, growth: 8, most: 64 << 20, step: 4 << 20, from_start: 16 };

/// How far from the expected place a read may be and still go on with it: kernels ask for neighbouring
/// ranges from several threads at once, in any order.
const SLACK: u64 = 1 << 20;
/// Cursors that are remembered, over all files.
const CURSORS: usize = 64;

/// A range of a file to open ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ahead {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The cursor that asks for it.
    cursor: u64,
}

struct Cursor {
    number: u64,
    file: NodeId,
    /// Where the next read is expected.
    next: u64,
    confirmed: bool,
    window: u64,
    /// Everything before this was asked for already.
    ahead: u64,
}

/// All places that are being read in order; the one read last stands last.
pub(crate) struct Cursors {
    table: VecDeque<Cursor>,
    windows: Windows,
    budget: u64,
    /// Cursors there were so far.
    count: u64,
}

impl Cursors {
    /// `budget` is what may lie ready and unread, over all cursors, in bytes.
    pub(crate) fn new(windows: Windows, budget: u64) -> Self {
        Self { table: VecDeque::with_capacity(CURSORS), windows, budget, count: 0 }
    }

    /// Notes a read of `len` bytes at `offset` of a file of `size` bytes and says what to open ahead.
    pub(crate) fn read(&mut self, file: NodeId, offset: u64, len: u64, size: u64) -> Option<Ahead> {
        let end = offset.saturating_add(len).min(size);
        let found = self.table.iter().rposition(|cursor| cursor.file == file && cursor.goes_on(offset, end));
        let mut cursor = match found.and_then(|at| self.table.remove(at)) {
            Some(cursor) => cursor,
            None => {
                if self.table.len() == CURSORS {
                    self.table.pop_front();
                }
                let Windows { first, from_start, most, .. } = self.windows;
                let follow = from_start > 0 && offset == 0 && end < size;
                let window = if follow { first.max(len.saturating_mul(from_start)).min(most) } else { first };
                self.count += 1;
                let fresh =
                    Cursor { number: self.count, file, next: end, confirmed: false, window, ahead: 0 };
                if !follow {
                    self.table.push_back(fresh);
                    return None;
                }
                fresh
            }
        };
        cursor.confirmed = true;
        cursor.next = cursor.next.max(end);
        // What is opened for one stream must not push out what was opened for another.
        let streams = 1 + self.table.iter().filter(|cursor| cursor.confirmed).count() as u64;
        let wanted = cursor.advance(size, self.budget / streams, &self.windows);
        // A stream that reached the end is over.
        if cursor.next < size {
            self.table.push_back(cursor);
        }
        wanted
    }

    /// Takes back what could not be begun: everything from `at` on that was handed out.
    pub(crate) fn fell_short(&mut self, ahead: &Ahead, at: u64) {
        // Not the one of this file that was used last: another thread may have read elsewhere in between.
        if let Some(cursor) = self.table.iter_mut().rev().find(|cursor| cursor.number == ahead.cursor) {
            cursor.ahead = cursor.ahead.min(at);
        }
    }
}

impl Cursor {
    fn goes_on(&self, offset: u64, end: u64) -> bool {
        let near = offset <= self.next.saturating_add(SLACK) && self.next <= end.saturating_add(SLACK);
        if self.confirmed { near } else { offset == self.next }
    }

    fn advance(&mut self, size: u64, share: u64, windows: &Windows) -> Option<Ahead> {
        let window = self.window.min(share);
        let from = self.ahead.max(self.next);
        let to = self.next.saturating_add(window).min(size);
        // Refilled when half is used up, so that a stream is never waited for at a border.
        let used_up = to.saturating_sub(from) >= (window / 2).min(windows.step) || (to == size && from < to);
        if !used_up || from >= to {
            return None;
        }
        self.ahead = to;
        self.window = (self.window * windows.growth).min(windows.most);
        Some(Ahead { from, to, cursor: self.number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::SessionNo;

    const K: u64 = 1 << 10;
    const SIZE: u64 = 1 << 30;
    const BUDGET: u64 = 16 << 20;

    fn range(ahead: Ahead) -> (u64, u64) {
        (ahead.from, ahead.to)
    }

    fn file(place: u32) -> NodeId {
        NodeId { session: SessionNo(1), place }
    }

    #[test]
    fn a_stream_is_followed_with_a_growing_window() {
        let mut cursors = Cursors::new(OPENED, BUDGET);
        assert_eq!(cursors.read(file(1), 0, 128 * K, SIZE), None);
        let mut ahead = 0;
        let mut largest = 0;
        for read in 1..1024 {
            if let Some(range) = cursors.read(file(1), read * 128 * K, 128 * K, SIZE) {
                let next = (read + 1) * 128 * K;
                assert!(range.from >= ahead && range.from >= next, "nothing is asked for twice");
                assert!(range.to > range.from && range.to <= next + OPENED.most);
                ahead = range.to;
                largest = largest.max(range.to - next);
            }
            assert!(read < 2 || ahead >= (read + 1) * 128 * K, "the stream ran into an unopened range");
        }
        assert_eq!(largest, OPENED.most);
    }

    /// Half of a large window asked for at once would let the line run dry in between.
    #[test]
    fn a_large_window_is_refilled_in_steps() {
        const M: u64 = 1 << 20;
        let mut cursors = Cursors::new(FETCHED, FETCHED.most);
        let (mut ahead, mut asked) = (0, 0);
        for read in 0..512 {
            let end = (read + 1) * M;
            if let Some(range) = cursors.read(file(1), read * M, M, SIZE) {
                assert!(range.from >= ahead && range.to > range.from);
                ahead = range.to;
                asked += 1;
            }
            let least = if read < 4 { 0 } else { FETCHED.most - FETCHED.step };
            assert!(ahead - end >= least && ahead - end <= FETCHED.most, "{read}: {}", ahead - end);
        }
        assert!((512 / 4..512 / 3).contains(&asked), "{asked}");
    }

    #[test]
    fn who_asks_for_much_of_the_beginning_is_followed_further() {
        for (len, window) in [
            (4 * K, 2048 * K),
            (128 * K, 2048 * K),
            (256 * K, 4096 * K),
            (1024 * K, 16_384 * K),
            (SIZE, FETCHED.most),
        ] {
            let mut cursors = Cursors::new(FETCHED, FETCHED.most);
            let ahead = cursors.read(file(1), 0, len, 2 * SIZE);
            assert_eq!(ahead.map(range), Some((len, len + window)));
            // Not what begins elsewhere, and not what is at its end already.
            let mut cursors = Cursors::new(FETCHED, FETCHED.most);
            assert_eq!(cursors.read(file(1), 4 * K, len, 2 * SIZE), None);
            assert_eq!(cursors.read(file(2), 0, len, len), None);
        }
    }

    #[test]
    fn random_reads_ask_for_nothing() {
        let mut cursors = Cursors::new(OPENED, BUDGET);
        let mut place = 1;
        for _ in 0..1000 {
            place = place * 48_271 % 0x7fff_ffff;
            assert_eq!(cursors.read(file(1), place * 4096 % SIZE, 4096, SIZE), None);
        }
        assert!(cursors.table.len() <= CURSORS);
    }

    #[test]
    fn two_streams_in_one_file_and_swapped_reads_are_followed() {
        let mut cursors = Cursors::new(OPENED, BUDGET);
        let (mut low, mut high) = (0, 0);
        for read in 0..64 {
            // Two threads of the kernel swap neighbouring reads.
            let swapped = read ^ 1;
            low += cursors.read(file(1), swapped * 128 * K, 128 * K, SIZE).map_or(0, |a| a.to - a.from);
            let far = SIZE / 2 + read * 128 * K;
            high += cursors.read(file(1), far, 128 * K, SIZE).map_or(0, |a| a.to - a.from);
        }
        assert!(low > 6 << 20 && high > 6 << 20, "{low} {high}");
    }

    #[test]
    fn many_streams_share_the_budget() {
        let mut cursors = Cursors::new(OPENED, BUDGET);
        for read in 0..200 {
            for stream in 0..40 {
                let range = cursors.read(file(stream), read * 128 * K, 128 * K, SIZE);
                let far = range.map_or(0, |range| range.to - (read + 1) * 128 * K);
                assert!(far <= if read < 2 { BUDGET } else { BUDGET / 40 }, "{read} {stream}");
            }
        }
        // Streams that end make room again.
        for stream in 1..40 {
            cursors.read(file(stream), 200 * 128 * K, 128 * K, 201 * 128 * K);
        }
        let mut far = 0;
        for read in 200..400 {
            let range = cursors.read(file(0), read * 128 * K, 128 * K, SIZE);
            far = far.max(range.map_or(0, |range| range.to - (read + 1) * 128 * K));
        }
        assert_eq!(far, OPENED.most);
    }

    #[test]
    fn the_end_of_a_file_and_a_refusal_are_minded() {
        let mut cursors = Cursors::new(OPENED, BUDGET);
        let size = 300 * K;
        cursors.read(file(1), 0, 100 * K, size);
        let ahead = cursors.read(file(1), 100 * K, 100 * K, size);
        assert_eq!(ahead.map(range), Some((200 * K, size)));
        assert_eq!(cursors.read(file(1), 200 * K, 100 * K, size), None);
        cursors.read(file(2), 0, 100 * K, SIZE);
        let ahead = cursors.read(file(2), 100 * K, 100 * K, SIZE).unwrap();
        // Somebody reads elsewhere in the same file meanwhile.
        cursors.read(file(2), SIZE / 2, 100 * K, SIZE);
        cursors.fell_short(&ahead, ahead.from);
        let again = cursors.read(file(2), 200 * K, 100 * K, SIZE).unwrap();
        assert_eq!(again.from, 300 * K);
    }

    /// Threads of the kernel swap neighbouring reads, however long these are; and what is asked for falls short at times. No
    /// byte of the stream may be left out: whoever came to it would wait a round trip for each read.
    #[test]
    fn nothing_of_a_stream_is_left_out() {
        const M: u64 = 1 << 20;
        let mut cursors = Cursors::new(FETCHED, FETCHED.most);
        cursors.read(file(1), 0, M, SIZE);
        let mut asked = vec![false; 512];
        for read in 0..400_u64 {
            let place = 1 + (read ^ 1);
            if read > 100 {
                assert!(asked[place as usize], "{place}");
            }
            if let Some(ahead) = cursors.read(file(1), place * M, M, SIZE) {
                let to = if read % 3 == 0 { ahead.from + (ahead.to - ahead.from) / 2 } else { ahead.to };
                asked[(ahead.from / M) as usize..to.div_ceil(M) as usize].fill(true);
                if to < ahead.to {
                    cursors.fell_short(&ahead, to);
                }
            }
            assert_eq!(cursors.table.len(), 1);
        }
    }
}
