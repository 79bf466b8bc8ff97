//! Claims: which sessions of this device are being written right now, told by locks in the state folder.
//!
//! **What it is.** One lock file for each session this device writes, held as long as the push runs. A claim
//! that exists and is free belongs to a push that broke off: its session may be completed or gone on with.
//! **What it may not do.** Touch the vault.
//! **What always holds.** A session without a claim here is left alone: it may be written elsewhere, by a copy of
//! this device. A claim is locked before it has its name, so nobody takes one that was just made.
//! **Where it is tested.** Below; with overlapping pushes in `tests/protocol`.
use backupengine_model::{SessionNo, VaultId};
use std::fs::{self, DirEntry, File};
use std::io;
use std::path::{Path, PathBuf};

/// The claims of one vault.
pub(crate) struct Claims {
    folder: PathBuf,
    prefix: String,
}

/// A session that is ours as long as this lives.
pub(crate) struct Claim {
    _locked: File,
    path: PathBuf,
}

impl Claims {
    /// The claims that are kept in `folder`.
    pub(crate) fn new(folder: &Path, vault: VaultId) -> Self {
        Self { folder: folder.to_owned(), prefix: format!("session-{vault}-") }
    }

    fn path(&self, session: SessionNo) -> PathBuf {
        self.folder.join(format!("{}{session}", self.prefix))
    }

    /// Claims a session that was just opened. `None` where the folder cannot be written: if the push breaks
    /// off then, nobody goes on with it.
    pub(crate) fn make(&self, session: SessionNo) -> Option<Claim> {
        let path = self.path(session);
        let draft = path.with_extension("new");
        let made = fs::create_dir_all(&self.folder)
            .and_then(|()| File::create(&draft))
            .and_then(|file| file.try_lock().map_err(io::Error::from).map(|()| file))
            .and_then(|file| fs::rename(&draft, &path).map(|()| file));
        match made {
            Ok(locked) => Some(Claim { _locked: locked, path }),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the local state cannot be written");
                None
            }
        }
    }

    /// Whether there are none at all: then there is nothing that broke off to go on with, and nothing to sweep.
    pub(crate) fn are_none(&self) -> bool {
        let Ok(entries) = fs::read_dir(&self.folder) else { return true };
        entries.flatten().all(|entry| self.session_of(&entry).is_none())
    }

    fn session_of(&self, entry: &DirEntry) -> Option<SessionNo> {
        let name = entry.file_name();
        let hex = name.to_str()?.strip_prefix(&self.prefix)?;
        u32::from_str_radix(hex, 16).ok().map(SessionNo)
    }

    /// Takes over the claim of a push that broke off; `None` where there is none or it is held. The session may
    /// have ended since the ledger was asked: ask again.
    pub(crate) fn take(&self, session: SessionNo) -> Option<Claim> {
        let path = self.path(session);
        let file = File::options().write(true).open(&path).ok()?;
        file.try_lock().ok()?;
        Some(Claim { _locked: file, path })
    }

    /// Removes the claims of sessions that are not open any more.
    pub(crate) fn sweep(&self, open: &[SessionNo]) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let Some(session) = self.session_of(&entry) else { continue };
            if !open.contains(&session)
                && let Some(claim) = self.take(session)
            {
                claim.end();
            }
        }
    }
}

impl Claim {
    /// The session ended: nobody needs to know any more.
    pub(crate) fn end(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "a claim could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAULT: VaultId = VaultId([3; 16]);

    #[test]
    fn only_what_broke_off_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let claims = Claims::new(&dir.path().join("deep"), VAULT);
        let session = SessionNo(7);
        assert!(claims.take(session).is_none(), "nobody claimed it: it may be written elsewhere");
        assert!(claims.are_none(), "not even the folder");
        let held = claims.make(session).unwrap();
        assert!(claims.take(session).is_none() && !claims.are_none());
        drop(held);
        let taken = claims.take(session).unwrap();
        assert!(claims.take(session).is_none());
        let other = Claims::new(&dir.path().join("deep"), VaultId([4; 16]));
        assert!(other.take(session).is_none() && other.are_none());
        taken.end();
        assert!(claims.take(session).is_none() && claims.are_none());
        assert_eq!(fs::read_dir(dir.path().join("deep")).unwrap().count(), 0);
    }

    #[test]
    fn claims_of_ended_sessions_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let claims = Claims::new(dir.path(), VAULT);
        let held = claims.make(SessionNo(1)).unwrap();
        drop(claims.make(SessionNo(2)).unwrap());
        drop(claims.make(SessionNo(3)).unwrap());
        fs::write(dir.path().join("other"), b"").unwrap();
        claims.sweep(&[SessionNo(3)]);
        drop(held);
        assert!(claims.take(SessionNo(1)).is_some(), "it was held");
        assert!(claims.take(SessionNo(2)).is_none(), "it had ended");
        assert!(claims.take(SessionNo(3)).is_some(), "it is open");
        assert!(dir.path().join("other").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_written_gives_no_claim() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), b"").unwrap();
        assert!(Claims::new(&dir.path().join("file"), VAULT).make(SessionNo(1)).is_none());
    }
}
