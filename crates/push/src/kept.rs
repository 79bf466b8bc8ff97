//! What this device keeps of the pages and roots it pushed, as they were sealed, so that a repair has them.
//!
//! **What it is.** In the state folder a file per session with its sealed pages, each with its place; another with its
//! root blob, byte for byte. **What it may not do.** Hold anything opened, be needed, or end a push: what cannot be
//! written is not kept. **What always holds.** What is read again proves itself: a page opens at its place in its pack
//! or not at all. Together they take at most [`KEPT_MAX`] bytes; the oldest sessions go first.
//! **Where it is tested.** Below; `tests/damage`.
//!
//! *Decision.* 2026-11-29: pages cannot be made again from files. Nothing outside the vault says what a lost page held,
//! and a page that is made anew from the source is another as soon as one name in it changed; so they are kept. They
//! are what a hundredth of the data takes, and sealed, so whoever reads the state folder learns what a bucket tells.
use backupengine_model::{FrameRef, PackRef, SessionNo, VaultId};
use backupengine_store::Spool;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Bytes that are kept of a vault.
const KEPT_MAX: u64 = 512 << 20;
/// What stands before a page: number, salt, epoch, offset, length.
const HEAD_LEN: usize = 22;
/// No sealed page is longer.
const PAGE_MAX: u32 = 2 << 20;

/// Where it is kept.
fn folder(state: &Path, vault: VaultId) -> PathBuf {
    state.join(format!("pages-{vault}"))
}

/// Takes in what one push seals.
pub(crate) struct Keep {
    folder: PathBuf,
    session: SessionNo,
    pages: Mutex<Option<BufWriter<File>>>,
}

impl Keep {
    /// Makes nothing yet.
    pub(crate) fn new(state: &Path, vault: VaultId, session: SessionNo) -> Self {
        Self { folder: folder(state, vault), session, pages: Mutex::default() }
    }

    /// Keeps a sealed page.
    pub(crate) fn page(&self, at: &FrameRef, sealed: &[u8]) {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.write(&mut pages, at, sealed) {
            tracing::debug!(%error, "a page could not be kept");
        }
    }

    fn write(&self, pages: &mut Option<BufWriter<File>>, at: &FrameRef, sealed: &[u8]) -> io::Result<()> {
        if pages.is_none() {
            fs::create_dir_all(&self.folder)?;
            let path = self.folder.join(self.session.to_string());
            *pages = Some(BufWriter::new(File::options().create(true).append(true).open(path)?));
        }
        let Some(file) = pages else { return Ok(()) };
        let mut head = Vec::with_capacity(HEAD_LEN);
        head.extend_from_slice(&at.pack.number.to_le_bytes());
        head.extend_from_slice(&at.pack.salt);
        head.extend_from_slice(&at.pack.epoch.to_le_bytes());
        head.extend_from_slice(&at.offset.to_le_bytes());
        head.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
        file.write_all(&head)?;
        file.write_all(sealed)
    }

    /// The spool of the root pack, of which every byte is kept as well.
    pub(crate) fn root(&self, spool: Spool) -> Spool {
        let path = self.folder.join(format!("{}.root", self.session));
        let file = fs::create_dir_all(&self.folder).and_then(|()| File::create(path));
        match file {
            Ok(mut file) => spool.watched(move |bytes| {
                // Whoever needs it compares lengths and opens it.
                drop(file.write_all(bytes));
                Ok(())
            }),
            Err(error) => {
                tracing::debug!(%error, "a root could not be kept");
                spool
            }
        }
    }

    /// Lets the oldest go where all together are too much.
    pub(crate) fn sweep(&self) {
        self.sweep_to(KEPT_MAX);
    }

    fn sweep_to(&self, most: u64) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut files: Vec<(PathBuf, u64)> = entries
            .flatten()
            .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.len())))
            .collect();
        files.sort();
        let mut total: u64 = files.iter().map(|(_, len)| len).sum();
        for (path, len) in files {
            if total <= most {
                break;
            }
            total -= len;
            if let Err(error) = fs::remove_file(&path) {
                tracing::debug!(%error, path = %path.display(), "what was kept could not be removed");
            }
        }
    }
}

/// Where pages of a session lie in its file.
type Places = HashMap<(PackRef, u32), (u64, u32)>;

/// Reads what pushes kept.
pub(crate) struct Kept {
    folder: PathBuf,
    sessions: Mutex<HashMap<SessionNo, Option<(File, Places)>>>,
}

impl Kept {
    /// Opens nothing yet.
    pub(crate) fn new(state: &Path, vault: VaultId) -> Self {
        Self { folder: folder(state, vault), sessions: Mutex::default() }
    }

