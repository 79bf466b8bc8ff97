//! Looks at the whole dedup index of a vault, and drops it where it is damaged.
//!
//! May not rebuild it: the next push does, from the footers. What always holds: it is dropped by its manifest, under the
//! lock of pushes; segments go with the next push. Tested below.
use super::index::{manifest_path, segment_path};
use super::manifest::Manifest;
use super::segment::Segment;
use crate::session::StateLock;
use backupengine_seal::Keyring;
use std::fs;
use std::path::Path;

/// What became of the dedup index of this device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexState {
    /// There is none, or a push is using it.
    #[default]
    None,
    /// All of it reads.
    Whole,
    /// It was damaged: the next push makes it anew.
    Dropped,
}

/// Reads all of the dedup index that pushes left in `state` for the vault of these keys; drops it where it is damaged.
pub fn mend_index(state: &Path, keyring: &Keyring) -> IndexState {
    let (vault, ids) = (keyring.vault(), keyring.content_ids());
    let folder = state.join(format!("dedup-{vault}"));
    let path = manifest_path(&folder);
    if !path.exists() || !StateLock::take(&state.join(format!("push-{vault}.lock"))).is_held() {
        return IndexState::None;
    }
    let reads = |number| {
        let segment = Segment::open(&segment_path(&folder, number), &ids)?;
        (0..segment.blocks()).try_for_each(|block| segment.block(block).map(drop))
    };
    let manifest = Manifest::load(&path, vault);
    if manifest.is_some_and(|manifest| manifest.segments.iter().all(|listed| reads(listed.number).is_ok())) {
        return IndexState::Whole;
    }
    match fs::remove_file(&path) {
        Ok(()) => IndexState::Dropped,
        Err(error) => {
            tracing::warn!(%error, "the dedup index is damaged and cannot be dropped");
            IndexState::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Bench;

    #[test]
    fn a_damaged_index_is_dropped_and_made_anew() {
        let bench = Bench::new();
        let keyring = bench.vault().keyring().clone();
        let state = bench.state();
        assert_eq!(mend_index(&state, &keyring), IndexState::None);
        bench.write("a", &[7; 9000]);
        bench.push();
        assert_eq!(mend_index(&state, &keyring), IndexState::Whole);
        let folder = state.join(format!("dedup-{}", keyring.vault()));
        let segment = segment_path(&folder, 0);
        let mut bytes = fs::read(&segment).unwrap();
        bytes[5] ^= 1;
        fs::write(&segment, bytes).unwrap();
        assert_eq!(mend_index(&state, &keyring), IndexState::Dropped);
        assert_eq!(mend_index(&state, &keyring), IndexState::None);
        bench.write("b", &[8; 9000]);
        bench.push();
        assert_eq!(mend_index(&state, &keyring), IndexState::Whole);
    }
}
