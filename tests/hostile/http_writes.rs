//! Faults × writing: what a push, a removal and a collection come to when storage or the control plane fails, once and
//! for as long as it lasts. `tests/FAULTS.md` is the table.
//!
//! May not ask for more than a fault allows: a snapshot is there and is what was pushed, or the error says what happened.
//! What always holds: nothing that was committed is lost, and when the fault is over the same device goes on.
use crate::http_room::Room;
use crate::world::{Tree, noise};
use backupengine_maintain::{PruneConfig, PruneError, PruneReport, prune};
use backupengine_model::SessionNo;
use backupengine_push::PushError;
use backupengine_store::{ErrorKind, Maintainable, Readable, StoreError, Writable};
use backupengine_testkit::build::Unwatched;
use backupengine_testkit::system::Tmpfs;
use backupengine_testkit::{Seeded, shown, wait};
use backupengine_tests::relay::{Asked, Reply};
use backupengine_transfer::{PresignedConfig, PresignedStore};
use backupengine_vault::{Locked, VaultConfig, VaultError};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// As if everything had been given up and removed long ago.
const LATER: &str = "update app.gc_log set at = at - interval '15 days';
    update app.moved set moved_at = moved_at - interval '15 days';
    update app.snapshot set purge_after = purge_after - interval '15 days';
    update app.lease set expires_at = expires_at - interval '15 days'";

type Lie = Arc<dyn Fn(&Asked, &dyn Fn() -> Reply) -> Reply + Send + Sync>;

fn lie(lie: impl Fn(&Asked, &dyn Fn() -> Reply) -> Reply + Send + Sync + 'static) -> Lie {
    Arc::new(lie)
}

/// The first request of each kind fails.
fn once(fault: impl Fn(&Asked, &dyn Fn() -> Reply) -> Reply + Send + Sync + 'static) -> Lie {
    let seen = Mutex::new(HashSet::new());
    lie(move |asked, pass| {
        let key = (asked.method.clone(), asked.path.clone(), asked.header("range").map(str::to_owned));
        let first = seen.lock().unwrap().insert(key);
        if first { fault(asked, pass) } else { pass() }
    })
}

/// A room whose snapshots are all remembered.
struct Ground {
    room: Room,
    shown: BTreeMap<SessionNo, Tree>,
    turn: u64,
    salts: Seeded,
}

/// What went wrong, as the store says it.
fn kind_of(error: &(dyn std::error::Error + 'static)) -> ErrorKind {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(store) = error.downcast_ref::<StoreError>() {
            return store.kind;
        }
        if let Some(VaultError::Store(store)) = error.downcast_ref::<VaultError>() {
            return store.kind;
        }
        cause = error.source();
    }
    panic!("not of the store: {error:?}")
}

