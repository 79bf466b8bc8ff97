//! Reading files one after the other: which come next.
//!
//! Pure bookkeeping of a few numbers. What always holds: only a reader that went forward file by file gets
//! files opened ahead; one that jumps about costs nothing. The reader below decides what a hint is worth;
//! this is also the place for something more adaptive.

use backupengine_model::{NodeId, SessionNo};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Readers followed at once: two copies and a search, say.
const CURSORS: usize = 4;
/// How far the next file may lie behind the last: between them lie links, empty files and the skipped.
const STRIDE: u32 = 8;
/// Files in order before anything is opened ahead.
const SURE: u32 = 3;
/// How many files are hinted at.
const WINDOW: u32 = 128;

#[derive(Clone, Copy)]
struct Cursor {
    session: SessionNo,
    /// The file last begun.
    last: u32,
    /// Files begun in order up to it.
    run: u32,
    /// Up to where hints were given.
    hinted: u32,
}

/// Follows who reads files in the order of the snapshot.
#[derive(Default)]
pub(crate) struct Ahead(Mutex<Vec<Cursor>>);

impl Ahead {
    /// Notes that a file is read from its beginning; the places that are likely to be read next and were not
    /// named before.
    pub(crate) fn begun(&self, id: NodeId) -> Option<Range<u32>> {
        let mut cursors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let follows = |c: &Cursor| {
            c.session == id.session && (c.last..=c.last.saturating_add(STRIDE)).contains(&id.place)
        };
        let mut cursor = match cursors.iter().position(follows) {
            Some(at) => cursors.remove(at),
            None => Cursor { session: id.session, last: id.place, run: 0, hinted: id.place },
        };
        // The same file once more is neither a step nor a jump.
        cursor.run = cursor.run.saturating_add(u32::from(id.place > cursor.last));
        cursor.last = id.place;
        let mut hint = None;
        if cursor.run >= SURE && cursor.hinted <= id.place.saturating_add(WINDOW / 2) {
            let from = cursor.hinted.max(id.place).saturating_add(1);
            let to = id.place.saturating_add(WINDOW + 1);
            cursor.hinted = to - 1;
            hint = Some(from..to);
        }
        // The one used last stands last; the longest unused makes room.
        if cursors.len() == CURSORS {
            cursors.remove(0);
        }
        cursors.push(cursor);
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(session: u32, place: u32) -> NodeId {
        NodeId { session: SessionNo(session), place }
    }

    #[test]
    fn a_reader_in_order_is_led_and_no_place_is_named_twice() {
        let ahead = Ahead::default();
        let mut named = Vec::new();
        for place in (10..200).step_by(2) {
            let hint = ahead.begun(id(1, place));
            if let Some(hint) = hint {
                assert!(hint.start > place && hint.end - 1 <= place + WINDOW);
                named.extend(hint);
            }
        }
        let expected: Vec<u32> = (17..=named.last().copied().unwrap()).collect();
        assert_eq!(named, expected);
        assert!(named.len() > 180);
    }

    #[test]
    fn hints_come_in_lots_and_half_a_window_early() {
        let ahead = Ahead::default();
        let hints: Vec<_> =
            (10..2000).filter_map(|place| Some((place, ahead.begun(id(1, place))?))).collect();
        assert_eq!(hints[0], (13, 14..13 + WINDOW + 1));
        let mut end = hints[0].1.end;
        for (place, hint) in &hints[1..] {
            assert_eq!((hint.start, hint.end), (end, place + WINDOW + 1));
            assert_eq!(hint.start - 1 - place, WINDOW / 2, "what was hinted at and is not yet read");
            end = hint.end;
        }
    }

    #[test]
    fn a_reader_that_jumps_gets_nothing() {
        let ahead = Ahead::default();
        assert!((0..100).all(|step| ahead.begun(id(1, (step * 37) % 101 * 20)).is_none()));
        assert!((0..100).all(|_| ahead.begun(id(1, 7)).is_none()), "one file again and again");
    }

    #[test]
    fn several_readers_are_followed_at_once() {
        let ahead = Ahead::default();
        let mut hints = [0; 3];
        for step in 0..150 {
            for (reader, count) in hints.iter_mut().enumerate() {
                *count += u32::from(ahead.begun(id(1 + reader as u32, 1000 + step)).is_some());
            }
        }
        assert!(hints.iter().all(|&count| count > 1), "{hints:?}");
        let edge = Ahead::default();
        for place in u32::MAX - 10..=u32::MAX {
            if let Some(hint) = edge.begun(id(1, place)) {
                assert!(hint.start > place || hint.is_empty());
            }
        }
    }
}
