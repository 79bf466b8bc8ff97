//! Time and randomness that repeat themselves.
//!
//! May not touch the real clock or the system's randomness: a test that failed once fails again.

use backupengine_model::Timestamp;
use std::sync::{Mutex, PoisonError};

/// A clock that moves when told to.
#[derive(Debug, Default)]
pub struct FakeClock(Mutex<Timestamp>);

impl FakeClock {
    /// A clock that stands at `secs` seconds since 1970 (negative before).
    pub fn at(secs: i64) -> Self {
        Self(Mutex::new(Timestamp { secs, nanos: 0 }))
    }

    /// What it shows.
    pub fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves it by this many seconds, backwards too.
    pub fn advance(&self, secs: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).secs += secs;
    }
}

/// Bytes that look random and follow from a seed (splitmix64, Steele, Lea and Flood 2014). Not for keys of
/// anything real. Remembers what it gave, so that a test can look for salts in it.
#[derive(Debug)]
pub struct Seeded {
    state: Mutex<(u64, Vec<Vec<u8>>)>,
}

impl Seeded {
    /// A source of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self { state: Mutex::new((seed, Vec::new())) }
    }

    /// Fills `out` with the next bytes.
    pub fn fill(&self, out: &mut [u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&step(&mut state.0).to_le_bytes()[..chunk.len()]);
        }
        if out.len() <= 64 {
            state.1.push(out.to_vec());
        }
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        step(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&self, end: u64) -> u64 {
        self.next() % end
    }

    /// Everything up to 64 bytes long that [`Seeded::fill`] gave so far.
    pub fn given(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

fn step(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_bytes() {
        let take = |seed| {
            let mut bytes = [0; 20];
            let source = Seeded::new(seed);
            source.fill(&mut bytes);
            assert_eq!(source.given(), [bytes.to_vec()]);
            bytes
        };
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
    }
}
