//! The control plane lies about which snapshots there are, and about what they are.
use crate::liar::{Liar, Lie};
use crate::world::{World, refusal};
use backupengine_model::ledger::{SessionRecord, SessionState, SnapshotRecord};
use backupengine_model::{DeviceId, ReadFailure, SessionNo, SnapshotId, Timestamp, TreeReader, VaultId};
use backupengine_store::{BlobKey, Readable};
use backupengine_testkit::build::VAULT;
use backupengine_vault::{Floor, Locked, VaultConfig, VaultError};
use std::sync::Arc;

type Change = fn(&mut SnapshotRecord);

#[test]
fn lies_about_a_snapshot_are_named() {
    let (world, sessions) = World::with(2);
    let lies: [(&str, Change); 4] = [
        ("id", |record| record.id = SnapshotId([9; 8])),
        ("device", |record| record.device = DeviceId([9; 16])),
        ("time", |record| record.created.secs += 86_400),
        ("time", |record| record.created = Timestamp::default()),
    ];
    for (what, lie) in lies {
        world.liar.lists(move |list| list.snapshots.iter_mut().for_each(lie));
        let said = refusal(&world.client(), sessions[1]).to_string();
        assert!(said.contains(what) && said.contains(&sessions[1].to_string()), "{said}");
    }
}

#[test]
fn labels_of_others_are_not_shown() {
    let (world, sessions) = World::with(2);
    let truth = world.vault.reader().snapshots().unwrap();
    world.liar.lists(|list| {
        let (first, second) = (list.snapshots[0].label.clone(), list.snapshots[1].label.clone());
        (list.snapshots[0].label, list.snapshots[1].label) = (second, first);
    });
    assert_eq!(*world.client().snapshots().unwrap(), *truth);
    world.liar.lists(|list| list.snapshots.iter_mut().for_each(|record| record.label = vec![7; 60]));
    assert_eq!(*world.client().snapshots().unwrap(), *truth);
    assert!(world.client().root(sessions[0]).is_ok());
}

#[test]
fn an_old_list_is_a_rollback_and_the_floor_stays() {
    let (world, sessions) = World::with(3);
    let floor = world.client().check_floor(&Floor::default()).unwrap();
    world.liar.lists(|list| list.snapshots.truncate(2));
    let refused = world.client().check_floor(&floor).unwrap_err();
    let VaultError::RolledBack { device, seen, listed } = &refused else { panic!("{refused:?}") };
    assert_eq!((*device, seen.0, *listed), (world.device.device.key.id(), sessions[2], Some(sessions[1])));
    let said = refused.to_string();
    assert!(said.contains("rollback") && said.contains(&sessions[2].to_string()), "{said}");
    world.liar.lists(|list| list.snapshots.clear());
    let refused = world.client().check_floor(&floor).unwrap_err();
    assert!(matches!(refused, VaultError::RolledBack { listed: None, .. }), "{refused:?}");
    // A list of one that was never pushed here does not raise it either.
    world.liar.lists(|list| list.snapshots[2].session = SessionNo(999));
    let refused = world.client().check_floor(&floor).unwrap_err();
    assert!(!matches!(refused, VaultError::WrongSecret), "{refused:?}");
    world.liar.lists(|_| ());
    assert_eq!(world.client().check_floor(&floor).unwrap(), floor);
}

