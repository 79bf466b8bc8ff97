//! Nodes by rank, name and listing, over trees of several levels.

use crate::Vault;
use crate::fixture::{Counting, TreeWriter, World, dir, file, link, path};
use backupengine_format::page::{HardLink, LeafEntry};
use backupengine_model::{DirSlot, Kind, NodeId, NodeKey, ReadFailure, SessionNo, TreePath, TreeReader};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Directories a..f with some below them, and files everywhere: 3 levels of index pages.
fn nodes() -> Vec<LeafEntry> {
    let mut nodes = Vec::new();
    for top in ["a", "b", "c-", "c", "d", "e"] {
        nodes.push(dir(top));
        for n in 0..7 {
            nodes.push(file(&format!("{top}/file{n}"), format!("{top}{n}").as_bytes()));
        }
    }
    for below in ["a/x", "a/x/y", "a/x/y/z", "c/empty", "d/x"] {
        nodes.push(dir(below));
    }
    for n in 0..23 {
        nodes.push(file(&format!("a/x/y/{n:02}"), b"deep"));
    }
    for n in 0..11 {
        nodes.push(dir(&format!("d/x/dir{n}")));
        nodes.push(file(&format!("top{n}"), b"t"));
    }
    nodes.push(link("e/link", b"../a/x"));
    nodes.push(file("d/x/same", b"a file"));
    nodes
}

fn snapshot(tree: TreeWriter) -> (Vault, SessionNo) {
    let mut world = World::new();
    let session = world.push(tree);
    (world.vault(), session)
}

fn listed(vault: &Vault, dir: NodeId, from: u64, max: usize) -> (Vec<DirSlot>, bool) {
    let page = TreeReader::list(vault, dir, from, max).unwrap();
    (page.slots, page.end)
}

fn all(vault: &Vault, dir: NodeId) -> Vec<DirSlot> {
    let (slots, end) = listed(vault, dir, 0, usize::MAX);
    assert!(end);
    slots
}

/// Every node of a snapshot by path, found through listings alone.
fn walk(vault: &Vault, session: SessionNo) -> BTreeMap<TreePath, NodeId> {
    let mut found = BTreeMap::new();
    let mut open = vec![(TreePath::root(), NodeId::root(session))];
    while let Some((path, id)) = open.pop() {
        for slot in all(vault, id) {
            let below = path.child(&slot.name);
            if slot.node.attributes.kind == Kind::Directory {
                open.push((below.clone(), slot.node.id));
            }
            assert_eq!(vault.parent(slot.node.id).unwrap(), id, "{below}");
            assert_eq!(vault.node(slot.node.id).unwrap(), slot.node, "{below}");
            assert_eq!(vault.lookup(id, &slot.name).unwrap(), Some(slot.node.clone()), "{below}");
            assert!(found.insert(below, slot.node.id).is_none());
        }
    }
    found
}

#[test]
fn every_node_is_found_by_rank_name_and_listing() {
    let mut keys: Vec<NodeKey> = nodes().iter().map(LeafEntry::key).collect();
    keys.sort();
    for tree in [TreeWriter::new(nodes()), TreeWriter::new(nodes()).without_listing()] {
        let (vault, session) = snapshot(tree);
        let found = walk(&vault, session);
        assert_eq!(found.len(), nodes().len());
        for node in nodes() {
            let id = found[&node.parent.child(&node.name)];
            let rank = keys.binary_search(&node.key()).unwrap() as u64;
            assert_eq!(id.rank(), Some(rank), "{}", node.parent.child(&node.name));
            assert_eq!(vault.node(id).unwrap().attributes, node.attributes);
        }
        let root = vault.node(NodeId::root(session)).unwrap();
        assert_eq!((root.attributes.kind, root.inode), (Kind::Directory, NodeId::root(session)));
        assert_eq!(vault.parent(root.id).unwrap(), root.id);
    }
}

#[test]
fn a_listing_can_be_resumed_anywhere_with_any_size() {
    let (vault, session) = snapshot(TreeWriter::new(nodes()));
    let found = walk(&vault, session);
    for at in ["", "a", "a/x", "a/x/y", "c", "c/empty", "d/x"] {
        let dir = if at.is_empty() { NodeId::root(session) } else { found[&path(at)] };
        let whole = all(&vault, dir);
        for max in [1, 2, 3, 5, 100] {
            for from in 0..whole.len() as u64 + 2 {
                let (slots, end) = listed(&vault, dir, from, max);
                let rest = whole.get(from as usize..).unwrap_or_default();
                assert_eq!(slots, rest[..slots.len()], "{at} from {from}");
                assert!(!slots.is_empty() || end);
                assert!(slots.len() == max.min(rest.len()) || !end);
                assert!(!end || slots.len() == rest.len());
            }
        }
        assert_eq!(listed(&vault, dir, u64::MAX, 3), (Vec::new(), true));
    }
}

