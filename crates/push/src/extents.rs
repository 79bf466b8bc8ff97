//! Gathers the runs of one file: in its leaf while they are few, else in pages of their own.
//!
//! May not keep more than a page per level. What always holds: lengths add up to the size; all pages a leaf
//! names are of one level. Tested below with a store of its own, and through the tests of whole pushes.
use crate::config::{EXTENT_ROWS, EXTENTS_IN_LEAF};
use crate::error::PushError;
use backupengine_format::page::{Content, Extent, ExtentPage, ExtentPageRef, ExtentRows};
use backupengine_model::FrameRef;

/// Writes an encoded extent page and says where it is.
pub(crate) type WritePage<'a> = dyn FnMut(&[u8]) -> Result<FrameRef, PushError> + 'a;

/// Runs of a file that is being read.
#[derive(Default)]
pub(crate) struct Extents {
    rows: Vec<Extent>,
    /// Pages by level that no page above holds yet.
    pages: Vec<Vec<ExtentPageRef>>,
}

impl Extents {
    /// Appends a run.
    pub(crate) fn push(&mut self, extent: Extent, write: &mut WritePage<'_>) -> Result<(), PushError> {
        self.rows.push(extent);
        if self.rows.len() >= EXTENT_ROWS { self.end_rows(write) } else { Ok(()) }
    }

    fn end_rows(&mut self, write: &mut WritePage<'_>) -> Result<(), PushError> {
        let rows = std::mem::take(&mut self.rows);
        let len = rows.iter().map(|row| row.len).sum();
        let page = ExtentPage { level: 0, rows: ExtentRows::Extents(rows) };
        let frame = write(&page.encode())?;
        self.add(0, ExtentPageRef { len, frame }, write)
    }

    fn add(&mut self, level: usize, page: ExtentPageRef, write: &mut WritePage<'_>) -> Result<(), PushError> {
        if self.pages.len() == level {
            self.pages.push(Vec::new());
        }
        self.pages[level].push(page);
        if self.pages[level].len() >= EXTENT_ROWS { self.end_level(level, write) } else { Ok(()) }
    }

    fn end_level(&mut self, level: usize, write: &mut WritePage<'_>) -> Result<(), PushError> {
        let rows = std::mem::take(&mut self.pages[level]);
        let len = rows.iter().map(|row| row.len).sum();
        let above = u8::try_from(level + 1).map_err(|_| PushError::TooLarge("a file of 2^64 bytes"))?;
        let page = ExtentPage { level: above, rows: ExtentRows::Pages(rows) };
        let frame = write(&page.encode())?;
        self.add(level + 1, ExtentPageRef { len, frame }, write)
    }

    /// The content of the file.
    pub(crate) fn finish(mut self, write: &mut WritePage<'_>) -> Result<Content, PushError> {
        if self.pages.is_empty() && self.rows.len() <= EXTENTS_IN_LEAF {
            return Ok(if self.rows.is_empty() { Content::None } else { Content::Extents(self.rows) });
        }
        if !self.rows.is_empty() {
            self.end_rows(write)?;
        }
        let mut level = 0;
        while level + 1 < self.pages.len() || self.pages[level].len() > EXTENTS_IN_LEAF {
            if !self.pages[level].is_empty() {
                self.end_level(level, write)?;
            }
            level += 1;
        }
        Ok(Content::Pages(self.pages.swap_remove(level)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::{PackRef, SessionNo};

    fn frame(n: u32) -> FrameRef {
        let pack = PackRef { session: SessionNo(1), number: 0, salt: [0; 8], epoch: 1 };
        FrameRef { pack, offset: n, stored_len: 100 }
    }

    /// Stores `count` runs and reads them back through the pages.
    fn round(count: usize) -> (usize, usize) {
        let mut stored: Vec<Vec<u8>> = Vec::new();
        let mut write = |encoded: &[u8]| {
            stored.push(encoded.to_vec());
            Ok(frame(stored.len() as u32 - 1))
        };
        let run = |n: usize| Extent {
            len: n as u64 % 1000 + 1,
            frame: (!n.is_multiple_of(3)).then(|| frame(n as u32 * 100)),
        };
        let mut extents = Extents::default();
        (0..count).for_each(|n| extents.push(run(n), &mut write).unwrap());
        let content = extents.finish(&mut write).unwrap();
        let top = match content {
            Content::None => return (0, 0),
            Content::Extents(rows) => {
                assert_eq!(rows, (0..count).map(run).collect::<Vec<_>>());
                return (rows.len(), 0);
            }
            Content::Pages(pages) => pages,
            other => panic!("{other:?}"),
        };
        let mut rows = Vec::new();
        let mut todo: Vec<(ExtentPageRef, Option<u8>)> = top.iter().rev().map(|page| (*page, None)).collect();
        let mut levels = std::collections::BTreeSet::new();
        while let Some((at, level)) = todo.pop() {
            let page = ExtentPage::decode(&stored[at.frame.offset as usize]).unwrap();
            assert!(level.is_none_or(|level| page.level == level));
            if level.is_none() {
                levels.insert(page.level);
            }
            let len: u64 = match page.rows {
                ExtentRows::Extents(more) => {
                    rows.extend(more.iter().copied());
                    more.iter().map(|row| row.len).sum()
                }
                ExtentRows::Pages(more) => {
                    todo.extend(more.iter().rev().map(|row| (*row, Some(page.level - 1))));
                    more.iter().map(|row| row.len).sum()
                }
            };
            assert_eq!(len, at.len);
        }
        assert_eq!(rows, (0..count).map(run).collect::<Vec<_>>());
        assert_eq!(levels.len(), 1, "all top pages are of one level");
        (top.len(), stored.len())
    }

    #[test]
    fn few_runs_stay_in_the_leaf_and_many_get_pages() {
        assert_eq!(round(0), (0, 0));
        assert_eq!(round(EXTENTS_IN_LEAF), (EXTENTS_IN_LEAF, 0));
        assert_eq!(round(EXTENTS_IN_LEAF + 1), (1, 1));
        assert_eq!(round(EXTENT_ROWS), (1, 1));
        assert_eq!(round(EXTENT_ROWS * 3 + 1), (4, 4));
    }
}
