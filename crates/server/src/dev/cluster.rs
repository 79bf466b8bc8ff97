//! A PostgreSQL of our own: made, started as a child on a Unix socket, stopped. It ends when we end, however we end.
use super::find::{self, Programs};
use super::io;
use super::owner::Owner;
use crate::ServerError;
use crate::config::Secret;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// Superuser, as on Supabase.
pub(super) const ADMIN: &str = "postgres";
const PORT: u16 = 5432;
/// How the folder of a socket begins.
const SOCKETS: &str = "be-";
/// For starting, which may have to recover first.
const PATIENCE: Duration = Duration::from_secs(60);
/// For a fast shutdown; then the hard way.
const GRACE: Duration = Duration::from_secs(20);
/// Of the log of PostgreSQL; a larger one is begun anew at the next start.
const LOG_MAX: u64 = 8 << 20;

/// Starts PostgreSQL and waits for either end: its own, or that of our end of the pipe, which the system closes even
/// when we are killed. Then a fast shutdown. The shell ignores nothing and leaves nothing.
const KEEPER: &str = r#"
socket=$1; shift
exec 3<&0 </dev/null
"$@" 3<&- &
postgres=$!
( read -r _ <&3; kill -INT $postgres ) 2>/dev/null &
watch=$!
exec 3<&-
wait $postgres; status=$?
kill $watch 2>/dev/null
rmdir "$socket" 2>/dev/null
exit $status
"#;

/// Where the parts lie below the data folder.
pub(super) fn folder(data: &Path) -> PathBuf {
    data.join("postgres")
}

/// A running PostgreSQL.
pub(super) struct Cluster {
    keeper: Child,
    leash: Option<ChildStdin>,
    folder: PathBuf,
    socket: PathBuf,
}

impl Cluster {
    /// Makes the cluster where there is none (by copying `template`, or by initdb), and starts it.
    pub(super) async fn start(
        data: &Path,
        template: Option<&Path>,
        password: &Secret,
        durable: bool,
    ) -> Result<Self, ServerError> {
        let owner = Owner::find()?;
        let folder = folder(data);
        owner.check_reach(&folder)?;
        let programs = find::find(major_of(&folder)?)?;
        if !folder.join("PG_VERSION").exists() {
            make(&programs, &owner, &folder, template, password, durable)?;
        }
        end_stray(&programs, &owner, &folder)?;
        let mut cluster = launch(&programs, &owner, data, durable)?;
        cluster.wait_until_ready(data, password).await?;
        Ok(cluster)
    }

    /// A connection as a superuser.
    pub(super) async fn admin(&self, password: &Secret) -> Result<Client, ServerError> {
        Ok(self.connect(password).await?)
    }

    /// For connections as this role.
    pub(super) fn url(&self, role: &str, password: &Secret) -> String {
        let socket = self.socket.to_string_lossy().replace('/', "%2F");
        format!("postgres://{role}:{}@{socket}:{PORT}/postgres", password.expose())
    }

    async fn connect(&self, password: &Secret) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.socket).port(PORT).user(ADMIN).password(password.expose()).dbname("postgres");
        let (client, connection) = config.connect(NoTls).await?;
        // Ends with the client.
        drop(tokio::spawn(connection));
        Ok(client)
    }

    async fn wait_until_ready(&mut self, data: &Path, password: &Secret) -> Result<(), ServerError> {
        let since = Instant::now();
        loop {
            let cause = match self.connect(password).await {
                Ok(_) => return Ok(()),
                Err(cause) => cause,
            };
            let ended = self.keeper.try_wait().map_err(io("watching PostgreSQL"))?;
            if ended.is_some() || cause.code().is_some_and(|code| code.code().starts_with("28")) {
                return Err(ServerError::Postgres(format!(
                    "PostgreSQL in {} does not start ({cause}). The end of its log, {}:\n{}",
                    self.folder.display(),
                    log(data).display(),
                    log_end(data)
                )));
            }
            if since.elapsed() > PATIENCE {
                return Err(ServerError::Postgres(format!("PostgreSQL does not answer in time: {cause}")));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn end(&mut self) {
        drop(self.leash.take());
        let since = Instant::now();
        while since.elapsed() < GRACE {
            match self.keeper.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                _ => return,
            }
        }
        tracing::warn!("PostgreSQL does not end: told to end at once");
        if let Some(pid) = postmaster(&self.folder).and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        }
        drop(self.keeper.wait());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end();
    }
}

