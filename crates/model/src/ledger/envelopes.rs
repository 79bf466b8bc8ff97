//! Which key envelopes count.
//!
//! **What always holds.** They change all at once, from a set that whoever changes them has looked at: of two changes
//! that began at the same one, one comes through. A vault is never left without any.
//! **Where it is tested.** Below; both ledgers in `tests/stores`.

use super::{LedgerState, RuleBroken};

/// Number of a key envelope.
pub type EnvelopeNo = [u8; 8];

/// Most key envelopes of a vault that count at a time.
pub const ENVELOPES_MAX: usize = 64;

/// A change of the key envelopes that count, all at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvelopesChange<'a> {
    /// Those that count before it, in any order: whoever changes them has looked at them.
    pub expected: &'a [EnvelopeNo],
    /// Those that count after it, in any order.
    pub after: &'a [EnvelopeNo],
}

impl LedgerState {
    /// Changes which key envelopes count; `stored` are all there are, for a vault where they were never changed.
    /// Repeating a change that already happened is no error: the answer may have been lost.
    ///
    /// # Errors
    /// [`RuleBroken::EnvelopesMoved`], [`RuleBroken::EnvelopesOutOfRange`].
    pub fn change_envelopes(
        &mut self,
        stored: &[EnvelopeNo],
        change: &EnvelopesChange<'_>,
    ) -> Result<(), RuleBroken> {
        let now = self.envelopes.clone().unwrap_or_else(|| set_of(stored));
        let after = set_of(change.after);
        if !(1..=ENVELOPES_MAX).contains(&after.len()) {
            return Err(RuleBroken::EnvelopesOutOfRange);
        }
        if now != after && now != set_of(change.expected) {
            return Err(RuleBroken::EnvelopesMoved);
        }
        self.envelopes = Some(after);
        Ok(())
    }
}

fn set_of(numbers: &[EnvelopeNo]) -> Vec<EnvelopeNo> {
    let mut set = numbers.to_vec();
    set.sort_unstable();
    set.dedup();
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_change_once_and_only_for_who_looked() {
        let mut ledger = LedgerState::default();
        let stored = [[2; 8], [1; 8]];
        let change = EnvelopesChange { expected: &[[1; 8], [2; 8]], after: &[[4; 8], [3; 8]] };
        let late = EnvelopesChange { expected: &[[1; 8], [2; 8]], after: &[[5; 8]] };
        for (bad, rule) in [
            (EnvelopesChange { expected: &[[1; 8]], after: &[[3; 8]] }, RuleBroken::EnvelopesMoved),
            (EnvelopesChange { expected: &stored, after: &[] }, RuleBroken::EnvelopesOutOfRange),
            (EnvelopesChange { expected: &stored, after: &many(65) }, RuleBroken::EnvelopesOutOfRange),
        ] {
            assert_eq!(ledger.change_envelopes(&stored, &bad), Err(rule));
            assert_eq!(ledger, LedgerState::default());
        }
        ledger.change_envelopes(&stored, &change).unwrap();
        assert_eq!(ledger.envelopes, Some(vec![[3; 8], [4; 8]]));
        // What is stored beside them does not count any more.
        assert_eq!(ledger.change_envelopes(&stored, &late), Err(RuleBroken::EnvelopesMoved));
        // The answer was lost, and it is asked again.
        ledger.change_envelopes(&stored, &change).unwrap();
        assert_eq!((ledger.envelopes, ledger.version), (Some(vec![[3; 8], [4; 8]]), 0));
    }

    fn many(count: u8) -> Vec<EnvelopeNo> {
        (0..count).map(|n| [n; 8]).collect()
    }
}
