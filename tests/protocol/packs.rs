//! Several packs under way at once, acknowledged out of order: nothing begins to exist before all of them were.

use crate::fixture::{Tree, assert_same_as_disk};
use backupengine_model::SessionNo;
use backupengine_push::{PushError, PushReport};
use backupengine_store::{BlobKey, BlobKind, ErrorKind, MemoryStore, Writable};
use backupengine_testkit::build::{Pusher, TestVault, Unwatched, VAULT};
use backupengine_testkit::faulty::{Fault, When};
use backupengine_testkit::late::Event;
use backupengine_testkit::shown::{below, everything};
use backupengine_testkit::{Faulty, Late, Seeded, now};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// Packs that are under way at once at most, as `push` has it.
const AT_ONCE: usize = 4;

/// A vault in memory that is far away, a device, and a folder whose data fill more than one pack.
struct Far {
    memory: MemoryStore,
    vault: TestVault,
    pusher: Pusher,
    source: TempDir,
}

impl Far {
    /// With so many files of 3 MiB beside some small ones.
    fn new(large: usize) -> Self {
        let source = tempfile::tempdir().unwrap();
        let random = Seeded::new(7);
        let write = |name: String, len: usize| {
            let mut bytes = vec![0; len];
            random.fill(&mut bytes);
            fs::write(source.path().join(name), bytes).unwrap();
        };
        (0..large).for_each(|n| write(format!("large {n:02}"), 3 << 20));
        (0..200).for_each(|n| write(format!("small {n}"), 600 + n * 20));
        let memory = MemoryStore::new(VAULT);
        let vault = TestVault::around(Arc::new(memory.clone()));
        let pusher = vault.pusher("laptop");
        Self { memory, vault, pusher, source }
    }

    fn push(&self, store: Arc<dyn Writable>) -> Result<PushReport, PushError> {
        self.pusher.push_to(&store, self.pusher.config(self.source.path()), &Unwatched)
    }

    fn packs(&self) -> BTreeSet<BlobKey> {
        now_listed(&self.memory, BlobKind::Packs)
    }

    /// The one snapshot is the source, whole.
    fn check(&self, session: SessionNo) {
        let reader = self.vault.reader();
        assert_eq!(reader.list().unwrap().iter().map(|s| s.session).collect::<Vec<_>>(), [session]);
        assert_same_as_disk(&self.shown(session), self.source.path());
    }

    fn shown(&self, session: SessionNo) -> Tree {
        let path: &Path = self.source.path();
        below(everything(&self.vault.reader(), session).unwrap(), path)
    }
}

fn now_listed(store: &MemoryStore, kind: BlobKind) -> BTreeSet<BlobKey> {
    use backupengine_store::BlobReader;
    now(store.list(kind)).unwrap().into_iter().map(|(key, _)| key).collect()
}

/// Where in the events this one stands.
fn at(events: &[Event], event: Event) -> usize {
    events.iter().position(|seen| *seen == event).unwrap_or_else(|| panic!("{event:?} is missing"))
}

#[test]
fn the_root_is_put_after_every_pack_was_acknowledged_in_whatever_order() {
    let far = Far::new(60);
    let late = Late::new(Arc::new(far.memory.clone()));
    let session = far.push(Arc::new(late.clone())).unwrap().snapshot.unwrap().0;
    let (events, packs) = (late.events(), far.packs());
    assert!(packs.len() > AT_ONCE, "{} packs", packs.len());
    assert_eq!(late.most_at_once(), AT_ONCE, "{events:?}");

    let acknowledged: Vec<BlobKey> = events
        .iter()
        .filter_map(|event| match event {
            Event::Answered(key @ BlobKey::Pack(..)) => Some(*key),
            _ => None,
        })
        .collect();
    assert!(!acknowledged.is_sorted(), "no pack was overtaken: {events:?}");
    let root = BlobKey::Root(session);
    let put = at(&events, Event::Put(root));
    for pack in &packs {
        assert!(at(&events, Event::Answered(*pack)) < put, "the root did not wait for {pack}: {events:?}");
    }
    let answered = at(&events, Event::Answered(root));
    assert_eq!(events[answered + 1..], [Event::Commit(session)], "{events:?}");
    far.check(session);
}

