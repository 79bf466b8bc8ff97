//! The cache against a model, against damage, against other handles and processes on the same files, and
//! against a full disk.
//!
//! May not time anything. What always holds in each of them: whatever is done to the files, a `get` gives the bytes
//! that were put, or nothing.

use super::record::RECORD;
use super::*;
use backupengine_model::SessionNo;
use proptest::prelude::*;
use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use tempfile::TempDir;

const VAULT: VaultId = VaultId([7; 16]);

/// A size that `slots` fit into.
pub(super) fn size_of(slots: u32) -> u64 {
    let size = RECORD as u64 + files::NEWS_MAX + u64::from(slots) * (BLOCK_LEN + RECORD) as u64;
    assert_eq!(room::slots_in(size), slots);
    size
}

fn config(slots: u32) -> DiskCacheConfig {
    DiskCacheConfig { vault: VAULT, size: Some(size_of(slots)) }
}

fn open(temp: &TempDir, slots: u32) -> DiskCache {
    DiskCache::open(temp.path().join("cache"), config(slots)).unwrap()
}

fn file(temp: &TempDir, name: &str) -> PathBuf {
    temp.path().join("cache").join(name)
}

fn key(number: u32) -> BlobKey {
    BlobKey::Pack(SessionNo(1), number)
}

/// Bytes that nobody else puts.
fn bytes(number: u32, version: u32, len: usize) -> Bytes {
    let mut state = (u64::from(number) << 32 | u64::from(version)) ^ 0x9e37_79b9_7f4a_7c15;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend(state.to_le_bytes());
    }
    out.truncate(len);
    out.into()
}

fn block(number: u32) -> Bytes {
    bytes(number, 0, BLOCK_LEN)
}

fn fill(cache: &DiskCache, numbers: Range<u32>) {
    numbers.for_each(|number| cache.put(key(number), 0, &block(number)));
}

/// How many are held; each that is held is right.
fn held(cache: &DiskCache, numbers: Range<u32>) -> usize {
    let right = |number: &u32| {
        let got = cache.get(key(*number), 0);
        assert!(got.as_ref().is_none_or(|got| *got == block(*number)), "{number} is wrong");
        got.is_some()
    };
    numbers.filter(right).count()
}

#[test]
fn what_is_put_is_got_now_and_after_opening_again() {
    let temp = TempDir::new().unwrap();
    let cache = open(&temp, 16);
    let short = bytes(1, 1, 17);
    cache.put(BlobKey::Root(SessionNo(1)), 4, &short);
    fill(&cache, 0..3);
    for cache in [cache, open(&temp, 16)] {
        assert_eq!(cache.get(BlobKey::Root(SessionNo(1)), 4), Some(short.clone()));
        assert!(cache.holds(BlobKey::Root(SessionNo(1)), 4));
        assert_eq!(held(&cache, 0..3), 3);
        for (absent, at) in
            [(BlobKey::Root(SessionNo(1)), 3), (BlobKey::Pack(SessionNo(1), 1), 4), (key(3), 0)]
        {
            assert_eq!(cache.get(absent, at), None);
            assert!(!cache.holds(absent, at));
        }
        let info = cache.info();
        assert_eq!((info.blocks, info.bytes, info.pinned_blocks), (4, 17 + 3 * BLOCK_LEN as u64, 0));
    }
}

#[test]
fn what_is_no_block_is_not_kept() {
    let temp = TempDir::new().unwrap();
    let cache = open(&temp, 16);
    let envelope = BlobKey::Envelope(crate::EnvelopeId([1; 8]));
    cache.put(envelope, 0, &block(1));
    cache.put(key(1), 0, &Bytes::new());
    cache.put(key(1), 0, &bytes(1, 0, BLOCK_LEN + 1));
    cache.put(key(1), u32::MAX, &block(1));
    assert_eq!((cache.info().blocks, cache.get(envelope, 0), cache.holds(envelope, 0)), (0, None, false));
    cache.drop_blocks(envelope, 0..1);
}

#[test]
fn folder_and_files_are_this_users_alone() {
    let temp = TempDir::new().unwrap();
    fs::create_dir(temp.path().join("cache")).unwrap();
    fs::set_permissions(temp.path().join("cache"), fs::Permissions::from_mode(0o755)).unwrap();
    let cache = open(&temp, 16);
    fill(&cache, 0..1);
    cache.pin("a", [(key(0), 0)]).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&temp.path().join("cache")), 0o700);
    for name in ["slots", "table", "news", "pins", "size"] {
        assert_eq!(mode(&file(&temp, name)), 0o600, "{name}");
    }
}

