//! Vaults, envelopes, and the one call that a first listing needs.
use crate::{GetGrant, Opaque, PutGrant};
use backupengine_model::{DeviceId, SnapshotId, VaultId};
use serde::{Deserialize, Serialize};

/// Makes the account's vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateVault {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// Public half of the vault's root key, Ed25519.
    pub root_public: Opaque,
    /// The calling device's certificate.
    pub certificate: Opaque,
    /// The calling device's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_sealed: Option<Opaque>,
    /// A word of the caller's own, at most 64 characters: the same one again gets the same answer.
    pub idem: String,
}

/// A vault as the control plane knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VaultRecord {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// See `CreateVault`. The client believes its keyring, not this.
    pub root_public: Opaque,
    /// When it was made.
    pub created: i64,
    /// Where its bytes lie.
    pub region: String,
    /// Moves with the list of snapshots.
    pub version: u64,
    /// Moves with what was retired.
    pub gc_epoch: u64,
    /// Bytes of committed sessions.
    pub used: u64,
    /// Bytes the account may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
    /// Answered by `vault-list` alone: what the recovery code opens. For a device that waits and has the code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovery: Vec<Opaque>,
}

/// The account's vaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VaultListed {
    /// By time of making.
    pub vaults: Vec<VaultRecord>,
    /// Server's time.
    pub now: i64,
}

/// Adds a key envelope: a row, and a grant for the copy in the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PutEnvelope {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// 16 hexadecimal digits.
    pub id: String,
    /// Key epoch.
    pub epoch: u32,
    /// `passphrase` or `recovery`.
    pub kind: String,
    /// At most 64 KiB.
    pub sealed: Opaque,
    /// Of `sealed`.
    pub sha256: Opaque,
    /// A word of the caller's own, at most 64 characters: the same one again gets the same answer.
    pub idem: String,
}

/// A key envelope that is to count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewEnvelope {
    /// 16 hexadecimal digits.
    pub id: String,
    /// Key epoch.
    pub epoch: u32,
    /// `passphrase` or `recovery`.
    pub kind: String,
    /// At most 64 KiB.
    pub sealed: Opaque,
    /// Of `sealed`.
    pub sha256: Opaque,
}

/// The vault's keys, sealed to one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceEnvelope {
    /// Which.
    #[serde(with = "crate::hex::device")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub device: DeviceId,
    /// At most 64 KiB.
    pub sealed: Opaque,
}

/// Changes which key envelopes there are, all at once: asked first for grants for the copies in the bucket, then, when those
/// lie there, to commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeEnvelopes {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// Ids of those that there are, as the caller has seen them.
    pub expected: Vec<String>,
    /// Ids of those of them that stay.
    pub keep: Vec<String>,
    /// New ones, at most 64 with those that stay.
    pub add: Vec<NewEnvelope>,
    /// What active devices are given in the place of what they had; at most 1000.
    pub devices: Vec<DeviceEnvelope>,
    /// Whether to make it so.
    pub commit: bool,
    /// A word of the caller's own, at most 64 characters: the same one again gets the same answer.
    pub idem: String,
}

/// The answer to `ChangeEnvelopes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangedEnvelopes {
    /// For the copies of `add`, in their order; none once it is committed.
    pub grants: Vec<PutGrant>,
    /// Server's time.
    pub now: i64,
}

/// A key envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnvelopeRecord {
    /// 16 hexadecimal digits.
    pub id: String,
    /// Key epoch.
    pub epoch: u32,
    /// See `PutEnvelope`.
    pub kind: String,
    /// When it was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<i64>,
    /// The envelope.
    pub sealed: Opaque,
}

/// Everything a first listing needs, in one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MountVault {
    /// Which; the account's only one where not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<String>,
    /// A lease to renew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// How many records of snapshots to send at most.
    pub snapshots: u32,
}

/// The answer to `MountVault`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MountedVault {
    /// The vault.
    pub vault: VaultRecord,
    /// For passphrase and recovery code.
    pub envelopes: Vec<EnvelopeRecord>,
    /// What was sealed to the calling device when it was approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<Opaque>,
    /// Of the calling device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Opaque>,
    /// Of the calling device.
    pub role: String,
    /// The calling device.
    #[serde(with = "crate::hex::device")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub device: DeviceId,
    /// Newest first.
    pub snapshots: SnapshotPage,
    /// Keeps what is mounted from being purged.
    pub lease: Lease,
    /// For the newest root and the packs its metadata lies in.
    pub grants: Vec<GetGrant>,
    /// How long the grants live.
    pub grant_seconds: u32,
    /// Server's time.
    pub now: i64,
}

/// Keeps snapshots from being purged while they are mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Lease {
    /// To renew it.
    pub id: String,
    /// When it ends by itself.
    pub expires: i64,
}

/// One vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OfVault {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
}

/// Where the counters stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VaultVersion {
    /// Of the list of snapshots.
    pub version: u64,
    /// Of what was retired.
    pub gc_epoch: u64,
    /// Server's time.
    pub now: i64,
}

/// A page of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ListSnapshots {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// Sessions below this number only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u32>,
    /// 1 to 1000.
    pub limit: u32,
    /// Those in the trash instead.
    pub trashed: bool,
}

/// Records of snapshots, newest session first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SnapshotPage {
    /// Of the list.
    pub version: u64,
    /// The records.
    pub snapshots: Vec<SnapshotListed>,
    /// Whether older ones follow.
    pub more: bool,
}

/// A device's time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SnapshotTime {
    /// Seconds since 1970.
    pub secs: i64,
    /// Below 1 000 000 000.
    pub nanos: u32,
}

/// A snapshot as the control plane knows it. After a rebuild from the bucket device, time and label are unknown: the root says them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SnapshotListed {
    /// The session.
    pub session: u32,
    /// Salt of its root pack.
    #[serde(with = "crate::hex::snapshot")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: SnapshotId,
    /// Who pushed it, 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// When the push began, by the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<SnapshotTime>,
    /// When it began to exist, by the server.
    pub committed: i64,
    /// Bytes of the root.
    pub root_size: u64,
    /// Bytes of its sealed record.
    pub head_len: u32,
    /// Sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Opaque>,
    /// `live`, `trashed` or `pinned`.
    pub state: String,
    /// Whether it is held against removal.
    pub hold: bool,
    /// In the trash: when it may be purged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge_after: Option<i64>,
}
