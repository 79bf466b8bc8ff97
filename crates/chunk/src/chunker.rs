//! The chunker: FastCDC (Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based
//! Storage Systems", 2020) with normalised chunking of level 2 and a table of the caller's.
//!
//! **What always holds.** A cut depends on the first `max` bytes from the cut before on, and on nothing else.

use crate::ChunkParams;
use fastcdc::v2020::{Normalization, cut_gear, select_masks};

/// A chunker: parameters and keyed table, reusable for any number of streams.
pub struct Chunker {
    params: ChunkParams,
    /// Below the average: strict, so that few chunks are small.
    strict: u64,
    /// Above it: loose, so that few are large.
    loose: u64,
    gear: Box<[u64; 256]>,
    /// The same shifted by one, for the first byte of each step of two.
    gear_shifted: Box<[u64; 256]>,
}

impl Chunker {
    /// From parameters and the 256 keyed values of the vault.
    ///
    /// # Panics
    /// Where the parameters are not [`ChunkParams::usable`]: they are constants of a writer, not input.
    pub fn new(params: ChunkParams, gear: &[u64; 256]) -> Self {
        assert!(params.usable(), "chunk sizes must be even, ascending and in range: {params:?}");
        let (strict, loose) = select_masks(params.avg, Normalization::Level2);
        let gear_shifted = Box::new(gear.map(|value| value << 1));
        Self { params, strict, loose, gear: Box::new(*gear), gear_shifted }
    }

    /// The parameters.
    pub fn params(&self) -> ChunkParams {
        self.params
    }

    /// Length of the first chunk of `bytes`. `bytes` must hold at least `max` bytes unless the stream ends
    /// there. 0 only for an empty slice.
    pub fn cut(&self, bytes: &[u8]) -> usize {
        let ChunkParams { min, avg, max } = self.params;
        let (_, len) = cut_gear(
            bytes,
            min,
            avg,
            max,
            self.strict,
            self.loose,
            self.strict << 1,
            self.loose << 1,
            &self.gear[..],
            &self.gear_shifted[..],
        );
        len
    }
}

impl std::fmt::Debug for Chunker {
    /// Without the table: it is derived from a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunker").field("params", &self.params).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: ChunkParams = ChunkParams { min: 1 << 10, avg: 4 << 10, max: 16 << 10 };

    /// SplitMix64 (Steele, Lea, Flood 2014): tables and data from a seed.
    fn numbers(seed: u64) -> impl Iterator<Item = u64> {
        (1_u64..).map(move |i| {
            let mut z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        })
    }

    fn table(seed: u64) -> [u64; 256] {
        let mut numbers = numbers(seed);
        std::array::from_fn(|_| numbers.next().unwrap())
    }

    fn data(seed: u64, len: usize) -> Vec<u8> {
        numbers(seed).flat_map(u64::to_le_bytes).take(len).collect()
    }

    /// Lengths of the chunks of `bytes`, shown to the chunker `window` bytes at a time.
    fn cuts(chunker: &Chunker, bytes: &[u8], window: usize) -> Vec<usize> {
        let (mut lens, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let len = chunker.cut(&bytes[at..bytes.len().min(at + window)]);
            lens.push(len);
            at += len;
        }
        lens
    }

    #[test]
    fn cuts_are_frozen() {
        let lens = cuts(&Chunker::new(SMALL, &table(1)), &data(2, 100_000), usize::MAX >> 1);
        assert_eq!(lens, FROZEN_SMALL);
        let lens = cuts(&Chunker::new(ChunkParams::DEFAULT, &table(1)), &data(3, 9 << 20), usize::MAX >> 1);
        assert_eq!(lens, FROZEN_DEFAULT);
    }

    /// Computed byte by byte with another implementation of the paper, in Python.
    const FROZEN_SMALL: &[usize] = &[
        5723, 4434, 1448, 5661, 4615, 3806, 5218, 4189, 4746, 6703, 5422, 4862, 6327, 4541, 1112, 4420, 3946,
        4382, 4329, 1320, 6787, 4780, 1229,
    ];
    const FROZEN_DEFAULT: &[usize] =
        &[653319, 1058125, 1120938, 493545, 355717, 309502, 1499253, 1488167, 1183522, 1120723, 154373];

