//! Key envelopes: the keyring sealed under a passphrase, a recovery code or a device secret.
use crate::{DeviceSecret, Keyring, Passphrase, RecoveryCode, RootKey};
use thiserror::Error;
/// Argon2id cost. Memory in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KdfParams {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}
impl KdfParams {
    /// What new envelopes use.
    pub const DEFAULT: Self = Self { memory_kib: 128 * 1024, passes: 3, lanes: 4 };
    /// The least a reader accepts: a store cannot lower the cost.
    pub const FLOOR: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
}
/// Which secret opens an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EnvelopeKind {
    /// Argon2id of a passphrase.
    Passphrase = 1,
    /// The recovery code; also holds the root key's seed.
    Recovery = 2,
    /// A secret that rests on one device.
    Device = 3,
}
/// The secret for one envelope.
pub enum UnlockSecret<'a> {
    /// See [`EnvelopeKind::Passphrase`].
    Passphrase(&'a Passphrase),
    /// See [`EnvelopeKind::Recovery`].
    Recovery(&'a RecoveryCode),
    /// See [`EnvelopeKind::Device`].
    Device(&'a DeviceSecret),
}
/// What an envelope held.
pub struct Opened {
    /// The keys.
    pub keyring: Keyring,
    /// The vault root key: only in recovery envelopes.
    pub root_key: Option<RootKey>,
}
/// An envelope that was refused.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WrapError {
    /// Bytes that are no envelope of this version.
    #[error("the key envelope is malformed")]
    Malformed,
    /// A format this program does not know.
    #[error("the key envelope is of version {0}, newer than this program")]
    UnknownVersion(u64),
    /// Weaker or absurdly strong KDF parameters.
    #[error("the key envelope asks for a passphrase hash outside the allowed cost")]
    KdfOutOfRange,
    /// The wrong secret, or damage: no difference is told.
    #[error("the secret does not open this key envelope")]
    WrongSecret,
    /// An envelope of another kind than the secret.
    #[error("the key envelope is not opened by this kind of secret")]
    OtherKind,
}
/// Seals a keyring. `random` is fresh: 32 bytes of salt and 12 of nonce. `root_key` only with a recovery code.
/// `kdf` is used for passphrases only.
pub fn seal_envelope(
    _keyring: &Keyring,
    _root_key: Option<&RootKey>,
    _secret: &UnlockSecret<'_>,
    _kdf: KdfParams,
    _random: [u8; 44],
) -> Vec<u8> {
    todo!()
}
/// Which secret an envelope wants, without opening it.
///
/// # Errors
/// [`WrapError::Malformed`], [`WrapError::UnknownVersion`].
pub fn envelope_kind(_envelope: &[u8]) -> Result<EnvelopeKind, WrapError> {
    todo!()
}
/// Opens an envelope: version and KDF range first, then commitment, then the seal.
///
/// # Errors
/// [`WrapError`].
pub fn open_envelope(_envelope: &[u8], _secret: &UnlockSecret<'_>) -> Result<Opened, WrapError> {
    todo!()
}
