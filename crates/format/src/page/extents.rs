//! Extent pages of large files.
//!
//! What always holds: rows are in file order, none is empty, and their lengths add up to what the reference to
//! the page says (which the reader of both checks). Tested below, in `tests/golden/extents`, and by its fuzz
//! target.

use super::packs::{PackReader, PackWriter};
use super::runs::{Chain, put_page, read_page};
use super::section::{CRITICAL, Sections, Writer};
use super::{Extent, ExtentPageRef};
use crate::FormatError;
use crate::limits::{EXTENTS_MAX, LEVEL_MAX};
use crate::varint::put;

const WHAT: &str = "extent page";
const HEAD: u8 = 1 | CRITICAL;
const PACKS: u8 = 7 | CRITICAL;
const ROWS: u8 = 8 | CRITICAL;

/// What an extent page holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtentRows {
    /// Level 0: runs.
    Extents(Vec<Extent>),
    /// Higher levels: pages.
    Pages(Vec<ExtentPageRef>),
}

/// A page of extents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentPage {
    /// 0 for runs, at most 8.
    pub level: u8,
    /// At least one row, at most 65 536.
    pub rows: ExtentRows,
}

impl ExtentPage {
    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let (mut packs, mut rows, mut head) = (PackWriter::default(), Vec::new(), vec![self.level]);
        match &self.rows {
            ExtentRows::Extents(extents) => {
                put(&mut head, extents.len() as u64);
                let mut chain = Chain::default();
                extents.iter().for_each(|extent| chain.put(&mut rows, &mut packs, extent));
            }
            ExtentRows::Pages(pages) => {
                put(&mut head, pages.len() as u64);
                pages.iter().for_each(|page| put_page(&mut rows, &mut packs, page));
            }
        }
        let mut out = Writer::new(rows.len() + 64);
        out.put(HEAD, &head);
        out.put_some(PACKS, &packs.finish());
        out.put_some(ROWS, &rows);
        out.finish()
    }

    /// Decodes it.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let sections = Sections::parse(bytes, WHAT, &[HEAD, PACKS, ROWS])?;
        let mut head = sections.need(HEAD)?;
        let level = head.u8()?;
        head.require(level <= LEVEL_MAX, "the level is above 8")?;
        let count = usize::try_from(head.uv()?).unwrap_or(usize::MAX);
        head.require(0 < count && count <= EXTENTS_MAX, "holds no rows, or more than 65 536")?;
        head.finish()?;
        let mut packs = PackReader::decode(sections.or_empty(PACKS))?;
        let mut cursor = sections.need(ROWS)?;
        // A run takes at least 1 byte (a hole of the length that goes without saying), a page 4.
        cursor.require(count <= cursor.left() / if level == 0 { 1 } else { 4 }, "ends too early")?;
        let mut total = 0u64;
        let mut add = |len: u64| match total.checked_add(len) {
            Some(sum) => {
                total = sum;
                Ok(())
            }
            None => Err(head.broken("lengths add up to more than 64 bits")),
        };
        let rows = if level == 0 {
            let (mut chain, mut extents) = (Chain::default(), Vec::with_capacity(count));
            for _ in 0..count {
                let extent = chain.read(&mut cursor, &mut packs)?;
                add(extent.len)?;
                extents.push(extent);
            }
            ExtentRows::Extents(extents)
        } else {
            let mut pages = Vec::with_capacity(count);
            for _ in 0..count {
                let page = read_page(&mut cursor, &mut packs)?;
                add(page.len)?;
                pages.push(page);
            }
            ExtentRows::Pages(pages)
        };
        packs.finish(&cursor)?;
        cursor.finish()?;
        Ok(Self { level, rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::tests::{frame, pack};
    use backupengine_model::FrameRef;

    fn run(len: u64, frame: Option<FrameRef>) -> Extent {
        Extent { len, frame }
    }
    fn round(level: u8, rows: ExtentRows) -> Option<usize> {
        let page = ExtentPage { level, rows };
        let bytes = page.encode();
        (ExtentPage::decode(&bytes).as_ref() == Ok(&page)).then_some(bytes.len())
    }

    #[test]
    fn runs_go_both_ways() {
        let rows = vec![
            run(262_144, Some(frame(1, 0, 0, 200_000))),
            run(262_144, Some(frame(1, 0, 200_000, 100))),
            run(1000, Some(frame(1, 0, 200_100, 100))),
            run(3 << 40, None),
            run(262_144, None),
            run(5, Some(frame(1, 0, 900_000, 30))),
            run(5, Some(frame(1, 1, 0, 30))),
            run(5, Some(frame(1, 0, 0, 30))),
        ];
        assert!(round(0, ExtentRows::Extents(rows)).is_some());
        assert!(round(0, ExtentRows::Extents(vec![run(1, None)])).is_some());
        // The shortest run: one byte.
        assert!(round(0, ExtentRows::Extents(vec![run(262_144, None)])).is_some());
        let page = |len| ExtentPageRef { len, frame: frame(2, 3, 70, 80) };
        assert!(round(1, ExtentRows::Pages(vec![page(5), page(u64::MAX - 5)])).is_some());
        assert!(round(8, ExtentRows::Pages(vec![page(5)])).is_some());
    }

    #[test]
    fn full_frames_in_a_row_take_little() {
        let extents: Vec<_> = (0..1000)
            .map(|n| run(262_144, Some(FrameRef { pack: pack(1, 0), offset: n * 100, stored_len: 100 })))
            .collect();
        assert!(round(0, ExtentRows::Extents(extents)).is_some_and(|len| len < 2100));
    }

    #[test]
    fn impossible_runs_are_refused() {
        for extent in [
            run(0, None),
            run(262_145, Some(frame(1, 0, 0, 9))),
            run(9, Some(frame(0, 0, 0, 9))),
            run(9, Some(frame(1, u32::MAX, 0, 9))),
            run(9, Some(frame(1, 0, 0, 0))),
            run(9, Some(frame(1, 0, 256 << 20, 1))),
        ] {
            assert_eq!(round(0, ExtentRows::Extents(vec![extent])), None, "{extent:?}");
        }
        let page = |len| ExtentPageRef { len, frame: frame(2, 3, 70, 80) };
        let none = ExtentPage { level: 0, rows: ExtentRows::Extents(Vec::new()) };
        let rule = "holds no rows, or more than 65 536";
        assert_eq!(ExtentPage::decode(&none.encode()), Err(FormatError::Broken { what: WHAT, rule }));
        let holes = |count| ExtentRows::Extents(vec![run(262_144, None); count]);
        assert!(round(0, holes(EXTENTS_MAX)).is_some() && round(0, holes(EXTENTS_MAX + 1)).is_none());
        assert_eq!(round(1, ExtentRows::Pages(vec![page(0)])), None);
        assert_eq!(round(0, ExtentRows::Pages(vec![page(5)])), None);
        assert_eq!(round(1, ExtentRows::Pages(vec![page(6), page(u64::MAX - 5)])), None);
        assert_eq!(round(9, ExtentRows::Pages(vec![page(6)])), None);
    }

    #[test]
    fn bytes_that_no_rows_give_are_refused() {
        let page = |packs: &[u8], rows: &[u8]| {
            let mut out = Writer::new(0);
            out.put(HEAD, &[0, 1]);
            out.put_some(PACKS, packs);
            out.put(ROWS, rows);
            match ExtentPage::decode(&out.finish()) {
                Err(FormatError::Broken { rule, .. }) => rule,
                other => panic!("{other:?}"),
            }
        };
        // A hole in a pack, a hole apart.
        assert_eq!(page(&[], &[3]), "a hole has a place");
        assert_eq!(page(&[], &[5]), "a hole has a place");
        assert_eq!(page(&[1; 18], &[1]), "a pack in the table is not used");
    }
}
