//! Signs of ransomware in what a push reads: what became unreadable, extensions, files that nobody is to touch.
//!
//! **What it is.** [`Tally`], counted while the push goes on, and [`Tally::judge`], the decision over it. What a file
//! looks like is [`look`]'s to say, what is gone [`watch`]'s.
//! **What it may not do.** Stop, slow or refuse a push: the snapshot is made whatever is found. Read a file for this alone.
//! **What always holds.** Everything is held against the last snapshot of this device and these sources; without one there
//! is no signal. That many files changed is none by itself: they have to have been readable and to be noise now.
//! **Where it is tested.** Below; by whole pushes in `tests` of this crate; `tests/cli`.
//!
//! # Decisions
//! 2026-11-29:
//! - **A file that is noise counts only against its own past**: noise that says at its head what it is (pictures, archives)
//!   is none, and what was noise before may change. So re-encoded media, encrypted containers and folders of encrypted
//!   blocks give no signal, and a document (an archive by its head) that was encrypted does.
//! - **The share of changed files is measured in files that became unreadable**, not in changes: a checkout of another branch
//!   changes every file of a project and is no attack.
//! - **What looks like noise is asked of 2 KiB of each file that is read anyway**: its first bytes, where encryption
//!   begins, and 16 places all over it. Measured by the spread of byte values, as the compressor does before it tries.
//! - **The past lies in this device's side files**, two bits a file. Who destroys them does not hide: a file without a past
//!   counts as one that was readable, if its size or modification time moved.
//! - **A file that took another's place counts where its name begins with the name of one that is gone**, in the same
//!   folder; under names of their own they count where half of all files are gone.
//! - **No signal of one file alone, but for canaries**: one encrypted file is a person's own doing.

mod extensions;
mod look;
mod watch;

pub(crate) use look::{Look, is_even, places};
pub(crate) use watch::{Past, Watch};

use crate::flow::Draft;
use crate::stats::Counter;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Shorter files tell nothing: too few bytes to know noise by.
pub(crate) const WITNESS_MIN: u64 = 512;
/// Fewer files than this that became unreadable are no signal,
const UNREADABLE_MIN: u64 = 10;
/// nor is a smaller share of all files than one in this many,
const UNREADABLE_SHARE: u64 = 10;
/// but so many are one, whatever their share.
const UNREADABLE_MANY: u64 = 200;
/// Files with an extension of ransomware that are a signal.
const EXTENSION_MIN: u64 = 3;

/// One sign of ransomware.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signal {
    /// Files that were readable are noise now, under their name or one that begins with it.
    Unreadable {
        /// How many.
        files: u64,
        /// Files of the last snapshot that could tell.
        of: u64,
    },
    /// Files are gone, and others that are noise came in their place under names of their own.
    Replaced {
        /// How many came.
        files: u64,
        /// How many of the last snapshot are gone.
        gone: u64,
        /// Files of the last snapshot that could tell.
        of: u64,
    },
    /// New files that are noise have an extension that known ransomware gives.
    Extension {
        /// How many.
        files: u64,
        /// One of the extensions, without its dot.
        extension: String,
    },
    /// A file that nobody is to touch is gone.
    CanaryMissing {
        /// Where it was.
        path: PathBuf,
    },
    /// A file that nobody is to touch was written to.
    CanaryChanged {
        /// Where it is.
        path: PathBuf,
    },
}

/// What is counted while a push goes on, from any thread.
#[derive(Default)]
pub(crate) struct Tally {
    /// Files of the last snapshot that could tell.
    known: Counter,
    /// Of these, gone and not known to have been noise.
    gone: Counter,
    /// Noise now, readable before.
    turned: Counter,
    /// New, noise, and in nobody's place.
    strangers: Counter,
    extensions: Counter,
    found: Mutex<Vec<Signal>>,
}

