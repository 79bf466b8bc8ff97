//! Pushing again: what did not change costs nothing, what is known is not stored twice.
use super::{Bench, assert_shows, noise, resolve};
use crate::dedup::{Content, forge};
use backupengine_model::{Class, ContentReader as _, FrameLen, SessionNo, TreeReader as _};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::AtomicBool;

fn tree(bench: &Bench) {
    for n in 0..3000u64 {
        bench.write(&format!("d{}/e{}/f{n}", n % 10, n % 70), &noise(n, (n * 31 % 900) as usize));
    }
    bench.write("large", &noise(7, 5 << 20));
}

#[test]
fn an_unchanged_tree_reads_nothing_and_stores_a_root() {
    let bench = Bench::new();
    tree(&bench);
    let (first, _) = bench.push();
    let (second, stats) = bench.push();
    assert_eq!((stats.files_unmodified, stats.files_new, stats.files_changed), (3001, 0, 0));
    assert_eq!((stats.bytes_read, stats.bytes_new), (0, 0));
    assert!(stats.bytes_stored < 8 << 10, "{}", stats.bytes_stored);
    assert_shows(&bench, second);
    let vault = bench.vault();
    // Folders above the source may have changed meanwhile: `/tmp` belongs to everybody.
    let new: Vec<_> = vault
        .leaves(second)
        .unwrap()
        .map(Result::unwrap)
        .filter(|leaf| leaf.frame.pack.session == second)
        .map(|leaf| leaf.page.entries[0].class())
        .collect();
    assert!(new.len() <= 1 && !new.contains(&Class::Other), "{new:?}");
    let root = vault.root(second).unwrap();
    assert_eq!(root.record.parent, Some((first, vault.root(first).unwrap().hash)));
}

#[test]
fn one_change_stores_one_file_and_few_pages() {
    let bench = Bench::new();
    tree(&bench);
    bench.push();
    bench.write("d3/e13/f13", &noise(999, 700));
    fs::remove_file(bench.src("d4/e14/f14")).unwrap();
    bench.write("d5/new", &noise(1000, 300));
    fs::create_dir(bench.src("d6/e26/below")).unwrap();
    let (session, stats) = bench.push();
    assert_eq!((stats.files_changed, stats.files_new, stats.files_unmodified), (1, 1, 2999));
    assert_eq!((stats.bytes_read, stats.bytes_new), (1000, 1000));
    assert!(stats.bytes_stored < 64 << 10, "{}", stats.bytes_stored);
    assert_shows(&bench, session);
}

#[test]
fn without_state_everything_is_read_and_nothing_stored_twice() {
    let bench = Bench::new();
    tree(&bench);
    let (_, first) = bench.push();
    fs::remove_dir_all(bench.dir.path().join("state")).unwrap();
    let (session, stats) = bench.push();
    assert_eq!((stats.files_changed, stats.bytes_read), (3001, first.bytes_read));
    // Files below 512 bytes are not looked up.
    assert!(stats.bytes_new * 3 < first.bytes_new && stats.chunks_reused > 1000, "{stats:?}");
    assert_shows(&bench, session);
    let (_, third) = bench.push();
    assert_eq!((third.files_unmodified, third.bytes_read), (3001, 0));
}

#[test]
fn content_that_moves_or_repeats_is_stored_once() {
    let bench = Bench::new();
    for n in 0..40 {
        bench.write(&format!("copies/{n:02}"), &noise(1, 20_000));
        bench.write(&format!("large/{}", n % 3), &noise(2, 6 << 20));
    }
    let (_, stats) = bench.push();
    assert_eq!(stats.bytes_new, 20_000 + (6 << 20));
    fs::rename(bench.src("copies"), bench.src("moved")).unwrap();
    let (session, stats) = bench.push();
    assert_eq!((stats.files_new, stats.bytes_new, stats.chunks_new), (40, 0, 0));
    assert_shows(&bench, session);
    // Five bytes in front move every cut but the first.
    let shifted = [b"12345".to_vec(), noise(2, 6 << 20)].concat();
    bench.write("large/0", &shifted);
    let (session, stats) = bench.push();
    assert!(stats.bytes_new <= 4 << 20 && stats.chunks_reused > 0, "{stats:?}");
    assert_shows(&bench, session);
}

/// Bytes that a reader fetches for 4 KiB of a file that is not there yet.
fn fetched_for_a_little(bench: &Bench, session: SessionNo, name: &str, offset: u64) -> u64 {
    let vault = bench.vault();
    let id = resolve(&vault, session, &bench.src(name)).unwrap();
    let before = vault.stats().bytes_fetched;
    let mut out = [0; 4096];
    vault.read_at(id, offset, &mut out).unwrap();
    let bytes = fs::read(bench.src(name)).unwrap();
    assert!(out == bytes[offset as usize..][..4096], "{name}");
    vault.stats().bytes_fetched - before
}

