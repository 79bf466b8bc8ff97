//! Giving space back: two counters that are compared and set, retire, move, purge (format.md 8.4, 8.5).
use crate::{PackSet, SnapshotListed};
use backupengine_model::VaultId;
use serde::{Deserialize, Serialize};

/// Where a collection begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GcState {
    /// Of the list of snapshots.
    pub version: u64,
    /// Of what was retired.
    pub gc_epoch: u64,
    /// Live, pinned and trashed.
    pub snapshots: Vec<SnapshotListed>,
    /// Server's time.
    pub now: i64,
}

/// Nobody may newly refer to these packs. Refused where either counter moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RetirePacks {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// As begun with.
    pub version: u64,
    /// As begun with.
    pub gc_epoch: u64,
    /// At most 4096 runs.
    pub packs: Vec<PackSet>,
    /// A word of the caller's own, at most 64 characters: the same one again gets the same answer.
    pub idem: String,
}

/// Runs of packs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PackSets {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// At most 4096 runs.
    pub packs: Vec<PackSet>,
}

/// Packs whose frames were copied into a pack of a compaction session. Refused where either counter moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MovePacks {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// As begun with.
    pub version: u64,
    /// As begun with.
    pub gc_epoch: u64,
    /// At most 4096.
    pub moves: Vec<MovedPack>,
    /// A word of the caller's own, at most 64 characters: the same one again gets the same answer.
    pub idem: String,
}

/// One pack that was moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MovedPack {
    /// Where it was.
    pub from_session: u32,
    /// Where it was.
    pub from_number: u32,
    /// Where it is.
    pub to_session: u32,
    /// Where it is.
    pub to_number: u32,
}
