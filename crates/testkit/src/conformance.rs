//! One suite for every store: what the port promises, and nothing that only one store keeps.
//!
//! May not look behind the port. Each check gets two handles on one fresh vault, as two processes would have
//! them; [`store_suite!`](crate::store_suite) makes a test of each check. Checks panic where a promise is broken.

pub mod upkeep;

use crate::wait;
use backupengine_model::ledger::{Commit, LABEL_MAX, RuleBroken, SessionState, SnapshotRecord};
use backupengine_model::{DeviceId, SessionNo, SnapshotId, Timestamp, VaultId};
use backupengine_store::{
    BlobKey, BlobKind, EnvelopeChange, EnvelopeId, EnvelopeKeeper, ErrorKind, Range, StoreError, Writable,
};
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Barrier};
use std::time::{SystemTime, UNIX_EPOCH};

/// The vault every check runs on.
pub const VAULT: VaultId = VaultId([0x5e; 16]);
/// The devices of [`Handles`] where any will do.
pub const ANY: [DeviceId; 2] = [DeviceId([1; 16]), DeviceId([2; 16])];

/// Two handles on one fresh, empty vault with the id [`VAULT`].
pub struct Handles {
    /// One.
    pub one: Arc<dyn Writable>,
    /// The other.
    pub two: Arc<dyn Writable>,
    /// A device that may do everything through both handles.
    pub me: DeviceId,
    /// Another one.
    pub other: DeviceId,
    /// What must live as long as they do.
    pub keep: Box<dyn std::any::Any>,
}

/// Makes a test of every check, in the module where it stands. `$make` gives fresh [`Handles`].
#[macro_export]
macro_rules! store_suite {
    ($make:expr) => {
        $crate::store_suite!(@each $make;
            a_new_vault_is_empty, blobs_come_back_whole_and_in_parts, ranges_outside_are_refused,
            what_is_not_there_is_not_found, a_name_is_never_taken_twice, of_two_racing_puts_one_wins,
            a_dropped_spool_leaves_nothing, large_blobs_are_not_mixed_up, lists_are_sorted_and_apart,
            session_numbers_are_never_given_twice, threads_never_get_the_same_session,
            a_commit_makes_the_snapshot, a_commit_may_be_repeated, commits_against_the_rules_change_nothing,
            a_commit_needs_its_root, versions_move_exactly_with_the_list, snapshots_are_listed_by_session,
            the_other_handle_sees_what_was_put, space_counts_committed_sessions);
    };
    (@each $make:expr; $($check:ident),+) => {
        $(#[test]
        fn $check() {
            $crate::conformance::$check(&$make());
        })+
    };
}

fn put(store: &dyn Writable, key: BlobKey, bytes: &[u8]) -> Result<(), StoreError> {
    let mut spool = store.spool()?;
    spool.write_all(bytes)?;
    assert_eq!(spool.len(), bytes.len() as u64, "a spool counts what was written");
    wait(store.put(key, spool))
}

fn whole(store: &dyn Writable, key: BlobKey) -> Vec<u8> {
    let got = wait(store.get(key, Range::Whole)).expect("a blob that was put is readable");
    assert_eq!((got.offset, got.total), (0, got.bytes.len() as u64));
    got.bytes.to_vec()
}

fn kind<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> ErrorKind {
    answer.expect_err("an error was expected").kind
}

fn open(store: &dyn Writable, device: DeviceId) -> SessionNo {
    wait(store.open_session(device, this_moment())).expect("a session opens").session
}

/// A store goes by the time it is given or by its ledger's own clock: the true time satisfies both.
fn this_moment() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right");
    Timestamp { secs: since.as_secs() as i64, nanos: since.subsec_nanos() }
}

/// Puts a root of 64 bytes and says how it is committed.
fn root_of(store: &dyn Writable, session: SessionNo, device: DeviceId) -> Commit {
    put(store, BlobKey::Root(session), &[session.0 as u8; 64]).expect("a root is put");
    Commit {
        snapshot: SnapshotRecord {
            session,
            id: SnapshotId([session.0 as u8; 8]),
            device,
            created: Timestamp { secs: -1, nanos: 999_999_999 },
            root_size: 64,
            head_len: 10,
            label: vec![0, 255, session.0 as u8],
        },
        packs: 0,
        bytes: 64,
        meta_packs: Vec::new(),
        gc_epoch: None,
        hold: None,
    }
}

