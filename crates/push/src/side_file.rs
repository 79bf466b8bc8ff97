//! What this device alone keeps of a snapshot's nodes: change time and inode, by which an unchanged file is
//! known without opening it, and what its bytes looked like.
//!
//! **What it is.** One file per snapshot and class; record n belongs to the n-th node of that class. Each
//! record carries a hash of its node's key, so that a file that does not fit its snapshot gives nothing.
//! **What it may not do.** Leave the device, or be needed: without it files are read again.
//! **What always holds.** Records after a damaged block are not given out.
//! **Where it is tested.** Below.
use crate::signals::Look;
use backupengine_model::{Class, SessionNo, Timestamp};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"BKESIDE1";
const RECORD_LEN: usize = 28;
const BLOCK_RECORDS: usize = 512;
/// Nanoseconds take 30 bits; the look lies in the two above.
const NANOS_BITS: u32 = 30;
/// Side files of this many snapshots are kept: one for each set of sources that is pushed in turn.
const KEEP: usize = 8;

/// What is kept of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SideRecord {
    /// Keyed hash of the node's key.
    pub(crate) key_hash: u64,
    /// Change time when it was read.
    pub(crate) ctime: Timestamp,
    /// Inode number when it was read.
    pub(crate) inode: u64,
    /// What its bytes looked like then.
    pub(crate) look: Look,
}

impl SideRecord {
    /// Of a node that must be read again next time: no file has inode 0.
    pub(crate) fn distrusted(key_hash: u64) -> Self {
        Self { key_hash, ctime: Timestamp::default(), inode: 0, look: Look::Unknown }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key_hash.to_le_bytes());
        out.extend_from_slice(&self.ctime.secs.to_le_bytes());
        let nanos = self.ctime.nanos & ((1 << NANOS_BITS) - 1);
        out.extend_from_slice(&(nanos | (self.look as u32) << NANOS_BITS).to_le_bytes());
        out.extend_from_slice(&self.inode.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (key_hash, rest) = bytes.split_first_chunk::<8>()?;
        let (secs, rest) = rest.split_first_chunk::<8>()?;
        let (nanos, rest) = rest.split_first_chunk::<4>()?;
        let (inode, _) = rest.split_first_chunk::<8>()?;
        let nanos = u32::from_le_bytes(*nanos);
        let look = Look::from_bits(nanos >> NANOS_BITS);
        let ctime = Timestamp { secs: i64::from_le_bytes(*secs), nanos: nanos & ((1 << NANOS_BITS) - 1) };
        let (key_hash, inode) = (u64::from_le_bytes(*key_hash), u64::from_le_bytes(*inode));
        Some(Self { key_hash, ctime, inode, look })
    }
}

fn name(session: SessionNo, class: Class) -> String {
    match class {
        Class::Directory => format!("{session}.dirs"),
        Class::Other => format!("{session}.files"),
    }
}

/// Writes the side file of one class; it counts once [`SideWriter::finish`] renamed it.
pub(crate) struct SideWriter {
    out: BufWriter<File>,
    aside: PathBuf,
    path: PathBuf,
    block: Vec<u8>,
}

impl SideWriter {
    /// Begins one in `folder`.
    pub(crate) fn create(folder: &Path, session: SessionNo, class: Class) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join(name(session, class));
        let aside = folder.join(format!("{}.new", name(session, class)));
        let mut out = BufWriter::with_capacity(1 << 16, File::create(&aside)?);
        out.write_all(MAGIC)?;
        out.write_all(&session.0.to_le_bytes())?;
        Ok(Self { out, aside, path, block: Vec::with_capacity(RECORD_LEN * BLOCK_RECORDS) })
    }

    /// Appends the next node's record.
    pub(crate) fn push(&mut self, record: &SideRecord) -> io::Result<()> {
        record.encode(&mut self.block);
        if self.block.len() >= RECORD_LEN * BLOCK_RECORDS { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> io::Result<()> {
        self.out.write_all(&((self.block.len() / RECORD_LEN) as u32).to_le_bytes())?;
        self.out.write_all(&self.block)?;
        self.out.write_all(&crc32c::crc32c(&self.block).to_le_bytes())?;
        self.block.clear();
        Ok(())
    }

    /// Ends it and gives it its name. Not made durable: one that a power cut tore is not believed.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        self.out.flush()?;
        fs::rename(&self.aside, &self.path)
    }

    /// Throws it away.
    pub(crate) fn abandon(self) {
        if let Err(error) = fs::remove_file(&self.aside) {
            tracing::debug!(%error, "an unfinished side file stayed behind");
        }
    }
}

/// Reads the side file of one class, record by record.
pub(crate) struct SideReader {
    input: BufReader<File>,
    block: Vec<u8>,
    at: usize,
}

