//! Live files instead of the store: served where they are the same, never a wrong byte where they are not.

use super::contents::{check, id, pattern, wait_for};
use crate::fixture::{Counting, PackWriter, TreeWriter, World, holds};
use crate::{Locked, SeedPlace, Seeds, Vault, VaultConfig};
use backupengine_format::page::{Content, Extent, ExtentPage, ExtentPageRef, ExtentRows};
use backupengine_model::{
    Attributes, ContentId, ContentReader, FrameKind, FrameLen, FrameRef, NodeId, SessionNo, TreePath,
};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const FULL: usize = 256 << 10;

/// A place, owned: its first frame, and lengths, or where it begins inside.
type Place = (FrameRef, Vec<FrameLen>, Option<u32>);

fn owned(at: &SeedPlace<'_>) -> Place {
    match *at {
        SeedPlace::Chunk { first, lens } => (first, lens.to_vec(), None),
        SeedPlace::Piece { frame, inner } => (frame, Vec::new(), Some(inner)),
    }
}

/// Live files that do whatever a test wants.
#[derive(Default)]
struct Fake {
    live: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    known: Mutex<HashSet<(ContentId, Place)>>,
    reads: AtomicU64,
    bytes: AtomicU64,
    delay: Duration,
    /// Somebody writes to the files all the time.
    restless: AtomicBool,
}

impl Fake {
    fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

impl Seeds for Fake {
    fn resembles(&self, path: &TreePath, _: &Attributes) -> bool {
        self.live.lock().unwrap().contains_key(&path.to_slashes())
    }

    fn read(&self, path: &TreePath, _: &Attributes, offset: u64, out: &mut [u8]) -> bool {
        self.bytes.fetch_add(out.len() as u64, Ordering::Relaxed);
        let nth = self.reads.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(self.delay);
        let live = self.live.lock().unwrap();
        let Some(bytes) = live.get(&path.to_slashes()) else { return false };
        let Some(part) = bytes.get(offset as usize..offset as usize + out.len()) else { return false };
        out.copy_from_slice(part);
        if self.restless.load(Ordering::Relaxed) && nth % 2 == 1 {
            let at = nth as usize * 7919 % out.len();
            out[at] ^= 1;
        }
        true
    }

    fn lies_at(&self, id: ContentId, at: &SeedPlace<'_>) -> bool {
        self.known.lock().unwrap().contains(&(id, owned(at)))
    }
}

/// A vault with one file of chunks and small ones beside it, and seeds that know all of it.
struct Garden {
    world: World,
    session: SessionNo,
    files: BTreeMap<&'static str, Vec<u8>>,
    fake: Arc<Fake>,
}

/// Chunks of these lengths in full frames; 0 is a hole of 70 000 bytes.
fn garden(chunks: &[usize], paged: bool) -> Garden {
    garden_in(chunks, paged, full)
}

/// How a chunk is cut into frames.
type Cut = fn(&[u8]) -> Vec<&[u8]>;

fn full(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.chunks(FULL).collect()
}

/// Frames as a push cuts them where part of a file shrinks and the rest does not: each second one is eight short ones.
fn mixed(bytes: &[u8]) -> Vec<&[u8]> {
    let parts = |(n, part): (usize, _)| <[u8]>::chunks(part, if n % 2 == 0 { FULL / 8 } else { FULL });
    bytes.chunks(FULL).enumerate().flat_map(parts).collect()
}

/// Chunks of these lengths, cut into frames like this.
fn garden_in(chunks: &[usize], paged: bool, cut: Cut) -> Garden {
    let mut world = World::new();
    let ids = world.keyring.content_ids();
    let fake = Arc::new(Fake::default());
    let part = |n: usize, len: usize| if len == 0 { vec![0; 70_000] } else { pattern(len, n as u64 + 1) };
    let parts: Vec<(bool, Vec<u8>)> =
        chunks.iter().enumerate().map(|(n, &len)| (len > 0, part(n, len))).collect();
    let large: Vec<u8> = parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    let (known, key) = (Arc::clone(&fake), ids.clone());
    let content = move |pack: &mut PackWriter| {
        let mut rows = Vec::new();
        for (data, bytes) in &parts {
            if !data {
                rows.push(Extent { len: bytes.len() as u64, frame: None });
                continue;
            }
            let parts = cut(bytes);
            let frames: Vec<FrameRef> = parts.iter().map(|part| pack.raw(FrameKind::Data, part)).collect();
            let len = |(part, frame): (&&[u8], &FrameRef)| FrameLen {
                stored: frame.stored_len,
                plain: part.len() as u32,
            };
            let lens = parts.iter().zip(&frames).map(len).collect();
            known.known.lock().unwrap().insert((key.content_id(bytes), (frames[0], lens, None)));
            let row =
                |(part, frame): (&&[u8], &FrameRef)| Extent { len: part.len() as u64, frame: Some(*frame) };
            rows.extend(parts.iter().zip(&frames).map(row));
        }
        if !paged {
            return Content::Extents(rows);
        }
        let page = |rows: &[Extent], pack: &mut PackWriter| {
            let len = rows.iter().map(|row| row.len).sum();
            let encoded = ExtentPage { level: 0, rows: ExtentRows::Extents(rows.to_vec()) }.encode();
            ExtentPageRef { len, frame: pack.frame(FrameKind::Extents, &encoded) }
        };
        Content::Pages(rows.chunks(3).map(|rows| page(rows, pack)).collect())
    };
    let small = [pattern(300, 77), pattern(5000, 78)];
    let bundle = Arc::new(Mutex::new(None));
    let piece = |n: usize| {
        let (bundle, small, known, key) =
            (Arc::clone(&bundle), small.clone(), Arc::clone(&fake), ids.clone());
        move |pack: &mut PackWriter| {
            let mut frame = bundle.lock().unwrap();
            let frame = *frame.get_or_insert_with(|| pack.frame(FrameKind::Data, &small.concat()));
            let inner = [0, 300][n];
            let place = (frame, Vec::new(), Some(inner));
            known.known.lock().unwrap().insert((key.content_id(&small[n]), place));
            Content::Bundle { frame, inner }
        }
    };
    let tree = TreeWriter::new([])
        .with(holds("large", large.len() as u64, content))
        .with(holds("small0", 300, piece(0)))
        .with(holds("small1", 5000, piece(1)));
    let session = world.push(tree);
    let [small0, small1] = small;
    let files = BTreeMap::from([("large", large), ("small0", small0), ("small1", small1)]);
    let garden = Garden { world, session, files, fake };
    garden.grow_back();
    garden
}

const CHUNKS: [usize; 7] = [300_000, 2 * FULL + 5, 1000, 0, FULL + 1, 800_000, 3 * FULL];

impl Garden {
    /// All live files as they were pushed.
    fn grow_back(&self) {
        let live = self.files.iter().map(|(name, bytes)| (format!("/{name}").into_bytes(), bytes.clone()));
        *self.fake.live.lock().unwrap() = live.collect();
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        change(self.fake.live.lock().unwrap().get_mut(format!("/{name}").as_bytes()).unwrap());
    }

