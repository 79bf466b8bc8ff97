//! What only a vault in a folder can suffer: reopening, damage, other people's files, missing rights.

use backupengine_model::ledger::{Commit, SnapshotRecord};
use backupengine_model::{DeviceId, SessionNo, SnapshotId, Timestamp, VaultId};
use backupengine_store::{
    BlobKey, BlobKind, BlobReader, BlobWriter, EnvelopeId, ErrorKind, FolderStore, LedgerReader,
    LedgerWriter, Range, StoreError,
};
use backupengine_testkit::system::{Tmpfs, as_nobody};
use backupengine_testkit::{conformance::VAULT, now};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const ME: DeviceId = DeviceId([3; 16]);
const NOW: Timestamp = Timestamp { secs: 0, nanos: 0 };

struct Fixture {
    _temp: TempDir,
    folder: PathBuf,
    store: FolderStore,
}

fn vault() -> Fixture {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("vault");
    let store = FolderStore::create(&folder, VAULT).unwrap();
    Fixture { _temp: temp, folder, store }
}

pub(crate) fn put(store: &FolderStore, key: BlobKey, bytes: &[u8]) -> Result<(), StoreError> {
    let mut spool = store.spool()?;
    spool.write_all(bytes)?;
    now(store.put(key, spool))
}

pub(crate) fn commit_of(session: SessionNo) -> Commit {
    let snapshot = SnapshotRecord {
        session,
        id: SnapshotId([7; 8]),
        device: ME,
        created: NOW,
        root_size: 5,
        head_len: 3,
        label: b"label".to_vec(),
    };
    Commit { snapshot, packs: 0, bytes: 5, meta_packs: Vec::new(), gc_epoch: None, hold: None }
}

pub(crate) fn snapshot(store: &FolderStore) -> Result<SessionNo, StoreError> {
    let session = now(store.open_session(ME, NOW))?.session;
    put(store, BlobKey::Root(session), b"root!")?;
    now(store.commit(ME, &commit_of(session)))?;
    Ok(session)
}

/// Every file and folder below `folder` with what is in it.
pub(crate) fn everything(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything(&path));
            found.insert(path, None);
        } else {
            found.insert(path.clone(), Some(fs::read(&path).unwrap()));
        }
    }
    found
}

fn kind<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> ErrorKind {
    answer.unwrap_err().kind
}

#[test]
fn every_step_is_there_after_reopening() {
    let Fixture { _temp, folder, store } = vault();
    let again = || FolderStore::open(&folder).unwrap();
    drop(store);
    assert_eq!(now(again().vault()).unwrap(), VAULT);
    let session = now(again().open_session(ME, NOW)).unwrap().session;
    assert_eq!(now(again().sessions()).unwrap().len(), 1);
    put(&again(), BlobKey::Pack(session, 0), b"pack").unwrap();
    assert_eq!(now(again().list(BlobKind::Packs)).unwrap(), [(BlobKey::Pack(session, 0), 4)]);
    put(&again(), BlobKey::Root(session), b"root!").unwrap();
    assert!(now(again().snapshots()).unwrap().snapshots.is_empty());
    now(again().commit(ME, &commit_of(session))).unwrap();
    let list = now(again().snapshots()).unwrap();
    assert_eq!((list.version, list.snapshots), (1, vec![commit_of(session).snapshot]));
    let pack = now(again().get(BlobKey::Pack(session, 0), Range::Whole)).unwrap();
    assert_eq!(&pack.bytes[..], b"pack");
    assert_eq!(now(again().open_session(ME, NOW)).unwrap().session, SessionNo(2));
}

#[test]
fn every_flipped_byte_of_the_ledger_is_noticed() {
    let Fixture { _temp, folder, store } = vault();
    snapshot(&store).unwrap();
    let path = folder.join("ledger");
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, &damaged).unwrap();
        let fresh = FolderStore::open(&folder).unwrap();
        assert_eq!(kind(now(fresh.snapshots())), ErrorKind::LedgerDamaged, "byte {at}");
        assert_eq!(kind(now(fresh.open_session(ME, NOW))), ErrorKind::LedgerDamaged, "byte {at}");
        assert_eq!(fs::read(&path).unwrap(), damaged, "a damaged ledger is left as it is");
    }
    // One that is open already does not hide the damage behind what it remembers.
    let error = now(store.version()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::LedgerDamaged);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    fs::write(&path, &whole).unwrap();
    assert_eq!(now(store.snapshots()).unwrap().snapshots.len(), 1);
}

