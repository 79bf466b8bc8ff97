//! Keys that rotate between pushes and collections, and in the middle of them.
//!
//! A vault then holds packs of several key epochs, snapshots that need packs of more than one, and relocation packs of yet
//! another. New packs are of the newest epoch their writer knows; nothing is given up by whoever cannot read everything.

use crate::collect::{DAY, Ground, prune_on};
use crate::collect_stops::with_much_to_do;
use crate::fixture::{Source, assert_same_as_disk};
use crate::stepped::Stepped;
use backupengine_format::trailer::{TRAILER_LEN, Trailer};
use backupengine_maintain::{PruneConfig, PruneError};
use backupengine_model::ledger::{Haste, SessionKind};
use backupengine_model::{ReadFailure, SessionNo};
use backupengine_seal::MasterSecret;
use backupengine_store::{BlobKey, BlobKind, Maintainable, Range, Writable};
use backupengine_testkit::build::{Pusher, TestVault, Unwatched};
use backupengine_testkit::shown::everything;
use backupengine_testkit::{Seeded, now};
use backupengine_vault::VaultError;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

pub(crate) fn rotate(vault: &mut TestVault) {
    let next = vault.keyring.current_epoch() + 1;
    let master = MasterSecret::from_bytes([u8::try_from(next).unwrap(); 32]);
    vault.keyring = vault.keyring.rotated(master).unwrap();
}

/// The same vault as somebody holds it who heard of no rotation.
fn with_the_first_keys(ground: &Ground) -> TestVault {
    TestVault::around(Arc::clone(&ground.store) as Arc<dyn Writable>)
}

/// Pushes with the keys there are now, and with what this device kept of its pushes before.
fn push(ground: &mut Ground, source: &Source, state: &Path) -> SessionNo {
    let pusher = ground.vault.pusher("laptop");
    let mut config = pusher.config(source.path());
    config.state = state.to_owned();
    let session = pusher.push_with(config).unwrap().snapshot.unwrap().0;
    ground.note(session);
    session
}

/// The key epoch of every stored pack, as its trailer says.
pub(crate) fn epochs(ground: &Ground) -> BTreeMap<(SessionNo, u32), u16> {
    let packs = now(ground.store.list(BlobKind::Packs)).unwrap();
    let epoch = |key| {
        let end = now(ground.store.get(key, Range::Suffix(TRAILER_LEN as u64))).unwrap();
        Trailer::decode(&end.bytes).unwrap().pack.epoch
    };
    packs
        .iter()
        .map(|(key, _)| {
            let BlobKey::Pack(session, number) = *key else { panic!("{key} is no pack") };
            ((session, number), epoch(*key))
        })
        .collect()
}

fn compacted(ground: &Ground) -> Vec<SessionNo> {
    let sessions = ground.sessions();
    sessions.iter().filter(|s| s.kind == SessionKind::Compact).map(|s| s.session).collect()
}

/// Packs whose frames lie elsewhere, and where.
fn moved(ground: &Ground) -> BTreeMap<(SessionNo, u32), (SessionNo, u32)> {
    let sessions = ground.sessions();
    let moved = sessions
        .iter()
        .flat_map(|s| s.moved.iter().map(|(number, moved)| ((s.session, *number), (moved.to, moved.number))));
    moved.collect()
}

