//! What lies where in a vault's folder, and how one is made and recognised.
//!
//! ```text
//! BACKUPENGINE         marker: what this is, format, vault id
//! p/SSSSSSSS/NNNNNNNN  packs        r/SSSSSSSS  roots        k/<16 hex>  key envelopes
//! ledger               which blobs count; replaced whole, under an exclusive flock(2) on `lock`
//! ledger.damaged       what a repair found in its place
//! tmp/                 spools
//! ```
//! May not read blobs. What always holds: the marker comes last, so a folder with a marker is a whole vault;
//! a `create` that fails removes what it made and nothing else. Tested below and in `tests/stores`.

use super::durable;
use super::ledger::LedgerFile;
use crate::{BlobKey, EnvelopeId, ErrorKind, StoreError};
use backupengine_model::{SessionNo, VaultId};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The file that says what the folder is.
pub(crate) const MARKER: &str = "BACKUPENGINE";
/// Spools, and files on their way to replace others.
pub(crate) const TMP: &str = "tmp";
/// The file whose lock guards the ledger.
pub(crate) const LOCK: &str = "lock";
/// The ledger.
pub(crate) const LEDGER: &str = "ledger";
/// A ledger that did not read, put aside when it was rebuilt.
pub(crate) const LEDGER_DAMAGED: &str = "ledger.damaged";

/// The layout this program knows.
const FORMAT: u64 = 1;
/// More than any marker needs.
const MARKER_MAX: u64 = 4096;
/// What a fresh disk shows by itself.
const NOT_OURS: &str = "lost+found";

/// Where a blob lies.
pub(crate) fn blob_path(folder: &Path, key: BlobKey) -> PathBuf {
    folder.join(key.to_string())
}

/// A number of eight lower-case hexadecimal digits.
pub(crate) fn parse_number(name: &OsStr) -> Option<u32> {
    let name = lower_hex(name, 8)?;
    u32::from_str_radix(name, 16).ok()
}

/// A name in `k/`.
pub(crate) fn parse_envelope(name: &OsStr) -> Option<EnvelopeId> {
    let name = lower_hex(name, 16)?;
    u64::from_str_radix(name, 16).ok().map(|id| EnvelopeId(id.to_be_bytes()))
}

/// A name in `p/` or `r/`.
pub(crate) fn parse_session(name: &OsStr) -> Option<SessionNo> {
    parse_number(name).map(SessionNo)
}

fn lower_hex(name: &OsStr, digits: usize) -> Option<&str> {
    let name = name.to_str()?;
    let fits = name.len() == digits && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    fits.then_some(name)
}

fn marker_text(vault: VaultId) -> String {
    format!(
        "This folder is a vault of backupengine: encrypted backups. Nothing in it may be changed by hand.\n\
         format: {FORMAT}\n\
         vault: {vault}\n"
    )
}

/// Reads the marker: which vault this is.
///
/// # Errors
/// `NotAVault`, `TooNew`, `Denied`, `Io`.
pub(crate) fn read_marker(folder: &Path) -> Result<VaultId, StoreError> {
    let path = folder.join(MARKER);
    let mut text = Vec::new();
    let read = fs::File::open(&path).and_then(|file| file.take(MARKER_MAX).read_to_end(&mut text));
    if let Err(error) = read {
        return Err(no_marker(folder, &path, error));
    }
    let text = String::from_utf8_lossy(&text);
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let format = field("format:").and_then(|digits| digits.parse::<u64>().ok());
    if let Some(newer) = format.filter(|format| *format > FORMAT) {
        let message = format!(
            "{} is a vault of format {newer}, newer than this program knows ({FORMAT})",
            folder.display()
        );
        return Err(StoreError::new(ErrorKind::TooNew, message));
    }
    match (format, field("vault:").and_then(|id| VaultId::from_hex(id).ok())) {
        (Some(FORMAT), Some(vault)) => Ok(vault),
        _ => {
            let message =
                format!("{} is no vault: its file {MARKER} does not read as a marker", folder.display());
            Err(StoreError::new(ErrorKind::NotAVault, message))
        }
    }
}

fn no_marker(folder: &Path, path: &Path, error: io::Error) -> StoreError {
    let at = folder.display();
    let message = match error.kind() {
        io::ErrorKind::NotFound if folder.is_dir() => format!("{at} is no vault: it holds no file {MARKER}"),
        io::ErrorKind::NotFound => format!("{at} is no vault: there is no such folder"),
        io::ErrorKind::NotADirectory => format!("{at} is no vault: it is not a folder"),
        io::ErrorKind::IsADirectory => format!("{at} is no vault: {MARKER} in it is not a file"),
        _ => return StoreError::from_io("read", path, error),
    };
    StoreError::new(ErrorKind::NotAVault, message).caused_by(error)
}

/// Makes an empty vault.
///
/// # Errors
/// `AlreadyExists` where the folder holds something, `Denied`, `Full`, `Io`.
pub(crate) fn create(folder: &Path, vault: VaultId) -> Result<(), StoreError> {
    let mut made = Made::default();
    let built = build(folder, vault, &mut made);
    if built.is_ok() {
        made.keep();
    }
    built
}

fn build(folder: &Path, vault: VaultId, made: &mut Made) -> Result<(), StoreError> {
    made.folders_down_to(folder)?;
    refuse_if_in_use(folder)?;
    // Whoever makes this file first makes the vault; another process that found the folder empty, too, stops.
    made.file(&folder.join(LOCK), b"")?;
    for sub in ["p", "r", "k", TMP] {
        made.folder(&folder.join(sub))?;
    }
    let ledger = folder.join(LEDGER);
    made.file(&ledger, &LedgerFile::empty(vault))?;
    let marker = folder.join(MARKER);
    let draft = folder.join(TMP).join(MARKER);
    made.file(&draft, marker_text(vault).as_bytes())?;
    durable::place(&draft, &marker, &folder.join(LOCK))?;
    made.paths.push((marker, false));
    durable::sync_folder(folder)
}

