//! Limits of format v1 (format.md 5.9). A reader refuses what is beyond them.
/// Largest pack.
pub const PACK_MAX: u64 = 256 << 20;
/// What writers aim at.
pub const PACK_TARGET: u64 = 32 << 20;
/// Largest plaintext of a data frame.
pub const DATA_FRAME_MAX: usize = 256 << 10;
/// Largest plaintext of a page.
pub const PAGE_MAX: usize = 1 << 20;
/// Largest root record or forwarding table.
pub const HEAD_MAX: usize = 16 << 20;
/// Most entries of a page.
pub const PAGE_ENTRIES_MAX: usize = 65_536;
/// Most extents of an extent page, or of one file in a leaf.
pub const EXTENTS_MAX: usize = 65_536;
/// Deepest directory.
pub const DEPTH_MAX: usize = 4096;
/// Largest file held inside its leaf.
pub const INLINE_MAX: usize = 128;
/// Highest level of an index page.
pub const LEVEL_MAX: u8 = 8;
