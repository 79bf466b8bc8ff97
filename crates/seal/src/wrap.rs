//! Key envelopes: the keyring sealed under a passphrase, a recovery code, a device secret or to a device's key.
//!
//! **What it may not do.** Tell a wrong secret from a forgery, or work at a cost a store chose.
//! **What always holds.** Order of opening: version, form, checksum, kind, cost; then the commitment, in constant time;
//! then the seal. The header is bound as additional data, as the very bytes that were read.
//! **Where it is tested.** Below, and `tests/formats` (frozen vectors).

use crate::backend::{Backend, Cipher};
use crate::cbor::{self, Unexpected};
use crate::keyring::Epochs;
use crate::{DedupSecret, DeviceSecret, Keyring, MasterSecret, Passphrase, RecoveryCode, RootKey, context};
use backupengine_model::VaultId;
use minicbor::Decoder;
use std::collections::BTreeMap;
use std::fmt;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

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
    /// The most a reader accepts: a store cannot make unlocking eat the machine.
    pub const CEILING: Self = Self { memory_kib: 4 << 20, passes: 64, lanes: 64 };

    fn in_range(self) -> bool {
        (Self::FLOOR.memory_kib..=Self::CEILING.memory_kib).contains(&self.memory_kib)
            && (Self::FLOOR.passes..=Self::CEILING.passes).contains(&self.passes)
            && (Self::FLOOR.lanes..=Self::CEILING.lanes).contains(&self.lanes)
    }
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
    /// A new device's X25519 key, by the device that approves it; see [`seal_for_device`].
    Enrolment = 4,
}

impl EnvelopeKind {
    const fn from_u8(kind: u8) -> Option<Self> {
        Some(match kind {
            1 => Self::Passphrase,
            2 => Self::Recovery,
            3 => Self::Device,
            4 => Self::Enrolment,
            _ => return None,
        })
    }
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

impl UnlockSecret<'_> {
    /// The kind of envelope it opens.
    pub const fn kind(&self) -> EnvelopeKind {
        match self {
            Self::Passphrase(_) => EnvelopeKind::Passphrase,
            Self::Recovery(_) => EnvelopeKind::Recovery,
            Self::Device(_) => EnvelopeKind::Device,
        }
    }
}

impl fmt::Debug for UnlockSecret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnlockSecret(secret)")
    }
}

/// What an envelope held.
#[derive(Debug)]
pub struct Opened {
    /// The keys.
    pub keyring: Keyring,
    /// The vault root key: only in recovery envelopes.
    pub root_key: Option<RootKey>,
}

/// An envelope that was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WrapError {
    /// Bytes that are no envelope of this version.
    #[error("the key envelope is malformed")]
    Malformed,
    /// Its bytes changed since it was written. Told apart from a wrong secret by a checksum that anyone can
    /// compute: a person must not look for a wrong passphrase where the disk is at fault.
    #[error("the key envelope is damaged")]
    Damaged,
    /// A format this program does not know.
    #[error("the key envelope is of version {0}, newer than this program")]
    UnknownVersion(u64),
    /// Weaker or absurdly strong KDF parameters.
    #[error("the key envelope asks for a passphrase hash outside the allowed cost")]
    KdfOutOfRange,
    /// The wrong secret, or an envelope made up by somebody else: no difference is told.
    #[error("the secret does not open this key envelope")]
    WrongSecret,
    /// An envelope of another kind than the secret.
    #[error("the key envelope is not opened by this kind of secret")]
    OtherKind,
    /// A device's key that nothing can be sealed to: of small order.
    #[error("the device's key is no key that anything could be sealed to")]
    WeakKey,
    /// More than an envelope holds.
    #[error("what the new device is to be told takes {0} bytes, more than an envelope holds")]
    TooLong(usize),
    /// The passphrase hash needs more memory than there is.
    #[error("the passphrase hash needs {memory_kib} KiB of memory, which could not be had")]
    NoMemory {
        /// What it asked for.
        memory_kib: u32,
    },
}

/// Version of the envelope's form.
const VERSION: u64 = 1;

/// Bytes of the checksum: of BLAKE3 over everything before it.
const CHECK_LEN: usize = 8;

/// What stands outside the seal; bound to it as additional data.
#[derive(Clone, Copy)]
struct Header {
    vault: VaultId,
    epoch: u16,
    kind: EnvelopeKind,
    /// Passphrases only.
    kdf: Option<KdfParams>,
    /// In enrolment envelopes: HPKE's encapsulated key, which is drawn anew like a salt.
    salt: [u8; 32],
}

/// An envelope taken apart.
struct Parts<'a> {
    header: Header,
    /// None in enrolment envelopes: HPKE derives it.
    nonce: Option<[u8; 12]>,
    commitment: [u8; 32],
    sealed: &'a [u8],
}

