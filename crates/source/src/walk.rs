//! The walk: directories are listed ahead on threads and handed out in order.
//!
//! May not look at files itself. What always holds: batches come in the order of `TreePath`; what is listed
//! but not yet handed out stays within [`AHEAD`] bytes, plus one directory for each thread; a thread that
//! fails costs its directory, never the walk. Tested in `tests`.

use crate::exclude::Patterns;
use crate::list::{Child, Mode, Rules, Task, list};
use crate::meta::Folder;
use crate::roots::Lead;
use crate::{DirBatch, Entry, Notice, NoticeKind, SourceError, WalkConfig};
use backupengine_model::TreePath;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Bytes of listed directories that may wait to be handed out.
pub(crate) const AHEAD: usize = 8 << 20;

/// A running walk: an iterator of batches in depth-first pre-order. Listing runs ahead on threads, bounded.
/// The first batch is "/" (with only the components that lead to the roots). Dropping it ends the threads.
#[derive(Debug)]
pub struct Walker {
    root: Entry,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Walker {
    /// Starts; fails only where a root does not exist, none is given, or a pattern is none.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn start(config: WalkConfig) -> Result<Self, SourceError> {
        let lead = Lead::new(&config.roots)?;
        Self::start_at(lead, &config)
    }

    fn start_at(lead: Arc<Lead>, config: &WalkConfig) -> Result<Self, SourceError> {
        let root = look_at_top().map_err(|error| top_failed(&error))?;
        let threads = match config.threads {
            0 => std::thread::available_parallelism().map_or(4, |n| (2 * n.get()).clamp(4, 16)),
            given => given,
        };
        let rules = compile(config, threads)?;
        let task = Task {
            mode: if lead.is_root { Mode::Whole } else { Mode::Leading },
            lead: Some(lead),
            git: None,
            device: root.identity.device,
        };
        let top = Arc::new(TreePath::root());
        let state = State {
            order: BTreeMap::from([(Arc::clone(&top), Slot::Pending(task))]),
            pending: BTreeSet::from([top]),
            ..State::default()
        };
        let shared =
            Arc::new(Shared { rules, state: Mutex::new(state), work: Condvar::new(), ready: Condvar::new() });
        let mut walker = Self { root, shared, threads: Vec::new() };
        for number in 0..threads {
            let shared = Arc::clone(&walker.shared);
            let started =
                std::thread::Builder::new().name(format!("walk-{number}")).spawn(move || shared.work());
            match started {
                Ok(thread) => walker.threads.push(thread),
                Err(error) if number == 0 => return Err(SourceError::Thread(error)),
                // Fewer threads than asked for do as well.
                Err(_) => break,
            }
        }
        Ok(walker)
    }

    /// Attributes and xattrs of "/".
    pub fn root(&self) -> &Entry {
        &self.root
    }
}

impl Iterator for Walker {
    type Item = DirBatch;

    fn next(&mut self) -> Option<DirBatch> {
        self.shared.next()
    }
}

impl Drop for Walker {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A panic was turned into a notice already.
            drop(thread.join());
        }
    }
}

fn top_failed(error: &std::io::Error) -> SourceError {
    SourceError::Root { path: "/".into(), message: error.to_string() }
}

fn look_at_top() -> std::io::Result<Entry> {
    let folder = Folder::open_to_look(Path::new("/"))?;
    let (attributes, identity) = folder.stat(b".")?;
    let xattrs = folder.look(Path::new("/")).xattrs(b".")?;
    Ok(Entry { name: Vec::new(), attributes, identity, target: None, xattrs })
}

fn compile(config: &WalkConfig, threads: usize) -> Result<Rules, SourceError> {
    let skip = config.skip.iter().filter_map(|path| {
        let real = path.canonicalize().ok()?;
        let (_, identity) = Folder::open_to_look(&real).ok()?.stat(b".").ok()?;
        Some((identity.device, identity.inode))
    });
    let mut rules = Rules {
        patterns: Patterns::new(&config.excludes)?,
        gitignore: config.gitignore,
        exclude_caches: config.exclude_caches,
        one_file_system: config.one_file_system,
        skip: skip.collect(),
        skip_devices: config.skip_devices.clone(),
        skip_mounts: Default::default(),
        threads,
    };
    if !config.skip_devices.is_empty() {
        let mounts = crate::meta::mounts_of(&config.skip_devices).unwrap_or_default();
        rules.skip_mounts = mounts.into_iter().map(|mount| mount.path).collect();
    }
    Ok(rules)
}

