//! Starting a mount behind: this program once more, which reports over a pipe how it went.
//!
//! **What it may not do.** Put a secret into an argument or the environment of the new process.
//! **What always holds.** The starter returns when the tree answers or when it is known that it will not.
//! **Where it is tested.** `tests/cli`.

use crate::args::{Global, Mount, Owner};
use crate::error::{Failure, Kind};
use crate::keychain::{self, Device};
use crate::place::Place;
use crate::secret;
use crate::wire::Wire;
use backupengine_model::Timestamp;
use backupengine_store::{FolderStore, LedgerReader};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

/// What the new process says when the tree answers; behind it, where the server is not reached, when the vault was last
/// seen, in seconds since 1970.
const READY: &str = "ready";

/// What it says otherwise.
#[derive(serde::Serialize, serde::Deserialize)]
struct Report {
    kind: u8,
    message: String,
    hints: Vec<String>,
}

/// Starts it and waits for its word: when the vault was last seen, where its server is not reached.
///
/// # Errors
/// What the new process says; when it cannot be started.
pub(crate) fn start(wire: &Wire, args: &Mount, mountpoint: &Path) -> Result<Option<Timestamp>, Failure> {
    let passphrase = passphrase(wire)?;
    let log = log_file(wire)?;
    let program = std::env::current_exe().map_err(|e| Failure::io("find", Path::new("this program"), e))?;
    let mut command = Command::new(&program);
    command.args(arguments(wire, args, mountpoint, passphrase.is_some())?);
    // Given over the pipe, or not needed: what the environment says must not win over it.
    // And a mount logs in nowhere.
    for name in ["BACKUPENGINE_PASSPHRASE", "BACKUPENGINE_PASSWORD", "BACKUPENGINE_TOTP_CODE"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut errors = OpenOptions::new();
    errors.create(true).append(true);
    // It may come to hold names of files.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut errors, 0o600);
    command.stderr(errors.open(&log).map_err(|e| Failure::io("open", &log, e))?);
    // It must not hold the folder somebody started it in.
    command.current_dir("/");
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().map_err(|e| Failure::io("start", &program, e))?;
    if let (Some(mut pipe), Some(passphrase)) = (child.stdin.take(), passphrase) {
        pipe.write_all(passphrase.as_bytes())
            .map_err(|e| Failure::io("write", Path::new("the pipe to the mount"), e))?;
    }
    let mut line = String::new();
    if let Some(pipe) = child.stdout.take() {
        let read = BufReader::new(pipe).read_line(&mut line);
        read.map_err(|e| Failure::io("read", Path::new("the pipe from the mount"), e))?;
    }
    if let Some(seen) = line.trim_end().strip_prefix(READY) {
        let seen = seen.trim().parse().ok().map(|secs| Timestamp { secs, nanos: 0 });
        if let Some(seen) = seen {
            crate::output::tell(crate::wire::away_text(seen));
        }
        return Ok(seen);
    }
    if let Ok(report) = serde_json::from_str::<Report>(&line) {
        drop(child.wait());
        return Err(Failure { kind: kind(report.kind), error: report.message.into(), hints: report.hints });
    }
    let status = child.wait().map_err(|e| Failure::io("wait for", &program, e))?;
    Err(Failure::new(Kind::Failed, format!("the mount ended at once with {status}"))
        .hint(format!("see {}", log.display())))
}

/// Says that the tree answers, and lets go of whoever started this process.
///
/// # Errors
/// When nobody listens any more.
pub(crate) fn tell_ready(seen: Option<Timestamp>) -> Result<(), Failure> {
    // A session of its own: closing the terminal does not end it.
    #[cfg(unix)]
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!(%error, "still in the session of the terminal");
    }
    let seen = seen.map_or_else(String::new, |seen| format!(" {}", seen.secs));
    crate::output::line(format!("{READY}{seen}"))?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.map_err(|e| Failure::io("open", Path::new("/dev/null"), e))?;
    let done = rustix::stdio::dup2_stdin(&null).and_then(|()| rustix::stdio::dup2_stdout(&null));
    done.map_err(|e| Failure::io("close", Path::new("the pipe"), e.into()))
}

