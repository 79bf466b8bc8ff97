//! Promise 2 of the mount, as far as a push is responsible: what was there is what is read.
use super::{Bench, Quiet, assert_shows, noise, read, resolve, stored};
use backupengine_model::{ContentReader as _, NodeFlags, SpanKind, TreeReader as _};
use backupengine_source::NoticeKind;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[test]
fn what_was_pushed_is_what_is_read() {
    let bench = Bench::new();
    bench.write("empty", b"");
    bench.write("tiny", b"x");
    bench.write("inline", &noise(1, 128));
    bench.write("small", &noise(2, 129));
    bench.write("a/bundled", &noise(3, 64 << 10));
    bench.write("a/whole", &noise(4, (64 << 10) + 1));
    bench.write("a/text", &b"the same line again and again\n".repeat(100_000));
    bench.write("b/large", &noise(5, 9 << 20));
    (0..700).for_each(|n| bench.write(&format!("many/{}/f{n}", n % 7), &noise(n, (n * 37 % 3000) as usize)));
    symlink("../b/large", bench.src("a/link")).unwrap();
    fs::set_permissions(bench.src("tiny"), fs::Permissions::from_mode(0o4751)).unwrap();
    let (session, stats) = bench.push();
    assert_shows(&bench, session);
    assert_eq!(stats.files_new, 709);
    assert!(stats.chunks_new > 600 && stats.errors == 0 && stats.bytes_stored > stats.bytes_new / 3);
    let listed = bench.vault().list().unwrap();
    assert_eq!(listed[0].tags, ["a", "b"]);
    let totals = bench.vault().totals(session).unwrap();
    assert_eq!((totals.files, totals.bytes), (stats.files_new, stats.bytes_read));
}

#[test]
fn every_name_of_a_hard_linked_file_shows_one_inode() {
    let bench = Bench::new();
    bench.write("b/first", &noise(1, 5000));
    for name in ["b/second", "z", "a"] {
        fs::hard_link(bench.src("b/first"), bench.src(name)).unwrap();
    }
    bench.write("lone", b"has a name outside");
    fs::hard_link(bench.src("lone"), bench.dir.path().join("outside")).unwrap();
    for _ in 0..2 {
        let (session, stats) = bench.push();
        let vault = bench.vault();
        let node = |name: &str| vault.node(resolve(&vault, session, &bench.src(name)).unwrap()).unwrap();
        let first = node("a");
        assert_eq!(first.inode, first.id);
        for name in ["b/first", "b/second", "z"] {
            assert_eq!((node(name).inode, node(name).attributes.nlink), (first.id, 4));
            assert_ne!(node(name).id, first.id);
        }
        assert_eq!(node("lone").inode, node("lone").id);
        assert_eq!(stats.files_new + stats.files_unmodified, 5);
        assert!(stats.bytes_read == 5018 || stats.files_unmodified == 5);
        assert_shows(&bench, session);
    }
}

#[test]
fn holes_stay_holes() {
    let bench = Bench::new();
    let sparse = |name: &str, len: u64, data: &[(u64, &[u8])]| {
        let file = File::create(bench.src(name)).unwrap();
        file.set_len(len).unwrap();
        data.iter().for_each(|(at, bytes)| file.write_all_at(bytes, *at).unwrap());
    };
    sparse("huge", 3 << 40, &[(1 << 40, b"in the middle"), ((3 << 40) - 4, b"end.")]);
    sparse("small", 40_000, &[(20_480, &noise(1, 4096))]);
    sparse("whole", 2 << 20, &[(1 << 20, &noise(2, 100_000))]);
    sparse("nothing", 10 << 20, &[]);
    let (session, stats) = bench.push();
    assert!(stats.bytes_read < 1 << 20, "{}", stats.bytes_read);
    let vault = bench.vault();
    for name in ["huge", "small", "whole", "nothing"] {
        let id = resolve(&vault, session, &bench.src(name)).unwrap();
        let a = vault.node(id).unwrap().attributes;
        let file = File::open(bench.src(name)).unwrap();
        assert_eq!(a.size, file.metadata().unwrap().len());
        assert!(a.allocated.is_some_and(|n| n <= file.metadata().unwrap().blocks() * 512), "{name}");
        let (mut at, mut data) = (0, 0);
        while let Some(span) = vault.span(id, at).unwrap() {
            assert_eq!(span.offset, at);
            at += span.len;
            if span.kind == SpanKind::Data {
                data += span.len;
                let mut is = vec![0; span.len as usize];
                let mut should = is.clone();
                assert_eq!(vault.read_at(id, span.offset, &mut is).unwrap(), is.len());
                file.read_exact_at(&mut should, span.offset).unwrap();
                assert!(is == should);
            }
        }
        assert_eq!((at, Some(data)), (a.size, a.allocated), "{name}");
    }
}