fn snapshot(store: &dyn Writable, device: DeviceId) -> Commit {
    let session = open(store, device);
    let commit = root_of(store, session, device);
    wait(store.commit(device, &commit)).expect("a commit is taken");
    commit
}

fn version(store: &dyn Writable) -> u64 {
    let version = wait(store.version()).expect("the version is readable");
    let list = wait(store.snapshots()).expect("the list is readable");
    assert_eq!(list.version, version);
    version
}

/// Nothing is there, and it is the vault it was made as.
pub fn a_new_vault_is_empty(vault: &Handles) {
    for store in [&vault.one, &vault.two] {
        assert_eq!(wait(store.vault()).expect("the id is readable"), VAULT);
        assert!(wait(store.snapshots()).expect("the list is readable").snapshots.is_empty());
        assert!(wait(store.sessions()).expect("the sessions are readable").is_empty());
        for kind in [BlobKind::Packs, BlobKind::PacksOf(SessionNo(1)), BlobKind::Roots, BlobKind::Envelopes] {
            assert_eq!(wait(store.list(kind)).expect("an empty family lists"), []);
        }
        assert!(store.grid() >= 1);
    }
}

/// Every kind of range gives exactly the bytes it names.
pub fn blobs_come_back_whole_and_in_parts(vault: &Handles) {
    let store = &*vault.one;
    let session = open(store, vault.me);
    let key = BlobKey::Pack(session, 0);
    // Whole cells of the store's grid, and a tail shorter than one.
    let cell = store.grid() * 7;
    let bytes: Vec<u8> = (0..cell * 3 + 5).map(|at| (at % 251) as u8).collect();
    put(store, key, &bytes).expect("a pack is put");
    assert_eq!(whole(store, key), bytes);
    let total = bytes.len() as u64;
    for (range, from, len) in [
        (Range::At { offset: 0, len: cell }, 0, cell),
        (Range::At { offset: cell, len: cell }, cell, cell),
        (Range::At { offset: 3 * cell, len: cell * 100 }, 3 * cell, 5),
        (Range::At { offset: 2 * cell, len: u64::MAX / cell * cell }, 2 * cell, cell + 5),
        (Range::Suffix(cell), total - cell, cell),
        (Range::Suffix(cell * 4), 0, total),
        (Range::Suffix(u64::MAX / cell * cell), 0, total),
    ] {
        let got = wait(store.get(key, range)).expect("the range lies inside");
        assert_eq!((got.offset, got.total), (from, total), "{range:?}");
        assert!(got.bytes[..] == bytes[from as usize..(from + len) as usize], "{range:?} differs");
    }
}

/// A range that begins at the end or later, or has no length.
pub fn ranges_outside_are_refused(vault: &Handles) {
    let store = &*vault.one;
    let session = open(store, vault.me);
    let key = BlobKey::Pack(session, 0);
    let grid = store.grid();
    put(store, key, &vec![1; grid as usize]).expect("a pack is put");
    for range in [
        Range::At { offset: grid, len: grid },
        Range::At { offset: u64::MAX / grid * grid, len: grid },
        Range::At { offset: 0, len: 0 },
        Range::Suffix(0),
    ] {
        assert_eq!(kind(wait(store.get(key, range))), ErrorKind::BadRange, "{range:?}");
    }
}

/// Absent blobs are named in the error.
pub fn what_is_not_there_is_not_found(vault: &Handles) {
    let store = &*vault.one;
    let session = open(store, vault.me);
    for key in [BlobKey::Pack(session, 3), BlobKey::Root(session), BlobKey::Envelope(EnvelopeId([9; 8]))] {
        for range in [Range::Whole, Range::Suffix(store.grid())] {
            let error = wait(store.get(key, range)).expect_err("nothing is there");
            assert_eq!((error.kind, error.key), (ErrorKind::NotFound, Some(key)));
            assert!(error.to_string().contains(&key.to_string()), "{error}");
        }
    }
}

