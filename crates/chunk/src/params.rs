//! Sizes of chunks.

/// Sizes of chunks, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkParams {
    /// No chunk but the last is smaller.
    pub min: usize,
    /// Aimed at.
    pub avg: usize,
    /// No chunk is larger.
    pub max: usize,
}

impl ChunkParams {
    /// 256 KiB, 1 MiB, 4 MiB; normalisation 2.
    pub const DEFAULT: Self = Self { min: 256 << 10, avg: 1 << 20, max: 4 << 20 };

    /// Whether the algorithm can work with these: even (it looks at two bytes in a step), in order, and inside
    /// what its masks are made for.
    pub const fn usable(self) -> bool {
        use fastcdc::v2020 as cdc;
        self.min.is_multiple_of(2)
            && self.avg.is_multiple_of(2)
            && self.max.is_multiple_of(2)
            && self.min >= cdc::MINIMUM_MIN
            && self.avg >= cdc::AVERAGE_MIN
            && self.avg <= cdc::AVERAGE_MAX
            && self.max <= cdc::MAXIMUM_MAX
            && self.min < self.avg
            && self.avg < self.max
    }
}

const _: () = assert!(ChunkParams::DEFAULT.usable());
