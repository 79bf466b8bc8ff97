//! Cuts a byte stream where its content says (FastCDC with a keyed gear table).
//!
//! **What it is.** [`Chunker`]: told a window of bytes, it says where the first chunk ends.
//!
//! **What it may not do.** Know files, keys or stored sizes; do I/O; allocate while cutting.
//!
//! **What always holds.** Equal streams with equal tables and parameters give equal cuts, however the bytes
//! arrive. No reader knows of chunks: another chunker can replace this one without a change of format.
//!
//! **Where it is tested.** Beside the code (a frozen list of cuts, properties), `tests/formats`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod chunker;
mod params;

pub use chunker::Chunker;
pub use params::ChunkParams;
