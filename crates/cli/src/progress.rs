//! What moves on a terminal while something runs.
//!
//! **What it may not do.** Draw where stderr is no terminal, or with `--quiet`, `--json`, `--no-progress`.
//! **What always holds.** Messages and log lines appear above the bar, whole.
//! **Where it is tested.** `tests/cli` (nothing moves when stderr is a pipe).

use crate::args::Global;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The bar on the screen now, so that others can write above it.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Runs `write` with the bar out of the way.
pub(crate) fn above_bar(write: impl FnOnce()) {
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// A bar, or a spinner where the end is not known; nothing where nothing may move.
pub(crate) struct Bar {
    bar: ProgressBar,
    told: Mutex<Option<Instant>>,
}

impl Bar {
    /// Whether one would be drawn at all.
    pub(crate) fn is_shown(global: &Global) -> bool {
        !(global.quiet || global.json || global.no_progress) && io::stderr().is_terminal()
    }

    /// Begins one. `total` is what counts as done, in units the caller chooses.
    pub(crate) fn start(global: &Global, total: Option<u64>) -> Self {
        let silent = !Self::is_shown(global);
        let target =
            if silent { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(8) };
        let bar = ProgressBar::with_draw_target(total, target);
        let colours = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let template = match (total.is_some(), colours) {
            (true, true) => "{elapsed} [{bar:30.cyan/dim}] {percent:>3}%  {msg}  {eta} left",
            (true, false) => "{elapsed} [{bar:30}] {percent:>3}%  {msg}  {eta} left",
            (false, _) => "{elapsed} {spinner} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        if !silent {
            bar.enable_steady_tick(Duration::from_millis(250));
            *BAR.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        }
        Self { bar, told: Mutex::new(None) }
    }

    /// Whether enough time went by since it said so last: what is told often need not be formatted each time.
    pub(crate) fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut last = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.duration_since(last) >= Duration::from_millis(100));
        if due {
            *last = Some(now);
        }
        due
    }

    /// What counts as done, where that is learned on the way.
    pub(crate) fn set_total(&self, total: u64) {
        self.bar.set_length(total);
    }

    /// Moves it. More than the total, where that was an estimate, moves the total along.
    pub(crate) fn update(&self, done: u64, message: String) {
        if self.bar.is_hidden() {
            return;
        }
        if self.bar.length().is_some_and(|total| done > total) {
            self.bar.set_length(done);
        }
        self.bar.set_position(done);
        self.bar.set_message(message);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        BAR.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.bar.finish_and_clear();
    }
}

/// stderr for the log: lines go above the bar.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = Ok(0);
        above_bar(|| written = io::stderr().lock().write(bytes));
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
