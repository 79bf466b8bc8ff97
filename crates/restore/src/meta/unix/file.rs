//! A file of the target, while it is written or read back.
//!
//! May not be seen under its own name before it is complete. Tested in `tests`.

use super::{Object, again};
use rustix::fs::{SeekFrom, ftruncate, seek};
use rustix::io::{Errno, pread, pwrite};
use std::io;
use std::os::fd::OwnedFd;

/// A file of the target.
#[derive(Debug)]
pub(crate) struct NewFile {
    fd: OwnedFd,
}

impl NewFile {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Sets its length; what is added is a hole.
    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        again(|| ftruncate(&self.fd, len))
    }

    /// Writes all of `bytes` at `offset`.
    pub(crate) fn write_at(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = again(|| pwrite(&self.fd, bytes, offset))?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[written..];
            offset += written as u64;
        }
        Ok(())
    }

    /// Fills `out` from `offset` on and says how many bytes there were.
    pub(crate) fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < out.len() {
            match again(|| pread(&self.fd, &mut out[filled..], offset + filled as u64))? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    /// Where the next bytes that are no hole begin, at or after `offset`; `None` where there are none.
    pub(crate) fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        match seek(&self.fd, SeekFrom::Data(offset)) {
            Ok(at) => Ok(Some(at)),
            Err(Errno::NXIO) => Ok(None),
            // A filesystem without holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(offset)),
            Err(error) => Err(error.into()),
        }
    }

    /// The file, to set its attributes.
    pub(crate) fn into_object(self) -> Object {
        Object::Open(self.fd)
    }
}
