//! The list of an account's snapshots as it was last seen, kept in the state folder: what a mount shows while the server
//! is not reached.
//!
//! **What it may not do.** Stand for the server's word: it is shown only where that is not to be had, and said to be old.
//! Hold a name, a path or a key: labels are sealed, and the roots say what is true.
//! **What always holds.** Only a list that was held against the floor is kept, and it is held against it again when it is
//! used: it shows no older past than this device has seen.
//! **Where it is tested.** Below; `tests/cli`.

use crate::config::write_private;
use crate::error::{Failure, Kind};
use crate::keychain::{hex, unhex};
use backupengine_model::ledger::SnapshotRecord;
use backupengine_model::{DeviceId, SessionNo, SnapshotId, Timestamp, VaultId};
use backupengine_store::SnapshotList;
use std::fs;
use std::path::{Path, PathBuf};

/// What was seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) list: SnapshotList,
    /// Bytes the vault took.
    pub(crate) used: u64,
    /// When.
    pub(crate) at: Timestamp,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct File {
    version: u32,
    at: i64,
    used: u64,
    ledger: u64,
    snapshots: Vec<Record>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Record {
    session: u32,
    id: String,
    device: String,
    secs: i64,
    nanos: u32,
    root_size: u64,
    head_len: u32,
    label: String,
}

/// The file of a vault below the state folder.
pub(crate) fn path(state: &Path, vault: VaultId) -> PathBuf {
    state.join(vault.to_string()).join("seen")
}

/// What was seen last; `None` where nothing was, or where it does not read.
pub(crate) fn load(path: &Path) -> Option<Seen> {
    let text = fs::read_to_string(path).ok()?;
    let seen = parse(&text);
    if seen.is_none() {
        tracing::warn!(path = %path.display(), "the list of snapshots as it was last seen does not read");
    }
    seen
}

fn parse(text: &str) -> Option<Seen> {
    let file: File = serde_json::from_str(text).ok().filter(|file: &File| file.version == 1)?;
    let snapshots = file.snapshots.into_iter().map(|record| {
        Some(SnapshotRecord {
            session: SessionNo(record.session),
            id: SnapshotId::from_hex(&record.id).ok()?,
            device: DeviceId::from_hex(&record.device).ok()?,
            created: Timestamp { secs: record.secs, nanos: record.nanos },
            root_size: record.root_size,
            head_len: record.head_len,
            label: unhex(&record.label)?.to_vec(),
        })
    });
    let list = SnapshotList { version: file.ledger, snapshots: snapshots.collect::<Option<_>>()? };
    Some(Seen { list, used: file.used, at: Timestamp { secs: file.at, nanos: 0 } })
}

/// Keeps what is seen.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn save(path: &Path, seen: &Seen) -> Result<(), Failure> {
    let snapshots = seen.list.snapshots.iter().map(|record| Record {
        session: record.session.0,
        id: record.id.to_string(),
        device: record.device.to_string(),
        secs: record.created.secs,
        nanos: record.created.nanos,
        root_size: record.root_size,
        head_len: record.head_len,
        label: hex(&record.label),
    });
    let file = File {
        version: 1,
        at: seen.at.secs,
        used: seen.used,
        ledger: seen.list.version,
        snapshots: snapshots.collect(),
    };
    let text = serde_json::to_string(&file).map_err(|e| Failure::new(Kind::Failed, e))?;
    write_private(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_found_again_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), VaultId([1; 16]));
        assert!(load(&path).is_none());
        let record = SnapshotRecord {
            session: SessionNo(7),
            id: SnapshotId([2; 8]),
            device: DeviceId([3; 16]),
            created: Timestamp { secs: -5, nanos: 6 },
            root_size: 900,
            head_len: 800,
            label: vec![0, 255, 1],
        };
        let list = SnapshotList { version: 9, snapshots: vec![record] };
        save(&path, &Seen { list: list.clone(), used: 12, at: Timestamp { secs: 34, nanos: 0 } }).unwrap();
        let found = load(&path).unwrap();
        assert_eq!((found.list.version, found.used, found.at.secs), (9, 12, 34));
        assert_eq!(found.list.snapshots, list.snapshots);
        for damaged in ["", "{}", "[1]"] {
            fs::write(&path, damaged).unwrap();
            assert!(load(&path).is_none(), "{damaged}");
        }
    }
}