/// Breaks the put of one blob, lets the others come through, and pushes again.
fn break_at(far: &Far, broken: BlobKey, fault: Fault) {
    let faulty =
        Faulty::new(Arc::new(Late::new(Arc::new(far.memory.clone())))).with(When::Blob(broken), fault);
    let error = far.push(Arc::new(faulty.clone())).unwrap_err();
    assert!(matches!(&error, PushError::Store(e) if e.key == Some(broken)), "{broken}: {error:?}");
    assert_eq!(far.vault.reader().list().unwrap().len(), 0, "{broken}");
    let is_root = matches!(broken, BlobKey::Root(_));
    let roots = now_listed(&far.memory, BlobKind::Roots).len();
    assert_eq!(roots, usize::from(is_root && fault == Fault::LoseAnswer), "{broken}");

    let before = far.packs();
    assert_eq!(before.contains(&broken), !is_root && fault == Fault::LoseAnswer);
    let again = Late::new(Arc::new(far.memory.clone()));
    let report = far.push(Arc::new(again.clone())).unwrap();
    let session = report.snapshot.unwrap().0;
    if is_root && fault == Fault::LoseAnswer {
        // It lacked nothing but its commit: it was committed, and the push that found it made one more.
        assert_eq!(far.vault.reader().list().unwrap().len(), 2);
        assert_eq!(report.stats.bytes_new, 0);
        assert_same_as_disk(&far.shown(session), far.source.path());
        return;
    }
    // The same session goes on: what came through stays, whatever its number, and is not sent again.
    let put: BTreeSet<BlobKey> = packs_put(&again.events());
    assert!(before.iter().all(|key| matches!(key, BlobKey::Pack(of, _) if *of == session)), "{before:?}");
    assert!(put.is_disjoint(&before), "{broken}: {put:?} {before:?}");
    assert_eq!(far.packs(), &before | &put, "{broken}");
    let last = before.last().map(|key| pack_number(*key));
    assert!(put.iter().all(|key| Some(pack_number(*key)) > last), "{broken}: a number was given twice");
    far.check(session);
}

fn packs_put(events: &[Event]) -> BTreeSet<BlobKey> {
    let put = events.iter().filter_map(|event| match event {
        Event::Put(key @ BlobKey::Pack(..)) => Some(*key),
        _ => None,
    });
    put.collect()
}

fn pack_number(key: BlobKey) -> u32 {
    match key {
        BlobKey::Pack(_, number) => number,
        other => panic!("{other} is no pack"),
    }
}

#[test]
fn a_pack_that_fails_among_others_leaves_what_the_next_push_goes_on_with() {
    let keys = {
        let far = Far::new(14);
        far.push(Arc::new(Late::new(Arc::new(far.memory.clone())))).unwrap();
        &far.packs() | &now_listed(&far.memory, BlobKind::Roots)
    };
    assert!(keys.len() > AT_ONCE, "{keys:?}");
    for broken in keys {
        for fault in [Fault::Refuse(ErrorKind::Unavailable), Fault::LoseAnswer] {
            break_at(&Far::new(14), broken, fault);
        }
    }
}

/// The process dies when the first, the second, ... blob is put: those before it are under way or acknowledged, in any
/// order.
#[test]
fn stopping_at_every_put_leaves_a_session_that_goes_on() {
    for put in 1.. {
        let far = Far::new(14);
        let dying = Faulty::new(Arc::new(Late::new(Arc::new(far.memory.clone()))))
            .with(When::FromPut(put), Fault::Refuse(ErrorKind::Unavailable));
        let outcome = far.push(Arc::new(dying));
        let before = far.packs();
        if let Ok(report) = outcome {
            assert_eq!(before.len() as u64 + 2, put, "a push of that many packs and a root");
            return far.check(report.snapshot.unwrap().0);
        }
        assert!((before.len() as u64) < put);
        assert_eq!(far.vault.reader().list().unwrap().len(), 0, "at put {put}");
        assert_eq!(now_listed(&far.memory, BlobKind::Roots), BTreeSet::new(), "at put {put}");
        let again = Late::new(Arc::new(far.memory.clone()));
        let session = far.push(Arc::new(again.clone())).unwrap().snapshot.unwrap().0;
        assert_eq!(session, SessionNo(1), "at put {put}");
        assert!(packs_put(&again.events()).is_disjoint(&before), "at put {put}");
        far.check(session);
    }
}
