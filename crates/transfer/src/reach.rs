//! Since when somebody across the network does not answer, for a person who asks why nothing comes.
//!
//! May not decide whether to try again. What always holds: it is the first failure after the last answer. Tested below.
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Reach(Mutex<Option<Instant>>);

impl Reach {
    /// Notes how a try went.
    pub(crate) fn learn(&self, answered: bool) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since = if answered { None } else { since.or_else(|| Some(Instant::now())) };
    }

    /// When it first failed; `None` while it answers.
    pub(crate) fn away_since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_first_failure_after_the_last_answer() {
        let reach = Reach::default();
        assert_eq!(reach.away_since(), None);
        reach.learn(false);
        let first = reach.away_since();
        assert!(first.is_some());
        reach.learn(false);
        assert_eq!(reach.away_since(), first);
        reach.learn(true);
        assert_eq!(reach.away_since(), None);
    }
}
