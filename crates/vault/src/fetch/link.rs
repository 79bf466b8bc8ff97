//! What the way to the store is like, from how long its answers took. Pure: durations in, estimates out.
//!
//! **What it is.** Round trip, rate and the time after which an answer is late, over the last answers.
//! **What it may not do.** Read a clock. **What always holds.** Before anything was seen the estimates are
//! modest; one odd answer moves none of them far. **Where it is tested.** Below.

use std::collections::VecDeque;
use std::time::Duration;

/// Answers that are remembered.
const REMEMBERED: usize = 64;
/// Answers before one can be called late.
const ENOUGH: usize = 16;
/// Bytes a second that are assumed before anything was seen: a household's line, 64 Mbit/s.
const RATE_FIRST: f64 = 8e6;
/// No more than this is assumed for a line that was faster last time, 200 Mbit/s: today it may be another one.
const RATE_TRUSTED: f64 = 25e6;
/// Share of a new observation in the rate.
const WEIGHT: f64 = 0.25;
/// Bytes of an answer that says as much of the rate as one can.
const TELLING: f64 = 65_536.0;
/// Nothing is called late before this.
const LATE_MIN: Duration = Duration::from_millis(20);

/// The way to the store.
pub(crate) struct Link {
    /// How many bytes the last answers had, and how long they took.
    took: VecDeque<(u64, Duration)>,
    rate: f64,
    seen: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self { took: VecDeque::with_capacity(REMEMBERED), rate: RATE_FIRST, seen: false }
    }
}

impl Link {
    /// Believes in so many bytes a second until something says better; what was seen stays.
    pub(crate) fn expect(&mut self, pace: u64) {
        if !self.seen {
            self.rate = (pace as f64).min(RATE_TRUSTED);
        }
    }

    /// Bytes a second, where something that says so was seen.
    pub(crate) fn pace(&self) -> Option<u64> {
        self.seen.then_some(self.rate as u64)
    }

    /// Notes an answer of `bytes` bytes that took `took` while `flying` others were under way.
    pub(crate) fn landed(&mut self, bytes: u64, took: Duration, flying: usize) {
        if self.took.len() == REMEMBERED {
            self.took.pop_front();
        }
        self.took.push_back((bytes.max(1), took));
        let seconds = took.as_secs_f64().max(1e-4);
        let beyond = (took.saturating_sub(self.round_trip())).as_secs_f64().max(1e-4);
        // What is beyond a round trip was spent on the bytes; where all answers are alike that is little, and
        // says little: an answer is believed to show an eighth of the rate at least.
        let (alone, believed) = (bytes as f64 / beyond, 8.0 * bytes as f64 / seconds);
        let seen = alone.min(believed) * (flying + 1) as f64;
        let whole = bytes as f64 / TELLING;
        // A small answer is nearly all round trip: it shows that the line is no slower, not that it is no faster. Where whole
        // blocks all take as long, that may well be the line.
        if whole < 1.0 && alone > believed && seen < self.rate {
            return;
        }
        // The less came the less it says: what a new connection or a busy store took is more than the bytes did.
        let weight = if self.seen { WEIGHT } else { 1.0 } * whole.min(1.0);
        self.rate += (seen - self.rate) * weight;
        self.seen |= whole >= 1.0;
    }

    /// The shortest of the last answers: what asking costs, however little is asked for.
    pub(crate) fn round_trip(&self) -> Duration {
        self.took.iter().map(|(_, took)| *took).min().unwrap_or(Duration::from_millis(50))
    }

    /// Bytes that come in this time, about.
    pub(crate) fn carries(&self, time: Duration) -> u64 {
        (self.rate * time.as_secs_f64()) as u64
    }

