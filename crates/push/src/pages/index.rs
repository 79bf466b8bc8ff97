//! Gathers leaves under index pages, level by level (format.md 6, "Pages").
//!
//! **What it is.** The lowest level is built while the walk goes on, once per class; what lies above is small
//! and built at the end. Where both classes are small they share the lowest page.
//! **What it may not do.** Write: complete pages are handed to the caller.
//! **What always holds.** Cuts follow from separators alone; equal trees give equal pages.
//! **Where it is tested.** Below.
use backupengine_format::limits::LEVEL_MAX;
use backupengine_format::page::{IndexChild, IndexPage};
use backupengine_model::FrameRef;

/// No page is cut softly with fewer children.
const MIN_CHILDREN: usize = 16;
/// None has more.
const MAX_CHILDREN: usize = 512;
/// Nor longer separators altogether, in bytes: a page that is decoded must not fill the memory, and with two
/// children of the longest paths it still is of a length that readers take.
const MAX_TEXT: usize = 512 << 10;
/// One of so many separators begins a page.
const CUT_EVERY: u64 = 128;

/// Hash of a separator.
pub(crate) type Hash<'a> = dyn Fn(&[u8]) -> u64 + 'a;
/// Stores a page (or finds it stored) and says where it is. Given: separator of its first child, and the page.
pub(crate) type Store<'a, E> = dyn FnMut(&[u8], &IndexPage) -> Result<FrameRef, E> + 'a;

/// Children of one level on their way into pages.
#[derive(Default)]
pub(crate) struct LevelCutter {
    open: Vec<IndexChild>,
    text: usize,
}

/// Whether children can share a page. Two always can, or the levels above would not get fewer.
fn fit(children: usize, text: usize) -> bool {
    children <= 2 || (children <= MAX_CHILDREN && text <= MAX_TEXT)
}

fn text_of(children: &[IndexChild]) -> usize {
    children.iter().map(|child| child.separator.len()).sum()
}

impl LevelCutter {
    /// Appends a child. Gives the children of the page that is complete without it.
    pub(crate) fn push(&mut self, child: IndexChild, hash: &Hash<'_>) -> Option<Vec<IndexChild>> {
        let soft = self.open.len() >= MIN_CHILDREN && hash(&child.separator).is_multiple_of(CUT_EVERY);
        let full = !fit(self.open.len() + 1, self.text + child.separator.len());
        let complete = (soft || full).then(|| std::mem::take(self).open);
        self.text += child.separator.len();
        self.open.push(child);
        complete
    }

    /// Children of the page that is not complete yet.
    pub(crate) fn finish(self) -> Vec<IndexChild> {
        self.open
    }
}

/// Makes a page of children and the child that stands for it one level above.
pub(crate) fn end_page<E>(
    level: u8,
    children: Vec<IndexChild>,
    store: &mut Store<'_, E>,
) -> Result<Option<IndexChild>, E> {
    let Some(separator) = children.first().map(|child| child.separator.clone()) else { return Ok(None) };
    let entries = children.iter().map(|child| child.entries).sum();
    let frame = store(&separator, &IndexPage { level, children })?;
    Ok(Some(IndexChild { separator, entries, frame }))
}

/// The index of one class while it grows.
#[derive(Default)]
pub(crate) struct ClassIndex {
    cutter: LevelCutter,
    done: Vec<IndexChild>,
}

impl ClassIndex {
    /// Appends a leaf.
    pub(crate) fn push<E>(
        &mut self,
        leaf: IndexChild,
        hash: &Hash<'_>,
        store: &mut Store<'_, E>,
    ) -> Result<(), E> {
        if let Some(complete) = self.cutter.push(leaf, hash) {
            self.done.extend(end_page(1, complete, store)?);
        }
        Ok(())
    }
}