fn rewritten_under_the_newest(mut ground: Ground) {
    let (source, state) = (Source::new(1), tempfile::tempdir().unwrap());
    let mut pushed = vec![push(&mut ground, &source, state.path())];
    let stored = ground.stored();
    for _ in 0..2 {
        rotate(&mut ground.vault);
        source.change();
        pushed.push(push(&mut ground, &source, state.path()));
    }
    assert!(ground.stored() < 3 * stored, "what was stored under older keys is not stored again");
    let before = epochs(&ground);
    let of = |epoch| before.iter().filter(|(_, e)| **e == epoch).map(|(id, _)| id.0).collect::<BTreeSet<_>>();
    for (epoch, session) in (1..).zip(&pushed) {
        assert_eq!(of(epoch), [*session].into_iter().collect(), "epoch {epoch}");
    }
    ground.trash(&pushed[..2]);
    ground.clock.advance(15 * DAY);
    rotate(&mut ground.vault);
    let report = ground.prune();
    assert!(report.moved.0 > 0, "{report:?}");
    ground.check();
    // What is copied is sealed anew, whatever it was sealed under; what stays is not touched.
    let (after, copies) = (epochs(&ground), compacted(&ground));
    assert_eq!(copies.len(), 1);
    for (id, epoch) in &after {
        let expected = if copies.contains(&id.0) { 4 } else { before[id] };
        assert_eq!(*epoch, expected, "pack {id:?}");
    }
    let first: Vec<_> = moved(&ground).into_iter().filter(|(from, _)| before[from] == 1).collect();
    assert!(!first.is_empty(), "nothing of the first epoch was moved");
    ground.clock.advance(4 * DAY);
    assert!(ground.prune().deleted.0 > 0);
    ground.check();
    let left = epochs(&ground);
    assert!(
        first.iter().all(|(from, to)| !left.contains_key(from) && left[to] == 4),
        "{first:?} in {left:?}"
    );

    // Relocation packs are rewritten as others are, and references go on naming the place of the first epoch.
    rotate(&mut ground.vault);
    for name in ["large", "text", "a/deep/er/middle"] {
        std::fs::remove_file(source.path().join(name)).unwrap();
    }
    let last = push(&mut ground, &source, state.path());
    ground.trash(&pushed[2..]);
    ground.clock.advance(15 * DAY);
    ground.prune();
    ground.check();
    ground.clock.advance(4 * DAY);
    ground.prune();
    ground.check();
    let again: Vec<SessionNo> = compacted(&ground).into_iter().filter(|s| !copies.contains(s)).collect();
    let left = epochs(&ground);
    assert!(
        !again.is_empty() && left.iter().all(|(id, epoch)| !again.contains(&id.0) || *epoch == 5),
        "{left:?}"
    );
    assert!(moved(&ground).iter().any(|(from, to)| from.0 == pushed[0] && again.contains(&to.0)), "no chain");
    assert_same_as_disk(&source.part_of(ground.shown[&last].clone()), source.path());

    // Whoever has older keys opens none of it.
    ground.vault.put_envelopes();
    let error = everything(&with_the_first_keys(&ground).reader(), last).unwrap_err();
    assert_eq!(error.failure, ReadFailure::Denied, "{error}");
    assert!(error.to_string().contains("key epoch 5"), "{error}");
}

#[test]
fn packs_of_older_epochs_are_rewritten_under_the_newest_in_memory() {
    rewritten_under_the_newest(Ground::in_memory());
}

#[test]
fn packs_of_older_epochs_are_rewritten_under_the_newest_in_a_folder() {
    rewritten_under_the_newest(Ground::in_folder());
}

/// Nobody knows what a snapshot needs that was pushed under newer keys: nothing goes, neither its packs nor others.
#[test]
fn with_older_keys_nothing_is_given_up() {
    let mut ground = Ground::in_memory();
    let (source, state) = (Source::small(1), tempfile::tempdir().unwrap());
    let first = push(&mut ground, &source, state.path());
    rotate(&mut ground.vault);
    ground.vault.put_envelopes();
    source.change();
    push(&mut ground, &source, state.path());
    ground.trash(&[first]);
    ground.clock.advance(15 * DAY);
    let (sessions, stored) = (ground.sessions(), ground.stored());
    for haste in [Haste::Wait, Haste::Now] {
        let config = PruneConfig { haste, ..PruneConfig::default() };
        let done = prune_on(&with_the_first_keys(&ground), &ground.store, &config, &Seeded::new(3));
        let Err(PruneError::Unreadable { source: error, .. }) = done else { panic!("{done:?}") };
        assert!(matches!(error, VaultError::UnknownEpoch { epoch: 2, .. }), "{error}");
        assert_eq!((ground.sessions(), ground.stored()), (sessions.clone(), stored));
    }
    ground.check();
    let report = ground.prune();
    assert!(report.retired.0 + report.moved.0 > 0, "with the newest keys it goes on: {report:?}");
    ground.check();
}

/// Rotates the keys and pushes with them before the first call of this name, in the middle of what somebody else does.
fn rotated_before(
    ground: &Ground,
    step: &'static str,
    then: impl FnOnce(&TestVault) + Send + 'static,
) -> (Arc<Stepped>, Arc<Mutex<Option<TestVault>>>) {
    let (inner, once) = (Arc::clone(&ground.store), Mutex::new(Some(then)));
    let made = Arc::new(Mutex::new(None));
    let left = Arc::clone(&made);
    let stepped = Stepped::new(&ground.store, move |at| {
        let Some(then) = (at == step).then(|| once.lock().unwrap().take()).flatten() else { return };
        let mut vault = TestVault::around(Arc::clone(&inner) as Arc<dyn Writable>);
        rotate(&mut vault);
        vault.put_envelopes();
        then(&vault);
        *left.lock().unwrap() = Some(vault);
    });
    (Arc::new(stepped), made)
}

