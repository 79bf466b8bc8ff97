//! Bytes of one file: written out, or compared with what is there.
//!
//! May not name or place files. What always holds: holes of the snapshot are never written; what is compared
//! is compared whole. Tested below and in `tests`.

use crate::meta::NewFile;
use backupengine_model::{ContentReader, Node, ReadError, SpanKind};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes asked of the port at once.
pub(crate) const BLOCK: usize = 4 << 20;

/// A file from this size on is written by several threads.
const SHARED_FROM: u64 = 64 << 20;

/// What one of those threads takes at a time.
const RANGE: u64 = 16 << 20;

/// Smallest hole that is looked for in data: a page of the filesystem.
const PAGE: usize = 4096;

/// Why a file was not written or found equal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentError {
    #[error("it cannot be read from the snapshot: {0}")]
    Read(#[from] ReadError),
    #[error("the snapshot holds fewer bytes of it than it says")]
    Short,
    #[error("it cannot be written: {0}")]
    Write(#[source] io::Error),
    #[error("it cannot be read back: {0}")]
    ReadBack(#[source] io::Error),
    #[error("what was written reads back differently from byte {0} on")]
    Differs(u64),
    #[error("a thread that wrote it broke off")]
    Thread,
    #[error("interrupted")]
    Stopped,
}

/// One file of the snapshot and its counterpart on the disk.
pub(crate) struct Content<'a> {
    pub(crate) reader: &'a dyn ContentReader,
    pub(crate) node: &'a Node,
    pub(crate) file: &'a NewFile,
    /// Make holes of zeros.
    pub(crate) sparse: bool,
    /// Hears of bytes done; `false` ends it.
    pub(crate) tick: &'a (dyn Fn(u64) -> bool + Sync),
}

/// A run of the snapshot's file.
enum Run {
    Data(u64),
    Hole(u64),
}

impl Content<'_> {
    fn size(&self) -> u64 {
        self.node.attributes.size
    }

    /// Whether several threads are worth it.
    pub(crate) fn is_shared(&self) -> bool {
        self.size() >= SHARED_FROM
    }

    /// Writes all of it into a file that is empty. `helpers`: threads that may be started besides.
    pub(crate) fn write(&self, buffer: &mut Vec<u8>, helpers: usize) -> Result<(), ContentError> {
        if self.sparse || self.node.attributes.allocated.is_some() {
            self.file.set_len(self.size()).map_err(ContentError::Write)?;
        }
        if !self.is_shared() || helpers == 0 {
            return self.write_range(0, self.size(), buffer);
        }
        let next = AtomicU64::new(0);
        let work = |buffer: &mut Vec<u8>| {
            loop {
                let from = next.fetch_add(RANGE, Relaxed);
                if from >= self.size() {
                    return Ok(());
                }
                if let Err(error) = self.write_range(from, self.size().min(from + RANGE), buffer) {
                    // The others need not go on.
                    next.store(self.size(), Relaxed);
                    return Err(error);
                }
            }
        };
        std::thread::scope(|scope| {
            let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(|| work(&mut Vec::new()))).collect();
            let mine = work(buffer);
            helpers
                .into_iter()
                .fold(mine, |sum, helper| sum.and(helper.join().unwrap_or(Err(ContentError::Thread))))
        })
    }

    /// The run that begins at `at`, not beyond `to`.
    fn run(&self, at: u64, to: u64) -> Result<Run, ContentError> {
        if self.node.attributes.allocated.is_none() {
            return Ok(Run::Data(to));
        }
        let span = self.reader.span(self.node.id, at)?.ok_or(ContentError::Short)?;
        let end = span.offset.saturating_add(span.len).min(to);
        if span.offset > at || end <= at {
            return Err(ContentError::Short);
        }
        Ok(match span.kind {
            SpanKind::Data => Run::Data(end),
            SpanKind::Hole => Run::Hole(end),
        })
    }

    fn write_range(&self, from: u64, to: u64, buffer: &mut Vec<u8>) -> Result<(), ContentError> {
        let mut at = from;
        while at < to {
            let end = match self.run(at, to)? {
                Run::Hole(end) => {
                    at = end;
                    continue;
                }
                Run::Data(end) => end,
            };
            while at < end {
                let bytes = self.read(at, end, buffer)?;
                if self.sparse {
                    self.write_sparse(at, bytes)?;
                } else {
                    self.file.write_at(at, bytes).map_err(ContentError::Write)?;
                }
                at += bytes.len() as u64;
                if !(self.tick)(bytes.len() as u64) {
                    return Err(ContentError::Stopped);
                }
            }
        }
        Ok(())
    }

    /// Reads a block of the snapshot's file.
    fn read<'b>(&self, at: u64, end: u64, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], ContentError> {
        let wanted = usize::try_from(end - at).unwrap_or(BLOCK).min(BLOCK);
        if buffer.len() < wanted {
            buffer.resize(wanted, 0);
        }
        match self.reader.read_at(self.node.id, at, &mut buffer[..wanted])? {
            0 => Err(ContentError::Short),
            read => Ok(&buffer[..read.min(wanted)]),
        }
    }

    /// Writes the pages that are not all zeros; pages lie at multiples of their size in the file.
    fn write_sparse(&self, at: u64, bytes: &[u8]) -> Result<(), ContentError> {
        for (start, end) in runs_of_data(at, bytes) {
            self.file.write_at(at + start as u64, &bytes[start..end]).map_err(ContentError::Write)?;
        }
        Ok(())
    }

    /// Reads the file back and compares all of it.
    pub(crate) fn compare(&self, buffer: &mut Vec<u8>, back: &mut Vec<u8>) -> Result<(), ContentError> {
        let mut at = 0;
        while at < self.size() {
            match self.run(at, self.size())? {
                Run::Hole(end) => {
                    self.compare_hole(at, end, back)?;
                    at = end;
                }
                Run::Data(end) => {
                    while at < end {
                        let bytes = self.read(at, end, buffer)?;
                        self.compare_block(at, bytes, back)?;
                        at += bytes.len() as u64;
                        if !(self.tick)(bytes.len() as u64) {
                            return Err(ContentError::Stopped);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn compare_block(&self, at: u64, bytes: &[u8], back: &mut Vec<u8>) -> Result<(), ContentError> {
        if back.len() < bytes.len() {
            back.resize(bytes.len(), 0);
        }
        let back = &mut back[..bytes.len()];
        let read = self.file.read_at(at, back).map_err(ContentError::ReadBack)?;
        let differs = back[..read].iter().zip(bytes).position(|(a, b)| a != b);
        match differs.or((read < bytes.len()).then_some(read)) {
            Some(place) => Err(ContentError::Differs(at + place as u64)),
            None => Ok(()),
        }
    }

    /// A hole of the snapshot reads as zeros; holes on the disk are not read for that.
    fn compare_hole(&self, mut at: u64, end: u64, back: &mut Vec<u8>) -> Result<(), ContentError> {
        while let Some(data) = self.file.next_data(at).map_err(ContentError::ReadBack)?.filter(|d| *d < end) {
            let len = usize::try_from(end - data).unwrap_or(BLOCK).min(BLOCK);
            if back.len() < len {
                back.resize(len, 0);
            }
            let read = self.file.read_at(data, &mut back[..len]).map_err(ContentError::ReadBack)?;
            if let Some(place) = back[..read].iter().position(|byte| *byte != 0) {
                return Err(ContentError::Differs(data + place as u64));
            }
            if read == 0 {
                return Err(ContentError::Differs(data));
            }
            at = data + read as u64;
            if !(self.tick)(0) {
                return Err(ContentError::Stopped);
            }
        }
        Ok(())
    }
}

/// Runs of bytes that are not whole pages of zeros, as (start, end) in `bytes`, which begin at `at` in the file.
fn runs_of_data(at: u64, bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let in_page = (at + start as u64) as usize % PAGE;
        let end = bytes.len().min(start + PAGE - in_page);
        if bytes[start..end].iter().any(|byte| *byte != 0) {
            match out.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => out.push((start, end)),
            }
        }
        start = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_left_out_page_by_page() {
        let mut bytes = vec![0; 5 * PAGE];
        assert!(runs_of_data(0, &bytes).is_empty());
        bytes[PAGE] = 1;
        bytes[3 * PAGE - 1] = 1;
        assert_eq!(runs_of_data(0, &bytes), [(PAGE, 3 * PAGE)]);
        bytes[4 * PAGE + 5] = 1;
        assert_eq!(runs_of_data(0, &bytes), [(PAGE, 3 * PAGE), (4 * PAGE, 5 * PAGE)]);
        // Pages are those of the file, not of the buffer.
        assert_eq!(runs_of_data(10, &bytes[..PAGE + 1]), [(PAGE - 10, PAGE + 1)]);
        assert_eq!(runs_of_data(0, b"x"), [(0, 1)]);
        assert!(runs_of_data(0, b"").is_empty());
    }
}
