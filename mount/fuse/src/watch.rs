//! The thread that notices new snapshots and tells the kernel what it has to forget.
//!
//! Everything else the kernel keeps for ever, so this is the only way news gets in. What always holds: what
//! changed is told twice, a pause apart, because an answer made just before the change may reach the kernel
//! just after the first telling.

use backupengine_vfs::{ContentReader, Invalidations, ReadOnlyFs, TreeReader};
use fuser::{INodeNo, Notifier};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Ends when dropped.
pub(crate) struct Watcher {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    pub(crate) fn start<T, C>(
        core: Arc<ReadOnlyFs<T, C>>,
        notifier: Notifier,
        every: Duration,
    ) -> io::Result<Self>
    where
        T: TreeReader + 'static,
        C: ContentReader + 'static,
    {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("mount-watch".to_owned())
            .spawn(move || watch(&core, &notifier, every, &stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches for snapshots panicked");
        }
    }
}

fn watch<T: TreeReader, C: ContentReader>(
    core: &ReadOnlyFs<T, C>,
    notifier: &Notifier,
    every: Duration,
    stopped: &Receiver<()>,
) {
    let mut again = Invalidations::default();
    let mut failing = false;
    while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        let changed = match core.refresh() {
            Ok(changed) => {
                failing = false;
                changed
            }
            Err(error) => {
                // Once per outage: the next second says the same.
                if !failing {
                    tracing::warn!(%error, "the list of snapshots could not be read; the last one stays");
                }
                failing = true;
                Invalidations::default()
            }
        };
        for told in [&again, &changed] {
            tell(notifier, told);
        }
        again = changed;
    }
}

fn tell(notifier: &Notifier, changed: &Invalidations) {
    for (folder, name) in &changed.entries {
        let told = notifier.inval_entry(INodeNo(folder.0), OsStr::from_bytes(name));
        report(told);
    }
    for ino in &changed.inodes {
        report(notifier.inval_inode(INodeNo(ino.0), 0, 0));
    }
}

fn report(told: io::Result<()>) {
    if let Err(error) = told {
        // The kernel no longer knows it, or the mount is ending.
        tracing::debug!(%error, "the kernel did not take a notification");
    }
}