#[test]
fn a_cut_or_missing_or_foreign_ledger_is_damaged() {
    let Fixture { _temp, folder, store } = vault();
    snapshot(&store).unwrap();
    let path = folder.join("ledger");
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        assert_eq!(kind(now(store.snapshots())), ErrorKind::LedgerDamaged, "cut to {len}");
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(kind(now(store.version())), ErrorKind::LedgerDamaged);
    assert_eq!(kind(now(store.open_session(ME, NOW))), ErrorKind::LedgerDamaged);
    assert!(!path.exists(), "numbers would be given again from 1");
    let other = tempfile::tempdir().unwrap();
    FolderStore::create(&other.path().join("v"), VaultId([1; 16])).unwrap();
    fs::copy(other.path().join("v/ledger"), &path).unwrap();
    assert_eq!(kind(now(store.version())), ErrorKind::LedgerDamaged);
    // Blobs stay readable, and so does the vault's id.
    assert_eq!(now(store.list(BlobKind::Roots)).unwrap().len(), 1);
    assert_eq!(now(store.vault()).unwrap(), VAULT);
}

#[test]
fn an_older_ledger_put_back_is_seen_at_once() {
    let Fixture { _temp, folder, store } = vault();
    snapshot(&store).unwrap();
    let older = fs::read(folder.join("ledger")).unwrap();
    snapshot(&store).unwrap();
    assert_eq!(now(store.version()).unwrap(), 2);
    fs::write(folder.join("copy"), &older).unwrap();
    fs::rename(folder.join("copy"), folder.join("ledger")).unwrap();
    assert_eq!(now(store.version()).unwrap(), 1);
}

#[test]
fn what_is_not_a_blob_is_not_listed() {
    let Fixture { _temp, folder, store } = vault();
    let session = snapshot(&store).unwrap();
    put(&store, BlobKey::Pack(session, 1), b"x").unwrap();
    put(&store, BlobKey::Envelope(EnvelopeId([0; 8])), b"x").unwrap();
    for odd in ["p/notes", "p/00000001/00000002.part", "p/00000001/1", "r/.DS_Store", "k/readme", "tmp/x"] {
        fs::write(folder.join(odd), b"odd").unwrap();
    }
    fs::create_dir(folder.join("r/00000007")).unwrap();
    fs::create_dir(folder.join("p/0000000a")).unwrap();
    fs::write(folder.join("p/0000000b"), b"a file where a folder should be").unwrap();
    assert_eq!(now(store.list(BlobKind::Roots)).unwrap(), [(BlobKey::Root(session), 5)]);
    assert_eq!(now(store.list(BlobKind::PacksOf(session))).unwrap(), [(BlobKey::Pack(session, 1), 1)]);
    assert_eq!(now(store.list(BlobKind::Envelopes)).unwrap().len(), 1);
    fs::remove_file(folder.join("p/0000000b")).unwrap();
    assert_eq!(now(store.list(BlobKind::Packs)).unwrap(), [(BlobKey::Pack(session, 1), 1)]);
    // A folder is not a blob for a reader either, and its name is taken all the same.
    assert_eq!(kind(now(store.get(BlobKey::Root(SessionNo(7)), Range::Whole))), ErrorKind::Io);
    assert_eq!(kind(put(&store, BlobKey::Root(SessionNo(7)), b"x")), ErrorKind::AlreadyExists);
}

#[test]
fn blobs_changed_behind_our_back_are_not_hidden() {
    let Fixture { _temp, folder, store } = vault();
    let key = BlobKey::Pack(SessionNo(1), 0);
    put(&store, key, b"0123456789").unwrap();
    let path = folder.join(key.to_string());
    let whole = || now(store.get(key, Range::Whole));
    assert_eq!(&whole().unwrap().bytes[..], b"0123456789");
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4).unwrap();
    assert_eq!(&whole().unwrap().bytes[..], b"0123");
    fs::remove_file(&path).unwrap();
    assert_eq!(kind(whole()), ErrorKind::NotFound);
    fs::write(&path, b"new").unwrap();
    assert_eq!(&whole().unwrap().bytes[..], b"new");
}

