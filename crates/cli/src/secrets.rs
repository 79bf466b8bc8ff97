//! Where secrets of an account rest: the system's key store, or files of this user alone.
//!
//! **What it may not do.** Show a secret, or wait for ever for a key store that does not answer.
//! **What always holds.** A file lies in a folder of mode 0700, has mode 0600, and is replaced whole; one that others
//! may read is refused.
//! **Where it is tested.** Below; `tests/cli` (modes, outputs without secrets).

use crate::config::{create_private_dir, write_private};
use crate::error::{Failure, Kind};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Name under which the system's key store lists this program.
const SERVICE: &str = "backupengine";
/// How long a key store may take to say that it is there.
const PROBE: Duration = Duration::from_secs(5);
/// How long it may take otherwise: somebody may have to unlock it.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is kept. Each rests on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// Of the login.
    Tokens,
    /// Signs requests and roots.
    SigningKey,
    /// Open the vault.
    DataKeys,
}

impl Name {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::SigningKey => "signing-key",
            Self::DataKeys => "data-keys",
        }
    }
}

/// Where secrets rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Keychain {
    /// Files of this user.
    File,
    /// The system's key store.
    Os,
}

impl Keychain {
    /// What `BACKUPENGINE_KEYCHAIN` says: `file`, `os`, or `auto`, which asks the system.
    ///
    /// # Errors
    /// Bad usage for another word; where `os` was said and there is none.
    pub(crate) fn choose() -> Result<Self, Failure> {
        let said = std::env::var("BACKUPENGINE_KEYCHAIN").unwrap_or_default();
        match said.as_str() {
            "file" => Ok(Self::File),
            "os" => probe().map(|()| Self::Os),
            "" | "auto" => Ok(match may_answer().then(probe) {
                Some(Ok(())) => Self::Os,
                Some(Err(failure)) => {
                    tracing::info!("the key store of the system is not used: {}", failure.message());
                    Self::File
                }
                None => Self::File,
            }),
            _ => Err(Failure::usage(format!("BACKUPENGINE_KEYCHAIN={said} is unknown"))
                .hint("write file, os or auto")),
        }
    }

    /// For people.
    pub(crate) const fn shown(self) -> &'static str {
        match self {
            Self::File => "files of this user alone",
            Self::Os if cfg!(target_os = "macos") => "the keychain of macOS",
            Self::Os if cfg!(windows) => "the Credential Manager of Windows",
            Self::Os => "the Secret Service of this desktop",
        }
    }

    /// In JSON.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Os => "os",
        }
    }
}

/// Without a session bus there is nobody to ask, and asking would start one.
fn may_answer() -> bool {
    let unix_desktop = cfg!(unix) && !cfg!(target_os = "macos");
    !unix_desktop || std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some_and(|v| !v.is_empty())
}

/// The secrets of one account.
#[derive(Clone, Debug)]
pub(crate) struct Secrets {
    keychain: Keychain,
    /// Of the account, below the state folder.
    folder: PathBuf,
}

impl Secrets {
    /// Those of the account with this folder.
    pub(crate) fn new(keychain: Keychain, folder: &Path) -> Self {
        Self { keychain, folder: folder.to_owned() }
    }

    /// Where they rest.
    pub(crate) fn keychain(&self) -> Keychain {
        self.keychain
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it cannot be read, or others may read it.
    pub(crate) fn load(&self, name: Name) -> Result<Option<Zeroizing<String>>, Failure> {
        match self.keychain {
            Keychain::File => {
                let path = self.folder.join(name.as_str());
                let text = match fs::read_to_string(&path) {
                    Ok(text) => Zeroizing::new(text),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(Failure::io("read", &path, error)),
                };
                refuse_if_shared(&path)?;
                Ok(Some(text))
            }
            Keychain::Os => ask(self.entry(name), PATIENCE, |entry| match entry.get_password() {
                Ok(text) => Ok(Some(Zeroizing::new(text))),
                Err(keyring::Error::NoEntry) => Ok(None),
                Err(error) => Err(error),
            }),
        }
    }

    /// Keeps one: durable when this returns.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub(crate) fn save(&self, name: Name, text: &str) -> Result<(), Failure> {
        match self.keychain {
            Keychain::File => {
                create_private_dir(&self.folder)?;
                write_private(&self.folder.join(name.as_str()), text.as_bytes())
            }
            Keychain::Os => {
                let text = Zeroizing::new(text.to_owned());
                ask(self.entry(name), PATIENCE, move |entry| entry.set_password(&text))
            }
        }
    }

