//! What this device keeps of an account: who and where, its keys, its login, and its place in the vault.
//!
//! **What it may not do.** Keep a secret anywhere but with [`Secrets`].
//! **What always holds.** One folder below the state folder for each server; signing key, data keys and tokens rest
//! apart from one another; nothing of a vault is kept before its fingerprint was compared or its recovery code opened
//! it.
//! **Where it is tested.** Below; `tests/cli`.

mod approval;
mod code;
mod enrol;
mod fingerprint;
mod keeper;
mod keys;
mod loopback;
mod online;
pub(crate) mod role;
mod rotation;

pub(crate) use approval::{recover, renewed, rotated, take_over};
pub(crate) use code::{CodeSource, show_factor};
pub(crate) use enrol::{enrol, region_of};
pub(crate) use fingerprint::{compare, shown};
pub(crate) use keys::Keys;
pub(crate) use loopback::by_provider;
pub(crate) use online::{Online, idem, name_of, seal_name};
pub(crate) use rotation::{DeviceKeys, change_keys, sealed_for};

use crate::config::{create_private_dir, write_private};
use crate::error::{Failure, Kind};
use crate::keychain::{Device, hex, unhex};
use crate::secrets::{Keychain, Name, Secrets};
use backupengine_seal::Certificate;
use std::fs;
use std::path::{Path, PathBuf};

/// The account's file. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Profile {
    version: u32,
    /// Address of the control plane.
    pub(crate) base: String,
    /// Who logs in.
    pub(crate) email: String,
    /// The user's id there.
    pub(crate) user: String,
    /// Where the account lives.
    pub(crate) region: String,
    /// Where the secrets rest.
    pub(crate) keychain: Keychain,
}

/// This device's place in the account's vault. Of use only together with the data keys.
#[derive(serde::Serialize, serde::Deserialize)]
struct InVault {
    version: u32,
    vault: String,
    certificate: String,
    envelope: String,
}

/// An account as this device knows it.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    folder: PathBuf,
    pub(crate) profile: Profile,
    pub(crate) secrets: Secrets,
}

impl Account {
    /// A new one; nothing is written yet.
    pub(crate) fn new(state: &Path, base: &str, region: &str, keychain: Keychain) -> Self {
        let folder = folder(state, base);
        let profile = Profile {
            version: 1,
            base: base.to_owned(),
            email: String::new(),
            user: String::new(),
            region: region.to_owned(),
            keychain,
        };
        Self { secrets: Secrets::new(keychain, &folder), folder, profile }
    }

    /// The account at this address, where there is one.
    ///
    /// # Errors
    /// When its file does not read.
    pub(crate) fn load(state: &Path, base: &str) -> Result<Option<Self>, Failure> {
        let folder = folder(state, base);
        let path = folder.join("account.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::io("read", &path, error)),
        };
        let profile: Option<Profile> = serde_json::from_str(&text).ok();
        let profile = profile.filter(|p| p.version == 1 && p.base == base).ok_or_else(|| {
            Failure::new(Kind::Failed, format!("the account file {} does not read", path.display()))
                .hint(format!("move it away and log in anew: backupengine login --server {base}"))
        })?;
        Ok(Some(Self { secrets: Secrets::new(profile.keychain, &folder), folder, profile }))
    }

