//! Reading a store across a network: what is asked for, how often, and what is kept.

use crate::fixture::{Counting, PackWriter, TreeWriter, World, holds};
use crate::{Locked, Vault, VaultConfig};
use backupengine_format::page::{Content, Extent};
use backupengine_model::{ContentReader, FrameKind, NodeId, ReadFailure, SessionNo, TreeReader};
use backupengine_store::{BlobKey, BlockCache, END_BLOCK, Range};
use bytes::Bytes;
use std::collections::HashMap;
use std::ops;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const GRID: u64 = 65_536;
pub(crate) const FRAME: usize = 200_000;

/// One file of so many frames that do not compress.
pub(crate) fn noise(world: &mut World, frames: usize) -> (SessionNo, Vec<u8>) {
    let mut state = 88_172_645_463_325_252_u64;
    let bytes: Vec<u8> = (0..frames * FRAME)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect();
    let parts = bytes.clone();
    let content = move |pack: &mut PackWriter| {
        let rows = parts
            .chunks(FRAME)
            .map(|part| Extent { len: FRAME as u64, frame: Some(pack.raw(FrameKind::Data, part)) });
        Content::Extents(rows.collect())
    };
    (world.push(TreeWriter::new([]).with(holds("noise", bytes.len() as u64, content))), bytes)
}

/// Frames of one file, in so many packs of so many frames each: those of earlier pushes, as after a dedup.
fn noise_in_packs(world: &mut World, packs: usize, frames: usize) -> (SessionNo, Vec<u8>) {
    let mut all = Vec::new();
    let mut rows = Vec::new();
    for _ in 0..packs {
        let (session, bytes) = noise(world, frames);
        let vault = world.vault();
        let content = vault.core.tree(session).unwrap();
        let found = content.found(&vault.core.pages, id(&vault, session)).unwrap();
        let Content::Extents(here) = &found.entry().content else { panic!("a file of extents") };
        rows.extend(here.iter().copied());
        all.extend(bytes);
    }
    let content = move |_: &mut PackWriter| Content::Extents(rows);
    (world.push(TreeWriter::new([]).with(holds("noise", all.len() as u64, content))), all)
}

pub(crate) fn far(
    world: &World,
    config: VaultConfig,
    change: impl FnOnce(&mut Counting),
) -> (Arc<Counting>, Vault) {
    let mut store = Counting::new(world);
    store.grid = GRID;
    change(&mut store);
    let store = Arc::new(store);
    let vault = Locked::open(store.clone()).unwrap().unlock_as(world.keyring.clone(), config).unwrap();
    (store, vault)
}

pub(crate) fn id(vault: &Vault, session: SessionNo) -> NodeId {
    vault.lookup(NodeId::root(session), b"noise").unwrap().unwrap().id
}

/// Bytes of each block of the pack that were asked for, and that each range lies on the grid.
fn asked(store: &Counting, blob: BlobKey) -> HashMap<u64, u32> {
    let mut times = HashMap::new();
    for (key, range) in store.gets.lock().unwrap().iter().filter(|(key, _)| *key == blob) {
        match range {
            Range::At { offset, len } => {
                assert!(offset % GRID == 0 && len % GRID == 0, "{key} {range:?}");
                (offset / GRID..(offset + len) / GRID)
                    .for_each(|block| *times.entry(block).or_default() += 1);
            }
            Range::Suffix(len) => assert_eq!(len % GRID, 0),
            Range::Whole => panic!("{key} was fetched whole"),
        }
    }
    times
}

fn read_in_steps(vault: &Vault, file: NodeId, step: usize) -> Vec<u8> {
    let (mut read, mut out) = (Vec::new(), vec![0; step]);
    loop {
        let n = vault.read_at(file, read.len() as u64, &mut out).unwrap();
        if n == 0 {
            return read;
        }
        read.extend_from_slice(&out[..n]);
    }
}

