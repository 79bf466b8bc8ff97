//! A file of three terabytes that is nearly all hole.

use crate::{push, restored, shown};
use backupengine_model::{ContentReader, DataSpan, NodeId, SpanKind, TreeReader};
use backupengine_testkit::build::TestVault;
use backupengine_testkit::system::Tmpfs;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};

const SIZE: u64 = 3 << 40;

#[test]
fn a_sparse_file_of_three_terabytes() {
    // Whatever lies below the temporary folder: this one takes files of any size.
    let disk = Tmpfs::new("size=64m");
    let source = disk.path().join("source");
    fs::create_dir(&source).unwrap();
    let file = fs::File::create(source.join("huge")).unwrap();
    file.set_len(SIZE).unwrap();
    let middle = vec![7u8; 300_000];
    file.write_all_at(b"start", 0).unwrap();
    file.write_all_at(&middle, 1 << 40).unwrap();
    file.write_all_at(b"end", SIZE - 3).unwrap();

    let vault = TestVault::in_memory();
    let pusher = vault.pusher("laptop");
    let (session, report) = push(&pusher, &source);
    assert!(report.notices.is_empty(), "{:?}", report.notices);
    assert!(report.stats.bytes_read < 2 << 20, "{} bytes were read", report.stats.bytes_read);

    let reader = vault.reader();
    let mut node = reader.node(NodeId::root(session)).unwrap();
    for component in source.join("huge").strip_prefix("/").unwrap() {
        node = reader.lookup(node.id, component.as_encoded_bytes()).unwrap().unwrap();
    }
    assert_eq!(node.attributes.size, SIZE);
    let allocated = node.attributes.allocated.unwrap();
    assert!(allocated < 2 << 20, "{allocated} bytes count as data");
    // Data and holes take turns and cover all of it; data is where it was written.
    let mut spans: Vec<DataSpan> = Vec::new();
    let mut at = 0;
    while let Some(span) = reader.span(node.id, at).unwrap() {
        assert_eq!(span.offset, at);
        at += span.len;
        spans.push(span);
    }
    assert_eq!(at, SIZE);
    let is_data = |at: u64| {
        let span = spans.iter().find(|s| at >= s.offset && at - s.offset < s.len).unwrap();
        span.kind == SpanKind::Data
    };
    assert!(is_data(0) && is_data(1 << 40) && is_data((1 << 40) + 299_999) && is_data(SIZE - 1));
    assert!(!is_data(1 << 30) && !is_data((1 << 40) - 5_000_000) && !is_data(2 << 40));
    let read = |from: u64, len: usize| {
        let mut out = vec![0xee; len];
        let read = reader.read_at(node.id, from, &mut out).unwrap();
        out.truncate(read);
        out
    };
    assert_eq!(read(0, 10), b"start\0\0\0\0\0");
    assert_eq!(read(1 << 40, 300_000), middle);
    assert_eq!(read((1 << 40) - 2, 4), [0, 0, 7, 7]);
    assert_eq!(read(SIZE - 5, 100), b"\0\0end");
    assert_eq!(read(2 << 40, 100_000), vec![0; 100_000]);
    assert_eq!(read(SIZE, 10), b"");

    // Unchanged, it is not read again.
    let (_, again) = push(&pusher, &source);
    assert_eq!((again.stats.bytes_read, again.stats.files_unmodified), (0, 1));
    assert_eq!(shown(&vault, session, &source).len(), 2);

    // Restored it is as sparse as it was: otherwise it would not fit.
    let copy = restored(&vault, session, &source, &disk.path().join("target")).join("huge");
    let file = fs::File::open(&copy).unwrap();
    let found = file.metadata().unwrap();
    assert_eq!(found.len(), SIZE);
    assert!(found.blocks() * 512 < 4 << 20, "{} blocks", found.blocks());
    let mut end = [0; 5];
    file.read_exact_at(&mut end, SIZE - 5).unwrap();
    assert_eq!(&end, b"\0\0end");
}
