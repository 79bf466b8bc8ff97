//! Processes that push, collect and remove snapshots side by side, and are killed at random moments.
//!
//! `PROTOCOL_KILLS` rounds (a few by default), each with two processes; the campaign's figures are printed. How long a
//! process is left alone at most is what this machine needs for [`PUSHES`] pushes and what it does between them, so that
//! on a slow one things are finished as well; which part of it follows from `PROTOCOL_SEED`.

use crate::collect::{DAY, HOUR, prune_on, snapshots_of};
use crate::fixture::{Source, Tree};
use crate::processes::expected_now;
use backupengine_format::trailer::{TRAILER_LEN, Trailer};
use backupengine_maintain::PruneConfig;
use backupengine_model::ledger::{Haste, SessionState};
use backupengine_model::{PackRef, SessionNo, Timestamp};
use backupengine_store::{BlobKey, BlobKind, FolderStore, Maintainable, Range, Writable};
use backupengine_testkit::build::{TestVault, VAULT};
use backupengine_testkit::shown::everything;
use backupengine_testkit::{Seeded, now};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const TEST: &str = "killed::killed_anywhere_nothing_is_lost";
const FOLDER: &str = "KILLED_CHILD_FOLDER";
const SOURCE: &str = "KILLED_CHILD_SOURCE";
const DEVICE: &str = "KILLED_CHILD_DEVICE";
const SEED: &str = "KILLED_CHILD_SEED";
/// How far the ledger's clock is ahead of the system's, in seconds.
const AHEAD: &str = "KILLED_CHILD_AHEAD";
/// Snapshots a process leaves, the newest.
const LEFT: usize = 5;

/// Pushes a process gets done if it is killed as late as any.
const PUSHES: usize = 4;

/// States of the sources that are remembered: a session is silent for less rounds than that before it ends.
const STATES: usize = 60;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn open(folder: &Path, ahead: i64) -> (TestVault, Arc<dyn Maintainable>) {
    let clock = move || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Timestamp { secs: since.as_secs() as i64 + ahead, nanos: 0 }
    };
    let store: Arc<dyn Maintainable> = Arc::new(FolderStore::open_by(folder, Arc::new(clock)).unwrap());
    (TestVault::around(Arc::clone(&store) as Arc<dyn Writable>), store)
}

/// What a process does until it is killed: says each thing before it begins it.
fn work(folder: &Path) {
    let (vault, store) = open(folder, std::env::var(AHEAD).unwrap().parse().unwrap());
    let (device, source) = (std::env::var(DEVICE).unwrap(), PathBuf::from(std::env::var_os(SOURCE).unwrap()));
    let random = Arc::new(Seeded::new(number(SEED, 0)));
    let mut log = fs::File::create(folder.with_file_name(format!("log-{device}"))).unwrap();
    for _ in 0..40 {
        let doing = ["push", "push", "prune", "prune now", "remove"][random.below(5) as usize];
        log.write_all(format!("{doing}\n").as_bytes()).unwrap();
        match doing {
            "push" => {
                let mut pusher = vault.pusher(&device);
                pusher.random = Arc::new(Seeded::new(random.next()));
                let mut config = pusher.config(&source);
                config.state = folder.with_file_name(format!("state-{device}"));
                // The other process may collect too fast for it; or its session may have been silent for days.
                if let Err(error) = pusher.push_with(config) {
                    log.write_all(format!("failed: {error:?}\n").as_bytes()).unwrap();
                }
            }
            "remove" => {
                let live = now(store.snapshots()).unwrap().snapshots;
                let old = live.len().saturating_sub(LEFT);
                let old: Vec<SessionNo> = live[..old].iter().map(|s| s.session).collect();
                // Or the other process was faster.
                drop(now(store.trash(&old)));
            }
            _ => {
                let haste = if doing == "prune" { Haste::Wait } else { Haste::Now };
                let config = PruneConfig { haste, ..PruneConfig::default() };
                let salts = Seeded::new(random.next());
                if let Err(error) = prune_on(&vault, &store, &config, &salts) {
                    log.write_all(format!("failed: {error:?}\n").as_bytes()).unwrap();
                }
            }
        }
    }
}