#[test]
fn another_vaults_blocks_are_thrown_away() {
    let temp = TempDir::new().unwrap();
    fill(&open(&temp, 16), 0..3);
    let other = DiskCacheConfig { vault: VaultId([8; 16]), ..config(16) };
    let cache = DiskCache::open(temp.path().join("cache"), other).unwrap();
    assert_eq!((held(&cache, 0..3), fs::metadata(file(&temp, "slots")).unwrap().len()), (0, 0));
}

#[test]
fn a_cache_stays_within_its_size_also_when_that_gets_smaller() {
    let temp = TempDir::new().unwrap();
    let cache = open(&temp, 40);
    fill(&cache, 0..100);
    assert_eq!(held(&cache, 60..100), 40);
    assert!(cache.info().on_disk <= size_of(40));
    drop(cache);
    let smaller = open(&temp, 10);
    assert!(smaller.info().on_disk <= size_of(10));
    let kept = held(&smaller, 0..100);
    assert!((1..=10).contains(&kept), "{kept}");
    fill(&smaller, 200..220);
    assert_eq!(held(&smaller, 210..220), 10);
    assert!(fs::metadata(file(&temp, "slots")).unwrap().len() <= 10 * BLOCK_LEN as u64);
}

#[test]
fn the_size_that_was_given_last_holds_for_all() {
    let temp = TempDir::new().unwrap();
    let of_nobody =
        || DiskCache::open(temp.path().join("cache"), DiskCacheConfig { vault: VAULT, size: None });
    let total = Room::of(temp.path()).unwrap().total;
    assert_eq!(of_nobody().unwrap().info().size, (10 << 30).min(total / 10));
    let first = open(&temp, 30);
    fill(&first, 0..30);
    assert_eq!(of_nobody().unwrap().info().size, size_of(30));
    let second = open(&temp, 10);
    assert_eq!(first.info().size, size_of(10), "the other one is told");
    fill(&first, 100..200);
    assert!(second.info().on_disk <= size_of(10));
    fs::write(file(&temp, "size"), "much").unwrap();
    assert_eq!(of_nobody().unwrap().info().size, (10 << 30).min(total / 10));
    let none =
        DiskCache::open(temp.path().join("cache"), DiskCacheConfig { vault: VAULT, size: Some(0) }).unwrap();
    fill(&none, 0..3);
    assert_eq!((held(&none, 0..3), none.info().blocks), (0, 0));
}

#[test]
fn the_order_of_use_outlives_the_process() {
    let temp = TempDir::new().unwrap();
    let cache = open(&temp, 200);
    fill(&cache, 0..200);
    // More than half a turn after they were put.
    assert_eq!(held(&cache, 0..20), 20);
    drop(cache);
    let cache = open(&temp, 200);
    fill(&cache, 1000..1150);
    assert_eq!(held(&cache, 0..20), 20, "what was used is kept");
    assert_eq!(held(&cache, 20..170), 0, "what was not used went first");
}

#[test]
fn dropped_blocks_stay_dropped_and_their_slots_are_used_again() {
    let temp = TempDir::new().unwrap();
    let cache = open(&temp, 8);
    let many = BlobKey::Pack(SessionNo(2), 1);
    for at in 0..8 {
        cache.put(many, at, &bytes(at, 5, 99));
    }
    cache.drop_blocks(many, 2..4);
    cache.drop_blocks(BlobKey::Pack(SessionNo(2), 2), 0..u32::MAX);
    let there = |cache: &DiskCache| (0..8).filter(|at| cache.get(many, *at).is_some()).collect::<Vec<_>>();
    assert_eq!(there(&cache), [0, 1, 4, 5, 6, 7]);
    assert_eq!(there(&open(&temp, 8)), [0, 1, 4, 5, 6, 7]);
    fill(&cache, 0..2);
    assert_eq!(there(&cache), [0, 1, 4, 5, 6, 7]);
    cache.drop_blocks(many, 5..u32::MAX);
    assert_eq!(there(&cache), [0, 1, 4]);
}

