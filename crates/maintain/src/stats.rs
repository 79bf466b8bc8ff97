//! Figures of a check.

/// Figures, current while it runs and final in the report. Field names are those of `--json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckStats {
    /// Snapshots whose tree was walked.
    pub snapshots: u64,
    /// Snapshots there are.
    pub snapshots_total: u64,
    /// Packs whose trailer and footer were looked at, roots included.
    pub packs: u64,
    /// Packs that live snapshots need, roots included.
    pub packs_total: u64,
    /// Pages opened. One that several snapshots share counts once, as a rule.
    pub pages: u64,
    /// Nodes in those pages.
    pub nodes: u64,
    /// Frames opened because bytes were asked to be read.
    pub frames_read: u64,
    /// Stored bytes of those.
    pub bytes_read: u64,
    /// Stored bytes there are to read.
    pub bytes_to_read: u64,
    /// Key envelopes looked at.
    pub envelopes: u64,
    /// Packs and roots that no live snapshot needs: of the trash, to be given back, or left by pushes that were broken
    /// off or still go on.
    pub unused: u64,
    /// Bytes of those.
    pub unused_bytes: u64,
    /// What is not as it should be.
    pub findings: u64,
}
