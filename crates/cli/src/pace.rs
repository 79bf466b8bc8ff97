//! What the way to a vault's store carried when it was last used, kept in the state folder as digits: bytes a second.
//!
//! **What it may not do.** Fail anything: it is a guess to begin with, until this time's answers say better.
//! **What always holds.** A file that does not read, or that says what no line is, is as good as none.
//! **Where it is tested.** Below; `tests/cli`.
//!
//! *Decision.* 2026-11-30: before anything large came, a household's 64 Mbit/s was assumed each time. On a fast line a long
//! file then began with a third of what its reader asks to be led by; on a slow one its first piece shared the line with
//! five others.

use crate::config::write_private;
use backupengine_model::VaultId;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// What is believed: 64 kbit/s to 100 Gbit/s.
const BELIEVED: RangeInclusive<u64> = 8_000..=12_500_000_000;

/// The file of a vault below the state folder.
pub(crate) fn path(state: &Path, vault: VaultId) -> PathBuf {
    state.join(vault.to_string()).join("pace")
}

/// What it was, in bytes a second.
pub(crate) fn load(path: &Path) -> Option<u64> {
    let pace = std::fs::read_to_string(path).ok()?.trim_end().parse().ok()?;
    BELIEVED.contains(&pace).then_some(pace)
}

/// Keeps it, in bytes a second.
pub(crate) fn save(path: &Path, pace: u64) {
    let pace = pace.clamp(*BELIEVED.start(), *BELIEVED.end());
    if let Err(failure) = write_private(path, format!("{pace}\n").as_bytes()) {
        tracing::debug!("how fast the line is was not kept: {}", failure.message());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_found_and_nonsense_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), VaultId([1; 16]));
        assert_eq!(load(&path), None);
        for (kept, found) in [(12_345_678, 12_345_678), (0, 8_000), (u64::MAX, 12_500_000_000)] {
            save(&path, kept);
            assert_eq!(load(&path), Some(found));
        }
        for text in ["", "fast", "-1", "1", "99999999999999", "99999999999999999999999"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(load(&path), None, "{text}");
        }
        // Where nothing can be kept, nothing fails.
        save(&folder.path().join("1".repeat(300)).join("pace"), 1);
    }
}
