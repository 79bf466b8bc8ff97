//! What this device still has of a vault: for a repair, which is a push told what is lost.
//!
//! **What it is.** [`LiveRemains`] fills the port [`Remains`]: pages and roots that pushes kept, and data frames made
//! anew from live files. A file is looked for where the snapshot had it, then among all files below the folders that
//! were given, cut as a push cuts them.
//! **What it may not do.** Write, or believe a file by its name, size or time.
//! **What always holds.** Bytes that are given were read once, hashed, and found to be what a sealed footer or a tagged
//! record of the dedup index says lay at the place: whatever happens to the file meanwhile.
//! **Where it is tested.** `tests/damage`.
mod finder;
mod known;

use crate::dedup::Known;
use crate::kept::Kept;
use crate::sealer::{PlainFrame, Sealer};
use backupengine_chunk::{ChunkParams, Chunker};
use backupengine_format::footer::Footer;
use backupengine_format::limits::DATA_FRAME_MAX;
use backupengine_model::{FrameRef, PackRef, SessionNo, TreePath};
use backupengine_seal::{ContentIdKey, Keyring};
use backupengine_source::{SourceFile, WalkConfig, real_path};
use backupengine_vault::{FoundFrame, FrameUse, LostFrame, Remains};
use finder::Finder;
use known::{Chunk, Contents};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// See the module header.
pub struct LiveRemains {
    ids: ContentIdKey,
    chunker: Chunker,
    index: Known,
    kept: Kept,
    walk: WalkConfig,
    sealer: Mutex<Sealer>,
    sought: Mutex<Sought>,
}

/// What is being looked for.
#[derive(Default)]
struct Sought {
    contents: Contents,
    /// Among all files; once it was needed.
    finder: Option<Finder>,
    /// The chunk that was found last: its frames are asked for one after the other.
    last: Option<(FrameRef, Vec<u8>)>,
}

impl LiveRemains {
    /// Opens what pushes from this device left in `state` (the folder of [`crate::PushConfig::state`]) for the vault of
    /// these keys. `walk` names the folders that are searched for what is not where it was; without roots none is.
    pub fn open(state: &Path, keyring: &Keyring, walk: WalkConfig) -> Self {
        let (vault, ids) = (keyring.vault(), keyring.content_ids());
        Self {
            index: Known::open(state.join(format!("dedup-{vault}")), vault, ids.clone(), u64::MAX),
            kept: Kept::new(state, vault),
            chunker: Chunker::new(ChunkParams::DEFAULT, &keyring.gear()),
            sealer: Mutex::new(Sealer::new()),
            sought: Mutex::default(),
            ids,
            walk,
        }
    }

    /// One frame of a chunk, as the bytes of a file from `start` on.
    fn run(&self, sought: &mut Sought, lost: &LostFrame<'_>) -> Option<Vec<u8>> {
        for (chunk, held) in sought.contents.chunks_with(&lost.at) {
            let from = held.start as u64;
            let part = |bytes: &[u8]| bytes.get(held.clone()).map(<[u8]>::to_vec);
            if let Some((_, bytes)) = sought.last.as_ref().filter(|(first, _)| *first == chunk.first) {
                return part(bytes);
            }
            let Some(bytes) = self.whole_chunk(sought, &chunk, from, lost) else { continue };
            let found = part(&bytes);
            sought.last = Some((chunk.first, bytes));
            return found;
        }
        None
    }

    /// The bytes of a chunk of which a frame lies `from` bytes behind its beginning.
    fn whole_chunk(
        &self,
        sought: &mut Sought,
        chunk: &Chunk,
        from: u64,
        lost: &LostFrame<'_>,
    ) -> Option<Vec<u8>> {
        let good = |bytes: &Vec<u8>| self.ids.content_id(bytes) == chunk.id;
        for used in lost.uses {
            let FrameUse::Run { path, start } = used else { continue };
            let Some(start) = start.checked_sub(from) else { continue };
            let Ok(file) = SourceFile::open_file(&real_path(path)) else { continue };
            if let Some(bytes) = read(&file, start, chunk.len()).filter(good) {
                return Some(bytes);
            }
        }
        self.look(sought);
        sought.finder.as_ref()?.chunk(chunk.id).filter(good)
    }

