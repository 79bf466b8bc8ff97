//! A blob on its way: a private file, written front to back, then put whole.
//!
//! May not be read, listed or opened by anyone else before it is put. What always holds: dropped without
//! `put` it leaves nothing behind, and a process that dies leaves at most a file that the next session
//! sweeps away. Tested below and in `tests/stores`.

use crate::StoreError;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Bytes gathered before they go to the file.
const BUFFER: usize = 1 << 20;

/// Sees every write before it happens and may refuse it.
type Watch = Box<dyn FnMut(&[u8]) -> io::Result<()> + Send>;

/// A private file that becomes a blob. Dropped without `put`, it leaves nothing behind.
///
/// A failed write carries a [`StoreError`]: `StoreError::from(io_error)` gives it back.
pub struct Spool {
    body: Body,
    len: u64,
    watches: Vec<Watch>,
}

enum Body {
    File(Private),
    Memory(Vec<u8>),
}

/// What a spool held when it was put.
pub(crate) enum Written {
    /// Flushed, not yet synced.
    File(Private),
    Memory(Vec<u8>),
}

/// A file under a name nobody looks at, removed on drop unless it was moved away.
pub(crate) struct Private {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    moved: bool,
}

impl Spool {
    /// A spool in memory, for stores that keep nothing on disk.
    pub fn in_memory() -> Self {
        Self { body: Body::Memory(Vec::new()), len: 0, watches: Vec::new() }
    }

    /// A spool in a file that was just made for it.
    pub(crate) fn in_file(path: PathBuf, file: File) -> Self {
        let file = Some(BufWriter::with_capacity(BUFFER, file));
        Self { body: Body::File(Private { path, file, moved: false }), len: 0, watches: Vec::new() }
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same spool, with every write shown to `watch` first, which may refuse it: for stores around a
    /// store that count, limit, or break on purpose.
    #[must_use]
    pub fn watched(mut self, watch: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static) -> Self {
        self.watches.push(Box::new(watch));
        self
    }

    /// Ends the writing.
    pub(crate) fn finish(self) -> Result<Written, StoreError> {
        match self.body {
            Body::Memory(bytes) => Ok(Written::Memory(bytes)),
            Body::File(mut private) => {
                private.flush()?;
                Ok(Written::File(private))
            }
        }
    }
}

/// A spool that was written to its end, to be read as often as sending it takes. The file is gone when this is
/// dropped.
pub struct Finished {
    written: Written,
    len: u64,
}

impl Spool {
    /// Ends the writing, for a store that sends the blob elsewhere.
    ///
    /// # Errors
    /// `Full`, `Denied`, `Io`.
    pub fn into_finished(self) -> Result<Finished, StoreError> {
        let len = self.len;
        Ok(Finished { written: self.finish()?, len })
    }
}

impl Finished {
    /// Bytes in it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// From its first byte on.
    ///
    /// # Errors
    /// `Io` where the file cannot be opened again, or the spool lies in memory.
    pub fn open_file(&self) -> Result<File, StoreError> {
        match &self.written {
            Written::File(private) => {
                File::open(private.path()).map_err(|e| StoreError::from_io("read", private.path(), e))
            }
            Written::Memory(_) => {
                Err(StoreError::new(crate::ErrorKind::Io, "a spool of another store cannot be sent"))
            }
        }
    }
}

impl fmt::Debug for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Finished({} bytes)", self.len)
    }
}

/// A folder for spools of a store that keeps its blobs elsewhere.
#[derive(Clone, Debug)]
pub struct SpoolFolder {
    folder: PathBuf,
    lock: PathBuf,
}