/// Put never overwrites, whatever the blob and whoever puts.
pub fn a_name_is_never_taken_twice(vault: &Handles) {
    let store = &*vault.one;
    let session = open(store, vault.me);
    let pack = BlobKey::Pack(session, 0);
    let envelope = BlobKey::Envelope(EnvelopeId([1, 2, 3, 4, 5, 6, 7, 8]));
    for (key, second) in [(pack, store), (envelope, &*vault.two), (BlobKey::Root(session), store)] {
        put(store, key, b"first").expect("the name is free");
        let error = put(second, key, b"other!").expect_err("the name is taken");
        assert_eq!((error.kind, error.key), (ErrorKind::AlreadyExists, Some(key)));
        assert_eq!(whole(store, key), b"first");
    }
}

/// Exactly one of two threads gets the name, and its bytes are there whole.
pub fn of_two_racing_puts_one_wins(vault: &Handles) {
    for round in 0..20u8 {
        let session = open(&*vault.one, vault.me);
        // No envelope is longer than 64 KiB.
        race([&vault.one, &vault.two], BlobKey::Envelope(EnvelopeId([round; 8])), 60_000);
        // Only the handle that opened a session has to know it.
        race([&vault.one, &vault.one], BlobKey::Pack(session, 0), 100_000);
    }
}

fn race(handles: [&Arc<dyn Writable>; 2], key: BlobKey, len: usize) {
    let start = Barrier::new(2);
    let won: Vec<bool> = std::thread::scope(|scope| {
        let racer = |store: Arc<dyn Writable>, byte: u8| {
            let start = &start;
            scope.spawn(move || {
                let mut spool = store.spool().expect("a spool begins");
                spool.write_all(&vec![byte; len]).expect("a spool is written");
                start.wait();
                match wait(store.put(key, spool)) {
                    Ok(()) => true,
                    Err(e) if e.kind == ErrorKind::AlreadyExists => false,
                    Err(e) => panic!("{e}"),
                }
            })
        };
        let racers = [racer(Arc::clone(handles[0]), 1), racer(Arc::clone(handles[1]), 2)];
        racers.map(|racer| racer.join().expect("a racer ends")).to_vec()
    });
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{key}: {won:?}");
    let winner = if won[0] { 1 } else { 2 };
    assert!(whole(&**handles[0], key) == vec![winner; len], "{key} is mixed up");
}

/// A spool that is not put is nowhere listed, and does not keep the name.
pub fn a_dropped_spool_leaves_nothing(vault: &Handles) {
    let store = &*vault.one;
    let session = open(store, vault.me);
    let mut spool = store.spool().expect("a spool begins");
    assert!(spool.is_empty());
    spool.write_all(&[7; 3_000_000]).expect("a spool is written");
    assert_eq!(wait(store.list(BlobKind::Packs)).expect("packs list"), []);
    drop(spool);
    assert_eq!(wait(store.list(BlobKind::Packs)).expect("packs list"), []);
    put(store, BlobKey::Pack(session, 0), b"x").expect("the name is free");
}

/// Blobs larger than any buffer, written in odd pieces by two threads at once.
pub fn large_blobs_are_not_mixed_up(vault: &Handles) {
    let session = open(&*vault.one, vault.me);
    std::thread::scope(|scope| {
        for number in 0..2u32 {
            let store = Arc::clone(&vault.one);
            scope.spawn(move || {
                let mut spool = store.spool().expect("a spool begins");
                for piece in 0..3000u32 {
                    let byte = (piece + number) as u8;
                    spool
                        .write_all(&vec![byte; 1 + (piece as usize * 7) % 2000])
                        .expect("a piece is written");
                }
                wait(store.put(BlobKey::Pack(session, number), spool)).expect("a pack is put");
            });
        }
    });
    for number in 0..2u32 {
        let expected: Vec<u8> = (0..3000u32)
            .flat_map(|piece| vec![(piece + number) as u8; 1 + (piece as usize * 7) % 2000])
            .collect();
        assert!(whole(&*vault.one, BlobKey::Pack(session, number)) == expected, "pack {number} differs");
    }
}