/// A collection that began with the keys of before takes nothing from what was pushed with those of after.
#[test]
fn a_collection_that_was_open_over_a_rotation_harms_nothing() {
    let mut ended = BTreeSet::new();
    for step in [
        "kept",
        "begin_collection",
        "retire",
        "open_relocation",
        "put",
        "end_relocation",
        "relocate",
        "purge",
    ] {
        let mut ground = with_much_to_do(Ground::in_memory());
        let source = Source::small(31);
        let pushed = Arc::new(Mutex::new(None));
        let (path, session) = (source.path().to_owned(), Arc::clone(&pushed));
        let (store, made) = rotated_before(&ground, step, move |vault| {
            *session.lock().unwrap() = Some(vault.pusher("desktop").push(&path));
        });
        let store: Arc<dyn Maintainable> = store;
        let done = prune_on(&ground.vault, &store, &PruneConfig::default(), &Seeded::new(9));
        let Some(newer) = made.lock().unwrap().take() else {
            assert_eq!(step, "kept", "a collection without this call");
            continue;
        };
        ended.insert(done.is_ok());
        if let Err(error) = done {
            let PruneError::Unreadable { source: error, .. } = error else { panic!("{step}: {error}") };
            assert!(matches!(error, VaultError::UnknownEpoch { epoch: 2, .. }), "{step}: {error}");
        }
        ground.vault.keyring = newer.keyring;
        ground.note(pushed.lock().unwrap().unwrap());
        ground.check();
        // Whatever it left is taken up by whoever has the newest keys.
        for days in [0, 4, 15] {
            ground.clock.advance(days * DAY);
            ground.prune();
            ground.check();
        }
        let shown = &ground.shown[&pushed.lock().unwrap().unwrap()];
        assert_same_as_disk(&source.part_of(shown.clone()), source.path());
    }
    assert_eq!(ended, [false, true].into(), "one way to end was not met");
}

/// A push that began with the keys of before ends as it began, although another device collected with those of after: it
/// brings back what it needs, and everybody with the newest keys reads it.
#[test]
fn a_push_that_was_open_over_a_rotation_ends_under_its_own_keys() {
    for step in ["open_session", "put", "commit"] {
        let mut ground = Ground::in_memory();
        let (pusher, source) = (ground.vault.pusher("laptop"), Source::small(3));
        let first = ground.push(&pusher, &source);
        source.change();
        let other = Source::small(32);
        let (path, pushed) = (other.path().to_owned(), Arc::new(Mutex::new(None)));
        let (inner, session) = (Arc::clone(&ground.store), Arc::clone(&pushed));
        let (store, made) = rotated_before(&ground, step, move |vault| {
            let desktop: Pusher = vault.pusher("desktop");
            *session.lock().unwrap() = Some(desktop.push(&path));
            now(inner.trash(&[first])).unwrap();
            let config = PruneConfig { haste: Haste::Now, ..PruneConfig::default() };
            prune_on(vault, &inner, &config, &Seeded::new(19)).unwrap();
        });
        let store: Arc<dyn Writable> = store;
        let report = pusher.push_to(&store, pusher.config(source.path()), &Unwatched).unwrap();
        let last = report.snapshot.unwrap().0;
        ground.vault.keyring = made.lock().unwrap().take().unwrap().keyring;
        let beside = pushed.lock().unwrap().unwrap();
        ground.note(last);
        ground.note(beside);
        for (session, source) in [(last, &source), (beside, &other)] {
            assert_same_as_disk(&source.part_of(ground.shown[&session].clone()), source.path());
        }
        let epochs = epochs(&ground);
        let of = |session| {
            epochs.iter().filter(|(id, _)| id.0 == session).map(|(_, e)| *e).collect::<BTreeSet<_>>()
        };
        assert_eq!((of(last), of(beside)), ([1].into(), [2].into()), "{step}");
        for days in [0, 4, 15] {
            ground.clock.advance(days * DAY);
            ground.prune();
            ground.check();
        }
    }
}
