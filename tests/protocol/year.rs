//! A year of three devices, by a clock of the test's: pushes, snapshots thinned out, collections every week, mounts that
//! stay open for weeks, keys that rotate each quarter, pushes that break off and never come back.
//!
//! `PROTOCOL_YEAR_HOURS` is the pace: hours between two pushes of a device (a few days by default, 1 at full pace).

use crate::collect::{DAY, Ground, HOUR, prune_on};
use crate::epochs::{epochs, rotate};
use crate::fixture::{Source, assert_same_as_disk};
use backupengine_maintain::{PruneConfig, prune_dry};
use backupengine_model::SessionNo;
use backupengine_model::ledger::{Haste, SessionState};
use backupengine_seal::Keyring;
use backupengine_store::{BlobKind, ErrorKind, Maintainable, Writable};
use backupengine_testkit::Faulty;
use backupengine_testkit::build::{Pusher, TestVault, Unwatched};
use backupengine_testkit::faulty::{Fault, When};
use backupengine_testkit::shown::everything;
use backupengine_testkit::{Seeded, now};
use backupengine_vault::{NewerKeys, Vault};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Snapshots that stay: the last of each of the last days, weeks and months, per device.
const DAYS: usize = 7;
const WEEKS: usize = 5;
const MONTHS: usize = 12;

/// Hours between two rotations of the keys.
const QUARTER: i64 = 90 * 24;

const DEVICES: [&str; 3] = ["laptop", "desktop", "server"];

struct Made {
    session: SessionNo,
    device: usize,
    at: i64,
}

/// Which snapshots go.
fn thinned(made: &[Made]) -> Vec<SessionNo> {
    let mut stay = BTreeSet::new();
    for device in 0..DEVICES.len() {
        for (span, most) in [(DAY, DAYS), (7 * DAY, WEEKS), (30 * DAY, MONTHS)] {
            let mut last: BTreeMap<i64, SessionNo> = BTreeMap::new();
            for one in made.iter().filter(|one| one.device == device) {
                last.insert(one.at / span, one.session);
            }
            stay.extend(last.into_values().rev().take(most));
        }
    }
    made.iter().map(|one| one.session).filter(|session| !stay.contains(session)).collect()
}

/// A mount: a reader that stays open on one snapshot, and its lease.
struct Mounted {
    id: [u8; 16],
    session: SessionNo,
    reader: Vault,
    until: i64,
}

/// The newest keys, as whoever has the passphrase gets them.
struct Newest(Mutex<Keyring>);

impl NewerKeys for Newest {
    fn newer(&self, _epoch: u16) -> Option<Keyring> {
        Some(self.0.lock().unwrap().clone())
    }
}

struct Year {
    ground: Ground,
    newest: Arc<Newest>,
    pushers: Vec<Pusher>,
    sources: Vec<Source>,
    made: Vec<Made>,
    mounts: Vec<Mounted>,
    random: Seeded,
}

impl Year {
    fn new() -> Self {
        let ground = Ground::in_folder();
        let pushers = DEVICES.iter().map(|name| ground.vault.pusher(name)).collect();
        let sources = (60..63).map(Source::small).collect();
        let newest = Arc::new(Newest(Mutex::new(ground.vault.keyring.clone())));
        Self {
            ground,
            newest,
            pushers,
            sources,
            made: Vec::new(),
            mounts: Vec::new(),
            random: Seeded::new(8),
        }
    }

    /// New keys for every device; mounts that are open get them when they meet what was sealed with them.
    fn rotate(&mut self) {
        rotate(&mut self.ground.vault);
        self.ground.vault.put_envelopes();
        *self.newest.0.lock().unwrap() = self.ground.vault.keyring.clone();
        self.pushers.iter_mut().for_each(|pusher| pusher.rekey(&self.ground.vault));
    }

    fn push(&mut self, device: usize) {
        let source = &self.sources[device];
        source.change();
        source.move_back();
        let pusher = &self.pushers[device];
        if self.random.below(20) == 0 {
            // It breaks off, and its device's state is lost: nobody goes on with it.
            let lost = self.ground.vault.pusher(DEVICES[device]);
            let broken = Faulty::new(Arc::clone(&self.ground.store) as Arc<dyn Writable>)
                .with(When::FromPut(1 + self.random.below(2)), Fault::Refuse(ErrorKind::Unavailable));
            let store: Arc<dyn Writable> = Arc::new(broken);
            lost.push_to(&store, lost.config(source.path()), &Unwatched).unwrap_err();
        }
        let session = pusher.push(source.path());
        self.ground.note(session);
        let shown = source.part_of(self.ground.shown[&session].clone());
        assert_same_as_disk(&shown, source.path());
        self.made.push(Made { session, device, at: self.ground.clock.now().secs });
    }

    fn thin_out(&mut self) {
        let gone = thinned(&self.made);
        self.ground.trash(&gone);
        self.made.retain(|one| !gone.contains(&one.session));
        let mounted: Vec<SessionNo> = self.mounts.iter().map(|mount| mount.session).collect();
        self.ground.shown.retain(|session, _| !gone.contains(session) || mounted.contains(session));
    }

    /// Mounts say that they are there, come and go; what they read is what was pushed, whatever was removed since.
    fn mount(&mut self) {
        let now = self.ground.clock.now().secs;
        for mount in &self.mounts {
            self.ground.mounts().lease(mount.id, &[mount.session]).unwrap();
        }
        if self.mounts.len() < 2 && self.random.below(5) == 0 {
            let at = self.random.below(self.made.len() as u64) as usize;
            let session = self.made[at].session;
            let id = [self.random.below(256) as u8; 16];
            let reader = self.ground.vault.reader();
            reader.renew_from(Arc::clone(&self.newest) as Arc<dyn NewerKeys>);
            reader.root(session).unwrap();
            self.ground.mounts().lease(id, &[session]).unwrap();
            let until = now + (7 + self.random.below(40) as i64) * DAY;
            self.mounts.push(Mounted { id, session, reader, until });
        }
        for mount in self.mounts.extract_if(.., |mount| mount.until < now) {
            self.ground.mounts().release(mount.id).unwrap();
        }
    }

