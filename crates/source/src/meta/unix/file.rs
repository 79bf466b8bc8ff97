//! An open source file: its bytes, its holes, its state.
//!
//! May not follow links, wait, or write. Reads by position, so one handle serves several threads. Tested below.

use super::describe;
use super::open::open_path;
use crate::change::Identity;
use backupengine_model::{Attributes, Kind};
use rustix::buffer::spare_capacity;
use rustix::fs::{OFlags, SeekFrom, fgetxattr, fstat, seek};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// An open source file: reads data runs only, knows its holes, and can tell whether it changed meanwhile.
#[derive(Debug)]
pub struct SourceFile {
    fd: OwnedFd,
}

impl SourceFile {
    /// Opens without following links, O_NOATIME where allowed, non-blocking; refuses what is no regular file.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` where it is no regular file.
    pub fn open_file(real: &Path) -> io::Result<Self> {
        let file = Self { fd: open_path(real, OFlags::RDONLY)? };
        if file.stat()?.0.kind != Kind::File {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file any more"));
        }
        Ok(file)
    }

    /// Attributes and identity now (fstat).
    ///
    /// # Errors
    /// What the system says.
    pub fn stat(&self) -> io::Result<(Attributes, Identity)> {
        Ok(describe(&fstat(&self.fd)?))
    }

    /// Value of an extended attribute; `None` where it has none of this name, or it is not to be had.
    pub fn xattr(&self, name: &[u8]) -> Option<Vec<u8>> {
        // Values end at 64 KiB in the kernel (XATTR_SIZE_MAX).
        let mut value = Vec::with_capacity(64 << 10);
        fgetxattr(&self.fd, name, spare_capacity(&mut value)).ok()?;
        Some(value)
    }

    /// The next run from `offset`: (start, len, is_data); `None` at the end, which is `size`. By SEEK_DATA and
    /// SEEK_HOLE where `sparse`, else, and where the filesystem knows no holes, one run of data.
    ///
    /// # Errors
    /// What the system says.
    pub fn span(&self, offset: u64, size: u64, sparse: bool) -> io::Result<Option<(u64, u64, bool)>> {
        if offset >= size {
            return Ok(None);
        }
        let all = Some((offset, size - offset, true));
        if !sparse {
            return Ok(all);
        }
        let data = match seek(&self.fd, SeekFrom::Data(offset)) {
            Ok(data) => data.min(size),
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => size,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(all),
            Err(error) => return Err(error.into()),
        };
        if data > offset {
            return Ok(Some((offset, data - offset, false)));
        }
        Ok(match seek(&self.fd, SeekFrom::Hole(offset)) {
            Ok(hole) if hole > offset => Some((offset, hole.min(size) - offset, true)),
            // Changed between the two calls: read it as data, zeros and all.
            Ok(_) | Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => all,
            Err(error) => return Err(error.into()),
        })
    }

    /// Reads up to `out.len()` bytes at `offset`; 0 only at the end.
    ///
    /// # Errors
    /// What the system says.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::pread(&self.fd, &mut *out, offset) {
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;

    #[test]
    fn bytes_and_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, b"hello").unwrap();
        let file = SourceFile::open_file(&path).unwrap();
        let before = file.stat().unwrap();
        assert_eq!((before.0.kind, before.0.size), (Kind::File, 5));
        let mut out = [0; 8];
        assert_eq!(file.read_at(1, &mut out).unwrap(), 4);
        assert_eq!(&out[..4], b"ello");
        assert_eq!(file.read_at(5, &mut out).unwrap(), 0);
        assert_eq!(file.span(0, 5, false).unwrap(), Some((0, 5, true)));
        assert_eq!(file.span(5, 5, true).unwrap(), None);
        fs::write(&path, b"longer than before").unwrap();
        let after = file.stat().unwrap();
        assert!(!crate::same_state((&before.0, &before.1), (&after.0, &after.1)));
    }

    #[test]
    fn links_pipes_and_folders_are_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("f"), b"x").unwrap();
        std::os::unix::fs::symlink(at("f"), at("link")).unwrap();
        std::os::unix::fs::symlink(dir.path(), at("linked-dir")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::RUSR).unwrap();
        assert!(SourceFile::open_file(&at("link")).is_err());
        assert!(SourceFile::open_file(&at("linked-dir/f")).is_err(), "a link among the parents was followed");
        assert_eq!(SourceFile::open_file(&at("fifo")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(SourceFile::open_file(dir.path()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(SourceFile::open_file(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn holes_are_found_and_three_tebibytes_are_no_work() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparse");
        let out = File::create(&path).unwrap();
        let size = 3 << 40;
        out.set_len(size).unwrap();
        out.write_all_at(&[7; 4096], 1 << 20).unwrap();
        out.write_all_at(&[8; 4096], 2 << 40).unwrap();
        let file = SourceFile::open_file(&path).unwrap();
        assert!(file.stat().unwrap().0.allocated.unwrap() < 1 << 20);
        let (mut at, mut runs) = (0, Vec::new());
        while let Some((start, len, data)) = file.span(at, size, true).unwrap() {
            assert_eq!(start, at);
            runs.push((start, len, data));
            at = start + len;
        }
        assert_eq!(at, size);
        let data: Vec<_> = runs.iter().filter(|run| run.2).map(|run| (run.0, run.1)).collect();
        assert_eq!(data, [(1 << 20, 4096), (2 << 40, 4096)]);
        // A size that was seen before the file grew or shrank bounds the answer.
        assert_eq!(file.span(0, 1000, true).unwrap(), Some((0, 1000, false)));
        assert_eq!(file.span(size, size + 5, true).unwrap(), Some((size, 5, false)));
    }
}
