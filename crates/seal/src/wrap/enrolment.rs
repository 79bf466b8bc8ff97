//! Enrolment envelopes: the keyring, and what the approver has seen, sealed to a new device's key.
//!
//! HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. Base mode does not say who
//! sealed: the control plane can seal keys of its own to any device. Whoever opens one compares
//! [`vault_fingerprint`](crate::vault_fingerprint) with the approving device before believing it (CRYPTO.md).
//!
//! **What it may not do.** Draw randomness: it is handed in.
//! **What always holds.** Vault, epoch and device are bound; the commitment is compared before the seal is opened.
//! **Where it is tested.** `wrap/tests`, and `tests/formats` (frozen vectors made with another implementation).

use super::{Body, EnvelopeKind, Header, Parts, WrapError, decode_keys, encode_keys};
use crate::cbor::Unexpected;
use crate::{Keyring, Rotation, context};
use backupengine_model::{DeviceId, VaultId};
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng, utils};
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable, setup_receiver, setup_sender_with_rng};
use std::convert::Infallible;
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Most bytes of a floor: an envelope stays within what the control plane takes (64 KiB).
const FLOOR_MAX: usize = 48 << 10;

/// A device's key pair for receiving the vault's keys (X25519).
pub struct SealKey {
    secret: <X25519HkdfSha256 as Kem>::PrivateKey,
}

impl SealKey {
    /// From 32 random bytes or the device's key file.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let secret = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(&seed);
        Self { secret: secret.expect("32 bytes are an X25519 key") }
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        X25519HkdfSha256::sk_to_pk(&self.secret).to_bytes().into()
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(secret)")
    }
}

/// What an enrolment envelope held. Not to be believed before the vault's fingerprint was compared.
#[derive(Debug)]
pub struct ForDevice {
    /// The keys.
    pub keyring: Keyring,
    /// What the approving device had seen of the vault; its form is not this crate's.
    pub floor: Vec<u8>,
    /// Who rotated the keys, where that is what it was sealed for: a device that has keys compares no words.
    pub rotation: Option<Rotation>,
}

/// Seals a keyring to the X25519 key of a device. `random` is 32 fresh random bytes.
///
/// # Errors
/// [`WrapError::WeakKey`], [`WrapError::TooLong`].
pub fn seal_for_device(
    keyring: &Keyring,
    floor: &[u8],
    to: &[u8; 32],
    device: DeviceId,
    random: [u8; 32],
) -> Result<Vec<u8>, WrapError> {
    seal(keyring, floor, None, to, device, random)
}

/// The same after a rotation, for a device that has the older keys.
///
/// # Errors
/// As [`seal_for_device`].
pub fn seal_rotated_for_device(
    keyring: &Keyring,
    floor: &[u8],
    rotation: &Rotation,
    to: &[u8; 32],
    device: DeviceId,
    random: [u8; 32],
) -> Result<Vec<u8>, WrapError> {
    seal(keyring, floor, Some(&rotation.encode()), to, device, random)
}

fn seal(
    keyring: &Keyring,
    floor: &[u8],
    rotation: Option<&[u8]>,
    to: &[u8; 32],
    device: DeviceId,
    random: [u8; 32],
) -> Result<Vec<u8>, WrapError> {
    if floor.len() > FLOOR_MAX {
        return Err(WrapError::TooLong(floor.len()));
    }
    let to = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(to).map_err(|_| WrapError::WeakKey)?;
    let info = info(keyring.vault(), keyring.current_epoch(), device);
    let mut drawn = Drawn(blake3::Hasher::new_keyed(&random).finalize_xof());
    let (enc, mut sealer) = setup_sender_with_rng::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &to,
        &info,
        &mut drawn,
    )
    .map_err(|_| WrapError::WeakKey)?;
    let mut commitment = [0; 32];
    sealer.export(context::ENROLMENT_COMMITMENT, &mut commitment).expect("32 bytes are not too many");
    let header = Header {
        vault: keyring.vault(),
        epoch: keyring.current_epoch(),
        kind: EnvelopeKind::Enrolment,
        kdf: None,
        salt: enc.to_bytes().into(),
    };
    let body = encode_keys(keyring, None, Some(floor), rotation);
    let sealed = sealer.seal(&body, &header.aad()).expect("the first message of a context can be sealed");
    Ok(Parts { header, nonce: None, commitment, sealed: &sealed }.encode())
}

/// Opens what [`seal_for_device`] made for this device: version and checksum first, then the commitment, then
/// the seal.
///
/// # Errors
/// [`WrapError`].
pub fn open_for_device(envelope: &[u8], key: &SealKey, device: DeviceId) -> Result<ForDevice, WrapError> {
    let Parts { header, commitment, sealed, .. } = Parts::decode(envelope)?;
    if header.kind != EnvelopeKind::Enrolment {
        return Err(WrapError::OtherKind);
    }
    let enc = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&header.salt);
    let enc = enc.map_err(|_| WrapError::WrongSecret)?;
    let info = info(header.vault, header.epoch, device);
    let mut opener =
        setup_receiver::<AesGcm256, HkdfSha256, X25519HkdfSha256>(&OpModeR::Base, &key.secret, &enc, &info)
            .map_err(|_| WrapError::WrongSecret)?;
    let mut expected = [0; 32];
    opener.export(context::ENROLMENT_COMMITMENT, &mut expected).expect("32 bytes are not too many");
    if !bool::from(expected.ct_eq(&commitment)) {
        return Err(WrapError::WrongSecret);
    }
    let plain = opener.open(sealed, &header.aad()).map_err(|_| WrapError::WrongSecret)?;
    let plain = Zeroizing::new(plain);
    match decode_keys(&header, &plain) {
        Ok(Body { keyring, floor: Some(floor), rotation, .. }) => {
            let rotation = rotation.map(|bytes| Rotation::decode(&bytes)).transpose();
            Ok(ForDevice { keyring, floor, rotation: rotation.map_err(|_| WrapError::Malformed)? })
        }
        Ok(Body { floor: None, .. }) | Err(Unexpected) => Err(WrapError::Malformed),
    }
}

fn info(vault: VaultId, epoch: u16, device: DeviceId) -> Vec<u8> {
    [context::ENROLMENT, &vault.0, &epoch.to_le_bytes(), &device.0].concat()
}

/// The random bytes that were handed in, as the library wants them: BLAKE3 keyed with them, of nothing, as long
/// as is asked for. It asks for 32, the input of the ephemeral key.
struct Drawn(blake3::OutputReader);

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        utils::next_word_via_fill(self)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        utils::next_word_via_fill(self)
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(into);
        Ok(())
    }
}

impl TryCryptoRng for Drawn {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_drawn_from_the_same_stream_as_bytes() {
        let drawn = || Drawn(blake3::Hasher::new_keyed(&[7; 32]).finalize_xof());
        let (mut words, mut stream, mut bytes) = (drawn(), drawn(), [0; 12]);
        let Ok(()) = stream.try_fill_bytes(&mut bytes);
        let (Ok(first), Ok(second)) = (words.try_next_u32(), words.try_next_u64());
        assert_eq!([&first.to_le_bytes()[..], &second.to_le_bytes()].concat(), bytes);
        assert_ne!(bytes, [0; 12]);
    }
}
