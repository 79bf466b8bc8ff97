//! The commands of `backupengine-server`.
use backupengine_server::config::{Admin, Config};
use backupengine_server::{ServerError, app::App, log, migrate, openapi, probe, rebuild};
use clap::{Args, Parser, Subcommand};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The control plane of backupengine: identity, device signatures, grants.
///
/// Without a command it serves, with settings from the environment; API.md beside the source lists them.
#[derive(Debug, Parser)]
#[command(
    name = "backupengine-server",
    version,
    disable_version_flag = true,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    dev: Dev,
}

#[derive(Debug, Args)]
struct Dev {
    /// Everything on this machine without settings: its own PostgreSQL and object storage, plain HTTP on loopback
    #[arg(long)]
    dev: bool,
    /// Where --dev keeps everything
    #[arg(long, value_name = "DIR", requires = "dev", default_value = "backupengine-dev")]
    data: PathBuf,
    /// Where --dev listens; loopback only, port 0 takes a free one
    #[arg(long, value_name = "ADDR", requires = "dev", default_value = "127.0.0.1:54390")]
    listen: SocketAddr,
    /// Region of the --dev deployment: us, ca or eu
    #[arg(long, value_name = "REGION", requires = "dev", default_value = "eu")]
    region: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tries what the object storage honours and keeps the result in the database
    CheckStorage,
    /// Brings the database to this version
    Migrate,
    /// Registers a vault again from what its bucket holds, after the database was lost
    Rebuild {
        /// The vault: 32 hexadecimal digits, the first part of its objects' names
        vault: String,
        /// Whose it is: the address of a user who has signed up anew
        email: String,
    },
    /// Prints the contract of the operations as OpenAPI
    Openapi,
    /// Prints the version
    Version,
}

impl Arguments {
    pub(crate) async fn run(self) -> Result<(), ServerError> {
        match self.command {
            Some(Command::Openapi) => return say(openapi::text()),
            Some(Command::Version) => return say(concat!(env!("CARGO_PKG_VERSION"), "\n")),
            _ => {
                // A person sits before --dev.
                let usual = if self.dev.dev { tracing::Level::WARN } else { tracing::Level::INFO };
                log::start(std::env::var(log::SETTING).ok().as_deref(), usual)?;
            }
        }
        match self.command {
            Some(Command::CheckStorage) => check_storage().await,
            Some(Command::Migrate) => bring_up().await,
            Some(Command::Rebuild { vault, email }) => register(&vault, &email).await,
            _ if self.dev.dev => self.dev.run().await,
            _ => serve().await,
        }
    }
}

async fn serve() -> Result<(), ServerError> {
    let mut signals = Signals::listen()?;
    let running = App::new(Config::from_environment()?).await?.serve().await?;
    tracing::info!(address = %running.address, "serving");
    signals.wait().await;
    tracing::info!("stopping");
    running.stop().await;
    Ok(())
}

async fn bring_up() -> Result<(), ServerError> {
    let admin = Admin::from_environment()?;
    let mut client = admin.connect().await?;
    migrate::migrate(&mut client).await?;
    admin.configure(&client, None).await?;
    say("The database is at this version.\n")
}

async fn check_storage() -> Result<(), ServerError> {
    let admin = Admin::from_environment()?;
    let storage = admin.storage()?;
    let probed = probe::probe(&storage, admin.sweep()?.as_ref()).await?;
    for line in &probed.report {
        say(format!("{line}\n"))?;
    }
    admin.configure(&admin.connect().await?, Some(probed.profile)).await?;
    say("The profile is kept in the database; servers read it when they start.\n")?;
    storage.need_lock(probed.profile)
}

async fn register(vault: &str, email: &str) -> Result<(), ServerError> {
    let admin = Admin::from_environment()?;
    let mut client = admin.connect().await?;
    let rebuilt = rebuild::rebuild(&mut client, &admin.storage()?, vault, email).await?;
    say(format!("registered: {} sessions, {} snapshots\n", rebuilt.sessions, rebuilt.snapshots))?;
    for reason in &rebuilt.left_out {
        say(format!("left out: {reason}\n"))?;
    }
    Ok(())
}

#[cfg(unix)]
impl Dev {
    async fn run(self) -> Result<(), ServerError> {
        use backupengine_server::dev::{self, DevConfig};
        let mut signals = Signals::listen()?;
        let region = self.region;
        let config = DevConfig { listen: self.listen, region: region.clone(), ..DevConfig::new(self.data) };
        let dev = dev::Dev::start(config).await?;
        say(format!(
            "Serving at {base} for this machine alone. In another terminal:\n\n  \
             backupengine signup --server {base} --region {region}\n\nCtrl-C stops it; what is stored stays.\n",
            base = dev.base
        ))?;
        signals.wait().await;
        tracing::info!("stopping");
        dev.stop().await;
        Ok(())
    }
}

#[cfg(not(unix))]
impl Dev {
    async fn run(self) -> Result<(), ServerError> {
        Err(ServerError::Other("--dev runs on Linux and macOS only; on Windows use WSL".to_owned()))
    }
}

/// SIGINT and SIGTERM, from now on.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn listen() -> Result<Self, ServerError> {
        use tokio::signal::unix::{SignalKind, signal};
        let failed = |source| ServerError::Io { what: "waiting for signals".to_owned(), source };
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt()).map_err(failed)? })
    }

    #[cfg(unix)]
    async fn wait(&mut self) {
        tokio::select! { _ = self.terminate.recv() => {} _ = self.interrupt.recv() => {} }
    }

    #[cfg(not(unix))]
    fn listen() -> Result<Self, ServerError> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn wait(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// To stdout, which carries results only.
fn say(text: impl AsRef<str>) -> Result<(), ServerError> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_ref().as_bytes()).and_then(|()| out.flush());
    written.map_err(|source| ServerError::Io { what: "writing to stdout".to_owned(), source })
}
