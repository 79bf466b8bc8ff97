//! Settings: from the environment or files it names in production, made up by `--dev`.
//!
//! May not read a secret from an argument or print one. Tested below.
use backupengine_api::Directory;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

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
    /// Identity.
    pub auth: Auth,
    /// Addresses of proxies whose `X-Forwarded-For` counts.
    pub proxies: Vec<std::net::IpAddr>,
    /// Whether calls are limited in rate; off in load tests only.
    pub rate_limits: bool,
}

/// Object storage.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Base address.
    pub endpoint: String,
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
}

/// What a store honours when it is signed into a PUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// `x-amz-checksum-sha256`.
    pub checksum_sha256: bool,
    /// `content-md5`, for stores without the above.
    pub content_md5: bool,
    /// `If-None-Match: *`.
    pub if_none_match: bool,
    /// `x-amz-server-side-encryption: AES256`.
    pub sse_header: bool,
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
