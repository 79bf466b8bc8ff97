//! Readers that were told to end do not wait for a store that does not answer.
//!
//! **What it is.** The kernel lets a process that has to end wait until its request was answered, and the library that
//! speaks with the kernel does not pass on that a signal came. So a thread looks, a few times a second, whether who
//! waits for a request that takes long has been told to end, and answers that request with EINTR.
//!
//! **What it may not do.** End the wait itself: the thread that fetches goes on, and what it brings is kept for others.
//! Heed signals that do not ask for an end: programs that are interrupted for other reasons expect reads of files to go on.
//!
//! **What always holds.** A request that is answered soon costs nothing here. **Where it is tested.** Below; with real
//! processes in `tests/mount`.

use crate::requests::{Pending, Requests};
use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks; a request is looked at that is older than that.
const PAUSE: Duration = Duration::from_millis(100);

/// Signals that ask a process to end, as bits of a mask of /proc (signal 1 is bit 0): SIGHUP, SIGINT, SIGQUIT, SIGKILL,
/// SIGTERM.
const END: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 8 | 1 << 14;

/// Ends when dropped.
pub(crate) struct Signals {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Signals {
    pub(crate) fn watch(requests: Requests) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("mount-signals".to_owned()).spawn(move || {
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                requests
                    .give_up(|pending: &Pending| pending.since.elapsed() > PAUSE && has_to_end(pending.pid));
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches for signals panicked");
        }
    }
}

/// Whether the thread `pid` was told to end and has not heeded it yet; `false` where that cannot be seen.
fn has_to_end(pid: u32) -> bool {
    // Nobody's is what the kernel asks for on its own.
    pid != 0 && std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|text| end_waits(&text))
}

/// Of the text of proc_pid_status(5).
fn end_waits(status: &str) -> bool {
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0)
    };
    (mask("SigPnd:") | mask("ShdPnd:")) & !mask("SigBlk:") & END != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_signals_that_ask_for_an_end_and_are_not_blocked_count() {
        let status = |own: u64, shared: u64, blocked: u64| {
            format!(
                "Name:\tcat\nSigQ:\t1/2\nSigPnd:\t{own:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\n"
            )
        };
        let of = |signal: u32| 1u64 << (signal - 1);
        for end in [1, 2, 3, 9, 15] {
            assert!(end_waits(&status(of(end), 0, 0)), "{end}");
            assert!(end_waits(&status(0, of(end), 0)), "{end}");
            assert!(!end_waits(&status(of(end), of(end), of(end))), "{end}");
        }
        // A child ended, a profiler ticks, a window changed, a shell stops it, a runtime wakes a thread.
        for other in [17, 27, 28, 19, 20, 23, 14] {
            assert!(!end_waits(&status(of(other), of(other), 0)), "{other}");
        }
        assert!(!end_waits(""));
        assert!(!has_to_end(0) && !has_to_end(std::process::id()));
    }
}
