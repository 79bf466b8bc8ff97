//! Guards: every store keeps the same promise.
//!
//! One conformance suite over memory, folder, account and each wrapper, another over the three ledgers behind them; what only a folder can suffer is in `folder`,
//! what only processes can do to each other in `processes`, what only an account's store does in `account`.
// Tests may panic; clippy only knows the functions that are marked as tests.
#![allow(clippy::unwrap_used)]

mod account;
mod folder;
mod processes;
mod room;

use backupengine_model::Timestamp;
use backupengine_store::{Clock, FolderStore, Maintainable, MemoryStore, Writable};
use backupengine_testkit::conformance::upkeep::Upkept;
use backupengine_testkit::conformance::{ANY, Handles, VAULT, envelopes_change_all_at_once};
use backupengine_testkit::{FakeClock, now};
use std::any::Any;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// For stores that believe whoever they are told is calling.
fn anybody(one: Arc<dyn Writable>, two: Arc<dyn Writable>, keep: Box<dyn Any>) -> Handles {
    let [me, other] = ANY;
    Handles { one, two, me, other, keep }
}

fn memory() -> Handles {
    let store = MemoryStore::new(VAULT);
    anybody(Arc::new(store.clone()), Arc::new(store), Box::new(()))
}

/// Two stores opened apart, as two processes would.
fn in_folder() -> Handles {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path().join("vault");
    let one = FolderStore::create(&folder, VAULT).unwrap();
    let two = FolderStore::open(&folder).unwrap();
    anybody(Arc::new(one), Arc::new(two), Box::new(keep))
}

/// A vault whose time passes when it is told to. It begins now: a folder looks at the times of its files as well.
fn timed<S: Maintainable + 'static>(open: impl Fn(Clock) -> S, keep: Box<dyn Any>) -> Upkept {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let clock = Arc::new(FakeClock::at(since.as_secs() as i64));
    let hands = || {
        let clock = Arc::clone(&clock);
        move |secs| clock.advance(secs)
    };
    let handle = || {
        let shown = Arc::clone(&clock);
        Arc::new(open(Arc::new(move || shown.now()))) as Arc<dyn Maintainable>
    };
    let [me, other] = ANY;
    Upkept {
        one: handle(),
        two: handle(),
        me,
        other,
        later: Box::new(hands()),
        silence: Box::new(hands()),
        at_once: true,
        keep,
    }
}

fn upkept_memory() -> Upkept {
    let store = MemoryStore::new(VAULT);
    timed(|clock| store.clone().by(clock), Box::new(()))
}

fn upkept_folder() -> Upkept {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path().join("vault");
    drop(FolderStore::create(&folder, VAULT).unwrap());
    timed(|clock| FolderStore::open_by(&folder, clock).unwrap(), Box::new(keep))
}

fn wrapped<W: Writable + 'static>(inner: Handles, wrap: impl Fn(Arc<dyn Writable>) -> W) -> Handles {
    Handles { one: Arc::new(wrap(inner.one)), two: Arc::new(wrap(inner.two)), ..inner }
}

mod memory_store {
    backupengine_testkit::store_suite!(super::memory);
    backupengine_testkit::upkeep_suite!(super::upkept_memory);
}

mod folder_store {
    backupengine_testkit::store_suite!(super::in_folder);
    backupengine_testkit::upkeep_suite!(super::upkept_folder);
}

mod recording {
    use backupengine_testkit::Recording;
    backupengine_testkit::store_suite!(|| super::wrapped(super::memory(), Recording::keeping_spools));
}

mod faulty {
    use backupengine_testkit::Faulty;
    backupengine_testkit::store_suite!(|| super::wrapped(super::in_folder(), Faulty::new));
    backupengine_testkit::upkeep_suite!(|| {
        let inner = super::upkept_folder();
        let (one, two) = (Faulty::maintained(inner.one), Faulty::maintained(inner.two));
        super::Upkept { one: super::Arc::new(one), two: super::Arc::new(two), ..inner }
    });
}

mod strict {
    use backupengine_testkit::Strict;
    backupengine_testkit::store_suite!(|| super::wrapped(super::memory(), Strict::new));
}

mod strict_and_watching {
    use backupengine_testkit::Strict;
    backupengine_testkit::store_suite!(|| super::wrapped(super::in_folder(), Strict::watching));
}

mod late {
    use backupengine_testkit::Late;
    backupengine_testkit::store_suite!(|| super::wrapped(super::memory(), Late::new));
}

mod presigned_store {
    backupengine_testkit::store_suite!(super::account::handles);
    backupengine_testkit::upkeep_suite!(super::account::upkept);
}

/// What is silent is decided by that clock; the device's own says nothing there.
#[test]
fn a_session_is_opened_by_the_clock_of_its_ledger() {
    for vault in [upkept_memory(), upkept_folder()] {
        let given = Timestamp { secs: 1_700_000_000, nanos: 7 };
        let mut opened = Vec::new();
        for _ in 0..2 {
            let session = now(vault.one.open_session(vault.me, given)).unwrap().session;
            let sessions = now(vault.two.sessions()).unwrap().sessions;
            opened.push(sessions.into_iter().find(|s| s.session == session).unwrap().opened.secs);
            (vault.later)(100);
        }
        assert_eq!(opened[1], opened[0] + 100);
        assert!(opened[0] > given.secs);
    }
}

#[test]
fn envelopes_change_all_at_once_in_memory() {
    let store = MemoryStore::new(VAULT);
    envelopes_change_all_at_once((&store, &store), (&store.clone(), &store.clone()));
}

#[test]
fn envelopes_change_all_at_once_in_a_folder() {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path().join("vault");
    let one = FolderStore::create(&folder, VAULT).unwrap();
    let two = FolderStore::open(&folder).unwrap();
    envelopes_change_all_at_once((&one, &one), (&two, &two));
}
