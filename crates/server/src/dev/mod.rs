//! `--dev`: the whole control plane on one machine without configuration: PostgreSQL as a child on a Unix socket,
//! an S3-compatible store in this process, plain HTTP on loopback.
//!
//! May not listen on anything but loopback, or share its data folder with a second server. Nothing of it runs on
//! when the server has ended, not even after a kill. Tested in `tests/server`.
mod checked;
mod cluster;
mod find;
mod objects;
mod owner;
mod secrets;

use crate::ServerError;
use crate::app::{App, Running};
use crate::config::{Auth, Config, Profile, Secret, Storage, Sweep};
use crate::db;
use crate::migrate::migrate;
use crate::serve::Serving;
use backupengine_api::Directory;
use cluster::{ADMIN, Cluster};
use owner::Owner;
use secrets::Secrets;
use std::fs::{File, Permissions, TryLockError};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What an account may take, in bytes.
const QUOTA: i64 = 1 << 40;
/// What the store in this process honours: `check-storage` says the same of it.
const PROFILE: Profile = Profile {
    checksum_sha256: true,
    content_md5: false,
    if_none_match: true,
    sse_header: false,
    object_lock: false,
};

/// What may be said about it.
#[derive(Clone, Debug)]
pub struct DevConfig {
    /// Everything it keeps. Made if need be.
    pub data: PathBuf,
    /// Loopback only; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The address clients use, where something stands before it (a proxy with a delay): what signatures cover.
    pub seen_at: Option<String>,
    /// The same of its object storage: what grants name. The server itself goes the short way.
    pub storage_seen_at: Option<String>,
    /// Of the deployment and its bucket.
    pub region: String,
    /// What [`make_template`] made, to copy instead of running initdb and all migrations.
    pub template: Option<PathBuf>,
    /// Lives of access tokens and grants.
    pub access_life: Duration,
    /// See above.
    pub grant_life: Duration,
    /// How long the sweep rests between two passes.
    pub sweep_every: Duration,
    /// OpenID providers.
    pub providers: Vec<crate::config::Provider>,
    /// Rate limits as in production.
    pub rate_limits: bool,
    /// Cost of password hashes: memory in KiB, passes.
    pub password_cost: (u32, u32),
    /// fsync of PostgreSQL; off in tests.
    pub durable: bool,
}

impl DevConfig {
    /// As `--dev` has it when nothing else is said.
    pub fn new(data: PathBuf) -> Self {
        Self {
            data,
            listen: SocketAddr::from(([127, 0, 0, 1], 54_390)),
            seen_at: None,
            storage_seen_at: None,
            region: "eu".to_owned(),
            template: None,
            access_life: Duration::from_secs(3600),
            grant_life: Duration::from_secs(u64::from(backupengine_api::GRANT_SECONDS)),
            sweep_every: crate::config::SWEEP_EVERY,
            providers: Vec::new(),
            rate_limits: true,
            password_cost: crate::config::PASSWORD_COST,
            durable: true,
        }
    }
}

/// A control plane that runs until it is stopped or dropped.
pub struct Dev {
    /// Its address as clients use it, `http://127.0.0.1:PORT`.
    pub base: String,
    /// Rights of a superuser over its database, for tests and for looking inside.
    pub admin_database_url: String,
    /// As `backupengine_front`.
    pub front_database_url: String,
    /// Folder that holds the bucket's objects as files.
    pub objects: PathBuf,
    /// Where the in-process store listens.
    pub storage: Storage,
    config: Config,
    /// Kept bound over a restart, so that nobody else takes the port.
    listener: std::net::TcpListener,
    // In the order in which they are dropped.
    running: Option<Running>,
    store: Serving,
    cluster: Cluster,
    _lock: File,
}

impl Dev {
    /// Starts all of it.
    ///
    /// # Errors
    /// [`ServerError`]; where no PostgreSQL is found, with a line that installs it.
    pub async fn start(dev: DevConfig) -> Result<Self, ServerError> {
        if !dev.listen.ip().is_loopback() {
            return Err(ServerError::Setting {
                setting: "--listen".to_owned(),
                problem: format!(
                    "{} is not loopback: --dev speaks plain HTTP and serves this machine only (127.0.0.1 or [::1]). \
                     API.md says how to run a server for others",
                    dev.listen
                ),
            });
        }
        let data = prepare(&dev.data)?;
        let lock = lock(&data)?;
        let secrets = Secrets::load_or_make(&data, dev.template.as_deref())?;
        let bucket = format!("backupengine-{}", dev.region);
        let cluster = cluster(&data, &dev, &secrets, &bucket).await?;
        let root = data.join("objects");
        let sweep = Sweep {
            access_key: objects::SWEEP_KEY.to_owned(),
            secret_key: secrets::random()?,
            every: dev.sweep_every,
        };
        let store =
            objects::start(&root, &data.join("store-port"), &bucket, &secrets.storage_key, &sweep.secret_key)
                .await?;

        let listener = bind(dev.listen)?;
        let address = listener.local_addr().map_err(io("asking for the port"))?;
        let base = dev.seen_at.clone().unwrap_or_else(|| format!("http://{address}"));
        let storage = storage(&dev, &store, &bucket, secrets.storage_key);
        let front_database_url = cluster.url("backupengine_front", &secrets.passwords.front);
        let regions = [(dev.region.clone(), base.clone())].into();
        let config = Config {
            listen: address,
            public_url: base.clone(),
            tls: None,
            region: dev.region,
            directory: Directory { regions },
            database_url: Secret::new(front_database_url.clone()),
            auth_database_url: Secret::new(cluster.url("backupengine_auth", &secrets.passwords.auth)),
            database_ca: None,
            storage: storage.clone(),
            sweep: Some(sweep),
            auth: Auth {
                jwt_key: secrets.jwt_key,
                totp_key: secrets.totp_key,
                access_life: dev.access_life,
                reuse_window: crate::config::REUSE_WINDOW,
                confirm_mail: false,
                password_cost: dev.password_cost,
                providers: dev.providers,
            },
            proxies: Vec::new(),
            rate_limits: dev.rate_limits,
            metrics_token: None,
        };
        let mut dev = Self {
            base,
            admin_database_url: cluster.url(ADMIN, &secrets.passwords.admin),
            front_database_url,
            objects: root.join(&bucket),
            storage,
            config,
            listener,
            running: None,
            store,
            cluster,
            _lock: lock,
        };
        dev.serve().await?;
        Ok(dev)
    }

