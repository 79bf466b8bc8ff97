//! The last reasons for answering "damaged", so that a person can ask for them.
//!
//! What always holds: a bounded number is kept; the oldest goes first.

use crate::Ino;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// How many inodes a reason is kept for.
const MOST: usize = 256;

#[derive(Default)]
pub(crate) struct Reasons(Mutex<VecDeque<(Ino, Arc<str>)>>);

impl Reasons {
    pub(crate) fn keep(&self, ino: Ino, reason: Arc<str>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(other, _)| *other != ino);
        if kept.len() == MOST {
            kept.pop_front();
        }
        kept.push_back((ino, reason));
    }

    pub(crate) fn of(&self, ino: Ino) -> Option<Arc<str>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(other, _)| *other == ino).map(|(_, reason)| reason.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_reason_is_kept_and_their_number_is_bounded() {
        let reasons = Reasons::default();
        for number in 0..1000 {
            reasons.keep(Ino(7), "seven".into());
            reasons.keep(Ino(1000 + number), "other".into());
        }
        reasons.keep(Ino(7), "seven again".into());
        assert_eq!(reasons.of(Ino(7)).as_deref(), Some("seven again"));
        assert_eq!(reasons.of(Ino(1000)), None);
        assert_eq!(reasons.0.lock().unwrap().len(), MOST);
    }
}