#[test]
fn many_readers_of_one_range_far_away_cost_one_fetch() {
    let mut world = World::new();
    let (session, bytes) = noise(&mut world, 1);
    let config = VaultConfig { read_ahead_threads: 0, ..VaultConfig::default() };
    let (store, vault) = far(&world, config, |store| store.delay = Duration::from_millis(20));
    let file = id(&vault, session);
    std::thread::scope(|scope| {
        for n in 0..8_usize {
            let (vault, bytes) = (vault.clone(), &bytes);
            scope.spawn(move || {
                let mut out = vec![0; 1000];
                vault.read_at(file, n as u64 * 1000, &mut out).unwrap();
                assert!(out == bytes[n * 1000..][..1000]);
            });
        }
    });
    // The frame, and once for the whole pack the trailer at its end.
    let gets = store.gets.lock().unwrap().clone();
    let of_pack: Vec<_> = gets.iter().filter(|(key, _)| *key == BlobKey::Pack(session, 0)).collect();
    assert_eq!(
        of_pack.iter().filter(|(_, range)| matches!(range, Range::At { .. })).count(),
        1,
        "{of_pack:?}"
    );
    assert_eq!(
        of_pack.iter().filter(|(_, range)| matches!(range, Range::Suffix(_))).count(),
        1,
        "{of_pack:?}"
    );
}

#[test]
fn reading_in_order_fetches_each_block_once_and_ahead() {
    let mut world = World::new();
    let (session, bytes) = noise(&mut world, 100);
    let (store, vault) = far(&world, VaultConfig::default(), |store| store.delay = Duration::from_millis(5));
    let file = id(&vault, session);
    assert!(read_in_steps(&vault, file, 128 << 10) == bytes);
    let times = asked(&store, BlobKey::Pack(session, 0));
    assert!(times.values().all(|&times| times == 1), "a block was fetched twice: {times:?}");
    let stats = vault.stats();
    assert!(stats.bytes_ahead > bytes.len() as u64 / 2, "{stats:?}");
}

#[test]
fn one_read_of_many_frames_is_one_round_trip() {
    let mut world = World::new();
    let (session, bytes) = noise(&mut world, 30);
    let far = far(&world, VaultConfig::default(), |store| store.delay = Duration::from_millis(100));
    let (store, vault) = far;
    let file = id(&vault, session);
    let before = store.rounds.load(Ordering::SeqCst);
    let mut out = vec![0; 10 * FRAME];
    // In the middle of the file: nothing was fetched for it before, not even the end of its pack.
    vault.read_at(file, 15 * FRAME as u64, &mut out).unwrap();
    assert!(out == bytes[15 * FRAME..25 * FRAME]);
    assert_eq!(store.rounds.load(Ordering::SeqCst) - before, 1);
}

#[test]
fn reading_in_order_does_not_stop_at_the_borders_of_packs() {
    let mut world = World::new();
    let (session, bytes) = noise_in_packs(&mut world, 8, 10);
    let (store, vault) = far(&world, VaultConfig::default(), |store| store.delay = Duration::from_millis(5));
    let file = id(&vault, session);
    let before = store.rounds.load(Ordering::SeqCst);
    assert!(read_in_steps(&vault, file, 256 << 10) == bytes);
    // 16 MB: a window of 2 MiB, then eight times as much, then the rest; eight packs read one by one would be 16.
    let rounds = store.rounds.load(Ordering::SeqCst) - before;
    assert!(rounds <= 8, "{rounds} round trips");
}

#[test]
fn a_film_read_backwards_is_right_and_fetched_about_once() {
    let mut world = World::new();
    let (session, bytes) = noise(&mut world, 100);
    let (store, vault) = far(&world, VaultConfig { memory: 8 << 20, ..VaultConfig::default() }, |_| {});
    let file = id(&vault, session);
    let mut out = vec![0; 128 << 10];
    let mut at = bytes.len();
    while at > 0 {
        let from = at.saturating_sub(out.len());
        let read = vault.read_at(file, from as u64, &mut out[..at - from]).unwrap();
        assert!(out[..read] == bytes[from..at]);
        at = from;
    }
    let fetched: u32 = asked(&store, BlobKey::Pack(session, 0)).values().sum();
    let blocks = bytes.len() as u64 / GRID;
    assert!(u64::from(fetched) <= blocks * 3 / 2, "{fetched} of {blocks} blocks");
}