    /// What the server inside was told.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The server alone anew, on the same port: what clients see when it is restarted.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
        self.serve().await
    }

    /// Stops the server and the database; leaves the data.
    pub async fn stop(self) {
        let Self { running, store, cluster, .. } = self;
        if let Some(running) = running {
            running.stop().await;
        }
        store.stop().await;
        // Waits for PostgreSQL.
        drop(tokio::task::spawn_blocking(move || drop(cluster)).await);
    }

    async fn serve(&mut self) -> Result<(), ServerError> {
        let listener = self.listener.try_clone().map_err(io("keeping the port"))?;
        self.running = Some(App::new(self.config.clone()).await?.serve_on(listener)?);
        Ok(())
    }
}

/// Makes a folder that [`DevConfig::template`] can name: a cluster with all migrations, and the passwords of its roles.
///
/// # Errors
/// [`ServerError`].
pub async fn make_template(path: &Path) -> Result<(), ServerError> {
    let data = prepare(path)?;
    let _lock = lock(&data)?;
    let secrets = Secrets::load_or_make(&data, None)?;
    let cluster = Cluster::start(&data, None, &secrets.passwords.admin, false).await?;
    fill(&cluster, &secrets).await?;
    drop(tokio::task::spawn_blocking(move || drop(cluster)).await);
    Ok(())
}

/// Changes when a template has to be made anew: with the migrations, and with PostgreSQL.
///
/// # Errors
/// [`ServerError`] where no PostgreSQL is found.
pub fn template_key() -> Result<String, ServerError> {
    Ok(format!("{}-{}", find::find(None)?.major, &crate::migrate::fingerprint()[..16]))
}

async fn cluster(
    data: &Path,
    dev: &DevConfig,
    secrets: &Secrets,
    bucket: &str,
) -> Result<Cluster, ServerError> {
    let template = dev.template.as_deref();
    let cluster = Cluster::start(data, template, &secrets.passwords.admin, dev.durable).await?;
    let client = fill(&cluster, secrets).await?;
    db::configure(&client, &dev.region, bucket, QUOTA, Some(PROFILE)).await?;
    Ok(cluster)
}

/// Migrations, and passwords for the roles that they made.
async fn fill(cluster: &Cluster, secrets: &Secrets) -> Result<tokio_postgres::Client, ServerError> {
    let mut client = cluster.admin(&secrets.passwords.admin).await?;
    migrate(&mut client).await?;
    let roles =
        [("backupengine_front", &secrets.passwords.front), ("backupengine_auth", &secrets.passwords.auth)];
    for (role, password) in roles {
        let without = "select 1 from pg_authid where rolname = $1 and rolpassword is null";
        if client.query_opt(without, &[&role]).await?.is_some() {
            // Both are ours: a fixed name, and hexadecimal digits.
            client.batch_execute(&format!("alter role {role} password '{}'", password.expose())).await?;
        }
    }
    Ok(client)
}

fn storage(dev: &DevConfig, store: &Serving, bucket: &str, key: Secret) -> Storage {
    Storage {
        endpoint: format!("http://{}", store.address),
        seen_at: dev.storage_seen_at.clone(),
        region: dev.region.clone(),
        bucket: bucket.to_owned(),
        access_key: objects::ACCESS_KEY.to_owned(),
        secret_key: key,
        grant_life: dev.grant_life,
        profile: PROFILE,
        lock: None,
    }
}

/// The folder, made if need be, by its real name.
fn prepare(data: &Path) -> Result<PathBuf, ServerError> {
    let owner = Owner::find()?;
    let new = !data.exists();
    std::fs::create_dir_all(data).map_err(io(format!("making {}", data.display())))?;
    if new {
        std::fs::set_permissions(data, Permissions::from_mode(owner.passage()))
            .map_err(io(format!("closing {} to others", data.display())))?;
    }
    data.canonicalize().map_err(io(format!("looking at {}", data.display())))
}

fn lock(data: &Path) -> Result<File, ServerError> {
    let path = data.join("lock");
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(io(format!("opening {}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServerError::Other(format!(
            "another server uses {}: stop it first, or choose another folder with --data",
            data.display()
        ))),
        Err(TryLockError::Error(source)) => Err(io(format!("locking {}", path.display()))(source)),
    }
}

fn bind(address: SocketAddr) -> Result<std::net::TcpListener, ServerError> {
    let listener = std::net::TcpListener::bind(address).map_err(io(format!("listening on {address}")))?;
    listener.set_nonblocking(true).map_err(io(format!("listening on {address}")))?;
    Ok(listener)
}

/// Names what was being done when the system refused it.
fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> ServerError {
    move |source| ServerError::Io { what: what.into(), source }
}
