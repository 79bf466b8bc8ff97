//! The account: what it uses, what was done, what is new.
use backupengine_model::VaultId;
use serde::{Deserialize, Serialize};

/// What the account takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageAnswer {
    /// Bytes of committed sessions.
    pub used: u64,
    /// Bytes announced by open ones.
    pub reserved: u64,
    /// What it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
    /// Its region.
    pub region: String,
    /// Active ones.
    pub devices: u32,
    /// Live ones.
    pub snapshots: u64,
    /// For owners: so much was retired that it may be an attack, and it can still be brought back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<RetireAlarm>,
    /// Server's time.
    pub now: i64,
}

/// More than a set share of a vault was retired. Nobody deletes it for three days after that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RetireAlarm {
    /// Bytes that were retired and can be brought back.
    pub retired: u64,
    /// Bytes of the vault.
    pub of: u64,
    /// When more than the share was retired last.
    pub at: i64,
    /// Whose doing that was, 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// A page of the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ListAudit {
    /// Entries below this number only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// 1 to 1000.
    pub limit: u32,
}

/// Newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// Whether older ones follow.
    pub more: bool,
}

/// One thing that was done or refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// Grows by time.
    pub number: u64,
    /// When.
    pub at: i64,
    /// Who, 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What.
    pub operation: String,
    /// `ok` or a code.
    pub result: String,
    /// SHA-256 of the arguments, hexadecimal.
    pub digest: String,
    /// SHA-256 over the entry before and this one, hexadecimal.
    pub chain: String,
}

/// Waits until something is new, at most 50 seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WaitEvents {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// The list's version known.
    pub version: u64,
    /// The epoch known.
    pub gc_epoch: u64,
    /// How long to wait, 0 to 50.
    pub seconds: u32,
}

/// What is new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventsAnswer {
    /// Of the list.
    pub version: u64,
    /// Of what was retired.
    pub gc_epoch: u64,
    /// Devices revoked in the last day.
    pub revoked: Vec<String>,
    /// Server's time.
    pub now: i64,
}
