//! What the campaign counts, by kind of object, and the table it prints.
//!
//! May not judge. What always holds: whatever is counted here was looked at; what went wrong is kept in words.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Failures that are kept in words; all are counted.
const WORDS: usize = 40;

/// What happened to one kind of object.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    pub(crate) damages: u64,
    /// Files, listings and lists of snapshots that were asked for and were right.
    pub(crate) right: u64,
    /// The same that were refused, as they had to be.
    pub(crate) refused: u64,
    /// Wrong bytes or names served.
    pub(crate) wrong: u64,
    /// Refused though nothing they need was damaged, or with an error of a wrong kind.
    pub(crate) lost: u64,
    pub(crate) panics: u64,
    /// Ranges that had to be fetched though the cache had held everything.
    pub(crate) fetched: u64,
}

impl Row {
    fn add(&mut self, other: &Self) {
        self.damages += other.damages;
        self.right += other.right;
        self.refused += other.refused;
        self.wrong += other.wrong;
        self.lost += other.lost;
        self.panics += other.panics;
        self.fetched += other.fetched;
    }
}

/// How a case went wrong.
#[derive(Debug)]
pub(crate) enum Fail {
    /// Wrong bytes or names served.
    Wrong(String),
    /// Not served, or served, against what the damage allows.
    Lost(String),
}

#[derive(Default)]
struct Inner {
    rows: BTreeMap<&'static str, Row>,
    acts: BTreeMap<String, u64>,
    words: Vec<String>,
    failures: u64,
}

/// The counts of a campaign, from all its threads.
#[derive(Default)]
pub(crate) struct Tally(Mutex<Inner>);

impl Tally {
    /// Adds what one case counted.
    pub(crate) fn add(&self, kind: &'static str, act: &str, row: &Row) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.rows.entry(kind).or_default().add(&Row { damages: 1, ..*row });
        *inner.acts.entry(act.to_owned()).or_default() += 1;
    }

    /// Notes what went wrong.
    pub(crate) fn fail(&self, words: String) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.failures += 1;
        if inner.words.len() < WORDS {
            inner.words.push(words);
        }
    }

    /// What went wrong, in words; `None` where nothing did.
    pub(crate) fn failures(&self) -> Option<String> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.failures > 0).then(|| format!("{} failed:\n{}", inner.failures, inner.words.join("\n")))
    }

    /// Kinds that were damaged.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rows.keys().copied().collect()
    }

    /// Reads that were right, reads that were refused, and ranges that were fetched again.
    pub(crate) fn answered(&self) -> (u64, u64, u64) {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = Row::default();
        inner.rows.values().for_each(|row| sum.add(row));
        (sum.right, sum.refused, sum.fetched)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = Row::default();
        writeln!(
            f,
            "{:<24} {:>8} {:>10} {:>10} {:>8} {:>6} {:>6} {:>7} {:>6}",
            "object", "damages", "right", "refused", "fetched", "wrong", "lost", "panics", "hangs"
        )?;
        let mut line = |name: &str, row: &Row| {
            let Row { damages, right, refused, wrong, lost, panics, fetched } = row;
            // A read that hangs ends the whole run: a run that ends had none.
            writeln!(
                f,
                "{name:<24} {damages:>8} {right:>10} {refused:>10} {fetched:>8} {wrong:>6} {lost:>6} {panics:>7} {:>6}",
                0
            )
        };
        for (kind, row) in &inner.rows {
            line(kind, row)?;
            sum.add(row);
        }
        line("all", &sum)?;
        let acts: Vec<String> = inner.acts.iter().map(|(act, count)| format!("{act} {count}")).collect();
        writeln!(f, "by act: {}", acts.join(", "))
    }
}
