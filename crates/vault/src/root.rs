//! Loads the root of a snapshot and believes it only when everything about it holds.
//!
//! **What it may not do.** Look at a root's fields before the seal, or at its pages before the signature.
//! **What always holds.** A root costs one call to the store when its length is known: trailer, commitment in
//! constant time, seal, vault, session, certificate chain to the pinned root key, role, signature.
//! **Where it is tested.** In the reader's tests.

use crate::VaultError;
use crate::codec::{self, Wiped};
use crate::fetch::{Class, cut};
use crate::open::{Opener, checked_key, unseal};
use backupengine_format::root::{RootRecord, signed_bytes};
use backupengine_format::trailer::TRAILER_LEN;
use backupengine_format::{limits, pack};
use backupengine_model::ledger::SnapshotRecord;
use backupengine_model::{FrameKind, PackRef, RootHash, SessionNo, SnapshotId, SnapshotInfo};
use backupengine_seal::verify_root_signature;
use backupengine_store::BlobKey;

/// What is fetched of a root whose length nobody told, in bytes.
const HEAD_GUESS: u64 = 64 << 10;

/// A verified root with its hash.
#[derive(Clone, Debug)]
pub struct Root {
    /// What it says.
    pub record: RootRecord,
    /// Keyed hash of the whole encoded record: what the next root of the same device names as its parent.
    pub hash: RootHash,
    /// The salt of its pack.
    pub id: SnapshotId,
    /// Size of its blob in bytes.
    pub(crate) size: u64,
    /// Length of the sealed record in bytes.
    pub(crate) head_len: u32,
}

/// Loads and verifies the root of `session`. `head_len` from the ledger spares a second call.
pub(crate) fn load(opener: &Opener, session: SessionNo, head_len: Option<u32>) -> Result<Root, VaultError> {
    opener.fetcher().load_end(BlobKey::Root(session), || load_once(opener, session, head_len))
}

fn load_once(opener: &Opener, session: SessionNo, head_len: Option<u32>) -> Result<Root, VaultError> {
    let blob = BlobKey::Root(session);
    let keyring = opener.keyring();
    let len = head_len.map_or(HEAD_GUESS, u64::from) + TRAILER_LEN as u64;
    let end = opener.fetcher().suffix(blob, len.min(limits::HEAD_MAX as u64 + HEAD_GUESS))?;
    let (trailer, key) = checked_key(opener.fetcher(), opener.keys(), blob, &end, None)?;
    if (trailer.pack.session, trailer.pack.number) != (session, PackRef::ROOT) {
        return Err(VaultError::damaged(blob, end.total, "another pack lies under this name"));
    }
    let (_, head_at) = pack::find_end(&trailer, end.total).map_err(|error| {
        VaultError::damaged_by(blob, end.total, "the trailer does not fit the pack", error)
    })?;
    if trailer.head_len as usize > limits::HEAD_MAX + codec::SEALED_SLACK {
        return Err(VaultError::damaged(blob, head_at, "the root record is too long"));
    }
    let sealed = match cut(&end, head_at, trailer.head_len.into()) {
        Some(sealed) => sealed,
        None => opener.fetcher().range(blob, head_at, trailer.head_len.into(), Class::Large)?,
    };
    // `end` held another handle on these bytes; without it they can be opened in place.
    let size = end.total;
    drop(end);
    let opened = unseal(&key, FrameKind::Root, blob, head_at, sealed)?;
    let plain = codec::decode(FrameKind::Root, Wiped(opened), None)
        .map_err(|rule| VaultError::damaged(blob, head_at, rule))?;
    let record = RootRecord::decode(&plain)
        .map_err(|error| VaultError::damaged_by(blob, head_at, "the root record does not decode", error))?;
    if (record.vault, record.session) != (keyring.vault(), session) {
        return Err(VaultError::damaged(blob, head_at, "the root record belongs to another snapshot"));
    }
    let signed = signed_bytes(&plain)
        .map_err(|error| VaultError::damaged_by(blob, head_at, "the root record does not decode", error))?;
    let (root_public, certificate) = (keyring.root_public(), record.certificate.as_slice());
    let signer = verify_root_signature(record.vault, root_public, certificate, &record.signature, &signed)
        .map_err(|source| VaultError::Untrusted { session, source })?;
    if signer != record.device {
        return Err(VaultError::damaged(blob, head_at, "the root record was signed by another device"));
    }
    let hash = keyring.content_ids().root_hash(&plain);
    let id = SnapshotId(trailer.pack.salt);
    Ok(Root { record, hash, id, size, head_len: trailer.head_len })
}

impl Root {
    /// What the ledger says of a snapshot must be what its root says: only the root is authentic. A ledger that was
    /// rebuilt from the blobs says nothing but the id.
    pub(crate) fn agrees_with(&self, listed: &SnapshotRecord) -> Result<(), VaultError> {
        let what = if listed.id != self.id {
            "snapshot's id"
        } else if listed.is_rebuilt() {
            return Ok(());
        } else if listed.device != self.record.device {
            "device"
        } else if listed.created != self.record.created {
            "time"
        } else {
            return Ok(());
        };
        Err(VaultError::Contradiction { session: self.record.session, what })
    }

    /// What a list shows of this snapshot.
    pub(crate) fn info(&self) -> SnapshotInfo {
        let record = &self.record;
        SnapshotInfo {
            session: record.session,
            id: self.id,
            created: record.created,
            device: record.device,
            device_name: record.device_name.clone(),
            tags: record.tags.clone(),
            sources: record.sources.clone(),
        }
    }

    /// What the ledger lists of this snapshot, without the label.
    pub(crate) fn listed(&self) -> SnapshotRecord {
        SnapshotRecord {
            session: self.record.session,
            id: self.id,
            device: self.record.device,
            created: self.record.created,
            root_size: self.size,
            head_len: self.head_len,
            label: Vec::new(),
        }
    }
}