#[test]
fn names_that_are_not_there_are_not_found() {
    let (vault, session) = snapshot(TreeWriter::new(nodes()));
    let root = NodeId::root(session);
    let a = vault.lookup(root, b"a").unwrap().unwrap().id;
    for (dir, name) in [
        (root, &b"zz"[..]),
        (root, b""),
        (root, b"top"),
        (a, b"x\0y"),
        (a, b"file"),
        (a, b"file0\0"),
        (a, &[b'z'; 5000]),
    ] {
        assert_eq!(vault.lookup(dir, name).unwrap(), None, "{name:?}");
    }
    let link = vault.lookup(vault.lookup(root, b"e").unwrap().unwrap().id, b"link").unwrap().unwrap();
    assert_eq!(&vault.read_link(link.id).unwrap()[..], b"../a/x");
    let failure = |error: backupengine_model::ReadError| error.failure;
    assert_eq!(vault.lookup(link.id, b"x").map_err(failure), Err(ReadFailure::WrongKind));
    assert_eq!(
        TreeReader::list(&vault, link.id, 0, 9).map(|_| ()).map_err(failure),
        Err(ReadFailure::WrongKind)
    );
    assert_eq!(vault.read_link(a).map_err(failure), Err(ReadFailure::WrongKind));
    let beyond = NodeId { session, place: 10_000 };
    assert_eq!(vault.node(beyond).map_err(failure), Err(ReadFailure::NotFound));
    let elsewhere = NodeId { session: SessionNo(99), place: 1 };
    assert_eq!(vault.node(elsewhere).map_err(failure), Err(ReadFailure::NotFound));
}

#[test]
fn all_names_of_a_hard_linked_file_show_the_first_ones_inode() {
    let mut nodes = nodes();
    for (at, hard_link) in [
        ("a/x/one", HardLink::First),
        ("b/two", HardLink::Also(path("a/x/one"))),
        ("e/three", HardLink::Also(path("a/x/one"))),
    ] {
        let mut node = file(at, b"shared");
        node.attributes.nlink = 3;
        node.hard_link = hard_link;
        nodes.push(node);
    }
    let (vault, session) = snapshot(TreeWriter::new(nodes));
    let found = walk(&vault, session);
    let first = found[&path("a/x/one")];
    for name in ["a/x/one", "b/two", "e/three"] {
        assert_eq!(vault.node(found[&path(name)]).unwrap().inode, first, "{name}");
    }
    assert_ne!(found[&path("e/three")], first);
}

#[test]
fn leaves_stream_in_key_order() {
    let (vault, session) = snapshot(TreeWriter::new(nodes()));
    let leaves: Vec<_> = vault.leaves(session).unwrap().map(Result::unwrap).collect();
    let keys: Vec<_> = leaves.iter().flat_map(|leaf| leaf.page.entries.iter().map(LeafEntry::key)).collect();
    assert!(keys.is_sorted() && keys.len() == nodes().len());
    for leaf in &leaves {
        assert_eq!(leaf.encoded, leaf.page.encode());
        let again = vault.frame(backupengine_model::FrameKind::Leaf, &leaf.frame, None).unwrap();
        assert_eq!(again, leaf.encoded);
    }
}

#[test]
fn leaves_stream_from_any_key_on() {
    let (vault, session) = snapshot(TreeWriter::new(nodes()));
    let mut keys: Vec<_> = nodes().iter().map(LeafEntry::key).collect();
    keys.sort();
    for (n, key) in keys.iter().enumerate() {
        let leaves = vault.leaves_from(session, key).unwrap().map(Result::unwrap);
        let rest: Vec<_> = leaves.flat_map(|leaf| leaf.page.entries.clone()).map(|e| e.key()).collect();
        assert_eq!(rest, keys[keys.len() - rest.len()..]);
        // At most the one leaf that holds the key comes before it.
        let before = rest.len() - (keys.len() - n);
        assert!(before < 4, "{before}");
    }
}

#[test]
fn an_empty_snapshot_is_an_empty_directory() {
    let (vault, session) = snapshot(TreeWriter::new([]));
    let root = NodeId::root(session);
    assert_eq!(listed(&vault, root, 0, 10), (Vec::new(), true));
    assert_eq!(vault.lookup(root, b"a").unwrap(), None);
    assert_eq!(vault.leaves(session).unwrap().count(), 0);
    assert_eq!(vault.totals(session).unwrap().files, 0);
}

/// Calls to the store from nothing to the first listing of the newest snapshot.
fn calls_to_first_listing(world: &World) -> Vec<String> {
    let store = Arc::new(Counting::new(world));
    let vault = world.open(store.clone());
    let newest = vault.snapshots().unwrap().last().unwrap().session;
    let slots = all(&vault, NodeId::root(newest));
    for slot in &slots {
        // Neither attributes nor look-ups of what was listed cost anything more.
        assert_eq!(vault.node(slot.node.id).unwrap(), slot.node);
        assert!(vault.lookup(NodeId::root(newest), &slot.name).unwrap().is_some());
    }
    assert!(vault.lookup(NodeId::root(newest), b"nothing").unwrap().is_none());
    let calls = store.calls.lock().unwrap().clone();
    assert_eq!(vault.stats().store_calls, calls.len() as u64);
    calls
}

#[test]
fn the_first_listing_costs_three_calls_whatever_the_vault_holds() {
    let mut world = World::new();
    world.push(TreeWriter::new([file("only", b"1")]));
    let small = calls_to_first_listing(&world);
    for _ in 0..20 {
        world.push(TreeWriter::new(nodes()));
    }
    let large = calls_to_first_listing(&world);
    assert_eq!(small.len(), 3, "{small:?}");
    assert_eq!(large.len(), 3, "{large:?}");
}

#[test]
fn pages_are_read_once_while_they_are_kept() {
    let mut world = World::new();
    let session = world.push(TreeWriter::new(nodes()));
    let store = Arc::new(Counting::new(&world));
    let vault = world.open(store.clone());
    let first = walk(&vault, session);
    let calls = store.count();
    assert_eq!(walk(&vault, session), first);
    assert_eq!(store.count(), calls);
}