    fn vault(&self) -> Vault {
        let vault = self.world.vault();
        vault.seed_from(Arc::clone(&self.fake) as Arc<dyn Seeds>);
        vault
    }

    /// Reads everything in many ways; how many frames of data were opened for it.
    fn check(&self, vault: &Vault) -> u64 {
        let found: Vec<_> =
            self.files.iter().map(|(name, bytes)| (id(vault, self.session, name), bytes)).collect();
        let before = vault.stats().frames_opened;
        found.into_iter().for_each(|(id, bytes)| check(vault, id, bytes));
        vault.stats().frames_opened - before
    }
}

#[test]
fn what_is_the_same_on_this_device_is_not_fetched() {
    for (paged, cut, pages) in
        [(false, full as Cut, 0), (true, full, 6), (false, mixed, 0), (true, mixed, 22)]
    {
        let garden = garden_in(&CHUNKS, paged, cut);
        let vault = garden.vault();
        let opened = garden.check(&vault);
        // Extent pages are the snapshot's own.
        assert_eq!(opened, pages, "{:?}", vault.stats());
        assert!(vault.stats().bytes_seeded >= garden.files["large"].len() as u64 - 70_000);
        // Without seeds all of it comes from the store.
        let plain = garden.world.vault();
        assert!(garden.check(&plain) > 12 && plain.stats().bytes_seeded == 0);
    }
}

#[test]
fn whatever_became_of_the_files_the_snapshot_is_shown() {
    let mut state = 9_u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let garden = garden_in(&CHUNKS, false, mixed);
    let all_known = garden.fake.known.lock().unwrap().clone();
    let mut seeded = 0;
    for round in 0..60 {
        garden.grow_back();
        for name in ["large", "small0", "small1"] {
            for _ in 0..draw(3) {
                garden.change(name, |bytes| match draw(5) {
                    0 if !bytes.is_empty() => bytes.truncate(draw(bytes.len())),
                    1 => bytes.extend([7; 1000]),
                    2 if !bytes.is_empty() => bytes.rotate_left(1),
                    3 => bytes.clear(),
                    _ => {
                        let at = draw(bytes.len().max(1));
                        bytes.iter_mut().skip(at).take(1 + draw(9)).for_each(|byte| *byte ^= 0x55);
                    }
                });
            }
        }
        garden.fake.restless.store(round % 4 == 3, Ordering::Relaxed);
        // Some records are lost, some speak of another place.
        let mut known = HashSet::new();
        for (id, (frame, lens, inner)) in &all_known {
            let elsewhere = FrameRef { offset: frame.offset + 1, ..*frame };
            let place = match draw(6) {
                0 => continue,
                1 => elsewhere,
                _ => *frame,
            };
            known.insert((*id, (place, lens.clone(), *inner)));
        }
        *garden.fake.known.lock().unwrap() = known;
        let vault = garden.vault();
        garden.check(&vault);
        seeded += vault.stats().bytes_seeded;
    }
    assert!(seeded > 1 << 20, "the seeds were never used");
}

#[test]
fn chunks_that_cannot_be_told_apart_come_from_the_store() {
    let garden = garden(&[FULL, 3 * FULL, 5], false);
    assert!(garden.check(&garden.vault()) >= 4);
}

#[test]
fn a_place_must_be_the_very_one() {
    // Two files of the same length that changed places on the disk, and in the index of a device.
    let garden = garden(&[FULL + 3, FULL + 4], false);
    let swap = |bytes: &mut Vec<u8>| bytes.rotate_left(FULL + 3);
    garden.change("large", swap);
    let opened = garden.check(&garden.vault());
    assert!(opened >= 4, "{opened} frames");
}

#[test]
fn a_file_that_disappoints_is_left_alone() {
    const HALF: usize = FULL / 2 + 1;
    let garden = garden(&[HALF; 20], false);
    garden.change("large", |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 1));
    let vault = garden.vault();
    let large = id(&vault, garden.session, "large");
    let mut out = [0; 10];
    for n in 0..20 {
        vault.read_at(large, n * HALF as u64, &mut out).unwrap();
    }
    assert_eq!(garden.fake.reads(), 3);
    // Another file is another matter.
    let small = id(&vault, garden.session, "small0");
    vault.read_at(small, 0, &mut out).unwrap();
    assert_eq!((garden.fake.reads(), vault.stats().bytes_seeded), (4, 300));
}

