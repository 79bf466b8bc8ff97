//! Reading settings from the environment, and secrets from files it names.
use super::{
    Auth, Config, Lock, LockMode, PASSWORD_COST, Profile, Provider, REUSE_WINDOW, SWEEP_EVERY, Secret,
    Storage, Sweep,
};
use crate::ServerError;
use backupengine_api::{Directory, GRANT_SECONDS};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Every setting there is. API.md explains each.
pub(super) const SETTINGS: &[&str] = &[
    "BACKUPENGINE_LISTEN",
    "BACKUPENGINE_PUBLIC_URL",
    "BACKUPENGINE_TLS_CERT",
    "BACKUPENGINE_TLS_KEY",
    "BACKUPENGINE_REGION",
    "BACKUPENGINE_REGIONS",
    "BACKUPENGINE_PROXIES",
    "BACKUPENGINE_DATABASE_CA",
    "BACKUPENGINE_S3_ENDPOINT",
    "BACKUPENGINE_S3_REGION",
    "BACKUPENGINE_S3_BUCKET",
    "BACKUPENGINE_S3_ACCESS_KEY",
    "BACKUPENGINE_S3_SWEEP_ACCESS_KEY",
    "BACKUPENGINE_S3_LOCK_MODE",
    "BACKUPENGINE_S3_LOCK_DAYS",
    "BACKUPENGINE_GRANT_SECONDS",
    "BACKUPENGINE_ACCESS_SECONDS",
    "BACKUPENGINE_QUOTA_BYTES",
    "BACKUPENGINE_GOOGLE_CLIENT_ID",
    "BACKUPENGINE_GOOGLE_ISSUER",
    "BACKUPENGINE_AZURE_CLIENT_ID",
    "BACKUPENGINE_AZURE_ISSUER",
    "BACKUPENGINE_APPLE_CLIENT_ID",
    "BACKUPENGINE_APPLE_ISSUER",
    crate::log::SETTING,
];
/// Secrets: each may also be in a file that `<NAME>_FILE` names.
pub(super) const SECRETS: &[&str] = &[
    "DATABASE_URL",
    "BACKUPENGINE_AUTH_DATABASE_URL",
    "BACKUPENGINE_ADMIN_DATABASE_URL",
    "BACKUPENGINE_S3_SECRET_KEY",
    "BACKUPENGINE_S3_SWEEP_SECRET_KEY",
    "BACKUPENGINE_JWT_KEY",
    "BACKUPENGINE_TOTP_KEY",
    "BACKUPENGINE_METRICS_TOKEN",
    "BACKUPENGINE_GOOGLE_CLIENT_SECRET",
    "BACKUPENGINE_AZURE_CLIENT_SECRET",
    "BACKUPENGINE_APPLE_CLIENT_SECRET",
];
/// Without a path, as clients compare it.
const REGIONS: &[&str] = &["us", "ca", "eu"];
const ISSUERS: &[(&str, Option<&str>)] = &[
    ("google", Some("https://accounts.google.com")),
    // A tenant's own: there is no good one for all.
    ("azure", None),
    ("apple", Some("https://appleid.apple.com")),
];