#[test]
fn a_server_that_calls_a_rollback_a_rebuild_gets_nowhere() {
    let (world, _) = World::with(3);
    let floor = world.client().check_floor(&Floor::default()).unwrap();
    // It forgets devices, times and labels, as after a rebuild from the bucket: all of it is in the roots.
    let forget = |record: &mut SnapshotRecord| {
        record.device = DeviceId([0; 16]);
        record.created = Timestamp::default();
        record.label.clear();
    };
    world.liar.lists(move |list| list.snapshots.iter_mut().for_each(forget));
    assert_eq!(world.client().check_floor(&floor).unwrap(), floor);
    world.liar.lists(move |list| {
        list.snapshots.truncate(2);
        list.snapshots.iter_mut().for_each(forget);
    });
    let refused = world.client().check_floor(&floor).unwrap_err();
    assert!(matches!(refused, VaultError::RolledBack { .. }), "{refused:?}");
    // Or it says so of the newest alone, whose root it withholds.
    let newest = floor.seen[0].1;
    world.liar.says(BlobKey::Root(newest), Lie::Missing);
    world.liar.lists(move |list| list.snapshots.iter_mut().skip(2).for_each(forget));
    let refused = world.client().check_floor(&floor).unwrap_err();
    assert!(matches!(refused, VaultError::RolledBack { .. }), "{refused:?}");
}

