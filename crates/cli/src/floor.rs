//! The newest roots this device has seen of a vault, kept in the state folder (the rollback check's memory).
//!
//! **What it may not do.** Judge: `vault` compares; this loads, merges and saves.
//! **What always holds.** It only rises, also when two commands end at once; unless a rollback was accepted.
//! **Where it is tested.** Below; `tests/cli` (an older copy of a vault is refused, then accepted knowingly).

use crate::config::{create_private_dir, write_private};
use crate::error::{Failure, Kind};
use backupengine_model::{DeviceId, RootHash, SessionNo, VaultId};
use backupengine_vault::Floor;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(serde::Serialize, serde::Deserialize)]
struct File {
    version: u32,
    seen: Vec<Seen>,
    /// The newest key epoch; not there in files of older programs.
    #[serde(default)]
    epoch: u16,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Seen {
    device: String,
    session: u32,
    root: String,
}

/// The file of a vault below the state folder.
pub(crate) fn path(state: &Path, vault: VaultId) -> PathBuf {
    state.join(vault.to_string()).join("floor")
}

/// What was seen; nothing where nothing was.
///
/// # Errors
/// When the file does not read: going on without it would switch the check off unseen.
pub(crate) fn load(path: &Path) -> Result<Floor, Failure> {
    load_all(path).map(|(floor, _)| floor)
}

/// The newest key epoch that was seen; 0 where none was.
///
/// # Errors
/// See [`load`].
pub(crate) fn epoch(path: &Path) -> Result<u16, Failure> {
    load_all(path).map(|(_, epoch)| epoch)
}

fn load_all(path: &Path) -> Result<(Floor, u16), Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Floor::default(), 0)),
        Err(error) => return Err(Failure::io("read", path, error)),
    };
    parse(&text).ok_or_else(|| {
        let text = format!("the memory of seen snapshots {} does not read", path.display());
        Failure::new(Kind::Failed, text)
            .hint("delete it if you know why it is damaged; what this device saw before is then forgotten")
    })
}

fn parse(text: &str) -> Option<(Floor, u16)> {
    let file: File = serde_json::from_str(text).ok().filter(|file: &File| file.version == 1)?;
    let seen = file.seen.iter().map(|seen| {
        let device = DeviceId::from_hex(&seen.device).ok()?;
        Some((device, SessionNo(seen.session), RootHash::from_hex(&seen.root).ok()?))
    });
    Some((Floor { seen: seen.collect::<Option<_>>()? }, file.epoch))
}

/// Keeps `new`. Merged with what another command may have kept meanwhile, unless it is meant to `replace` it.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn save(path: &Path, new: &Floor, replace: bool) -> Result<(), Failure> {
    change(path, |old, epoch| (if replace { new.clone() } else { old.merged(new) }, epoch))
}

/// Keeps the key epoch of the newest keys. It only rises, unless it is meant to `replace` what was seen.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn save_epoch(path: &Path, new: u16, replace: bool) -> Result<(), Failure> {
    change(path, |old, epoch| (old.clone(), if replace { new } else { epoch.max(new) }))
}

fn change(path: &Path, step: impl FnOnce(&Floor, u16) -> (Floor, u16)) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(path);
    create_private_dir(folder)?;
    let _guard = lock(folder)?;
    let (old, old_epoch) = load_all(path).unwrap_or_default();
    let (merged, epoch) = step(&old, old_epoch);
    if (&merged, epoch) == (&old, old_epoch) {
        return Ok(());
    }
    let seen = merged.seen.iter().map(|(device, session, root)| Seen {
        device: device.to_string(),
        session: session.0,
        root: root.to_string(),
    });
    let file = File { version: 1, seen: seen.collect(), epoch };
    let text = serde_json::to_string(&file).map_err(|e| Failure::new(Kind::Failed, e))?;
    write_private(path, text.as_bytes())
}

fn lock(folder: &Path) -> Result<fs::File, Failure> {
    let path = folder.join("lock");
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|e| Failure::io("open", &path, e))?;
    file.lock().map_err(|e| Failure::io("lock", &path, e))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(seen: &[(u8, u32, u8)]) -> Floor {
        let seen = seen.iter().map(|(d, s, r)| (DeviceId([*d; 16]), SessionNo(*s), RootHash([*r; 32])));
        Floor { seen: seen.collect() }
    }

    #[test]
    fn it_only_rises() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), VaultId([1; 16]));
        assert_eq!(load(&path).unwrap(), Floor::default());
        save(&path, &floor(&[(1, 5, 50), (2, 3, 30)]), false).unwrap();
        save(&path, &floor(&[(1, 4, 40), (3, 9, 90)]), false).unwrap();
        assert_eq!(load(&path).unwrap(), floor(&[(1, 5, 50), (2, 3, 30), (3, 9, 90)]));
        save(&path, &floor(&[(1, 4, 40)]), true).unwrap();
        assert_eq!(load(&path).unwrap(), floor(&[(1, 4, 40)]));
    }

    #[test]
    fn the_key_epoch_rises_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), VaultId([1; 16]));
        assert_eq!(epoch(&path).unwrap(), 0);
        save_epoch(&path, 3, false).unwrap();
        save(&path, &floor(&[(1, 5, 50)]), false).unwrap();
        save_epoch(&path, 2, false).unwrap();
        assert_eq!((epoch(&path).unwrap(), load(&path).unwrap()), (3, floor(&[(1, 5, 50)])));
        save_epoch(&path, 2, true).unwrap();
        assert_eq!((epoch(&path).unwrap(), load(&path).unwrap()), (2, floor(&[(1, 5, 50)])));
        // As an older program wrote it.
        fs::write(&path, "{\"version\":1,\"seen\":[]}").unwrap();
        assert_eq!((epoch(&path).unwrap(), load(&path).unwrap()), (0, Floor::default()));
    }

    #[test]
    fn a_damaged_memory_is_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floor");
        fs::write(&path, "{}").unwrap();
        assert!(load(&path).is_err());
    }
}
