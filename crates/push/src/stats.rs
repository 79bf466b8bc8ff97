//! Figures of a push, and telling them while it runs.
//!
//! May not block a stage: the observer is called at most ten times a second. What always holds: every notice
//! reaches the observer at once and the report at the end. Tested below.
use backupengine_source::{Notice, NoticeKind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Figures, current while it runs and final in the report. Field names are those of `--json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushStats {
    /// Files (all that is no directory) the parent did not have.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files taken over from the parent, not opened.
    pub files_unmodified: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes read from files.
    pub bytes_read: u64,
    /// Plaintext bytes that were not in the vault yet; for a dry run the most there can be.
    pub bytes_new: u64,
    /// Bytes of all blobs put, the root among them.
    pub bytes_stored: u64,
    /// Chunks and bundled files that were stored.
    pub chunks_new: u64,
    /// Chunks and bundled files that were there already.
    pub chunks_reused: u64,
    /// Files and folders that could not be read.
    pub errors: u64,
    /// Left out on purpose, with a notice.
    pub skipped: u64,
    /// Left out by a rule.
    pub excluded: u64,
}

/// Told while it runs, from any thread; must not block.
pub trait Observer: Send + Sync {
    /// Current figures and where the walk is; at most ten times a second.
    fn progress(&self, stats: &PushStats, current: &Path);
    /// Something a person should hear of.
    fn notice(&self, notice: &Notice);
    /// Whether the vault is believed, for who holds it against what was seen before: asked once, and the one question
    /// that may take its time. It comes before anything is written, but for a far store where no earlier push left
    /// anything: there it goes beside the data. Nothing is committed before it is answered, nor where the answer is no.
    fn believes(&self) -> bool {
        true
    }
}

/// One figure that several threads count.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The figures as the stages count them.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) files_new: Counter,
    pub(crate) files_changed: Counter,
    pub(crate) files_unmodified: Counter,
    pub(crate) directories: Counter,
    pub(crate) bytes_read: Counter,
    pub(crate) bytes_new: Counter,
    pub(crate) bytes_stored: Counter,
    pub(crate) chunks_new: Counter,
    pub(crate) chunks_reused: Counter,
    pub(crate) errors: Counter,
    pub(crate) skipped: Counter,
    pub(crate) excluded: Counter,
}

impl Counters {
    fn stats(&self) -> PushStats {
        PushStats {
            files_new: self.files_new.get(),
            files_changed: self.files_changed.get(),
            files_unmodified: self.files_unmodified.get(),
            directories: self.directories.get(),
            bytes_read: self.bytes_read.get(),
            bytes_new: self.bytes_new.get(),
            bytes_stored: self.bytes_stored.get(),
            chunks_new: self.chunks_new.get(),
            chunks_reused: self.chunks_reused.get(),
            errors: self.errors.get(),
            skipped: self.skipped.get(),
            excluded: self.excluded.get(),
        }
    }
}

const INTERVAL: Duration = Duration::from_millis(100);

/// Counts, and tells the observer.
pub(crate) struct Progress<'a> {
    pub(crate) count: Counters,
    observer: &'a dyn Observer,
    told: Mutex<Instant>,
    notices: Mutex<Vec<Notice>>,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(observer: &'a dyn Observer) -> Self {
        Self {
            count: Counters::default(),
            observer,
            told: Mutex::new(Instant::now()),
            notices: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn stats(&self) -> PushStats {
        self.count.stats()
    }

    /// Tells the figures if they were not told just now.
    pub(crate) fn tick(&self, current: &Path) {
        let Ok(mut told) = self.told.try_lock() else { return };
        if told.elapsed() >= INTERVAL {
            *told = Instant::now();
            self.observer.progress(&self.stats(), current);
        }
    }

    /// Counts a notice, tells it, and keeps it for the report unless it is a mere exclusion.
    pub(crate) fn notice(&self, notice: Notice) {
        match notice.kind {
            NoticeKind::Unreadable => self.count.errors.add(1),
            NoticeKind::Skipped => self.count.skipped.add(1),
            NoticeKind::Excluded => {
                self.count.excluded.add(1);
                return;
            }
            NoticeKind::Vanished | NoticeKind::Torn => {}
        }
        self.observer.notice(&notice);
        if let Ok(mut notices) = self.notices.lock() {
            notices.push(notice);
        }
    }

    /// The notices, sorted by path: threads report them in any order.
    pub(crate) fn take_notices(&self) -> Vec<Notice> {
        let mut notices = self.notices.lock().map(|mut n| std::mem::take(&mut *n)).unwrap_or_default();
        notices.sort_by(|a, b| a.path.cmp(&b.path));
        notices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(AtomicU64);
    impl Observer for Heard {
        fn progress(&self, _: &PushStats, _: &Path) {}
        fn notice(&self, _: &Notice) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn notices_count_by_their_kind() {
        let heard = Heard::default();
        let progress = Progress::new(&heard);
        for kind in [
            NoticeKind::Unreadable,
            NoticeKind::Vanished,
            NoticeKind::Torn,
            NoticeKind::Skipped,
            NoticeKind::Excluded,
        ] {
            progress.notice(Notice { path: "x".into(), kind, message: String::new() });
        }
        let stats = progress.stats();
        assert_eq!((stats.errors, stats.skipped, stats.excluded), (1, 1, 1));
        assert_eq!(progress.take_notices().len(), 4);
        assert_eq!(heard.0.load(Ordering::Relaxed), 4);
    }
}
