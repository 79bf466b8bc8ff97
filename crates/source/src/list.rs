//! Lists one directory: which of its names are kept, what they are, what is to be walked below.
//!
//! May not know the order of the walk or its threads. What always holds: one name that cannot be looked at
//! becomes a notice and costs no other name. Tested in `walk`.

use crate::exclude::{GITIGNORE_MAX, GitRules, Patterns};
use crate::meta::{Folder, Found, Look, NameKind, bytes_to_path, path_to_bytes, real_path};
use crate::roots::Lead;
use crate::{DirBatch, Entry, Notice, NoticeKind};
use backupengine_model::{Kind, TreePath, check_name};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// From how many names on a single directory is looked at by several threads.
const SHARED_FROM: usize = 8192;

/// What holds for the whole walk.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) patterns: Patterns,
    pub(crate) gitignore: bool,
    pub(crate) exclude_caches: bool,
    pub(crate) one_file_system: bool,
    /// (device, inode) of folders to skip.
    pub(crate) skip: HashSet<(u64, u64)>,
    pub(crate) skip_devices: Vec<u64>,
    /// Paths that may not even be looked at.
    pub(crate) skip_mounts: HashSet<PathBuf>,
    pub(crate) threads: usize,
}

/// How a directory is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// With all its names.
    Whole,
    /// Only to the roots below it.
    Leading,
    /// It is shown, but what is in it belongs to another filesystem.
    Shut,
}

/// A directory to list.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) mode: Mode,
    /// Roots at or below it.
    pub(crate) lead: Option<Arc<Lead>>,
    /// `.gitignore` files above it.
    pub(crate) git: Option<Arc<GitRules>>,
    /// The device of the root it belongs to.
    pub(crate) device: u64,
}

/// A directory to list later, by name.
pub(crate) type Child = (Vec<u8>, Task);

/// Lists the directory at `path`.
pub(crate) fn list(rules: &Rules, path: &Arc<TreePath>, task: &Task) -> (DirBatch, Vec<Child>) {
    let real = Arc::new(real_path(path));
    let mut batch = DirBatch {
        path: Arc::clone(path),
        real: Arc::clone(&real),
        directories: Vec::new(),
        others: Vec::new(),
        notices: Vec::new(),
    };
    let listed = match task.mode {
        Mode::Shut => Ok(Vec::new()),
        Mode::Whole => Folder::open(&real).and_then(|folder| list_whole(rules, &folder, &real, task)),
        Mode::Leading => Folder::open_to_look(&real).map(|folder| list_leading(rules, &folder, &real, task)),
    };
    let outcomes = match listed {
        Ok(outcomes) => outcomes,
        Err(error) => {
            let grave = task.mode == Mode::Leading || task.lead.is_some();
            batch.notices.push(trouble(real.to_path_buf(), &error, grave));
            Vec::new()
        }
    };
    let mut children = Vec::new();
    for outcome in outcomes {
        match outcome {
            Outcome::Directory(entry, task) => {
                children.push((entry.name.clone(), task));
                batch.directories.push(entry);
            }
            Outcome::Other(entry) => batch.others.push(entry),
            Outcome::Left(notice) => batch.notices.push(notice),
        }
    }
    (batch, children)
}

/// What became of one name.
enum Outcome {
    Directory(Entry, Task),
    Other(Entry),
    Left(Notice),
}

