//! Waiting between tries: doubled each time, with jitter, so that many clients do not come back at once.
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// How long to wait before try number `tries` (the first repetition is 1): between half and all of the doubled
/// time, and at least what the server asked for.
pub(crate) fn pause(tries: u32, asked: Option<Duration>) -> Duration {
    let full = FIRST.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(LONGEST);
    let mut byte = [0; 1];
    // Without randomness the pause is merely not spread.
    getrandom::fill(&mut byte).ok();
    let part = full / 2 + full * u32::from(byte[0]) / 512;
    part.max(asked.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_mind_what_was_asked() {
        for tries in 1..40 {
            let pause = pause(tries, None);
            assert!(pause >= FIRST / 2 && pause <= LONGEST);
            assert!(tries < 8 || pause >= LONGEST / 2);
        }
        assert_eq!(pause(1, Some(Duration::from_secs(9))), Duration::from_secs(9));
    }
}
