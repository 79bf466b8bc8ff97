//! A PostgreSQL on a loopback port, with TLS.
use backupengine_tests::tls::Authority;
use std::future::Future;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio_postgres::NoTls;

const PASSWORD: &str = "hunter2hunter2";

/// A running one. Ends on drop.
pub(crate) struct Postgres {
    child: Child,
    port: u16,
    runtime: tokio::runtime::Runtime,
    folder: TempDir,
}

impl Postgres {
    pub(crate) fn start(authority: &Authority, host: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("be-tls-").tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::write(folder.path().join("password"), PASSWORD).unwrap();
        std::fs::create_dir(&data).unwrap();
        authority.issue(folder.path(), host);
        give(folder.path());
        let initdb = program("initdb")
            .arg("--pgdata")
            .arg(&data)
            .arg("--pwfile")
            .arg(folder.path().join("password"))
            .args(["--username=postgres", "--auth=scram-sha-256", "--no-locale", "--no-sync"])
            .output()
            .unwrap();
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let port = free_port();
        let mut postgres = Self { child: spawn(folder.path(), port), port, runtime, folder };
        // Seconds where the machine does much else.
        for _ in 0..3000 {
            if postgres.run("select 1").is_ok() {
                postgres.set("ssl", "on");
                return postgres;
            }
            if postgres.child.try_wait().unwrap().is_some() {
                // Somebody else has taken the port since it was free.
                postgres.port = free_port();
                postgres.child = spawn(postgres.folder.path(), postgres.port);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("PostgreSQL does not start: {:?}", std::fs::read_to_string(said_in(postgres.folder.path())));
    }

    pub(crate) fn url(&self, host: &str, query: &str) -> String {
        format!("postgres://postgres:{PASSWORD}@{host}:{}/postgres{query}", self.port)
    }

    pub(crate) fn password(&self) -> &str {
        PASSWORD
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Changes a setting; empty resets it.
    pub(crate) fn set(&self, name: &str, value: &str) {
        let value = if value.is_empty() { "default".to_owned() } else { format!("'{value}'") };
        self.run(&format!("alter system set {name} = {value}")).unwrap();
        self.reload();
    }

    /// How it wants passwords over TCP.
    pub(crate) fn ask_for(&self, method: &str) {
        let rules = format!("local all all scram-sha-256\nhost all all all {method}\n");
        std::fs::write(self.folder.path().join("data/pg_hba.conf"), rules).unwrap();
        self.reload();
    }

    fn reload(&self) {
        let loaded = "select pg_conf_load_time()::text";
        let before = self.run(loaded).unwrap();
        self.run("select pg_reload_conf()").unwrap();
        while self.run(loaded).unwrap() == before {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Over its Unix socket.
    fn run(&self, text: &str) -> Result<Option<String>, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(self.folder.path())
            .port(self.port)
            .user("postgres")
            .password(PASSWORD)
            .dbname("postgres");
        self.wait(async {
            let (client, connection) = config.connect(NoTls).await?;
            drop(tokio::spawn(connection));
            let messages = client.simple_query(text).await?;
            Ok(messages.into_iter().find_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            }))
        })
    }
}

fn said_in(folder: &Path) -> PathBuf {
    folder.join("said")
}

fn spawn(folder: &Path, port: u16) -> Child {
    let set = |name: &str, value: &Path| format!("{name}={}", value.display());
    program("postgres")
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-c", &format!("port={port}"), "-c", "listen_addresses=localhost", "-c", "fsync=off"])
        .args(["-c", &set("unix_socket_directories", folder)])
        .args(["-c", &set("ssl_cert_file", &folder.join("chain.pem"))])
        .args(["-c", &set("ssl_key_file", &folder.join("key.pem"))])
        .stderr(std::fs::File::create(said_in(folder)).unwrap())
        .spawn()
        .unwrap()
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        drop(self.child.wait());
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The newest one; as user `postgres` where the tests run as root, whom it refuses.
fn program(name: &str) -> Command {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin").join(name)).collect())
        .unwrap_or_default();
    found.sort();
    let mut command = Command::new(found.pop().unwrap_or_else(|| PathBuf::from(name)));
    command.current_dir("/").process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
    if let Some((uid, gid)) = other_user() {
        command.gid(gid).uid(uid);
    }
    command
}

fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("user postgres");
    let mut ids = line.split(':').skip(2).map(|id| id.parse().unwrap());
    Some((ids.next().unwrap(), ids.next().unwrap()))
}

/// To that user, closed to others.
fn give(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let mode = if entry.path().is_dir() { 0o700 } else { 0o600 };
        std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        if let Some((uid, gid)) = other_user() {
            std::os::unix::fs::chown(entry.path(), Some(uid), Some(gid)).unwrap();
        }
    }
    if let Some((uid, gid)) = other_user() {
        std::os::unix::fs::chown(folder, Some(uid), Some(gid)).unwrap();
    }
}
