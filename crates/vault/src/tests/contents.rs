//! Bytes of files in every form the format has.

use crate::fixture::{Counting, PackWriter, TreeWriter, World, dir, file, holds};
use crate::{Locked, Vault, VaultConfig};
use backupengine_format::page::{Content, Extent, ExtentPage, ExtentPageRef, ExtentRows, Xattr, XattrValue};
use backupengine_model::{
    ContentReader, DataSpan, FrameKind, NodeId, ReadFailure, SessionNo, SpanKind, TreeReader,
};
use backupengine_store::BlobKey;
use std::sync::Arc;
use std::time::Duration;

/// Bytes that differ at every place.
pub(super) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        })
        .collect()
}

/// Runs of these lengths, holes where `None`; the file's bytes come out too.
fn runs(lens: &[(u64, bool)]) -> (Vec<u8>, Vec<Option<Vec<u8>>>) {
    let mut bytes = Vec::new();
    let mut parts = Vec::new();
    for (n, &(len, data)) in lens.iter().enumerate() {
        let part = if data { pattern(len as usize, n as u64) } else { vec![0; len as usize] };
        bytes.extend(&part);
        parts.push(data.then_some(part));
    }
    (bytes, parts)
}

fn extents(pack: &mut PackWriter, lens: &[(u64, bool)], parts: &[Option<Vec<u8>>]) -> Vec<Extent> {
    let frame = |pack: &mut PackWriter, part: &Option<Vec<u8>>| {
        part.as_ref().map(|part| pack.frame(FrameKind::Data, part))
    };
    lens.iter().zip(parts).map(|(&(len, _), part)| Extent { len, frame: frame(pack, part) }).collect()
}

fn page(pack: &mut PackWriter, level: u8, rows: ExtentRows) -> ExtentPageRef {
    let len = match &rows {
        ExtentRows::Extents(rows) => rows.iter().map(|row| row.len).sum(),
        ExtentRows::Pages(rows) => rows.iter().map(|row| row.len).sum(),
    };
    let bytes = ExtentPage { level, rows }.encode();
    ExtentPageRef { len, frame: pack.frame(FrameKind::Extents, &bytes) }
}

pub(super) fn id(vault: &Vault, session: SessionNo, name: &str) -> NodeId {
    vault.lookup(NodeId::root(session), name.as_bytes()).unwrap().unwrap().id
}

/// Reads in every alignment worth trying.
pub(super) fn check(vault: &Vault, id: NodeId, bytes: &[u8]) {
    let size = bytes.len() as u64;
    for offset in [0, 1, size / 3, size / 2, size.saturating_sub(1), size, size + 1, u64::MAX] {
        for len in [0, 1, 100, bytes.len(), bytes.len() + 10] {
            let mut out = vec![0xee; len];
            let n = vault.read_at(id, offset, &mut out).unwrap();
            let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
            assert_eq!(n, len.min(rest.len()), "{offset} {len}");
            assert!(out[..n] == rest[..n], "{offset} {len}");
        }
    }
}

/// All runs of a file as the port tells them.
fn spans(vault: &Vault, id: NodeId) -> Vec<(u64, SpanKind)> {
    let mut spans: Vec<(u64, SpanKind)> = Vec::new();
    let mut at = 0;
    while let Some(DataSpan { offset, len, kind }) = vault.span(id, at).unwrap() {
        assert!(offset == at && len > 0);
        at += len;
        match spans.last_mut() {
            Some(last) if last.1 == kind => last.0 += len,
            _ => spans.push((len, kind)),
        }
    }
    spans
}

const MIXED: [(u64, bool); 7] =
    [(1000, true), (5000, false), (300, true), (262_144, true), (1, false), (70_000, true), (4096, false)];