/// Families are apart, names sorted as numbers, sizes right.
pub fn lists_are_sorted_and_apart(vault: &Handles) {
    let store = &*vault.one;
    let (first, second) = (open(store, vault.me), open(store, vault.me));
    let envelope = |byte| BlobKey::Envelope(EnvelopeId([byte; 8]));
    let (a, b, c) = (BlobKey::Pack(first, 2), BlobKey::Pack(first, 0x10), BlobKey::Pack(second, 1));
    let keys = [c, b, a, BlobKey::Root(second), BlobKey::Root(first), envelope(0xff), envelope(0)];
    for (len, key) in (1..).zip(keys) {
        put(store, key, &vec![0; len]).expect("the name is free");
    }
    let list = |kind| wait(vault.two.list(kind)).expect("a family lists");
    assert_eq!(list(BlobKind::Packs), [(a, 3), (b, 2), (c, 1)]);
    assert_eq!(list(BlobKind::PacksOf(first)), [(a, 3), (b, 2)]);
    assert_eq!(list(BlobKind::PacksOf(SessionNo(99))), []);
    assert_eq!(list(BlobKind::Roots), [(BlobKey::Root(first), 5), (BlobKey::Root(second), 4)]);
    assert_eq!(list(BlobKind::Envelopes), [(envelope(0), 7), (envelope(0xff), 6)]);
}

/// Numbers count from 1, over both handles, and are remembered with who asked and when.
pub fn session_numbers_are_never_given_twice(vault: &Handles) {
    let before = this_moment().secs;
    let given = [open(&*vault.one, vault.me), open(&*vault.two, vault.other), open(&*vault.one, vault.me)];
    let after = this_moment().secs;
    assert_eq!(given, [SessionNo(1), SessionNo(2), SessionNo(3)]);
    let sessions = wait(vault.two.sessions()).expect("the sessions are readable");
    let seen: Vec<_> = sessions.iter().map(|s| (s.session, s.device, s.state)).collect();
    let open = SessionState::Open;
    assert_eq!(seen, [(given[0], vault.me, open), (given[1], vault.other, open), (given[2], vault.me, open)]);
    for session in sessions.sessions {
        assert!((before..=after).contains(&session.opened.secs), "{before} {session:?} {after}");
    }
}

/// Under contention, too.
pub fn threads_never_get_the_same_session(vault: &Handles) {
    let me = vault.me;
    let given: Vec<SessionNo> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let store = Arc::clone(if thread % 2 == 0 { &vault.one } else { &vault.two });
                scope.spawn(move || (0..10).map(|_| open(&*store, me)).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread ends")).collect()
    });
    let distinct: BTreeSet<_> = given.iter().copied().collect();
    assert_eq!(distinct, (1..=80).map(SessionNo).collect());
    assert_eq!(wait(vault.one.sessions()).expect("the sessions are readable").len(), 80);
}

/// Only the commit does, and it keeps every field.
pub fn a_commit_makes_the_snapshot(vault: &Handles) {
    let store = &*vault.one;
    let session = open(store, vault.me);
    put(store, BlobKey::Pack(session, 0), &[1; 100]).expect("a pack is put");
    let commit = Commit { packs: 1, bytes: 164, ..root_of(store, session, vault.me) };
    assert!(wait(vault.two.snapshots()).expect("the list is readable").snapshots.is_empty());
    wait(store.commit(vault.me, &commit)).expect("a commit is taken");
    let list = wait(vault.two.snapshots()).expect("the list is readable");
    assert_eq!(list.snapshots, [commit.snapshot]);
    let sessions = wait(vault.two.sessions()).expect("the sessions are readable");
    assert_eq!((sessions[0].state, sessions[0].packs, sessions[0].bytes), (SessionState::Committed, 1, 164));
}

/// The answer may have been lost.
pub fn a_commit_may_be_repeated(vault: &Handles) {
    let commit = snapshot(&*vault.one, vault.me);
    let before = version(&*vault.one);
    for store in [&vault.one, &vault.two] {
        wait(store.commit(vault.me, &commit)).expect("the same commit again is no error");
    }
    assert_eq!(version(&*vault.two), before);
    assert_eq!(wait(vault.two.snapshots()).expect("the list is readable").snapshots.len(), 1);
    let mut other = commit;
    other.snapshot.head_len += 1;
    assert_eq!(kind(wait(vault.one.commit(vault.me, &other))), ErrorKind::RuleBroken(RuleBroken::NotOpen));
}

