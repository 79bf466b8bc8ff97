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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_even_in_order_and_in_range() {
        let usable = |min, avg, max| ChunkParams { min, avg, max }.usable();
        assert!(usable(64, 256, 1024) && usable(1 << 10, 4 << 10, (4 << 10) + 2));
        assert!(!usable(1025, 4096, 16384) && !usable(1024, 4097, 16384) && !usable(1024, 4096, 16385));
        assert!(!usable(4096, 4096, 16384) && !usable(1024, 4096, 4096));
        assert!(!usable(8192, 4096, 16384) && !usable(1024, 4096, 2048));
        assert!(!usable(62, 256, 1024) && !usable(64, 254, 1024));
        assert!(!usable(1 << 10, 8 << 20, 10 << 20) && !usable(1 << 10, 1 << 20, 32 << 20));
    }
}
