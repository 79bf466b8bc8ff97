//! Grants to read, and lists of what is stored.
use backupengine_model::VaultId;
use serde::{Deserialize, Serialize};

/// Grants to read. Renews the lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WantUrls {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// At most 256 blobs in all.
    pub want: Vec<Want>,
    /// A lease to renew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
}

/// A run of blobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// `pack` or `root`.
    pub kind: String,
    /// The session.
    pub session: u32,
    /// First number; 0 for a root.
    pub from: u32,
    /// How many; cut short at the end of the session.
    pub count: u32,
}

/// What to do about one blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GetGrant {
    /// `pack` or `root`.
    pub kind: String,
    /// The session.
    pub session: u32,
    /// Its number; 0 for a root.
    pub number: u32,
    /// `here`, `moved` or `gone`.
    pub state: String,
    /// Where it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Grant>,
    /// The session of the pack it was moved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<u32>,
    /// Its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_number: Option<u32>,
}

/// Grants, in the order of the wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Urls {
    /// One a blob.
    pub grants: Vec<GetGrant>,
    /// How long they live.
    pub grant_seconds: u32,
    /// Server's time.
    pub now: i64,
}

/// Names and sizes of what is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ListBlobs {
    /// The vault.
    #[serde(with = "crate::hex::vault")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub vault: VaultId,
    /// `packs`, `roots` or `envelopes`.
    pub kind: String,
    /// Packs of this session only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u32>,
    /// To go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A page of it, in the order of names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BlobPage {
    /// At most 1000.
    pub blobs: Vec<StoredBlob>,
    /// To go on, where there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A blob that is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoredBlob {
    /// As in the vault, without its prefix: `p/0000000a/00000001`.
    pub name: String,
    /// In bytes.
    pub size: u64,
}

/// A time-limited address for one method on one blob: a secret, and prints as one word.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Grant(pub String);

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grant(secret)")
    }
}
