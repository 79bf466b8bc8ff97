//! A writer is given no data to read, and pushes all the same.
use crate::world::World;
use backupengine_model::SessionNo;
use backupengine_push::Device;
use backupengine_seal::Role;
use backupengine_store::BlobKey;
use backupengine_testkit::build::{Pusher, Unwatched, VAULT};
use backupengine_testkit::shown;

/// A device with the role of a writer.
fn writer(world: &World) -> Pusher {
    let mut pusher = world.vault.pusher("writer");
    let certificate = world.vault.root_key.certify(VAULT, pusher.device.key.public(), Role::Writer, 0);
    pusher.device = Device { key: pusher.device.key, certificate };
    pusher
}

fn push(world: &World, writer: &Pusher) -> (SessionNo, u64) {
    let report = writer.push_to(&world.liar.writable(), writer.config(world.source()), &Unwatched).unwrap();
    assert!(report.notices.is_empty(), "{:?}", report.notices);
    (report.snapshot.unwrap().0, report.stats.bytes_stored)
}

/// Where a snapshot differs from the folder.
fn differences(world: &World, session: SessionNo) -> Vec<String> {
    let tree = shown::everything(&world.vault.reader(), session).unwrap();
    shown::differences_from_disk(&shown::below(tree, world.source()), world.source())
}

#[test]
fn a_writer_pushes_without_a_look_at_data() {
    let (world, _) = World::with(2);
    let writer = writer(&world);
    world.liar.keeps_to_writer(writer.device.key.id());
    let (first, stored) = push(&world, &writer);
    assert!(stored > 300_000, "nothing of the others' is found again: {stored}");
    assert_eq!(differences(&world, first), Vec::<String>::new());
    // Its metadata lies in packs that hold no data, and the commit names them.
    let commit = world.liar.commits().pop().unwrap();
    let runs = &commit.meta_packs;
    assert!(!runs.is_empty() && runs.iter().all(|run| run.session == first), "{runs:?}");
    assert!(commit.packs > runs.iter().map(|run| run.count).sum(), "{} packs, {runs:?}", commit.packs);
    let vault = world.vault.reader();
    for run in runs {
        for number in run.from..run.from + run.count {
            let kinds = crate::world::kinds_of(&vault, &world.liar.blob(BlobKey::Pack(run.session, number)));
            assert!(kinds.iter().all(|kind| *kind != backupengine_model::FrameKind::Data), "{kinds:?}");
        }
    }
    // The next push builds on it: unchanged files are known, and no pack with data is asked for.
    let denied = world.liar.denied().len();
    world.write("one more", b"one more");
    let (second, stored) = push(&world, &writer);
    assert!(stored < 100_000, "{stored}");
    assert_eq!(world.liar.denied().len(), denied, "{:?}", world.liar.denied());
    assert_eq!(differences(&world, second), Vec::<String>::new());
}

#[test]
fn a_writer_that_lost_its_state_asks_few_times() {
    let (world, _) = World::with(3);
    let first = writer(&world);
    world.liar.keeps_to_writer(first.device.key.id());
    push(&world, &first);
    let before = world.liar.denied().len();
    // The same device with an empty state folder: its own data is not given back to it either.
    let second = writer(&world);
    let (session, _) = push(&world, &second);
    let asked = world.liar.denied().len() - before;
    assert!(asked <= 4, "{asked} packs were asked for in vain");
    assert_eq!(differences(&world, session), Vec::<String>::new());
}