/// Seals a keyring. `random` is fresh: 32 bytes of salt and 12 of nonce. `root_key` is written under a recovery
/// code only, and left out under any other secret. `kdf` is used for passphrases only.
///
/// # Errors
/// [`WrapError::KdfOutOfRange`], [`WrapError::NoMemory`]: with a passphrase only.
pub fn seal_envelope(
    keyring: &Keyring,
    root_key: Option<&RootKey>,
    secret: &UnlockSecret<'_>,
    kdf: KdfParams,
    random: [u8; 44],
) -> Result<Vec<u8>, WrapError> {
    let (mut salt, mut nonce) = ([0; 32], [0; 12]);
    salt.copy_from_slice(&random[..32]);
    nonce.copy_from_slice(&random[32..]);
    let kind = secret.kind();
    let header = Header {
        vault: keyring.vault(),
        epoch: keyring.current_epoch(),
        kind,
        kdf: (kind == EnvelopeKind::Passphrase).then_some(kdf),
        salt,
    };
    let (cipher, commitment) = header.key(secret)?;
    let root_key = root_key.filter(|_| kind == EnvelopeKind::Recovery);
    let mut body = encode_keys(keyring, root_key, None, None);
    let tag = cipher.seal(&nonce, &header.aad(), &mut body);
    // The buffer holds sealed bytes now, so that moving them leaves nothing behind.
    let sealed = [&body[..], &tag].concat();
    Ok(Parts { header, nonce: Some(nonce), commitment, sealed: &sealed }.encode())
}

/// Which secret an envelope wants, without opening it.
///
/// # Errors
/// [`WrapError::Malformed`], [`WrapError::Damaged`], [`WrapError::UnknownVersion`].
pub fn envelope_kind(envelope: &[u8]) -> Result<EnvelopeKind, WrapError> {
    Parts::decode(envelope).map(|parts| parts.header.kind)
}

/// Which vault an envelope says it is for, without opening it.
///
/// # Errors
/// As [`envelope_kind`].
pub fn envelope_vault(envelope: &[u8]) -> Result<VaultId, WrapError> {
    Parts::decode(envelope).map(|parts| parts.header.vault)
}

/// Up to which key epoch an envelope says its keys reach, without opening it.
///
/// # Errors
/// As [`envelope_kind`].
pub fn envelope_epoch(envelope: &[u8]) -> Result<u16, WrapError> {
    Parts::decode(envelope).map(|parts| parts.header.epoch)
}

/// Opens an envelope: version, checksum and KDF range first, then commitment, then the seal.
///
/// # Errors
/// [`WrapError`].
pub fn open_envelope(envelope: &[u8], secret: &UnlockSecret<'_>) -> Result<Opened, WrapError> {
    let Parts { header, nonce, commitment, sealed } = Parts::decode(envelope)?;
    let nonce = nonce.filter(|_| header.kind == secret.kind()).ok_or(WrapError::OtherKind)?;
    let (cipher, expected) = header.key(secret)?;
    if !bool::from(expected.ct_eq(&commitment)) {
        return Err(WrapError::WrongSecret);
    }
    let mut plain = Zeroizing::new(sealed.to_vec());
    let len = cipher.open(&nonce, &header.aad(), &mut plain).map_err(|_| WrapError::WrongSecret)?;
    let Body { keyring, root_key, .. } =
        decode_keys(&header, &plain[..len]).map_err(|Unexpected| WrapError::Malformed)?;
    Ok(Opened { keyring, root_key })
}

impl Header {
    /// KEK and commitment. Refuses a cost out of range before any work is done.
    fn key(&self, secret: &UnlockSecret<'_>) -> Result<(Cipher, [u8; 32]), WrapError> {
        let secret = match (secret, self.kdf) {
            (UnlockSecret::Passphrase(passphrase), Some(kdf)) => stretch(passphrase, &self.salt, kdf)?,
            (UnlockSecret::Recovery(code), None) => Zeroizing::new(code.0),
            (UnlockSecret::Device(secret), None) => Zeroizing::new(secret.0),
            _ => return Err(WrapError::OtherKind),
        };
        // The salt enters here as well: random secrets are not stretched, and each envelope has its own key.
        let info: [&[u8]; 3] = [&[self.kind as u8], &self.vault.0, &self.salt];
        let derived = context::derive::<64>(&*secret, context::ENVELOPE, &info);
        let (mut kek, mut commitment) = (Zeroizing::new([0; 32]), [0; 32]);
        kek.copy_from_slice(&derived[..32]);
        commitment.copy_from_slice(&derived[32..]);
        Ok((Cipher::new(Backend::DEFAULT, &kek), commitment))
    }

