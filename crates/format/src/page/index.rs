//! Index pages: children by separator key, with counts, so that every entry has a rank.
//!
//! What always holds: separators ascend strictly and only the first may be empty. Tested below, in
//! `tests/golden/index`, in `tests/formats` (a tree of pages against a sorted map), and by its fuzz target.

use super::packs::{PackReader, PackWriter};
use super::section::{CRITICAL, Sections, Writer};
use super::shared_len;
use crate::FormatError;
use crate::limits::{LEVEL_MAX, NODES_MAX, PAGE_ENTRIES_MAX, PAGE_TEXT_MAX, PATH_MAX};
use crate::varint::put;
use backupengine_model::FrameRef;

const WHAT: &str = "index page";
const HEAD: u8 = 1 | CRITICAL;
const SEPARATORS: u8 = 2 | CRITICAL;
const COUNTS: u8 = 3 | CRITICAL;
const PACKS: u8 = 7 | CRITICAL;
const FRAMES: u8 = 8 | CRITICAL;
/// A key has 3 bytes more than the path: class and one more zero byte between parent and name.
const SEPARATOR_MAX: usize = PATH_MAX + 3;

/// One child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexChild {
    /// Shortest byte string that is above every key of the child before and not above any key of this one;
    /// empty for the first child of the whole tree.
    pub separator: Vec<u8>,
    /// Nodes below, at least 1.
    pub entries: u64,
    /// Where it is.
    pub frame: FrameRef,
}

/// An index page; its children are leaves when `level` is 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexPage {
    /// 1 to 8.
    pub level: u8,
    /// Ascending separators; 1 to 65 536 children.
    pub children: Vec<IndexChild>,
}

impl IndexPage {
    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut head = vec![self.level];
        put(&mut head, self.children.len() as u64);
        let (mut shared, mut lengths, mut text) = (Vec::new(), Vec::new(), Vec::new());
        let (mut counts, mut frames, mut packs) = (Vec::new(), Vec::new(), PackWriter::default());
        let mut before: &[u8] = &[];
        for child in &self.children {
            let same = shared_len(before, &child.separator);
            put(&mut shared, same as u64);
            put(&mut lengths, (child.separator.len() - same) as u64);
            text.extend_from_slice(&child.separator[same..]);
            before = &child.separator;
            put(&mut counts, child.entries);
            packs.put(&mut frames, &child.frame);
        }
        shared.extend_from_slice(&lengths);
        shared.extend_from_slice(&text);
        let mut out = Writer::new(shared.len() + counts.len() + frames.len() + 128);
        out.put(HEAD, &head);
        out.put_some(SEPARATORS, &shared);
        out.put_some(COUNTS, &counts);
        out.put_some(PACKS, &packs.finish());
        out.put_some(FRAMES, &frames);
        out.finish()
    }

    /// Decodes it.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let sections = Sections::parse(bytes, WHAT, &[HEAD, SEPARATORS, COUNTS, PACKS, FRAMES])?;
        let mut head = sections.need(HEAD)?;
        let level = head.u8()?;
        head.require((1..=LEVEL_MAX).contains(&level), "the level is not 1 to 8")?;
        let count = usize::try_from(head.uv()?).unwrap_or(usize::MAX);
        head.require(0 < count && count <= PAGE_ENTRIES_MAX, "holds no children, or more than 65 536")?;
        head.finish()?;

        let mut text = sections.need(SEPARATORS)?;
        let (mut shared, mut lengths) = (text.column(count)?, text.column(count)?);
        let mut counts = sections.need(COUNTS)?;
        let mut packs = PackReader::decode(sections.or_empty(PACKS))?;
        let mut frames = sections.need(FRAMES)?;
        frames.require(count <= frames.left() / 3, "ends too early")?;
        let mut children: Vec<IndexChild> = Vec::with_capacity(count);
        let (mut nodes, mut room) = (0u64, PAGE_TEXT_MAX);
        for _ in 0..count {
            let before = children.last().map_or(&[][..], |child| &child.separator);
            let (same, len) = (shared.uv32()? as usize, lengths.uv32()? as usize);
            let suffix = text.take(len)?;
            let Some(prefix) = before.get(..same) else {
                return Err(text.broken("a separator shares more than there is"));
            };
            let ascends = match (suffix.first(), before.get(same)) {
                (Some(next), Some(old)) => next > old,
                (Some(_), None) => true,
                (None, _) => children.is_empty(),
            };
            text.require(ascends, "separators do not ascend, or share less than they could")?;
            text.require(same + len <= SEPARATOR_MAX, "a separator is longer than a key can be")?;
            room = room.checked_sub(same + len).ok_or_else(|| text.broken("separators take over 16 MiB"))?;
            let separator = [prefix, suffix].concat();

            let entries = counts.uv()?;
            counts.require(entries > 0, "a child is empty")?;
            nodes = nodes.saturating_add(entries);
            counts.require(nodes <= NODES_MAX, "holds more nodes than a snapshot can")?;
            children.push(IndexChild { separator, entries, frame: packs.frame(&mut frames)? });
        }
        packs.finish(&frames)?;
        [text, counts, frames].into_iter().try_for_each(|cursor| cursor.finish())?;
        Ok(Self { level, children })
    }
}

