//! The bytes of a file: inline, in a bundle, or in runs of extents, with holes.
//!
//! **What it may not do.** Fetch: frames and pages come from their caches, or frames from a seed.
//! **What always holds.** A byte is given only where a frame of exactly the promised length holds it; runs shorter
//! than the file are damage, never zeros. **Where it is tested.** In the reader's tests.

use crate::VaultError;
use crate::cache::{Extents, Frames, Pages, running_sums};
use crate::seeds::Seed;
use backupengine_format::page::{Content, Extent, ExtentPageRef, ExtentRows, LeafEntry};
use backupengine_model::{DataSpan, FrameRef, Kind, SpanKind};
use bytes::Bytes;
use std::sync::Arc;

/// Where runs of a file begin: kept for files whose list is long.
pub(crate) type Starts = Arc<[u64]>;

/// Lists shorter than this are searched from the front.
pub(crate) const LONG: usize = 64;

/// A run of a file.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// Its first byte in the file.
    pub(crate) start: u64,
    pub(crate) len: u64,
    /// `None` is a hole.
    pub(crate) frame: Option<FrameRef>,
}

/// What a visitor wants next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    More,
    Enough,
}

/// The starts of a long list of runs, for [`Reading::starts`].
pub(crate) fn starts_of(content: &Content) -> Option<Starts> {
    let sums = match content {
        Content::Extents(rows) if rows.len() >= LONG => running_sums(rows.iter().map(|row| row.len)),
        Content::Pages(rows) if rows.len() >= LONG => running_sums(rows.iter().map(|row| row.len)),
        _ => None,
    };
    sums.map(|(starts, _)| starts.into())
}

/// One file being read.
pub(crate) struct Reading<'a> {
    pub(crate) entry: &'a LeafEntry,
    pub(crate) starts: Option<Starts>,
    pub(crate) pages: &'a Pages,
    pub(crate) frames: &'a Frames,
    /// A live file that may hold the same.
    pub(crate) seed: Option<Seed<'a>>,
}

/// A piece of a frame: a small file, an attribute's value.
pub(crate) fn piece(frames: &Frames, frame: &FrameRef, inner: u32, len: u64) -> Result<Bytes, VaultError> {
    let bytes = frames.get(frame, None)?;
    let from = inner as usize;
    let to = usize::try_from(len).ok().and_then(|len| from.checked_add(len));
    match to {
        Some(to) if to <= bytes.len() => Ok(bytes.slice(from..to)),
        _ => Err(place_damaged(frame, "the frame ends before the file it holds")),
    }
}

fn place_damaged(frame: &FrameRef, what: &'static str) -> VaultError {
    let blob = crate::fetch::blob_of(frame.pack.session, frame.pack.number);
    VaultError::damaged(blob, frame.offset.into(), what)
}