    fn aad(&self) -> Vec<u8> {
        let mut aad = context::ENVELOPE.to_vec();
        cbor::write(&mut aad, |e| {
            e.map(self.fields())?;
            self.encode(e)
        });
        aad
    }

    fn fields(&self) -> u64 {
        5 + u64::from(self.kdf.is_some())
    }

    fn encode(
        &self,
        e: &mut minicbor::Encoder<&mut Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        e.u8(1)?.u64(VERSION)?;
        e.u8(2)?.bytes(&self.vault.0)?;
        e.u8(3)?.u16(self.epoch)?;
        e.u8(4)?.u8(self.kind as u8)?;
        if let Some(kdf) = self.kdf {
            e.u8(5)?.array(3)?.u32(kdf.memory_kib)?.u32(kdf.passes)?.u32(kdf.lanes)?;
        }
        e.u8(6)?.bytes(&self.salt)?;
        Ok(())
    }
}

impl<'a> Parts<'a> {
    fn encode(&self) -> Vec<u8> {
        let check = blake3::hash(&self.encode_fields(None));
        self.encode_fields(Some(&check.as_bytes()[..CHECK_LEN]))
    }

    fn fields(&self) -> u64 {
        self.header.fields() + 2 + u64::from(self.nonce.is_some())
    }

    fn encode_fields(&self, check: Option<&[u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        cbor::write(&mut out, |e| {
            e.map(self.fields() + u64::from(check.is_some()))?;
            self.header.encode(e)?;
            if let Some(nonce) = &self.nonce {
                e.u8(7)?.bytes(nonce)?;
            }
            e.u8(8)?.bytes(&self.commitment)?;
            e.u8(9)?.bytes(self.sealed)?;
            if let Some(check) = check {
                e.u8(10)?.bytes(check)?;
            }
            Ok(())
        });
        out
    }

    fn decode(bytes: &'a [u8]) -> Result<Self, WrapError> {
        let version = decode_version(bytes).map_err(|Unexpected| WrapError::Malformed)?;
        match version {
            VERSION => {}
            0 => return Err(WrapError::Malformed),
            newer => return Err(WrapError::UnknownVersion(newer)),
        }
        let (parts, check) = Self::decode_fields(bytes).map_err(|Unexpected| WrapError::Malformed)?;
        if parts.encode_fields(Some(&check)) != bytes {
            return Err(WrapError::Malformed);
        }
        if parts.encode() != bytes {
            return Err(WrapError::Damaged);
        }
        Ok(parts)
    }

    fn decode_fields(bytes: &'a [u8]) -> Result<(Self, [u8; CHECK_LEN]), Unexpected> {
        let d = &mut Decoder::new(bytes);
        let fields = d.map()?;
        cbor::key(d, 1)?;
        d.u64()?;
        cbor::key(d, 2)?;
        let vault = VaultId(cbor::bytes(d)?);
        cbor::key(d, 3)?;
        let epoch = d.u16()?;
        cbor::key(d, 4)?;
        let kind = EnvelopeKind::from_u8(d.u8()?).ok_or(Unexpected)?;
        let kdf = if kind == EnvelopeKind::Passphrase {
            cbor::key(d, 5)?;
            if d.array()? != Some(3) {
                return Err(Unexpected);
            }
            Some(KdfParams { memory_kib: d.u32()?, passes: d.u32()?, lanes: d.u32()? })
        } else {
            None
        };
        cbor::key(d, 6)?;
        let salt = cbor::bytes(d)?;
        let header = Header { vault, epoch, kind, kdf, salt };
        let nonce = if kind == EnvelopeKind::Enrolment {
            None
        } else {
            cbor::key(d, 7)?;
            Some(cbor::bytes(d)?)
        };
        cbor::key(d, 8)?;
        let commitment = cbor::bytes(d)?;
        cbor::key(d, 9)?;
        let sealed = d.bytes()?;
        cbor::key(d, 10)?;
        let check = cbor::bytes(d)?;
        let parts = Self { header, nonce, commitment, sealed };
        if fields == Some(parts.fields() + 1) { Ok((parts, check)) } else { Err(Unexpected) }
    }
}

/// The version stands first in every version, so that a newer envelope is called newer and not broken.
fn decode_version(bytes: &[u8]) -> Result<u64, Unexpected> {
    let d = &mut Decoder::new(bytes);
    d.map()?.ok_or(Unexpected)?;
    cbor::key(d, 1)?;
    Ok(d.u64()?)
}

/// Argon2id version 0x13 of the passphrase's bytes, 32 bytes.
fn stretch(
    passphrase: &Passphrase,
    salt: &[u8; 32],
    kdf: KdfParams,
) -> Result<Zeroizing<[u8; 32]>, WrapError> {
    use argon2::{Algorithm, Argon2, Params, Version};
    if !kdf.in_range() {
        return Err(WrapError::KdfOutOfRange);
    }
    let params =
        Params::new(kdf.memory_kib, kdf.passes, kdf.lanes, Some(32)).map_err(|_| WrapError::KdfOutOfRange)?;
    let mut out = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.0.as_bytes(), salt, out.as_mut())
        .map_err(|_| WrapError::NoMemory { memory_kib: kdf.memory_kib })?;
    Ok(out)
}