/// Fills `folder`, under another name first: half a cluster is never taken for one.
fn make(
    programs: &Programs,
    owner: &Owner,
    folder: &Path,
    template: Option<&Path>,
    password: &Secret,
    durable: bool,
) -> Result<(), ServerError> {
    let new = folder.with_extension("new");
    if new.exists() {
        std::fs::remove_dir_all(&new).map_err(io(format!("removing {}", new.display())))?;
    }
    if let Some(template) = template {
        copy(&self::folder(template), &new, owner).map_err(io(format!("copying {}", template.display())))?;
    } else {
        std::fs::create_dir(&new).map_err(io(format!("making {}", new.display())))?;
        owner.give(&new)?;
        initdb(programs, owner, &new, password, durable)?;
    }
    std::fs::rename(&new, folder).map_err(io(format!("naming {}", folder.display())))
}

fn initdb(
    programs: &Programs,
    owner: &Owner,
    folder: &Path,
    password: &Secret,
    durable: bool,
) -> Result<(), ServerError> {
    let mut file = tempfile::NamedTempFile::new().map_err(io("making a file for a password"))?;
    file.write_all(password.expose().as_bytes()).map_err(io("writing a file for a password"))?;
    owner.give(file.path())?;
    owner.check_reach(file.path())?;
    let mut command = owner.command(&programs.path("initdb"));
    command.arg("--pgdata").arg(folder).arg("--pwfile").arg(file.path());
    command.args(["--username", ADMIN, "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale"]);
    if !durable {
        // Small, so that it is copied fast.
        command.args(["--no-sync", "--wal-segsize", "1"]);
    }
    let output = command.output().map_err(io("running initdb"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(ServerError::Postgres(format!("initdb made no database in {}: {}", folder.display(), said.trim())))
}

fn copy(from: &Path, to: &Path, owner: &Owner) -> std::io::Result<()> {
    let give = |path: &Path| owner.give(path).map_err(std::io::Error::other);
    std::fs::create_dir(to)?;
    std::fs::set_permissions(to, Permissions::from_mode(0o700))?;
    give(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to, owner)?;
        } else {
            std::fs::copy(entry.path(), &to)?;
            give(&to)?;
        }
    }
    Ok(())
}

fn launch(programs: &Programs, owner: &Owner, data: &Path, durable: bool) -> Result<Cluster, ServerError> {
    let folder = folder(data);
    let socket = socket_folder(owner)?;
    let log = open_log(data).map_err(io("opening the log of PostgreSQL"))?;
    let again = log.try_clone().map_err(io("opening the log of PostgreSQL"))?;
    let mut command = owner.command(Path::new("/bin/sh"));
    command.args(["-c", KEEPER, "backupengine-postgres"]).arg(&socket);
    command.arg(programs.path("postgres")).arg("-D").arg(&folder).arg("-k").arg(&socket);
    for setting in settings(durable) {
        command.args(["-c", setting]);
    }
    // A group of its own: Ctrl-C in a terminal is for us, and we end it.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(Stdio::piped()).stdout(log).stderr(again);
    let mut keeper = spawn(&mut command, &socket)?;
    let leash = keeper.stdin.take();
    Ok(Cluster { keeper, leash, folder, socket })
}

fn spawn(command: &mut Command, socket: &Path) -> Result<Child, ServerError> {
    command.spawn().map_err(|source| {
        drop(std::fs::remove_dir(socket));
        io("starting PostgreSQL")(source)
    })
}