impl SpoolFolder {
    /// Makes the folder if need be and takes away what processes that died left in it.
    ///
    /// # Errors
    /// `Denied`, `Full`, `Io`.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        crate::folder::private_folder(folder)?;
        let own = Self { folder: folder.join("tmp"), lock: folder.join("lock") };
        crate::folder::sweep_spools(&own.folder, &own.lock)?;
        Ok(own)
    }

    /// A spool in it.
    ///
    /// # Errors
    /// `Full`, `Denied`, `Io`.
    pub fn spool(&self) -> Result<Spool, StoreError> {
        let (path, file) = crate::folder::spool_file(&self.folder, &self.lock)?;
        Ok(Spool::in_file(path, file))
    }
}

impl Private {
    fn flush(&mut self) -> io::Result<()> {
        let path = &self.path;
        let Some(file) = self.file.as_mut() else { return Ok(()) };
        file.flush().map_err(|e| StoreError::from_io("write", path, e).into())
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file, flushed.
    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_ref().map(BufWriter::get_ref)
    }

    /// Tells that the file is no longer under its private name.
    pub(crate) fn moved(&mut self) {
        self.moved = true;
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // What is still in the buffer is not worth writing any more.
        drop(self.file.take().map(BufWriter::into_parts));
        if !self.moved {
            // A file that cannot be removed is swept when the next session opens.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for watch in &mut self.watches {
            watch(bytes)?;
        }
        let written = match &mut self.body {
            Body::Memory(held) => held.write(bytes)?,
            Body::File(Private { path, file: Some(file), .. }) => match file.write(bytes) {
                Ok(written) => written,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
                Err(e) => return Err(StoreError::from_io("write", path, e).into()),
            },
            Body::File(Private { file: None, .. }) => 0,
        };
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.body {
            Body::Memory(_) => Ok(()),
            Body::File(private) => private.flush(),
        }
    }
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.body {
            Body::Memory(_) => "memory".to_owned(),
            Body::File(private) => private.path.display().to_string(),
        };
        write!(f, "Spool({place}, {} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(folder: &Path) -> Spool {
        let path = folder.join("one");
        let file = File::create(&path).unwrap();
        Spool::in_file(path, file)
    }

    #[test]
    fn what_is_dropped_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = spool(folder.path());
        one.write_all(&[7; 3 << 20]).unwrap();
        assert_eq!(one.len(), 3 << 20);
        drop(one);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn finishing_writes_the_last_byte() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = spool(folder.path());
        for byte in 0..=255u8 {
            one.write_all(&[byte]).unwrap();
        }
        let Written::File(private) = one.finish().unwrap() else { panic!("a file was expected") };
        assert_eq!(std::fs::read(private.path()).unwrap(), (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn a_finished_spool_is_read_again_and_then_gone() {
        use std::io::Read;
        let folder = tempfile::tempdir().unwrap();
        let spools = SpoolFolder::open(&folder.path().join("spools")).unwrap();
        let mut one = spools.spool().unwrap();
        one.write_all(&[5; 100]).unwrap();
        let finished = one.into_finished().unwrap();
        for _ in 0..2 {
            let mut read = Vec::new();
            finished.open_file().unwrap().read_to_end(&mut read).unwrap();
            assert_eq!(read, [5; 100]);
        }
        // Another process does not sweep what is still in use.
        SpoolFolder::open(&folder.path().join("spools")).unwrap();
        assert!(finished.open_file().is_ok());
        drop(finished);
        assert_eq!(std::fs::read_dir(folder.path().join("spools/tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_watch_sees_every_byte_and_may_refuse() {
        let (seen, count) = std::sync::mpsc::channel();
        let mut left = 2;
        let mut one = Spool::in_memory().watched(move |bytes| {
            seen.send(bytes.to_vec()).unwrap();
            left -= 1;
            if left == 0 { Err(io::Error::from_raw_os_error(28)) } else { Ok(()) }
        });
        one.write_all(b"abc").unwrap();
        let error = one.write_all(b"def").unwrap_err();
        assert_eq!(StoreError::from(error).kind, crate::ErrorKind::Full);
        assert_eq!(one.len(), 3);
        assert_eq!(count.try_iter().collect::<Vec<_>>(), [b"abc".to_vec(), b"def".to_vec()]);
    }
}