#[test]
fn of_an_image_a_little_is_fetched_and_it_is_stored_once() {
    const FRAME: u64 = (32 << 10) + 17;
    const FULL: u64 = (256 << 10) + 17;
    let mut bench = Bench::new();
    let image = [b"some text ".repeat(40_000), noise(1, 3 << 20)].concat();
    bench.write("image", &image);
    bench.write("film", &noise(2, 3 << 20));
    // As large as one reader takes whole, and larger: with a hole in front of noise.
    for (name, len) in [("sparse", 3 << 20), ("sparser", 9 << 20)] {
        let file = fs::File::create(bench.src(name)).unwrap();
        file.set_len(len).unwrap();
        file.write_all_at(&noise(len, 1 << 20), 2 << 20).unwrap();
    }
    let wanted = [("image", FRAME), ("film", FULL), ("sparse", FRAME), ("sparser", FRAME)];
    let look = |bench: &Bench, session| {
        assert_shows(bench, session);
        for (name, most) in wanted {
            // The end of a chunk may lie there, and two frames.
            let fetched = fetched_for_a_little(bench, session, name, (5 << 19) + 100);
            assert!(fetched <= 2 * most && fetched > most / 2, "{name}: {fetched}");
        }
    };
    let (session, _) = bench.push();
    look(&bench, session);
    // Found again by another device, whose index is made from footers, and in the index as it is kept.
    bench.other_device();
    for copy in [None, Some("copy")] {
        copy.into_iter().for_each(|name| bench.write(name, &image));
        let (session, stats) = bench.push();
        assert!(stats.bytes_new == 0 && stats.chunks_reused > 1, "{stats:?}");
        look(&bench, session);
    }
}

#[test]
fn places_that_cannot_hold_a_chunk_are_not_taken() {
    let changes: [fn(&mut Vec<FrameLen>); 4] = [
        |lens| lens[0].plain -= 1,
        |lens| lens[0].plain = 0,
        |lens| lens.push(FrameLen { stored: 17, plain: 0 }),
        |lens| lens.truncate(1),
    ];
    for change in changes {
        let bench = Bench::new();
        bench.write("large", &noise(1, 6 << 20));
        let (_, first) = bench.push();
        let keyring = bench.vault().keyring().clone();
        forge(&bench.state().join(format!("dedup-{}", keyring.vault())), &keyring, |place| {
            if let Content::Chunk { lens } = &mut place.content {
                change(lens);
            }
        });
        bench.write("copy", &noise(1, 6 << 20));
        let (session, stats) = bench.push();
        assert_eq!(stats.bytes_new, first.bytes_new, "it is stored again");
        assert_shows(&bench, session);
    }
}

#[test]
fn a_damaged_index_is_rebuilt_from_the_packs() {
    let bench = Bench::new();
    bench.write("a", &noise(1, 50_000));
    bench.push();
    let folder = fs::read_dir(bench.dir.path().join("state"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.file_name().unwrap().to_string_lossy().starts_with("dedup-"))
        .unwrap();
    for damage in ["seg", "index"] {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.ends_with(damage) {
                let len = fs::metadata(&path).unwrap().len();
                let mut bytes = fs::read(&path).unwrap();
                bytes[len as usize / 2] ^= 1;
                bytes[10] ^= 1;
                fs::write(&path, bytes).unwrap();
            }
        }
        bench.write(&format!("copy-{damage}"), &noise(1, 50_000));
        bench.push();
        bench.write(&format!("copy-2-{damage}"), &noise(1, 50_000));
        let (session, stats) = bench.push();
        assert_eq!((stats.chunks_new, stats.chunks_reused), (0, 1), "after damage to {damage}");
        assert_shows(&bench, session);
    }
}

#[test]
fn another_device_finds_what_the_first_one_stored() {
    let mut bench = Bench::new();
    tree(&bench);
    let (first, _) = bench.push();
    bench.other_device();
    let (second, stats) = bench.push();
    assert!(stats.chunks_reused > 1000);
    assert_shows(&bench, second);
    let vault = bench.vault();
    let record = vault.root(second).unwrap().record.clone();
    assert_eq!(record.parent, None);
    assert_eq!(record.others.len(), 1);
    assert_eq!((record.others[0].1, record.others[0].2), (first, vault.root(first).unwrap().hash));
}

