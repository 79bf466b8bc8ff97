//! The vault format, version 1: bytes to types and back.
//!
//! **What it is.** Packs, trailers, footers, pages, root records, reference sets, forwarding tables, labels.
//! FORMAT.md beside it is the normative text.
//!
//! **What it may not do.** See a key, do I/O, compress.
//!
//! **What always holds.** Decoders take `&[u8]`, refuse anything `encode` would not have written, and their
//! memory is bounded (FORMAT.md, *Limits*). Decode of encode is the same.
//!
//! **Where it is tested.** Beside the code, `tests/golden` with `tests/formats`, `tests/fuzz`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod cbor;
mod error;
pub mod footer;
pub mod forward;
pub mod label;
pub mod limits;
pub mod pack;
pub mod page;
pub mod reference;
pub mod root;
pub mod trailer;
pub mod varint;

pub use error::FormatError;
