//! Cuts the run of nodes of one class into leaves (format.md 6, "Pages").
//!
//! Pure. What always holds: cuts follow from keys alone, so that a change of attributes moves none; but a leaf
//! that grows too large is cut hard. Tested below.
use backupengine_format::page::{Content, LeafEntry, XattrValue};
use std::sync::Arc;

/// No leaf is cut softly with fewer entries.
const MIN_ENTRIES: usize = 64;
/// None has more.
const MAX_ENTRIES: usize = 1024;
/// None that is longer (estimated, encoded) gets another entry.
const MAX_BYTES: usize = 64 << 10;
/// None that holds more than this of names and paths, which readers keep in memory in full.
const MAX_TEXT: usize = 4 << 20;
/// One of so many keys cuts anywhere,
const CUT_EVERY: u64 = 256;
/// and one of so many at the end of a directory.
const CUT_EVERY_END: u64 = 32;

/// About how much a leaf takes, at most.
#[derive(Clone, Copy, Default)]
struct Size {
    /// Encoded.
    bytes: usize,
    /// Names and paths, decoded.
    text: usize,
}

/// Gathers nodes until a leaf is complete.
#[derive(Default)]
pub(crate) struct LeafCutter {
    entries: Vec<LeafEntry>,
    size: Size,
    last_hash: u64,
}

impl LeafCutter {
    /// Appends a node (with the keyed hash of its key). Gives the leaf that is complete without it.
    pub(crate) fn push(&mut self, entry: LeafEntry, hash: u64) -> Option<Vec<LeafEntry>> {
        let complete = self.ends_before(&entry).then(|| std::mem::take(&mut self.entries));
        if complete.is_some() {
            self.size = Size::default();
        }
        self.size = self.size.with(&entry, self.entries.last());
        self.last_hash = hash;
        self.entries.push(entry);
        complete
    }

    /// What is left at the end.
    pub(crate) fn finish(&mut self) -> Option<Vec<LeafEntry>> {
        self.size = Size::default();
        Some(std::mem::take(&mut self.entries)).filter(|entries| !entries.is_empty())
    }

    fn ends_before(&self, next: &LeafEntry) -> bool {
        let Some(last) = self.entries.last() else { return false };
        let soft = self.last_hash.is_multiple_of(CUT_EVERY)
            || (self.last_hash.is_multiple_of(CUT_EVERY_END) && !same_parent(last, next));
        let size = self.size.with(next, Some(last));
        (soft && self.entries.len() >= MIN_ENTRIES)
            || self.entries.len() >= MAX_ENTRIES
            || size.bytes > MAX_BYTES
            || size.text > MAX_TEXT
    }
}

fn same_parent(a: &LeafEntry, b: &LeafEntry) -> bool {
    Arc::ptr_eq(&a.parent, &b.parent) || a.parent == b.parent
}

impl Size {
    fn with(self, entry: &LeafEntry, before: Option<&LeafEntry>) -> Self {
        let path = entry.parent.as_joined();
        let shared = before.map_or(0, |before| {
            let pairs = before.parent.as_joined().iter().zip(path);
            if same_parent(before, entry) { path.len() } else { pairs.take_while(|(a, b)| a == b).count() }
        });
        let full = if shared == path.len() { 0 } else { path.len() };
        Self {
            bytes: self.bytes + path.len() - shared + estimate(entry, before),
            text: self.text + full + entry.name.len(),
        }
    }
}

/// About how many bytes a node takes in an encoded leaf beside its path, at most.
fn estimate(entry: &LeafEntry, before: Option<&LeafEntry>) -> usize {
    let content = match &entry.content {
        Content::None => 0,
        Content::Inline(bytes) => bytes.len() + 2,
        Content::Bundle { .. } => 12,
        Content::Extents(extents) => 12 * extents.len(),
        Content::Pages(pages) => 16 * pages.len(),
    };
    let xattr = |value: &XattrValue| match value {
        XattrValue::Inline(value) => value.len(),
        XattrValue::Stored { .. } => 16,
    };
    let same_xattrs = before.is_some_and(|b| Arc::ptr_eq(&b.xattrs, &entry.xattrs));
    let xattrs = match same_xattrs {
        true => 0,
        false => entry.xattrs.iter().map(|x| x.name.len() + xattr(&x.value) + 4).sum(),
    };
    16 + entry.name.len() + content + xattrs
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_format::page::HardLink;
    use backupengine_model::{Attributes, Kind, NodeFlags, Timestamp, TreePath};
    use std::collections::hash_map::DefaultHasher;
    use std::hash::{Hash, Hasher};

    fn entry(parent: &str, name: &str, mode: u32) -> LeafEntry {
        LeafEntry {
            parent: Arc::new(TreePath::from_slashes(parent.as_bytes()).unwrap()),
            name: name.into(),
            attributes: Attributes {
                kind: Kind::Fifo,
                mode,
                uid: 0,
                gid: 0,
                size: 0,
                mtime: Timestamp::default(),
                rdev: 0,
                nlink: 1,
                allocated: None,
                flags: NodeFlags::default(),
            },
            content: Content::None,
            xattrs: Arc::new([]),
            hard_link: HardLink::None,
        }
    }

    fn cut(entries: &[LeafEntry]) -> Vec<Vec<LeafEntry>> {
        let mut cutter = LeafCutter::default();
        let mut pages = Vec::new();
        for entry in entries {
            let mut hasher = DefaultHasher::new();
            entry.key().as_bytes().hash(&mut hasher);
            pages.extend(cutter.push(entry.clone(), hasher.finish()));
        }
        pages.extend(cutter.finish());
        pages
    }

    fn tree(dirs: usize, files: usize, mode: u32) -> Vec<LeafEntry> {
        (0..dirs)
            .flat_map(|d| (0..files).map(move |f| entry(&format!("d{d:04}"), &format!("{f:06}"), mode)))
            .collect()
    }

    #[test]
    fn nothing_is_lost_and_sizes_are_kept() {
        for (dirs, files) in [(1, 1), (1, 20_000), (3000, 3), (40, 250)] {
            let entries = tree(dirs, files, 0);
            let pages = cut(&entries);
            let sizes: Vec<usize> = pages.iter().map(Vec::len).collect();
            assert!(sizes.iter().all(|n| *n <= MAX_ENTRIES));
            assert!(sizes.split_last().unwrap().1.iter().all(|n| *n >= MIN_ENTRIES), "{sizes:?}");
            assert_eq!(pages.concat(), entries);
        }
    }

    #[test]
    fn attributes_move_no_cut_and_one_name_moves_few() {
        let pages = cut(&tree(40, 250, 0));
        let changed = cut(&tree(40, 250, 0o777));
        let firsts = |pages: &[Vec<LeafEntry>]| pages.iter().map(|p| p[0].key()).collect::<Vec<_>>();
        assert_eq!(firsts(&pages), firsts(&changed));
        let mut more = tree(40, 250, 0);
        more.insert(5000, entry("d0019", "000249x", 0));
        let after = cut(&more);
        let same = after.iter().filter(|page| pages.contains(page)).count();
        assert!(same + 2 >= pages.len() && pages.len() > 20, "{same} of {}", pages.len());
    }

    #[test]
    fn long_names_and_paths_cut_hard() {
        let long = "n".repeat(4000);
        let entries: Vec<_> = (0..100).map(|n| entry("a", &format!("{n:03}{long}"), 0)).collect();
        let pages = cut(&entries);
        assert!(pages.iter().all(|page| page.len() <= 16), "{:?}", pages.iter().map(Vec::len).max());
        assert_eq!(pages.concat(), entries);
    }
}
