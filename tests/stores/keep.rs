//! Which snapshots stay: memory, folder and account keep the same rules, and both handles agree at once.
use backupengine_model::ledger::{Commit, Kept, LABEL_MAX, RuleBroken, SnapshotRecord};
use backupengine_model::{DeviceId, SessionNo, SnapshotId, Timestamp};
use backupengine_store::{BlobKey, ErrorKind, FolderStore, Keeper, MemoryStore, StoreError, Writable};
use backupengine_testkit::conformance::{ANY, VAULT};
use backupengine_testkit::wait;
use std::time::{SystemTime, UNIX_EPOCH};

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp { secs: since.as_secs() as i64, nanos: 0 }
}

fn commit(store: &impl Writable, device: DeviceId) -> SessionNo {
    let session = wait(store.open_session(device, now())).unwrap().session;
    let mut spool = store.spool().unwrap();
    std::io::Write::write_all(&mut spool, &[session.0 as u8; 64]).unwrap();
    wait(store.put(BlobKey::Root(session), spool)).unwrap();
    let snapshot = SnapshotRecord {
        session,
        id: SnapshotId([session.0 as u8; 8]),
        device,
        created: Timestamp { secs: 1_700_000_000, nanos: 5 },
        root_size: 64,
        head_len: 10,
        label: vec![1],
    };
    let commit = Commit { snapshot, packs: 0, bytes: 64, meta_packs: Vec::new(), gc_epoch: None };
    wait(store.commit(device, &commit)).unwrap();
    session
}

fn rule(answer: Result<(), StoreError>) -> RuleBroken {
    match answer.unwrap_err().kind {
        ErrorKind::RuleBroken(rule) => rule,
        other => panic!("{other:?}"),
    }
}

/// Session, whether it is in the trash, whether it is held.
fn kept(keeper: &impl Keeper) -> Vec<(SessionNo, bool, bool)> {
    let kept = wait(keeper.kept()).unwrap().into_iter();
    kept.map(|one| (one.snapshot.session, one.purge_after.is_some(), one.held)).collect()
}

fn of(keeper: &impl Keeper, session: SessionNo) -> Kept {
    let kept = wait(keeper.kept()).unwrap();
    kept.into_iter().find(|one| one.snapshot.session == session).unwrap()
}

fn listed(store: &impl Writable) -> Vec<SessionNo> {
    wait(store.snapshots()).unwrap().snapshots.iter().map(|snapshot| snapshot.session).collect()
}

fn keeps_the_rules<S: Writable + Keeper>(one: &S, two: &S, me: DeviceId) {
    assert_eq!(kept(one), []);
    let s: Vec<SessionNo> = (0..3).map(|_| commit(one, me)).collect();
    assert_eq!(kept(two), [(s[0], false, false), (s[1], false, false), (s[2], false, false)]);

    // Into the trash, for 14 days at least, and again is no new time.
    let before = wait(two.version()).unwrap();
    wait(one.trash(&s[1..2])).unwrap();
    assert!(wait(two.version()).unwrap() > before);
    assert_eq!((listed(two), kept(two)[1]), (vec![s[0], s[2]], (s[1], true, false)));
    let until = of(two, s[1]).purge_after.unwrap();
    assert!(until.secs > now().secs + 14 * 86_400 - 3600, "{until:?}");
    wait(two.trash(&s[1..2])).unwrap();
    assert_eq!(of(one, s[1]).purge_after, Some(until));

    // All of them or none.
    assert_eq!(rule(wait(one.trash(&[s[0], SessionNo(999)]))), RuleBroken::UnknownSnapshot);
    wait(one.hold(&s[1..], true)).unwrap();
    assert_eq!(rule(wait(two.trash(&[s[0], s[2]]))), RuleBroken::Held);
    assert_eq!(kept(two), [(s[0], false, false), (s[1], true, true), (s[2], false, true)]);
    for unknown in [one.untrash(&[SessionNo(999)]), one.hold(&[SessionNo(999)], true)] {
        assert_eq!(rule(wait(unknown)), RuleBroken::UnknownSnapshot);
    }

    // Back, with what was live all the time.
    wait(two.untrash(&s)).unwrap();
    assert_eq!((listed(one), of(one, s[1]).purge_after), (s.clone(), None));
    wait(one.hold(&s, false)).unwrap();
    wait(one.trash(&s)).unwrap();
    assert_eq!((listed(two), kept(two).len()), (Vec::new(), 3));

    // Labels, of what is in the trash as well.
    wait(two.untrash(&s[..1])).unwrap();
    let longest = vec![7; LABEL_MAX];
    for session in &s[..2] {
        wait(one.relabel(*session, &longest)).unwrap();
        assert_eq!(of(two, *session).snapshot.label, longest);
    }
    assert_eq!(wait(two.snapshots()).unwrap().snapshots[0].label, longest);
    assert_eq!(rule(wait(one.relabel(s[0], &[7; LABEL_MAX + 1]))), RuleBroken::LabelTooLong);
    assert_eq!(rule(wait(one.relabel(SessionNo(999), &[1]))), RuleBroken::UnknownSnapshot);
}

#[test]
fn memory_keeps_the_rules() {
    let store = MemoryStore::new(VAULT);
    keeps_the_rules(&store.clone(), &store, ANY[0]);
}

#[test]
fn a_folder_keeps_the_rules() {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path().join("vault");
    let one = FolderStore::create(&folder, VAULT).unwrap();
    keeps_the_rules(&one, &FolderStore::open(&folder).unwrap(), ANY[0]);
}

#[test]
fn an_account_keeps_the_rules() {
    let (_room, one, two) = crate::account::two_owners();
    keeps_the_rules(&one, &two, one.account().device());
}