    /// A sealed page.
    pub(crate) fn page(&self, at: &FrameRef) -> Option<Vec<u8>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let session = at.pack.session;
        let open = || {
            let file = File::open(self.folder.join(session.to_string())).ok()?;
            let places = places(&file, session).ok()?;
            Some((file, places))
        };
        let (file, places) = sessions.entry(session).or_insert_with(open).as_ref()?;
        let (from, len) = *places.get(&(at.pack, at.offset)).filter(|(_, len)| *len == at.stored_len)?;
        let mut sealed = vec![0; len as usize];
        file.read_exact_at(&mut sealed, from).ok()?;
        Some(sealed)
    }

    /// A root blob.
    pub(crate) fn root(&self, session: SessionNo) -> Option<Vec<u8>> {
        fs::read(self.folder.join(format!("{session}.root"))).ok()
    }
}

/// All that a file holds, up to where it was broken off.
fn places(file: &File, session: SessionNo) -> io::Result<Places> {
    let total = file.metadata()?.len();
    let (mut at, mut places) = (0, Places::new());
    while at + (HEAD_LEN as u64) <= total {
        let mut head = [0; HEAD_LEN];
        file.read_exact_at(&mut head, at)?;
        let word = |from: usize| u32::from_le_bytes(std::array::from_fn(|i| head[from + i]));
        let pack = PackRef {
            session,
            number: word(0),
            salt: std::array::from_fn(|i| head[4 + i]),
            epoch: u16::from_le_bytes([head[12], head[13]]),
        };
        let (offset, len) = (word(14), word(18));
        at += HEAD_LEN as u64;
        if len > PAGE_MAX || at + u64::from(len) > total {
            break;
        }
        places.insert((pack, offset), (at, len));
        at += u64::from(len);
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAULT: VaultId = VaultId([3; 16]);

    fn place(session: u32, offset: u32, len: u32) -> FrameRef {
        let pack = PackRef { session: SessionNo(session), number: 2, salt: [7; 8], epoch: 1 };
        FrameRef { pack, offset, stored_len: len }
    }

    #[test]
    fn pages_come_back_at_their_places_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        for (offset, byte) in [(0, 1), (9, 2)] {
            // A session that was broken off is gone on with.
            let keep = Keep::new(dir.path(), VAULT, SessionNo(5));
            keep.page(&place(5, offset, 9), &[byte; 9]);
        }
        let kept = Kept::new(dir.path(), VAULT);
        assert_eq!(kept.page(&place(5, 0, 9)), Some(vec![1; 9]));
        assert_eq!(kept.page(&place(5, 9, 9)), Some(vec![2; 9]));
        let other = PackRef { salt: [8; 8], ..place(5, 0, 9).pack };
        assert_eq!(kept.page(&FrameRef { pack: other, ..place(5, 0, 9) }), None);
        for absent in [place(5, 1, 9), place(5, 0, 8), place(6, 0, 9)] {
            assert_eq!(kept.page(&absent), None);
        }
        // Cut anywhere, what is whole before stays.
        let path = folder(dir.path(), VAULT).join(SessionNo(5).to_string());
        let all = fs::read(&path).unwrap();
        for len in 0..all.len() {
            fs::write(&path, &all[..len]).unwrap();
            let kept = Kept::new(dir.path(), VAULT);
            let first = kept.page(&place(5, 0, 9));
            assert_eq!(first.is_some(), len >= HEAD_LEN + 9, "cut to {len}");
            assert_eq!(kept.page(&place(5, 9, 9)), None);
        }
    }

    #[test]
    fn a_root_is_kept_byte_for_byte_and_the_oldest_go_first() {
        let dir = tempfile::tempdir().unwrap();
        for session in [1, 2, 3] {
            let keep = Keep::new(dir.path(), VAULT, SessionNo(session));
            let mut spool = keep.root(Spool::in_memory());
            spool.write_all(&[session as u8; 50]).unwrap();
            spool.write_all(b"end").unwrap();
            drop(spool);
            keep.page(&place(session, 0, 78), &[9; 78]);
            drop(keep);
        }
        let kept = || Kept::new(dir.path(), VAULT);
        assert_eq!(kept().root(SessionNo(2)).unwrap(), [&[2; 50][..], b"end"].concat());
        let there = |session| {
            (kept().page(&place(session, 0, 78)).is_some(), kept().root(SessionNo(session)).is_some())
        };
        Keep::new(dir.path(), VAULT, SessionNo(3)).sweep_to(310);
        assert_eq!([1, 2, 3].map(there), [(false, false), (true, true), (true, true)]);
        Keep::new(dir.path(), VAULT, SessionNo(3)).sweep();
        assert_eq!(there(2), (true, true));
    }

    #[test]
    fn what_cannot_be_written_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(folder(dir.path(), VAULT), b"a file").unwrap();
        let keep = Keep::new(dir.path(), VAULT, SessionNo(1));
        keep.page(&place(1, 0, 9), &[1; 9]);
        let mut spool = keep.root(Spool::in_memory());
        spool.write_all(b"goes on").unwrap();
        keep.sweep();
        assert_eq!(Kept::new(dir.path(), VAULT).page(&place(1, 0, 9)), None);
    }
}