fn list_whole(rules: &Rules, folder: &Folder, real: &Path, task: &Task) -> io::Result<Vec<Outcome>> {
    let mut names = folder.names()?;
    names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let git = if rules.gitignore { git_rules(folder, real, &names, task.git.clone()) } else { None };
    let place = Place { rules, folder, real, task, git };
    let mut out = place.missing_roots(&names);
    if names.len() < SHARED_FROM || rules.threads < 2 {
        out.extend(place.visit_all(names));
        return Ok(out);
    }
    let part = names.len().div_ceil(rules.threads);
    let mut parts = Vec::new();
    while !names.is_empty() {
        let rest = names.split_off(part.min(names.len()));
        parts.push(std::mem::replace(&mut names, rest));
    }
    let place = &place;
    let done = std::thread::scope(|scope| {
        let running: Vec<_> = parts.into_iter().map(|p| scope.spawn(move || place.visit_all(p))).collect();
        running.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    for part in done {
        out.extend(part.map_err(|_| io::Error::other("a thread that looked at its names broke off"))?);
    }
    Ok(out)
}

fn list_leading(rules: &Rules, folder: &Folder, real: &Path, task: &Task) -> Vec<Outcome> {
    let Some(lead) = &task.lead else { return Vec::new() };
    let names = lead.children.keys().map(|name| Found { name: name.clone(), kind: NameKind::Unknown });
    Place { rules, folder, real, task, git: None }.visit_all(names.collect())
}

/// A directory that is being listed.
struct Place<'a> {
    rules: &'a Rules,
    folder: &'a Folder,
    real: &'a Path,
    task: &'a Task,
    git: Option<Arc<GitRules>>,
}

impl Place<'_> {
    /// Roots, or what led to one, that are in no listing any more.
    fn missing_roots(&self, names: &[Found]) -> Vec<Outcome> {
        let wanted = self.task.lead.iter().flat_map(|lead| lead.children.keys());
        let gone = io::Error::from(io::ErrorKind::NotFound);
        wanted
            .filter(|name| !holds(names, name))
            .map(|name| Outcome::Left(trouble(self.path_of(name), &gone, true)))
            .collect()
    }

    fn visit_all(&self, names: Vec<Found>) -> Vec<Outcome> {
        let mut look = self.folder.look(self.real);
        names.into_iter().map(|found| self.visit(&mut look, found)).collect()
    }

    fn visit(&self, look: &mut Look<'_>, found: Found) -> Outcome {
        let lead = self.task.lead.as_ref().and_then(|lead| lead.children.get(&found.name)).cloned();
        let asks_path = lead.is_some() || !self.rules.skip_mounts.is_empty();
        if asks_path && self.rules.skip_mounts.contains(&self.path_of(&found.name)) {
            return self.left(&found.name, NoticeKind::Skipped, "a mounted vault");
        }
        let mut excluded = false;
        if found.kind != NameKind::Unknown {
            excluded = self.is_excluded(&found.name, found.kind == NameKind::Directory);
            if excluded && lead.is_none() {
                return self.left(&found.name, NoticeKind::Excluded, "");
            }
        }
        let (mut attributes, identity) = match look.folder.stat(&found.name) {
            Ok(seen) => seen,
            Err(error) => return Outcome::Left(trouble(self.path_of(&found.name), &error, lead.is_some())),
        };
        let is_dir = attributes.kind == Kind::Directory;
        if found.kind == NameKind::Unknown && self.task.mode == Mode::Whole {
            excluded = self.is_excluded(&found.name, is_dir);
            if excluded && lead.is_none() {
                return self.left(&found.name, NoticeKind::Excluded, "");
            }
        }
        if self.rules.skip_devices.contains(&identity.device) {
            return self.left(&found.name, NoticeKind::Skipped, "a mounted vault");
        }
        if is_dir && self.rules.skip.contains(&(identity.device, identity.inode)) {
            return self.left(&found.name, NoticeKind::Skipped, "belongs to the vault or to this program");
        }
        let mut mode = self.mode_below(lead.as_deref(), excluded, identity.device);
        if is_dir
            && mode == Mode::Whole
            && let Some(mark) = self.mark_in(&found.name)
        {
            match &lead {
                Some(lead) if lead.is_root => {
                    return self.left(
                        &found.name,
                        NoticeKind::Skipped,
                        &format!("left out: it holds {mark}"),
                    );
                }
                Some(_) => mode = Mode::Leading,
                None => return self.left(&found.name, NoticeKind::Excluded, ""),
            }
        }
        if !is_dir && lead.as_ref().is_some_and(|lead| !lead.children.is_empty()) {
            let gone = io::Error::new(io::ErrorKind::NotADirectory, "it is no folder any more");
            return Outcome::Left(trouble(self.path_of(&found.name), &gone, true));
        }
        if let Err(error) = check_name(&found.name) {
            return self.left(&found.name, NoticeKind::Unreadable, &error.to_string());
        }
        let read = || -> io::Result<_> {
            let target = match attributes.kind {
                Kind::Symlink => Some(look.folder.target(&found.name)?),
                _ => None,
            };
            Ok((target, look.xattrs(&found.name)?))
        };
        let (target, xattrs) = match { read }() {
            Ok(read) => read,
            Err(error) => return Outcome::Left(trouble(self.path_of(&found.name), &error, lead.is_some())),
        };
        if let Some(target) = &target {
            attributes.size = target.len() as u64;
        }
        let entry = Entry { name: found.name, attributes, identity, target, xattrs };
        if !is_dir {
            return Outcome::Other(entry);
        }
        let is_root = lead.as_ref().is_some_and(|lead| lead.is_root);
        let task = Task {
            mode,
            git: if is_root && self.task.mode == Mode::Leading {
                self.git_above(&entry.name)
            } else {
                self.git.clone()
            },
            device: if is_root { identity.device } else { self.task.device },
            lead,
        };
        Outcome::Directory(entry, task)
    }

    /// How a directory of this name is walked. What leads to a root is never cut off.
    fn mode_below(&self, lead: Option<&Lead>, excluded: bool, device: u64) -> Mode {
        let foreign = self.rules.one_file_system && device != self.task.device;
        match lead {
            Some(lead) if lead.is_root => Mode::Whole,
            Some(_) if excluded || foreign || self.task.mode == Mode::Leading => Mode::Leading,
            None if foreign => Mode::Shut,
            _ => Mode::Whole,
        }
    }

    fn is_excluded(&self, name: &[u8], is_dir: bool) -> bool {
        if self.rules.patterns.is_empty() && self.git.is_none() {
            return false;
        }
        let path = self.path_of(name);
        self.rules.patterns.excludes(&path, is_dir)
            || self.git.as_ref().is_some_and(|git| git.excludes(&path, is_dir))
    }

    /// The mark in a sub-folder that says it wants no backup.
    fn mark_in(&self, name: &[u8]) -> Option<&'static str> {
        if self.folder.has_nobackup(name) {
            return Some(".nobackup");
        }
        (self.rules.exclude_caches && self.folder.is_cache(name)).then_some("CACHEDIR.TAG")
    }

    /// The rules of the repository that a root lies in, from the folder that holds `.git` down.
    fn git_above(&self, root: &[u8]) -> Option<Arc<GitRules>> {
        if !self.rules.gitignore {
            return None;
        }
        let root = self.path_of(root);
        // The root's own `.git` starts a repository of its own; its listing sees to that.
        let above: Vec<_> = root.ancestors().skip(1).collect();
        let holder = above.iter().position(|dir| std::fs::symlink_metadata(dir.join(".git")).is_ok())?;
        above[..=holder].iter().rev().fold(None, |rules, dir| {
            let Ok(folder) = Folder::open(dir) else { return rules };
            read_rules(&folder, dir, rules)
        })
    }

    fn path_of(&self, name: &[u8]) -> PathBuf {
        let dir = path_to_bytes(self.real);
        let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
        path.extend_from_slice(dir);
        if !dir.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        bytes_to_path(path)
    }

    fn left(&self, name: &[u8], kind: NoticeKind, message: &str) -> Outcome {
        Outcome::Left(Notice { path: self.path_of(name), kind, message: message.to_owned() })
    }
}