/// No text of an error holds a grant.
fn tells_no_secret(error: &(dyn std::error::Error + 'static)) {
    let said = format!("{error:?}");
    assert!(!said.contains("X-Amz") && !said.contains("x-amz-signature"), "{said}");
}

impl Ground {
    fn new() -> Self {
        let mut ground = Self { room: Room::with(1), shown: BTreeMap::new(), turn: 0, salts: Seeded::new(5) };
        ground.note(ground.room.newest());
        ground
    }

    fn note(&mut self, session: SessionNo) {
        let tree = self.room.truth(session);
        let below = shown::below(tree.clone(), self.room.source());
        assert_eq!(shown::differences_from_disk(&below, self.room.source()), Vec::<String>::new());
        self.shown.insert(session, tree);
    }

    /// Remembers snapshots of a push that was told to have failed: its root was stored or its commit done, and the answer
    /// was lost. What they show is the source, which has not changed since.
    fn note_what_came_late(&mut self) {
        let list = self.room.client_on(&self.room.asking_store()).list().unwrap();
        for listed in list.iter().map(|info| info.session) {
            if !self.shown.contains_key(&listed) {
                self.note(listed);
            }
        }
    }

    /// Something to push: of what lies in one pack a quarter stays when the next turn comes.
    fn change(&mut self) {
        self.turn += 1;
        let at = |name: &str| self.room.source().join(name);
        std::fs::write(at(&format!("stays {}", self.turn)), noise(self.turn * 2, 100_000)).unwrap();
        std::fs::write(at("goes"), noise(self.turn * 2 + 1, 300_000)).unwrap();
    }

    fn store(&self) -> Arc<dyn Maintainable> {
        Arc::new(self.room.hurried_store().unwrap())
    }

    fn push(&self) -> Result<SessionNo, PushError> {
        let store: Arc<dyn Writable> = self.store();
        self.push_on(&store)
    }

    fn push_on(&self, store: &Arc<dyn Writable>) -> Result<SessionNo, PushError> {
        let device = &self.room.device;
        let report = device.push_to(store, device.config(self.room.source()), &Unwatched)?;
        Ok(report.snapshot.unwrap().0)
    }

    fn prune_on(&self, store: &Arc<dyn Maintainable>) -> Result<PruneReport, PruneError> {
        let vault = Locked::open(Arc::clone(store) as Arc<dyn Readable>)?;
        let vault = vault.unlock_as(self.room.vault.keyring.clone(), VaultConfig::default())?;
        let device = self.room.device.device.key.id();
        prune(&vault, &**store, device, &PruneConfig::default(), &|out| self.salts.fill(out))
    }

    /// Two snapshots, of which the older is removed: a collection has something to give up and to move.
    fn prepare_to_collect(&mut self) {
        for _ in 0..2 {
            self.change();
            let session = self.push().unwrap();
            self.note(session);
        }
        let old: Vec<SessionNo> = self.shown.keys().rev().skip(1).copied().collect();
        wait(self.store().trash(&old)).unwrap();
        self.shown.retain(|session, _| !old.contains(session));
        self.room.server.admin().batch(LATER).unwrap();
    }

    /// Every snapshot that is known is listed and shows what it showed; no other is.
    fn all_is_there(&self, name: &str) {
        let reader = self.room.client_on(&self.room.asking_store());
        let listed: BTreeSet<SessionNo> = reader.list().unwrap().iter().map(|s| s.session).collect();
        assert_eq!(listed, self.shown.keys().copied().collect(), "{name}");
        for (session, tree) in &self.shown {
            assert!(shown::everything(&reader, *session).unwrap() == *tree, "{name}: {session} changed");
        }
    }
}

/// What storage may answer, and what that comes to if it goes on.
fn storage_faults() -> Vec<(&'static str, Lie, ErrorKind)> {
    let status = |status| lie(move |_, _| Reply::status(status));
    vec![
        ("500", status(500), ErrorKind::Unavailable),
        ("503", status(503), ErrorKind::Unavailable),
        ("429", status(429), ErrorKind::Unavailable),
        ("401", status(401), ErrorKind::Denied),
        ("403", status(403), ErrorKind::Denied),
        (
            "cut off",
            lie(|_, pass| {
                let reply = pass();
                Reply { body: vec![0; 64], cut: Some(0), status: 500, ..reply }
            }),
            ErrorKind::Unavailable,
        ),
    ]
}

fn control_faults() -> Vec<(&'static str, Lie)> {
    let status = |status| lie(move |_, _| Reply::status(status));
    let cut = |reply: Reply| Reply { cut: Some(reply.body.len() / 2), ..reply };
    vec![
        ("500", status(500)),
        ("503", status(503)),
        ("429", status(429)),
        // It happened, and nobody was told.
        ("answer lost", lie(move |_, pass| cut(pass()))),
    ]
}

/// Nobody tries these again: a refusal is an answer.
fn control_refusals() -> Vec<(&'static str, Lie)> {
    let status = |status| lie(move |_, _| Reply::status(status));
    let half = |mut reply: Reply| {
        reply.body.iter_mut().step_by(16).for_each(|byte| *byte ^= 1);
        reply
    };
    vec![
        ("404", status(404)),
        ("403", status(403)),
        ("412", status(412)),
        ("corrupt", lie(move |_, pass| half(pass()))),
        ("empty", lie(|_, pass| Reply { body: Vec::new(), ..pass() })),
    ]
}

#[test]
fn a_push_that_meets_a_fault_once_makes_its_snapshot() {
    let mut ground = Ground::new();
    for (name, fault, _) in storage_faults() {
        ground.change();
        let fault = once(move |asked, pass| fault(asked, pass));
        ground.room.storage.lies(move |asked, pass| fault(asked, pass));
        let session = ground.push().unwrap_or_else(|error| panic!("{name}: {error:?}"));
        ground.room.storage.is_honest();
        ground.note(session);
    }
    // Stored, and the answer was lost.
    for status in [500, 503] {
        ground.change();
        let lost = once(move |_, pass| {
            pass();
            Reply::status(status)
        });
        ground.room.storage.lies(move |asked, pass| lost(asked, pass));
        let session = ground.push().unwrap_or_else(|error| panic!("lost, {status}: {error:?}"));
        ground.room.storage.is_honest();
        ground.note(session);
    }
    for (name, fault) in control_faults() {
        ground.change();
        let store: Arc<dyn Writable> = ground.store();
        let fault = once(move |asked, pass| fault(asked, pass));
        ground.room.control.lies(move |asked, pass| fault(asked, pass));
        let session = ground.push_on(&store).unwrap_or_else(|error| panic!("control, {name}: {error:?}"));
        ground.room.control.is_honest();
        ground.note(session);
    }
    ground.all_is_there("once");
}

#[test]
fn a_push_that_storage_fails_says_so_and_the_next_one_sends_the_rest() {
    let mut ground = Ground::new();
    // From the first or the second blob on: what was stored before is not sent again.
    for (name, fault, expected) in storage_faults() {
        for after in [0, 1] {
            ground.change();
            let stored: Arc<Mutex<Vec<String>>> = Arc::default();
            let (noted, fault) = (Arc::clone(&stored), Arc::clone(&fault));
            ground.room.storage.lies(move |asked, pass| {
                if asked.method != "PUT" {
                    return pass();
                }
                if noted.lock().unwrap().len() >= after {
                    return fault(asked, pass);
                }
                let reply = pass();
                if reply.status == 200 {
                    noted.lock().unwrap().push(asked.path.clone());
                }
                reply
            });
            let error = ground.push().unwrap_err();
            assert_eq!(kind_of(&error), expected, "{name}: {error:?}");
            tells_no_secret(&error);
            ground.room.storage.is_honest();
            ground.all_is_there(name);
            let (before, stored) = (ground.room.storage.seen().len(), stored.lock().unwrap().clone());
            assert_eq!(stored.len(), after);
            let session = ground.push().unwrap_or_else(|error| panic!("{name}, afterwards: {error:?}"));
            let seen = ground.room.storage.seen();
            let puts = seen[before..].iter().filter(|asked| asked.method == "PUT");
            let again: Vec<_> = puts.filter(|asked| stored.contains(&asked.path)).collect();
            assert!(again.is_empty(), "{name}: sent again: {again:?}");
            ground.note(session);
            ground.note_what_came_late();
        }
    }
    ground.all_is_there("afterwards");
}

#[test]
fn a_push_whose_storage_is_silent_or_away_ends_and_goes_on_when_it_is_back() {
    let mut ground = Ground::new();
    for silent in [true, false] {
        ground.change();
        let gate = Arc::new(AtomicBool::new(true));
        if silent {
            let gate = Arc::clone(&gate);
            ground.room.storage.lies(move |_, pass| {
                while gate.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                pass()
            });
        } else {
            ground.room.storage.is_away(true);
        }
        let error = ground.push().unwrap_err();
        let kind = kind_of(&error);
        assert!(matches!(kind, ErrorKind::Unavailable | ErrorKind::TimedOut), "{silent}: {error:?}");
        tells_no_secret(&error);
        gate.store(false, Ordering::SeqCst);
        ground.room.storage.is_honest();
        if !silent {
            ground.room.storage.is_away(false);
        }
        ground.all_is_there("afterwards");
        let session = ground.push().unwrap_or_else(|error| panic!("{silent}, afterwards: {error:?}"));
        ground.note(session);
    }
    ground.all_is_there("afterwards");
}

#[test]
fn a_push_that_the_control_plane_fails_says_so_and_the_next_one_goes_on() {
    let mut ground = Ground::new();
    for (name, fault) in control_faults().into_iter().chain(control_refusals()) {
        // All of it, or only what ends a push.
        for op in [None, Some("session-commit")] {
            ground.change();
            let store: Arc<dyn Writable> = ground.store();
            let fault = Arc::clone(&fault);
            ground.room.control.lies(move |asked, pass| {
                if op.is_none_or(|op| asked.op() == op) { fault(asked, pass) } else { pass() }
            });
            let pushed = ground.push_on(&store);
            ground.room.control.is_honest();
            let error = pushed.err().unwrap_or_else(|| panic!("{name}, {op:?}: it was pushed"));
            tells_no_secret(&error);
            let session = ground.push().unwrap_or_else(|error| panic!("{name}, afterwards: {error:?}"));
            ground.note(session);
            ground.note_what_came_late();
        }
    }
    ground.all_is_there("afterwards");
}

#[test]
fn a_collection_that_meets_a_fault_once_does_its_work() {
    let mut ground = Ground::new();
    for (name, fault, _) in storage_faults() {
        ground.prepare_to_collect();
        let fault = once(move |asked, pass| fault(asked, pass));
        ground.room.storage.lies(move |asked, pass| fault(asked, pass));
        let report = ground.prune_on(&ground.store()).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(report.moved.0 >= 1 || report.retired.0 >= 1, "{name}: {report:?}");
        ground.room.storage.is_honest();
        ground.all_is_there(name);
    }
    for (name, fault) in control_faults() {
        ground.prepare_to_collect();
        let store = ground.store();
        let fault = once(move |asked, pass| fault(asked, pass));
        ground.room.control.lies(move |asked, pass| fault(asked, pass));
        let report = ground.prune_on(&store).unwrap_or_else(|error| panic!("control, {name}: {error:?}"));
        assert!(report.moved.0 >= 1 || report.retired.0 >= 1, "{name}: {report:?}");
        ground.room.control.is_honest();
        ground.all_is_there(name);
    }
}

#[test]
fn a_collection_that_is_failed_says_so_and_leaves_everything_as_it_was() {
    let mut ground = Ground::new();
    let mut faults = storage_faults();
    faults.push(("away", lie(|_, pass| pass()), ErrorKind::Unavailable));
    for (name, fault, expected) in faults {
        ground.prepare_to_collect();
        if name == "away" {
            ground.room.storage.is_away(true);
        } else {
            ground.room.storage.lies(move |asked, pass| fault(asked, pass));
        }
        let error = ground.prune_on(&ground.store()).unwrap_err();
        // The control plane looks into the bucket as well, and does not say why it could not.
        assert!([expected, ErrorKind::Unavailable].contains(&kind_of(&error)), "{name}: {error:?}");
        tells_no_secret(&error);
        if name == "away" {
            ground.room.storage.is_away(false);
        }
        ground.room.storage.is_honest();
        ground.all_is_there(name);
        ground.prune_on(&ground.store()).unwrap_or_else(|error| panic!("{name}, afterwards: {error:?}"));
        ground.all_is_there(name);
    }
    for (name, fault) in control_faults().into_iter().chain(control_refusals()) {
        ground.prepare_to_collect();
        let store = ground.store();
        ground.room.control.lies(move |asked, pass| fault(asked, pass));
        let error = ground.prune_on(&store).map(|report| panic!("control, {name}: {report:?}")).unwrap_err();
        tells_no_secret(&error);
        ground.room.control.is_honest();
        ground.all_is_there(name);
        ground.prune_on(&ground.store()).unwrap_or_else(|error| panic!("{name}, afterwards: {error:?}"));
        ground.all_is_there(name);
    }
}

#[test]
fn a_removal_that_is_failed_is_told_and_is_whole_or_nothing() {
    let mut ground = Ground::new();
    // Storage is not asked at all.
    ground.change();
    let session = ground.push().unwrap();
    ground.room.storage.is_away(true);
    wait(ground.store().trash(&[session])).unwrap();
    ground.room.storage.is_away(false);
    ground.all_is_there("storage away");
    for (name, fault) in control_faults().into_iter().chain(control_refusals()) {
        for lasting in [false, true] {
            ground.change();
            let session = ground.push().unwrap();
            ground.note(session);
            let passing = ["500", "503", "429", "answer lost"].contains(&name) && !lasting;
            let store = ground.store();
            let inner = Arc::clone(&fault);
            let fault = if lasting { inner } else { once(move |asked, pass| inner(asked, pass)) };
            ground.room.control.lies(move |asked, pass| fault(asked, pass));
            let removed = wait(store.trash(&[session]));
            ground.room.control.is_honest();
            match &removed {
                Ok(_) => assert!(passing, "{name}: it was removed"),
                Err(error) => {
                    assert!(!passing, "{name}: {error:?}");
                    tells_no_secret(error);
                }
            }
            // Said again it is done, whether it was or not.
            wait(ground.store().trash(&[session])).unwrap_or_else(|error| panic!("{name}: {error:?}"));
            ground.shown.remove(&session);
            ground.all_is_there(name);
        }
    }
}

#[test]
fn a_push_without_room_for_its_spools_says_so_and_goes_on() {
    let mut ground = Ground::new();
    let small = Tmpfs::new("size=256k");
    ground.change();
    let config = PresignedConfig { tries: 2, ..PresignedConfig::new(small.path().to_owned()) };
    let narrow: Arc<dyn Writable> = Arc::new(PresignedStore::open(&ground.room.account, config).unwrap());
    let error = ground.push_on(&narrow).unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Full, "{error:?}");
    let said = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let said: Vec<String> = said.map(ToString::to_string).collect();
    assert!(said.iter().any(|text| text.contains(small.path().to_str().unwrap())), "{said:?}");
    drop(narrow);
    assert_eq!(std::fs::read_dir(small.path().join("tmp")).unwrap().count(), 0, "a spool is left");
    ground.all_is_there("no room");
    let session = ground.push().unwrap();
    ground.note(session);
    ground.all_is_there("afterwards");
}
