//! Looks for content among all files below some folders, cut as a push cuts them.
//!
//! May not keep bytes: what was found is read again, and proves itself again, when it is wanted. What always holds: one
//! pass over the files, one file's window in memory. A file that does not read is passed over. Tested in `tests/damage`.
use super::known::Contents;
use super::{read, read_up_to};
use crate::config::{BUNDLED_MAX, DEDUP_MIN};
use crate::dedup::DedupKey;
use crate::shared::has_bytes;
use backupengine_chunk::Chunker;
use backupengine_format::limits::INLINE_MAX;
use backupengine_model::ContentId;
use backupengine_seal::ContentIdKey;
use backupengine_source::{SourceFile, WalkConfig, Walker};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

/// Files of one length that are kept by name: more equal ones do not help.
const SHORT_MAX: usize = 10_000;

/// Where content was seen.
struct Seen {
    path: Arc<PathBuf>,
    start: u64,
    len: u64,
}

/// See the module header.
pub(super) struct Finder {
    seen: HashMap<DedupKey, Seen>,
    /// Files too short to be looked up, by length.
    short: BTreeMap<u32, Vec<PathBuf>>,
}

impl Finder {
    /// Looks at all files.
    pub(super) fn look(walk: &WalkConfig, ids: &ContentIdKey, chunker: &Chunker, wanted: &Contents) -> Self {
        let mut finder = Self { seen: HashMap::new(), short: BTreeMap::new() };
        let walker = match Walker::start(walk.clone()) {
            Ok(walker) => walker,
            Err(error) => {
                tracing::warn!(%error, "the folders that were given could not be searched");
                return finder;
            }
        };
        for batch in walker {
            for entry in batch.others.into_iter().filter(|entry| has_bytes(entry.attributes.kind)) {
                let path = batch.real.join(OsStr::from_bytes(&entry.name));
                finder.file(path, entry.attributes.size, ids, chunker, wanted);
            }
        }
        finder
    }

    fn file(&mut self, path: PathBuf, size: u64, ids: &ContentIdKey, chunker: &Chunker, wanted: &Contents) {
        if size <= INLINE_MAX as u64 {
            return;
        }
        if size < DEDUP_MIN as u64 {
            let same = self.short.entry(size as u32).or_default();
            if same.len() < SHORT_MAX {
                same.push(path);
            }
            return;
        }
        let Ok(file) = SourceFile::open_file(&path) else { return };
        let path = Arc::new(path);
        if size <= BUNDLED_MAX {
            let Some(bytes) = read(&file, 0, size) else { return };
            self.note(wanted, DedupKey { id: ids.content_id(&bytes), piece: true }, &path, 0, size);
            return;
        }
        let sparse = file.stat().is_ok_and(|(attributes, _)| attributes.allocated.is_some());
        let mut at = 0;
        while let Ok(Some((start, len, is_data))) = file.span(at, size, sparse) {
            at = start + len;
            if is_data && self.run(&file, &path, (start, len), ids, chunker, wanted).is_none() {
                return;
            }
        }
    }

    /// Cuts one run of data; `None` where it does not read to its end.
    fn run(
        &mut self,
        file: &SourceFile,
        path: &Arc<PathBuf>,
        (start, len): (u64, u64),
        ids: &ContentIdKey,
        chunker: &Chunker,
        wanted: &Contents,
    ) -> Option<()> {
        let window = chunker.params().max as u64;
        let (mut buffer, mut at) = (Vec::new(), 0);
        while at < len {
            let read = at + buffer.len() as u64;
            let more = (2 * window).min(len - read);
            if (buffer.len() as u64) < window && more > 0 {
                let bytes = read_up_to(file, start + read, more)?;
                if bytes.len() as u64 != more {
                    return None;
                }
                buffer.extend_from_slice(&bytes);
            }
            let cut = chunker.cut(&buffer).clamp(1, buffer.len().max(1));
            let key = DedupKey { id: ids.content_id(&buffer[..cut]), piece: false };
            self.note(wanted, key, path, start + at, cut as u64);
            buffer.drain(..cut);
            at += cut as u64;
        }
        Some(())
    }

    fn note(&mut self, wanted: &Contents, key: DedupKey, path: &Arc<PathBuf>, start: u64, len: u64) {
        if wanted.wants(&key) {
            self.seen.entry(key).or_insert_with(|| Seen { path: Arc::clone(path), start, len });
        }
    }

    fn read(&self, key: &DedupKey) -> Option<Vec<u8>> {
        let seen = self.seen.get(key)?;
        read(&SourceFile::open_file(&seen.path).ok()?, seen.start, seen.len)
    }

    /// Bytes that had this id when they were looked at.
    pub(super) fn chunk(&self, id: ContentId) -> Option<Vec<u8>> {
        self.read(&DedupKey { id, piece: false })
    }

    /// The same of a small file.
    pub(super) fn piece(&self, id: ContentId) -> Option<Vec<u8>> {
        self.read(&DedupKey { id, piece: true })
    }

    /// A file of this length that is the right one.
    pub(super) fn short(&self, len: u32, is_right: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let read = |path: &PathBuf| read(&SourceFile::open_file(path).ok()?, 0, len.into());
        self.short.get(&len)?.iter().filter_map(read).find(|bytes| is_right(bytes))
    }
}
