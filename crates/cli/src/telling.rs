//! How a running mount tells what it does: a socket of its own that answers whoever connects with one JSON object.
//!
//! **What it may not do.** Answer other users: the socket is this user's alone, in a folder that is. Hold the mount up:
//! what it tells is looked up by a thread of its own, and within bounds.
//! **What always holds.** One socket a mount, below the state folder, gone with the mount; one that a killed mount left
//! behind is taken away by whoever asks next.
//! **Where it is tested.** Below; `tests/cli` (`status --top`).

use crate::config::create_private_dir;
use crate::error::Failure;
use serde_json::Value;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// Folder of the sockets.
fn folder(state: &Path) -> PathBuf {
    state.join("mounts")
}

/// Answers until it is dropped.
pub(crate) struct Telling {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Telling {
    /// Begins to answer with what `say` says.
    ///
    /// # Errors
    /// When there can be no socket.
    pub(crate) fn start(state: &Path, say: impl Fn() -> Value + Send + 'static) -> Result<Self, Failure> {
        let folder = folder(state);
        create_private_dir(&folder)?;
        let path = folder.join(format!("{}.sock", std::process::id()));
        // Left by a process of this number that was killed.
        drop(fs::remove_file(&path));
        let listener = at(&path, |short| UnixListener::bind(short));
        let listener = listener.and_then(|listener| {
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            Ok(listener)
        });
        let listener = listener.map_err(|e| Failure::io("listen at", &path, e))?;
        let stop = Arc::new(AtomicBool::new(false));
        let over = stop.clone();
        let answer = move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let line = format!("{}\n", say());
                let sent =
                    stream.set_write_timeout(Some(PATIENCE)).and_then(|()| stream.write_all(line.as_bytes()));
                if let Err(error) = sent {
                    tracing::debug!(%error, "whoever asked what the mount does went away");
                }
            }
        };
        let thread = thread::Builder::new().name("telling".into()).spawn(answer);
        let thread = thread.map_err(|e| Failure::io("serve", &path, e))?;
        Ok(Self { path, stop, thread: Some(thread) })
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Woken by a last question. Where nobody can ask, it sleeps on and ends with the process.
        let woken = at(&self.path, |short| UnixStream::connect(short)).is_ok();
        drop(fs::remove_file(&self.path));
        if let (true, Some(thread)) = (woken, self.thread.take()) {
            // It panics only where `say` does, which has told of it.
            drop(thread.join());
        }
    }
}

/// What all running mounts of this user tell, those that do not answer left out.
///
/// # Errors
/// When the folder of the sockets cannot be read.
pub(crate) fn ask_all(state: &Path) -> Result<Vec<Value>, Failure> {
    let folder = folder(state);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::io("read", &folder, error)),
    };
    let mut told: Vec<Value> = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_none_or(|end| end != "sock") {
            continue;
        }
        match ask(&path) {
            Ok(value) => told.push(value),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => drop(fs::remove_file(&path)),
            Err(error) => {
                tracing::debug!(%error, path = %path.display(), "a mount does not tell what it does")
            }
        }
    }
    told.sort_by(|a, b| a["mountpoint"].as_str().cmp(&b["mountpoint"].as_str()));
    Ok(told)
}

fn ask(path: &Path) -> io::Result<Value> {
    let stream = at(path, |short| UnixStream::connect(short))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.take(LONGEST).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// Names of sockets may have 107 bytes, and a home may lie deep: the system follows a short one through the folder.
fn at<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let folder = File::open(path.parent().unwrap_or(path))?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
    act(&short.join(path.file_name().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mount_answers_its_own_user_while_it_runs() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("deep".repeat(30)).join("state");
        assert_eq!(ask_all(&state).unwrap(), [] as [Value; 0]);
        let telling = Telling::start(&state, || json!({ "mountpoint": "/m" })).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&telling.path), 0o600);
        assert_eq!(mode(telling.path.parent().unwrap()), 0o700);
        for _ in 0..3 {
            assert_eq!(ask_all(&state).unwrap(), [json!({ "mountpoint": "/m" })]);
        }
        let path = telling.path.clone();
        drop(telling);
        assert!(!path.exists());
        assert_eq!(ask_all(&state).unwrap(), [] as [Value; 0]);
    }

    #[test]
    fn what_a_killed_mount_left_is_taken_away() {
        let state = tempfile::tempdir().unwrap();
        create_private_dir(&folder(state.path())).unwrap();
        let left = folder(state.path()).join("1.sock");
        drop(UnixListener::bind(&left).unwrap());
        assert!(left.exists());
        assert_eq!(ask_all(state.path()).unwrap(), [] as [Value; 0]);
        assert!(!left.exists());
    }
}