    /// Takes one away.
    ///
    /// # Errors
    /// When it stays.
    pub(crate) fn remove(&self, name: Name) -> Result<(), Failure> {
        match self.keychain {
            Keychain::File => {
                let path = self.folder.join(name.as_str());
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        Err(Failure::io("remove", &path, error))
                    }
                    _ => Ok(()),
                }
            }
            Keychain::Os => ask(self.entry(name), PATIENCE, |entry| match entry.delete_credential() {
                Err(keyring::Error::NoEntry) => Ok(()),
                other => other,
            }),
        }
    }

    /// Homes of one user are told apart by their folder.
    fn entry(&self, name: Name) -> String {
        format!("{}/{}", self.folder.display(), name.as_str())
    }
}

/// Whether there is a key store that answers.
fn probe() -> Result<(), Failure> {
    ask("probe".to_owned(), PROBE, |entry| match entry.get_password() {
        Ok(_) | Err(keyring::Error::NoEntry) => Ok(()),
        Err(error) => Err(error),
    })
}

/// Asks the key store on a thread of its own: it may never answer.
fn ask<T: Send + 'static>(
    name: String,
    patience: Duration,
    what: impl FnOnce(&keyring::Entry) -> keyring::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let trouble = |error: String| {
        Failure::new(Kind::Failed, format!("the key store of the system does not help: {error}"))
            .hint("unlock it; or log in anew with BACKUPENGINE_KEYCHAIN=file, which keeps keys in files")
    };
    let (told, answer) = mpsc::channel();
    let asking = move || drop(told.send(keyring::Entry::new(SERVICE, &name).and_then(|entry| what(&entry))));
    std::thread::Builder::new()
        .name("keychain".into())
        .spawn(asking)
        .map_err(|e| Failure::new(Kind::Failed, e).while_doing("no thread can be started"))?;
    match answer.recv_timeout(patience) {
        Ok(answer) => answer.map_err(|error| trouble(describe(&error))),
        Err(_) => Err(trouble("it does not answer".to_owned())),
    }
}

/// Without what some of these errors carry: the secret itself.
fn describe(error: &keyring::Error) -> String {
    match error {
        keyring::Error::BadEncoding(_) => "what it keeps is no text".to_owned(),
        keyring::Error::NoDefaultStore => "there is none".to_owned(),
        keyring::Error::PlatformFailure(cause) | keyring::Error::NoStorageAccess(cause) => cause.to_string(),
        _ => "it refuses".to_owned(),
    }
}

/// Refuses a file that another user owns or may read.
///
/// # Errors
/// `Denied`.
#[cfg(unix)]
pub(crate) fn refuse_if_shared(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt;
    let found = fs::metadata(path).map_err(|e| Failure::io("read", path, e))?;
    let me = rustix::process::geteuid().as_raw();
    let at = path.display();
    if found.uid() != me {
        return Err(Failure::new(Kind::Denied, format!("the key file {at} belongs to another user"))
            .hint(format!("it has to belong to you and be closed to others: chown and chmod 600 {at}")));
    }
    if found.mode() & 0o077 != 0 {
        return Err(Failure::new(Kind::Denied, format!("the key file {at} is open to other users")).hint(
            format!(
                "close it: chmod 600 {at}; if somebody may have read it, revoke this device and log in anew"
            ),
        ));
    }
    Ok(())
}

/// Refuses a file that another user owns or may read.
#[cfg(not(unix))]
pub(crate) fn refuse_if_shared(_path: &Path) -> Result<(), Failure> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(folder: &Path) -> Secrets {
        Secrets::new(Keychain::File, &folder.join("account"))
    }

    #[test]
    fn each_secret_rests_in_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = secrets(folder.path());
        assert!(secrets.load(Name::Tokens).unwrap().is_none());
        secrets.remove(Name::Tokens).unwrap();
        for (name, text) in [(Name::Tokens, "t"), (Name::SigningKey, "s"), (Name::DataKeys, "d")] {
            secrets.save(name, text).unwrap();
        }
        secrets.save(Name::Tokens, "t2").unwrap();
        assert_eq!(secrets.load(Name::Tokens).unwrap().unwrap().as_str(), "t2");
        assert_eq!(secrets.load(Name::SigningKey).unwrap().unwrap().as_str(), "s");
        secrets.remove(Name::SigningKey).unwrap();
        assert!(secrets.load(Name::SigningKey).unwrap().is_none());
        assert_eq!(fs::read_dir(folder.path().join("account")).unwrap().count(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn files_are_closed_and_open_ones_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let secrets = secrets(folder.path());
        secrets.save(Name::DataKeys, "hunter2").unwrap();
        let path = folder.path().join("account/data-keys");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        for open in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
            let failure = secrets.load(Name::DataKeys).unwrap_err();
            assert_eq!(failure.kind, Kind::Denied);
            assert!(!failure.message().contains("hunter2"));
        }
    }

    #[test]
    fn no_secret_shows_in_what_a_key_store_says() {
        let error = keyring::Error::BadEncoding(b"hunter2".to_vec());
        assert!(!describe(&error).contains("hunter2"));
    }
}
