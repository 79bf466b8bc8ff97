//! The control plane over HTTP: answers of yesterday, and lists of what never was.
use crate::http_room::Room;
use crate::world::refusal;
use backupengine_model::{ReadFailure, SessionNo, SnapshotId, TreeReader};
use backupengine_store::LedgerReader;
use backupengine_testkit::wait;
use backupengine_vault::{Floor, VaultError};

/// What a client says of a list that ends before what it has seen.
fn rolled_back(room: &Room, floor: &Floor, refused: VaultError, listed: SessionNo) {
    let VaultError::RolledBack { device, seen, listed: found } = &refused else { panic!("{refused:?}") };
    assert_eq!((*device, seen.0), (room.device.device.key.id(), room.newest()));
    assert_eq!(*found, Some(listed));
    let said = refused.to_string();
    assert!(said.contains("rollback") && said.contains(&room.newest().to_string()), "{said}");
    // The floor stays, and holds what is true.
    room.control.is_honest();
    assert_eq!(room.client().check_floor(floor).unwrap(), *floor);
}

#[test]
fn an_opening_answer_of_yesterday_is_a_rollback() {
    let mut room = Room::with(2);
    let yesterday = room.answer_to("mount", |_| {});
    let old = room.newest();
    room.grow();
    let floor = room.client().check_floor(&Floor::default()).unwrap();
    assert_eq!(floor.seen[0].1, room.newest());
    // Genuine, whole, and old: grants, list, lease and envelopes.
    room.control.lies(move |asked, pass| if asked.op() == "mount" { yesterday.clone() } else { pass() });
    let refused = room.client().check_floor(&floor).unwrap_err();
    rolled_back(&room, &floor, refused, old);
}

#[test]
fn a_list_of_yesterday_is_a_rollback_while_it_is_mounted() {
    let mut room = Room::with(1);
    let list = |store: &backupengine_transfer::PresignedStore| drop(wait(store.snapshots()).unwrap());
    let yesterday = room.answer_to("snapshot-list", list);
    let old = room.newest();
    room.grow();
    let store = room.asking_store();
    let floor = room.client_on(&store).check_floor(&Floor::default()).unwrap();
    room.control
        .lies(move |asked, pass| if asked.op() == "snapshot-list" { yesterday.clone() } else { pass() });
    let refused = room.client_on(&store).check_floor(&floor).unwrap_err();
    rolled_back(&room, &floor, refused, old);
}

/// Control plane and storage together: yesterday's list, and yesterday's root under the newest one's name.
#[test]
fn an_old_root_under_the_newest_name_is_damage_and_lowers_nothing() {
    let mut room = Room::with(1);
    let old = room.newest();
    room.grow();
    let floor = room.client().check_floor(&Floor::default()).unwrap();
    let newest = backupengine_store::BlobKey::Root(room.newest());
    room.has(newest, room.blob(backupengine_store::BlobKey::Root(old)));
    let refused = room.client().check_floor(&floor).unwrap_err();
    assert_eq!(refused.failure(), ReadFailure::Damaged, "{refused:?}");
    assert!(refused.to_string().contains(&newest.to_string()), "{refused}");
    room.storage.is_honest();
    assert_eq!(room.client().check_floor(&floor).unwrap(), floor);
}

#[test]
fn lies_about_a_snapshot_are_named() {
    let room = Room::with(2);
    type Change = fn(&mut backupengine_api::SnapshotListed);
    let lies: [(&str, Change); 3] = [
        ("id", |listed| listed.id = SnapshotId([9; 8])),
        ("device", |listed| listed.device = Some("09".repeat(16))),
        ("time", |listed| listed.created.as_mut().unwrap().secs += 86_400),
    ];
    for (what, lie) in lies {
        room.mounts(move |answer| answer.snapshots.snapshots.iter_mut().for_each(lie));
        let said = refusal(&room.client(), room.newest()).to_string();
        assert!(said.contains(what) && said.contains(&room.newest().to_string()), "{said}");
    }
    room.mounts(|answer| {
        let invented =
            backupengine_api::SnapshotListed { session: 77, ..answer.snapshots.snapshots[0].clone() };
        answer.snapshots.snapshots.insert(0, invented);
    });
    let refused = refusal(&room.client(), SessionNo(77));
    assert_eq!(refused.failure(), ReadFailure::Damaged, "{refused:?}");
    // Labels are sealed to their snapshot: exchanged or made up, they are not shown.
    room.control.is_honest();
    let truth = room.client().snapshots().unwrap();
    room.mounts(|answer| {
        let listed = &mut answer.snapshots.snapshots;
        let (first, second) = (listed[0].label.clone(), listed[1].label.clone());
        (listed[0].label, listed[1].label) = (second, first);
    });
    assert_eq!(*room.client().snapshots().unwrap(), *truth);
}
