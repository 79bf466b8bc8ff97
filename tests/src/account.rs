//! A control plane in this process: real PostgreSQL, real S3-compatible store, a folder that is gone afterwards.
//!
//! Blocking on the outside, so that it may be used from any test, async ones as well. Everything ends on drop, also
//! when a test panics.
mod device;
mod keeper;
mod template;
mod user;

pub use backupengine_server::config::Config;
pub use backupengine_server::dev::{Dev, DevConfig};
pub use device::{Answer, Device, DeviceKeys, Request, base64, idem, now};
pub use keeper::MemoryKeeper;
pub use user::{PASSWORD, Session, User};

use crate::relay::Relay;
use backupengine_api::Directory;
use backupengine_server::app::{App, Running};
use serde_json::Value;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row};

/// A running control plane.
pub struct Server {
    // In the order in which they are dropped.
    behind: Option<Running>,
    dev: Option<Dev>,
    base: String,
    config: DevConfig,
    pub(crate) http: reqwest::Client,
    pub(crate) runtime: Arc<Own>,
    folder: tempfile::TempDir,
}

impl Server {
    /// With cheap password hashes, no rate limits, and no fsync.
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// The same, changed: lives of tokens and grants, providers, rate limits.
    pub fn with(change: impl FnOnce(&mut DevConfig)) -> Self {
        let folder = tempfile::Builder::new().prefix("be-test-").tempdir().unwrap();
        // PostgreSQL runs as another user where the tests run as root.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let mut config = DevConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            template: Some(template::path()),
            rate_limits: false,
            password_cost: (64, 1),
            durable: false,
            ..DevConfig::new(folder.path().join("data"))
        };
        change(&mut config);
        let runtime = Arc::new(Own::new());
        let dev = runtime.wait(Dev::start(config.clone())).unwrap_or_else(|error| panic!("{error}"));
        let base = dev.base.clone();
        Self { behind: None, dev: Some(dev), base, config, http: client(), runtime, folder }
    }

    /// Behind what passes calls on: `control` stands before the server, `storage` before its objects. Everything
    /// calls them there; the settings of the server may be changed.
    pub fn behind(
        control: &Relay,
        storage: &Relay,
        dev: impl FnOnce(&mut DevConfig),
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::behind_server(control, Self::with(dev), |_, config| {
            let store = config.storage.endpoint.strip_prefix("http://").unwrap();
            storage.passes_to(store.parse().unwrap());
            storage.base().clone_into(&mut config.storage.endpoint);
            change(config);
        })
    }

    /// Behind what passes calls on; settings and database may be changed before it serves.
    pub fn behind_with(control: &Relay, change: impl FnOnce(&Self, &mut Config)) -> Self {
        Self::behind_server(control, Self::start(), change)
    }

    fn behind_server(control: &Relay, mut server: Self, change: impl FnOnce(&Self, &mut Config)) -> Self {
        let mut config = server.dev().config().clone();
        config.listen = ([127, 0, 0, 1], 0).into();
        control.base().clone_into(&mut config.public_url);
        let regions = [(config.region.clone(), control.base().to_owned())];
        config.directory = Directory { regions: regions.into() };
        change(&server, &mut config);
        let running = server.wait(async { App::new(config).await?.serve().await });
        let running = running.unwrap_or_else(|error| panic!("{error}"));
        control.passes_to(running.address);
        control.base().clone_into(&mut server.base);
        server.behind = Some(running);
        server
    }

    /// One that runs elsewhere, as the built program: calls only, nothing of what is inside.
    pub fn attach(base: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = DevConfig::new(folder.path().join("data"));
        Self {
            behind: None,
            dev: None,
            base: base.to_owned(),
            config,
            http: client(),
            runtime: Arc::new(Own::new()),
            folder,
        }
    }

    /// What runs.
    pub fn dev(&self) -> &Dev {
        self.dev.as_ref().unwrap()
    }

    /// Whether it runs here, with its database at hand.
    pub fn is_own(&self) -> bool {
        self.dev.is_some()
    }

    /// Its address, `http://127.0.0.1:PORT`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Which it serves.
    pub fn region(&self) -> &str {
        &self.config.region
    }

    /// Folder of the bucket's objects, as files.
    pub fn objects(&self) -> &Path {
        &self.dev().objects
    }

    /// Folder of everything.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The server alone anew, on the same port.
    pub fn restart(&mut self) {
        let dev = self.dev.as_mut().unwrap();
        self.runtime.wait(dev.restart()).unwrap();
    }

    /// Ends all of it and leaves its folder.
    pub fn stop(&mut self) {
        if let Some(behind) = self.behind.take() {
            self.runtime.wait(behind.stop());
        }
        let dev = self.dev.take();
        // Not on a thread of somebody else's runtime: ending PostgreSQL blocks.
        std::thread::scope(|scope| drop(scope.spawn(|| drop(dev)).join()));
    }

    /// All of it anew, on what it left, at another address.
    pub fn start_again(&mut self) {
        let config = self.config.clone();
        self.stop();
        let dev = self.runtime.wait(Dev::start(config)).unwrap_or_else(|error| panic!("{error}"));
        self.base.clone_from(&dev.base);
        self.dev = Some(dev);
    }

    /// The HTTP client of this room.
    pub fn client(&self) -> &reqwest::Client {
        &self.http
    }

    /// Waits for something on the server's runtime.
    pub fn wait<T: Send>(&self, future: impl Future<Output = T> + Send) -> T {
        self.runtime.wait(future)
    }

    /// The database as a superuser: for looking inside and for breaking things. Proves nothing about policies.
    pub fn admin(&self) -> Sql {
        self.sql(&self.dev().admin_database_url)
    }

    /// The database as the role of the front.
    pub fn front(&self) -> Sql {
        self.sql(&self.dev().front_database_url)
    }

    /// The database at an address.
    pub fn sql(&self, url: &str) -> Sql {
        let client = self.wait(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
            drop(tokio::spawn(connection));
            client
        });
        Sql { client, runtime: Arc::clone(&self.runtime) }
    }

    /// A plain call: status and body (null where it is no JSON).
    pub fn http(&self, method: &str, path: &str, bearer: Option<&str>, body: Option<&Value>) -> (u16, Value) {
        let mut request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.base()));
        if let Some(token) = bearer {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.wait(async {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json().await.unwrap_or_default())
        })
    }

    /// Signs up, confirms a one-time code: a login at aal2. Panics if that address has an account already.
    pub fn user(&self, email: &str) -> User<'_> {
        User::sign_up(self, email)
    }
}

