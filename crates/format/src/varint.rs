//! LEB128 and the cursor all decoders read with.
//!
//! May not accept a second way to write a number: shortest form only, at most 10 bytes. What always holds: a
//! cursor never reads beyond its bytes and never panics. Tested below and in every fuzz target.

use crate::FormatError;

/// Appends an unsigned LEB128 number in its shortest form.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number: zig-zag (0, -1, 1, -2 … become 0, 1, 2, 3 …), then [`put`].
pub fn put_zz(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Bytes being decoded, and the name of the structure they are, for messages.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte of `bytes`.
    pub const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    /// The error that this structure breaks `rule`.
    #[cold]
    pub const fn broken(&self, rule: &'static str) -> FormatError {
        FormatError::Broken { what: self.what, rule }
    }

    /// Fails with `rule` unless `holds`.
    ///
    /// # Errors
    /// [`FormatError::Broken`].
    #[inline]
    pub fn require(&self, holds: bool, rule: &'static str) -> Result<(), FormatError> {
        if holds { Ok(()) } else { Err(self.broken(rule)) }
    }

    /// How many bytes are left.
    pub const fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`FormatError::Broken`] where fewer are left.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        match self.rest.split_at_checked(len) {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(self.broken("ends too early")),
        }
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`FormatError::Broken`] where fewer are left.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(*head)
            }
            None => Err(self.broken("ends too early")),
        }
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`FormatError::Broken`] at the end.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, FormatError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// An unsigned LEB128 number.
    ///
    /// # Errors
    /// [`FormatError::Broken`] for a number that is cut off, too long, or not in its shortest form.
    #[inline]
    pub fn uv(&mut self) -> Result<u64, FormatError> {
        match *self.rest {
            [byte, ref tail @ ..] if byte < 0x80 => {
                self.rest = tail;
                Ok(u64::from(byte))
            }
            _ => self.long_uv(),
        }
    }

    fn long_uv(&mut self) -> Result<u64, FormatError> {
        let mut value = 0;
        for (at, &byte) in self.rest.iter().take(10).enumerate() {
            if at == 9 && byte > 1 {
                return Err(self.broken("a number takes more than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                if byte == 0 && at > 0 {
                    return Err(self.broken("a number is not in its shortest form"));
                }
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(self.broken("a number is cut off"))
    }

    /// A number of at most 32 bits.
    ///
    /// # Errors
    /// [`FormatError::Broken`] as [`Cursor::uv`], and for larger ones.
    #[inline]
    pub fn uv32(&mut self) -> Result<u32, FormatError> {
        u32::try_from(self.uv()?).map_err(|_| self.broken("a number takes more than 32 bits"))
    }

    /// A signed number, see [`put_zz`].
    ///
    /// # Errors
    /// As [`Cursor::uv`].
    #[inline]
    pub fn zz(&mut self) -> Result<i64, FormatError> {
        let value = self.uv()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A number of items that follow, each of which takes at least `each` bytes: so that whoever reserves room
    /// for them reserves no more than the bytes can fill.
    ///
    /// # Errors
    /// [`FormatError::Broken`] for more than `max` or more than the bytes left can hold.
    pub fn count(&mut self, max: usize, each: usize) -> Result<usize, FormatError> {
        let count = usize::try_from(self.uv()?).unwrap_or(usize::MAX);
        self.require(count <= max, "holds more items than the limit")?;
        self.require(count <= self.rest.len() / each.max(1), "ends too early")?;
        Ok(count)
    }

    /// A cursor of its own over the next `count` numbers, which are stepped over here.
    ///
    /// # Errors
    /// [`FormatError::Broken`] where there are fewer.
    pub fn column(&mut self, count: usize) -> Result<Self, FormatError> {
        if count == 0 {
            return Ok(Self { rest: &[], what: self.what });
        }
        let mut ends = self.rest.iter().enumerate().filter(|&(_, &byte)| byte < 0x80).map(|(at, _)| at + 1);
        let end = ends.nth(count - 1).ok_or_else(|| self.broken("ends too early"))?;
        let (head, tail) = self.rest.split_at(end);
        self.rest = tail;
        Ok(Self { rest: head, what: self.what })
    }

    /// Everything that is left.
    pub fn remainder(self) -> &'a [u8] {
        self.rest
    }

    /// Fails unless everything was read.
    ///
    /// # Errors
    /// [`FormatError::Broken`] for trailing bytes.
    pub fn finish(self) -> Result<(), FormatError> {
        self.require(self.rest.is_empty(), "bytes follow its end")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<u64, FormatError> {
        let mut cursor = Cursor::new(bytes, "number");
        let value = cursor.uv()?;
        cursor.finish()?;
        Ok(value)
    }

    #[test]
    fn numbers_go_both_ways_in_their_shortest_form() {
        for (value, len) in
            [(0, 1), (127, 1), (128, 2), (16383, 2), (16384, 3), (u64::MAX >> 1, 9), (u64::MAX, 10)]
        {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!((out.len(), read(&out)), (len, Ok(value)));
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            put_zz(&mut out, value);
            assert_eq!(Cursor::new(&out, "number").zz(), Ok(value));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let bad: [&[u8]; 6] = [
            &[],
            &[0x80],
            &[0x80, 0x00],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
            &[1, 1],
        ];
        for bytes in bad {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn columns_are_stepped_over() {
        let mut cursor = Cursor::new(&[1, 0x80, 1, 5, 9], "numbers");
        let mut column = cursor.column(3).unwrap();
        assert_eq!((column.uv(), column.uv(), column.uv()), (Ok(1), Ok(128), Ok(5)));
        assert_eq!(cursor.remainder(), [9]);
        assert!(Cursor::new(&[1, 0x80], "numbers").column(2).is_err());
    }

    #[test]
    fn counts_beyond_the_bytes_are_refused() {
        assert!(Cursor::new(&[3, 0, 0], "list").count(10, 1).is_err());
        assert!(Cursor::new(&[2, 0, 0], "list").count(1, 1).is_err());
        assert_eq!(Cursor::new(&[2, 0, 0], "list").count(10, 1), Ok(2));
        assert_eq!(Cursor::new(&[2, 0, 0, 0, 0], "list").count(10, 2), Ok(2));
        assert!(Cursor::new(&[2, 0, 0, 0], "list").count(10, 2).is_err());
    }
}
