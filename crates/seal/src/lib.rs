//! Keys, key wrapping, content ids, and sealing and opening one message.
//!
//! **What it is.** The only crate that names a cipher, a hash or a KDF. CRYPTO.md beside it is its text.
//!
//! **What it may not do.** Know what the bytes mean, do I/O, draw randomness (it is handed in) or read time.
//!
//! **What always holds.** A pack has one key and a frame's nonce is its offset in the pack; the commitment is
//! compared before anything is decrypted; secrets wipe themselves and print one fixed word.
//!
//! **Where it is tested.** Beside the code, `tests/golden` and `tests/formats` (frozen vectors),
//! `tests/protocol` ((key, nonce) pairs stay unique).
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod backend;
mod cbor;
mod certificate;
mod content_id;
mod context;
mod fingerprint;
mod frame;
mod key;
mod keyring;
mod rotation;
#[cfg(test)]
mod testing;
mod wrap;

pub use backend::Backend;
pub use certificate::{Certificate, CertificateError, DeviceKey, Role, RootKey, verify_root_signature};
pub use content_id::{ContentHasher, ContentIdKey, STATE_TAG_LEN};
pub use fingerprint::{FINGERPRINT_WORDS, device_fingerprint, fingerprint, vault_fingerprint};
pub use frame::{OpenFailed, PackKey, TAG_LEN};
pub use key::{DedupSecret, DeviceSecret, MasterSecret, Passphrase, RecoveryCode, RecoveryCodeError};
pub use keyring::{EpochsUsedUp, Keyring, UnknownEpoch};
pub use rotation::{Rotation, RotationError};
pub use wrap::{
    EnvelopeKind, ForDevice, KdfParams, Opened, SealKey, UnlockSecret, WrapError, envelope_epoch,
    envelope_kind, envelope_vault, open_envelope, open_for_device, seal_envelope, seal_for_device,
    seal_rotated_for_device,
};