    #[test]
    fn another_table_cuts_elsewhere() {
        let bytes = data(2, 300_000);
        let (one, other) = (Chunker::new(SMALL, &table(1)), Chunker::new(SMALL, &table(9)));
        assert_ne!(cuts(&one, &bytes, 1 << 20), cuts(&other, &bytes, 1 << 20));
    }

    #[test]
    fn the_average_is_met_roughly() {
        let lens = cuts(&Chunker::new(SMALL, &table(1)), &data(4, 4 << 20), 1 << 20);
        let mean = (4 << 20) / lens.len();
        assert!((SMALL.avg * 3 / 4..SMALL.avg * 3 / 2).contains(&mean), "{mean}");
    }

    #[test]
    fn edges_of_a_stream() {
        let chunker = Chunker::new(SMALL, &table(1));
        assert_eq!(chunker.cut(&[]), 0);
        for len in [1, 2, 1023, 1024] {
            assert_eq!(chunker.cut(&vec![7; len]), len);
        }
        // Zeros hash to one value: cut at the smallest size, at the largest, or at the average, but always alike.
        let lens = cuts(&chunker, &vec![0; 100_000], 1 << 20);
        assert!(lens[1..lens.len() - 1].iter().all(|len| *len == lens[0]));
    }

    #[test]
    fn a_chunker_prints_its_sizes_and_no_table() {
        let shown = format!("{:?}", Chunker::new(SMALL, &[0x0123_4567; 256]));
        assert!(shown.contains("min: 1024, avg: 4096, max: 16384"), "{shown}");
        assert!(!shown.contains(&0x0123_4567.to_string()), "{shown}");
    }

    #[test]
    #[should_panic(expected = "chunk sizes must be")]
    fn unusable_sizes_are_refused() {
        Chunker::new(ChunkParams { min: 1001, ..SMALL }, &table(1));
    }

    proptest! {
        #[test]
        fn chunks_are_the_input_within_bounds_however_it_arrives(
            seed: u64,
            len in 0_usize..200_000,
            more in 0_usize..50_000,
        ) {
            let (chunker, bytes) = (Chunker::new(SMALL, &table(1)), data(seed, len));
            let lens = cuts(&chunker, &bytes, usize::MAX >> 1);
            prop_assert_eq!(lens.iter().sum::<usize>(), len);
            if let Some((_, but_last)) = lens.split_last() {
                prop_assert!(but_last.iter().all(|len| (SMALL.min..=SMALL.max).contains(len)));
            }
            prop_assert!(lens.iter().all(|len| *len <= SMALL.max));
            prop_assert_eq!(&cuts(&chunker, &bytes, SMALL.max), &lens);
            prop_assert_eq!(&cuts(&chunker, &bytes, SMALL.max + more), &lens);
        }
    }

    /// One byte more in the middle changes the chunks around it, and few later ones. How many is a matter of chance
    /// (both streams have to cut at the same place once), so it is the average that is promised, over fixed seeds.
    #[test]
    fn an_insertion_is_soon_forgotten() {
        let chunker = Chunker::new(SMALL, &table(1));
        let ends = |bytes: &[u8]| {
            let mut end = 0;
            cuts(&chunker, bytes, SMALL.max)
                .iter()
                .map(|len| {
                    end += len;
                    end
                })
                .collect::<Vec<_>>()
        };
        let changed: Vec<usize> = (0..100)
            .map(|seed| {
                let (before, at) = (data(seed, 400_000), seed as usize * 997);
                let after = [&before[..at], &[seed as u8], &before[at..]].concat();
                let (before, after) = (ends(&before), ends(&after));
                let behind: Vec<_> = before.into_iter().filter(|end| *end > at).collect();
                let lost = behind.iter().filter(|end| !after.contains(&(*end + 1))).count();
                assert!(lost * 2 < behind.len(), "{lost} of {} chunks changed", behind.len());
                lost
            })
            .collect();
        let mean = changed.iter().sum::<usize>() as f64 / changed.len() as f64;
        assert!(mean < 4.0, "{mean} chunks changed on average: {changed:?}");
    }
}