#[test]
fn sixty_four_readers_of_sixty_four_files_in_little_memory_read_right() {
    let mut world = World::new();
    let mut tree = TreeWriter::new([]);
    for n in 0..64_u8 {
        let content = move |pack: &mut PackWriter| {
            let frame = |part: u8| pack.raw(FrameKind::Data, &[n ^ part.wrapping_mul(37); 50_000]);
            let rows = (0..8).map(frame).map(|frame| Extent { len: 50_000, frame: Some(frame) });
            Content::Extents(rows.collect())
        };
        tree = tree.with(holds(&format!("file-{n:02}"), 400_000, content));
    }
    let session = world.push(tree);
    let (_, vault) = far(&world, VaultConfig { memory: 4 << 20, ..VaultConfig::default() }, |store| {
        store.delay = Duration::from_millis(1);
    });
    std::thread::scope(|scope| {
        for n in 0..64_u8 {
            let vault = vault.clone();
            scope.spawn(move || {
                let name = format!("file-{n:02}");
                let file = vault.lookup(NodeId::root(session), name.as_bytes()).unwrap().unwrap().id;
                let read = read_in_steps(&vault, file, 100_000);
                assert_eq!(read.len(), 400_000);
                let right = |(at, &byte): (usize, &u8)| byte == n ^ ((at / 50_000) as u8).wrapping_mul(37);
                assert!(read.iter().enumerate().all(right), "{name}");
            });
        }
    });
}

/// A disk on which nothing stays.
struct Full;

impl BlockCache for Full {
    fn get(&self, _: BlobKey, _: u32) -> Option<Bytes> {
        None
    }
    fn put(&self, _: BlobKey, _: u32, _: &Bytes) {}
    fn holds(&self, _: BlobKey, _: u32) -> bool {
        false
    }
    fn drop_blocks(&self, _: BlobKey, _: ops::Range<u32>) {}
}

#[test]
fn a_cache_disk_that_keeps_nothing_is_noticed() {
    let mut world = World::new();
    let (session, bytes) = noise(&mut world, 400);
    let config = VaultConfig { memory: 8 << 20, blocks: Some(Arc::new(Full)), ..VaultConfig::default() };
    let (store, vault) = far(&world, config, |store| store.delay = Duration::from_millis(2));
    assert!(read_in_steps(&vault, id(&vault, session), 128 << 10) == bytes);
    let fetched: u32 = asked(&store, BlobKey::Pack(session, 0)).values().sum();
    let blocks = bytes.len() as u64 / GRID;
    // Up to 32 MiB are fetched for nothing until it is known; then now and then a little more is tried, the more often
    // the slower this machine reads. Where nothing is learnt all comes twice and more: 2 800 blocks at least.
    assert!(u64::from(fetched) <= blocks * 7 / 4, "{fetched} of {blocks} blocks");
}

#[test]
fn reading_here_and_there_in_a_large_file_fetches_little_more_than_it_reads() {
    let mut world = World::new();
    let (session, bytes) = noise(&mut world, 100);
    let (store, vault) = far(&world, VaultConfig::default(), |_| {});
    let file = id(&vault, session);
    let mut out = vec![0; 4096];
    let before = store.gets_of(BlobKey::Pack(session, 0));
    for n in 0..30_usize {
        let at = (n * 37 % 100) * FRAME + 5000;
        vault.read_at(file, at as u64, &mut out).unwrap();
        assert!(out == bytes[at..at + 4096]);
    }
    let fetched: u32 = asked(&store, BlobKey::Pack(session, 0)).values().sum();
    // A frame of 200 kB touches five blocks at most.
    assert!(u64::from(fetched) <= 30 * 5 + 4, "{fetched} blocks");
    assert!(store.gets_of(BlobKey::Pack(session, 0)) - before <= 31);
}

#[test]
fn an_answer_that_is_late_is_asked_for_again() {
    let mut world = World::new();
    let (session, bytes) = noise(&mut world, 100);
    let config = VaultConfig { read_ahead_threads: 0, ..VaultConfig::default() };
    let (_, vault) = far(&world, config, |store| {
        store.delay = Duration::from_millis(2);
        store.stalls = Some((20, Duration::from_secs(3)));
    });
    let file = id(&vault, session);
    let mut out = vec![0; 4096];
    for n in 0..100_usize {
        let at = (n * 37 % 100) * FRAME;
        vault.read_at(file, at as u64, &mut out).unwrap();
        assert!(out == bytes[at..at + 4096]);
    }
    assert!(vault.stats().hedged > 0, "{:?}", vault.stats());
}

#[test]
fn a_fetch_that_breaks_off_is_an_error_and_not_the_end() {
    let mut world = World::new();
    let (session, bytes) = noise(&mut world, 4);
    let config = VaultConfig { read_ahead_threads: 0, ..VaultConfig::default() };
    let (store, vault) = far(&world, config, |_| {});
    let file = id(&vault, session);
    let mut out = vec![0; 4096];
    vault.read_at(file, 0, &mut out).unwrap();
    store.breaks.store(true, Ordering::Relaxed);
    assert!(vault.read_at(file, 3 * FRAME as u64, &mut out).is_err());
    store.breaks.store(false, Ordering::Relaxed);
    assert_eq!(vault.read_at(file, 3 * FRAME as u64, &mut out).unwrap(), 4096);
    assert!(out == bytes[3 * FRAME..][..4096]);
}