    /// A bundle: every part of it that is needed, or nothing.
    fn bundle(&self, sought: &mut Sought, lost: &LostFrame<'_>) -> Option<Vec<u8>> {
        let mut parts: BTreeMap<(u32, u32), Vec<&FrameUse>> = BTreeMap::new();
        for used in lost.uses {
            match used {
                FrameUse::Run { .. } => return None,
                FrameUse::Piece { inner, len, .. } | FrameUse::Value { inner, len, .. } => {
                    parts.entry((*inner, *len)).or_default().push(used);
                }
            }
        }
        let end = |(inner, len): &(u32, u32)| inner.checked_add(*len);
        let needed = parts.keys().map(end).try_fold(0, |most: u32, end| Some(most.max(end?)))?;
        let len = lost.plain_lens.get(&lost.at.offset).copied().unwrap_or(needed);
        if needed > len || len as usize > DATA_FRAME_MAX || parts.is_empty() {
            return None;
        }
        let mut plain = vec![0; len as usize];
        for ((inner, len), uses) in parts {
            let bytes = self.part(sought, &lost.at, inner, len, &uses)?;
            plain.get_mut(inner as usize..)?.get_mut(..len as usize)?.copy_from_slice(&bytes);
        }
        Some(plain)
    }

    fn part(
        &self,
        sought: &mut Sought,
        at: &FrameRef,
        inner: u32,
        len: u32,
        uses: &[&FrameUse],
    ) -> Option<Vec<u8>> {
        for used in uses {
            let bytes = match used {
                FrameUse::Piece { path, .. } => whole_file(path, len),
                FrameUse::Value { path, name, .. } => value_of(path, name),
                FrameUse::Run { .. } => None,
            };
            let good = |bytes: &Vec<u8>| {
                bytes.len() == len as usize
                    && sought.contents.lies_at(&self.ids, self.ids.content_id(bytes), at, inner)
            };
            if let Some(bytes) = bytes.filter(good) {
                return Some(bytes);
            }
        }
        let named = sought.contents.piece_at(at, inner);
        self.look(sought);
        let Sought { contents, finder: Some(finder), .. } = sought else { return None };
        let lies = |bytes: &[u8]| {
            bytes.len() == len as usize && contents.lies_at(&self.ids, self.ids.content_id(bytes), at, inner)
        };
        named.and_then(|id| finder.piece(id)).filter(|bytes| lies(bytes)).or_else(|| finder.short(len, lies))
    }

    /// Looks through the given folders, once.
    fn look(&self, sought: &mut Sought) {
        if sought.finder.is_none() && !self.walk.roots.is_empty() {
            sought.finder = Some(Finder::look(&self.walk, &self.ids, &self.chunker, &sought.contents));
        }
    }
}

impl Remains for LiveRemains {
    fn sealed(&self, at: &FrameRef) -> Option<Vec<u8>> {
        self.kept.page(at)
    }

    fn root(&self, session: SessionNo) -> Option<Vec<u8>> {
        self.kept.root(session)
    }

    fn seek(&self, packs: &[(PackRef, Option<Footer>)]) {
        let names = packs.iter().map(|(pack, _)| *pack).collect();
        let mut contents = Contents::default();
        contents.learn(self.index.records_in(&names));
        for (pack, footer) in packs {
            if let Some(footer) = footer {
                contents.read(*pack, footer);
            }
        }
        *self.sought.lock().unwrap_or_else(PoisonError::into_inner) =
            Sought { contents, finder: None, last: None };
    }

    fn frame(&self, lost: &LostFrame<'_>) -> Option<FoundFrame> {
        let mut sought = self.sought.lock().unwrap_or_else(PoisonError::into_inner);
        let is_run = lost.uses.iter().any(|used| matches!(used, FrameUse::Run { .. }));
        let plain = if is_run { self.run(&mut sought, lost)? } else { self.bundle(&mut sought, lost)? };
        drop(sought);
        let mut sealer = self.sealer.lock().unwrap_or_else(PoisonError::into_inner);
        let PlainFrame { bytes, plain_len } =
            if is_run { sealer.part(&plain) } else { sealer.bundle(&plain) };
        drop(sealer);
        Some(FoundFrame { body: bytes, plain_len })
    }
}

fn whole_file(path: &TreePath, len: u32) -> Option<Vec<u8>> {
    read(&SourceFile::open_file(&real_path(path)).ok()?, 0, len.into())
}

fn value_of(path: &TreePath, name: &[u8]) -> Option<Vec<u8>> {
    SourceFile::open_file(&real_path(path)).ok()?.xattr(name)
}

/// `len` bytes from `offset`, or nothing.
fn read(file: &SourceFile, offset: u64, len: u64) -> Option<Vec<u8>> {
    read_up_to(file, offset, len).filter(|bytes| bytes.len() as u64 == len)
}

/// Up to `len` bytes: less where the file ends before.
fn read_up_to(file: &SourceFile, offset: u64, len: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(offset.checked_add(filled as u64)?, &mut bytes[filled..]).ok()? {
            0 => break,
            n => filled += n,
        }
    }
    bytes.truncate(filled);
    Some(bytes)
}
