//! How fast the disk cache takes and gives blocks. Run with `cargo bench -p backupengine-store`; it prints figures
//! and judges nothing. The aim is 1.5 GB/s out of the page cache, and an opening nobody notices. Needs 11 GiB of
//! disk for a moment.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use backupengine_model::{SessionNo, VaultId};
use backupengine_store::{BLOCK_LEN, BlobKey, BlockCache, DiskCache, DiskCacheConfig};
use bytes::Bytes;
use std::time::Instant;

const BLOCKS: u32 = 8192;

fn key(number: u32) -> (BlobKey, u32) {
    (BlobKey::Pack(SessionNo(1), number / 512), number % 512)
}

/// Blocks a second, and bytes.
fn figure(what: &str, blocks: u32, act: impl FnOnce()) {
    let begun = Instant::now();
    act();
    let each = begun.elapsed().as_secs_f64() / f64::from(blocks);
    println!("{what:44} {:7.2} us a block, {:6.2} GB/s", each * 1e6, BLOCK_LEN as f64 / each / 1e9);
}

fn main() {
    let temp = tempfile::tempdir().unwrap();
    let config = |blocks: u32| DiskCacheConfig {
        vault: VaultId([1; 16]),
        size: Some((300 << 10) + u64::from(blocks) * (BLOCK_LEN as u64 + 32)),
    };
    let cache = DiskCache::open(temp.path().join("a"), config(BLOCKS)).unwrap();
    let block = Bytes::from(vec![7; BLOCK_LEN]);
    let put = |cache: &DiskCache, from: u32| {
        for (key, at) in (from..from + BLOCKS).map(key) {
            cache.put(key, at, &block);
        }
    };
    figure("put into new slots", BLOCKS, || put(&cache, 0));
    figure("put over others", BLOCKS, || put(&cache, BLOCKS));
    for threads in [1, 2] {
        figure(&format!("get, {threads} threads"), BLOCKS, || {
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    let cache = &cache;
                    scope.spawn(move || {
                        for number in (BLOCKS + thread..2 * BLOCKS).step_by(threads as usize) {
                            let (key, at) = key(number);
                            assert!(cache.get(key, at).is_some());
                        }
                    });
                }
            });
        });
    }
    figure("get of what is not there", BLOCKS, || {
        (0..BLOCKS).map(key).for_each(|(key, at)| assert!(cache.get(key, at).is_none()));
    });
    figure("holds", BLOCKS, || {
        (BLOCKS..2 * BLOCKS).map(key).for_each(|(key, at)| assert!(cache.holds(key, at)));
    });
    drop(cache);

    // 10 GiB of slots with a byte in each.
    let slots = u32::try_from((10u64 << 30) / BLOCK_LEN as u64).unwrap();
    let cache = DiskCache::open(temp.path().join("b"), config(slots)).unwrap();
    for (key, at) in (0..slots).map(key) {
        cache.put(key, at, &Bytes::from_static(b"7"));
    }
    drop(cache);
    let begun = Instant::now();
    let cache = DiskCache::open(temp.path().join("b"), config(slots)).unwrap();
    let took = begun.elapsed();
    println!("open 10 GiB, {} blocks held: {took:.1?}", cache.info().blocks);
}
