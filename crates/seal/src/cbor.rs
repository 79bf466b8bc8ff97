//! The little CBOR this crate needs, in one form only: definite lengths, shortest heads, ascending keys.
//!
//! **What it may not do.** Accept a second spelling of anything: callers encode what they decoded and compare.
//! **What always holds.** Nothing is allocated beyond the input.

use minicbor::{Decoder, Encoder};
use std::convert::Infallible;

/// Encodes into `out`.
pub(crate) fn write(
    out: &mut Vec<u8>,
    fields: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Result<(), minicbor::encode::Error<Infallible>>,
) {
    fields(&mut Encoder::new(out)).expect("appending to a vector cannot fail");
}

/// Not the expected CBOR.
pub(crate) struct Unexpected;

impl From<minicbor::decode::Error> for Unexpected {
    fn from(_: minicbor::decode::Error) -> Self {
        Self
    }
}

/// The next key is `key`.
pub(crate) fn key(d: &mut Decoder<'_>, key: u8) -> Result<(), Unexpected> {
    if d.u8()? == key { Ok(()) } else { Err(Unexpected) }
}

/// A byte string of exactly `N` bytes.
pub(crate) fn bytes<const N: usize>(d: &mut Decoder<'_>) -> Result<[u8; N], Unexpected> {
    d.bytes()?.try_into().map_err(|_| Unexpected)
}