#[test]
fn many_blobs_are_read_through_few_open_files() {
    let Fixture { _temp, folder, store } = vault();
    let opened = || {
        let files = fs::read_dir("/proc/self/fd").unwrap().flatten();
        files.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.starts_with(folder.join("p")))).count()
    };
    for number in 0..200u32 {
        put(&store, BlobKey::Pack(SessionNo(1), number), &number.to_le_bytes()).unwrap();
    }
    for round in 0..3 {
        for number in 0..200u32 {
            let got = now(store.get(BlobKey::Pack(SessionNo(1), number), Range::Whole)).unwrap();
            assert_eq!(got.bytes[..], number.to_le_bytes(), "round {round}");
            assert!(opened() <= 64, "{} files are open", opened());
        }
    }
    for _ in 0..1000 {
        now(store.get(BlobKey::Pack(SessionNo(1), 7), Range::At { offset: 1, len: 2 })).unwrap();
    }
    assert!(opened() <= 64);
}

#[test]
fn a_vault_is_for_its_owner_only() {
    let Fixture { _temp, folder, store } = vault();
    let session = snapshot(&store).unwrap();
    put(&store, BlobKey::Pack(session, 0), b"x").unwrap();
    for path in everything(&folder).into_keys().chain([folder.clone()]) {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
    let refused = as_nobody(|| FolderStore::open(&folder).map(drop).unwrap_err());
    assert_eq!(refused.kind, ErrorKind::Denied);
    assert!(refused.to_string().contains("not allowed to read"), "{refused}");
}

#[test]
fn a_read_only_vault_is_read_and_not_written() {
    let disk = Tmpfs::new("size=4m");
    let folder = disk.path().join("vault");
    let session = snapshot(&FolderStore::create(&folder, VAULT).unwrap()).unwrap();
    let before = everything(&folder);
    disk.read_only(true);
    let store = FolderStore::open(&folder).unwrap();
    assert_eq!(now(store.snapshots()).unwrap().snapshots.len(), 1);
    assert_eq!(now(store.get(BlobKey::Root(session), Range::Suffix(2))).unwrap().bytes[..], *b"t!");
    assert_eq!(kind(now(store.open_session(ME, NOW))), ErrorKind::Denied);
    assert_eq!(kind(store.spool()), ErrorKind::Denied);
    assert_eq!(everything(&folder), before);
    let elsewhere = FolderStore::create(&disk.path().join("other"), VAULT).unwrap_err();
    assert_eq!(elsewhere.kind, ErrorKind::Denied);
    assert!(elsewhere.to_string().contains("read-only"), "{elsewhere}");
}

#[test]
fn nobody_cannot_make_a_vault_where_root_rules() {
    let temp = tempfile::tempdir().unwrap();
    let denied = as_nobody(|| FolderStore::create(&temp.path().join("a/b"), VAULT).map(drop).unwrap_err());
    assert_eq!(denied.kind, ErrorKind::Denied);
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn two_makers_of_one_vault_do_not_mix() {
    for _ in 0..20 {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("vault");
        let start = std::sync::Barrier::new(2);
        let made: Vec<Option<VaultId>> = std::thread::scope(|scope| {
            let makers = [1u8, 2].map(|id| {
                let (start, folder) = (&start, &folder);
                scope.spawn(move || {
                    start.wait();
                    match FolderStore::create(folder, VaultId([id; 16])) {
                        Ok(_) => Some(VaultId([id; 16])),
                        Err(e) if e.kind == ErrorKind::AlreadyExists => None,
                        Err(e) => panic!("{e}"),
                    }
                })
            });
            makers.map(|maker| maker.join().unwrap()).to_vec()
        });
        let winner = match made[..] {
            [Some(one), None] | [None, Some(one)] => one,
            _ => panic!("exactly one maker must win: {made:?}"),
        };
        let store = FolderStore::open(&folder).unwrap();
        assert_eq!(now(store.vault()).unwrap(), winner);
        snapshot(&store).unwrap();
    }
}

#[test]
fn a_relative_folder_stays_where_it_was() {
    let Fixture { _temp, folder, store } = vault();
    assert!(store.folder().is_absolute());
    assert_eq!(store.folder(), folder);
}