fn refuse_if_in_use(folder: &Path) -> Result<(), StoreError> {
    let at = folder.display();
    let list = |e| StoreError::from_io("list", folder, e);
    for entry in fs::read_dir(folder).map_err(list)? {
        let name = entry.map_err(list)?.file_name();
        if name == OsStr::new(NOT_OURS) {
            continue;
        }
        let message = if folder.join(MARKER).exists() {
            format!("{at} holds a vault already")
        } else {
            format!("{at} is not empty: a new vault needs an empty folder, or one that does not exist yet")
        };
        return Err(StoreError::new(ErrorKind::AlreadyExists, message));
    }
    Ok(())
}

/// What a `create` made so far, newest last; removed again unless the whole is kept.
#[derive(Default)]
struct Made {
    paths: Vec<(PathBuf, bool)>,
}

impl Made {
    fn keep(mut self) {
        self.paths.clear();
    }

    fn folder(&mut self, path: &Path) -> Result<(), StoreError> {
        fs::DirBuilder::new().mode(0o700).create(path).map_err(|e| StoreError::from_io("create", path, e))?;
        self.paths.push((path.to_owned(), true));
        Ok(())
    }

    /// Makes `folder` and what is missing above it, each durably in the folder above.
    fn folders_down_to(&mut self, folder: &Path) -> Result<(), StoreError> {
        match fs::metadata(folder) {
            Ok(found) if found.is_dir() => return Ok(()),
            Ok(_) => {
                let message = format!("{} is there already and is not a folder", folder.display());
                return Err(StoreError::new(ErrorKind::AlreadyExists, message));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(StoreError::from_io("create", folder, e)),
        }
        let above = match folder.parent() {
            Some(above) if above != Path::new("") => above,
            _ => Path::new("."),
        };
        self.folders_down_to(above)?;
        self.folder(folder)?;
        durable::sync_folder(above)
    }

    fn file(&mut self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let file = durable::new_file(path)?;
        self.paths.push((path.to_owned(), false));
        durable::write_synced(&file, path, bytes)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for (path, is_folder) in self.paths.drain(..).rev() {
            // One that is gone already or in use by somebody else stays as it is.
            drop(if is_folder { fs::remove_dir(&path) } else { fs::remove_file(&path) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAULT: VaultId = VaultId([0xab; 16]);

    fn kind(result: Result<VaultId, StoreError>) -> ErrorKind {
        result.unwrap_err().kind
    }

    #[test]
    fn only_exact_names_are_blobs() {
        assert_eq!(parse_number(OsStr::new("0000002a")), Some(42));
        assert_eq!(
            parse_envelope(OsStr::new("00000000000000ff")),
            Some(EnvelopeId([0, 0, 0, 0, 0, 0, 0, 255]))
        );
        for odd in ["", "2a", "0000002A", "+000002a", "0000002a.tmp", "0000002g", "00000002a"] {
            assert_eq!(parse_number(OsStr::new(odd)), None, "{odd}");
        }
    }

    #[test]
    fn a_made_vault_is_recognised() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("some/where/new");
        create(&folder, VAULT).unwrap();
        assert_eq!(read_marker(&folder).unwrap(), VAULT);
        assert_eq!(create(&folder, VAULT).unwrap_err().kind, ErrorKind::AlreadyExists);
        assert_eq!(read_marker(&folder).unwrap(), VAULT);
        assert_eq!(fs::read_dir(folder.join(TMP)).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_vault_is_named_so() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        assert_eq!(kind(read_marker(folder)), ErrorKind::NotAVault);
        assert_eq!(kind(read_marker(&folder.join("absent"))), ErrorKind::NotAVault);
        let marker = folder.join(MARKER);
        let id = "ab".repeat(16);
        for (text, expected) in [
            (String::new(), ErrorKind::NotAVault),
            ("format: 1\n".into(), ErrorKind::NotAVault),
            (format!("format: 0\nvault: {id}\n"), ErrorKind::NotAVault),
            (format!("format: 1\nvault: {id}00\n"), ErrorKind::NotAVault),
            (format!("format: 2\nvault: {id}\n"), ErrorKind::TooNew),
            ("format: 900\n".into(), ErrorKind::TooNew),
        ] {
            fs::write(&marker, &text).unwrap();
            assert_eq!(kind(read_marker(folder)), expected, "{text:?}");
            assert_eq!(kind(read_marker(&marker)), ErrorKind::NotAVault);
        }
    }

    #[test]
    fn a_failed_create_removes_what_it_made() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("a/b");
        let mut made = Made::default();
        made.folders_down_to(&folder).unwrap();
        made.file(&folder.join(LOCK), b"").unwrap();
        made.folder(&folder.join("p")).unwrap();
        drop(made);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
        // What was there before is not touched.
        fs::write(temp.path().join("mine"), b"1").unwrap();
        assert_eq!(create(temp.path(), VAULT).unwrap_err().kind, ErrorKind::AlreadyExists);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
        assert_eq!(create(&temp.path().join("mine"), VAULT).unwrap_err().kind, ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_fresh_disk_counts_as_empty() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join(NOT_OURS)).unwrap();
        create(temp.path(), VAULT).unwrap();
        assert_eq!(read_marker(temp.path()).unwrap(), VAULT);
    }
}
