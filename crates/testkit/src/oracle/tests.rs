//! The oracle against its definitions and against a real disk.

use super::sample::path;
use super::*;
use backupengine_model::{
    Class, ContentReader, Kind, NodeId, NodeKey, ReadFailure, SessionNo, Timestamp, TreePath, TreeReader,
};

fn pushed(tree: &Tree) -> (Oracle, SessionNo) {
    let oracle = Oracle::new();
    let session = oracle.push(tree, "laptop", Timestamp { secs: 1, nanos: 0 }, &[]);
    (oracle, session)
}

#[test]
fn ranks_follow_the_keys_and_links_show_the_first_name() {
    let tree = sample::everyday();
    let (oracle, session) = pushed(&tree);
    let mut keys: Vec<(NodeKey, TreePath)> = Vec::new();
    for (path, _) in tree.names().skip(1) {
        let kind = tree.get(path).unwrap().attributes.kind;
        let class = if kind == Kind::Directory { Class::Directory } else { Class::Other };
        let (parent, name) = path.split_last().unwrap();
        keys.push((NodeKey::new(class, &parent, name), path.clone()));
    }
    keys.sort();
    for (rank, (_, path)) in keys.iter().enumerate() {
        let node = oracle.at(session, path).unwrap();
        assert_eq!(node.id.rank(), Some(rank as u64), "{path}");
        assert_eq!(oracle.node(node.id).unwrap(), node);
        assert_eq!(oracle.path(node.id).as_ref(), Some(path));
    }
    let inode = |text: &str| oracle.at(session, &path(text)).unwrap().inode;
    let first = oracle.at(session, &path("links/a first in order")).unwrap();
    assert_eq!(first.inode, first.id);
    assert_eq!(inode("links/z first made"), first.id);
    assert_eq!(inode("links/below/third"), first.id);
}

#[test]
fn a_listing_can_be_taken_in_any_steps() {
    let (oracle, session) = pushed(&sample::everyday());
    let dir = oracle.at(session, &path("order")).unwrap().id;
    let whole = oracle.list(dir, 0, 1000).unwrap();
    let names: Vec<_> = whole.slots.iter().map(|s| String::from_utf8_lossy(&s.name).into_owned()).collect();
    assert_eq!(names, ["B", "a", "a-", "a.b", "\u{7f}", "A"]);
    for step in 1..names.len() {
        let mut slots = Vec::new();
        while slots.len() < names.len() {
            slots.extend(oracle.list(dir, slots.len() as u64, step).unwrap().slots);
        }
        assert_eq!(slots, whole.slots);
    }
    assert!(whole.end && oracle.list(dir, 99, 1).unwrap().end);
}

#[test]
fn faults_cost_only_what_they_name() {
    let (oracle, session) = pushed(&sample::everyday());
    let file = oracle.at(session, &path("sizes/131072")).unwrap();
    oracle.fail(file.inode, 1000..2000, ReadFailure::Damaged);
    let mut out = [0; 1000];
    assert_eq!(oracle.read_at(file.id, 0, &mut out).unwrap(), 1000);
    assert_eq!(oracle.read_at(file.id, 2000, &mut out).unwrap(), 1000);
    assert_eq!(oracle.read_at(file.id, 1999, &mut out).unwrap_err().failure, ReadFailure::Damaged);
    oracle.heal();
    assert_eq!(oracle.read_at(file.id, 1999, &mut out).unwrap(), 1000);
    oracle.forget(session);
    assert_eq!(oracle.node(file.id).unwrap_err().failure, ReadFailure::Gone);
}

#[test]
fn comparing_finds_each_kind_of_difference() {
    let tree = sample::everyday();
    let (oracle, session) = pushed(&tree);
    let root = NodeId::root(session);
    let against = |change: &dyn Fn(&mut Tree)| {
        let mut other = tree.clone();
        change(&mut other);
        let (changed, other_session) = pushed(&other);
        differences(&oracle, root, &changed, NodeId::root(other_session), Leniency::default()).len()
    };
    assert_eq!(against(&|_| {}), 0);
    assert_eq!(against(&|t| t.chmod(&path("sizes/1"), 0o600).unwrap()), 1);
    assert_eq!(against(&|t| t.set_xattr(&path("xattrs/file"), b"user.comment", b"other").unwrap()), 1);
    assert!(against(&|t| t.remove(&path("names/-rf")).unwrap()) > 0);
    assert!(against(&|t| t.edit(&path("sizes/5000000"), |c| c.write_at(4_999_999, b"!")).unwrap()) > 0);
    // A link broken up: same bytes, two files.
    assert!(
        against(&|t| {
            let (a, b) = (path("links/below/third"), path("links/a first in order"));
            let body = t.get(&b).unwrap().body.clone();
            t.remove(&a).unwrap();
            let Body::File(content) = body else { panic!("a file") };
            t.create_file(&a, content).unwrap();
        }) > 0
    );
}

#[test]
fn a_tree_written_to_a_disk_is_found_there() {
    let tree = sample::for_this_user();
    let folder = tempfile::tempdir().unwrap();
    disk::write(&tree, folder.path()).unwrap();
    let lenient = Leniency { directories: true, holes: false, blocks: true };
    let root = TreePath::root();
    assert_eq!(disk::differences(&tree, &root, folder.path(), lenient), [""; 0]);

    let mut changed = tree.clone();
    changed.edit(&path("sizes/4097"), |content| content.write_at(10, b"changed")).unwrap();
    changed.remove(&path("links/a first in order")).unwrap();
    changed.rename(&path("order"), &path("names/moved")).unwrap();
    changed.link(&path("sizes/1"), &path("sizes/1 again")).unwrap();
    changed.remove_xattr(&path("xattrs/file"), b"user.comment").unwrap();
    changed.remove(&path("kinds/fifo")).unwrap();
    changed.mkdir(&path("kinds/fifo")).unwrap();
    assert!(!disk::differences(&changed, &root, folder.path(), lenient).is_empty());
    disk::bring_to(&tree, &changed, folder.path()).unwrap();
    assert_eq!(disk::differences(&changed, &root, folder.path(), lenient), [""; 0]);
}
