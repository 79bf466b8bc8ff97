//! Whole pushes and collections, the real ones, in the middle of each other.
//!
//! Before a call of the ledger, or of a put, something else may happen: another device pushes, somebody collects, a
//! snapshot goes or comes back, days pass; and in the middle of that again. What happens where follows from a seed, but
//! for the order in which one push's threads call.

use crate::collect::{Ground, HOUR, prune_on, snapshots_of};
use crate::fixture::{Source, assert_same_as_disk};
use crate::stepped::{Step, Stepped};
use backupengine_maintain::{PruneConfig, PruneError};
use backupengine_model::SessionNo;
use backupengine_model::ledger::{Haste, RuleBroken, SessionState};
use backupengine_push::PushError;
use backupengine_store::{ErrorKind, Maintainable, Writable};
use backupengine_testkit::build::{Pusher, TestVault, Unwatched};
use backupengine_testkit::shown::everything;
use backupengine_testkit::{FakeClock, Seeded, now};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

type Tree = crate::fixture::Tree;

/// Devices; one is used at each depth, so that none is in the middle of its own push.
const DEVICES: [&str; 3] = ["laptop", "desktop", "server"];

struct Play {
    store: Arc<dyn Maintainable>,
    clock: Arc<FakeClock>,
    random: Seeded,
    pushers: Vec<Pusher>,
    sources: Vec<Mutex<Source>>,
    shown: Mutex<BTreeMap<SessionNo, Tree>>,
    pushed: AtomicU64,
    revived: AtomicU64,
    collected: AtomicU64,
    inside: AtomicU64,
}

impl Play {
    /// The store of something at this depth.
    fn between(self: &Arc<Self>, depth: usize) -> Arc<Stepped> {
        let (play, busy) = (Arc::clone(self), AtomicBool::new(false));
        Arc::new(Stepped::new(&self.store, move |step: Step| {
            if step == "revive" {
                play.revived.fetch_add(1, Ordering::SeqCst);
            }
            if step == "get" || depth == DEVICES.len() || play.random.below(4) != 0 {
                return;
            }
            // Of a push's threads one at a time.
            if !busy.swap(true, Ordering::SeqCst) {
                play.inside.fetch_add(1, Ordering::SeqCst);
                play.act(depth);
                busy.store(false, Ordering::SeqCst);
            }
        }))
    }

    /// Does something.
    fn act(self: &Arc<Self>, depth: usize) {
        let live: Vec<SessionNo> =
            now(self.store.snapshots()).unwrap().snapshots.iter().map(|s| s.session).collect();
        let any = live.get(self.random.below(live.len().max(1) as u64) as usize).copied();
        match self.random.below(10) {
            0..3 => self.push(depth),
            3..5 => self.prune(depth, Haste::Wait),
            5..7 => self.prune(depth, Haste::Now),
            7 if live.len() > 1 => now(self.store.trash(&[any.unwrap()])).unwrap(),
            8 => {
                let trashed = now(self.store.kept()).unwrap().into_iter().find(|k| k.purge_after.is_some());
                now(self.store.untrash(&trashed.map(|k| k.snapshot.session).into_iter().collect::<Vec<_>>()))
                    .unwrap();
            }
            _ => self.clock.advance([HOUR, 20 * HOUR, 40 * HOUR][self.random.below(3) as usize]),
        }
    }

    fn push(self: &Arc<Self>, depth: usize) {
        let source = self.sources[depth].lock().unwrap();
        source.change();
        let store: Arc<dyn Writable> = self.between(depth + 1);
        let pusher = &self.pushers[depth];
        let open_before = now(self.store.sessions()).unwrap();
        match pusher.push_to(&store, pusher.config(source.path()), &Unwatched) {
            Ok(report) => {
                let session = report.snapshot.unwrap().0;
                self.pushed.fetch_add(1, Ordering::SeqCst);
                self.note(session);
                let shown = source.part_of(self.shown.lock().unwrap()[&session].clone());
                assert_same_as_disk(&shown, source.path());
            }
            // Only where days passed: its session, or one that it would have completed, ended.
            Err(PushError::Store(error)) if error.kind == ErrorKind::RuleBroken(RuleBroken::NotOpen) => {
                let after = now(self.store.sessions()).unwrap();
                let expired = after.iter().filter(|s| s.state == SessionState::Expired).count();
                let before = open_before.iter().filter(|s| s.state == SessionState::Expired).count();
                assert!(expired > before, "a push failed although its session did not end: {error:?}");
            }
            Err(error) => panic!("a push failed: {error:?}"),
        }
    }

    fn note(&self, session: SessionNo) {
        let vault = TestVault::around(Arc::clone(&self.store) as Arc<dyn Writable>);
        let shown =
            everything(&vault.reader(), session).unwrap_or_else(|e| panic!("snapshot {session}: {e}"));
        self.shown.lock().unwrap().insert(session, shown);
    }

    fn prune(self: &Arc<Self>, depth: usize, haste: Haste) {
        let vault = TestVault::around(Arc::clone(&self.store) as Arc<dyn Writable>);
        let store: Arc<dyn Maintainable> = self.between(depth + 1);
        let config = PruneConfig { haste, compact_min: 32 << 10, ..PruneConfig::default() };
        let salts = Seeded::new(self.random.next());
        match prune_on(&vault, &store, &config, &salts) {
            Ok(_) => drop(self.collected.fetch_add(1, Ordering::SeqCst)),
            Err(PruneError::Store(error)) if error.kind == ErrorKind::RuleBroken(RuleBroken::NotOpen) => {}
            Err(error) => panic!("a collection failed: {error:?}"),
        }
    }

    fn check(&self) {
        let vault = TestVault::around(Arc::clone(&self.store) as Arc<dyn Writable>);
        for (session, shown) in snapshots_of(&vault) {
            assert!(shown == self.shown.lock().unwrap()[&session], "snapshot {session} changed");
        }
    }
}

#[test]
fn pushes_and_collections_in_the_middle_of_each_other() {
    let rounds = std::env::var("PROTOCOL_NESTED").map_or(6, |text| text.parse::<u64>().unwrap());
    let (mut pushed, mut revived, mut collected, mut inside) = (0, 0, 0, 0);
    for seed in 0..rounds {
        let ground = Ground::in_memory();
        let play = Arc::new(Play {
            store: Arc::clone(&ground.store),
            clock: Arc::clone(&ground.clock),
            random: Seeded::new(seed),
            pushers: DEVICES.iter().map(|name| ground.vault.pusher(name)).collect(),
            sources: (0..DEVICES.len() as u64).map(|n| Mutex::new(Source::small(40 + n))).collect(),
            shown: Mutex::default(),
            pushed: AtomicU64::new(0),
            revived: AtomicU64::new(0),
            collected: AtomicU64::new(0),
            inside: AtomicU64::new(0),
        });
        play.push(0);
        for _ in 0..8 {
            play.act(0);
            play.check();
        }
        pushed += play.pushed.load(Ordering::SeqCst);
        revived += play.revived.load(Ordering::SeqCst);
        collected += play.collected.load(Ordering::SeqCst);
        inside += play.inside.load(Ordering::SeqCst);
    }
    let text = format!(
        "{pushed} pushes, {collected} collections, {inside} things in the middle of another, {revived} times packs were \
         brought back\n"
    );
    std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
    assert!(pushed > rounds && collected > rounds && inside > rounds, "{text}");
}