impl Reading<'_> {
    /// Refuses what is no file.
    pub(crate) fn size(&self) -> Result<u64, VaultError> {
        match self.entry.attributes.kind {
            Kind::File => Ok(self.entry.attributes.size),
            _ => Err(VaultError::WrongKind { wanted: "file" }),
        }
    }

    /// Fills `out` from `offset` on; the caller has cut it to the file's size.
    pub(crate) fn fill(&self, offset: u64, out: &mut [u8]) -> Result<(), VaultError> {
        let size = self.size()?;
        match &self.entry.content {
            _ if out.is_empty() => Ok(()),
            Content::None => Err(self.too_short(0)),
            Content::Inline(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                let held = bytes.get(from..).and_then(|rest| rest.get(..out.len()));
                out.copy_from_slice(held.ok_or_else(|| self.too_short(bytes.len() as u64))?);
                Ok(())
            }
            Content::Bundle { frame, inner } => {
                let bytes = match self.seed_beside(frame).and_then(|seed| seed.piece(frame, *inner, size)) {
                    Some(bytes) => bytes,
                    None => piece(self.frames, frame, *inner, size)?,
                };
                let from = offset as usize;
                out.copy_from_slice(&bytes[from..from + out.len()]);
                Ok(())
            }
            Content::Extents(_) | Content::Pages(_) => self.fill_from_runs(offset, out),
        }
    }

    fn fill_from_runs(&self, offset: u64, out: &mut [u8]) -> Result<(), VaultError> {
        let mut done = 0;
        self.visit(offset, &mut |run| {
            let skip = usize::try_from(offset + done as u64 - run.start).unwrap_or(usize::MAX);
            let take = (run.len - (offset + done as u64 - run.start)).min((out.len() - done) as u64) as usize;
            let target = &mut out[done..done + take];
            match &run.frame {
                None => target.fill(0),
                Some(frame) => {
                    let seeded = self.seed_beside(frame);
                    let bytes = match seeded.and_then(|seed| seed.frame(self, &run, self.frames)) {
                        Some(bytes) => bytes,
                        None => self.frames.get(frame, usize::try_from(run.len).ok())?,
                    };
                    target.copy_from_slice(&bytes[skip..skip + take]);
                }
            }
            done += take;
            Ok(if done == out.len() { Next::Enough } else { Next::More })
        })?;
        if done == out.len() { Ok(()) } else { Err(self.too_short(offset + done as u64)) }
    }

    /// Whether a live file will most likely do, so that nothing need be fetched ahead.
    pub(crate) fn is_seeded(&self) -> bool {
        self.seed.as_ref().is_some_and(Seed::will_do)
    }

    /// The seed, where the frame is not in memory already.
    fn seed_beside(&self, frame: &FrameRef) -> Option<&Seed<'_>> {
        self.seed.as_ref().filter(|_| !self.frames.holds(frame))
    }

    fn too_short(&self, at: u64) -> VaultError {
        match first_frame(&self.entry.content) {
            Some(frame) => place_damaged(&frame, "the file's runs end before the file"),
            None => VaultError::ShortContent { at, size: self.entry.attributes.size },
        }
    }

    /// The run that holds `offset`, joined with equal neighbours; `offset` lies inside the file.
    pub(crate) fn span(&self, offset: u64) -> Result<DataSpan, VaultError> {
        let size = self.size()?;
        let whole = DataSpan { offset, len: size - offset, kind: SpanKind::Data };
        if !matches!(self.entry.content, Content::Extents(_) | Content::Pages(_)) {
            return Ok(whole);
        }
        let (mut kind, mut end) = (SpanKind::Data, offset);
        self.visit(offset, &mut |run| {
            let this = if run.frame.is_some() { SpanKind::Data } else { SpanKind::Hole };
            if end == offset {
                kind = this;
            } else if this != kind {
                return Ok(Next::Enough);
            }
            end = run.start.saturating_add(run.len);
            Ok(Next::More)
        })?;
        if end <= offset {
            return Err(self.too_short(offset));
        }
        Ok(DataSpan { offset, len: end.min(size) - offset, kind })
    }

    /// Calls `f` with the runs of the file in order, from the one that holds `from` on.
    pub(crate) fn visit(
        &self,
        from: u64,
        f: &mut dyn FnMut(Run) -> Result<Next, VaultError>,
    ) -> Result<Next, VaultError> {
        let starts = self.starts.as_deref();
        match &self.entry.content {
            Content::Extents(rows) => visit_runs(rows, starts, 0, from, f),
            Content::Pages(rows) => self.visit_pages(rows, starts, None, 0, from, f),
            Content::None | Content::Inline(_) | Content::Bundle { .. } => Ok(Next::More),
        }
    }

    /// `level` is that of the pages behind `rows`, where a page above said so.
    fn visit_pages(
        &self,
        rows: &[ExtentPageRef],
        starts: Option<&[u64]>,
        level: Option<u8>,
        base: u64,
        from: u64,
        f: &mut dyn FnMut(Run) -> Result<Next, VaultError>,
    ) -> Result<Next, VaultError> {
        let (first, mut start) = find_row(rows, |row| row.len, starts, base, from);
        for row in &rows[first..] {
            let below: Arc<Extents> = self.pages.extents(&row.frame, row.len)?;
            let page = &below.page;
            // Levels fall by one each time, so that pages cannot lead in a circle.
            if level.is_some_and(|level| level != page.level) {
                return Err(crate::cache::misplaced(&row.frame));
            }
            let sums = Some(below.starts.as_slice());
            let next = match (&page.rows, page.level.checked_sub(1)) {
                (ExtentRows::Extents(rows), None) => visit_runs(rows, sums, start, from, f)?,
                (ExtentRows::Pages(rows), Some(lower)) => {
                    self.visit_pages(rows, sums, Some(lower), start, from, f)?
                }
                _ => return Err(crate::cache::misplaced(&row.frame)),
            };
            if next == Next::Enough {
                return Ok(next);
            }
            start = start.saturating_add(row.len);
        }
        Ok(Next::More)
    }
}

fn visit_runs(
    rows: &[Extent],
    starts: Option<&[u64]>,
    base: u64,
    from: u64,
    f: &mut dyn FnMut(Run) -> Result<Next, VaultError>,
) -> Result<Next, VaultError> {
    let (first, mut start) = find_row(rows, |row| row.len, starts, base, from);
    for row in &rows[first..] {
        if f(Run { start, len: row.len, frame: row.frame })? == Next::Enough {
            return Ok(Next::Enough);
        }
        start = start.saturating_add(row.len);
    }
    Ok(Next::More)
}

/// The row that holds byte `from` of the file, and where it begins; the rows begin at `base`.
fn find_row<T>(
    rows: &[T],
    len: impl Fn(&T) -> u64,
    starts: Option<&[u64]>,
    base: u64,
    from: u64,
) -> (usize, u64) {
    let Some(inside) = from.checked_sub(base) else { return (0, base) };
    if let Some(starts) = starts.filter(|starts| starts.len() == rows.len()) {
        let row = starts.partition_point(|&start| start <= inside).saturating_sub(1);
        let start = starts.get(row).copied().unwrap_or(0);
        let past = rows.get(row).is_none_or(|last| inside - start >= len(last));
        return if past { (rows.len(), from) } else { (row, base + start) };
    }
    let mut start = base;
    for (at, row) in rows.iter().enumerate() {
        let end = start.saturating_add(len(row));
        if from < end {
            return (at, start);
        }
        start = end;
    }
    (rows.len(), start)
}

fn first_frame(content: &Content) -> Option<FrameRef> {
    match content {
        Content::Bundle { frame, .. } => Some(*frame),
        Content::Extents(rows) => rows.iter().find_map(|row| row.frame),
        Content::Pages(rows) => rows.first().map(|row| row.frame),
        Content::None | Content::Inline(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_the_same_with_and_without_sums() {
        let rows = [5_u64, 1, 7, 3];
        let (starts, total) = running_sums(rows.iter().copied()).unwrap();
        for base in [0, 100] {
            for from in base..base + total + 2 {
                let scanned = find_row(&rows, |row| *row, None, base, from);
                let searched = find_row(&rows, |row| *row, Some(&starts), base, from);
                assert_eq!(scanned.0, searched.0, "{from}");
                assert!(scanned.0 == rows.len() || scanned.1 == searched.1, "{from}");
            }
        }
        assert_eq!(find_row(&rows, |row| *row, Some(&starts), 100, 7), (0, 100));
    }
}
