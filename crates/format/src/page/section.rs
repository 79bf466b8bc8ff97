//! Framing of sections: tag, length, bytes, in ascending order; bit 7 of a tag marks a critical one.
//!
//! What always holds: a section's number decides its place and appears once; a reader that does not know a
//! critical section refuses the page, any other is skipped. Tested below and through every kind of page.

use crate::FormatError;
use crate::limits::PAGE_MAX;
use crate::varint::{Cursor, put};

/// Set on the tag of a section that a reader has to know.
pub(super) const CRITICAL: u8 = 0x80;
/// Format number all pages begin with.
const VERSION: u64 = 1;
/// Sections a page of version 1 can have; numbers from here on are unknown.
const KNOWN: usize = 20;

/// Collects the sections of a page.
pub(super) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(super) fn new(capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity);
        put(&mut out, VERSION);
        Self { out }
    }

    /// Appends a section; the caller keeps to ascending numbers.
    pub(super) fn put(&mut self, tag: u8, bytes: &[u8]) {
        self.out.push(tag);
        put(&mut self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// Appends a section unless it is empty.
    pub(super) fn put_some(&mut self, tag: u8, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.put(tag, bytes);
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// The sections of a page, by number.
pub(super) struct Sections<'a> {
    what: &'static str,
    found: [Option<&'a [u8]>; KNOWN],
}

impl<'a> Sections<'a> {
    /// Takes a page apart. `tags` are all tags its kind knows.
    pub(super) fn parse(bytes: &'a [u8], what: &'static str, tags: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(bytes, what);
        cursor.require(bytes.len() <= PAGE_MAX, "is larger than 1 MiB")?;
        let version = cursor.uv()?;
        if version != VERSION {
            return Err(FormatError::TooNew { what, feature: format!("page format {version}") });
        }
        let mut found = [None; KNOWN];
        let mut last = 0;
        while cursor.left() > 0 {
            let tag = cursor.u8()?;
            let number = tag & !CRITICAL;
            cursor.require(number > last, "sections are not in ascending order")?;
            last = number;
            let len = usize::try_from(cursor.uv()?).unwrap_or(usize::MAX);
            let body = cursor.take(len)?;
            match found.get_mut(usize::from(number)) {
                Some(slot) if tags.contains(&tag) => {
                    // One that holds nothing is left out.
                    cursor.require(!body.is_empty(), "a section is empty")?;
                    *slot = Some(body);
                }
                _ if tags.contains(&(tag ^ CRITICAL)) => {
                    return Err(cursor.broken("a known section carries the wrong critical mark"));
                }
                _ if tag & CRITICAL != 0 => {
                    return Err(FormatError::TooNew { what, feature: format!("section {number}") });
                }
                _ => {}
            }
        }
        Ok(Self { what, found })
    }

    /// A section that has to be there.
    pub(super) fn need(&self, tag: u8) -> Result<Cursor<'a>, FormatError> {
        let missing = FormatError::Broken { what: self.what, rule: "a section is missing" };
        self.get(tag).ok_or(missing)
    }

    /// A section that may be missing.
    pub(super) fn get(&self, tag: u8) -> Option<Cursor<'a>> {
        let body = self.found.get(usize::from(tag & !CRITICAL)).copied().flatten()?;
        Some(Cursor::new(body, self.what))
    }

    /// A section that is empty where it is missing.
    pub(super) fn or_empty(&self, tag: u8) -> Cursor<'a> {
        self.get(tag).unwrap_or(Cursor::new(&[], self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAGS: [u8; 2] = [1 | CRITICAL, 2];

    fn parse(bytes: &[u8]) -> Result<usize, FormatError> {
        Ok(Sections::parse(bytes, "page", &TAGS)?.found.iter().flatten().count())
    }

    #[test]
    fn unknown_sections_are_skipped_or_refused_by_their_mark() {
        assert_eq!(parse(&[1, 0x81, 1, 9, 2, 1, 9]), Ok(2));
        assert_eq!(parse(&[1, 0x81, 1, 9, 3, 2, 9, 9, 0x7f, 0]), Ok(1));
        assert!(matches!(parse(&[1, 0x83, 1, 9]), Err(FormatError::TooNew { .. })));
        assert!(matches!(parse(&[2, 0x81, 1, 9]), Err(FormatError::TooNew { .. })));
    }

    #[test]
    fn disorder_is_refused() {
        let bad: [&[u8]; 8] = [
            &[],
            &[1, 2, 1, 9, 0x81, 1, 9],
            &[1, 0x81, 1, 9, 0x81, 1, 9],
            &[1, 0x81, 2, 9],
            &[1, 0x81],
            &[1, 0x82, 1, 9],
            &[1, 1, 1, 9],
            &[1, 2, 0],
        ];
        for bytes in bad {
            assert!(matches!(parse(bytes), Err(FormatError::Broken { .. })), "{bytes:?}");
        }
    }
}
