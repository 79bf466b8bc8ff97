//! What an owner forgot need not be listed. A server that hides more than that under the same excuse is found out.
use crate::world::World;
use backupengine_maintain::keep;
use backupengine_model::SessionNo;
use backupengine_model::ledger::SnapshotRecord;
use backupengine_store::Keeper;
use backupengine_vault::{Floor, VaultError};

fn forget(world: &World, sessions: &[SessionNo], salt: u8) {
    keep::forget(&world.vault.reader(), &*world.keeper, sessions, [salt; 8]).unwrap();
}

fn listed(world: &World) -> Vec<SnapshotRecord> {
    backupengine_testkit::wait(world.vault.store.snapshots()).unwrap().snapshots
}

fn is_rolled_back(world: &World, floor: &Floor) -> bool {
    match world.client().check_floor(floor) {
        Ok(_) => false,
        Err(VaultError::RolledBack { .. }) => true,
        Err(other) => panic!("{other:?}"),
    }
}

fn sees(world: &World) -> Floor {
    world.client().check_floor(&Floor::default()).unwrap()
}

#[test]
fn only_what_was_forgotten_need_not_be_there() {
    let (world, sessions) = World::with(4);
    let earlier: Vec<Floor> = {
        let hide =
            |from: SessionNo| world.liar.lists(move |list| list.snapshots.retain(|s| s.session <= from));
        let seen = sessions.iter().map(|session| {
            hide(*session);
            sees(&world)
        });
        seen.collect()
    };
    world.liar.lists(|_| ());
    let before = listed(&world);
    forget(&world, &sessions[3..], 1);
    for floor in &earlier {
        assert!(!is_rolled_back(&world, floor));
    }
    // What was seen stays remembered.
    assert_eq!(world.client().check_floor(&earlier[3]).unwrap(), earlier[3]);

    // The next newest is hidden as well.
    let hidden = sessions[2];
    world.liar.lists(move |list| list.snapshots.retain(|s| s.session != hidden));
    assert!(is_rolled_back(&world, &earlier[3]) && is_rolled_back(&world, &earlier[2]));
    // The label that says what was forgotten is told to another snapshot's, or the one before it is shown.
    world.liar.lists(move |list| {
        let label = list.snapshots[2].label.clone();
        list.snapshots[1].label = label;
        list.snapshots.truncate(2);
    });
    assert!(is_rolled_back(&world, &earlier[3]) && is_rolled_back(&world, &earlier[2]));
    world.liar.lists(move |list| list.snapshots = before[..3].to_vec());
    assert!(is_rolled_back(&world, &earlier[3]) && !is_rolled_back(&world, &earlier[2]));
    // Whoever accepts another past gets one.
    assert_eq!(world.client().accept_floor().unwrap().0, earlier[2]);

    // What is pushed after it has to be there.
    world.liar.lists(|_| ());
    let newest = world.grow(9);
    let floor = sees(&world);
    world.liar.lists(move |list| list.snapshots.retain(|s| s.session != newest));
    assert!(is_rolled_back(&world, &floor) && !is_rolled_back(&world, &earlier[3]));
}

#[test]
fn what_others_have_seen_may_be_forgotten_too() {
    let (world, sessions) = World::with(3);
    let other = world.vault.pusher("desktop");
    let theirs = other.push(world.source());
    let floor = sees(&world);
    // The root of the desktop names the newest of the laptop.
    forget(&world, &sessions[1..], 1);
    assert!(!is_rolled_back(&world, &Floor::default()) && !is_rolled_back(&world, &floor));
    let hidden = sessions[0];
    world.liar.lists(move |list| list.snapshots.retain(|s| s.session != hidden));
    assert!(is_rolled_back(&world, &Floor::default()) && is_rolled_back(&world, &floor));
    // Nothing is left of the laptop, and then of what said so: another label says it from then on.
    world.liar.lists(|_| ());
    forget(&world, &sessions[..1], 2);
    assert!(!is_rolled_back(&world, &Floor::default()) && !is_rolled_back(&world, &floor));
    let again = other.push(world.source());
    forget(&world, &[theirs], 3);
    assert!(!is_rolled_back(&world, &floor));
    world.liar.lists(move |list| list.snapshots.retain(|s| s.session != again));
    assert!(is_rolled_back(&world, &floor));
}

#[test]
fn what_was_brought_back_has_to_be_there_again() {
    let (world, sessions) = World::with(3);
    let floor = sees(&world);
    forget(&world, &sessions[1..], 1);
    assert!(!is_rolled_back(&world, &floor));
    keep::bring_back(&world.vault.reader(), &*world.keeper, &sessions[1..2], [2; 8]).unwrap();
    let hidden = sessions[1];
    world.liar.lists(move |list| list.snapshots.retain(|s| s.session != hidden));
    assert!(is_rolled_back(&world, &floor));
    world.liar.lists(|_| ());
    keep::bring_back(&world.vault.reader(), &*world.keeper, &sessions[2..], [3; 8]).unwrap();
    assert_eq!(world.client().check_floor(&floor).unwrap(), floor);
    let hidden = sessions[2];
    world.liar.lists(move |list| list.snapshots.retain(|s| s.session != hidden));
    assert!(is_rolled_back(&world, &floor));
}

#[test]
fn stopped_between_saying_and_doing_nobody_is_alarmed() {
    let (world, sessions) = World::with(3);
    let floor = sees(&world);
    // It is said, and the snapshot is still there.
    let held = world.keeper.hold(&sessions[2..], true);
    backupengine_testkit::wait(held).unwrap();
    let refused = keep::forget(&world.vault.reader(), &*world.keeper, &sessions[2..], [1; 8]);
    assert!(refused.is_err());
    assert_eq!(world.client().check_floor(&floor).unwrap(), floor);
    let list = listed(&world);
    assert_eq!(list.len(), 3);
    backupengine_testkit::wait(world.keeper.hold(&sessions[2..], false)).unwrap();
    forget(&world, &sessions[2..], 2);
    assert!(!is_rolled_back(&world, &floor));
}
