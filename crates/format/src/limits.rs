//! Limits of format v1 (FORMAT.md, *Limits*). A reader refuses what is beyond them, so a writer has to stay
//! within them: [`page::LeafPage`](crate::page::LeafPage) says how it can tell.

/// Largest pack.
pub const PACK_MAX: u64 = 256 << 20;
/// What writers aim at.
pub const PACK_TARGET: u64 = 32 << 20;
/// Largest plaintext of a data frame.
pub const DATA_FRAME_MAX: usize = 256 << 10;
/// Largest plaintext of a page.
pub const PAGE_MAX: usize = 1 << 20;
/// Largest root record, forwarding table, footer or reference set.
pub const HEAD_MAX: usize = 16 << 20;
/// Most entries of a page.
pub const PAGE_ENTRIES_MAX: usize = 65_536;
/// Most bytes that names, parent paths, leader paths and separators of one page take in memory, each parent
/// path counted once. Prefix coding makes them small in bytes, so the size of a page does not bound them.
pub const PAGE_TEXT_MAX: usize = 16 << 20;
/// Longest path of a node, name included, components joined by one byte.
pub const PATH_MAX: usize = 256 << 10;
/// Most extents of an extent page, or of one file in a leaf.
pub const EXTENTS_MAX: usize = 65_536;
/// Deepest directory.
pub const DEPTH_MAX: usize = 4096;
/// Largest file held inside its leaf.
pub const INLINE_MAX: usize = 128;
/// Longest target of a symbolic link.
pub const LINK_TARGET_MAX: usize = 64 << 10;
/// Largest value of an extended attribute held inside its leaf; larger ones lie in data frames.
pub const XATTR_INLINE_MAX: usize = 256;
/// Longest name of an extended attribute.
pub const XATTR_NAME_MAX: usize = 255;
/// Highest level of an index page or extent page.
pub const LEVEL_MAX: u8 = 8;
/// Most nodes of a snapshot: ranks become inode numbers of 32 bits, 0 is "/".
pub const NODES_MAX: u64 = u32::MAX as u64 - 1;
/// Most packs a root record hints at.
pub const PAGE_PACKS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// As FORMAT.md has them: readers in the field refuse what is beyond.
    #[test]
    fn limits_are_those_of_the_text() {
        assert_eq!((PACK_MAX, PACK_TARGET), (268_435_456, 33_554_432));
        assert_eq!((DATA_FRAME_MAX, PAGE_MAX, HEAD_MAX), (262_144, 1_048_576, 16_777_216));
        assert_eq!((PAGE_TEXT_MAX, PATH_MAX, LINK_TARGET_MAX), (16_777_216, 262_144, 65_536));
        assert_eq!(NODES_MAX, 4_294_967_294);
    }
}
