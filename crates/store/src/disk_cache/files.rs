//! The three files of a cache: `slots` (blocks, 64 KiB each), `table` (a record a slot), `news` (slots written,
//! in order, for other processes).
//!
//! May not know which block is wanted. What always holds: one call of the system reads a block and one writes it;
//! nothing is synced, for whatever a crash leaves is told by its checksum; whoever changes the number of slots
//! holds the lock on the table. Tested through the cache.

use super::record::{RECORD, Record, head};
use crate::BLOCK_LEN;
use backupengine_model::VaultId;
use rustix::buffer::spare_capacity;
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, fstat};
use rustix::io::{Errno, pread};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Bytes of news that are kept; who falls behind reads the whole table again.
pub(super) const NEWS_MAX: u64 = 256 << 10;
/// In the news: pins or size changed.
pub(super) const SETTINGS: u32 = u32::MAX;

/// Open files of one cache.
#[derive(Debug)]
pub(super) struct Files {
    slots: File,
    table: File,
    news: File,
}

/// What can be seen of the files from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Whether they still have their names.
    pub(super) named: bool,
    /// Slots there are.
    pub(super) capacity: u32,
    /// Bytes of news.
    pub(super) news: u64,
}

/// Holds the lock of the table.
pub(super) struct Held<'a>(&'a File);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // The file stays open; what is not unlocked here would be at its end.
        if let Err(error) = flock(self.0, FlockOperation::Unlock) {
            tracing::debug!(%error, "the table of the disk cache stays locked");
        }
    }
}

impl Files {
    /// Opens the files below `folder`, made where they are missing; emptied where they are another vault's or do
    /// not read.
    pub(super) fn open(folder: &Path, vault: VaultId, wait: bool) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if folder.metadata()?.permissions().mode() & 0o077 != 0 {
            std::fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        }
        let file = |name: &str, append: bool| {
            let mut options = OpenOptions::new();
            options
                .read(true)
                .create(true)
                .mode(0o600)
                .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
            if append {
                options.append(true)
            } else {
                options.write(true)
            };
            options.open(folder.join(name))
        };
        let files =
            Self { slots: file("slots", false)?, table: file("table", false)?, news: file("news", true)? };
        if !files.is_of(vault) {
            let held = files.lock(wait)?;
            // Another process may have been first.
            if !files.is_of(vault) {
                files.empty()?;
                files.table.write_all_at(&head(vault), 0)?;
            }
            drop(held);
        }
        Ok(files)
    }

    fn is_of(&self, vault: VaultId) -> bool {
        let mut found = [0; RECORD];
        self.table.read_exact_at(&mut found, 0).is_ok() && found == head(vault)
    }

    /// Takes the lock of the table; `WouldBlock` where somebody has it and `wait` is not set.
    pub(super) fn lock(&self, wait: bool) -> io::Result<Held<'_>> {
        let how = if wait { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
        loop {
            match flock(&self.table, how) {
                Ok(()) => return Ok(Held(&self.table)),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Gives all slots back.
    pub(super) fn empty(&self) -> io::Result<()> {
        self.table.set_len(0)?;
        self.slots.set_len(0)?;
        self.news.set_len(0)
    }

    /// What can be seen of the files from outside.
    pub(super) fn look(&self) -> io::Result<Look> {
        let [slots, table, news] = [fstat(&self.slots)?, fstat(&self.table)?, fstat(&self.news)?];
        let records = (table.st_size.unsigned_abs() / RECORD as u64).saturating_sub(1);
        let capacity = records.min(slots.st_size.unsigned_abs() / BLOCK_LEN as u64);
        Ok(Look {
            // One that was deleted would keep its room until it is closed.
            named: [&slots, &table, &news].iter().all(|file| file.st_nlink > 0),
            capacity: u32::try_from(capacity).unwrap_or(u32::MAX),
            news: news.st_size.unsigned_abs(),
        })
    }

    /// Bytes the files take on disk, those of holes not counted; 0 where nobody says.
    pub(super) fn on_disk(&self) -> u64 {
        let blocks = |file| fstat(file).map_or(0, |is| is.st_blocks.unsigned_abs() * 512);
        [&self.slots, &self.table, &self.news].map(blocks).iter().sum()
    }

    /// Makes it `to` slots, from `from`, with room on the disk where the filesystem can promise it.
    pub(super) fn grow(&self, vault: VaultId, from: u32, to: u32) -> io::Result<()> {
        let at = |slot: u32| u64::from(slot) * BLOCK_LEN as u64;
        match fallocate(&self.slots, FallocateFlags::empty(), at(from), at(to) - at(from)) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.slots.set_len(at(to))?,
            Err(e) => return Err(e.into()),
        }
        // It may have been cut off by hand.
        self.table.write_all_at(&head(vault), 0)?;
        self.table.set_len(record_at(to))
    }

    /// Gives the slots from `to` on back.
    pub(super) fn shrink(&self, to: u32) -> io::Result<()> {
        self.table.set_len(record_at(to))?;
        self.slots.set_len(u64::from(to) * BLOCK_LEN as u64)
    }

    /// The first `len` bytes of a slot, or fewer where the file ends.
    pub(super) fn read(&self, slot: u32, len: u32) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len as usize);
        let at = u64::from(slot) * BLOCK_LEN as u64;
        while bytes.len() < len as usize {
            let next = at + bytes.len() as u64;
            match pread(&self.slots, spare_capacity(&mut bytes), next) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        bytes.truncate(len as usize);
        Ok(bytes)
    }

    /// Fills a slot: the bytes, then their record, then the news of it.
    pub(super) fn write(&self, slot: u32, bytes: &[u8], record: &Record) -> io::Result<()> {
        self.slots.write_all_at(bytes, u64::from(slot) * BLOCK_LEN as u64)?;
        self.write_record(slot, Some(record))?;
        self.tell(slot)
    }

    /// What the table says of a slot.
    pub(super) fn record(&self, slot: u32) -> Option<Record> {
        let mut bytes = [0; RECORD];
        self.table.read_exact_at(&mut bytes, record_at(slot)).ok()?;
        Record::decode(&bytes)
    }

    /// Notes what a slot holds.
    pub(super) fn write_record(&self, slot: u32, record: Option<&Record>) -> io::Result<()> {
        let bytes = record.map_or([0; RECORD], Record::encode);
        self.table.write_all_at(&bytes, record_at(slot))
    }

    /// Records of the slots from `from` to `to`.
    pub(super) fn records(&self, from: u32, to: u32) -> io::Result<Vec<(u32, Option<Record>)>> {
        let mut bytes = vec![0; (to.saturating_sub(from)) as usize * RECORD];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.table.read_at(&mut bytes[filled..], record_at(from) + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok((from..to).zip(bytes.chunks_exact(RECORD).map(Record::decode)).collect())
    }

    /// Tells other processes of a slot, or of [`SETTINGS`].
    pub(super) fn tell(&self, slot: u32) -> io::Result<()> {
        // Appended: two processes never write over each other.
        io::Write::write_all(&mut &self.news, &slot.to_le_bytes())
    }

    /// The news from byte `from` to byte `to`.
    pub(super) fn news(&self, from: u64, to: u64) -> io::Result<Vec<u32>> {
        let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
        self.news.read_exact_at(&mut bytes, from)?;
        Ok(bytes.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four)).collect())
    }

    /// Throws old news away.
    pub(super) fn forget_news(&self) -> io::Result<()> {
        self.news.set_len(0)
    }
}

fn record_at(slot: u32) -> u64 {
    (u64::from(slot) + 1) * RECORD as u64
}
