//! What this device keeps for one vault: its signing key, its certificate and a key envelope of its own.
//!
//! **What it may not do.** Keep anything where another user could read it.
//! **What always holds.** The file belongs to this user and nobody else may read it; otherwise it is refused.
//! **Where it is tested.** Below; `tests/cli` (owner and mode checks, a new device).

use crate::config::write_private;
use crate::error::{Failure, Kind};
use backupengine_model::{DeviceId, VaultId};
use backupengine_seal::{
    Certificate, DeviceKey, DeviceSecret, KdfParams, Keyring, Role, RootKey, UnlockSecret,
};
use std::fs;
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// What the file holds, in hexadecimal digits.
#[derive(serde::Serialize, serde::Deserialize, Zeroize, ZeroizeOnDrop)]
struct File {
    version: u32,
    seed: String,
    certificate: String,
    secret: String,
    envelope: String,
}

/// This device as one vault knows it.
pub(crate) struct Device {
    pub(crate) certificate: Certificate,
    secret: DeviceSecret,
    /// The keyring under `secret`.
    pub(crate) envelope: Vec<u8>,
    seed: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({}, secret)", self.id())
    }
}

/// The file of a vault below the state folder.
pub(crate) fn path(state: &Path, vault: VaultId) -> PathBuf {
    state.join(vault.to_string()).join("device")
}

impl Device {
    /// Makes a device, certified by the vault's root key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(crate) fn create(keyring: &Keyring, root: &RootKey, now_secs: i64) -> Result<Self, Failure> {
        let seed = Zeroizing::new(random::<32>()?);
        let key = DeviceKey::from_seed(*seed);
        let certificate = root.certify(keyring.vault(), key.public(), Role::Owner, now_secs);
        Self::with_certificate(keyring, certificate, seed, DeviceSecret::from_bytes(random()?))
    }

    /// A device with a certificate; the keyring goes under its secret.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(crate) fn with_certificate(
        keyring: &Keyring,
        certificate: Certificate,
        seed: Zeroizing<[u8; 32]>,
        secret: DeviceSecret,
    ) -> Result<Self, Failure> {
        let unlock = UnlockSecret::Device(&secret);
        let envelope =
            backupengine_seal::seal_envelope(keyring, None, &unlock, KdfParams::DEFAULT, random()?)
                .map_err(|e| Failure::new(Kind::Failed, e))?;
        Ok(Self { certificate, secret, envelope, seed })
    }

    /// A device from what is kept of it. `None` where the certificate is another key's.
    pub(crate) fn from_parts(
        certificate: Certificate,
        secret: DeviceSecret,
        envelope: Vec<u8>,
        seed: Zeroizing<[u8; 32]>,
    ) -> Option<Self> {
        let fits = certificate.device_public == DeviceKey::from_seed(*seed).public();
        fits.then_some(Self { certificate, secret, envelope, seed })
    }

    /// The same device with other keys of its vault: after a rotation.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(crate) fn with_keys(&self, keyring: &Keyring) -> Result<Self, Failure> {
        Self::with_certificate(keyring, self.certificate.clone(), self.seed.clone(), self.secret.clone())
    }

    /// The keys it keeps. `None` where they do not open.
    pub(crate) fn keyring(&self) -> Option<Keyring> {
        let opened = backupengine_seal::open_envelope(&self.envelope, &self.unlock_secret());
        if let Err(error) = &opened {
            tracing::debug!(%error, "the keys of this device do not open");
        }
        opened.ok().map(|opened| opened.keyring)
    }

    /// Its id in snapshots.
    pub(crate) fn id(&self) -> DeviceId {
        self.certificate.device()
    }

    /// The key that signs its snapshots.
    pub(crate) fn signing_key(&self) -> DeviceKey {
        DeviceKey::from_seed(*self.seed)
    }

    /// What opens [`Device::envelope`].
    pub(crate) fn unlock_secret(&self) -> UnlockSecret<'_> {
        UnlockSecret::Device(&self.secret)
    }

    /// The device of this vault, if this machine is one.
    ///
    /// # Errors
    /// When the file is not this user's alone, or does not read.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>, Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::io("read", path, error)),
        };
        crate::secrets::refuse_if_shared(path)?;
        let broken = |what: &str| {
            Failure::new(Kind::Failed, format!("the device file {} does not read: {what}", path.display()))
                .hint("move it away: the passphrase opens the vault, and a push asks for the recovery code once")
        };
        let file: File = serde_json::from_str(&text).map_err(|_| broken("it is no device file"))?;
        if file.version != 1 {
            return Err(broken("it is of a newer version"));
        }
        let seed = bytes32(&file.seed).ok_or_else(|| broken("its key"))?;
        let secret = bytes32(&file.secret).ok_or_else(|| broken("its secret"))?;
        let certificate = unhex(&file.certificate).ok_or_else(|| broken("its certificate"))?;
        let certificate = Certificate::decode(&certificate).map_err(|_| broken("its certificate"))?;
        let envelope = unhex(&file.envelope).ok_or_else(|| broken("its key envelope"))?;
        Self::from_parts(certificate, DeviceSecret::from_bytes(*secret), envelope, seed)
            .map(Some)
            .ok_or_else(|| broken("key and certificate are of two devices"))
    }

    /// Keeps it, for this user alone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Failure> {
        let file = File {
            version: 1,
            seed: hex(&*self.seed),
            certificate: hex(&self.certificate.encode()),
            secret: hex(self.secret.expose()),
            envelope: hex(&self.envelope),
        };
        let text = serde_json::to_string(&file).map(Zeroizing::new);
        let text = text.map_err(|e| Failure::new(Kind::Failed, e))?;
        write_private(path, text.as_bytes())
    }
}