impl SideReader {
    /// Opens it; `None` where this device has none for that snapshot.
    pub(crate) fn open(folder: &Path, session: SessionNo, class: Class) -> Option<Self> {
        let file = File::open(folder.join(name(session, class))).ok()?;
        let mut input = BufReader::with_capacity(1 << 16, file);
        let mut head = [0; 12];
        input.read_exact(&mut head).ok()?;
        let fits = &head[..8] == MAGIC && head[8..] == session.0.to_le_bytes();
        fits.then_some(Self { input, block: Vec::new(), at: 0 })
    }

    /// The next record; `None` at the end and from the first damage on.
    pub(crate) fn next(&mut self) -> Option<SideRecord> {
        if self.at >= self.block.len() {
            self.block.clear();
            self.at = 0;
            self.read_block()?;
        }
        let record = SideRecord::decode(self.block.get(self.at..self.at + RECORD_LEN)?)?;
        self.at += RECORD_LEN;
        Some(record)
    }

    fn read_block(&mut self) -> Option<()> {
        let mut word = [0; 4];
        self.input.read_exact(&mut word).ok()?;
        let count = u32::from_le_bytes(word) as usize;
        if count == 0 || count > BLOCK_RECORDS {
            return None;
        }
        let mut block = vec![0; count * RECORD_LEN];
        self.input.read_exact(&mut block).ok()?;
        self.input.read_exact(&mut word).ok()?;
        if crc32c::crc32c(&block).to_le_bytes() != word {
            return None;
        }
        self.block = block;
        Some(())
    }
}

/// Removes what is no longer needed: `replaced` (the parent, when the sources were the same), unfinished
/// files, and the oldest beyond a small number.
pub(crate) fn sweep(folder: &Path, replaced: Option<SessionNo>) -> io::Result<()> {
    let mut sessions: Vec<(SessionNo, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        match name.get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok()) {
            Some(session) if !name.ends_with(".new") => sessions.push((SessionNo(session), path)),
            _ => fs::remove_file(&path)?,
        }
    }
    let mut kept: Vec<SessionNo> = sessions.iter().map(|(s, _)| *s).collect();
    kept.sort_unstable_by(|a, b| b.cmp(a));
    kept.dedup();
    kept.retain(|session| Some(*session) != replaced);
    kept.truncate(KEEP);
    for (session, path) in sessions {
        if !kept.contains(&session) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u64) -> SideRecord {
        let ctime = Timestamp { secs: -(n as i64), nanos: 999_999_999 - n as u32 };
        SideRecord { key_hash: n, ctime, inode: n + 1, look: Look::from_bits(n as u32) }
    }

    fn read(folder: &Path, session: u32) -> Vec<SideRecord> {
        let Some(mut reader) = SideReader::open(folder, SessionNo(session), Class::Other) else {
            return Vec::new();
        };
        std::iter::from_fn(|| reader.next()).collect()
    }

    fn write(folder: &Path, session: u32, count: u64) {
        let mut writer = SideWriter::create(folder, SessionNo(session), Class::Other).unwrap();
        (0..count).for_each(|n| writer.push(&record(n)).unwrap());
        writer.finish().unwrap();
    }

    #[test]
    fn records_come_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for count in [0, 1, 511, 512, 513, 2000] {
            write(dir.path(), 3, count);
            assert_eq!(read(dir.path(), 3), (0..count).map(record).collect::<Vec<_>>());
        }
        assert!(SideReader::open(dir.path(), SessionNo(4), Class::Other).is_none());
        assert!(SideReader::open(dir.path(), SessionNo(3), Class::Directory).is_none());
    }

    #[test]
    fn nothing_is_believed_after_damage() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 3, 1000);
        let path = dir.path().join(name(SessionNo(3), Class::Other));
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[12 + 4 + 512 * RECORD_LEN + 50] ^= 1;
        fs::write(&path, &bad).unwrap();
        assert_eq!(read(dir.path(), 3).len(), 512);
        fs::write(&path, &good[..good.len() - 3]).unwrap();
        assert_eq!(read(dir.path(), 3).len(), 512);
        fs::copy(&path, dir.path().join(name(SessionNo(9), Class::Other))).unwrap();
        assert!(read(dir.path(), 9).is_empty());
    }

    #[test]
    fn old_ones_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        (1..=12).for_each(|session| write(dir.path(), session, 1));
        fs::write(dir.path().join("0000000d.files.new"), b"torn").unwrap();
        sweep(dir.path(), Some(SessionNo(11))).unwrap();
        let left: Vec<_> = (1..=13).filter(|session| !read(dir.path(), *session).is_empty()).collect();
        assert_eq!(left, [4, 5, 6, 7, 8, 9, 10, 12]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 8);
    }
}
