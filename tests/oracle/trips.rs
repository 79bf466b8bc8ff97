//! Round trips are counted, not seconds: what a mount asks of the store does not grow with the vault.

use crate::world::{LENIENT, World, list, read, resolve};
use backupengine_model::{ContentReader, NodeId, TreeReader};
use backupengine_store::{BlobKey, Writable};
use backupengine_testkit::build::{TestVault, Unwatched};
use backupengine_testkit::oracle::{Content, Tree, differences, disk, sample, sample::path};
use backupengine_testkit::recording::Call;
use backupengine_testkit::{Recording, Strict};
use backupengine_vault::{Locked, Vault, VaultConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// A vault of 20 snapshots, each with `files` files more than the one before.
fn twenty(files: usize) -> World {
    let mut world = World::new(TestVault::in_memory());
    for snapshot in 0..20 {
        let dir = path(format!("dir {snapshot}"));
        world.tree.mkdir(&dir).unwrap();
        for n in 0..files {
            let name = dir.child(format!("file {n}").as_bytes());
            let body = sample::bytes((snapshot * 1000 + n) as u64, 300 + n * 50);
            world.tree.create_file(&name, Content::dense(body)).unwrap();
        }
        world.push();
    }
    world
}

fn recorded(world: &World) -> (Recording, Vault) {
    let recording = Recording::new(Arc::clone(&world.vault.store) as Arc<dyn Writable>);
    let locked = Locked::open(Arc::new(recording.clone())).unwrap();
    // Nothing is opened ahead here: what is counted is what a reader waits for.
    let config = VaultConfig { read_ahead_threads: 0, ..VaultConfig::default() };
    (recording, locked.unlock_as(world.vault.keyring.clone(), config).unwrap())
}

/// From nothing to the names and attributes in "/" of the newest snapshot.
fn first_listing(world: &World) -> Vec<Call> {
    let (recording, vault) = recorded(world);
    let newest = vault.snapshots().unwrap().last().unwrap().session;
    assert_eq!(newest, world.sessions.last().unwrap().1);
    let slots = list(&vault, NodeId::root(newest));
    assert!(!slots.is_empty());
    for slot in slots {
        assert_eq!(vault.node(slot.node.id).unwrap(), slot.node);
    }
    recording.calls()
}

#[test]
fn mounting_and_the_first_listing_cost_the_same_whatever_the_vault_holds() {
    let (small, large) = (first_listing(&twenty(1)), first_listing(&twenty(120)));
    // The vault's id, the list of snapshots, the newest root.
    assert_eq!(small.len(), 3, "{small:?}");
    assert_eq!(large.len(), small.len(), "{large:?}");
}

#[test]
fn reading_the_first_file_costs_a_stated_number_of_trips() {
    let world = twenty(120);
    let (recording, vault) = recorded(&world);
    let session = world.sessions[10].1;
    let mut at = world.source_path();
    at.push(b"dir 3");
    at.push(b"file 60");
    let before = recording.calls().len();
    let file = resolve(&vault, session, &at);
    let size = vault.node(file).unwrap().attributes.size;
    let found = recording.calls().len();
    // The list, the root, and per level of the tree at most a page and the trailer of its pack, once for
    // directories and once for files.
    assert!(found - before <= 2 + 2 * 4, "{:?}", recording.calls());
    read(&vault, file, size);
    let done = recording.calls().len();
    // The frame, and the trailer of its pack unless its pages lie there too.
    assert!(done - found <= 2, "{:?}", recording.calls());
    // Its neighbours share pages and frame.
    at = at.split_last().unwrap().0;
    at.push(b"file 61");
    let next = resolve(&vault, session, &at);
    read(&vault, next, vault.node(next).unwrap().attributes.size);
    assert!(recording.calls().len() - done <= 2, "{:?}", recording.calls());
}

/// What a push goes there and back for, in order; a run of reads of packs (the parent's pages) as one.
fn push_calls(world: &World, store: Arc<dyn Writable>) -> Vec<String> {
    let recording = Recording::new(store);
    let config = world.pusher.config(&world.source());
    let shared: Arc<dyn Writable> = Arc::new(recording.clone());
    world.pusher.push_to(&shared, config, &Unwatched).unwrap();
    let calls = recording.take().into_iter().filter(Call::is_round_trip);
    let mut told: Vec<String> = calls
        .map(|call| match call {
            Call::Get { key: BlobKey::Pack(..), .. } => "pages".to_owned(),
            Call::Get { key: BlobKey::Root(_), .. } => "root".to_owned(),
            Call::Put { key: BlobKey::Pack(..), .. } => "put pack".to_owned(),
            Call::Put { key: BlobKey::Root(_), .. } => "put root".to_owned(),
            Call::OpenSession(_) => "open".to_owned(),
            Call::Commit(_) => "commit".to_owned(),
            other => format!("{other:?}"),
        })
        .collect();
    told.dedup_by(|next, before| *next == "pages" && *before == "pages");
    told
}

/// Nothing is asked that another answer tells already, and nothing that only a changed source needs.
#[test]
fn a_push_asks_no_more_than_it_needs() {
    let mut world = World::new(TestVault::in_memory());
    let watching = |world: &World| Arc::new(Strict::watching(Arc::clone(&world.vault.store)));
    for n in 0..300 {
        let body = sample::bytes(n, 700 + n as usize * 10);
        world.tree.create_file(&path(format!("file {n}")), Content::dense(body)).unwrap();
    }
    disk::bring_to(&Tree::new(), &world.tree, &world.source()).unwrap();
    // Which sessions are committed is asked when the first content is looked up, beside everything else.
    let first = push_calls(&world, watching(&world));
    assert_eq!(first, ["Vault", "Snapshots", "open", "Sessions", "put pack", "put root", "commit"]);
    let unchanged = |store: Arc<dyn Writable>| {
        disk::undisturbed(&world.source(), || {
            push_calls(&world, Arc::clone(&store));
            push_calls(&world, Arc::clone(&store))
        })
    };
    let near = unchanged(Arc::clone(&world.vault.store));
    assert_eq!(near, ["Vault", "Snapshots", "root", "open", "pages", "put root", "commit"]);
    // Far away the parent is looked at, and its pages are read, while the session is being opened.
    let mut far = unchanged(watching(&world));
    let opened = far.iter().position(|call| call == "open").expect("a session is opened");
    assert!((2..=5).contains(&opened), "{far:?}");
    far.remove(opened);
    far.dedup();
    assert_eq!(far, ["Vault", "Snapshots", "root", "pages", "put root", "commit"]);
}

#[test]
fn readers_of_one_range_share_one_read() {
    let mut world = World::new(TestVault::in_memory());
    world.tree.create_file(&path("file"), Content::dense(sample::bytes(1, 200_000))).unwrap();
    let session = world.push();
    let (recording, vault) = recorded(&world);
    let mut at = world.source_path();
    at.push(b"file");
    let file = resolve(&vault, session, &at);
    recording.take();
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for n in 0..8_u64 {
            let (vault, start) = (&vault, &start);
            scope.spawn(move || {
                let mut out = vec![0; 4096];
                start.wait();
                assert_eq!(vault.read_at(file, n * 4096, &mut out).unwrap(), 4096);
                assert!(out == sample::bytes(1, 200_000)[n as usize * 4096..][..4096]);
            });
        }
    });
    let gets = recording.take();
    assert_eq!(gets.len(), 1, "{gets:?}");
}