impl Tally {
    /// A file was read: what it looks like, and how many of its bytes no earlier session stored.
    pub(crate) fn read(&self, draft: &Draft, look: Look, fresh: u64) {
        let size = draft.attributes.size;
        let Past { readable, new, canary } = draft.past;
        if canary && fresh > 0 && size >= WITNESS_MIN {
            self.find(Signal::CanaryChanged { path: draft.real_path() });
        }
        if look != Look::Noise {
            return;
        }
        if readable {
            self.turned.add(1);
        }
        // What was stored before was moved here or copied; so was a file most of which was.
        if !new || fresh.saturating_mul(2) < size {
            return;
        }
        if !readable {
            self.strangers.add(1);
        }
        if let Some(extension) = extensions::of(&draft.name) {
            self.extensions.add(1);
            if self.extensions.get() == EXTENSION_MIN {
                self.find(Signal::Extension { files: 0, extension: extension.to_owned() });
            }
        }
    }

    fn find(&self, signal: Signal) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if !found.contains(&signal) {
            found.push(signal);
        }
    }

    /// What all of it comes to; nothing is found where there is nothing to worry about.
    pub(crate) fn judge(&self) -> Vec<Signal> {
        let figures = Figures {
            known: self.known.get(),
            gone: self.gone.get(),
            turned: self.turned.get(),
            strangers: self.strangers.get(),
        };
        let mut signals = figures.judge();
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        signals.extend(found.iter().cloned().map(|signal| match signal {
            Signal::Extension { extension, .. } => {
                Signal::Extension { files: self.extensions.get(), extension }
            }
            other => other,
        }));
        signals
    }
}

/// See [`Tally`].
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    known: u64,
    gone: u64,
    turned: u64,
    strangers: u64,
}

impl Figures {
    fn judge(self) -> Vec<Signal> {
        let Self { known, gone, turned, strangers } = self;
        let mut signals = Vec::new();
        let share = turned.saturating_mul(UNREADABLE_SHARE) >= known || turned >= UNREADABLE_MANY;
        if turned >= UNREADABLE_MIN && share {
            signals.push(Signal::Unreadable { files: turned, of: known });
        }
        // Half of all gone, and at least half as many in their place.
        let half = gone.saturating_mul(2) >= known && strangers.saturating_mul(2) >= gone;
        if strangers.min(gone) >= UNREADABLE_MIN && half {
            signals.push(Signal::Replaced { files: strangers, gone, of: known });
        }
        signals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judged(known: u64, gone: u64, turned: u64, strangers: u64) -> usize {
        Figures { known, gone, turned, strangers }.judge().len()
    }

    #[test]
    fn where_the_lines_are() {
        assert_eq!(judged(100, 0, 10, 0), 1);
        assert_eq!(judged(101, 0, 10, 0), 0, "less than a tenth");
        assert_eq!(judged(20, 0, 9, 0), 0, "too few");
        assert_eq!(judged(1_000_000, 0, 199, 0), 0);
        assert_eq!(judged(1_000_000, 0, 200, 0), 1, "many are a signal whatever their share");
        assert_eq!(judged(100, 50, 0, 25), 1);
        assert_eq!(judged(101, 50, 0, 25), 0, "less than half is gone");
        assert_eq!(judged(100, 50, 0, 24), 0, "less than half of those in their place");
        assert_eq!(judged(18, 9, 0, 9), 0, "too few");
        assert_eq!(judged(100, 60, 60, 40), 2);
    }

    proptest! {
        /// However much is changed, deleted or added: without noise where there was none it is no signal.
        #[test]
        fn no_change_is_a_signal_without_noise(known in 0..1_000_000_u64, gone in 0..1_000_000_u64) {
            prop_assert_eq!(judged(known, gone, 0, 0), 0);
        }

        /// New files alone are none, whatever they hold.
        #[test]
        fn what_only_came_is_no_signal(known in 0..1_000_000_u64, strangers in 0..1_000_000_u64) {
            prop_assert_eq!(judged(known, 0, 0, strangers), 0);
        }

        /// One more file that became unreadable never ends a signal.
        #[test]
        fn more_of_it_stays_a_signal(
            known in 0..10_000_u64, gone in 0..10_000_u64, turned in 0..10_000_u64, strangers in 0..10_000_u64,
            more in 1..100_u64,
        ) {
            prop_assert!(judged(known, gone, turned + more, strangers) >= judged(known, gone, turned, strangers));
            prop_assert!(judged(known, gone, turned, strangers + more) >= judged(known, gone, turned, strangers));
        }
    }
}