pub(crate) fn client() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.timeout(Duration::from_secs(60)).build().unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One connection, used from anywhere.
pub struct Sql {
    client: Client,
    runtime: Arc<Own>,
}

impl Sql {
    /// Rows.
    pub fn query(
        &self,
        text: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        self.runtime.wait(self.client.query(text, values))
    }
    /// One row.
    pub fn row(&self, text: &str, values: &[&(dyn ToSql + Sync)]) -> Row {
        self.runtime
            .wait(self.client.query_one(text, values))
            .unwrap_or_else(|error| panic!("{text}: {error:?}"))
    }
    /// How many rows it changed.
    pub fn execute(&self, text: &str, values: &[&(dyn ToSql + Sync)]) -> Result<u64, tokio_postgres::Error> {
        self.runtime.wait(self.client.execute(text, values))
    }
    /// Several statements.
    pub fn batch(&self, text: &str) -> Result<(), tokio_postgres::Error> {
        self.runtime.wait(self.client.batch_execute(text))
    }
    /// What is beneath, for use with [`Server::wait`].
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// A runtime that may be waited for and dropped anywhere.
pub(crate) struct Own(Option<Runtime>);

impl Own {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self(Some(runtime.unwrap()))
    }

    pub(crate) fn wait<T: Send>(&self, future: impl Future<Output = T> + Send) -> T {
        let runtime = self.0.as_ref().unwrap();
        let waited = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(future)).join());
        waited.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
