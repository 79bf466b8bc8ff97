//! Until when the calling thread waits for the store.
//!
//! **What it is.** Whoever asks a port of this crate waits on their own thread, through every layer down to the store; so
//! the time they have goes with the thread and not with each call on the way.
//! **What it may not do.** End what is on its way: others may want it, and who asks again finds it come.
//! **What always holds.** Within a wait that is bounded none begins that is bounded later.
//! **Where it is tested.** Below; in `tests::far`, and by a mount whose store is silent in `tests/cli`.

use backupengine_store::{ErrorKind, StoreError};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// A moment, and the limit it came from.
type Bound = (Instant, Duration);

thread_local! {
    static UNTIL: Cell<Option<Bound>> = const { Cell::new(None) };
}

/// While this lives, the thread that made it waits no longer than was said.
pub(crate) struct Within {
    before: Option<Bound>,
}

/// Bounds what the calling thread waits from now on; `None` leaves it as it is.
pub(crate) fn within(limit: Option<Duration>) -> Within {
    let before = UNTIL.get();
    // A limit beyond the end of the clock is none.
    let own = limit.and_then(|limit| Some((Instant::now().checked_add(limit)?, limit)));
    UNTIL.set(before.into_iter().chain(own).min());
    Within { before }
}

impl Drop for Within {
    fn drop(&mut self) {
        UNTIL.set(self.before);
    }
}

/// When the calling thread gives up.
pub(crate) fn until() -> Option<Instant> {
    UNTIL.get().map(|(until, _)| until)
}

/// When the calling thread gives up what was asked for at `asked`. Whoever comes late to an answer that did not come
/// all that time waits a tenth of it: the kernel asks a second time for what failed, and a person shall not wait twice.
pub(crate) fn until_of(asked: Option<Instant>) -> Option<Instant> {
    let (until, limit) = UNTIL.get()?;
    let Some(asked) = asked else { return Some(until) };
    Some(until.min((asked + limit).max(Instant::now() + limit / 10)))
}

/// What is said when that time is over.
pub(crate) fn passed() -> StoreError {
    let seconds = UNTIL.get().map_or(0.0, |(_, limit)| limit.as_secs_f64());
    StoreError::new(ErrorKind::TimedOut, format!("no answer within {seconds} s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn the_nearest_bound_counts_and_ends_with_its_guard() {
        assert_eq!(until(), None);
        let outer = within(Some(HOUR));
        let first = until().unwrap();
        let inner = within(Some(HOUR * 2));
        assert_eq!(until(), Some(first));
        drop(inner);
        let inner = within(Some(Duration::from_secs(1)));
        assert!(until().unwrap() < first);
        assert!(passed().to_string().contains("within 1 s"), "{}", passed());
        drop(inner);
        drop(within(None));
        drop(within(Some(Duration::MAX)));
        assert_eq!(until(), Some(first));
        drop(outer);
        assert_eq!(until(), None);
    }

    #[test]
    fn who_comes_late_to_an_answer_that_does_not_come_waits_a_tenth() {
        assert_eq!(until_of(Some(Instant::now())), None);
        let _bound = within(Some(HOUR));
        let now = Instant::now();
        assert_eq!(until_of(None), until());
        assert_eq!(until_of(Some(now + HOUR)), until());
        assert_eq!(until_of(now.checked_sub(HOUR / 2)), now.checked_add(HOUR / 2));
        let late = until_of(now.checked_sub(HOUR)).unwrap();
        assert!((now + HOUR / 10..now + HOUR / 9).contains(&late));
    }
}
