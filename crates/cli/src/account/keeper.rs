//! The login's tokens, shared by all processes of this user.
//!
//! **What it may not do.** Show a token.
//! **What always holds.** One process refreshes at a time: a lock on a file, which the system takes back when the
//! process ends, however it ends.
//! **Where it is tested.** Below.

use crate::config::create_private_dir;
use crate::secrets::{Name, Secrets};
use backupengine_api::auth::Secret;
use backupengine_transfer::{Keeper, Tokens, TransferError};
use std::any::Any;
use std::fs;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Keeps the tokens of one account.
#[derive(Debug)]
pub(crate) struct Kept {
    secrets: Secrets,
    folder: PathBuf,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct File {
    access: Secret,
    expires_at: i64,
    refresh: Secret,
}

impl Kept {
    /// With the secrets of an account, and its folder for the lock.
    pub(crate) fn new(secrets: Secrets, folder: PathBuf) -> Self {
        Self { secrets, folder }
    }
}

fn failed(failure: &crate::error::Failure) -> TransferError {
    TransferError::Keeper(failure.message())
}

impl Keeper for Kept {
    fn load(&self) -> Result<Option<Tokens>, TransferError> {
        let Some(text) = self.secrets.load(Name::Tokens).map_err(|e| failed(&e))? else { return Ok(None) };
        let file: File = serde_json::from_str(&text)
            .map_err(|_| TransferError::Keeper("what is kept of the login does not read".to_owned()))?;
        Ok(Some(Tokens { access: file.access, expires_at: file.expires_at, refresh: file.refresh }))
    }

    fn save(&self, tokens: &Tokens) -> Result<(), TransferError> {
        let file = File {
            access: tokens.access.clone(),
            expires_at: tokens.expires_at,
            refresh: tokens.refresh.clone(),
        };
        let text = serde_json::to_string(&file).map(Zeroizing::new);
        let text = text.map_err(|e| TransferError::Keeper(e.to_string()))?;
        self.secrets.save(Name::Tokens, &text).map_err(|e| failed(&e))
    }

    fn clear(&self) -> Result<(), TransferError> {
        self.secrets.remove(Name::Tokens).map_err(|e| failed(&e))
    }

    fn lock(&self) -> Result<Box<dyn Any + Send>, TransferError> {
        create_private_dir(&self.folder).map_err(|e| failed(&e))?;
        let path = self.folder.join("lock");
        let mut options = fs::OpenOptions::new();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).and_then(|file| file.lock().map(|()| file));
        let file =
            file.map_err(|e| TransferError::Keeper(format!("{} cannot be locked: {e}", path.display())))?;
        Ok(Box::new(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Keychain;
    use std::sync::mpsc;
    use std::time::Duration;

    fn kept(folder: &std::path::Path) -> Kept {
        Kept::new(Secrets::new(Keychain::File, folder), folder.to_owned())
    }

    #[test]
    fn tokens_are_kept_replaced_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let kept = kept(folder.path());
        assert!(kept.load().unwrap().is_none());
        for refresh in ["one", "two"] {
            let tokens =
                Tokens { access: Secret("a".into()), expires_at: 5, refresh: Secret(refresh.into()) };
            kept.save(&tokens).unwrap();
            assert_eq!(kept.load().unwrap().unwrap().refresh.0, refresh);
        }
        kept.clear().unwrap();
        assert!(kept.load().unwrap().is_none());
        std::fs::write(folder.path().join("tokens"), "hunter2").unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(
            folder.path().join("tokens"),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        let error = kept.load().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn one_holds_the_lock_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let held = kept(folder.path()).lock().unwrap();
        let (told, heard) = mpsc::channel();
        let path = folder.path().to_owned();
        let other = std::thread::spawn(move || {
            let lock = kept(&path).lock().unwrap();
            told.send(()).unwrap();
            drop(lock);
        });
        assert!(heard.recv_timeout(Duration::from_millis(200)).is_err(), "two held it");
        drop(held);
        heard.recv_timeout(Duration::from_secs(10)).unwrap();
        other.join().unwrap();
    }
}
