//! What tests across crates are built from.
//!
//! **What it is.** Builders, the oracle filesystem, recording and faulty stores.
//!
//! **What it may not do.** Be a normal dependency of anything; share code with what it judges.
//!
//! **What always holds.** Fakes are stricter than the real thing.
//!
//! **Where it is tested.** Beside the code.
#![forbid(unsafe_code)]

pub mod build;
mod clock;
pub mod conformance;
pub mod faulty;
pub mod late;
mod now;
pub mod oracle;
pub mod recording;
pub mod shown;
mod strict;
pub mod system;

pub use clock::{FakeClock, Seeded};
pub use faulty::Faulty;
pub use late::Late;
pub use now::{now, wait};
pub use recording::Recording;
pub use strict::Strict;