/// Another device's session, an unknown one, a snapshot of somebody else, a label too long.
pub fn commits_against_the_rules_change_nothing(vault: &Handles) {
    let store = &*vault.one;
    let session = open(store, vault.me);
    let mine = root_of(store, session, vault.me);
    let change = |change: &dyn Fn(&mut SnapshotRecord)| {
        let mut commit = mine.clone();
        change(&mut commit.snapshot);
        commit
    };
    let others = change(&|s| s.device = vault.other);
    let unknown = change(&|s| s.session = SessionNo(77));
    let long = change(&|s| s.label = vec![0; LABEL_MAX + 1]);
    for (device, commit, rule) in [
        (vault.other, &others, RuleBroken::UnknownSession),
        (vault.other, &mine, RuleBroken::WrongSession),
        (vault.me, &others, RuleBroken::WrongSession),
        (vault.me, &unknown, RuleBroken::UnknownSession),
        (vault.me, &long, RuleBroken::LabelTooLong),
    ] {
        assert_eq!(kind(wait(store.commit(device, commit))), ErrorKind::RuleBroken(rule));
        assert!(wait(store.snapshots()).expect("the list is readable").snapshots.is_empty());
    }
    let longest = change(&|s| s.label = vec![0; LABEL_MAX]);
    wait(store.commit(vault.me, &longest)).expect("the session is still open");
}

/// A root that is absent or of another length does not become a snapshot.
pub fn a_commit_needs_its_root(vault: &Handles) {
    let store = &*vault.one;
    let missing = ErrorKind::RuleBroken(RuleBroken::RootNotStored);
    let (first, second) = (open(store, vault.me), open(store, vault.me));
    let mut commit = root_of(store, first, vault.me);
    commit.snapshot.session = second;
    assert_eq!(kind(wait(store.commit(vault.me, &commit))), missing);
    commit.snapshot.session = first;
    commit.snapshot.root_size += 1;
    assert_eq!(kind(wait(store.commit(vault.me, &commit))), missing);
    assert!(wait(store.snapshots()).expect("the list is readable").snapshots.is_empty());
    commit.snapshot.root_size -= 1;
    wait(store.commit(vault.me, &commit)).expect("now it is right");
}

/// Not with sessions or blobs, and both handles agree at once.
pub fn versions_move_exactly_with_the_list(vault: &Handles) {
    let mut seen = BTreeSet::from([version(&*vault.one)]);
    for turn in 0..5 {
        let (store, other) =
            if turn % 2 == 0 { (&*vault.one, &*vault.two) } else { (&*vault.two, &*vault.one) };
        let before = version(other);
        let session = open(store, vault.me);
        let commit = root_of(store, session, vault.me);
        assert_eq!(version(other), before, "sessions and blobs are not in the list");
        wait(store.commit(vault.me, &commit)).expect("a commit is taken");
        assert!(seen.insert(version(other)), "the list changed, the version did not");
        assert_eq!(version(store), version(other));
    }
}

/// Whatever order they were committed in.
pub fn snapshots_are_listed_by_session(vault: &Handles) {
    let store = &*vault.one;
    let sessions: Vec<SessionNo> = (0..4).map(|_| open(store, vault.me)).collect();
    for at in [2, 0, 3, 1] {
        let commit = root_of(store, sessions[at], vault.me);
        wait(store.commit(vault.me, &commit)).expect("a commit is taken");
    }
    let list = wait(vault.two.snapshots()).expect("the list is readable");
    assert_eq!(list.snapshots.iter().map(|s| s.session).collect::<Vec<_>>(), sessions);
}

/// Once committed, and also when the other handle looked before.
pub fn the_other_handle_sees_what_was_put(vault: &Handles) {
    let session = open(&*vault.one, vault.me);
    wait(vault.two.get(BlobKey::Pack(session, 0), Range::Whole)).expect_err("nothing is there yet");
    put(&*vault.one, BlobKey::Pack(session, 0), b"abc").expect("a pack is put");
    let commit = Commit { packs: 1, bytes: 67, ..root_of(&*vault.one, session, vault.me) };
    wait(vault.one.commit(vault.me, &commit)).expect("a commit is taken");
    assert_eq!(whole(&*vault.two, BlobKey::Pack(session, 0)), b"abc");
    assert_eq!(whole(&*vault.two, BlobKey::Root(session)).len(), 64);
}