/// Blocks in memory, some of them wrong.
#[derive(Default)]
struct Disk {
    blocks: Mutex<HashMap<(BlobKey, u32), Bytes>>,
    dropped: Mutex<Vec<(BlobKey, u32)>>,
}

impl BlockCache for Disk {
    fn get(&self, key: BlobKey, block: u32) -> Option<Bytes> {
        self.blocks.lock().unwrap().get(&(key, block)).cloned()
    }
    fn put(&self, key: BlobKey, block: u32, bytes: &Bytes) {
        self.blocks.lock().unwrap().insert((key, block), bytes.clone());
    }
    fn holds(&self, key: BlobKey, block: u32) -> bool {
        self.blocks.lock().unwrap().contains_key(&(key, block))
    }
    fn drop_blocks(&self, key: BlobKey, blocks: ops::Range<u32>) {
        for block in blocks {
            self.blocks.lock().unwrap().remove(&(key, block));
            self.dropped.lock().unwrap().push((key, block));
        }
    }
}

#[test]
fn blocks_on_this_device_are_not_fetched_again_and_wrong_ones_cost_one_fetch() {
    let mut world = World::new();
    let (session, bytes) = noise(&mut world, 20);
    let blob = BlobKey::Pack(session, 0);
    let disk = Arc::new(Disk::default());
    let config =
        || VaultConfig { read_ahead_threads: 0, blocks: Some(disk.clone()), ..VaultConfig::default() };
    let (_, vault) = far(&world, config(), |_| {});
    assert!(read_in_steps(&vault, id(&vault, session), 1 << 20) == bytes);
    drop(vault);

    let (store, vault) = far(&world, config(), |_| {});
    assert!(read_in_steps(&vault, id(&vault, session), 1 << 20) == bytes);
    assert!(asked(&store, blob).is_empty(), "what lies on the disk was fetched");
    assert!(vault.stats().disk_hits > 0);
    drop(vault);

    // One block has rotted, one is too short: both are fetched anew, and what is shown is right.
    let rotten = |block: u32| {
        let mut bytes = disk.blocks.lock().unwrap()[&(blob, block)].to_vec();
        bytes[100] ^= 1;
        bytes
    };
    let (wrong, short) = (rotten(3), rotten(30)[..200].to_vec());
    disk.put(blob, 3, &wrong.into());
    disk.put(blob, 30, &short.into());
    let (store, vault) = far(&world, config(), |_| {});
    assert!(read_in_steps(&vault, id(&vault, session), 1 << 20) == bytes);
    let times = asked(&store, blob);
    assert!(times.contains_key(&3) && times.contains_key(&30), "{times:?}");
    assert!(!times.contains_key(&15), "{times:?}");
    assert!(disk.dropped.lock().unwrap().contains(&(blob, 3)));
}

#[test]
fn how_near_a_file_is_is_what_reading_it_fetches() {
    let mut world = World::new();
    let (session, bytes) = noise(&mut world, 20);
    let blob = BlobKey::Pack(session, 0);
    let disk = Arc::new(Disk::default());
    // So little memory that nothing stays open.
    let config = || VaultConfig {
        memory: 1 << 20,
        read_ahead_threads: 0,
        blocks: Some(disk.clone()),
        ..VaultConfig::default()
    };
    let (store, vault) = far(&world, config(), |_| {});
    let file = id(&vault, session);
    let gets = store.count();
    let away = vault.nearness(file).unwrap().unwrap();
    assert_eq!(store.count(), gets, "asking how near it is fetched something");
    assert_eq!(away.near, 0);
    assert!(away.stored >= bytes.len() as u64, "{away:?}");

    // A part of it, then the rest: what was fetched is what was said.
    let mut out = vec![0; 5 * FRAME];
    vault.read_at(file, 0, &mut out).unwrap();
    let part = vault.nearness(file).unwrap().unwrap();
    assert!(part.near >= 5 * FRAME as u64 && part.near < away.stored, "{part:?}");
    let fetched = vault.stats().bytes_fetched;
    assert!(read_in_steps(&vault, file, 1 << 20) == bytes);
    assert_eq!(vault.stats().bytes_fetched - fetched, part.to_fetch);
    let whole = vault.nearness(file).unwrap().unwrap();
    assert_eq!((whole.near, whole.to_fetch), (whole.stored, 0));
    drop(vault);

    // By another process: nothing is in memory, and nothing is asked of the store.
    let (store, vault) = far(&world, config(), |_| {});
    let file = id(&vault, session);
    assert_eq!(vault.nearness(file).unwrap(), Some(whole));
    let gets = store.count();
    assert!(read_in_steps(&vault, file, 1 << 20) == bytes);
    assert_eq!(store.count(), gets);
    drop(vault);

    // Without its end a pack cannot be opened; without a block it is not whole.
    disk.drop_blocks(blob, END_BLOCK..END_BLOCK + 1);
    let (_, vault) = far(&world, config(), |_| {});
    let file = id(&vault, session);
    assert_eq!(vault.nearness(file).unwrap().unwrap().to_fetch, GRID);
    disk.drop_blocks(blob, 3..5);
    let less = vault.nearness(file).unwrap().unwrap();
    assert_eq!((less.near, less.to_fetch), (whole.stored - 2 * GRID, 3 * GRID));
}

