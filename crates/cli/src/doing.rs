//! What a mount is doing, as it tells it: counters, and which program waits for what.
//!
//! **What it may not do.** Name a program or a path but of a request that waits already; ask the store.
//! **What always holds.** A program's name is read for at most as many requests as the mount has threads.
//! **Where it is tested.** `tests/cli` (`status --top`).

use crate::output;
use backupengine_fuse::{Pending, Requests};
use backupengine_model::NodeId;
use backupengine_store::LastSeen;
use backupengine_transfer::PresignedStore;
use backupengine_vault::{Activity, Vault, WaitsFor};
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

/// What is answered sooner is not worth a word.
const LONG_ENOUGH: Duration = Duration::from_millis(100);
/// How long the path of a node is waited for: whoever reads the node has what says it.
const PATH: Duration = Duration::from_millis(50);

/// A running mount, looked at from beside.
pub(crate) struct Doing {
    pub(crate) mountpoint: PathBuf,
    pub(crate) vault: Vault,
    pub(crate) requests: Requests,
    /// Whether the vault lies across a network.
    pub(crate) far: bool,
    /// The store of an account, once it was reached.
    pub(crate) store: Arc<OnceLock<PresignedStore>>,
    /// The vault as it was last seen, where that is what the mount began with.
    pub(crate) away: Option<Arc<LastSeen>>,
    pub(crate) begun: Instant,
    /// Whether a path is still being looked for.
    pub(crate) looking: Arc<AtomicBool>,
}

impl Doing {
    /// All of it now.
    pub(crate) fn say(&self) -> Value {
        let now = Instant::now();
        let activity = self.vault.activity();
        let store = self.store.get().and_then(PresignedStore::away_since);
        let never = self.away.as_ref().filter(|away| away.is_away()).map(|_| self.begun);
        let away = [activity.away_since, store, never].into_iter().flatten().min();
        let pending = self.requests.now();
        let stats = self.vault.stats();
        let mut object = Map::new();
        output::put_path(&mut object, "mountpoint", self.mountpoint.as_os_str().as_encoded_bytes());
        object.insert("pid".into(), std::process::id().into());
        object.insert("vault".into(), self.vault.keyring().vault().to_string().into());
        object.insert("network".into(), self.far.into());
        object.insert("seconds".into(), seconds(now, self.begun).into());
        object.insert("bytes_fetched".into(), stats.bytes_fetched.into());
        object.insert("bytes_ahead".into(), stats.bytes_ahead.into());
        object.insert("bytes_opened".into(), stats.bytes_opened.into());
        object.insert("store_calls".into(), stats.store_calls.into());
        object.insert("blocks_on_disk".into(), stats.disk_hits.into());
        object.insert("blocks_in_memory".into(), stats.memory_hits.into());
        object.insert("blocks_missed".into(), stats.misses.into());
        object.insert("under_way".into(), activity.under_way.into());
        let all = backupengine_fuse::waiting(&self.mountpoint);
        object.insert("queued".into(), all.map(|all| all.saturating_sub(pending.len() as u64)).into());
        object.insert("unreachable_seconds".into(), away.map(|since| seconds(now, since)).into());
        let long = pending.iter().filter(|one| now.saturating_duration_since(one.since) >= LONG_ENOUGH);
        let requests: Vec<Value> =
            long.map(|one| self.request(one, &activity, away.is_some(), now).into()).collect();
        object.insert("requests".into(), requests.into());
        object.into()
    }

    fn request(&self, one: &Pending, activity: &Activity, away: bool, now: Instant) -> Map<String, Value> {
        let wait = activity.waits.iter().find(|wait| wait.thread == one.thread);
        let why = match wait.map(|wait| wait.what) {
            Some(_) if away => "unreachable",
            Some(WaitsFor::Answer) => "fetching",
            Some(WaitsFor::Turn) => "queued",
            None => "working",
        };
        let program = std::fs::read_to_string(format!("/proc/{}/comm", one.pid)).ok();
        let mut object = Map::new();
        object.insert("program".into(), program.map(|name| name.trim_end().to_owned()).into());
        object.insert("pid".into(), one.pid.into());
        object.insert("what".into(), one.what.into());
        if let Some(path) = NodeId::from_ino(one.ino).and_then(|id| self.path(id)) {
            output::put_path(&mut object, "path", &path);
        }
        object.insert("seconds".into(), seconds(now, one.since).into());
        object.insert("why".into(), why.into());
        object
    }

    /// The path of a node in its snapshot, where it is at hand. One that is not would have to be fetched: then nobody
    /// waits for it, and none is looked for until it came.
    fn path(&self, id: NodeId) -> Option<Vec<u8>> {
        if self.looking.swap(true, Ordering::AcqRel) {
            return None;
        }
        let (found, hear) = mpsc::channel();
        let (vault, looking) = (self.vault.clone(), self.looking.clone());
        let look = move || {
            let path = vault.path(id).ok().map(|path| path.to_string().into_bytes());
            looking.store(false, Ordering::Release);
            // Nobody may wait for it any more.
            drop(found.send(path));
        };
        if std::thread::Builder::new().name("path".into()).spawn(look).is_err() {
            self.looking.store(false, Ordering::Release);
            return None;
        }
        hear.recv_timeout(PATH).ok().flatten()
    }
}

/// Seconds between two moments, to the millisecond.
fn seconds(now: Instant, since: Instant) -> f64 {
    now.saturating_duration_since(since).as_millis() as f64 / 1000.0
}
