//! Sessions of writing: open, announce, commit.
use crate::{Grant, Opaque, SnapshotTime};
use backupengine_model::{DeviceId, SnapshotId, VaultId};
use serde::{Deserialize, Serialize};

/// Opens a session; its number was never given before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OpenSession {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// `push`, `compact` or `heal`.
    pub kind: String,
    /// A word of the caller's own, at most 64 characters: the same one again gets the same answer.
    pub idem: String,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OpenedSession {
    /// The session.
    pub session: u32,
    /// Of the list of snapshots.
    pub version: u64,
    /// What it has to know of.
    pub gc_epoch: u64,
    /// Server's time.
    pub now: i64,
}

/// Grants to write blobs of one open session, each for exactly the bytes announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WantPuts {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// The session.
    pub session: u32,
    /// At most 256.
    pub blobs: Vec<Announced>,
}

/// A blob that is about to be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Announced {
    /// `pack` or `root`.
    pub kind: String,
    /// 0 for a root.
    pub number: u32,
    /// In bytes, 1 to 268435456.
    pub length: u64,
    /// Of its bytes.
    pub sha256: Opaque,
    /// Of its bytes, for stores that verify nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<Opaque>,
}

/// A grant to write one blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PutGrant {
    /// PUT here.
    pub url: Grant,
    /// To be sent as they are.
    pub headers: std::collections::BTreeMap<String, String>,
    /// How long it lives.
    pub grant_seconds: u32,
}

/// Grants, in the order announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PutGrants {
    /// One a blob.
    pub grants: Vec<PutGrant>,
    /// Server's time.
    pub now: i64,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OfSession {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// The session.
    pub session: u32,
    /// The epoch the caller has taken in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gc_epoch: Option<u64>,
}

/// Ends a session in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CommitSession {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// The session.
    pub session: u32,
    /// Salt of the root pack.
    #[serde(with = "crate::hex::snapshot")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: SnapshotId,
    /// Who pushed.
    #[serde(with = "crate::hex::device")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub device: DeviceId,
    /// When the push began.
    pub created: SnapshotTime,
    /// Bytes of the root.
    pub root_size: u64,
    /// Bytes of its sealed record.
    pub head_len: u32,
    /// Sealed, at most 1024 bytes.
    pub label: Opaque,
    /// Packs have numbers below this.
    pub packs: u32,
    /// Bytes of those packs and the root.
    pub bytes: u64,
    /// The packs its metadata lies in, top levels first, at most 64 runs.
    pub meta_packs: Vec<PackSet>,
    /// The epoch the caller has taken in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gc_epoch: Option<u64>,
    /// A snapshot of the same device that is held from now on; one that is not there, or another device's, is no error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<u32>,
}

/// A run of packs of one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PackSet {
    /// The session.
    pub session: u32,
    /// First number.
    pub from: u32,
    /// How many.
    pub count: u32,
}

/// A page of the sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ListSessions {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// Numbers above this only.
    pub after: u32,
    /// 1 to 1000.
    pub limit: u32,
}

/// Sessions by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionPage {
    /// The records.
    pub sessions: Vec<SessionListed>,
    /// Whether others follow.
    pub more: bool,
    /// Of what was retired.
    pub gc_epoch: u64,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionListed {
    /// The session.
    pub session: u32,
    /// Who writes, 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// See `OpenSession`.
    pub kind: String,
    /// `open`, `committed` or `expired`.
    pub state: String,
    /// When.
    pub opened: i64,
    /// Packs have numbers below this; while it is open: announced so far, 4294967295 with the root.
    pub packs: u32,
    /// Of packs and root.
    pub bytes: u64,
    /// Packs nobody may newly refer to.
    pub retired: Vec<PackSet>,
    /// Packs that are gone.
    pub deleted: Vec<PackSet>,
    /// Its writer knows of what was retired and moved up to this epoch.
    pub acked: u64,
    /// Packs whose frames lie elsewhere.
    pub moved: Vec<MovedNumber>,
}

/// A pack of a session that was moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MovedNumber {
    /// Where it was.
    pub number: u32,
    /// Where it is.
    pub to_session: u32,
    /// Where it is.
    pub to_number: u32,
    /// Since when.
    pub gc_epoch: u64,
    /// Whether its old object is gone.
    pub gone: bool,
}