#[test]
fn a_store_that_watches_sees_whole_blocks_only() {
    let mut world = World::new(TestVault::in_memory());
    world.tree = crate::world::odd_tree();
    let session = world.push();
    // It refuses every range that is not whole blocks, and every blob that no committed session holds.
    let strict = Strict::watching(Arc::clone(&world.vault.store) as Arc<dyn Writable>);
    let vault = world.vault.reader_on(Arc::new(strict));
    let top = world.top(&vault, session);
    let theirs = NodeId::root(world.sessions[0].0);
    assert_eq!(differences(&world.oracle, theirs, &vault, top, LENIENT), [""; 0]);
}

#[test]
fn a_whole_walk_reads_each_page_once() {
    let world = twenty(120);
    let (recording, vault) = recorded(&world);
    let session = world.sessions.last().unwrap().1;
    let walk = || {
        let (mut open, mut count) = (vec![NodeId::root(session)], 0);
        while let Some(dir) = open.pop() {
            for slot in list(&vault, dir) {
                count += 1;
                if slot.node.attributes.kind == backupengine_model::Kind::Directory {
                    open.push(slot.node.id);
                }
            }
        }
        count
    };
    let count = walk();
    assert!(count > 20 * 120);
    let mut gets = recording.take();
    let trips = gets.len();
    gets.sort_by_key(|call| format!("{call:?}"));
    gets.dedup();
    assert_eq!(gets.len(), trips, "nothing is fetched twice");
    assert!(trips < count / 20, "{trips} trips for {count} nodes");
    assert_eq!((walk(), recording.take().len()), (count, 0));
}

