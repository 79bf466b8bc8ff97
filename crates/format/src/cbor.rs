//! Deterministic CBOR (RFC 8949, section 4.2.1) as root records and labels use it: definite lengths, shortest
//! numbers. Strictness comes from the caller encoding again what it decoded and comparing.

use crate::FormatError;
use minicbor::{Decoder, Encoder, decode, encode};
use std::convert::Infallible;

/// Appends items to a vector.
pub(crate) struct Writer(Encoder<Vec<u8>>);

type Step<'a> = Result<&'a mut Encoder<Vec<u8>>, encode::Error<Infallible>>;

impl Writer {
    pub(crate) fn new() -> Self {
        Self(Encoder::new(Vec::new()))
    }

    fn step(&mut self, put: impl FnOnce(&mut Encoder<Vec<u8>>) -> Step<'_>) -> &mut Self {
        put(&mut self.0).map(|_| ()).expect("a vector takes all bytes");
        self
    }

    pub(crate) fn map(&mut self, len: usize) -> &mut Self {
        self.step(|e| e.map(len as u64))
    }

    pub(crate) fn array(&mut self, len: usize) -> &mut Self {
        self.step(|e| e.array(len as u64))
    }

    pub(crate) fn uint(&mut self, value: impl Into<u64>) -> &mut Self {
        let value = value.into();
        self.step(|e| e.u64(value))
    }

    pub(crate) fn int(&mut self, value: i64) -> &mut Self {
        self.step(|e| e.i64(value))
    }

    pub(crate) fn bool(&mut self, value: bool) -> &mut Self {
        self.step(|e| e.bool(value))
    }

    pub(crate) fn null(&mut self) -> &mut Self {
        self.step(|e| e.null())
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.step(|e| e.bytes(value))
    }

    pub(crate) fn text(&mut self, value: &str) -> &mut Self {
        self.step(|e| e.str(value))
    }

    /// Appends an item that is encoded already.
    pub(crate) fn raw(&mut self, item: &[u8]) -> &mut Self {
        self.0.writer_mut().extend_from_slice(item);
        self
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.into_writer()
    }
}

/// Reads items of an expected shape.
pub(crate) struct Reader<'a> {
    decoder: Decoder<'a>,
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { decoder: Decoder::new(bytes), what }
    }

    #[cold]
    pub(crate) fn broken(&self, rule: &'static str) -> FormatError {
        FormatError::Broken { what: self.what, rule }
    }

    pub(crate) fn require(&self, holds: bool, rule: &'static str) -> Result<(), FormatError> {
        if holds { Ok(()) } else { Err(self.broken(rule)) }
    }

    fn item<T>(
        &mut self,
        get: impl FnOnce(&mut Decoder<'a>) -> Result<T, decode::Error>,
    ) -> Result<T, FormatError> {
        get(&mut self.decoder).map_err(|_| self.broken("is not the CBOR that belongs here"))
    }

    fn definite(&mut self, len: Option<u64>) -> Result<usize, FormatError> {
        let left = self.decoder.input().len() - self.decoder.position().min(self.decoder.input().len());
        // Each item takes at least one byte, so nobody reserves room for more than there can be.
        match len.map(usize::try_from) {
            Some(Ok(len)) if len <= left => Ok(len),
            Some(_) => Err(self.broken("ends too early")),
            None => Err(self.broken("a length is indefinite")),
        }
    }

    pub(crate) fn map(&mut self) -> Result<usize, FormatError> {
        let len = self.item(|d| d.map())?;
        self.definite(len)
    }

    pub(crate) fn array(&mut self) -> Result<usize, FormatError> {
        let len = self.item(|d| d.array())?;
        self.definite(len)
    }

    /// The head of an array of exactly `len` items.
    pub(crate) fn tuple(&mut self, len: usize) -> Result<(), FormatError> {
        let found = self.array()?;
        self.require(found == len, "an array has another length than belongs here")
    }

    /// A list whose items `each` reads.
    pub(crate) fn list<T>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<T, FormatError>,
    ) -> Result<Vec<T>, FormatError> {
        let len = self.array()?;
        // Grown as items come: they are larger in memory than in bytes.
        let mut list = Vec::new();
        for _ in 0..len {
            list.push(each(self)?);
        }
        Ok(list)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        self.item(|d| d.u64())
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        self.item(|d| d.u32())
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FormatError> {
        self.item(|d| d.u16())
    }

    pub(crate) fn i64(&mut self) -> Result<i64, FormatError> {
        self.item(|d| d.i64())
    }

    pub(crate) fn bool(&mut self) -> Result<bool, FormatError> {
        self.item(|d| d.bool())
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], FormatError> {
        self.item(|d| d.bytes())
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let bytes = self.bytes()?;
        bytes.try_into().map_err(|_| self.broken("fixed bytes have another length than belongs here"))
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, FormatError> {
        self.item(|d| d.str())
    }

    /// Whether the next item is null, which is then read.
    pub(crate) fn null(&mut self) -> Result<bool, FormatError> {
        let null = self.item(|d| d.datatype())? == minicbor::data::Type::Null;
        if null {
            self.item(|d| d.null())?;
        }
        Ok(null)
    }

    /// Whether the next item is an array.
    pub(crate) fn is_array(&mut self) -> Result<bool, FormatError> {
        Ok(self.item(|d| d.datatype())? == minicbor::data::Type::Array)
    }

    /// Steps over any item and gives its bytes.
    pub(crate) fn skip(&mut self) -> Result<&'a [u8], FormatError> {
        let from = self.decoder.position();
        self.item(|d| d.skip())?;
        let to = self.decoder.position();
        self.decoder.input().get(from..to).ok_or_else(|| self.broken("ends too early"))
    }

    /// How many bytes were read.
    pub(crate) fn position(&self) -> usize {
        self.decoder.position()
    }

    pub(crate) fn finish(self) -> Result<(), FormatError> {
        self.require(self.decoder.position() == self.decoder.input().len(), "bytes follow its end")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_promise_no_more_items_than_bytes_follow() {
        let early = FormatError::Broken { what: "list", rule: "ends too early" };
        let after = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes, "list");
            reader.u64()?;
            reader.array()
        };
        assert_eq!(after(&[0, 0x82, 0, 0]), Ok(2));
        assert_eq!(after(&[0, 0x83, 0, 0]), Err(early));
        let indefinite = FormatError::Broken { what: "list", rule: "a length is indefinite" };
        assert_eq!(after(&[0, 0x9f, 0xff]), Err(indefinite));
    }
}