#[test]
fn a_file_of_a_store_that_is_near_is_near() {
    let mut world = World::new();
    let (session, _) = noise(&mut world, 3);
    let (_, vault) = far(&world, VaultConfig::default(), |store| store.grid = 1);
    let near = vault.nearness(id(&vault, session)).unwrap().unwrap();
    assert_eq!((near.near, near.to_fetch), (near.stored, 0));
    assert!(near.stored > 0);
    let root = vault.nearness(NodeId::root(session)).unwrap_err();
    assert_eq!(root.failure, ReadFailure::WrongKind);
}

#[test]
fn the_end_of_a_pack_and_a_root_are_kept_and_wrong_ones_cost_one_fetch() {
    let mut world = World::new();
    let (session, bytes) = noise(&mut world, 3);
    let disk = Arc::new(Disk::default());
    let config =
        || VaultConfig { read_ahead_threads: 0, blocks: Some(disk.clone()), ..VaultConfig::default() };
    let blobs = [BlobKey::Root(session), BlobKey::Pack(session, 0)];
    let ends = |vault: &Vault, store: &Counting| {
        assert!(read_in_steps(vault, id(vault, session), 1 << 20) == bytes);
        let gets = store.gets.lock().unwrap();
        blobs.map(|blob| {
            gets.iter().filter(|(key, range)| *key == blob && matches!(range, Range::Suffix(_))).count()
        })
    };
    let (store, vault) = far(&world, config(), |_| {});
    assert_eq!(ends(&vault, &store), [1, 1]);
    let (store, vault) = far(&world, config(), |_| {});
    assert_eq!(ends(&vault, &store), [0, 0]);
    for blob in blobs {
        let mut rotten = disk.get(blob, END_BLOCK).unwrap().to_vec();
        let last = rotten.len() - 10;
        rotten[last] ^= 1;
        disk.put(blob, END_BLOCK, &rotten.into());
    }
    let (store, vault) = far(&world, config(), |_| {});
    assert_eq!(ends(&vault, &store), [1, 1]);
}

#[test]
fn what_was_asked_for_is_noted_where_that_is_wanted() {
    let mut world = World::new();
    let (session, bytes) = noise(&mut world, 3);
    let config = VaultConfig { note_touched: true, ..VaultConfig::default() };
    let (store, vault) = far(&world, config, |_| {});
    assert!(read_in_steps(&vault, id(&vault, session), 1 << 20) == bytes);
    let mut touched = vault.touched();
    touched.sort_unstable();
    let blob = BlobKey::Pack(session, 0);
    let of_pack: Vec<u32> = touched.iter().filter(|(key, _)| *key == blob).map(|(_, block)| *block).collect();
    let blocks = (3 * FRAME as u64).div_ceil(GRID) as u32;
    let expected: Vec<u32> = (0..blocks).chain([END_BLOCK]).collect();
    assert_eq!(of_pack, expected);
    assert!(touched.contains(&(BlobKey::Root(session), END_BLOCK)), "{touched:?}");
    assert!(asked(&store, blob).len() as u32 >= blocks);
    let (_, vault) = far(&world, VaultConfig::default(), |_| {});
    assert!(id(&vault, session).place > 0 && vault.touched().is_empty());
}
