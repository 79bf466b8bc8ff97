//! The live files this device pushed, as seeds for a reader of its snapshots.
//!
//! **What it is.** The read side of what pushes keep: files on local disks, opened by their paths in a snapshot, and
//! the dedup index, asked whether content lies at a place.
//! **What it may not do.** Write anything, hold a file open between two reads, wait for a network, or believe a file:
//! who reads it hashes what came.
//! **What always holds.** A path behind a symbolic link, on a network or on a mount of this or another process gives
//! nothing; neither does a file of another size or modification time.
//! **Where it is tested.** `tests/cli` through a mount; its parts beside them.
use crate::dedup::{Content, DedupKey, Known, Place, short_key};
use backupengine_model::{Attributes, ContentId, TreePath};
use backupengine_seal::{ContentIdKey, Keyring};
use backupengine_source::LocalFiles;
use backupengine_vault::{SeedPlace, Seeds};
use std::path::Path;

/// See the module header.
pub struct LiveSeeds {
    ids: ContentIdKey,
    known: Known,
    files: LocalFiles,
}

impl LiveSeeds {
    /// Opens what pushes from this device left in `state` (the folder of [`crate::PushConfig::state`]) for the vault of
    /// these keys, in at most `memory` bytes. Without a push, or after damage, there is nothing to give.
    pub fn open(state: &Path, keyring: &Keyring, memory: u64) -> Self {
        let (vault, ids) = (keyring.vault(), keyring.content_ids());
        let known = Known::open(state.join(format!("dedup-{vault}")), vault, ids.clone(), memory);
        Self { ids, known, files: LocalFiles::default() }
    }
}

impl Seeds for LiveSeeds {
    fn resembles(&self, path: &TreePath, attributes: &Attributes) -> bool {
        !self.known.is_empty() && self.files.open(path, attributes).is_some()
    }

    fn read(&self, path: &TreePath, attributes: &Attributes, offset: u64, out: &mut [u8]) -> bool {
        if self.known.is_empty() {
            return false;
        }
        let Some(file) = self.files.open(path, attributes) else { return false };
        let mut filled = 0;
        while filled < out.len() {
            match file.read_at(offset + filled as u64, &mut out[filled..]) {
                Ok(0) => return false,
                Ok(n) => filled += n,
                Err(error) => {
                    tracing::debug!(%error, "a live file does not read");
                    return false;
                }
            }
        }
        true
    }

    fn lies_at(&self, id: ContentId, at: &SeedPlace<'_>) -> bool {
        match *at {
            SeedPlace::Chunk { first, lens } => {
                let content = Content::Chunk { lens: lens.to_vec() };
                let place = Place { pack: first.pack, offset: first.offset, content };
                self.known.holds(&DedupKey { id, piece: false }, &place)
            }
            SeedPlace::Piece { frame, inner } => {
                let place = Place::of_piece(frame, inner);
                self.known.holds(&DedupKey { id, piece: true }, &place)
                    || self.known.holds(&short_key(&self.ids, id, &frame, inner), &place)
            }
        }
    }
}