#[test]
fn many_extents_go_to_pages_and_are_taken_over() {
    let bench = Bench::new();
    let file = File::create(bench.src("comb")).unwrap();
    file.set_len(1 << 40).unwrap();
    for n in 0..3000u64 {
        file.write_all_at(&n.to_le_bytes(), n * (300 << 20) + 17).unwrap();
    }
    drop(file);
    let mut packs = Vec::new();
    for round in 0..2 {
        let (session, stats) = bench.push();
        assert_eq!(stats.files_unmodified, round);
        let vault = bench.vault();
        let id = resolve(&vault, session, &bench.src("comb")).unwrap();
        for n in [0u64, 1, 1500, 2999] {
            let mut bytes = [0; 8];
            assert_eq!(vault.read_at(id, n * (300 << 20) + 17, &mut bytes).unwrap(), 8);
            assert_eq!(u64::from_le_bytes(bytes), n);
        }
        let record = vault.root(session).unwrap().record.clone();
        let set =
            vault.frame(backupengine_model::FrameKind::ReferenceSet, &record.reference_set, None).unwrap();
        packs.push(backupengine_format::reference::ReferenceSet::decode(&set).unwrap());
    }
    for (session, numbers) in &packs[0].packs {
        assert!(numbers.iter().all(|n| packs[1].contains(*session, n)), "packs below extent pages are named");
    }
}

#[test]
fn extended_attributes_small_and_large() {
    let bench = Bench::new();
    bench.write("file", b"x");
    bench.write("dir/other", b"y");
    let large = noise(3, 3000);
    let set = |name: &str, key: &str, value: &[u8]| {
        rustix::fs::setxattr(bench.src(name), key, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("file", "user.small", b"value");
    set("file", "user.empty", b"");
    set("file", "user.large", &large);
    set("dir", "user.large", &large);
    set("", "user.root", &large);
    for _ in 0..2 {
        let (session, _) = bench.push();
        let vault = bench.vault();
        let seen = stored(&vault, session, &bench.src(""));
        let names: Vec<_> = seen[Path::new("file")].xattrs.iter().map(|(n, _)| n.clone()).collect();
        assert_eq!(names, [&b"user.empty"[..], b"user.large", b"user.small"]);
        assert!(seen[Path::new("file")].xattrs[1].1 == large);
        assert!(seen[Path::new("dir")].xattrs[0].1 == large);
        let root = resolve(&vault, session, &bench.src("")).unwrap();
        assert!(vault.xattrs(root).unwrap()[0].1 == large);
    }
}

#[test]
fn a_file_that_vanishes_is_told_and_left_out() {
    let bench = Bench::new();
    bench.write("a", &noise(1, 40 << 20));
    bench.write("m1", b"two names, of which one goes");
    fs::hard_link(bench.src("m1"), bench.src("m2")).unwrap();
    bench.write("z", &noise(2, 5000));
    // The first pack is begun while `a` is read, which is more than may be in flight: `z` comes later.
    let random = |out: &mut [u8]| {
        drop((fs::remove_file(bench.src("z")), fs::remove_file(bench.src("m1"))));
        super::random(out);
    };
    let (vault, config, stop) = (bench.vault(), bench.config(), AtomicBool::new(false));
    let report =
        crate::push(&vault, bench.store.clone(), &bench.device, config, &random, &stop, &Quiet).unwrap();
    let told: Vec<_> = report.notices.iter().map(|n| (n.path.clone(), n.kind)).collect();
    let should = [
        (bench.src("m1"), NoticeKind::Vanished),
        (bench.src("m2"), NoticeKind::Unreadable),
        (bench.src("z"), NoticeKind::Vanished),
    ];
    assert_eq!(told, should);
    assert_eq!(report.stats.errors, 1);
    let seen = stored(&vault, report.snapshot.unwrap().0, &bench.src(""));
    assert_eq!(seen.keys().collect::<Vec<_>>(), [Path::new("a")]);
    let (session, _) = bench.push();
    assert_shows(&bench, session);
}

#[test]
fn a_file_that_keeps_changing_is_marked_and_read_again_next_time() {
    let bench = Bench::new();
    bench.write("still", b"still");
    let len: u64 = 72 << 20;
    bench.write("log", &noise(1, len as usize));
    let log = File::options().write(true).open(bench.src("log")).unwrap();
    let round = AtomicU64::new(0);
    // Whenever a pack is begun, every chunk changes. That is so in the first half of each reading: more than
    // 32 MiB are never in flight, and a pack takes no more.
    let random = |out: &mut [u8]| {
        if out.len() == 8 {
            let round = round.fetch_add(1, Ordering::Relaxed);
            (0..len).step_by(64 << 10).for_each(|at| log.write_all_at(&round.to_le_bytes(), at).unwrap());
        }
        super::random(out);
    };
    let (vault, config, stop) = (bench.vault(), bench.config(), AtomicBool::new(false));
    let report =
        crate::push(&vault, bench.store.clone(), &bench.device, config, &random, &stop, &Quiet).unwrap();
    let session = report.snapshot.unwrap().0;
    let vault = bench.vault();
    let node = vault.node(resolve(&vault, session, &bench.src("log")).unwrap()).unwrap();
    assert!(node.attributes.flags.contains(NodeFlags::TORN));
    assert_eq!(report.notices.iter().map(|n| n.kind).collect::<Vec<_>>(), [NoticeKind::Torn]);
    assert_eq!((report.stats.errors, read(&vault, node.id).len()), (0, 72 << 20));
    let (session, stats) = bench.push();
    assert_eq!((stats.files_changed, stats.files_unmodified), (1, 1));
    assert_shows(&bench, session);
}