/// Fresh random bytes of the operating system.
///
/// # Errors
/// When it gives none.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| Failure::new(Kind::Failed, e).while_doing("the system gives no randomness"))?;
    Ok(bytes)
}

/// Random bytes. A key from bytes that are not random would give the vault away, so there is no going on.
pub(crate) fn fill(bytes: &mut [u8]) {
    if getrandom::fill(bytes).is_err() {
        tracing::error!("the system gives no randomness");
        std::process::abort();
    }
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |four: u8| char::from(DIGITS[usize::from(four)]);
    // One allocation of the right size: a string of a secret that grows would leave copies behind.
    let mut text = String::with_capacity(2 * bytes.len());
    text.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
    text
}

/// Bytes from hexadecimal digits.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let digit = |c: u8| (c as char).to_digit(16);
    text.as_bytes().chunks_exact(2).map(|p| Some((digit(p[0])? << 4 | digit(p[1])?) as u8)).collect()
}

fn bytes32(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = Zeroizing::new(unhex(text)?);
    Some(Zeroizing::new(bytes.as_slice().try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_seal::{DedupSecret, MasterSecret};

    fn device() -> Device {
        let root = RootKey::from_seed([3; 32]);
        let vault = VaultId([9; 16]);
        let keyring = Keyring::new(
            vault,
            MasterSecret::from_bytes([1; 32]),
            DedupSecret::from_bytes([2; 32]),
            root.public(),
        );
        Device::create(&keyring, &root, 1_700_000_000).unwrap()
    }

    #[test]
    fn it_is_kept_and_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), VaultId([9; 16]));
        assert!(Device::load(&path).unwrap().is_none());
        let made = device();
        made.save(&path).unwrap();
        let found = Device::load(&path).unwrap().unwrap();
        assert_eq!(found.id(), made.id());
        assert_eq!(found.certificate, made.certificate);
        assert!(backupengine_seal::open_envelope(&found.envelope, &found.unlock_secret()).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), VaultId([9; 16]));
        device().save(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let failure = Device::load(&path).unwrap_err();
        assert_eq!(failure.kind, Kind::Denied);
        assert!(failure.hints[0].contains("chmod 600"));
    }

    #[test]
    fn damage_is_told_without_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), VaultId([9; 16]));
        let made = device();
        made.save(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let other = text.replacen(&hex(&*made.seed), &hex(&[7; 32]), 1);
        fs::write(&path, other).unwrap();
        let failure = Device::load(&path).unwrap_err();
        assert!(failure.message().contains("two devices"), "{}", failure.message());
        fs::write(&path, "{\"seed\":\"secret\"}").unwrap();
        let failure = Device::load(&path).unwrap_err();
        assert!(!failure.message().contains("secret\""), "{}", failure.message());
        assert!(!format!("{made:?}").contains(&hex(&*made.seed)));
    }
}