/// The variables, read once.
pub(super) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Of this process. A name of ours that is no setting is a slip of the pen that would else go unnoticed.
    pub(super) fn of_this_process() -> Result<Self, ServerError> {
        let ours = |name: &str| name.starts_with("BACKUPENGINE_") || name.starts_with("DATABASE_URL");
        let mut variables = BTreeMap::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| ours(name)).map(str::to_owned) else { continue };
            let value = value.into_string().map_err(|_| problem(&name, "it is not UTF-8"))?;
            variables.insert(name, value);
        }
        Self::new(variables)
    }

    pub(super) fn new(variables: BTreeMap<String, String>) -> Result<Self, ServerError> {
        for name in variables.keys().filter(|name| name.starts_with("BACKUPENGINE_")) {
            let secret = name.strip_suffix("_FILE").unwrap_or(name);
            if !SETTINGS.contains(&name.as_str()) && !SECRETS.contains(&secret) {
                return Err(problem(name, "there is no such setting; API.md lists them"));
            }
        }
        Ok(Self(variables))
    }

    fn optional(&self, name: &str) -> Option<&str> {
        debug_assert!(SETTINGS.contains(&name), "{name}");
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    pub(super) fn text(&self, name: &str) -> Result<&str, ServerError> {
        self.optional(name).ok_or_else(|| problem(name, "it is not set"))
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.optional(name).map(PathBuf::from)
    }

    fn parsed<T: FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, ServerError> {
        self.optional(name).map(|text| text.parse().map_err(|_| problem(name, what))).transpose()
    }

    fn seconds(&self, name: &str, usual: u64, least: u64, most: u64) -> Result<Duration, ServerError> {
        let what = format!("it has to be a number of seconds from {least} to {most}");
        let seconds = self.parsed(name, &what)?.unwrap_or(usual);
        if !(least..=most).contains(&seconds) {
            return Err(problem(name, what));
        }
        Ok(Duration::from_secs(seconds))
    }

    fn optional_secret(&self, name: &str) -> Result<Option<Secret>, ServerError> {
        debug_assert!(SECRETS.contains(&name), "{name}");
        let file = format!("{name}_FILE");
        let set = |name: &str| self.0.get(name).filter(|text| !text.is_empty());
        match (set(name), set(&file)) {
            (Some(_), Some(_)) => {
                Err(problem(name, format!("it is set, and so is {file}: which one counts?")))
            }
            (Some(text), None) => Ok(Some(Secret::new(text.clone()))),
            (None, Some(path)) => {
                let cannot =
                    |cause: std::io::Error| problem(&file, format!("{path} cannot be read: {cause}"));
                let text = Secret::new(std::fs::read_to_string(path).map_err(cannot)?);
                let trimmed = text.expose().trim_end_matches(['\r', '\n']);
                if trimmed.is_empty() {
                    return Err(problem(&file, format!("{path} is empty")));
                }
                Ok(Some(Secret::new(trimmed.to_owned())))
            }
            (None, None) => Ok(None),
        }
    }

    pub(super) fn secret(&self, name: &str) -> Result<Secret, ServerError> {
        let unset = || problem(name, format!("it is not set, nor is {name}_FILE"));
        self.optional_secret(name)?.ok_or_else(unset)
    }

    /// All that serving needs.
    pub(super) fn config(&self) -> Result<Config, ServerError> {
        let public_url = self.public_url()?;
        let region = self.region()?;
        let certificate = "there is no serving without TLS but with --dev: name the certificate chain (PEM)";
        let chain = self
            .path("BACKUPENGINE_TLS_CERT")
            .ok_or_else(|| problem("BACKUPENGINE_TLS_CERT", certificate))?;
        let key = self
            .path("BACKUPENGINE_TLS_KEY")
            .ok_or_else(|| problem("BACKUPENGINE_TLS_KEY", "it is not set"))?;
        let listen = self.parsed("BACKUPENGINE_LISTEN", "it has to be ADDRESS:PORT")?;
        let totp_key = self.secret("BACKUPENGINE_TOTP_KEY")?;
        let hex = totp_key.expose();
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(problem("BACKUPENGINE_TOTP_KEY", "it has to be 32 bytes as 64 hexadecimal digits"));
        }
        let metrics_token = self.optional_secret("BACKUPENGINE_METRICS_TOKEN")?;
        if metrics_token.as_ref().is_some_and(|token| token.expose().len() < 16) {
            return Err(problem("BACKUPENGINE_METRICS_TOKEN", "it has to be 16 characters or more"));
        }
        Ok(Config {
            listen: listen.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 8443))),
            directory: self.directory(&region, &public_url)?,
            public_url,
            tls: Some((chain, key)),
            region,
            database_url: self.secret("DATABASE_URL")?,
            auth_database_url: self.secret("BACKUPENGINE_AUTH_DATABASE_URL")?,
            database_ca: self.path("BACKUPENGINE_DATABASE_CA"),
            storage: self.storage()?,
            sweep: self.sweep()?,
            auth: Auth {
                jwt_key: self.secret("BACKUPENGINE_JWT_KEY")?,
                totp_key,
                access_life: self.seconds("BACKUPENGINE_ACCESS_SECONDS", 3600, 60, 3600)?,
                reuse_window: REUSE_WINDOW,
                confirm_mail: false,
                password_cost: PASSWORD_COST,
                providers: self.providers()?,
            },
            proxies: self.proxies()?,
            rate_limits: true,
            metrics_token,
        })
    }

    pub(super) fn storage(&self) -> Result<Storage, ServerError> {
        let endpoint = self.text("BACKUPENGINE_S3_ENDPOINT")?.trim_end_matches('/');
        if !endpoint.starts_with("https://") {
            return Err(problem("BACKUPENGINE_S3_ENDPOINT", "it has to begin with https://"));
        }
        let most = u64::from(GRANT_SECONDS);
        Ok(Storage {
            endpoint: endpoint.to_owned(),
            seen_at: None,
            region: self.text("BACKUPENGINE_S3_REGION")?.to_owned(),
            bucket: self.text("BACKUPENGINE_S3_BUCKET")?.to_owned(),
            access_key: self.text("BACKUPENGINE_S3_ACCESS_KEY")?.to_owned(),
            secret_key: self.secret("BACKUPENGINE_S3_SECRET_KEY")?,
            grant_life: self.seconds("BACKUPENGINE_GRANT_SECONDS", most, 60, most)?,
            // Until `check-storage` has found better.
            profile: Profile::NONE,
            lock: self.lock()?,
        })
    }

    /// For how long what is stored is locked; mode and days, or neither.
    fn lock(&self) -> Result<Option<Lock>, ServerError> {
        let (mode, days) = ("BACKUPENGINE_S3_LOCK_MODE", "BACKUPENGINE_S3_LOCK_DAYS");
        let what = format!("it has to be a number of days from 1 to {}", Lock::DAYS_MAX);
        let kept = match self.optional(mode) {
            None => None,
            Some("governance") => Some(LockMode::Governance),
            Some("compliance") => Some(LockMode::Compliance),
            Some(_) => return Err(problem(mode, "it has to be governance or compliance")),
        };
        match (kept, self.parsed::<u16>(days, &what)?) {
            (None, None) => Ok(None),
            (Some(mode), Some(days)) if (1..=Lock::DAYS_MAX).contains(&days) => Ok(Some(Lock { mode, days })),
            (Some(_), Some(_)) => Err(problem(days, what)),
            (Some(_), None) => Err(problem(days, format!("it is not set, but {mode} is"))),
            (None, Some(_)) => Err(problem(mode, format!("it is not set, but {days} is"))),
        }
    }

    /// Who may delete; the key and its secret, or neither.
    pub(super) fn sweep(&self) -> Result<Option<Sweep>, ServerError> {
        let (key, secret) = ("BACKUPENGINE_S3_SWEEP_ACCESS_KEY", "BACKUPENGINE_S3_SWEEP_SECRET_KEY");
        match (self.optional(key), self.optional_secret(secret)?) {
            (None, None) => Ok(None),
            (Some(access_key), Some(secret_key)) => {
                let access_key = access_key.to_owned();
                Ok(Some(Sweep { access_key, secret_key, every: SWEEP_EVERY }))
            }
            (Some(_), None) => Err(problem(secret, format!("it is not set, but {key} is"))),
            (None, Some(_)) => Err(problem(key, format!("it is not set, but {secret} is"))),
        }
    }

    pub(super) fn region(&self) -> Result<String, ServerError> {
        let name = "BACKUPENGINE_REGION";
        let region = self.text(name)?;
        if !REGIONS.contains(&region) {
            return Err(problem(name, format!("it has to be one of {}", REGIONS.join(", "))));
        }
        Ok(region.to_owned())
    }

    pub(super) fn quota(&self) -> Result<Option<i64>, ServerError> {
        let (name, what) = ("BACKUPENGINE_QUOTA_BYTES", "it has to be a number of bytes");
        let quota = self.parsed(name, what)?;
        if quota.is_some_and(|quota: i64| quota < 1) {
            return Err(problem(name, what));
        }
        Ok(quota)
    }

    fn public_url(&self) -> Result<String, ServerError> {
        let name = "BACKUPENGINE_PUBLIC_URL";
        let text = self.text(name)?.trim_end_matches('/');
        let url = url::Url::parse(text).map_err(|_| problem(name, "it is no address"))?;
        if url.scheme() != "https"
            || url.query().is_some()
            || url.fragment().is_some()
            || !url.username().is_empty()
        {
            return Err(problem(name, "it has to be https://HOST, as clients reach this server"));
        }
        // Signatures cover this very text.
        if url.as_str().trim_end_matches('/') != text {
            return Err(problem(name, format!("write it as {}", url.as_str().trim_end_matches('/'))));
        }
        Ok(text.to_owned())
    }

    fn directory(&self, region: &str, public_url: &str) -> Result<Directory, ServerError> {
        let name = "BACKUPENGINE_REGIONS";
        let own = || Directory { regions: [(region.to_owned(), public_url.to_owned())].into() };
        let Some(text) = self.optional(name) else { return Ok(own()) };
        let mut regions = BTreeMap::new();
        for pair in text.split(',') {
            let (region, url) = pair.trim().split_once('=').unwrap_or_default();
            if !REGIONS.contains(&region) || !url.starts_with("https://") {
                return Err(problem(
                    name,
                    "it has to be REGION=https://HOST, several with commas between them",
                ));
            }
            regions.insert(region.to_owned(), url.trim_end_matches('/').to_owned());
        }
        if regions.get(region).map(String::as_str) != Some(public_url) {
            return Err(problem(name, format!("it has to hold {region}={public_url}, this server itself")));
        }
        Ok(Directory { regions })
    }

    fn providers(&self) -> Result<Vec<Provider>, ServerError> {
        let mut providers = Vec::new();
        for (provider, usual) in ISSUERS {
            let name = |what: &str| format!("BACKUPENGINE_{}_{what}", provider.to_uppercase());
            let Some(client_id) = self.optional(&name("CLIENT_ID")) else { continue };
            let issuer = match (self.optional(&name("ISSUER")), usual) {
                (Some(issuer), _) if issuer.starts_with("https://") => issuer.to_owned(),
                (Some(_), _) => return Err(problem(&name("ISSUER"), "it has to begin with https://")),
                (None, Some(usual)) => (*usual).to_owned(),
                (None, None) => {
                    return Err(problem(&name("ISSUER"), "it is not set: every tenant has its own"));
                }
            };
            let client_secret = self.secret(&name("CLIENT_SECRET"))?;
            let (name, client_id) = ((*provider).to_owned(), client_id.to_owned());
            providers.push(Provider { name, issuer, client_id, client_secret });
        }
        Ok(providers)
    }

    fn proxies(&self) -> Result<Vec<IpAddr>, ServerError> {
        let name = "BACKUPENGINE_PROXIES";
        let Some(text) = self.optional(name) else { return Ok(Vec::new()) };
        let bad = |_| problem(name, "it has to be addresses with commas between them");
        text.split(',').map(|address| address.trim().parse().map_err(bad)).collect()
    }
}

pub(super) fn problem(setting: &str, problem: impl Into<String>) -> ServerError {
    ServerError::Setting { setting: setting.to_owned(), problem: problem.into() }
}
