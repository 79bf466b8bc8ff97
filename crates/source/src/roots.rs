//! Roots: made absolute and real, then merged into the tree of names that lead to them.
//!
//! May not list folders. What always holds: a root appears once, however often and by whichever path it was
//! named. Tested below.

use crate::SourceError;
use crate::meta::path_to_bytes;
use backupengine_model::TreePath;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A name that is a root, or leads to one.
#[derive(Debug, Default)]
pub(crate) struct Lead {
    /// Everything below is pushed.
    pub(crate) is_root: bool,
    /// Names below that are roots or lead to some.
    pub(crate) children: BTreeMap<Vec<u8>, Arc<Lead>>,
}

impl Lead {
    /// The tree of all roots, "/" at its top.
    pub(crate) fn new(roots: &[PathBuf]) -> Result<Arc<Self>, SourceError> {
        if roots.is_empty() {
            return Err(SourceError::NoRoots);
        }
        let mut top = Building::default();
        for root in roots {
            let refuse = |message: String| SourceError::Root { path: root.clone(), message };
            let real = settle(root).map_err(|error| refuse(error.to_string()))?;
            let path =
                TreePath::from_slashes(path_to_bytes(&real)).map_err(|error| refuse(error.to_string()))?;
            let mut at = &mut top;
            for name in path.components() {
                at = at.children.entry(name.to_vec()).or_default();
            }
            at.is_root = true;
        }
        Ok(top.finish())
    }
}

#[derive(Default)]
struct Building {
    is_root: bool,
    children: BTreeMap<Vec<u8>, Building>,
}

impl Building {
    fn finish(self) -> Arc<Lead> {
        let children = self.children.into_iter().map(|(name, below)| (name, below.finish())).collect();
        Arc::new(Lead { is_root: self.is_root, children })
    }
}

/// The real path: links among the parents resolved, the last component kept as it is. A path that ends in a
/// slash, `.` or `..` means what it leads to.
fn settle(path: &Path) -> std::io::Result<PathBuf> {
    let bytes = path_to_bytes(path);
    let means_target = bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b".";
    match (path.file_name(), path.parent()) {
        (Some(name), Some(parent)) if !means_target => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            let real = parent.canonicalize()?.join(name);
            std::fs::symlink_metadata(&real)?;
            Ok(real)
        }
        _ => path.canonicalize(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn overlapping_roots_become_one_tree() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("a/b")).unwrap();
        std::os::unix::fs::symlink("a", base.join("link")).unwrap();
        let named = [
            base.join("a"),
            base.join("a/"),
            base.join("a/../a/./b"),
            base.join("link/b"),
            base.join("link"),
        ];
        let top = Lead::new(&named).unwrap();
        let mut at = &top;
        for name in base.components().skip(1) {
            assert!(!at.is_root);
            assert_eq!(at.children.len(), 1);
            at = &at.children[name.as_os_str().as_encoded_bytes()];
        }
        let names: Vec<_> = at.children.keys().map(Vec::as_slice).collect();
        assert_eq!(names, [&b"a"[..], b"link"]);
        let a = &at.children[&b"a"[..]];
        assert!(a.is_root && at.children[&b"link"[..]].is_root);
        assert_eq!(a.children.len(), 1);
        assert!(a.children[&b"b"[..]].is_root);
        // With a slash at its end the link stands for what it leads to.
        let slashed = Lead::new(&[base.join("link/")]).unwrap();
        let same = Lead::new(&[base.join("a")]).unwrap();
        assert_eq!(format!("{slashed:?}"), format!("{same:?}"));
    }

    #[test]
    fn what_does_not_exist_is_refused_by_name() {
        let missing = Path::new("/no such folder/x");
        match Lead::new(&[missing.to_owned()]) {
            Err(SourceError::Root { path, .. }) => assert_eq!(path, missing),
            other => panic!("{other:?}"),
        }
        assert!(matches!(Lead::new(&[]), Err(SourceError::NoRoots)));
        assert!(Lead::new(&["/".into()]).unwrap().is_root);
    }
}
