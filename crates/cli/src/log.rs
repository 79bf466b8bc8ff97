//! The log: what happens inside, for whoever wants to know.
//!
//! **What it may not do.** Hold secrets, names of files above debug, or contents; stdout is not its place.
//! **What always holds.** Without flags only warnings and errors show.
//! **Where it is tested.** `tests/cli` (secrets absent from the log at every level).

use crate::args::Global;
use crate::error::Failure;
use crate::progress::LogWriter;
use std::fs::OpenOptions;
use std::sync::Mutex;
use tracing::level_filters::LevelFilter;

/// Starts it, once for the process.
///
/// # Errors
/// Bad usage for an unknown level; when the file cannot be opened.
pub(crate) fn start(global: &Global) -> Result<(), Failure> {
    let level = match (&global.log_level, global.quiet, global.verbose) {
        (Some(level), ..) => level.as_str(),
        (None, true, _) => "error",
        (None, false, 0) => "warn",
        (None, false, 1) => "info",
        (None, false, _) => "debug",
    };
    let level: LevelFilter = level.parse().map_err(|_| {
        Failure::usage(format!("{level:?} is no log level")).hint("one of error, warn, info, debug, trace")
    })?;
    let lines = tracing_subscriber::fmt().with_max_level(level).with_ansi(false);
    if let Some(path) = &global.log_file {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|e| Failure::io("open", path, e))?;
        lines.with_writer(Mutex::new(file)).init();
    } else {
        lines.without_time().with_target(false).with_writer(|| LogWriter).init();
    }
    Ok(())
}