    /// All accounts of this home.
    ///
    /// # Errors
    /// When one does not read.
    pub(crate) fn all(state: &Path) -> Result<Vec<Self>, Failure> {
        let mut all = Vec::new();
        for entry in fs::read_dir(state.join("accounts")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path().join("account.json")).unwrap_or_default();
            if let Ok(profile) = serde_json::from_str::<Profile>(&text) {
                all.extend(Self::load(state, &profile.base)?);
            }
        }
        Ok(all)
    }

    /// Writes who and where down.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        create_private_dir(&self.folder)?;
        let text = serde_json::to_string(&self.profile).map_err(|e| Failure::new(Kind::Failed, e))?;
        write_private(&self.folder.join("account.json"), text.as_bytes())
    }

    /// Folder of what is kept of it.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Host and port, for people.
    pub(crate) fn host(&self) -> &str {
        host(&self.profile.base)
    }

    /// This device in the account's vault, once it has its keys.
    ///
    /// # Errors
    /// When what is kept does not read or does not fit together.
    pub(crate) fn device(&self) -> Result<Option<Device>, Failure> {
        let Some((certificate, envelope)) = self.place()? else { return Ok(None) };
        let Some(keys) = Keys::load(&self.secrets)? else { return Ok(None) };
        keys.placed(certificate, envelope)
            .map(Some)
            .ok_or_else(|| self.broken("of another device than the keys"))
    }

    /// Keeps the device's place in a vault.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn keep(&self, device: &Device) -> Result<(), Failure> {
        let place = InVault {
            version: 1,
            vault: device.certificate.vault.to_string(),
            certificate: hex(&device.certificate.encode()),
            envelope: hex(&device.envelope),
        };
        let text = serde_json::to_string(&place).map_err(|e| Failure::new(Kind::Failed, e))?;
        create_private_dir(&self.folder)?;
        write_private(&self.folder.join("vault.json"), text.as_bytes())
    }

    fn place(&self) -> Result<Option<(Certificate, Vec<u8>)>, Failure> {
        let path = self.folder.join("vault.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::io("read", &path, error)),
        };
        let read = || {
            let place: InVault =
                serde_json::from_str(&text).ok().filter(|place: &InVault| place.version == 1)?;
            let certificate = Certificate::decode(&unhex(&place.certificate)?).ok()?;
            Some((certificate, unhex(&place.envelope)?))
        };
        read().map(Some).ok_or_else(|| self.broken("damaged"))
    }

    fn broken(&self, what: &str) -> Failure {
        let path = self.folder.join("vault.json");
        Failure::new(Kind::Failed, format!("{} is {what}", path.display())).hint(format!(
            "move it away and run: backupengine login --server {}; it asks for what is needed",
            self.profile.base
        ))
    }

    /// Forgets the login; the keys stay.
    ///
    /// # Errors
    /// When it stays.
    pub(crate) fn forget_login(&self) -> Result<(), Failure> {
        self.secrets.remove(Name::Tokens)
    }

    /// Forgets the keys and the place in the vault as well: this device is none of the account's any more.
    ///
    /// # Errors
    /// When something stays.
    pub(crate) fn forget(&self) -> Result<(), Failure> {
        self.forget_login()?;
        self.forget_keys()?;
        let path = self.folder.join("account.json");
        fs::remove_file(&path).map_err(|e| Failure::io("remove", &path, e))
    }

    /// Forgets the keys of this device, so that the next login makes new ones.
    ///
    /// # Errors
    /// When something stays.
    pub(crate) fn forget_keys(&self) -> Result<(), Failure> {
        self.secrets.remove(Name::SigningKey)?;
        self.secrets.remove(Name::DataKeys)?;
        self.forget_vault()
    }

    /// Forgets this device's place in the vault.
    ///
    /// # Errors
    /// When it stays.
    pub(crate) fn forget_vault(&self) -> Result<(), Failure> {
        let path = self.folder.join("vault.json");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::io("remove", &path, error))
            }
            _ => Ok(()),
        }
    }
}

/// Host and port of an address.
pub(crate) fn host(base: &str) -> &str {
    base.split_once("://").map_or(base, |(_, rest)| rest)
}

fn folder(state: &Path, base: &str) -> PathBuf {
    let name: String =
        host(base).chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    state.join("accounts").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_kept_apart_by_server() {
        let state = tempfile::tempdir().unwrap();
        assert!(Account::all(state.path()).unwrap().is_empty());
        for base in ["https://b.example", "http://127.0.0.1:8080"] {
            assert!(Account::load(state.path(), base).unwrap().is_none());
            let mut account = Account::new(state.path(), base, "eu", Keychain::File);
            account.profile.email = "a@example.org".to_owned();
            account.save().unwrap();
            assert_eq!(Account::load(state.path(), base).unwrap().unwrap().profile, account.profile);
        }
        assert_eq!(Account::all(state.path()).unwrap().len(), 2);
        assert!(state.path().join("accounts/127.0.0.1-8080/account.json").exists());
    }

    #[test]
    fn a_damaged_file_is_told() {
        let state = tempfile::tempdir().unwrap();
        let account = Account::new(state.path(), "https://b.example", "eu", Keychain::File);
        account.save().unwrap();
        fs::write(account.folder().join("vault.json"), "{}").unwrap();
        assert!(account.device().unwrap_err().message().contains("damaged"));
        fs::write(account.folder().join("account.json"), "{}").unwrap();
        assert!(Account::load(state.path(), "https://b.example").is_err());
    }
}