/// Says why not.
///
/// # Errors
/// When nobody listens any more.
pub(crate) fn tell_failure(failure: &Failure) -> Result<(), Failure> {
    let report =
        Report { kind: failure.kind as u8, message: failure.message(), hints: failure.hints.clone() };
    let text = serde_json::to_string(&report).map_err(|e| Failure::new(Kind::Failed, e))?;
    crate::output::line(text)
}

fn kind(number: u8) -> Kind {
    [Kind::Usage, Kind::Partial, Kind::Denied, Kind::Unreachable, Kind::InUse, Kind::Interrupted]
        .into_iter()
        .find(|kind| *kind as u8 == number)
        .unwrap_or(Kind::Failed)
}

/// The passphrase, where the new process needs one: it has no terminal to ask at.
fn passphrase(wire: &Wire) -> Result<Option<Zeroizing<String>>, Failure> {
    if let Some(given) = secret::given_passphrase(&wire.global)? {
        return Ok(Some(given));
    }
    if wire.global.recovery_code_file.is_some() || std::env::var_os("BACKUPENGINE_RECOVERY_CODE").is_some() {
        return Ok(None);
    }
    let device = match wire.place(None)? {
        Place::Folder(folder) => {
            let vault = crate::wire::answer(FolderStore::open(&folder)?.vault())?;
            Device::load(&keychain::path(&wire.places.state, vault))?
        }
        // A device without the vault's keys is told so by the new process.
        Place::Server(_) => return Ok(None),
    };
    if device.is_some() {
        return Ok(None);
    }
    secret::ask("Passphrase: ", secret::nobody_to_ask).map(Some)
}

fn log_file(wire: &Wire) -> Result<PathBuf, Failure> {
    if let Some(path) = &wire.global.log_file {
        return Ok(path.clone());
    }
    crate::config::create_private_dir(&wire.places.state)?;
    Ok(wire.places.state.join("mount.log"))
}

/// The command line of the new process, from what this one was told.
fn arguments(
    wire: &Wire,
    args: &Mount,
    mountpoint: &Path,
    passphrase_on_stdin: bool,
) -> Result<Vec<OsString>, Failure> {
    let global: &Global = &wire.global;
    let absolute = |path: &Path| std::path::absolute(path).map_err(|e| Failure::io("resolve", path, e));
    let mut out: Vec<OsString> = vec!["mount".into(), "--vault".into(), wire.place(None)?.as_path().into()];
    let mut flag = |name: &str, value: OsString| out.extend([name.into(), value]);
    if passphrase_on_stdin {
        flag("--passphrase-file", "-".into());
    }
    if let Some(path) = &global.recovery_code_file {
        flag("--recovery-code-file", absolute(path)?.into());
    }
    if let Some(level) = &global.log_level {
        flag("--log-level", level.into());
    }
    if let Some(path) = &global.log_file {
        flag("--log-file", absolute(path)?.into());
    }
    if let Some(what) = &args.snapshot {
        flag("--snapshot", what.into());
    }
    flag("--memory", args.memory.clone().into());
    if let Some(size) = &args.cache_size {
        flag("--cache-size", size.into());
    }
    flag("--timeout", args.timeout.to_string().into());
    flag("--owner", if args.owner == Owner::Me { "me" } else { "stored" }.into());
    for option in &args.options {
        flag("--option", option.into());
    }
    let mut switch = |on: bool, name: &str| out.extend(on.then(|| OsString::from(name)));
    switch(args.allow_other, "--allow-other");
    switch(args.no_seeds, "--no-seeds");
    switch(global.accept_rollback, "--accept-rollback");
    switch(global.quiet, "--quiet");
    for _ in 0..global.verbose {
        switch(true, "--verbose");
    }
    out.extend(["--supervised".into(), "--".into(), mountpoint.into()]);
    Ok(out)
}