#[test]
fn two_clients_that_are_shown_two_pasts_notice_when_either_moves_on() {
    // The server keeps two copies and lets one device push to each: a fork.
    let (world, sessions) = World::with(2);
    let other = world.vault.pusher("desktop");
    other.push(world.source());
    let seen_by_other = world.client().check_floor(&Floor::default()).unwrap();
    assert_eq!(seen_by_other.seen.len(), 2);
    // The desktop pushes once more; the laptop is shown a world without it.
    let hidden = other.push(world.source());
    let desktop = other.device.key.id();
    world.liar.lists(move |list| list.snapshots.retain(|record| record.session != hidden));
    let laptop_floor = world.client().check_floor(&Floor::default()).unwrap();
    // Then the server shows the laptop's view to the desktop: it knows its own newest.
    let desktop_floor = world.vault.reader().check_floor(&Floor::default()).unwrap();
    let refused = world.client().check_floor(&desktop_floor).unwrap_err();
    let VaultError::RolledBack { device, seen, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!((*device, seen.0), (desktop, hidden));
    // Or it shows the laptop a root of the desktop that has seen what is hidden.
    world.write("more", b"more");
    let third = other.push(world.source());
    let own = world.device.push(world.source());
    assert!(own > third && sessions[1] < third);
    world.liar.lists(move |list| {
        list.snapshots.retain(|record| record.session != hidden && record.session != third)
    });
    let refused = world.client().check_floor(&laptop_floor).unwrap_err();
    let VaultError::RolledBack { device, seen, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!(
        (*device, seen.0),
        (desktop, third),
        "the laptop's own root says that the desktop was further"
    );
}

#[test]
fn a_root_exchanged_for_another_real_one_is_a_fork() {
    let (world, sessions) = World::with(1);
    let floor = world.client().check_floor(&Floor::default()).unwrap();
    // Another history of the same keys: the server sent the device elsewhere and brings that back.
    let twin = World::new();
    twin.write("other", b"another past");
    assert_eq!(twin.device.push(twin.source()), sessions[0]);
    let theirs = Liar::around(Arc::clone(&twin.vault.store));
    let list =
        backupengine_testkit::now(backupengine_store::LedgerReader::snapshots(&theirs)).unwrap().snapshots;
    world.liar.says(BlobKey::Root(sessions[0]), Lie::Bytes(theirs.blob(BlobKey::Root(sessions[0]))));
    world.liar.lists(move |shown| shown.snapshots.clone_from(&list));
    let refused = world.client().check_floor(&floor).unwrap_err();
    let VaultError::Forked { session, seen, found, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!(*session, sessions[0]);
    let said = refused.to_string();
    assert!(
        said.contains("fork") && said.contains(&seen.to_string()) && said.contains(&found.to_string()),
        "{said}"
    );
}

#[test]
fn a_dropped_middle_snapshot_is_missed_by_name() {
    let (world, sessions) = World::with(3);
    let (middle, newest) = (sessions[1], sessions[2]);
    let truth = world.truth(newest);
    world.liar.lists(move |list| list.snapshots.retain(|record| record.session != middle));
    let client = world.client();
    assert_eq!(
        client.root(middle).unwrap_err().to_string(),
        format!("there is no snapshot of session {middle}")
    );
    // Nothing else changes, and the newest root still names it by its hash: removal by retention looks the same as
    // long as removals are not signed, so it is no error; whoever looks sees that it was there.
    let named = client.root(newest).unwrap().record.parent;
    assert_eq!(named.map(|(session, _)| session), Some(middle));
    assert_eq!(world.reads(newest, &truth), Ok(()));
}

#[test]
fn a_snapshot_that_never_was_is_not_shown() {
    let (world, _) = World::with(1);
    world.liar.lists(|list| {
        let invented = SnapshotRecord { session: SessionNo(77), ..list.snapshots[0].clone() };
        list.snapshots.push(invented);
    });
    let refused = refusal(&world.client(), SessionNo(77));
    assert_eq!(refused.failure(), ReadFailure::Damaged, "{refused:?}");
}

#[test]
fn a_vault_of_another_name_is_refused() {
    let (world, _) = World::with(1);
    let other = VaultId([9; 16]);
    world.liar.says_it_is(other);
    let locked = Locked::open(Arc::new(world.liar.clone()) as Arc<dyn Readable>).unwrap();
    let refused = locked.unlock_as(world.vault.keyring.clone(), VaultConfig::default()).err().unwrap();
    let VaultError::OtherVault { expected, found } = refused else { panic!("{refused:?}") };
    assert_eq!((expected, found), (other, VAULT));
}

#[test]
fn a_session_of_another_device_is_not_written_on() {
    let (world, sessions) = World::with(1);
    // The server says that a session of another device, which is being written, is this device's own.
    let other = DeviceId([0x77; 16]);
    let theirs = backupengine_testkit::now(world.vault.store.open_session(other, Timestamp::default()))
        .unwrap()
        .session;
    let device = world.device.device.key.id();
    let open = |session, device| SessionRecord::new(session, device, Timestamp::default());
    let committed = SessionRecord { state: SessionState::Committed, packs: 1, ..open(sessions[0], device) };
    world.liar.says_sessions(vec![committed, open(theirs, device)]);
    world.write("new", b"new");
    // The client has no claim of that number in its state: it opens one of its own, or the ledger refuses the commit.
    let pushed = world.device.push_to(
        &world.liar.writable(),
        world.device.config(world.source()),
        &backupengine_testkit::build::Unwatched,
    );
    match pushed {
        Ok(report) => assert_ne!(report.snapshot.unwrap().0, theirs),
        Err(error) => assert!(matches!(error, backupengine_push::PushError::Store(_)), "{error:?}"),
    }
    let listed = world.vault.reader().snapshots().unwrap();
    assert!(listed.iter().all(|snapshot| snapshot.session != theirs));
}

/// What cannot be detected: a client without a memory is shown an old, genuine state. It is told how old it is, and
/// a device that was approved begins with the approver's floor, which closes the case.
#[test]
fn a_new_client_is_told_the_age_of_what_it_is_shown() {
    let (world, sessions) = World::with(3);
    let truth = world.vault.reader().snapshots().unwrap();
    let approvers = world.vault.reader().check_floor(&Floor::default()).unwrap();
    world.liar.lists(|list| list.snapshots.truncate(1));
    let client = world.client();
    let floor = client.check_floor(&Floor::default()).unwrap();
    assert_eq!(floor.seen[0].1, sessions[0], "an old state is believed by who has seen nothing");
    let shown = client.snapshots().unwrap();
    let newest = shown.last().unwrap();
    assert_eq!((newest.session, newest.created), (sessions[0], truth[0].created), "its age is the true one");
    let enrolled = Floor::decode(&approvers.encode()).unwrap();
    assert!(matches!(world.client().check_floor(&enrolled), Err(VaultError::RolledBack { .. })));
}