#[derive(Clone, Debug)]
enum Op {
    Put(u32),
    Get(u32),
    Holds(u32),
    Drop(u32, u32),
    Open,
    Other,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..24u32).prop_map(Op::Put),
        6 => (0..24u32).prop_map(Op::Get),
        1 => (0..24u32).prop_map(Op::Holds),
        1 => (0..24u32, 0..5u32).prop_map(|(from, count)| Op::Drop(from, count)),
        1 => Just(Op::Open),
        1 => Just(Op::Other),
    ];
    prop::collection::vec(op, 1..150)
}

const SLOTS: u32 = 9;

/// Blocks by use, the last one used last, and the bytes of each.
#[derive(Default)]
struct Model(Vec<(u32, Bytes)>);

impl Model {
    fn get(&mut self, block: u32) -> Option<Bytes> {
        let at = self.0.iter().position(|(b, _)| *b == block)?;
        let used = self.0.remove(at);
        self.0.push(used.clone());
        Some(used.1)
    }

    fn put(&mut self, block: u32, bytes: &Bytes) {
        if !self.0.iter().any(|(b, _)| *b == block) {
            self.0.push((block, bytes.clone()));
            if self.0.len() > SLOTS as usize {
                self.0.remove(0);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_handle_is_a_map_that_forgets_what_was_not_used(ops in ops()) {
        let temp = TempDir::new().unwrap();
        let cache = open(&temp, SLOTS);
        let mut model = Model::default();
        for (version, op) in ops.into_iter().enumerate() {
            match op {
                Op::Put(at) => {
                    let bytes = bytes(at, version as u32, 1 + version * 37);
                    cache.put(key(0), at, &bytes);
                    model.put(at, &bytes);
                }
                Op::Get(at) => prop_assert!(cache.get(key(0), at) == model.get(at)),
                Op::Holds(at) => {
                    prop_assert_eq!(cache.holds(key(0), at), model.0.iter().any(|(b, _)| *b == at));
                }
                Op::Drop(from, count) => {
                    cache.drop_blocks(key(0), from..from + count);
                    model.0.retain(|(b, _)| !(from..from + count).contains(b));
                }
                Op::Open | Op::Other => {}
            }
            prop_assert_eq!(cache.info().blocks, model.0.len() as u64);
        }
    }

    #[test]
    fn two_handles_opened_at_any_time_give_what_was_put_or_nothing(ops in ops()) {
        let temp = TempDir::new().unwrap();
        let mut caches = [open(&temp, SLOTS), open(&temp, SLOTS)];
        let mut put: HashMap<u32, Bytes> = HashMap::new();
        for (version, op) in ops.into_iter().enumerate() {
            match op {
                // A blob never changes: neither do the bytes of a block.
                Op::Put(at) => {
                    let bytes = put.entry(at).or_insert_with(|| bytes(at, 0, 1 + at as usize * 2000));
                    // As a reader does: it puts what it missed.
                    if caches[0].get(key(0), at).is_none() {
                        caches[0].put(key(0), at, bytes);
                        prop_assert!(caches[1].holds(key(0), at), "the other one learns of it");
                    }
                    for cache in &caches {
                        let got = cache.get(key(0), at);
                        prop_assert!(got.is_none_or(|got| got == *bytes));
                    }
                    prop_assert!(caches[0].holds(key(0), at));
                }
                Op::Get(at) | Op::Holds(at) => if let Some(got) = caches[0].get(key(0), at) {
                    prop_assert!(Some(&got) == put.get(&at));
                },
                Op::Drop(from, count) => {
                    caches[0].drop_blocks(key(0), from..from + count);
                    prop_assert!((from..from + count).all(|at| caches[0].get(key(0), at).is_none()));
                }
                Op::Open => caches[version % 2] = open(&temp, SLOTS),
                Op::Other => caches.swap(0, 1),
            }
        }
        let held = |cache: &DiskCache| (0..24).filter(|at| cache.holds(key(0), *at)).count();
        prop_assert!(held(&open(&temp, SLOTS)) <= SLOTS as usize);
    }

    #[test]
    fn any_damage_is_a_miss_and_passes(name in 0..3usize, at in 0.0..1.0f64, cut: bool, xor in 1..=255u8) {
        let temp = TempDir::new().unwrap();
        let cache = open(&temp, SLOTS);
        fill(&cache, 0..SLOTS);
        let path = file(&temp, ["slots", "table", "news"][name]);
        let damaged = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let at = (damaged.metadata().unwrap().len() as f64 * at) as u64;
        if cut {
            damaged.set_len(at).unwrap();
        } else {
            let mut byte = [0];
            damaged.read_exact_at(&mut byte, at).unwrap();
            damaged.write_all_at(&[byte[0] ^ xor], at).unwrap();
        }
        // Running, and opened afterwards.
        let opened = open(&temp, SLOTS);
        for cache in [&cache, &opened] {
            let there = held(cache, 0..SLOTS);
            prop_assert!(cut || name == 1 || there >= SLOTS as usize - 1, "{}", there);
            fill(cache, 100..100 + SLOTS);
            prop_assert_eq!(held(cache, 100..100 + SLOTS), SLOTS as usize);
            fill(cache, 0..SLOTS);
        }
        prop_assert_eq!(held(&open(&temp, SLOTS), 0..SLOTS), SLOTS as usize);
    }
}

#[test]
fn files_deleted_under_a_running_cache_are_made_again() {
    for names in [&["slots"][..], &["table"], &["news"], &["slots", "table", "news"], &[]] {
        let temp = TempDir::new().unwrap();
        let cache = open(&temp, SLOTS);
        fill(&cache, 0..SLOTS);
        match names {
            [] => fs::remove_dir_all(temp.path().join("cache")).unwrap(),
            names => names.iter().for_each(|name| fs::remove_file(file(&temp, name)).unwrap()),
        }
        // What is held open may still be read, until the first miss.
        let there = held(&cache, 0..SLOTS);
        assert_eq!(there, SLOTS as usize, "{names:?}");
        assert!(!cache.holds(key(100), 0));
        fill(&cache, 100..100 + SLOTS);
        assert_eq!(held(&cache, 100..100 + SLOTS), SLOTS as usize, "{names:?}");
        assert_eq!(held(&open(&temp, SLOTS), 100..100 + SLOTS), SLOTS as usize, "{names:?}");
    }
}

#[test]
fn where_no_files_can_be_made_there_are_misses_until_they_can() {
    let temp = TempDir::new().unwrap();
    let cache = open(&temp, SLOTS);
    fill(&cache, 0..SLOTS);
    let folder = temp.path().join("cache");
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "in the way").unwrap();
    fill(&cache, 100..120);
    assert_eq!(held(&cache, 100..120), 0);
    assert_eq!(held(&cache, 0..SLOTS), SLOTS as usize, "what is open is read on");
    fs::remove_file(&folder).unwrap();
    fill(&cache, 200..400);
    assert!(held(&cache, 200..400) > 0);
    let refused = DiskCache::open(file(&temp, "table"), config(SLOTS)).unwrap_err();
    assert!(refused.message.contains("table"), "{refused}");
}

/// A disk of 1 GiB with so many bytes left.
fn on_disk_with(temp: &TempDir, slots: u32, left: Arc<AtomicU64>) -> DiskCache {
    let room = move |_: &Path| Ok(Room { total: 1 << 30, available: left.load(Ordering::Relaxed) });
    DiskCache::open_with(temp.path().join("cache"), config(slots), Box::new(room)).unwrap()
}

#[test]
fn the_last_of_the_disk_is_left_alone_and_given_back() {
    let temp = TempDir::new().unwrap();
    let keep = (1u64 << 30) / 100 * 5;
    let slot = (BLOCK_LEN + RECORD) as u64;
    let left = Arc::new(AtomicU64::new(keep));
    let cache = on_disk_with(&temp, 600, left.clone());
    let slots = || fs::metadata(file(&temp, "slots")).unwrap().len() / BLOCK_LEN as u64;
    fill(&cache, 0..10);
    assert_eq!((slots(), held(&cache, 0..10)), (0, 0), "no room, no cache");
    left.store(keep + 300 * slot + 5, Ordering::Relaxed);
    fill(&cache, 0..300);
    left.store(keep, Ordering::Relaxed);
    fill(&cache, 0..300);
    assert_eq!((slots(), held(&cache, 0..300)), (300, 300), "as much as there is room for");
    left.store(keep - 100 * slot, Ordering::Relaxed);
    // Reading alone must do: a mount that is only read looks at the disk as well.
    for _ in 0..2 {
        held(&cache, 0..300);
    }
    assert!(slots() <= 200, "{}", slots());
    left.store(keep - 100 * slot, Ordering::Relaxed);
    drop(cache);
    drop(on_disk_with(&temp, 600, left));
    assert!(slots() <= 100, "an opening looks as well");
}

#[test]
fn pinned_blocks_stay_when_all_others_go_and_after_opening_again() {
    let temp = TempDir::new().unwrap();
    let cache = open(&temp, 20);
    fill(&cache, 0..3);
    cache.pin("early", (0..5).map(|number| (key(number), 0))).unwrap();
    fill(&cache, 3..100);
    let other = open(&temp, 20);
    for cache in [&cache, &other] {
        fill(cache, 100..200);
        assert_eq!(held(cache, 0..5), 5);
        let pinned = Pinned { name: "early".into(), blocks: 5, held: 5 };
        assert_eq!(cache.pins().unwrap(), [pinned]);
        assert_eq!(cache.info().pinned_blocks, 5);
    }
    // The other one is told.
    other.pin("late", [(key(199), 0), (key(300), 0)]).unwrap();
    assert!(other.unpin("early").unwrap());
    assert!(!other.unpin("early").unwrap());
    assert!(!cache.holds(key(1000), 0));
    fill(&cache, 300..400);
    assert_eq!((held(&cache, 0..5), held(&cache, 199..200), held(&cache, 300..301)), (0, 1, 1));
    let full = cache.pin("all", (0..16).map(|number| (key(number), 0))).unwrap_err();
    assert_eq!(full.kind, crate::ErrorKind::Full);
    assert_eq!(cache.pins().unwrap().len(), 1);
}

#[test]
fn the_end_of_a_root_is_kept_pinned_and_dropped_like_any_block() {
    let temp = TempDir::new().unwrap();
    let cache = open(&temp, 20);
    for blob in [BlobKey::Root(SessionNo(u32::MAX)), key(1)] {
        cache.put(blob, crate::END_BLOCK, &block(1));
        cache.pin("end", [(blob, crate::END_BLOCK)]).unwrap();
        assert_eq!(cache.pins().unwrap(), [Pinned { name: "end".into(), blocks: 1, held: 1 }]);
        fill(&cache, 100..200);
        assert_eq!(cache.get(blob, crate::END_BLOCK), Some(block(1)));
        cache.drop_blocks(blob, crate::END_BLOCK..crate::END_BLOCK + 1);
        assert!(!cache.holds(blob, crate::END_BLOCK));
    }
}

#[test]
fn pinned_blocks_move_when_slots_are_given_back() {
    let temp = TempDir::new().unwrap();
    let cache = open(&temp, 40);
    fill(&cache, 0..40);
    cache.pin("spread", (0..40).step_by(5).map(|number| (key(number), 0))).unwrap();
    let pinned = |cache: &DiskCache| (0..40).step_by(5).filter(|n| held(cache, *n..n + 1) == 1).count();
    drop(cache);
    let smaller = open(&temp, 12);
    assert_eq!(pinned(&smaller), 8);
    assert!(smaller.clear().unwrap() > 0);
    assert_eq!((pinned(&smaller), smaller.info().blocks), (8, 8), "pinned blocks are not cleared");
    // A size that does not hold them is refused, and the one before stays.
    let Err(error) = DiskCache::open(temp.path().join("cache"), config(8)) else { panic!("it was opened") };
    assert_eq!(error.kind, crate::ErrorKind::Full);
    assert_eq!(smaller.info().size, size_of(12));
    assert!(smaller.unpin("spread").unwrap());
    smaller.clear().unwrap();
    assert_eq!((smaller.info().blocks, fs::metadata(file(&temp, "slots")).unwrap().len()), (0, 0));
}

#[test]
fn a_cache_cleared_by_another_process_is_empty_here_and_fills_again() {
    let temp = TempDir::new().unwrap();
    let (cache, other) = (open(&temp, 20), open(&temp, 20));
    fill(&cache, 0..20);
    other.clear().unwrap();
    assert!(!cache.holds(key(1000), 0));
    assert_eq!(held(&cache, 0..20), 0);
    fill(&cache, 0..20);
    assert_eq!((held(&cache, 0..20), held(&other, 0..20)), (20, 20));
    assert!(fs::metadata(file(&temp, "slots")).unwrap().size() <= 20 * BLOCK_LEN as u64);
}

#[test]
fn many_threads_get_what_was_put_or_nothing() {
    let temp = TempDir::new().unwrap();
    let caches = [open(&temp, 30), open(&temp, 30)];
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let cache = &caches[thread as usize % 2];
            scope.spawn(move || {
                for round in 0..400 {
                    let number = (round * 7 + thread * 13) % 60;
                    let got = cache.get(key(number), 0);
                    assert!(got.is_none_or(|got| got == block(number)));
                    cache.put(key(number), 0, &block(number));
                    if round % 50 == 0 {
                        cache.drop_blocks(key(number), 0..1);
                    }
                }
            });
        }
    });
    assert!(held(&open(&temp, 30), 0..60) > 10);
}

