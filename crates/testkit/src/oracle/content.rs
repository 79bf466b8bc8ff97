//! Bytes of an oracle file: runs of data with holes between.
//!
//! May not do I/O. What always holds: runs are sorted, not empty, apart, and begin and end at multiples of
//! [`BLOCK`] (or end with the file), as a local disk keeps them. Tested below.

use backupengine_model::{DataSpan, SpanKind};
use bytes::Bytes;

/// Granularity of holes on the local filesystems this is compared with.
pub const BLOCK: u64 = 4096;

/// Bytes of one file. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    len: u64,
    runs: Vec<(u64, Bytes)>,
}

impl Content {
    /// A file without holes.
    pub fn dense(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let len = bytes.len() as u64;
        Self { len, runs: if len == 0 { Vec::new() } else { vec![(0, bytes)] } }
    }

    /// `len` bytes, all hole but for `runs` (offset, bytes), which are widened to whole blocks with zeros.
    ///
    /// # Panics
    /// Where a run ends after `len`.
    pub fn sparse(len: u64, runs: &[(u64, &[u8])]) -> Self {
        let mut content = Self { len, runs: Vec::new() };
        for (offset, bytes) in runs {
            assert!(offset + bytes.len() as u64 <= len, "a run ends after the file");
            content.write_at(*offset, bytes);
        }
        content
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that are not holes; `None` where there is no hole.
    pub fn allocated(&self) -> Option<u64> {
        let data: u64 = self.runs.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        (data != self.len).then_some(data)
    }

    /// The runs of data: where, what.
    pub fn runs(&self) -> impl Iterator<Item = (u64, &Bytes)> {
        self.runs.iter().map(|(at, bytes)| (*at, bytes))
    }

    /// Overwrites, growing the file where needed.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        self.len = self.len.max(end);
        let from = offset / BLOCK * BLOCK;
        let to = (end.div_ceil(BLOCK) * BLOCK).min(self.len);
        // Everything the widened run touches, its neighbours included, becomes one run.
        let touched: Vec<usize> = (0..self.runs.len())
            .filter(|&i| {
                let (at, run) = &self.runs[i];
                *at <= to && at + run.len() as u64 >= from
            })
            .collect();
        let mut start = from;
        let mut stop = to;
        for &i in &touched {
            let (at, run) = &self.runs[i];
            start = start.min(*at);
            stop = stop.max(at + run.len() as u64);
        }
        let mut joined = vec![0; (stop - start) as usize];
        self.read_at(start, &mut joined);
        joined[(offset - start) as usize..][..bytes.len()].copy_from_slice(bytes);
        let first =
            touched.first().copied().unwrap_or_else(|| self.runs.partition_point(|(at, _)| *at < start));
        self.runs.splice(first..first + touched.len(), [(start, Bytes::from(joined))]);
    }

    /// Cuts or grows (with a hole) to `len`.
    pub fn truncate(&mut self, len: u64) {
        if len > self.len {
            // The block that ended with the file goes on to its own end as zeros.
            if let Some((at, run)) = self.runs.last_mut() {
                let end = *at + run.len() as u64;
                let full = (end.div_ceil(BLOCK) * BLOCK).min(len);
                if end == self.len && full > end {
                    let mut longer = run.to_vec();
                    longer.resize((full - *at) as usize, 0);
                    *run = longer.into();
                }
            }
        }
        self.runs.retain(|(at, _)| *at < len);
        if let Some((at, run)) = self.runs.last_mut() {
            run.truncate((len - *at).min(run.len() as u64) as usize);
        }
        self.len = len;
    }

    /// Fills `out` from `offset` on, zeros for holes; says how many bytes there were.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> usize {
        let end = self.len.min(offset.saturating_add(out.len() as u64));
        let Some(wanted) = end.checked_sub(offset).map(|n| n as usize) else { return 0 };
        let out = &mut out[..wanted];
        out.fill(0);
        let first = self.runs.partition_point(|(at, run)| at + run.len() as u64 <= offset);
        for (at, run) in self.runs[first..].iter().take_while(|(at, _)| *at < end) {
            let from = offset.max(*at);
            let to = end.min(at + run.len() as u64);
            out[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&run[(from - at) as usize..(to - at) as usize]);
        }
        wanted
    }

    /// The run of data or hole that holds `offset`, from there on; `None` at the end.
    pub fn span(&self, offset: u64) -> Option<DataSpan> {
        if offset >= self.len {
            return None;
        }
        let next = self.runs.partition_point(|(at, run)| at + run.len() as u64 <= offset);
        let (end, kind) = match self.runs.get(next) {
            Some((at, run)) if *at <= offset => (at + run.len() as u64, SpanKind::Data),
            Some((at, _)) => (*at, SpanKind::Hole),
            None => (self.len, SpanKind::Hole),
        };
        Some(DataSpan { offset, len: end - offset, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(content: &Content) -> Vec<u8> {
        let mut out = vec![1; content.len() as usize + 10];
        let n = content.read_at(0, &mut out);
        out.truncate(n);
        out
    }

    #[test]
    fn writes_agree_with_a_plain_vector() {
        let mut content = Content::default();
        let mut plain: Vec<u8> = Vec::new();
        for (step, (offset, len)) in
            [(0, 3), (20_000, 10), (4090, 100), (8192, 4096), (1, 30_000), (50_000, 1)].iter().enumerate()
        {
            let data = vec![step as u8 + 1; *len];
            content.write_at(*offset, &data);
            let end = *offset as usize + len;
            plain.resize(plain.len().max(end), 0);
            plain[*offset as usize..end].copy_from_slice(&data);
            assert_eq!(bytes(&content), plain, "step {step}");
        }
        for len in [49_000, 10, 60_000, 0, 5000] {
            content.truncate(len);
            plain.resize(len as usize, 0);
            assert_eq!(bytes(&content), plain, "cut to {len}");
        }
    }

    #[test]
    fn spans_cover_the_file_and_holes_take_no_room() {
        let content = Content::sparse(3 << 40, &[(0, b"head"), (1 << 40, b"middle")]);
        assert_eq!(content.allocated(), Some(2 * BLOCK));
        let mut at = 0;
        let mut kinds = Vec::new();
        while let Some(span) = content.span(at) {
            kinds.push((span.kind, span.len));
            at += span.len;
        }
        assert_eq!(at, 3 << 40);
        assert_eq!(
            kinds,
            [
                (SpanKind::Data, BLOCK),
                (SpanKind::Hole, (1 << 40) - BLOCK),
                (SpanKind::Data, BLOCK),
                (SpanKind::Hole, (2 << 40) - BLOCK),
            ]
        );
        assert_eq!(Content::dense(vec![1; 5000]).allocated(), None);
        assert_eq!(Content::default().span(0), None);
    }
}
