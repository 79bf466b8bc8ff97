//! Cuts a byte stream where its content says (FastCDC with a keyed gear table).
//!
//! **What it may not do.** Know files, keys or stored sizes; do I/O.
//! **What always holds.** Equal streams with equal tables and parameters give equal cuts, however the bytes arrive.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

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
}
/// A chunker: parameters and keyed table, reusable for any number of streams.
pub struct Chunker {
    _todo: (),
}
impl Chunker {
    /// From parameters and the 256 keyed values of the vault.
    pub fn new(_params: ChunkParams, _gear: &[u64; 256]) -> Self {
        todo!()
    }
    /// The parameters.
    pub fn params(&self) -> ChunkParams {
        todo!()
    }
    /// Length of the first chunk of `bytes`. `bytes` must hold at least `max` bytes unless the stream ends
    /// there. 0 only for an empty slice.
    pub fn cut(&self, _bytes: &[u8]) -> usize {
        todo!()
    }
}