/// What is sealed: 1 [[epoch, master key]], ascending; 2 dedup secret; 3 root public key; 4 root seed, in
/// recovery envelopes; 5 what the approving device has seen, in enrolment envelopes; 6 who rotated the keys, in those
/// of a rotation.
fn encode_keys(
    keyring: &Keyring,
    root_key: Option<&RootKey>,
    floor: Option<&[u8]>,
    rotation: Option<&[u8]>,
) -> Zeroizing<Vec<u8>> {
    let count = keyring.epochs().count();
    let more = floor.map_or(0, <[u8]>::len) + rotation.map_or(0, <[u8]>::len);
    // Large enough from the start: a buffer that grows leaves copies of keys behind.
    let mut out = Zeroizing::new(Vec::with_capacity(184 + 40 * count + more));
    cbor::write(&mut out, |e| {
        let fields = [root_key.is_some(), floor.is_some(), rotation.is_some()];
        e.map(3 + fields.into_iter().map(u64::from).sum::<u64>())?;
        e.u8(1)?.array(count as u64)?;
        for (epoch, master) in keyring.epochs() {
            e.array(2)?.u16(epoch)?.bytes(master.expose())?;
        }
        e.u8(2)?.bytes(keyring.dedup().expose())?;
        e.u8(3)?.bytes(keyring.root_public())?;
        if let Some(root) = root_key {
            e.u8(4)?.bytes(root.seed())?;
        }
        if let Some(floor) = floor {
            e.u8(5)?.bytes(floor)?;
        }
        if let Some(rotation) = rotation {
            e.u8(6)?.bytes(rotation)?;
        }
        Ok(())
    });
    out
}

/// What [`decode_keys`] found.
struct Body {
    keyring: Keyring,
    root_key: Option<RootKey>,
    floor: Option<Vec<u8>>,
    rotation: Option<Vec<u8>>,
}

fn decode_keys(header: &Header, plain: &[u8]) -> Result<Body, Unexpected> {
    let d = &mut Decoder::new(plain);
    let fields = d.map()?;
    cbor::key(d, 1)?;
    let count = d.array()?.ok_or(Unexpected)?;
    let mut older = BTreeMap::new();
    for _ in 0..count {
        if d.array()? != Some(2) {
            return Err(Unexpected);
        }
        older.insert(d.u16()?, MasterSecret::from_bytes(cbor::bytes(d)?));
    }
    let current = older.pop_last().filter(|(epoch, _)| *epoch == header.epoch).ok_or(Unexpected)?;
    cbor::key(d, 2)?;
    let dedup = DedupSecret::from_bytes(cbor::bytes(d)?);
    cbor::key(d, 3)?;
    let root_public = cbor::bytes(d)?;
    let (root_key, floor, rotation) = match (fields, header.kind) {
        (Some(fields @ (4 | 5)), EnvelopeKind::Enrolment) => {
            cbor::key(d, 5)?;
            let floor = d.bytes()?;
            let rotation = if fields == 5 {
                cbor::key(d, 6)?;
                Some(d.bytes()?)
            } else {
                None
            };
            (None, Some(floor), rotation)
        }
        (_, EnvelopeKind::Enrolment) => return Err(Unexpected),
        (Some(3), _) => (None, None, None),
        (Some(4), EnvelopeKind::Recovery) => {
            cbor::key(d, 4)?;
            (Some(RootKey::from_seed(*Zeroizing::new(cbor::bytes::<32>(d)?))), None, None)
        }
        _ => return Err(Unexpected),
    };
    if root_key.as_ref().is_some_and(|root| root.public() != root_public) {
        return Err(Unexpected);
    }
    let keyring = Keyring::from_parts(header.vault, Epochs { current, older }, dedup, root_public);
    // One spelling only; this also refuses unsorted or doubled epochs and trailing bytes.
    if *encode_keys(&keyring, root_key.as_ref(), floor, rotation) != plain {
        return Err(Unexpected);
    }
    let (floor, rotation) = (floor.map(<[u8]>::to_vec), rotation.map(<[u8]>::to_vec));
    Ok(Body { keyring, root_key, floor, rotation })
}

mod enrolment;
pub use enrolment::{ForDevice, SealKey, open_for_device, seal_for_device, seal_rotated_for_device};

#[cfg(test)]
mod tests;
