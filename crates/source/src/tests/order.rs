//! The order of the walk, and how far it runs ahead.

use super::{Ground, tree_path};
use crate::{WalkConfig, Walker};
use backupengine_model::{Kind, TreePath};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What std sees below a folder: directories with `true`.
fn see(dir: &Path, out: &mut BTreeSet<(PathBuf, bool)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let (path, is_dir) = entry.map(|e| (e.path(), e.file_type().unwrap().is_dir())).unwrap();
        if is_dir {
            see(&path, out);
        }
        out.insert((path, is_dir));
    }
}

/// Names that sort differently by bytes, by text and by path.
const NAMES: [&[u8]; 9] = [b"a", b"a-", b"a.b", b"a b", b"\x01", b"\xff", b"B", b"ab", b"-"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn every_tree_is_walked_in_tree_order(
        nodes in prop::collection::vec((prop::collection::vec(0..NAMES.len(), 1..5), any::<bool>()), 0..40),
        threads in 1usize..4,
    ) {
        let ground = Ground::new();
        for (parts, is_dir) in nodes {
            let path = parts.iter().fold(ground.base.clone(), |p, &i| p.join(OsStr::from_bytes(NAMES[i])));
            // Some of the planned parents are files by now.
            if is_dir {
                drop(fs::create_dir_all(path));
            } else if fs::create_dir_all(path.parent().unwrap()).is_ok() {
                drop(fs::write(path, b""));
            }
        }
        let (mut last, mut shown, mut listed) = (None::<TreePath>, BTreeSet::new(), BTreeSet::new());
        for batch in Walker::start(WalkConfig { threads, ..ground.config() }).unwrap() {
            prop_assert!(last.as_ref().is_none_or(|last| *last < *batch.path), "{:?} after {:?}", batch.path, last);
            last = Some((*batch.path).clone());
            listed.insert(tree_path(&batch.real));
            for run in [&batch.directories, &batch.others] {
                prop_assert!(run.windows(2).all(|pair| pair[0].name < pair[1].name));
            }
            prop_assert!(batch.directories.iter().all(|e| e.attributes.kind == Kind::Directory));
            for entry in batch.directories.iter().chain(&batch.others) {
                let path = batch.real.join(OsStr::from_bytes(&entry.name));
                shown.insert((path, entry.attributes.kind == Kind::Directory));
            }
        }
        let folders = shown.iter().filter(|(_, is_dir)| *is_dir).map(|(path, _)| tree_path(path));
        prop_assert_eq!(folders.chain([TreePath::root()]).collect::<BTreeSet<_>>(), listed);
        let mut expected = BTreeSet::new();
        see(&ground.base, &mut expected);
        shown.retain(|(path, _)| path.starts_with(&ground.base) && *path != ground.base);
        prop_assert_eq!(shown, expected);
    }
}

#[test]
fn what_runs_ahead_is_bounded() {
    let ground = Ground::new();
    let target = "t/".repeat(2000);
    for dir in 0..100 {
        fs::create_dir(ground.at(&format!("{dir}"))).unwrap();
        for link in 0..40 {
            std::os::unix::fs::symlink(&target, ground.at(&format!("{dir}/{link}"))).unwrap();
        }
    }
    let threads = 3;
    let mut walker = Walker::start(WalkConfig { threads, ..ground.config() }).unwrap();
    let mut links = 0;
    while links < 40 {
        links += walker.next().unwrap().others.len();
    }
    // Nobody takes anything now: the threads go on until they may not any more.
    let (held, waiting) = walker.until_idle(threads);
    assert!(waiting > 0, "all of it was listed ahead: {held} bytes");
    assert!(held < crate::walk::AHEAD + threads * 40 * 5000, "{held} bytes are held");
    assert!(held > crate::walk::AHEAD / 2, "{held} bytes are held");
    links += walker.by_ref().map(|batch| batch.others.len()).sum::<usize>();
    assert_eq!(links, 4000);
    assert!(walker.next().is_none());
}

#[test]
fn a_walk_may_be_dropped_at_any_time() {
    let ground = Ground::new();
    for dir in 0..200 {
        ground.plant(&[&format!("{dir}/f")]);
    }
    for taken in [0, 1, 5, 50] {
        let mut walker = Walker::start(ground.config()).unwrap();
        assert_eq!(walker.by_ref().take(taken).count(), taken);
        drop(walker);
    }
}

#[test]
fn one_directory_of_many_names_is_shared_among_threads() {
    let ground = Ground::new();
    let count = 3 * 8192 + 1;
    for i in 0..count {
        fs::File::create(ground.at(&format!("{i}"))).unwrap();
    }
    let batch = Walker::start(WalkConfig { threads: 3, ..ground.config() })
        .unwrap()
        .find(|batch| *batch.real == ground.base)
        .unwrap();
    assert_eq!(batch.others.len(), count);
    assert!(batch.others.windows(2).all(|pair| pair[0].name < pair[1].name));
}