/// Ends both classes and builds what lies above. Gives the top page, encoded, for the root record: one of at
/// most `inline_max` bytes, however many levels that takes; empty for an empty tree.
pub(crate) fn finish<E>(
    classes: [ClassIndex; 2],
    inline_max: usize,
    hash: &Hash<'_>,
    store: &mut Store<'_, E>,
) -> Result<Vec<u8>, E> {
    let [directories, others] = classes;
    let mut level = 1;
    let mut top = if directories.done.is_empty() && others.done.is_empty() {
        // Few leaves: one page for both classes, if they fit.
        let mut children = directories.cutter.finish();
        children.extend(others.cutter.finish());
        if children.is_empty() {
            return Ok(Vec::new());
        }
        children
    } else {
        let mut pages = Vec::new();
        for class in [directories, others] {
            pages.extend(class.done);
            pages.extend(end_page(level, class.cutter.finish(), store)?);
        }
        level = 2;
        pages
    };
    loop {
        if fit(top.len(), text_of(&top)) {
            let page = IndexPage { level, children: top };
            let encoded = page.encode();
            if encoded.len() <= inline_max || level == LEVEL_MAX {
                return Ok(encoded);
            }
            top = page.children;
        }
        let mut cutter = LevelCutter::default();
        let mut above = Vec::new();
        for child in top {
            if let Some(complete) = cutter.push(child, hash) {
                above.extend(end_page(level, complete, store)?);
            }
        }
        above.extend(end_page(level, cutter.finish(), store)?);
        top = above;
        level += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::{PackRef, SessionNo};
    use std::collections::hash_map::DefaultHasher;
    use std::convert::Infallible;
    use std::hash::Hasher;

    fn hash(bytes: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        hasher.finish()
    }

    fn at(n: usize) -> FrameRef {
        let pack = PackRef { session: SessionNo(1), number: 0, salt: [0; 8], epoch: 1 };
        FrameRef { pack, offset: n as u32, stored_len: 50 }
    }

    fn leaf(class: u8, n: usize) -> IndexChild {
        let separator = if class == 0 && n == 0 {
            Vec::new()
        } else if n == 0 {
            vec![1]
        } else {
            [&[class][..], format!("{n:07}").as_bytes()].concat()
        };
        IndexChild { separator, entries: 100 + n as u64, frame: at(n) }
    }

    type Stored = Vec<(Vec<u8>, IndexPage)>;

    fn build(directories: usize, others: usize) -> (Vec<u8>, Stored) {
        let mut stored: Stored = Vec::new();
        let mut store = |separator: &[u8], page: &IndexPage| -> Result<FrameRef, Infallible> {
            stored.push((separator.to_vec(), IndexPage::decode(&page.encode()).unwrap()));
            Ok(at(stored.len() - 1))
        };
        let mut classes = [ClassIndex::default(), ClassIndex::default()];
        for (class, count) in [(0, directories), (1, others)] {
            for n in 0..count {
                classes[class].push(leaf(class as u8, n), &hash, &mut store).unwrap();
            }
        }
        let top = finish(classes, 4096, &hash, &mut store).unwrap();
        (top, stored)
    }

    fn leaves(top: &[u8], stored: &Stored) -> Vec<IndexChild> {
        fn below(page: &IndexPage, stored: &Stored, out: &mut Vec<IndexChild>) {
            for child in &page.children {
                if page.level == 1 {
                    out.push(child.clone());
                    continue;
                }
                let (separator, lower) = &stored[child.frame.offset as usize];
                assert_eq!((separator, lower.level), (&child.separator, page.level - 1));
                assert_eq!(child.entries, lower.children.iter().map(|c| c.entries).sum::<u64>());
                below(lower, stored, out);
            }
        }
        let mut out = Vec::new();
        below(&IndexPage::decode(top).unwrap(), stored, &mut out);
        out
    }

    #[test]
    fn every_leaf_is_reached_in_order_and_the_top_is_small() {
        assert_eq!(build(0, 0), (Vec::new(), Vec::new()));
        for (directories, others) in [(1, 0), (0, 1), (3, 5), (200, 400), (30, 5000), (70_000, 10)] {
            let (top, stored) = build(directories, others);
            assert!(top.len() <= 4096, "{}", top.len());
            let wanted: Vec<_> =
                (0..directories).map(|n| leaf(0, n)).chain((0..others).map(|n| leaf(1, n))).collect();
            assert_eq!(leaves(&top, &stored), wanted);
        }
        assert!(build(3, 5).1.is_empty(), "a small index is all in the root");
    }

    /// Leaves of a tree that is very deep: each separator is nearly as long as a path can be.
    #[test]
    fn pages_of_long_separators_stay_readable() {
        let mut stored: Stored = Vec::new();
        let mut store = |separator: &[u8], page: &IndexPage| -> Result<FrameRef, Infallible> {
            let encoded = page.encode();
            assert!(encoded.len() <= 1 << 20, "a page of {} bytes", encoded.len());
            stored.push((separator.to_vec(), IndexPage::decode(&encoded).unwrap()));
            Ok(at(stored.len() - 1))
        };
        let long = |n: usize| {
            let separator = if n == 0 { Vec::new() } else { vec![b'a' + n as u8; 50_000 + n * 2_000] };
            IndexChild { separator, entries: 1, frame: at(n) }
        };
        for count in [3, 80] {
            let mut classes = [ClassIndex::default(), ClassIndex::default()];
            for n in 0..count {
                classes[0].push(long(n), &|_| 1, &mut store).unwrap();
            }
            let top = finish(classes, 4096, &|_| 1, &mut store).unwrap();
            assert!(top.len() <= 4096, "{}", top.len());
        }
        let wanted: Vec<_> = (0..80).map(long).collect();
        let mut classes = [ClassIndex::default(), ClassIndex::default()];
        for leaf in &wanted {
            classes[0].push(leaf.clone(), &|_| 1, &mut store).unwrap();
        }
        let top = finish(classes, 4096, &|_| 1, &mut store).unwrap();
        assert_eq!(leaves(&top, &stored), wanted);
    }

    #[test]
    fn one_more_leaf_changes_few_pages() {
        let (_, before) = build(30, 5000);
        let (_, after) = build(30, 5001);
        let new = after.iter().filter(|page| !before.contains(page)).count();
        assert!(new <= 3, "{new}");
    }
}