#[test]
fn old_news_are_thrown_away_and_who_missed_them_reads_the_table() {
    let temp = TempDir::new().unwrap();
    let (cache, other) = (open(&temp, 20), open(&temp, 20));
    fill(&cache, 0..5);
    assert_eq!(held(&other, 0..5), 5);
    let files = cache.files();
    for _ in 0..=files::NEWS_MAX / 4 {
        files.tell(0).unwrap();
    }
    cache.look_after();
    assert_eq!(fs::metadata(file(&temp, "news")).unwrap().len(), 0);
    fill(&cache, 5..9);
    assert_eq!(held(&other, 0..9), 9);
}

/// Tells a process that it is the child of a test, and where the cache is.
const CHILD: &str = "DISK_CACHE_CHILD";

fn run_again(test: &str, temp: &TempDir) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("disk_cache::tests::{test}"), "--test-threads=1"])
        .env(CHILD, temp.path().join("cache"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_writer_that_is_killed_leaves_a_cache_that_opens_and_is_right() {
    if let Some(folder) = std::env::var_os(CHILD) {
        let cache = DiskCache::open(folder, config(64)).unwrap();
        for number in (0..200).cycle() {
            cache.put(key(number), 0, &block(number));
        }
    }
    let temp = TempDir::new().unwrap();
    let reader = open(&temp, 64);
    for round in 1..=8 {
        let mut child = run_again("a_writer_that_is_killed_leaves_a_cache_that_opens_and_is_right", &temp);
        // A few hundred puts later, in the middle of one.
        let until = reader.files().look().unwrap().news + 4 * (200 + 37 * round);
        while reader.files().look().unwrap().news < until {
            assert!(child.try_wait().unwrap().is_none(), "the child ended early");
            held(&reader, 0..200);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let opened = open(&temp, 64);
        let there = held(&opened, 0..200);
        assert!((50..=64).contains(&there), "{there} of 64 slots are right");
        assert_eq!(opened.info().blocks, there as u64, "and what was torn is forgotten");
    }
    for number in (0..64).filter(|number| reader.get(key(*number), 0).is_none()) {
        reader.put(key(number), 0, &block(number));
    }
    assert_eq!(held(&reader, 0..64), 64, "no slot was lost");
}

#[test]
fn processes_that_write_at_once_learn_from_each_other() {
    let mine = |process: u32| (0..120).map(move |n| (n * 7 + process * 60) % 120);
    if let Some(folder) = std::env::var_os(CHILD) {
        let cache = DiskCache::open(folder, config(100)).unwrap();
        for number in mine(std::process::id()) {
            if cache.get(key(number), 0).is_none() {
                cache.put(key(number), 0, &block(number));
            }
        }
        return;
    }
    let temp = TempDir::new().unwrap();
    let reader = open(&temp, 100);
    let test = "processes_that_write_at_once_learn_from_each_other";
    let mut children = [run_again(test, &temp), run_again(test, &temp), run_again(test, &temp)];
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        held(&reader, 0..120);
    }
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let there = held(&reader, 0..120);
    assert!((60..=100).contains(&there), "{there}");
    // Two that raced for a slot, or wrote one block twice, cost a reader a miss; what it puts then, all have.
    for number in (0..80).chain(0..80) {
        if reader.get(key(number), 0).is_none() {
            reader.put(key(number), 0, &block(number));
        }
    }
    assert_eq!((held(&reader, 0..80), held(&open(&temp, 100), 0..80)), (80, 80));
}