    /// After how long an answer of `bytes` bytes is late: half as long again as nine of ten took, but not before what
    /// so many bytes took at the pace of the middle one, so that a slow link is not answered with twice the load;
    /// `None` while too little was seen.
    pub(crate) fn late(&self, bytes: u64) -> Option<Duration> {
        if self.took.len() < ENOUGH {
            return None;
        }
        let sorted = |times: &mut dyn Iterator<Item = Duration>| {
            let mut times: Vec<Duration> = times.collect();
            times.sort_unstable();
            times
        };
        let took = sorted(&mut self.took.iter().map(|(_, took)| *took));
        let scale = |of: u64| u32::try_from(bytes.div_ceil(of)).unwrap_or(u32::MAX).max(1);
        let paced = sorted(&mut self.took.iter().map(|(of, took)| took.saturating_mul(scale(*of))));
        // One in twenty may be what is to be got round: just below it.
        let most = took[took.len() * 9 / 10] * 3 / 2;
        Some(most.max(paced[paced.len() / 2]).max(LATE_MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_fast_far_link_and_a_slow_one_are_told_apart() {
        let (mut fast, mut slow) = (Link::default(), Link::default());
        for _ in 0..20 {
            fast.landed(64 << 10, 41 * MS, 0);
            fast.landed(1 << 20, 51 * MS, 0);
            // 1 Mbit/s
            slow.landed(64 << 10, 564 * MS, 0);
            slow.landed(256 << 10, 2137 * MS, 0);
        }
        assert!(fast.carries(Duration::from_secs(1)) > 50_000_000);
        assert!(slow.carries(Duration::from_secs(1)) < 1_000_000);
        assert_eq!(fast.round_trip(), 41 * MS);
    }

    #[test]
    fn small_answers_do_not_make_a_link_seem_slow() {
        let second = Duration::from_secs(1);
        let mut link = Link::default();
        let before = link.carries(second);
        for _ in 0..20 {
            link.landed(900, 41 * MS, 0);
        }
        assert_eq!(link.carries(second), before);
        for _ in 0..20 {
            link.landed(1 << 20, 51 * MS, 0);
        }
        let fast = link.carries(second);
        link.landed(900, 41 * MS, 0);
        assert_eq!(link.carries(second), fast);
        // Nor does one that a new connection was made for.
        let mut link = Link::default();
        link.landed(900, 41 * MS, 0);
        link.landed(900, 85 * MS, 0);
        assert!(link.carries(second) > before / 10 * 9, "{}", link.carries(second));
        // Whole blocks that take long are another matter, also where nothing else was seen.
        let mut thin = Link::default();
        thin.landed(64 << 10, 564 * MS, 0);
        assert!(thin.carries(second) < 1_000_000, "{}", thin.carries(second));
        for _ in 0..20 {
            link.landed(64 << 10, 541 * MS, 0);
        }
        assert!(link.carries(second) < 200_000, "{}", link.carries(second));
    }

    #[test]
    fn what_the_line_was_last_time_holds_until_something_says_better() {
        let second = Duration::from_secs(1);
        let mut link = Link::default();
        link.expect(50_000);
        assert_eq!((link.carries(second), link.pace()), (50_000, None));
        let mut link = Link::default();
        link.expect(50_000_000);
        assert_eq!((link.carries(second), link.pace()), (25_000_000, None));
        // Small pages say nothing.
        link.landed(900, 41 * MS, 0);
        assert_eq!((link.carries(second), link.pace()), (25_000_000, None));
        // Elsewhere today: the first answer of some length is believed.
        link.landed(1 << 20, 1041 * MS, 0);
        let seen = link.pace().unwrap();
        assert!((900_000..1_200_000).contains(&seen), "{seen}");
        link.expect(50_000_000);
        assert_eq!(link.pace(), Some(seen));
    }

    #[test]
    fn on_a_slow_link_a_long_answer_is_not_late() {
        let mut link = Link::default();
        // 1 Mbit/s: 64 KiB take half a second, 1 MiB takes eight.
        for _ in 0..30 {
            link.landed(64 << 10, 564 * MS, 0);
            link.landed(256 << 10, 2137 * MS, 0);
        }
        assert!(link.late(1 << 20).unwrap() > 8 * 1000 * MS, "{:?}", link.late(1 << 20));
    }

    #[test]
    fn late_is_what_most_answers_are_not() {
        let mut link = Link::default();
        for n in 0..15 {
            link.landed(65_536, (40 + n) * MS, 0);
        }
        assert_eq!(link.late(65_536), None);
        // One in twenty takes two seconds: it does not become what is waited for.
        for n in 0..200 {
            link.landed(65_536, if n % 20 == 0 { 2000 * MS } else { 40 * MS }, 0);
        }
        let late = link.late(65_536).unwrap();
        assert!(late >= 60 * MS && late < 200 * MS, "{late:?}");
    }
}
