//! Devices: enrolment, approval, revocation.
use crate::Opaque;
use backupengine_model::{DeviceId, VaultId};
use serde::{Deserialize, Serialize};

/// Makes the calling key a device of the account; the request is signed with it. The account's first device is active at once (owner), every other waits for approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EnrollDevice {
    /// Ed25519, 32 bytes.
    pub sign_public: Opaque,
    /// X25519, 32 bytes.
    pub seal_public: Opaque,
    /// Ed25519 by the device over its X25519 key (`"bke1 seal key\0"` before it), 64 bytes: by it others know what to seal to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal_signature: Option<Opaque>,
    /// First 16 bytes of the BLAKE3 hash of `sign_public`.
    #[serde(with = "crate::hex::device")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub device: DeviceId,
    /// The region the client thinks this is.
    pub region: String,
    /// A word of the caller's own, at most 64 characters: the same one again gets the same answer.
    pub idem: String,
}

/// An enrolled device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrolledDevice {
    /// Its id.
    #[serde(with = "crate::hex::device")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub device: DeviceId,
    /// `active` or `pending`.
    pub status: String,
    /// Its role once it is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The account's region.
    pub region: String,
}

/// Makes a pending device active. By an active owner with a fresh one-time code; or by the pending device itself, where it proves the vault's root key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ApproveDevice {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// Which.
    #[serde(with = "crate::hex::device")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub device: DeviceId,
    /// `owner`, `maintainer`, `writer` or `reader`.
    pub role: String,
    /// Its certificate, at most 4 KiB; opaque to the control plane.
    pub certificate: Opaque,
    /// The keyring sealed to it, at most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<Opaque>,
    /// Ed25519 by the vault's root key over `approval_message`: for a device that approves itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_signature: Option<Opaque>,
    /// A word of the caller's own, at most 64 characters: the same one again gets the same answer.
    pub idem: String,
}

/// Nothing to tell but that it was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Done {
    /// Server's time.
    pub now: i64,
}

/// Nothing to ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// All devices of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceListed {
    /// By time of enrolment.
    pub devices: Vec<DeviceRecord>,
    /// Server's time.
    pub now: i64,
}

/// A device as the control plane knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceRecord {
    /// Its id.
    #[serde(with = "crate::hex::device")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub device: DeviceId,
    /// Ed25519.
    pub sign_public: Opaque,
    /// X25519.
    pub seal_public: Opaque,
    /// By the device over `seal_public`, where it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal_signature: Option<Opaque>,
    /// `pending`, `active` or `revoked`.
    pub status: String,
    /// Once it is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Its name, sealed under the vault's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_sealed: Option<Opaque>,
    /// Its certificate for the account's vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Opaque>,
    /// When it was enrolled.
    pub created: i64,
    /// Its last call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<i64>,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// Gives a device a name. Its own, or any by an owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RenameDevice {
    /// Which.
    #[serde(with = "crate::hex::device")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub device: DeviceId,
    /// At most 512 bytes.
    pub name_sealed: Opaque,
    /// A word of the caller's own, at most 64 characters: the same one again gets the same answer.
    pub idem: String,
}

/// Ends a device: its next call is refused, its login ends. Any by an owner with a fresh one-time code, itself by anyone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RevokeDevice {
    /// Which.
    #[serde(with = "crate::hex::device")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub device: DeviceId,
    /// A word of the caller's own, at most 64 characters: the same one again gets the same answer.
    pub idem: String,
}
