//! The campaign: random damage to every kind of stored object and to the cache, read through the vault.
//!
//! Guards: whatever happens to stored bytes, a reader serves the right bytes and names or an error of damage, loses
//! exactly what needs the bytes that were hit, never panics, never hangs; a damaged cache loses nothing at all.
//!
//! ```text
//! scripts/flips [N]                      the whole campaign (100 000 damages) with its table
//! BACKUPENGINE_FLIPS=100000              how many damages; a few thousand where it is not set
//! BACKUPENGINE_FLIPS_SEED=123            other ones than always
//! BACKUPENGINE_FLIPS_CASE=objects:4711   one case again, as a failure names it
//! ```
//!
//! Four groups share the damages: `objects` of a folder vault, the same `network` away with an empty disk cache, the
//! files of a `cache` that is full, and what an `opening` reads first (ledger, marker, envelopes).

mod cached;
mod ground;
mod harm;
mod objects;
mod opening;
mod tally;
mod things;

use backupengine_testkit::Seeded;
use ground::Ground;
use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tally::{Fail, Row, Tally};

/// Damages of an ordinary run of the tests.
const USUAL: u64 = 3000;
/// A net, not a measure: no read here takes a hundredth of it.
const HANG: Duration = Duration::from_secs(120);
/// Threads, each with a copy of the vault.
const THREADS: u64 = 2;

/// What one case did: the kind of object, the act, what was counted.
pub(crate) struct Done {
    pub(crate) kind: &'static str,
    pub(crate) act: String,
    pub(crate) row: Row,
    pub(crate) failed: Option<Fail>,
}

/// A group of cases, with what one thread needs for them.
trait Group {
    /// Does the case of this number.
    fn case(&mut self, number: u64, random: &Seeded, row: &mut Row) -> Done;
    /// Looks whether all is as it was before the first case.
    fn end(&mut self) {}
}

/// Every how many cases everything is asked, not only a sample.
const EVERYTHING: u64 = 97;

#[test]
fn random_damage_serves_no_wrong_byte_and_costs_only_what_it_hit() {
    let total = number("BACKUPENGINE_FLIPS").unwrap_or(USUAL);
    let seed = number("BACKUPENGINE_FLIPS_SEED").unwrap_or(2026);
    let ground = Arc::new(Ground::new());
    let tally = Tally::default();
    let begun = Instant::now();
    let only = std::env::var("BACKUPENGINE_FLIPS_CASE").ok();
    let shares: [(&str, u64, MakeGroup); 4] = [
        ("objects", 68, |ground| Box::new(objects::Objects::near(ground))),
        ("network", 4, |ground| Box::new(objects::Objects::far(ground))),
        ("cache", 18, |ground| Box::new(cached::Cached::new(ground))),
        ("opening", 10, |ground| Box::new(opening::Opening::new(ground))),
    ];
    for (name, share, make) in shares {
        let cases = match &only {
            None => 0..(total * share).div_ceil(100),
            Some(only) => match only.split_once(':') {
                Some((group, case)) if group == name => case.parse().map(|case| case..case + 1).unwrap(),
                _ => continue,
            },
        };
        run(name, &ground, make, cases, seed, &tally);
    }
    eprintln!("{total} damages, seed {seed}, {:.0?}\n{tally}", begun.elapsed());
    if let Some(failures) = tally.failures() {
        panic!("seed {seed}: {failures}");
    }
    if only.is_none() {
        // That it hit what it says: every kind, some of which cost something and some nothing.
        let (kinds, (right, refused, fetched)) = (tally.kinds(), tally.answered());
        assert!(kinds.len() >= 22, "only {kinds:?} were hit");
        assert!(right > total && refused > total / 4, "{right} right, {refused} refused");
        assert!(fetched > total / 20, "only {fetched} ranges were fetched again for a damaged cache");
    }
}

type MakeGroup = fn(Arc<Ground>) -> Box<dyn Group>;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Runs the cases of a group, each with numbers of its own, so that one can be done again alone.
fn run(name: &str, ground: &Arc<Ground>, make: MakeGroup, cases: Range<u64>, seed: u64, tally: &Tally) {
    let next = AtomicU64::new(cases.start);
    let watched: Vec<Watched> = (0..THREADS).map(|_| Watched::default()).collect();
    thread::scope(|scope| {
        for watched in &watched {
            let (next, ground, cases) = (&next, Arc::clone(ground), &cases);
            scope.spawn(move || {
                let mut group = make(ground);
                loop {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    if case >= cases.end {
                        break;
                    }
                    watched.begins(format!("{name}:{case}"));
                    one(name, &mut *group, case, seed, tally);
                }
                group.end();
                watched.ends();
            });
        }
        scope.spawn(|| watch(&watched, seed));
    });
}

fn one(name: &str, group: &mut dyn Group, case: u64, seed: u64, tally: &Tally) {
    let random = Seeded::new(seed ^ case.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ name.len() as u64);
    let mut row = Row::default();
    let at = format!("BACKUPENGINE_FLIPS_SEED={seed} BACKUPENGINE_FLIPS_CASE={name}:{case}");
    match catch_unwind(AssertUnwindSafe(|| group.case(case, &random, &mut row))) {
        Ok(done) => {
            tally.add(done.kind, &done.act, &done.row);
            if let Some(Fail::Wrong(what) | Fail::Lost(what)) = done.failed {
                tally.fail(format!("{at}: {}, {}: {what}", done.kind, done.act));
            }
        }
        Err(panic) => {
            tally.add("(panicked)", "", &Row { panics: 1, ..row });
            tally.fail(format!("{at}: {}", said(&*panic)));
        }
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}

/// What a thread is at, and since when.
#[derive(Default)]
struct Watched {
    now: Mutex<Option<(Instant, String)>>,
    ended: std::sync::atomic::AtomicBool,
}

impl Watched {
    fn begins(&self, case: String) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), case));
    }

    fn ends(&self) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.ended.store(true, Ordering::Release);
    }
}

/// Ends the process where a case hangs: nothing else can be done with a thread that does not come back.
fn watch(watched: &[Watched], seed: u64) {
    while !watched.iter().all(|watched| watched.ended.load(Ordering::Acquire)) {
        for watched in watched {
            let now = watched.now.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((since, case)) = now.as_ref().filter(|(since, _)| since.elapsed() > HANG) {
                eprintln!("seed {seed}, case {case} hangs since {:?}", since.elapsed());
                std::process::abort();
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}
