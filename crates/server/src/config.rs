//! Settings: from the environment or files it names in production, made up by `--dev`.
//!
//! May not read a secret from an argument or print one. Tested in `config/tests.rs`.
mod admin;
mod environment;
#[cfg(test)]
mod tests;

use crate::ServerError;
use backupengine_api::Directory;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

pub use admin::Admin;

/// Of password hashes where nothing else is said: memory in KiB, passes.
pub const PASSWORD_COST: (u32, u32) = (19 * 1024, 2);
/// See [`Auth::reuse_window`]: GoTrue's.
pub const REUSE_WINDOW: Duration = Duration::from_secs(10);

/// See [`Sweep::every`].
pub const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// A secret setting.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes it.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
    /// Shows it to what needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(secret)")
    }
}

/// Everything the server is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The address clients use, without a slash at its end: what signatures cover.
    pub public_url: String,
    /// Certificate chain and key, PEM; `None` on loopback in `--dev` only.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// `us`, `ca` or `eu`.
    pub region: String,
    /// Served at `/regions.json`.
    pub directory: Directory,
    /// Rights of the front: `postgres://backupengine_front@...`.
    pub database_url: Secret,
    /// Rights over schema auth: `postgres://backupengine_auth@...`.
    pub auth_database_url: Secret,
    /// CA file for verify-full; the system's own where not said.
    pub database_ca: Option<PathBuf>,
    /// Object storage of the region.
    pub storage: Storage,
    /// Deletes what was given up; nobody does where it is not said.
    pub sweep: Option<Sweep>,
    /// Identity.
    pub auth: Auth,
    /// Addresses of proxies whose `X-Forwarded-For` counts.
    pub proxies: Vec<std::net::IpAddr>,
    /// Whether calls are limited in rate; off in load tests only.
    pub rate_limits: bool,
    /// Who knows it reads `/metrics`.
    pub metrics_token: Option<Secret>,
}

impl Config {
    /// From the environment.
    ///
    /// # Errors
    /// [`ServerError::Setting`].
    pub fn from_environment() -> Result<Self, ServerError> {
        environment::Environment::of_this_process()?.config()
    }
}

/// Object storage.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Base address.
    pub endpoint: String,
    /// The address that grants name, where clients have another way to it.
    pub seen_at: Option<String>,
    /// Its region's name in signatures.
    pub region: String,
    /// Bucket.
    pub bucket: String,
    /// Key pair with PutObject, GetObject and ListBucket.
    pub access_key: String,
    /// Its secret.
    pub secret_key: Secret,
    /// How long grants live.
    pub grant_life: Duration,
    /// What the store honours, as `check-storage` found.
    pub profile: Profile,
    /// What is signed into every PUT, where the store was seen to keep to it.
    pub lock: Option<Lock>,
}

impl Storage {
    /// That a lock which is wanted is one that the store was seen to keep to.
    ///
    /// # Errors
    /// [`ServerError::Setting`].
    pub fn need_lock(&self, profile: Profile) -> Result<(), ServerError> {
        if self.lock.is_none() || profile.object_lock {
            return Ok(());
        }
        let problem = "nobody saw this storage keep to an object lock, so what it promises would not hold: make a bucket \
                       with versions and object lock, let `backupengine-server check-storage` try it with the key that \
                       deletes, or leave the lock out";
        Err(ServerError::Setting {
            setting: "BACKUPENGINE_S3_LOCK_MODE".to_owned(),
            problem: problem.to_owned(),
        })
    }
}

/// For how long nobody deletes or overwrites what is stored: the store's object lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who may take it off.
    pub mode: LockMode,
    /// Days from when a grant is given, 1 to [`Lock::DAYS_MAX`].
    pub days: u16,
}

impl Lock {
    /// Ten years.
    pub const DAYS_MAX: u16 = 3650;

    /// Until when, from this second since 1970 on: as the header of a PUT says it.
    pub fn until(&self, from: i64) -> String {
        let secs = from.saturating_add(i64::from(self.days) * 24 * 60 * 60);
        // In years that take four digits there is no other case.
        jiff::Timestamp::from_second(secs).map(|at| at.to_string()).unwrap_or_default()
    }
}

/// Of an object lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Who has the right to bypass it: no key of this server may have that.
    Governance,
    /// Nobody, not even the owner of the storage account.
    Compliance,
}

impl LockMode {
    /// As the header of a PUT says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

/// Who deletes from the bucket.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Key pair with DeleteObject and nothing else.
    pub access_key: String,
    /// Its secret.
    pub secret_key: Secret,
    /// How long it rests between two passes.
    pub every: Duration,
}

/// What a store honours when it is signed into a PUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// `x-amz-checksum-sha256`.
    pub checksum_sha256: bool,
    /// `content-md5`, for stores without the above.
    pub content_md5: bool,
    /// `If-None-Match: *`.
    pub if_none_match: bool,
    /// `x-amz-server-side-encryption: AES256`.
    pub sse_header: bool,
    /// `x-amz-object-lock-mode` and `-retain-until-date`: the key that deletes was seen to fail on what is locked.
    #[serde(default)]
    pub object_lock: bool,
}

impl Profile {
    /// Nothing at all: the length alone is signed.
    pub const NONE: Self = Self {
        checksum_sha256: false,
        content_md5: false,
        if_none_match: false,
        sse_header: false,
        object_lock: false,
    };

    /// As the database keeps it.
    pub fn to_json(self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// `None` where nothing is kept yet.
    pub fn from_json(value: serde_json::Value) -> Option<Self> {
        serde_json::from_value(value).ok()
    }
}

/// Identity.
#[derive(Clone, Debug)]
pub struct Auth {
    /// ES256 private key, PKCS#8 PEM.
    pub jwt_key: Secret,
    /// Encrypts secrets of one-time codes: 32 bytes, hexadecimal.
    pub totp_key: Secret,
    /// How long an access token lives.
    pub access_life: Duration,
    /// For how long a refresh token used twice gets the same answer.
    pub reuse_window: Duration,
    /// Whether an address has to be confirmed by mail (not built: refused at start) .
    pub confirm_mail: bool,
    /// Cost of password hashes: memory in KiB, passes. Small in tests.
    pub password_cost: (u32, u32),
    /// OpenID providers by name (`google`, `azure`, `apple`).
    pub providers: Vec<Provider>,
}

/// An OpenID provider.
#[derive(Clone, Debug)]
pub struct Provider {
    /// `google`, `azure` or `apple`.
    pub name: String,
    /// Issuer; its `/.well-known/openid-configuration` says the rest.
    pub issuer: String,
    /// Client id.
    pub client_id: String,
    /// Client secret.
    pub client_secret: Secret,
}
