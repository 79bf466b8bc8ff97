//! Looks after a vault: check, repair, retention, and giving space back.
//!
//! **What it is.** [`check`]: reads what is stored, authenticates it, and lists everything that is not as it
//! should be with the files it concerns. [`retention`]: which snapshots stay under a policy. [`keep`]: forgetting,
//! bringing back, holding and tagging, as the ledger then has it. [`prune`]: says what no snapshot needs any more.
//! [`heal`] and [`rebuild_ledger`]: what a check found, made whole again as far as there is anything to make it from.
//!
//! **What it may not do.** Speak HTTP, read sources, delete a blob by its own hand.
//!
//! **What always holds.** The first damage ends no check: it is noted and the rest is looked at. A check's memory stays
//! bounded by the number of packs and by fixed caches, not by files or bytes; a collection that compacts keeps an entry
//! for each frame that is needed. What is not known to be needed by nothing is not given up.
//!
//! **Where it is tested.** Beside the code; `tests/damage`, `tests/protocol`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod check;
mod collect;
pub mod keep;
mod repair;
pub mod retention;
mod stats;

pub use check::finding::{AFFECTED_MAX, Affected, Finding, Object, Problem};
pub use check::{CheckConfig, CheckError, CheckObserver, CheckReport, Phase, ReadData, check};
pub use collect::{PruneConfig, PruneError, PruneReport, Random, prune, prune_dry};
pub use repair::{
    HealStats, RebuiltLedger, RepairConfig, RepairError, RepairObserver, damaged_packs, damaged_roots, heal,
    rebuild_ledger,
};
pub use stats::CheckStats;