/// The rules inside a folder: its parents' and its own; a repository of its own knows no parents.
fn git_rules(
    folder: &Folder,
    real: &Path,
    names: &[Found],
    above: Option<Arc<GitRules>>,
) -> Option<Arc<GitRules>> {
    let above = if holds(names, b".git") { None } else { above };
    if holds(names, b".gitignore") { read_rules(folder, real, above) } else { above }
}

/// Whether a sorted listing has this name.
fn holds(names: &[Found], name: &[u8]) -> bool {
    names.binary_search_by(|found| found.name.as_slice().cmp(name)).is_ok()
}

fn read_rules(folder: &Folder, real: &Path, above: Option<Arc<GitRules>>) -> Option<Arc<GitRules>> {
    let is_file = folder.stat(b".gitignore").is_ok_and(|(attributes, _)| attributes.kind == Kind::File);
    match folder.read_small(b".gitignore", GITIGNORE_MAX) {
        Ok(text) if is_file => GitRules::below(above, real, &text),
        _ => above,
    }
}

/// The notice for a name that could not be looked at. `root`: a root or what leads to one; those may not
/// vanish quietly.
pub(crate) fn trouble(path: PathBuf, error: &io::Error, root: bool) -> Notice {
    let gone = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    let kind = if gone && !root { NoticeKind::Vanished } else { NoticeKind::Unreadable };
    Notice { path, kind, message: error.to_string() }
}
