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
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Floor::default()),
        Err(error) => return Err(Failure::io("read", path, error)),
    };
    parse(&text).ok_or_else(|| {
        let text = format!("the memory of seen snapshots {} does not read", path.display());
        Failure::new(Kind::Failed, text)
            .hint("delete it if you know why it is damaged; what this device saw before is then forgotten")
    })
}

fn parse(text: &str) -> Option<Floor> {
    let file: File = serde_json::from_str(text).ok().filter(|file: &File| file.version == 1)?;
    let seen = file.seen.iter().map(|seen| {
        let device = DeviceId::from_hex(&seen.device).ok()?;
        Some((device, SessionNo(seen.session), RootHash::from_hex(&seen.root).ok()?))
    });
    Some(Floor { seen: seen.collect::<Option<_>>()? })
}

/// Keeps `new`. Merged with what another command may have kept meanwhile, unless it is meant to `replace` it.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn save(path: &Path, new: &Floor, replace: bool) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(path);
    create_private_dir(folder)?;
    let _guard = lock(folder)?;
    let old = load(path).unwrap_or_default();
    let merged = if replace { new.clone() } else { old.merged(new) };
    if merged == old {
        return Ok(());
    }
    let seen = merged.seen.iter().map(|(device, session, root)| Seen {
        device: device.to_string(),
        session: session.0,
        root: root.to_string(),
    });
    let file = File { version: 1, seen: seen.collect() };
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
    fn a_damaged_memory_is_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floor");
        fs::write(&path, "{}").unwrap();
        assert!(load(&path).is_err());
    }
}