/// Shortest separator between two neighbouring keys: above `before`, not above `after`.
///
/// `before` has to be below `after`; the result is then a prefix of `after`.
pub fn separator(before: &[u8], after: &[u8]) -> Vec<u8> {
    after[..(shared_len(before, after) + 1).min(after.len())].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::tests::frame;

    fn child(separator: &[u8], entries: u64) -> IndexChild {
        IndexChild { separator: separator.to_vec(), entries, frame: frame(1, 0, entries as u32 & 0xffff, 50) }
    }
    fn round(level: u8, children: Vec<IndexChild>) -> bool {
        let page = IndexPage { level, children };
        IndexPage::decode(&page.encode()) == Ok(page)
    }

    #[test]
    fn pages_go_both_ways() {
        assert!(round(1, vec![child(b"", 256)]));
        assert!(round(
            2,
            vec![child(b"\0a", 1), child(b"\0ab", 2), child(b"\0b", 70_000), child(b"\x01", 3)]
        ));
    }

    #[test]
    fn disorder_is_refused() {
        let none = IndexPage { level: 1, children: Vec::new() };
        let rule = "holds no children, or more than 65 536";
        assert_eq!(IndexPage::decode(&none.encode()), Err(FormatError::Broken { what: WHAT, rule }));
        assert!(!round(0, vec![child(b"", 1)]));
        assert!(!round(9, vec![child(b"", 1)]));
        assert!(!round(1, vec![child(b"", 0)]));
        assert!(!round(1, vec![child(b"a", 1), child(b"a", 1)]));
        assert!(!round(1, vec![child(b"ab", 1), child(b"a", 1)]));
        assert!(!round(1, vec![child(b"b", 1), child(b"a", 1)]));
        assert!(!round(1, vec![child(b"", u64::MAX), child(b"a", 1)]));
    }

    #[test]
    fn separators_share_what_they_can() {
        let page = IndexPage { level: 1, children: vec![child(b"na", 1), child(b"nb", 1)] };
        let bytes = page.encode();
        let at = bytes.windows(7).position(|part| part == b"\0\x01\x02\x01nab").unwrap();
        assert_eq!(bytes[at - 1], 7, "the section's length");
        let spelled = [&bytes[..at - 1], b"\x08\0\0\x02\x02nanb", &bytes[at + 7..]].concat();
        let rule = "separators do not ascend, or share less than they could";
        assert_eq!(IndexPage::decode(&spelled), Err(FormatError::Broken { what: WHAT, rule }));
    }

    #[test]
    fn separators_are_bounded_in_memory() {
        let page = |count: u8| {
            let long = vec![b'x'; PATH_MAX];
            let children = (0..count).map(|n| child(&[&long[..], &[n]].concat(), 1)).collect();
            IndexPage::decode(&IndexPage { level: 1, children }.encode())
        };
        assert!(page(63).is_ok());
        let rule = "separators take over 16 MiB";
        assert_eq!(page(64), Err(FormatError::Broken { what: WHAT, rule }));
        // Not what they share times what they do not.
        let children = (0..40_u8).map(|n| child(&[&[b'x'; 10_000][..], &[n; 100]].concat(), 1)).collect();
        assert!(round(1, children));
    }

    #[test]
    fn pages_hold_no_more_than_their_limit() {
        let page = |count: usize| {
            let children = (0..count as u32).map(|n| child(&n.to_be_bytes(), 1)).collect();
            IndexPage::decode(&IndexPage { level: 1, children }.encode())
        };
        assert!(page(PAGE_ENTRIES_MAX).is_ok());
        let rule = "holds no children, or more than 65 536";
        assert_eq!(page(PAGE_ENTRIES_MAX + 1), Err(FormatError::Broken { what: WHAT, rule }));
    }

    #[test]
    fn separators_are_no_longer_than_keys() {
        let page = |len| vec![child(&vec![b'x'; len], 1)];
        assert!(round(1, page(PATH_MAX + 3)) && !round(1, page(PATH_MAX + 4)));
    }

    #[test]
    fn separators_are_short_and_separate() {
        for (before, after, expected) in [
            (&b"abc"[..], &b"abd"[..], &b"abd"[..]),
            (b"a", b"abc", b"ab"),
            (b"abc", b"b", b"b"),
            (b"", b"x", b"x"),
        ] {
            let separator = separator(before, after);
            assert_eq!(separator, expected);
            assert!(before < separator.as_slice() && separator.as_slice() <= after);
        }
    }
}
