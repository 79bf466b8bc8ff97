//! No room: everything fails with `Full`, says where, and leaves the vault as it was.

use crate::folder::{commit_of, everything, put, snapshot};
use backupengine_model::{DeviceId, Timestamp};
use backupengine_store::{
    BlobKey, BlobKind, BlobReader, BlobWriter, ErrorKind, FolderStore, LedgerReader, LedgerWriter, StoreError,
};
use backupengine_testkit::system::Tmpfs;
use backupengine_testkit::{conformance::VAULT, now};
use std::fs;
use std::io::Write;

const ME: DeviceId = DeviceId([3; 16]);

/// Writes until nothing more fits.
fn fill(disk: &Tmpfs) {
    let mut file = fs::File::create(disk.path().join("filling")).unwrap();
    while file.write_all(&[0; 512]).is_ok() {}
}

#[test]
fn a_blob_that_does_not_fit_leaves_nothing() {
    let disk = Tmpfs::new("size=1m");
    let folder = disk.path().join("vault");
    let store = FolderStore::create(&folder, VAULT).unwrap();
    let session = snapshot(&store).unwrap();
    let before = everything(&folder);
    let mut spool = store.spool().unwrap();
    let error = std::iter::repeat_with(|| spool.write_all(&[1; 100_000])).find_map(Result::err).unwrap();
    let error = StoreError::from(error);
    assert_eq!(error.kind, ErrorKind::Full);
    assert!(error.to_string().contains(disk.path().to_str().unwrap()), "{error}");
    drop(spool);
    assert_eq!(everything(&folder), before);
    put(&store, BlobKey::Pack(session, 0), &[1; 100_000]).unwrap();
}

/// What fits into the spool's own buffer is only found not to fit when it is put.
#[test]
fn a_small_blob_that_does_not_fit_fails_when_it_is_put() {
    let disk = Tmpfs::new("size=256k");
    let folder = disk.path().join("vault");
    let store = FolderStore::create(&folder, VAULT).unwrap();
    let session = snapshot(&store).unwrap();
    let before = everything(&folder);
    let error = put(&store, BlobKey::Pack(session, 0), &[1; 600_000]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Full);
    assert_eq!(everything(&folder), before);
    assert_eq!(now(store.list(BlobKind::Packs)).unwrap(), []);
}

#[test]
fn sessions_and_commits_without_room_change_nothing() {
    let disk = Tmpfs::new("size=256k");
    let folder = disk.path().join("vault");
    let store = FolderStore::create(&folder, VAULT).unwrap();
    snapshot(&store).unwrap();
    let open = now(store.open_session(ME, Timestamp::default())).unwrap().session;
    put(&store, BlobKey::Root(open), b"root!").unwrap();
    // Looked at, so that no handle keeps the ledger's predecessor, whose room would be given back.
    assert_eq!(now(store.sessions()).unwrap().len(), 2);
    let before = everything(&folder);
    fill(&disk);
    assert_eq!(now(store.commit(ME, &commit_of(open))).unwrap_err().kind, ErrorKind::Full);
    let session = now(store.open_session(ME, Timestamp::default()));
    assert_eq!(session.unwrap_err().kind, ErrorKind::Full);
    assert_eq!(everything(&folder), before);
    assert_eq!(now(store.space()).unwrap().1, Some(0));
    fs::remove_file(disk.path().join("filling")).unwrap();
    now(store.commit(ME, &commit_of(open))).unwrap();
    assert_eq!(now(store.snapshots()).unwrap().snapshots.len(), 2);
}

#[test]
fn a_vault_without_room_is_not_begun() {
    // Ten are enough: the filesystem's own folder, two of ours, four in it, and three files.
    for inodes in 2..10 {
        let disk = Tmpfs::new(&format!("size=1m,nr_inodes={inodes}"));
        let error = FolderStore::create(&disk.path().join("a/vault"), VAULT).map(drop).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Full, "{inodes} inodes");
        assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0, "{inodes} inodes");
    }
    let disk = Tmpfs::new("size=64k");
    fill(&disk);
    let error = FolderStore::create(&disk.path().join("vault"), VAULT).map(drop).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Full);
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 1);
}