#[test]
fn every_form_of_content_reads_at_every_offset() {
    let mut world = World::new();
    let bundle = [pattern(500, 1), pattern(800, 2)].concat();
    let (mixed, parts) = runs(&MIXED);
    let (long_lens, paged_lens) = (vec![(700, true); 150], [(900, true), (800, false)].repeat(100));
    let (long, long_parts) = runs(&long_lens);
    let (paged, paged_parts) = runs(&paged_lens);
    let frames = std::sync::Arc::new(std::sync::Mutex::new(None));
    let bundle_in = |inner: u32| {
        let (frames, bundle) = (frames.clone(), bundle.clone());
        move |pack: &mut PackWriter| {
            let mut frame = frames.lock().unwrap();
            let frame = *frame.get_or_insert_with(|| pack.frame(FrameKind::Data, &bundle));
            Content::Bundle { frame, inner }
        }
    };
    let levels = move |pack: &mut PackWriter| {
        let rows = extents(pack, &paged_lens, &paged_parts);
        let pages: Vec<_> =
            rows.chunks(7).map(|rows| page(pack, 0, ExtentRows::Extents(rows.to_vec()))).collect();
        let upper = pages.chunks(5).map(|rows| page(pack, 1, ExtentRows::Pages(rows.to_vec())));
        Content::Pages(upper.collect())
    };
    let tree = TreeWriter::new([file("empty", b""), file("inline", b"few bytes"), dir("dir")])
        .with(holds("small1", 500, bundle_in(0)))
        .with(holds("small2", 800, bundle_in(500)))
        .with(holds("mixed", mixed.len() as u64, move |p| Content::Extents(extents(p, &MIXED, &parts))))
        .with(holds("long", long.len() as u64, move |p| {
            Content::Extents(extents(p, &long_lens, &long_parts))
        }))
        .with(holds("paged", paged.len() as u64, levels));
    let session = world.push(tree);
    let vault = world.vault();
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("inline", b"few bytes"),
        ("small1", &bundle[..500]),
        ("small2", &bundle[500..]),
        ("mixed", &mixed),
        ("long", &long),
        ("paged", &paged),
    ] {
        check(&vault, id(&vault, session, name), bytes);
    }
    use SpanKind::{Data, Hole};
    let expected = [(1000, Data), (5000, Hole), (262_444, Data), (1, Hole), (70_000, Data), (4096, Hole)];
    assert_eq!(spans(&vault, id(&vault, session, "mixed")), expected);
    assert_eq!(spans(&vault, id(&vault, session, "paged")), [(900, Data), (800, Hole)].repeat(100));
    assert_eq!(spans(&vault, id(&vault, session, "small2")), [(800, Data)]);
    assert_eq!(spans(&vault, id(&vault, session, "empty")), []);
    let wrong = vault.read_at(id(&vault, session, "dir"), 0, &mut [0; 4]).unwrap_err();
    assert_eq!(wrong.failure, ReadFailure::WrongKind);
    assert_eq!(vault.span(NodeId::root(session), 0).unwrap_err().failure, ReadFailure::WrongKind);
}

#[test]
fn a_hole_of_terabytes_costs_no_fetch() {
    let mut world = World::new();
    let size = 3 << 40;
    let content = move |pack: &mut PackWriter| {
        let frame = Some(pack.frame(FrameKind::Data, b"end"));
        Content::Extents(vec![Extent { len: size - 3, frame: None }, Extent { len: 3, frame }])
    };
    let session = world.push(TreeWriter::new([]).with(holds("sparse", size, content)));
    let vault = world.vault();
    let id = id(&vault, session, "sparse");
    let opened = vault.stats().frames_opened;
    let mut out = [1; 4096];
    assert_eq!(vault.read_at(id, 1 << 40, &mut out).unwrap(), 4096);
    assert_eq!((out, vault.stats().frames_opened), ([0; 4096], opened));
    assert_eq!(vault.span(id, 7).unwrap().unwrap().len, size - 10);
    assert_eq!(vault.read_at(id, size - 4, &mut out).unwrap(), 4);
    assert_eq!(&out[..4], b"\0end");
}

#[test]
fn content_that_is_shorter_than_its_file_is_an_error() {
    let mut world = World::new();
    let short =
        |pack: &mut PackWriter| Content::Bundle { frame: pack.frame(FrameKind::Data, b"abc"), inner: 1 };
    // The frame holds 3 bytes, the extent that names it promises 4.
    let wrong = |pack: &mut PackWriter| {
        let frame = Some(pack.frame(FrameKind::Data, b"abc"));
        Content::Extents(vec![Extent { len: 4, frame }])
    };
    let session =
        world.push(TreeWriter::new([]).with(holds("short", 3, short)).with(holds("wrong", 4, wrong)));
    let vault = world.vault();
    for name in ["short", "wrong"] {
        let mut out = [9; 8];
        let error = vault.read_at(id(&vault, session, name), 0, &mut out).unwrap_err();
        assert_eq!((error.failure, out), (ReadFailure::Damaged, [9; 8]), "{name}");
        assert!(error.message.contains(&format!("/{name}: p/")), "{}", error.message);
    }
}