#[derive(Debug)]
struct Shared {
    rules: Rules,
    state: Mutex<State>,
    /// Something may be listed.
    work: Condvar,
    /// The first directory in order is listed.
    ready: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Every directory that is known and not handed out. The first is the next to hand out: a directory
    /// enters only together with the end of its parent's listing, and all of them come after their parent.
    order: BTreeMap<Arc<TreePath>, Slot>,
    /// Those of `order` that wait for a thread.
    pending: BTreeSet<Arc<TreePath>>,
    /// Bytes of listed directories in `order`.
    held: usize,
    idle: usize,
    stop: bool,
}

#[derive(Debug)]
enum Slot {
    Pending(Task),
    Running,
    Listed(DirBatch, usize),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and if it did the state would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some((path, task)) = self.take() {
            let listed = catch_unwind(AssertUnwindSafe(|| list(&self.rules, &path, &task)));
            let (batch, children) = listed.unwrap_or_else(|_| (broken(&path), Vec::new()));
            self.put(&path, batch, children);
        }
    }

    /// The first directory in order that waits. Beyond the bound only the very next one may be listed.
    fn take(&self) -> Option<(Arc<TreePath>, Task)> {
        let mut state = self.lock();
        loop {
            if state.stop {
                return None;
            }
            let next = state.pending.first().filter(|first| {
                state.held < AHEAD || state.order.first_key_value().is_some_and(|(key, _)| key == *first)
            });
            if let Some(path) = next.cloned() {
                state.pending.remove(&path);
                if let Some(Slot::Pending(task)) = state.order.insert(Arc::clone(&path), Slot::Running) {
                    return Some((path, task));
                }
                continue;
            }
            state.idle += 1;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    fn put(&self, path: &Arc<TreePath>, batch: DirBatch, children: Vec<Child>) {
        let cost = cost(&batch);
        let mut state = self.lock();
        let news = children.len();
        for (name, task) in children {
            let child = Arc::new(path.child(&name));
            state.pending.insert(Arc::clone(&child));
            state.order.insert(child, Slot::Pending(task));
        }
        state.held += cost;
        state.order.insert(Arc::clone(path), Slot::Listed(batch, cost));
        // This thread takes one of the news itself.
        for _ in 1..news.min(state.idle + 1) {
            self.work.notify_one();
        }
        if state.order.first_key_value().is_some_and(|(first, _)| first == path) {
            self.ready.notify_all();
        }
    }

    fn next(&self) -> Option<DirBatch> {
        let mut state = self.lock();
        loop {
            match state.order.first_entry() {
                None => return None,
                Some(first) if matches!(first.get(), Slot::Listed(..)) => {
                    if let Slot::Listed(batch, cost) = first.remove() {
                        let was_full = state.held >= AHEAD;
                        state.held -= cost;
                        if was_full && state.idle > 0 {
                            self.work.notify_all();
                        }
                        return Some(batch);
                    }
                }
                Some(_) => {
                    state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// Roughly the bytes a batch takes.
fn cost(batch: &DirBatch) -> usize {
    let entry = |entry: &Entry| {
        let xattrs: usize = entry.xattrs.iter().map(|(name, value)| 64 + name.len() + value.len()).sum();
        size_of::<Entry>() + entry.name.len() + entry.target.as_ref().map_or(0, Vec::len) + xattrs
    };
    let entries: usize = batch.directories.iter().chain(&batch.others).map(entry).sum();
    let notices: usize =
        batch.notices.iter().map(|n| size_of::<Notice>() + n.path.as_os_str().len() + n.message.len()).sum();
    size_of::<DirBatch>() + 2 * batch.path.as_joined().len() + entries + notices
}

fn broken(path: &Arc<TreePath>) -> DirBatch {
    let real = Arc::new(crate::meta::real_path(path));
    let message = "listing it failed by a mistake of this program; please report it".to_owned();
    let notice = Notice { path: real.to_path_buf(), kind: NoticeKind::Unreadable, message };
    DirBatch {
        path: Arc::clone(path),
        real,
        directories: Vec::new(),
        others: Vec::new(),
        notices: vec![notice],
    }
}

#[cfg(test)]
impl Walker {
    /// Walks to roots that were looked at earlier.
    pub(crate) fn start_later(lead: Arc<Lead>, config: &WalkConfig) -> Result<Self, SourceError> {
        Self::start_at(lead, config)
    }

    /// Waits until no thread has anything to do: bytes held, and directories that wait.
    pub(crate) fn until_idle(&self, threads: usize) -> (usize, usize) {
        loop {
            let state = self.shared.lock();
            if state.idle == threads {
                return (state.held, state.pending.len());
            }
            drop(state);
            std::thread::yield_now();
        }
    }
}