fn start(folder: &Path, source: &Path, device: &str, seed: u64, ahead: i64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--test-threads=1"])
        .env(FOLDER, folder)
        .env(SOURCE, source)
        .env(DEVICE, device)
        .env(SEED, seed.to_string())
        .env(AHEAD, ahead.to_string())
        .env("TMPDIR", folder.parent().unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// How long a process alone takes for [`PUSHES`] pushes and what it does between them; it is killed then.
fn time_for_pushes(folder: &Path, source: &Path, device: &str, seed: u64) -> Duration {
    let begun = Instant::now();
    let mut child = start(folder, source, device, seed, 0);
    let log = folder.with_file_name(format!("log-{device}"));
    // It does about four times as many before it ends.
    let begun_pushes = |text: &str| text.lines().filter(|line| *line == "push").count();
    while fs::read_to_string(&log).map_or(0, |text| begun_pushes(&text)) <= PUSHES {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        assert!(begun.elapsed() < Duration::from_secs(120), "it does nothing");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(log).unwrap();
    begun.elapsed()
}

/// Everything that was ever stored: by key of the pack (session, number, salt), the hash of its bytes.
#[derive(Default)]
pub(crate) struct Sealed {
    seen: BTreeSet<BlobKey>,
    packs: BTreeMap<(SessionNo, u32, [u8; 8]), blake3::Hash>,
}

impl Sealed {
    fn note(&mut self, bytes: &[u8], what: &str) {
        let Some(trailer) = bytes.last_chunk::<TRAILER_LEN>().and_then(|end| Trailer::decode(end).ok())
        else {
            return;
        };
        let PackRef { session, number, salt, .. } = trailer.pack;
        let hash = blake3::hash(bytes);
        let before = self.packs.insert((session, number, salt), hash);
        assert!(before.is_none_or(|before| before == hash), "sealed twice: {what}, {:?}", trailer.pack);
    }

    pub(crate) fn look(&mut self, folder: &Path, store: &Arc<dyn Maintainable>) {
        for kind in [BlobKind::Packs, BlobKind::Roots] {
            for (key, _) in now(store.list(kind)).unwrap() {
                if self.seen.insert(key) {
                    self.note(&now(store.get(key, Range::Whole)).unwrap().bytes, &key.to_string());
                }
            }
        }
        // What was sealed to its end and not put.
        for entry in fs::read_dir(folder.join("tmp")).unwrap().flatten() {
            self.note(&fs::read(entry.path()).unwrap(), &entry.path().display().to_string());
        }
    }

    /// The same, for another folder: what went on from a copy may have other bytes under the same names.
    pub(crate) fn elsewhere(&self) -> Self {
        Self { seen: BTreeSet::new(), packs: self.packs.clone() }
    }
}

#[test]
fn killed_anywhere_nothing_is_lost() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return work(Path::new(&folder));
    }
    let (rounds, seed) = (number("PROTOCOL_KILLS", 12), number("PROTOCOL_SEED", 1));
    let random = Seeded::new(seed);
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("vault");
    FolderStore::create(&folder, VAULT).unwrap();
    let sources = [Source::small(31), Source::small(32)];
    let (mut known, mut sealed): (BTreeMap<SessionNo, Tree>, _) = (BTreeMap::new(), Sealed::default());
    let (mut ahead, mut killed, mut made, mut failed) = (0, 0u64, 0u64, 0u64);
    let mut doing: BTreeMap<String, u64> = BTreeMap::new();
    // What a snapshot may show: one whose root was stored is committed by a later push.
    let mut states: VecDeque<Tree> = sources.iter().map(expected_now).collect();
    let devices = ["laptop", "desktop"];
    let alone = time_for_pushes(&folder, sources[0].path(), devices[0], random.next()).as_micros() as u64;
    for round in 0..rounds {
        let children: Vec<Child> = devices
            .iter()
            .zip(&sources)
            .map(|(device, source)| start(&folder, source.path(), device, random.next(), ahead))
            .collect();
        // Later ones are killed later, so that all kinds of moments come.
        for (mut child, device) in children.into_iter().zip(devices) {
            std::thread::sleep(Duration::from_micros(5_000 + random.below(alone)));
            child.kill().unwrap();
            let by_signal = !child.wait().unwrap().success();
            let log = fs::read_to_string(folder.with_file_name(format!("log-{device}"))).unwrap_or_default();
            assert!(!log.contains("damaged") && !log.contains("Unreadable"), "{log}");
            failed += log.lines().filter(|line| line.starts_with("failed")).count() as u64;
            if by_signal {
                killed += 1;
                *doing.entry(log.lines().last().unwrap_or("start").to_owned()).or_default() += 1;
            }
            drop(fs::remove_file(folder.with_file_name(format!("log-{device}"))));
        }

        let (vault, store) = open(&folder, ahead);
        sealed.look(&folder, &store);
        let reader = vault.reader();
        let live: Vec<SessionNo> = reader.list().unwrap().iter().map(|s| s.session).collect();
        let kept: BTreeSet<SessionNo> = live
            .iter()
            .copied()
            .chain(now(store.kept()).unwrap().iter().map(|k| k.snapshot.session))
            .collect();
        let newest = live.len().saturating_sub(LEFT);
        for session in known.keys().filter(|session| !kept.contains(session)) {
            assert!(
                live[newest..].iter().all(|left| left > session),
                "snapshot {session} is lost, round {round}"
            );
        }
        known.retain(|session, _| live.contains(session));
        for session in &live {
            if !known.contains_key(session) {
                let shown =
                    everything(&reader, *session).unwrap_or_else(|e| panic!("snapshot {session}: {e}"));
                let of = |source: &&Source| shown.contains_key(source.path().as_os_str().as_encoded_bytes());
                let source = sources.iter().find(of).unwrap();
                let once = states.contains(&source.part_of(shown.clone()));
                assert!(once, "snapshot {session} shows what never was, round {round}");
                known.insert(*session, shown);
                made += 1;
            }
        }
        let all = round % 50 == 49 || round + 1 == rounds;
        let sample: Vec<SessionNo> = match live.len() as u64 {
            0 => Vec::new(),
            len if !all => (0..2).map(|_| live[random.below(len) as usize]).collect(),
            _ => live,
        };
        for session in sample {
            let shown =
                everything(&vault.reader(), session).unwrap_or_else(|e| panic!("snapshot {session}: {e}"));
            assert!(shown == known[&session], "snapshot {session} changed, round {round}");
        }
        let source = &sources[random.below(2) as usize];
        source.change();
        source.move_back();
        states.push_back(expected_now(source));
        if states.len() > STATES {
            states.pop_front();
        }
        ahead += random.below(30) as i64 * HOUR;
    }

    // Whatever was left behind goes, and nothing else.
    let open_ones = {
        let (_, store) = open(&folder, ahead);
        now(store.sessions()).unwrap().iter().filter(|s| s.state == SessionState::Open).count()
    };
    // A copy may be copied again before all is where it stays.
    let (mut left, mut last) = (0, None);
    for _ in 0..8 {
        let (vault, store) = open(&folder, ahead);
        let report = prune_on(&vault, &store, &PruneConfig::default(), &Seeded::new(random.next())).unwrap();
        left = now(store.list(BlobKind::Packs)).unwrap().iter().map(|(_, size)| size).sum();
        ahead += 20 * DAY;
        let settled = (report.retired.0, report.waiting.0, report.moved.0) == (0, 0, 0);
        last = Some(report);
        if settled {
            break;
        }
    }
    let (vault, store) = open(&folder, ahead);
    assert!(snapshots_of(&vault) == known, "not what was committed");
    sealed.look(&folder, &store);
    let last = last.unwrap();
    assert_eq!((last.retired.0, last.waiting.0), (0, 0), "{last:?}");
    let text = format!(
        "{rounds} rounds, at most {alone} µs each: {killed} processes killed while at {doing:?}; {made} snapshots seen, {failed} pushes or \
         collections refused, {} packs and roots stored, {open_ones} sessions left open, {left} bytes left",
        sealed.packs.len()
    );
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
    assert!(killed >= rounds, "{text}");
}