/// The sum of what commits named.
pub fn space_counts_committed_sessions(vault: &Handles) {
    let used = |store: &dyn Writable| wait(store.space()).expect("space is known").0;
    assert_eq!(used(&*vault.one), 0);
    snapshot(&*vault.one, vault.me);
    snapshot(&*vault.two, vault.other);
    open(&*vault.one, vault.me);
    assert_eq!(used(&*vault.one), 128);
    assert_eq!(used(&*vault.two), 128);
}

/// Envelopes change all at once, for who has looked, and the other handle sees it. `one` and `two` are handles on one fresh
/// vault, and who changes its envelopes there.
pub fn envelopes_change_all_at_once(
    one: (&dyn Writable, &dyn EnvelopeKeeper),
    two: (&dyn Writable, &dyn EnvelopeKeeper),
) {
    let id = |byte| EnvelopeId([byte; 8]);
    let bytes = |byte: u8| vec![byte; 100];
    for byte in [1, 2] {
        put(one.0, BlobKey::Envelope(id(byte)), &bytes(byte)).expect("the name is free");
    }
    let seen = |(store, keeper): (&dyn Writable, &dyn EnvelopeKeeper)| {
        let listed = wait(store.list(BlobKind::Envelopes)).expect("envelopes list");
        let infos = wait(keeper.envelopes()).expect("envelopes are known");
        let names: Vec<_> = infos.iter().map(|info| BlobKey::Envelope(info.id)).collect();
        assert_eq!(listed.iter().map(|(key, _)| *key).collect::<Vec<_>>(), names);
        names.iter().for_each(|key| {
            let BlobKey::Envelope(id) = key else { panic!("{key} is no envelope") };
            assert_eq!(whole(store, *key), bytes(id.0[0]));
        });
        infos.iter().map(|info| info.id.0[0]).collect::<Vec<_>>()
    };
    let change = |expected: &[u8], keep: &[u8], add: &[u8]| EnvelopeChange {
        expected: expected.iter().map(|byte| id(*byte)).collect(),
        keep: keep.iter().map(|byte| id(*byte)).collect(),
        add: add.iter().map(|byte| (id(*byte), bytes(*byte))).collect(),
        recovery: Vec::new(),
        epoch: 2,
    };
    assert_eq!((seen(one), seen(two)), (vec![1, 2], vec![1, 2]));
    let moved = ErrorKind::RuleBroken(RuleBroken::EnvelopesMoved);
    for other in [change(&[1], &[1], &[3]), change(&[1, 2, 9], &[1], &[3]), change(&[], &[], &[3])] {
        assert_eq!(kind(wait(two.1.change_envelopes(&other))), moved);
    }
    assert!(wait(two.1.change_envelopes(&change(&[1, 2], &[], &[]))).is_err(), "a vault without envelopes");
    assert_eq!(seen(one), [1, 2], "what was refused changed nothing");
    let first = change(&[2, 1], &[2], &[4, 3]);
    wait(one.1.change_envelopes(&first)).expect("whoever has looked may change");
    assert_eq!((seen(one), seen(two)), (vec![2, 3, 4], vec![2, 3, 4]));
    assert_eq!(kind(wait(two.1.change_envelopes(&change(&[1, 2], &[1], &[5])))), moved, "of two at once");
    wait(one.1.change_envelopes(&first)).expect("the same again, whose answer was lost");
    assert_eq!(seen(two), [2, 3, 4]);
    wait(two.1.change_envelopes(&change(&[4, 3, 2], &[], &[5]))).expect("the next change");
    assert_eq!((seen(one), seen(two)), (vec![5], vec![5]));
    let gone = kind(wait(one.0.get(BlobKey::Envelope(id(2)), Range::Whole)));
    assert_eq!(gone, ErrorKind::NotFound, "what was taken away is not there");
}