#[test]
fn attributes_values_come_from_pages_and_from_frames() {
    let mut world = World::new();
    let session = world.open_session();
    let mut other = world.pack(session, 5);
    let large = pattern(3000, 9);
    let frame = other.frame(FrameKind::Data, &large);
    crate::fixture::put(&world.store, BlobKey::Pack(session, 5), other.finish(None));
    let xattrs = vec![
        Xattr { name: b"user.a".to_vec(), value: XattrValue::Inline(b"short".to_vec()) },
        Xattr { name: b"user.b".to_vec(), value: XattrValue::Stored { frame, inner: 100, len: 2900 } },
    ];
    let session = world.push(TreeWriter::new([]).with_xattrs("file", xattrs));
    let vault = world.vault();
    let node = vault.lookup(NodeId::root(session), b"file").unwrap().unwrap();
    assert!(node.has_xattrs);
    let values = vault.xattrs(node.id).unwrap();
    assert_eq!(values[0], (b"user.a".to_vec(), b"short"[..].into()));
    assert_eq!(values[1], (b"user.b".to_vec(), large[100..].to_vec().into()));
    assert_eq!(vault.xattrs(NodeId::root(session)).unwrap(), []);
}

/// One file of `count` frames of 256 KiB in pack 0.
fn stream(world: &mut World, count: usize) -> (SessionNo, Vec<u8>) {
    let lens = vec![(262_144, true); count];
    let (bytes, parts) = runs(&lens);
    let size = bytes.len() as u64;
    let content = move |p: &mut PackWriter| Content::Extents(extents(p, &lens, &parts));
    (world.push(TreeWriter::new([]).with(holds("stream", size, content))), bytes)
}

#[test]
fn many_readers_of_one_range_cost_one_read() {
    let mut world = World::new();
    let (session, bytes) = stream(&mut world, 1);
    let mut store = Counting::new(&world);
    store.delay = Duration::from_millis(20);
    let store = Arc::new(store);
    let vault = world.open(store.clone());
    let file = id(&vault, session, "stream");
    let before = store.gets_of(BlobKey::Pack(session, 0));
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (vault, bytes) = (vault.clone(), &bytes);
            scope.spawn(move || {
                let mut out = vec![0; 1000];
                vault.read_at(file, n * 1000, &mut out).unwrap();
                assert!(out == bytes[n as usize * 1000..][..1000]);
            });
        }
    });
    // The pack's trailer once, the frame once.
    assert_eq!(store.gets_of(BlobKey::Pack(session, 0)) - before, 2);
    assert_eq!(vault.stats().frames_opened, 1);
}

/// Waits for other threads, not for ever.
pub(super) fn wait_for(done: impl Fn() -> bool) {
    let tries = (0..2_000).find(|_| {
        std::thread::sleep(Duration::from_millis(5));
        done()
    });
    assert!(tries.is_some(), "what was to be opened ahead was not");
}

#[test]
fn a_stream_is_opened_ahead_and_within_the_budget() {
    let mut world = World::new();
    let (session, bytes) = stream(&mut world, 40);
    for grid in [1, 65_536] {
        let mut store = Counting::new(&world);
        store.grid = grid;
        let store = Arc::new(store);
        let config = VaultConfig { memory: 24 << 20, read_ahead_threads: 2, ..VaultConfig::default() };
        let vault = Locked::open(store.clone()).unwrap().unlock_as(world.keyring.clone(), config).unwrap();
        let file = id(&vault, session, "stream");
        let mut read: Vec<u8> = Vec::new();
        let mut out = vec![0; 100_000];
        loop {
            let n = vault.read_at(file, read.len() as u64, &mut out).unwrap();
            read.extend(&out[..n]);
            if n == 0 {
                break;
            }
            // The third read goes on with the second: from here on the threads have work, and get the time for
            // it even where everything else on the machine is busy.
            if read.len() == 3 * out.len() {
                wait_for(|| vault.stats().frames_ahead > 0);
            }
        }
        assert!(read == bytes);
        let stats = vault.stats();
        assert!(stats.frames_ahead > 0, "{stats:?}");
        assert!(stats.frames_opened <= 40 + 2, "frames were opened twice: {stats:?}");
        for (blob, range) in store.gets.lock().unwrap().iter() {
            if let backupengine_store::Range::At { offset, len } = range {
                assert!(offset % grid == 0 && len % grid == 0, "{blob} {range:?}");
            }
        }
    }
}

#[test]
fn files_announced_are_opened_before_they_are_read() {
    let mut world = World::new();
    let (session, bytes) = stream(&mut world, 3);
    let config = VaultConfig { memory: 24 << 20, read_ahead_threads: 1, ..VaultConfig::default() };
    let locked = Locked::open(Arc::new(Counting::new(&world))).unwrap();
    let vault = locked.unlock_as(world.keyring.clone(), config).unwrap();
    let file = id(&vault, session, "stream");
    vault.will_read(&[NodeId::root(session), file, NodeId { session, place: 99 }]);
    wait_for(|| vault.stats().bytes_opened >= bytes.len() as u64);
    let opened = vault.stats().frames_opened;
    let mut out = vec![0; bytes.len()];
    assert_eq!(vault.read_at(file, 0, &mut out).unwrap(), bytes.len());
    assert!(out == bytes && vault.stats().frames_opened == opened);
}
