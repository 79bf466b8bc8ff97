//! A folder of a hundred thousand entries.

use crate::push;
use backupengine_model::{ContentReader, NodeId, TreeReader};
use backupengine_testkit::build::TestVault;
use backupengine_testkit::system::Tmpfs;
use std::collections::BTreeSet;
use std::fs;

const ENTRIES: usize = 100_000;

#[test]
fn a_folder_of_a_hundred_thousand_entries() {
    let disk = Tmpfs::new("size=1g,nr_inodes=200k");
    let source = disk.path().join("wide");
    fs::create_dir(&source).unwrap();
    for number in 0..ENTRIES {
        let bytes: &[u8] = if number % 10 == 0 { b"not empty" } else { b"" };
        fs::write(source.join(format!("entry-{number}")), bytes).unwrap();
    }
    let vault = TestVault::in_memory();
    let pusher = vault.pusher("laptop");
    let (session, report) = push(&pusher, &source);
    assert_eq!((report.stats.files_new, report.stats.errors), (ENTRIES as u64, 0));

    let reader = vault.reader();
    let mut folder = reader.node(NodeId::root(session)).unwrap();
    for component in source.strip_prefix("/").unwrap() {
        folder = reader.lookup(folder.id, component.as_encoded_bytes()).unwrap().unwrap();
    }
    // Listed in parts of an odd size, each name comes once, and in order.
    let mut names: Vec<Vec<u8>> = Vec::new();
    loop {
        let page = TreeReader::list(&reader, folder.id, names.len() as u64, 777).unwrap();
        names.extend(page.slots.into_iter().map(|slot| slot.name));
        if page.end {
            break;
        }
    }
    assert_eq!(names.len(), ENTRIES);
    assert!(names.is_sorted());
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), ENTRIES);
    for number in [0, 1, 4_950, ENTRIES / 2, ENTRIES - 10, ENTRIES - 1] {
        let node = reader.lookup(folder.id, format!("entry-{number}").as_bytes()).unwrap().unwrap();
        let mut out = [0; 20];
        let read = reader.read_at(node.id, 0, &mut out).unwrap();
        assert_eq!(&out[..read], if number % 10 == 0 { &b"not empty"[..] } else { b"" });
    }
    assert_eq!(reader.lookup(folder.id, b"entry-100000").unwrap(), None);

    // Unchanged: nothing is read, next to nothing is stored.
    let (_, again) = push(&pusher, &source);
    assert_eq!(again.stats.files_unmodified, ENTRIES as u64);
    assert_eq!(again.stats.bytes_read, 0);
    assert!(again.stats.bytes_stored <= 16 << 10, "{} bytes were stored", again.stats.bytes_stored);

    // One entry more, in the middle: what is stored is of the size of the change, not of the folder.
    fs::write(source.join("entry-5x"), b"new").unwrap();
    let (_, one_more) = push(&pusher, &source);
    assert_eq!((one_more.stats.files_new, one_more.stats.files_unmodified), (1, ENTRIES as u64));
    assert!(one_more.stats.bytes_stored <= 64 << 10, "{} bytes were stored", one_more.stats.bytes_stored);
}
