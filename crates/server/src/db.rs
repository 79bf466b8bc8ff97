//! Connections: two pools, each as a role that row-level security binds.
//!
//! **What always holds.** Over a network: TLS 1.3, the server's chain and name verified, the password bound to that
//! very channel. Plain text over a Unix socket only. No error here shows an address with a password in it.
use crate::ServerError;
use crate::config::{Config, Profile, Secret};
use crate::tls;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use std::path::Path;
use std::time::Duration;
use tokio_postgres::config::{ChannelBinding, Host, SslMode};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Connections of each pool.
const CONNECTIONS: usize = 16;
/// For a connection, and for a free one of the pool.
const PATIENCE: Duration = Duration::from_secs(10);

/// The two pools.
#[derive(Clone)]
pub struct Database {
    /// As `backupengine_front`: may run `api.call` and what stands beside it, nothing else.
    pub front: Pool,
    /// As `backupengine_auth`: schema auth only.
    pub auth: Pool,
}

impl Database {
    /// Opens the pools (verify-full TLS, or a Unix socket) and makes one connection of each.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn connect(config: &Config) -> Result<Self, ServerError> {
        let ca = config.database_ca.as_deref();
        let database = Self {
            front: pool("DATABASE_URL", &config.database_url, ca)?,
            auth: pool("BACKUPENGINE_AUTH_DATABASE_URL", &config.auth_database_url, ca)?,
        };
        database.pulse().await?;
        Ok(database)
    }

    /// Whether both answer.
    pub(crate) async fn pulse(&self) -> Result<(), ServerError> {
        for pool in [&self.front, &self.auth] {
            let client = pool.get().await.map_err(|cause| ServerError::Pool(explain(&cause)))?;
            client.simple_query("").await?;
        }
        Ok(())
    }

    /// For Prometheus.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::from("# TYPE backupengine_database_connections gauge\n");
        for (name, pool) in [("front", &self.front), ("auth", &self.auth)] {
            let status = pool.status();
            text.push_str(&format!(
                "backupengine_database_connections{{pool=\"{name}\",state=\"open\"}} {}\n\
                 backupengine_database_connections{{pool=\"{name}\",state=\"free\"}} {}\n\
                 backupengine_database_connections{{pool=\"{name}\",state=\"awaited\"}} {}\n",
                status.size, status.available, status.waiting
            ));
        }
        text
    }
}

/// One connection apart from the pools, for `migrate` and `rebuild`. `setting` is where the address comes from.
///
/// # Errors
/// [`ServerError`].
pub async fn connect_once(setting: &str, url: &Secret, ca: Option<&Path>) -> Result<Client, ServerError> {
    let config = parse(setting, url)?;
    let failed = |cause: tokio_postgres::Error| ServerError::Pool(explain(&cause));
    // The connection ends with the client.
    if is_local(&config) {
        let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
        drop(tokio::spawn(connection));
        return Ok(client);
    }
    let tls = MakeRustlsConnect::new(tls::client(ca)?);
    let (client, connection) = config.connect(tls).await.map_err(failed)?;
    drop(tokio::spawn(connection));
    Ok(client)
}

/// Tells the database which deployment it belongs to.
///
/// # Errors
/// [`ServerError::Setting`]: a region with accounts in it stays what it is.
pub(crate) async fn configure(
    client: &Client,
    region: &str,
    bucket: &str,
    quota: i64,
    profile: Option<Profile>,
) -> Result<(), ServerError> {
    let profile = profile.map(Profile::to_json);
    let values: [&(dyn ToSql + Sync); 4] = [&region, &bucket, &quota, &profile];
    let told = client.execute("select app.configure($1, $2, $3, $4)", &values).await;
    told.map(drop).map_err(|cause| {
        // Its own refusals are written for a person.
        let said = cause.as_db_error().filter(|said| said.code().code().starts_with("PT"));
        let said = said.and_then(|said| Some(format!("{} {}", said.detail()?, said.hint()?)));
        let problem = said.unwrap_or_else(|| explain(&cause));
        ServerError::Setting { setting: "the region".to_owned(), problem }
    })
}

fn pool(setting: &str, url: &Secret, ca: Option<&Path>) -> Result<Pool, ServerError> {
    let config = parse(setting, url)?;
    let how = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = if is_local(&config) {
        Manager::from_config(config, NoTls, how)
    } else {
        Manager::from_config(config, MakeRustlsConnect::new(tls::client(ca)?), how)
    };
    let pool = Pool::builder(manager)
        .max_size(CONNECTIONS)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(PATIENCE))
        .create_timeout(Some(PATIENCE))
        .build();
    pool.map_err(|cause| ServerError::Pool(cause.to_string()))
}

