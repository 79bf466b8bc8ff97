//! How much may be fetched ahead, learnt from whether what came ahead was still there when it was read. Pure.
//!
//! **What it is.** Halved when a block that came ahead and was never read has to be fetched again: what comes does not
//! stay (a full disk, a small memory). More again with every block that did stay, and, where nothing is left, a block is
//! tried now and then. **What it may not do.** Know blocks, fetch. **Where it is tested.** Below.
//!
//! *Source.* Additive increase and multiplicative decrease: Chiu and Jain, "Analysis of the increase and decrease
//! algorithms for congestion avoidance in computer networks", Computer Networks and ISDN Systems 17 (1989); here the
//! increase is in proportion, since what stays is seen block by block.

/// Blocks that may be ahead before any was seen to stay: 32 MiB.
const FIRST: u64 = 512;
/// Where nothing stays, one block is tried ahead for so many that somebody waited for.
const TRY_EACH: u64 = 64;

/// Blocks that may be fetched ahead, as far as is known.
pub(crate) struct Reach {
    blocks: u64,
    /// Blocks that somebody waited for since one more was last allowed for them.
    waited: u64,
}

impl Default for Reach {
    fn default() -> Self {
        Self { blocks: FIRST, waited: 0 }
    }
}

impl Reach {
    /// Blocks that one reader may be led by, where there is place for `most`.
    pub(crate) fn blocks(&self, most: u64) -> u64 {
        self.blocks.min(most)
    }

    /// Blocks that may be on their way at one moment: all there is place for, unless some were lost.
    pub(crate) fn flying(&self, most: u64) -> u64 {
        if self.blocks >= FIRST.min(most) { most } else { self.blocks }
    }

    /// A block that came ahead has to be fetched again.
    pub(crate) fn lost(&mut self, most: u64) {
        self.blocks = self.blocks(most) / 2;
    }

    /// So many blocks that came ahead were there when they were read.
    pub(crate) fn stayed(&mut self, count: u64, most: u64) {
        self.blocks = self.blocks.saturating_add(count).min(most);
    }

    /// So many blocks came because somebody waited for them.
    pub(crate) fn waited(&mut self, count: u64, most: u64) {
        self.waited += count;
        self.stayed(self.waited / TRY_EACH, most);
        self.waited %= TRY_EACH;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 1024;

    #[test]
    fn where_nothing_stays_nearly_nothing_is_fetched_ahead() {
        let mut reach = Reach::default();
        (0..20).for_each(|_| reach.lost(MOST));
        assert_eq!((reach.blocks(MOST), reach.flying(MOST)), (0, 0));
        let mut tried = 0;
        for _ in 0..10_000 {
            reach.waited(1, MOST);
            tried += reach.blocks(MOST);
            if reach.blocks(MOST) > 0 {
                reach.lost(MOST);
            }
        }
        assert!((100..=200).contains(&tried), "{tried}");
    }

    #[test]
    fn what_stays_soon_allows_all_there_is_place_for() {
        let mut reach = Reach::default();
        assert!(reach.blocks(MOST) < MOST && reach.flying(MOST) == MOST);
        (0..20).for_each(|_| reach.lost(MOST));
        reach.waited(64, MOST);
        let mut rounds = 0;
        while reach.blocks(MOST) < MOST {
            reach.stayed(reach.blocks(MOST), MOST);
            rounds += 1;
        }
        assert_eq!(rounds, 10);
        assert_eq!(reach.blocks(100), 100);
    }
}
