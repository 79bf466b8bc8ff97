//! Blobs as files: exact reads through a few open files, listing, and putting whole.
//!
//! May not interpret a blob. What always holds: a blob appears under its name whole and synced, or not at all;
//! a name is never taken twice; at most [`OPEN_MAX`] files are kept open. Tested in `tests/stores`.

use super::layout::{self, LOCK, TMP};
use super::{durable, sweep};
use crate::spool::Written;
use crate::{BlobKey, BlobKind, ErrorKind, Got, Range, Spool, StoreError};
use backupengine_model::SessionNo;
use bytes::Bytes;
use lru::LruCache;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Files kept open: a thousand small reads of one pack open it once.
pub(crate) const OPEN_MAX: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// The blobs of one vault's folder.
pub(crate) struct BlobFiles {
    folder: PathBuf,
    open: Mutex<LruCache<BlobKey, Arc<File>>>,
    /// The session whose folder of packs is known to be on the disk.
    durable: Mutex<Option<SessionNo>>,
}

impl BlobFiles {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            open: Mutex::new(LruCache::new(OPEN_MAX)),
            durable: Mutex::new(None),
        }
    }

    pub(crate) fn get(&self, key: BlobKey, range: Range) -> Result<Got, StoreError> {
        let path = layout::blob_path(&self.folder, key);
        let refused = |e: io::Error| StoreError::from_io("read", &path, e).about(key);
        let (file, total) = self.open_file(key, &path).map_err(refused)?;
        let Some((offset, len)) = range.resolve(total) else {
            let message = format!("{} has {total} bytes; {range:?} lies outside", path.display());
            return Err(StoreError::new(ErrorKind::BadRange, message).about(key));
        };
        let wanted = usize::try_from(len).map_err(|_| refused(io::ErrorKind::OutOfMemory.into()))?;
        let bytes = read_exact(&file, offset, wanted).map_err(refused)?;
        Ok(Got { bytes, offset, total })
    }

    /// The open file of a blob and its length. A blob that was removed or replaced behind our back is opened
    /// anew, so that what is kept open never hides damage.
    fn open_file(&self, key: BlobKey, path: &Path) -> io::Result<(Arc<File>, u64)> {
        let kept = self.kept().get(&key).map(Arc::clone);
        if let Some(file) = kept {
            let found = file.metadata()?;
            if found.nlink() > 0 {
                return Ok((file, found.len()));
            }
            self.kept().pop(&key);
        }
        let file = Arc::new(File::open(path)?);
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let evicted = self.kept().push(key, Arc::clone(&file));
        // Closed here, outside the lock.
        drop(evicted);
        Ok((file, found.len()))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, LruCache<BlobKey, Arc<File>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn list(&self, kind: BlobKind) -> Result<Vec<(BlobKey, u64)>, StoreError> {
        let mut found = Vec::new();
        match kind {
            BlobKind::PacksOf(session) => self.list_packs(session, &mut found)?,
            BlobKind::Packs => {
                for (session, _) in names(&self.folder.join("p"), layout::parse_session)? {
                    self.list_packs(session, &mut found)?;
                }
            }
            BlobKind::Roots => {
                let name = |name: &OsStr| layout::parse_session(name).map(BlobKey::Root);
                files(&self.folder.join("r"), name, &mut found)?;
            }
            BlobKind::Envelopes => {
                let name = |name: &OsStr| layout::parse_envelope(name).map(BlobKey::Envelope);
                files(&self.folder.join("k"), name, &mut found)?;
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn list_packs(&self, session: SessionNo, found: &mut Vec<(BlobKey, u64)>) -> Result<(), StoreError> {
        let name = |name: &OsStr| layout::parse_number(name).map(|number| BlobKey::Pack(session, number));
        files(&self.folder.join("p").join(session.to_string()), name, found)
    }

    pub(crate) fn spool(&self) -> Result<Spool, StoreError> {
        let (path, file) = sweep::spool_file(&self.folder.join(TMP), &self.folder.join(LOCK))?;
        Ok(Spool::in_file(path, file))
    }

    pub(crate) fn put(&self, key: BlobKey, spool: Spool) -> Result<(), StoreError> {
        let named = |e: StoreError| e.about(key);
        let path = layout::blob_path(&self.folder, key);
        let Written::File(mut private) = spool.finish().map_err(named)? else {
            let message = format!("a spool of another store cannot become {}", path.display());
            return Err(named(StoreError::new(ErrorKind::Io, message)));
        };
        if let Some(file) = private.file() {
            let written = private.path();
            file.sync_all().map_err(|e| named(StoreError::from_io("write", written, e)))?;
        }
        let above = match key {
            BlobKey::Pack(session, _) => self.folder_of(session).map_err(named)?,
            BlobKey::Root(_) => self.folder.join("r"),
            BlobKey::Envelope(_) => self.folder.join("k"),
        };
        durable::place(private.path(), &path, &self.folder.join(LOCK)).map_err(named)?;
        private.moved();
        durable::sync_folder(&above).map_err(named)
    }

    /// Deletes a blob; one that is gone already is no error. The folder of a session goes with its last pack.
    pub(crate) fn delete(&self, key: BlobKey) -> Result<(), StoreError> {
        let path = layout::blob_path(&self.folder, key);
        drop(self.kept().pop(&key));
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::from_io("delete", &path, e).about(key));
            }
            _ => {}
        }
        if let BlobKey::Pack(session, _) = key {
            // Fails while something lies in it.
            drop(fs::remove_dir(self.folder.join("p").join(session.to_string())));
        }
        Ok(())
    }

    /// Renames a blob to what is no blob's name.
    pub(crate) fn set_aside(&self, key: BlobKey) -> Result<(), StoreError> {
        let path = layout::blob_path(&self.folder, key);
        drop(self.kept().pop(&key));
        match fs::rename(&path, path.with_extension("damaged")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::from_io("put aside", &path, e).about(key))
            }
            Err(_) => Ok(()),
            Ok(()) => path.parent().map_or(Ok(()), durable::sync_folder),
        }
    }

    /// The folder of a session's packs, made if need be, its name on the disk when this returns.
    fn folder_of(&self, session: SessionNo) -> Result<PathBuf, StoreError> {
        let packs = self.folder.join("p");
        let path = packs.join(session.to_string());
        // Held while syncing: whoever finds the folder there must not put into it before it is durable.
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if *durable != Some(session) {
            let mut made = DirBuilder::new().mode(0o700).create(&path);
            if made.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
                // Somebody cleared all packs away: a repair stores new ones.
                match DirBuilder::new().mode(0o700).create(&packs) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(StoreError::from_io("create", &packs, e));
                    }
                    _ => durable::sync_folder(&self.folder)?,
                }
                made = DirBuilder::new().mode(0o700).create(&path);
            }
            match made {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(StoreError::from_io("create", &path, e));
                }
                _ => durable::sync_folder(&packs)?,
            }
            *durable = Some(session);
        }
        drop(durable);
        Ok(path)
    }
}

fn read_exact(file: &File, offset: u64, wanted: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(wanted).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    while bytes.len() < wanted {
        let at = offset + bytes.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    bytes.truncate(wanted);
    Ok(Bytes::from(bytes))
}

/// Entries of a folder whose names mean something; what else lies there is not ours. A missing folder is empty.
fn names<T>(
    folder: &Path,
    parse: impl Fn(&OsStr) -> Option<T>,
) -> Result<Vec<(T, fs::DirEntry)>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| StoreError::from_io("list", folder, e))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| StoreError::from_io("list", folder, e))?;
        if let Some(name) = parse(&entry.file_name()) {
            found.push((name, entry));
        }
    }
    Ok(found)
}

fn files(
    folder: &Path,
    parse: impl Fn(&OsStr) -> Option<BlobKey>,
    into: &mut Vec<(BlobKey, u64)>,
) -> Result<(), StoreError> {
    for (key, entry) in names(folder, parse)? {
        match entry.metadata() {
            Ok(found) if found.is_file() => into.push((key, found.len())),
            Ok(_) => {}
            // Gone since it was listed.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(StoreError::from_io("read", &entry.path(), e)),
        }
    }
    Ok(())
}
