//! What of a blob is on this device: its end, its blocks; and bringing more of it here.
//!
//! **What it may not do.** Fetch ahead, or decide what stays: [`blocks`](super::blocks) does.
//! **What always holds.** What is said to be here is given without the store. **Where it is tested.** In
//! `tests::far`; by the commands that show it in `tests/cli`.

use super::blocks::{Block, Blocks};
use super::end;
use super::rent::Class;
use crate::stats::count;
use backupengine_format::limits::PACK_MAX;
use backupengine_store::{BlobKey, END_BLOCK, Got, StoreError};
use bytes::Bytes;
use std::ops;
use std::sync::PoisonError;

/// What of a range is on this device.
#[derive(Debug, Default)]
pub(crate) struct Near {
    /// Bytes of the range that are.
    pub(crate) bytes: u64,
    /// Blocks that are not, with their lengths in bytes.
    pub(crate) missing: Vec<(u32, u64)>,
}

impl Blocks {
    /// At least the last `len` bytes of a blob (all of a shorter one), where this device has them.
    pub(crate) fn end(&self, blob: BlobKey, len: u64) -> Option<Got> {
        let core = &self.core;
        core.touch(blob, END_BLOCK..END_BLOCK + 1);
        let kept = end::decode(&core.kept().disk.as_ref()?.get(blob, END_BLOCK)?)?;
        count(&core.counters.disk_hits, 1);
        core.lock().know(blob, kept.total);
        let from = kept.total.saturating_sub(len);
        if kept.offset <= from {
            return Some(kept);
        }
        let blocks = core.blocks(blob, from, kept.total - from).ok()?;
        core.touch(blob, blocks.clone());
        let parts: Option<Vec<Bytes>> = blocks.map(|block| core.here(blob, block)).collect();
        let bytes = core.join(&parts?, from, kept.total - from);
        (bytes.len() as u64 == kept.total - from).then_some(Got { bytes, offset: from, total: kept.total })
    }

    /// Keeps the end of a blob that came, and the blocks that lie whole in it.
    pub(crate) fn keep_end(&self, blob: BlobKey, got: &Got) {
        let core = &self.core;
        core.lock().know(blob, got.total);
        let Some(disk) = &core.kept().disk else { return };
        disk.put(blob, END_BLOCK, &end::encode(got));
        let first = got.offset.div_ceil(core.grid);
        // Of a short end the kept one is enough.
        if got.bytes.len() < 2 * core.grid as usize {
            return;
        }
        for block in first..got.total.div_ceil(core.grid) {
            let from = (block * core.grid - got.offset) as usize;
            let bytes = &got.bytes[from..got.bytes.len().min(from + core.grid as usize)];
            if let Ok(block) = u32::try_from(block) {
                disk.put(blob, block, &Bytes::copy_from_slice(bytes));
            }
        }
    }

    /// Drops the kept end of a blob; whether there was one.
    pub(crate) fn forget_end(&self, blob: BlobKey) -> bool {
        let Some(disk) = self.core.kept().disk.as_ref().filter(|disk| disk.holds(blob, END_BLOCK)) else {
            return false;
        };
        disk.drop_blocks(blob, END_BLOCK..END_BLOCK + 1);
        true
    }

    /// Drops what is kept of a blob from this byte to its end, the kept end and the believed length among it; whether
    /// there was anything but the length.
    pub(crate) fn forget_from(&self, blob: BlobKey, offset: u64) -> bool {
        let core = &self.core;
        let total = core.lock().totals.remove(&blob);
        let last = total.unwrap_or(offset).saturating_sub(1);
        // Lengths that nobody vouches for are none to count to.
        let last = last.min(PACK_MAX) / core.grid;
        let blocks = (offset.min(PACK_MAX) / core.grid).min(last)..last + 1;
        let mut kept = false;
        for block in blocks.filter_map(|block| u32::try_from(block).ok()) {
            kept |= core.holds(blob, block);
            core.kept().memory.remove(&(blob, block));
            if let Some(disk) = &core.kept().disk {
                disk.drop_blocks(blob, block..block + 1);
            }
        }
        self.forget_end(blob) || kept
    }

    /// Whether the end of a blob is on this device.
    pub(crate) fn holds_end(&self, blob: BlobKey) -> bool {
        self.core.kept().disk.as_ref().is_some_and(|disk| disk.holds(blob, END_BLOCK))
    }

    /// Numbers of the blocks that a range lies in; none of one that no blob has.
    pub(crate) fn blocks_of(&self, blob: BlobKey, range: &ops::Range<u64>) -> ops::Range<u32> {
        self.core.blocks(blob, range.start, range.end - range.start).unwrap_or(0..0)
    }

    /// Brings a block into the disk cache, wherever it is now; whether it is there.
    pub(crate) fn bring(&self, blob: BlobKey, block: u32) -> Result<bool, StoreError> {
        let core = &self.core;
        let Some(disk) = &core.kept().disk else { return Ok(false) };
        if !disk.holds(blob, block) {
            let bytes = self.range(blob, u64::from(block) * core.grid, core.grid, Class::Large)?;
            disk.put(blob, block, &bytes);
        }
        Ok(disk.holds(blob, block))
    }

    /// The part of a range that is on this device, and the blocks that are not.
    pub(crate) fn nearness(&self, blob: BlobKey, range: &ops::Range<u64>) -> Near {
        let core = &self.core;
        let total = core.lock().totals.get(&blob).copied().unwrap_or(u64::MAX);
        let mut near = Near::default();
        let Ok(blocks) = core.blocks(blob, range.start, range.end - range.start) else { return near };
        for block in blocks {
            let from = u64::from(block) * core.grid;
            let to = (from + core.grid).min(total).max(from);
            if core.holds(blob, block) {
                near.bytes += to.min(range.end).saturating_sub(from.max(range.start));
            } else {
                near.missing.push((block, to - from));
            }
        }
        near
    }

    /// Blocks that were asked for so far, ends among them; empty unless that is noted.
    pub(crate) fn touched(&self) -> Vec<Block> {
        let touched = self.core.kept().touched.as_ref();
        touched.map_or_else(Vec::new, |touched| {
            touched.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
        })
    }
}