fn is_local(config: &tokio_postgres::Config) -> bool {
    config.get_hosts().iter().all(|host| !matches!(host, Host::Tcp(_)))
}

/// Reads an address. Whatever it says or leaves out about TLS, nothing weaker than verify-full comes of it.
fn parse(setting: &str, url: &Secret) -> Result<tokio_postgres::Config, ServerError> {
    let problem =
        |problem: &str| ServerError::Setting { setting: setting.to_owned(), problem: problem.to_owned() };
    let (address, query) = url.expose().split_once('?').unwrap_or((url.expose(), ""));
    let weaker = "sslmode has to be verify-full: anything weaker believes whoever answers. For a private authority \
                  name its certificate in BACKUPENGINE_DATABASE_CA";
    let mut kept = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("sslmode", "verify-full") | ("channel_binding", "require") => {}
            ("sslmode", _) => return Err(problem(weaker)),
            ("channel_binding", _) => return Err(problem("channel_binding has to be require")),
            ("hostaddr" | "sslnegotiation" | "sslrootcert", _) => {
                return Err(problem(
                    "hostaddr, sslnegotiation and sslrootcert are not taken here; the authority is BACKUPENGINE_DATABASE_CA",
                ));
            }
            _ => kept.push(pair),
        }
    }
    let text = if kept.is_empty() { address.to_owned() } else { format!("{address}?{}", kept.join("&")) };
    let text = Secret::new(text);
    if !text.expose().starts_with("postgres://") && !text.expose().starts_with("postgresql://") {
        return Err(problem(
            "it has to be an address of the form postgres://role:password@host:port/database",
        ));
    }
    // What the reader says could quote the password.
    let mut config: tokio_postgres::Config =
        text.expose().parse().map_err(|_| problem("it does not read as an address of PostgreSQL"))?;
    let remote = config.get_hosts().iter().filter(|host| matches!(host, Host::Tcp(_))).count();
    if config.get_hosts().is_empty() || (remote > 0 && remote < config.get_hosts().len()) {
        return Err(problem("it has to name one host, or several that are all reached over the network"));
    }
    config.connect_timeout(PATIENCE).application_name("backupengine-server");
    if remote > 0 {
        config.ssl_mode(SslMode::Require).channel_binding(ChannelBinding::Require);
    } else {
        config.ssl_mode(SslMode::Disable).channel_binding(ChannelBinding::Disable);
    }
    Ok(config)
}

/// An error with its causes, which hold why TLS or a login failed.
pub(crate) fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<tokio_postgres::Config, String> {
        parse("DATABASE_URL", &Secret::new(url.to_owned())).map_err(|cause| cause.to_string())
    }

    #[test]
    fn a_network_means_verified_tls_and_a_bound_channel() {
        for query in ["", "?sslmode=verify-full", "?sslmode=verify-full&channel_binding=require"] {
            let config = read(&format!("postgres://a:b@db.example.org:5433/c{query}")).unwrap();
            assert_eq!(config.get_ssl_mode(), SslMode::Require);
            assert_eq!(config.get_channel_binding(), ChannelBinding::Require);
            assert_eq!(config.get_ports(), [5433]);
            assert!(!is_local(&config));
        }
    }

    #[test]
    fn a_socket_of_this_machine_is_exempt() {
        for url in ["postgres://a:b@%2Frun%2Fpostgresql/c", "postgres://a@/c?host=/run/postgresql"] {
            let config = read(url).unwrap();
            assert_eq!(config.get_ssl_mode(), SslMode::Disable, "{url}");
            assert!(is_local(&config), "{url}");
        }
    }

    #[test]
    fn what_is_weaker_or_unclear_is_refused_without_the_password() {
        for query in [
            "?sslmode=require",
            "?sslmode=prefer",
            "?sslmode=disable",
            "?sslmode=verify-ca",
            "?sslmode=",
            "?sslmode",
            "?channel_binding=prefer",
            "?sslmode=verify-full&sslmode=disable",
            "?hostaddr=192.0.2.1",
            "?host=/run/postgresql",
            "?nonsense=1",
        ] {
            let text = read(&format!("postgres://a:hunter2@db.example.org/c{query}")).unwrap_err();
            assert!(text.starts_with("DATABASE_URL: ") && !text.contains("hunter2"), "{query}: {text}");
        }
        for url in ["host=db.example.org password=hunter2", "postgres://", "mysql://a:hunter2@b/c", ""] {
            let text = read(url).unwrap_err();
            assert!(text.starts_with("DATABASE_URL: ") && !text.contains("hunter2"), "{url}: {text}");
        }
    }
}