fn settings(durable: bool) -> Vec<&'static str> {
    let mut settings = vec![
        "listen_addresses=",
        "port=5432",
        "unix_socket_permissions=0700",
        "max_connections=60",
        "shared_buffers=32MB",
        "wal_level=minimal",
        "max_wal_senders=0",
        "jit=off",
        "timezone=UTC",
        "log_timezone=UTC",
        "log_checkpoints=off",
        // Statements hold what clients sent: never into the log.
        "log_min_messages=warning",
        "log_min_error_statement=panic",
        "log_statement=none",
        "log_parameter_max_length_on_error=0",
    ];
    if !durable {
        settings.extend(["fsync=off", "synchronous_commit=off", "full_page_writes=off"]);
    }
    settings
}

/// Short, because names of sockets are: about 100 bytes.
fn socket_folder(owner: &Owner) -> Result<PathBuf, ServerError> {
    let preferred = std::env::temp_dir();
    let place = if preferred.as_os_str().len() > 60 { PathBuf::from("/tmp") } else { preferred };
    let folder = tempfile::Builder::new()
        .prefix(SOCKETS)
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(place)
        .map_err(io("making a folder for a socket"))?;
    owner.give(folder.path())?;
    owner.check_reach(folder.path())?;
    // The keeper removes it, when PostgreSQL has ended.
    Ok(folder.keep())
}

/// A PostgreSQL of this folder that outlived a server that was killed together with its keeper. We hold the lock of
/// the data folder, so nobody else needs it.
fn end_stray(programs: &Programs, owner: &Owner, folder: &Path) -> Result<(), ServerError> {
    let Some(pid) = postmaster(folder) else { return Ok(()) };
    let file = folder.join("postmaster.pid");
    let socket = socket_of(&file);
    if works_in(pid, folder) {
        tracing::warn!("a PostgreSQL of this folder is still running: stopping it first");
        let mut command = owner.command(&programs.path("pg_ctl"));
        let output =
            command.arg("stop").arg("-D").arg(folder).args(["-m", "fast", "-w", "-t", "30"]).output();
        let output = output.map_err(io("running pg_ctl"))?;
        if !output.status.success() && file.exists() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(ServerError::Postgres(format!(
                "a PostgreSQL of {} is still running and does not stop: {}",
                folder.display(),
                said.trim()
            )));
        }
        // Its keeper would have done this.
        if let Some(socket) = socket {
            drop(std::fs::remove_dir(socket));
        }
        return Ok(());
    }
    // Its number may be another process's by now: PostgreSQL would refuse to start because of it.
    std::fs::remove_file(&file).map_err(io(format!("removing {}", file.display())))
}

/// Whether the process is a postmaster of this folder: that is its working directory. Where this cannot be seen,
/// whether it lives at all.
fn works_in(pid: i32, folder: &Path) -> bool {
    if Path::new("/proc/self/cwd").exists() {
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
        return matches!((cwd, folder.canonicalize()), (Ok(cwd), Ok(folder)) if cwd == folder);
    }
    rustix::process::Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

/// The folder of its socket, where it is one of ours.
fn socket_of(file: &Path) -> Option<PathBuf> {
    let socket = PathBuf::from(std::fs::read_to_string(file).ok()?.lines().nth(4)?);
    let ours = socket.file_name()?.to_str()?.starts_with(SOCKETS);
    ours.then_some(socket)
}

fn postmaster(folder: &Path) -> Option<i32> {
    let text = std::fs::read_to_string(folder.join("postmaster.pid")).ok()?;
    // Single-user mode writes it with a minus sign.
    text.lines().next()?.trim().parse::<i32>().ok().map(i32::abs)
}

fn major_of(folder: &Path) -> Result<Option<u32>, ServerError> {
    match std::fs::read_to_string(folder.join("PG_VERSION")) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io(format!("reading the version of {}", folder.display()))(source)),
    }
}

fn log(data: &Path) -> PathBuf {
    data.join("postgres.log")
}

fn open_log(data: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(log(data))?;
    if file.metadata()?.len() > LOG_MAX {
        file.set_len(0)?;
    }
    Ok(file)
}

fn log_end(data: &Path) -> String {
    let text = std::fs::read_to_string(log(data)).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
