//! The root record: what makes a snapshot readable (FORMAT.md, *Root record*). Deterministic CBOR, integer keys.
//!
//! May not verify signatures: it gives the bytes that were signed ([`signed_bytes`]). What always holds: a
//! record is encoded in one way only. Tested in `tests.rs` beside this, `tests/golden/root`, and by its fuzz
//! target.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use crate::FormatError;
use crate::page::Xattr;
use backupengine_model::{
    Attributes, DeviceId, FrameRef, PackRef, RootHash, SessionNo, Timestamp, Totals, VaultId,
};
/// Keys of the map.
mod key {
    pub(super) const SIGNATURE: u64 = 16;
    pub(super) const LAST: u64 = 17;
}

const WHAT: &str = "root record";

/// A root record.
#[derive(Clone, Debug, PartialEq)]
pub struct RootRecord {
    /// Key 2: the vault.
    pub vault: VaultId,
    /// Key 2: the session.
    pub session: SessionNo,
    /// Key 3.
    pub device: DeviceId,
    /// Key 4: when the push began.
    pub created: Timestamp,
    /// Key 5: device name.
    pub device_name: String,
    /// Key 5: tags, sorted, without duplicates.
    pub tags: Vec<String>,
    /// Key 6: pushed paths, absolute, with slashes.
    pub sources: Vec<Vec<u8>>,
    /// Key 7: attributes of "/".
    pub attributes: Attributes,
    /// Key 7: extended attributes of "/".
    pub xattrs: Vec<Xattr>,
    /// Key 8.
    pub totals: Totals,
    /// Key 9: the root before this one of the same device.
    pub parent: Option<(SessionNo, RootHash)>,
    /// Key 10: newest known roots of other devices, sorted by device.
    pub others: Vec<(DeviceId, SessionNo, RootHash)>,
    /// Key 11: the top index page, encoded; empty for a snapshot without nodes.
    pub top: Vec<u8>,
    /// Key 12: encoded leaf pages (a directory one, then another; each may be missing) that hold just the
    /// listing of "/", if that is small. Copies; empty means: use the tree.
    pub root_listing: Vec<Vec<u8>>,
    /// Key 13: the reference set's frame, in the root pack itself.
    pub reference_set: FrameRef,
    /// Key 14: up to 64 packs that hold this snapshot's pages, top levels first.
    pub page_packs: Vec<PackRef>,
    /// Key 15: version of the writer.
    pub writer: String,
    /// Key 16: Ed25519 signature over the record without this key.
    pub signature: [u8; 64],
    /// Key 17: the device's certificate.
    pub certificate: Vec<u8>,
}

impl RootRecord {
    /// The bytes that are signed: the record without key 16.
    pub fn encode_unsigned(&self) -> Vec<u8> {
        encode::encode(self, encode::Part::Signed, &encode::Unknown::default())
    }

    /// The whole record.
    pub fn encode(&self) -> Vec<u8> {
        encode::encode(self, encode::Part::Whole, &encode::Unknown::default())
    }

    /// Refuses unknown critical features; keeps nothing it does not know (unknown keys above 17 are skipped
    /// only when listed as optional features). To verify the signature of a record that may hold such keys,
    /// take [`signed_bytes`] of what was read.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        decode::decode(bytes)
    }
}

/// The bytes of an encoded record that its signature covers: all but key 16, unknown optional keys included.
///
/// Equal to [`RootRecord::encode_unsigned`] for records of version 1.
///
/// # Errors
/// [`FormatError`] where the bytes are no map of integer keys with key 16.
pub fn signed_bytes(bytes: &[u8]) -> Result<Vec<u8>, FormatError> {
    decode::signed_bytes(bytes)
}
