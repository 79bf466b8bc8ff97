//! What an owner may decide about snapshots; schedules.
use crate::Opaque;
use backupengine_model::{DeviceId, VaultId};
use serde::{Deserialize, Serialize};

/// Snapshots by the numbers of their sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OfSnapshots {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// At most 1000.
    pub sessions: Vec<u32>,
    /// A word of the caller's own, at most 64 characters: the same one again gets the same answer.
    pub idem: String,
}

/// Holds snapshots against removal, or lets them go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HoldSnapshots {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// At most 1000.
    pub sessions: Vec<u32>,
    /// Hold or let go.
    pub hold: bool,
    /// A word of the caller's own, at most 64 characters: the same one again gets the same answer.
    pub idem: String,
}

/// Replaces the sealed label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TagSnapshot {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// The session.
    pub session: u32,
    /// Sealed, at most 1024 bytes.
    pub label: Opaque,
    /// A word of the caller's own, at most 64 characters: the same one again gets the same answer.
    pub idem: String,
}

/// How long the trash is kept. A shorter time counts only after the old one has passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetRetention {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// 14 to 3650.
    pub trash_days: u32,
    /// A word of the caller's own, at most 64 characters: the same one again gets the same answer.
    pub idem: String,
}

/// When a device is expected to push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PutSchedule {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// Which.
    #[serde(with = "crate::hex::device")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub device: DeviceId,
    /// At most 1024 bytes.
    pub rule_sealed: Opaque,
    /// When the next push is due.
    pub next_due: i64,
    /// A word of the caller's own, at most 64 characters: the same one again gets the same answer.
    pub idem: String,
}

/// Schedules of the vault's devices; own one only, except for owners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScheduleListed {
    /// By device.
    pub schedules: Vec<ScheduleRecord>,
    /// Server's time.
    pub now: i64,
}

/// When a device is expected to push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScheduleRecord {
    /// Which.
    #[serde(with = "crate::hex::device")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub device: DeviceId,
    /// The rule.
    pub rule_sealed: Opaque,
    /// When.
    pub next_due: i64,
    /// Whether it has passed without a push.
    pub overdue: bool,
}