#[test]
fn a_byte_costs_no_more_than_its_chunk() {
    let garden = garden(&[3 * FULL + 17; 30], false);
    let vault = garden.vault();
    let large = id(&vault, garden.session, "large");
    let mut out = [0; 1];
    vault.read_at(large, 15 * (3 * FULL as u64 + 17) + 1, &mut out).unwrap();
    assert_eq!(garden.fake.bytes.load(Ordering::Relaxed), 3 * FULL as u64 + 17);
    // And the rest of the chunk nothing more.
    vault.read_at(large, 15 * (3 * FULL as u64 + 17) + 2 * FULL as u64, &mut out).unwrap();
    assert_eq!(garden.fake.bytes.load(Ordering::Relaxed), 3 * FULL as u64 + 17);
}

#[test]
fn readers_of_one_chunk_share_one_look() {
    let mut garden = garden(&[4 * FULL], false);
    Arc::get_mut(&mut garden.fake).unwrap().delay = Duration::from_millis(20);
    let vault = garden.vault();
    let large = id(&vault, garden.session, "large");
    let opened = vault.stats().frames_opened;
    std::thread::scope(|scope| {
        for n in 0..8_u64 {
            let (vault, bytes) = (vault.clone(), &garden.files["large"]);
            scope.spawn(move || {
                let (mut out, at) = (vec![0; 100_000], n * 110_000);
                assert_eq!(vault.read_at(large, at, &mut out).unwrap(), out.len());
                assert!(out == bytes[at as usize..][..100_000]);
            });
        }
    });
    assert_eq!((garden.fake.reads(), vault.stats().frames_opened), (4, opened));
}

#[test]
fn nothing_is_fetched_ahead_of_what_lies_here() {
    let garden = garden(&[FULL + 9; 40], false);
    let open = || {
        let mut store = Counting::new(&garden.world);
        store.grid = 65_536;
        let config = VaultConfig { memory: 24 << 20, read_ahead_threads: 2, ..VaultConfig::default() };
        let locked = Locked::open(Arc::new(store)).unwrap();
        let vault = locked.unlock_as(garden.world.keyring.clone(), config).unwrap();
        vault.seed_from(Arc::clone(&garden.fake) as Arc<dyn Seeds>);
        vault
    };
    let read = |vault: &Vault, large: NodeId, until: usize| {
        let (mut at, mut out) = (0, vec![0; 100_000]);
        while at < until {
            let n = vault.read_at(large, at as u64, &mut out).unwrap();
            assert!(n > 0 && out[..n] == garden.files["large"][at..at + n]);
            at += n;
        }
    };
    let vault = open();
    let large = id(&vault, garden.session, "large");
    let small = id(&vault, garden.session, "small1");
    let opened = vault.stats().frames_opened;
    vault.will_read(&[large, small]);
    read(&vault, large, garden.files["large"].len());
    assert_eq!((vault.stats().frames_opened, vault.stats().frames_ahead), (opened, 0));
    // Once they turn out to be wrong, reading ahead is as it was.
    garden.change("large", |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 1));
    let vault = open();
    let large = id(&vault, garden.session, "large");
    read(&vault, large, 20 * FULL);
    wait_for(|| vault.stats().frames_ahead > 0);
}
