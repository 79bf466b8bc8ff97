//! Commands that decide which snapshots stay, as clap sees them.
//!
//! **What it may not do.** See `args`: numbers and durations go to the command as text. **What always holds.** No secret is
//! ever an argument. **Where it is tested.** `tests/cli`.

use super::SNAPSHOT_HELP;
use super::account::Codes;
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// What stands below the help of `forget`.
const FORGET_HELP: &str = "Name snapshots, or give rules; with rules, a snapshot stays that any of them keeps. Each device \
and set of sources is judged for itself. Of each hour, day, ISO week, month and year of this machine's time zone the newest \
stays; N may be `unlimited`. A policy that would keep nothing of a group is refused, and what is held stays.\n\nWhat goes \
lies in the trash for 14 days at least: `snapshots --trash` lists it, `forget --undo` brings it back, and `prune` gives its \
space back afterwards.";

#[derive(Debug, ClapArgs)]
#[command(after_help = FORGET_HELP)]
pub(crate) struct Forget {
    /// Snapshots to forget; with --undo, to bring back
    #[arg(value_name = "S")]
    pub(crate) snapshots: Vec<String>,
    #[command(flatten)]
    pub(crate) rules: Rules,
    /// Of this device only
    #[arg(long, value_name = "D")]
    pub(crate) device: Option<String>,
    /// Judge those with this tag only
    #[arg(long, value_name = "T")]
    pub(crate) tag: Option<String>,
    /// Judge those that hold this path only
    #[arg(long, value_name = "P")]
    pub(crate) path: Option<PathBuf>,
    /// Show what would stay, why, and what would go; change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Bring these snapshots back from the trash
    #[arg(long, requires = "snapshots")]
    pub(crate) undo: bool,
    #[command(flatten)]
    pub(crate) codes: Codes,
}

/// What stays.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "What stays")]
pub(crate) struct Rules {
    /// The last N snapshots
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) keep_last: Option<String>,
    /// The newest of each of the last N hours that have any
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) keep_hourly: Option<String>,
    /// Likewise days
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) keep_daily: Option<String>,
    /// Likewise weeks
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) keep_weekly: Option<String>,
    /// Likewise months
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) keep_monthly: Option<String>,
    /// Likewise years
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) keep_yearly: Option<String>,
    /// All that are at most this much older than the newest, like 36h, 30d, 2w, 1y6mo
    #[arg(long, value_name = "DURATION")]
    pub(crate) keep_within: Option<String>,
    /// All with this tag (again for more)
    #[arg(long = "keep-tag", value_name = "T")]
    pub(crate) keep_tags: Vec<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = SNAPSHOT_HELP)]
pub(crate) struct Tag {
    /// Snapshot
    #[arg(value_name = "S")]
    pub(crate) snapshot: String,
    /// Tag to give it (again for more)
    #[arg(long = "add", value_name = "T", required_unless_present = "remove")]
    pub(crate) add: Vec<String>,
    /// Tag to take from it (again for more)
    #[arg(long = "remove", value_name = "T")]
    pub(crate) remove: Vec<String>,
    /// Choose among this device's snapshots
    #[arg(long, value_name = "D")]
    pub(crate) device: Option<String>,
    #[command(flatten)]
    pub(crate) codes: Codes,
}

/// Of `hold` and `unhold`.
#[derive(Debug, ClapArgs)]
#[command(after_help = SNAPSHOT_HELP)]
pub(crate) struct Hold {
    /// Snapshots
    #[arg(value_name = "S", required = true)]
    pub(crate) snapshots: Vec<String>,
    /// Choose among this device's snapshots
    #[arg(long, value_name = "D")]
    pub(crate) device: Option<String>,
    #[command(flatten)]
    pub(crate) codes: Codes,
}
