//! The walk on real folders: what is shown, what is left out, and what must not end it.

mod content;
mod hard;
mod order;
mod rules;

use crate::{DirBatch, Entry, Notice, NoticeKind, WalkConfig, Walker};
use backupengine_model::TreePath;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder for one test, with its real path.
struct Ground {
    _dir: TempDir,
    base: PathBuf,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        Self { _dir: dir, base }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    /// Files with their own name as content; names that end in a slash become folders.
    fn plant(&self, names: &[&str]) {
        for name in names {
            let path = self.at(name);
            if name.ends_with('/') {
                std::fs::create_dir_all(path).unwrap();
            } else {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, name).unwrap();
            }
        }
    }

    fn config(&self) -> WalkConfig {
        WalkConfig { roots: vec![self.base.clone()], threads: 2, ..WalkConfig::default() }
    }
}

/// A finished walk.
struct Walked {
    entries: BTreeMap<PathBuf, Entry>,
    notices: Vec<Notice>,
}

impl Walked {
    fn of(config: WalkConfig) -> Self {
        Self::all(Walker::start(config).unwrap())
    }

    /// Walks to roots that were looked at earlier.
    fn of_lead(config: WalkConfig, lead: std::sync::Arc<crate::roots::Lead>) -> Self {
        Self::all(Walker::start_later(lead, &config).unwrap())
    }

    fn all(walker: Walker) -> Self {
        let mut out = Self { entries: BTreeMap::new(), notices: Vec::new() };
        out.entries.insert("/".into(), walker.root().clone());
        walker.for_each(|batch| out.take(batch));
        out
    }

    fn take(&mut self, batch: DirBatch) {
        assert_eq!(batch.real.as_os_str().as_bytes(), batch.path.to_slashes());
        for entry in batch.directories.into_iter().chain(batch.others) {
            let path = batch.real.join(std::ffi::OsStr::from_bytes(&entry.name));
            assert!(self.entries.insert(path, entry).is_none());
        }
        self.notices.extend(batch.notices);
    }

    fn get(&self, path: impl AsRef<Path>) -> &Entry {
        self.entries.get(path.as_ref()).unwrap_or_else(|| panic!("{:?} is missing", path.as_ref()))
    }

    /// Names below `base`, sorted.
    fn names(&self, base: &Path) -> Vec<String> {
        let below = self.entries.keys().filter_map(|path| path.strip_prefix(base).ok());
        below.map(|path| path.to_string_lossy().into_owned()).filter(|name| !name.is_empty()).collect()
    }

    fn noticed(&self, kind: NoticeKind) -> Vec<&Path> {
        self.notices.iter().filter(|n| n.kind == kind).map(|n| n.path.as_path()).collect()
    }
}

fn tree_path(path: &Path) -> TreePath {
    TreePath::from_slashes(path.as_os_str().as_bytes()).unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