#[test]
fn many_pushes_merge_the_index_and_forget_nothing() {
    let bench = Bench::new();
    for n in 0..20u64 {
        bench.write("changing", &noise(n, 1000));
        let (_, stats) = bench.push();
        assert_eq!(stats.chunks_new, 1);
    }
    let segments = || {
        fs::read_dir(bench.dir.path().join("state"))
            .unwrap()
            .flat_map(|e| fs::read_dir(e.unwrap().path()).into_iter().flatten())
            .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "seg"))
            .count()
    };
    assert!(segments() < 10, "{}", segments());
    for n in 0..20u64 {
        bench.write("changing", &noise(n, 1000));
        let (session, stats) = bench.push();
        assert_eq!((stats.chunks_new, stats.chunks_reused), (0, 1));
        assert_shows(&bench, session);
    }
}

#[test]
fn pages_in_too_many_packs_are_written_together() {
    let bench = Bench::new();
    // Sixty leaves or so: how many is up to the keys. Nearly each push leaves a page in a pack of its own.
    for n in 0..20_000u64 {
        bench.write(&format!("d{:02}/f{n}", n / 200), &[]);
    }
    let mut packs = Vec::new();
    for n in 0..60 {
        let folder = n * 100 / 60;
        bench.write(&format!("d{folder:02}/f{}", folder * 200), &noise(n, 10));
        let (session, _) = bench.push();
        packs.push(bench.vault().root(session).unwrap().record.page_packs.len());
    }
    let most = *packs.iter().max().unwrap();
    assert!(most == 34, "{packs:?}");
    let gathered = packs.iter().position(|count| *count == most).unwrap() + 1;
    // Once, and from then on only what changes: one pack more a push, and fewer where it wrote the last page of others anew.
    assert_eq!(packs[gathered], 1, "{packs:?}");
    assert!(gathered < 59 && packs[gathered + 1..].iter().all(|count| *count > 1), "{packs:?}");
    assert!(packs[gathered..].windows(2).all(|two| two[1] <= two[0] + 1), "{packs:?}");
    let (session, stats) = bench.push();
    assert_eq!((stats.bytes_read, stats.files_unmodified), (0, 20_000));
    assert_shows(&bench, session);
}

#[test]
fn a_dry_run_stores_nothing() {
    let bench = Bench::new();
    tree(&bench);
    let mut config = bench.config();
    config.dry_run = true;
    let report = bench.try_push(config, &AtomicBool::new(false)).unwrap();
    assert!(report.snapshot.is_none());
    assert_eq!((report.stats.files_new, report.stats.bytes_stored, report.stats.bytes_read), (3001, 0, 0));
    assert!(report.stats.bytes_new > 5 << 20);
    let vault = bench.vault();
    assert!(vault.ask(vault.store().sessions()).unwrap().is_empty() && bench.packs() == 0);
    let (session, _) = bench.push();
    assert_eq!((session, vault.totals(session).unwrap().files), (SessionNo(1), 3001));
}

#[test]
fn packs_are_full_and_padded() {
    let bench = Bench::new();
    (0..30).for_each(|n| bench.write(&format!("f{n}"), &noise(n, 3 << 20)));
    bench.push();
    let vault = bench.vault();
    let packs = vault.ask(vault.store().list(backupengine_store::BlobKind::Packs)).unwrap();
    let target = backupengine_format::limits::PACK_TARGET;
    assert!(packs.iter().filter(|(_, size)| *size == target).count() >= 1, "{packs:?}");
    assert!(packs.iter().all(|(_, size)| *size <= target));
    assert!(packs.iter().all(|(_, size)| *size == backupengine_format::pack::padme(*size)), "{packs:?}");
    let total: u64 = packs.iter().map(|(_, size)| size).sum();
    assert!(total < (90 << 20) * 105 / 100, "{total}");
}

/// Nothing of it can be the same: what is known of its bytes is in the index, and its pages are not read.
#[test]
fn another_folder_is_pushed_without_reading_the_last_snapshot() {
    let bench = Bench::new();
    tree(&bench);
    let (first, _) = bench.push();
    let other = bench.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("large"), noise(7, 5 << 20)).unwrap();
    let pushed = |roots: &[&std::path::Path]| {
        let mut config = bench.config();
        config.walk.roots = roots.iter().map(|path| path.to_path_buf()).collect();
        let vault = bench.vault();
        let store = std::sync::Arc::clone(&bench.store);
        let stop = AtomicBool::new(false);
        let report = super::push(&vault, store, &bench.device, config, &super::random, &stop, &super::Quiet);
        (report.unwrap(), vault.stats().frames_opened)
    };
    let (report, opened) = pushed(&[&other]);
    let (session, _) = report.snapshot.unwrap();
    assert_eq!(report.stats.bytes_new, 0, "it is stored already");
    let root = bench.vault().root(session).unwrap();
    assert_eq!(root.record.parent, Some((first, bench.vault().root(first).unwrap().hash)));
    assert_eq!(opened, 0);
    let (report, opened) = pushed(&[&other]);
    assert!(opened > 0 && report.stats.files_unmodified == 1, "the same folder's pages count");
}