    fn read_in_mounts(&self) {
        for mount in &self.mounts {
            let shown = everything(&mount.reader, mount.session)
                .unwrap_or_else(|e| panic!("snapshot {} is mounted: {e}", mount.session));
            assert!(shown == self.ground.shown[&mount.session], "snapshot {} changed", mount.session);
        }
    }

    /// Bytes of the frames that snapshots need: what a collection would copy that copied everything.
    fn live_bytes(&self) -> u64 {
        let config = PruneConfig { compact_percent: 101, compact_min: 0, ..PruneConfig::default() };
        let reader = self.ground.vault.reader();
        prune_dry(&reader, &*self.ground.store, &config, self.ground.clock.now()).unwrap().moved.2
    }
}

fn say(text: &str) {
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

#[test]
fn a_year_leaves_what_was_kept_and_little_else() {
    let pace = std::env::var("PROTOCOL_YEAR_HOURS").map_or(120, |text| text.parse::<i64>().unwrap());
    let mut year = Year::new();
    let began = year.ground.clock.now().secs;
    let (mut hours, mut most) = (0, 0);
    while hours < 365 * 24 {
        for device in 0..DEVICES.len() {
            year.push(device);
        }
        year.mount();
        // Leases are renewed within each hour; only the last renewal before a collection matters.
        year.ground.clock.advance(pace * HOUR - 60);
        let week = hours / (7 * 24) != (hours + pace) / (7 * 24);
        hours += pace;
        if week {
            year.mount();
            year.thin_out();
            year.ground.prune();
            year.read_in_mounts();
        }
        if hours / QUARTER != (hours - pace) / QUARTER {
            year.rotate();
        }
        most = most.max(year.ground.stored());
    }
    let passed = (year.ground.clock.now().secs - began) / DAY;
    for mount in std::mem::take(&mut year.mounts) {
        year.ground.mounts().release(mount.id).unwrap();
    }
    // The year ends; what was in the trash then goes as it always does.
    let ended: Vec<u64> = (0..3)
        .map(|_| {
            year.ground.clock.advance(15 * DAY);
            year.ground.prune();
            year.ground.stored()
        })
        .collect();
    year.ground.check();
    assert_eq!(year.ground.live(), year.made.iter().map(|one| one.session).collect());
    let sessions = year.ground.sessions();
    let expired = sessions.iter().filter(|s| s.state == SessionState::Expired).count();
    assert!(sessions.iter().all(|s| s.state != SessionState::Open));
    let (stored, epochs) = (*ended.last().unwrap(), epochs(&year.ground));
    let rotated = year.ground.vault.keyring.current_epoch() - 1;
    let old = epochs.values().filter(|epoch| **epoch <= rotated).count();
    let live = year.live_bytes();
    year.ground.check();
    say(&format!(
        "{passed} days, {} sessions, {expired} of them expired, {} snapshots left: {stored} bytes stored, {live} live, \
         {:.3}; {most} at most; keys rotated {rotated} times, {old} of {} packs under older ones",
        sessions.len(),
        year.made.len(),
        stored as f64 / live as f64,
        epochs.len()
    ));
    assert_eq!(rotated, 4);
    assert!(expired > 0);
    assert!(stored * 100 <= live * 135, "{stored} bytes are stored for {live}");
}

/// Figures, not a verdict: pushes beside collections that go on all the time, and the same pushes alone.
#[test]
fn pushes_wait_for_no_collection() {
    let mut ground = Ground::in_folder();
    let (pusher, source) = (ground.vault.pusher("laptop"), Source::small(70));
    let mut alone = Duration::ZERO;
    for _ in 0..8 {
        source.change();
        let since = Instant::now();
        ground.push(&pusher, &source);
        alone = alone.max(since.elapsed());
    }
    let live: Vec<SessionNo> = ground.live().into_iter().take(4).collect();
    ground.trash(&live);
    let stop = AtomicBool::new(false);
    let store: Arc<dyn Maintainable> = Arc::clone(&ground.store);
    let (mut beside, mut sessions) = (Duration::ZERO, Vec::new());
    let collections = std::thread::scope(|scope| {
        let collecting = scope.spawn(|| {
            let vault = TestVault::around(Arc::clone(&store) as Arc<dyn Writable>);
            let config = PruneConfig { haste: Haste::Now, ..PruneConfig::default() };
            let (salts, mut count) = (Seeded::new(71), 0);
            while !stop.load(Ordering::SeqCst) || count == 0 {
                prune_on(&vault, &store, &config, &salts).unwrap();
                count += 1;
            }
            count
        });
        for _ in 0..8 {
            source.change();
            let since = Instant::now();
            sessions.push(pusher.push(source.path()));
            beside = beside.max(since.elapsed());
        }
        stop.store(true, Ordering::SeqCst);
        collecting.join().unwrap()
    });
    for session in sessions {
        ground.note(session);
    }
    let shown = &ground.shown[ground.shown.keys().last().unwrap()];
    assert_same_as_disk(&source.part_of(shown.clone()), source.path());
    ground.check();
    let packs = now(ground.store.list(BlobKind::Packs)).unwrap().len();
    say(&format!(
        "longest push: {alone:?} alone, {beside:?} beside {collections} collections; {packs} packs are left"
    ));
}