/// How many of the pages of the newest snapshot lie in which pack.
fn leaves_by_pack(world: &World) -> BTreeMap<BlobKey, usize> {
    let (_, vault) = recorded(world);
    let mut leaves = BTreeMap::new();
    for leaf in vault.leaves(world.sessions.last().unwrap().1).unwrap() {
        let pack = leaf.unwrap().frame.pack;
        *leaves.entry(BlobKey::Pack(pack.session, pack.number)).or_default() += 1;
    }
    leaves
}

#[test]
fn pages_that_lie_apart_are_fetched_with_the_first_listing() {
    // Where leaves are cut is up to the keys: at times too few lie apart.
    let mut worlds = (0..8).map(|_| twenty(120)).map(|world| (leaves_by_pack(&world), world));
    let (leaves, world) = worlds.find(|(leaves, _)| leaves.len() > 3).expect("pages lie apart");
    let all = leaves.len();
    // Where most leaves are, neighbours come with what is read.
    let most = *leaves.iter().max_by_key(|(pack, count)| (**count, **pack)).unwrap().0;
    let mut packs: BTreeSet<BlobKey> = leaves.into_keys().filter(|pack| *pack != most).collect();
    let session = world.sessions.last().unwrap().1;
    let watching = Arc::new(Strict::watching(Arc::clone(&world.vault.store)));
    let recording = Recording::new(watching as Arc<dyn Writable>);

    // Another client, that knows nothing yet.
    let locked = Locked::open(Arc::new(recording.clone())).unwrap();
    let vault = locked.unlock_as(world.vault.keyring.clone(), VaultConfig::default()).unwrap();
    recording.take();
    let mut at = world.source_path();
    at.push(b"dir 3");
    let dir = resolve(&vault, session, &at);
    assert!(!list(&vault, dir).is_empty());
    let begun = Instant::now();
    while !packs.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{packs:?} were not asked for");
        for call in recording.take() {
            if let Call::Get { key, .. } = call {
                packs.remove(&key);
            }
        }
    }
    // Each pack's end may have come first: what else is on its way is no round trip of what follows.
    loop {
        std::thread::sleep(Duration::from_millis(200));
        if recording.take().is_empty() {
            break;
        }
    }
    // What is left of the tree is not asked for pack by pack.
    let mut open = vec![NodeId::root(session)];
    let mut names = 0;
    while let Some(dir) = open.pop() {
        for slot in list(&vault, dir) {
            names += 1;
            if slot.node.attributes.kind == backupengine_model::Kind::Directory {
                open.push(slot.node.id);
            }
        }
    }
    assert!(names > 20 * 120);
    let asked: Vec<Call> = recording.take().into_iter().filter(Call::is_round_trip).collect();
    assert!(asked.len() < all, "{asked:?}");
}
