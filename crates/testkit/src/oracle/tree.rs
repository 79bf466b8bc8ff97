//! A live tree that can be changed like a filesystem: what a push would find.
//!
//! May not do I/O or read a clock: time is a counter that moves with every change. What always holds: link
//! counts, directory link counts and modification times are what a local disk would show; a clone is cheap
//! and shares unchanged nodes. Tested below and in `tests/oracle`.

use super::content::Content;
use backupengine_model::{Attributes, Kind, NodeFlags, Timestamp, TreePath, XattrName};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Identity of a file behind its names, as an inode number is on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileNo(pub u64);

/// What a file holds besides its attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Names below it.
    Directory,
    /// Bytes.
    File(Content),
    /// Target.
    Symlink(Bytes),
    /// Fifo, socket or device.
    Other,
}

/// A file behind its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeNode {
    /// Attributes; `size`, `allocated` and `nlink` are kept right by the tree.
    pub attributes: Attributes,
    /// Extended attributes.
    pub xattrs: BTreeMap<XattrName, Bytes>,
    /// Content.
    pub body: Body,
}

/// A change the tree cannot make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// A live tree.
#[derive(Clone, Debug)]
pub struct Tree {
    names: BTreeMap<TreePath, FileNo>,
    files: BTreeMap<FileNo, Arc<TreeNode>>,
    next: u64,
    now: Timestamp,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// Just "/", at 2026-01-01.
    pub fn new() -> Self {
        let mut tree = Self {
            names: BTreeMap::new(),
            files: BTreeMap::new(),
            next: 0,
            now: Timestamp { secs: 1_767_225_600, nanos: 123_456_789 },
        };
        let root = tree.node(Kind::Directory, 0o755, Body::Directory);
        tree.names.insert(TreePath::root(), FileNo(0));
        tree.files.insert(FileNo(0), Arc::new(root));
        tree.next = 1;
        tree
    }

    fn node(&self, kind: Kind, mode: u32, body: Body) -> TreeNode {
        let attributes = Attributes {
            kind,
            mode,
            uid: 0,
            gid: 0,
            size: match &body {
                Body::Directory => 4096,
                Body::File(content) => content.len(),
                Body::Symlink(target) => target.len() as u64,
                Body::Other => 0,
            },
            mtime: self.now,
            rdev: 0,
            nlink: if kind == Kind::Directory { 2 } else { 1 },
            allocated: match &body {
                Body::File(content) => content.allocated(),
                _ => None,
            },
            flags: NodeFlags::default(),
        };
        TreeNode { attributes, xattrs: BTreeMap::new(), body }
    }

    /// All names with the file behind each, in path order; "/" first.
    pub fn names(&self) -> impl Iterator<Item = (&TreePath, FileNo)> {
        self.names.iter().map(|(path, file)| (path, *file))
    }

    /// The file behind a name.
    pub fn get(&self, path: &TreePath) -> Option<&Arc<TreeNode>> {
        self.files.get(self.names.get(path)?)
    }

    /// Which file a name stands for.
    pub fn file_no(&self, path: &TreePath) -> Option<FileNo> {
        self.names.get(path).copied()
    }

    /// A file by its number.
    pub fn file(&self, file: FileNo) -> Option<&Arc<TreeNode>> {
        self.files.get(&file)
    }

    /// Number of names, "/" not counted.
    pub fn len(&self) -> usize {
        self.names.len() - 1
    }

    /// Whether there is nothing but "/".
    pub fn is_empty(&self) -> bool {
        self.names.len() == 1
    }

    fn tick(&mut self) -> Timestamp {
        self.now.secs += 1;
        self.now.nanos = (self.now.nanos + 1_234_567) % 1_000_000_000;
        self.now
    }

    fn refused<T>(path: &TreePath, why: &str) -> Result<T, Refused> {
        Err(Refused(format!("{path}: {why}")))
    }

    /// Changes the file behind a name without touching times.
    fn change(&mut self, path: &TreePath, f: impl FnOnce(&mut TreeNode)) -> Result<(), Refused> {
        match self.names.get(path).and_then(|file| self.files.get_mut(file)) {
            Some(node) => {
                f(Arc::make_mut(node));
                Ok(())
            }
            None => Self::refused(path, "no such name"),
        }
    }

    fn free_place(&self, path: &TreePath) -> Result<TreePath, Refused> {
        let Some((parent, _)) = path.split_last() else { return Self::refused(path, "is the root") };
        if self.names.contains_key(path) {
            return Self::refused(path, "exists");
        }
        match self.get(&parent) {
            Some(node) if node.attributes.kind == Kind::Directory => Ok(parent),
            Some(_) => Self::refused(&parent, "is no directory"),
            None => Self::refused(&parent, "does not exist"),
        }
    }

    fn touch_parent(&mut self, parent: &TreePath, subdirectories: i32) -> Result<(), Refused> {
        let now = self.now;
        self.change(parent, |node| {
            node.attributes.mtime = now;
            node.attributes.nlink = node.attributes.nlink.saturating_add_signed(subdirectories);
        })
    }

    fn create(
        &mut self,
        path: &TreePath,
        kind: Kind,
        mode: u32,
        rdev: u64,
        body: Body,
    ) -> Result<(), Refused> {
        let parent = self.free_place(path)?;
        self.tick();
        let mut node = self.node(kind, mode, body);
        node.attributes.rdev = rdev;
        let file = FileNo(self.next);
        self.next += 1;
        self.files.insert(file, Arc::new(node));
        self.names.insert(path.clone(), file);
        self.touch_parent(&parent, i32::from(kind == Kind::Directory))
    }

    /// Makes a directory of mode 0755.
    ///
    /// # Errors
    /// Where the name exists or its parent does not.
    pub fn mkdir(&mut self, path: &TreePath) -> Result<(), Refused> {
        self.create(path, Kind::Directory, 0o755, 0, Body::Directory)
    }

    /// Makes a directory and those above it that are missing.
    ///
    /// # Errors
    /// Where one of them exists as something else.
    pub fn mkdir_all(&mut self, path: &TreePath) -> Result<(), Refused> {
        let mut at = TreePath::root();
        for part in path.components() {
            at.push(part);
            match self.get(&at) {
                Some(node) if node.attributes.kind == Kind::Directory => {}
                Some(_) => return Self::refused(&at, "is no directory"),
                None => self.mkdir(&at)?,
            }
        }
        Ok(())
    }

    /// Makes a regular file of mode 0644.
    ///
    /// # Errors
    /// See [`Tree::mkdir`].
    pub fn create_file(&mut self, path: &TreePath, content: Content) -> Result<(), Refused> {
        self.create(path, Kind::File, 0o644, 0, Body::File(content))
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// See [`Tree::mkdir`].
    pub fn symlink(&mut self, path: &TreePath, target: &[u8]) -> Result<(), Refused> {
        self.create(path, Kind::Symlink, 0o777, 0, Body::Symlink(Bytes::copy_from_slice(target)))
    }

    /// Makes a fifo, socket or device of mode 0600.
    ///
    /// # Errors
    /// See [`Tree::mkdir`]; where `kind` has content.
    pub fn mknod(&mut self, path: &TreePath, kind: Kind, rdev: u64) -> Result<(), Refused> {
        match kind {
            Kind::Directory | Kind::File | Kind::Symlink => Self::refused(path, "has content of its own"),
            _ => self.create(path, kind, 0o600, rdev, Body::Other),
        }
    }

    /// Gives a file one name more.
    ///
    /// # Errors
    /// See [`Tree::mkdir`]; where `existing` is a directory or missing.
    pub fn link(&mut self, existing: &TreePath, path: &TreePath) -> Result<(), Refused> {
        let file = match self.names.get(existing) {
            Some(file) if self.files[file].attributes.kind != Kind::Directory => *file,
            _ => return Self::refused(existing, "cannot get another name"),
        };
        let parent = self.free_place(path)?;
        self.tick();
        self.names.insert(path.clone(), file);
        self.change(path, |node| node.attributes.nlink += 1)?;
        self.touch_parent(&parent, 0)
    }

    /// Removes a name and what is below it.
    ///
    /// # Errors
    /// Where there is no such name, or it is "/".
    pub fn remove(&mut self, path: &TreePath) -> Result<(), Refused> {
        let Some((parent, _)) = path.split_last() else { return Self::refused(path, "is the root") };
        let Some(node) = self.get(path) else { return Self::refused(path, "no such name") };
        let was_directory = node.attributes.kind == Kind::Directory;
        self.tick();
        for below in self.below(path) {
            if let Some(file) = self.names.remove(&below) {
                self.drop_name(file);
            }
        }
        self.touch_parent(&parent, -i32::from(was_directory))
    }

    fn drop_name(&mut self, file: FileNo) {
        let Some(node) = self.files.get_mut(&file) else { return };
        if node.attributes.kind != Kind::Directory && node.attributes.nlink > 1 {
            Arc::make_mut(node).attributes.nlink -= 1;
        } else {
            self.files.remove(&file);
        }
    }

    /// `path` and all names below it, in order.
    pub fn below(&self, path: &TreePath) -> Vec<TreePath> {
        self.names
            .range(path.clone()..)
            .map(|(name, _)| name)
            .take_while(|name| name.starts_with(path))
            .cloned()
            .collect()
    }

    /// Moves a name, with what is below it, to a free place.
    ///
    /// # Errors
    /// Where there is no such name, the place is taken or lies below `from`.
    pub fn rename(&mut self, from: &TreePath, to: &TreePath) -> Result<(), Refused> {
        if to.starts_with(from) {
            return Self::refused(to, "lies below what is moved");
        }
        let Some((old_parent, _)) = from.split_last() else { return Self::refused(from, "is the root") };
        let Some(node) = self.get(from) else { return Self::refused(from, "no such name") };
        let directory = i32::from(node.attributes.kind == Kind::Directory);
        let new_parent = self.free_place(to)?;
        self.tick();
        for below in self.below(from) {
            let Some(file) = self.names.remove(&below) else { continue };
            let mut joined = to.as_joined().to_vec();
            joined.extend_from_slice(&below.as_joined()[from.as_joined().len()..]);
            let moved = TreePath::from_joined(joined).map_err(|error| Refused(error.to_string()))?;
            self.names.insert(moved, file);
        }
        self.touch_parent(&old_parent, -directory)?;
        self.touch_parent(&new_parent, directory)
    }

    /// Changes the bytes of a file.
    ///
    /// # Errors
    /// Where `path` is no file.
    pub fn edit(&mut self, path: &TreePath, f: impl FnOnce(&mut Content)) -> Result<(), Refused> {
        if !self.get(path).is_some_and(|node| node.attributes.kind == Kind::File) {
            return Self::refused(path, "is no file");
        }
        let now = self.tick();
        self.change(path, |node| {
            if let Body::File(content) = &mut node.body {
                f(content);
                node.attributes.size = content.len();
                node.attributes.allocated = content.allocated();
                node.attributes.mtime = now;
            }
        })
    }

    /// Sets the permission bits.
    ///
    /// # Errors
    /// Where `path` is missing or a link, whose mode nobody can set.
    pub fn chmod(&mut self, path: &TreePath, mode: u32) -> Result<(), Refused> {
        if self.get(path).is_some_and(|node| node.attributes.kind == Kind::Symlink) {
            return Self::refused(path, "is a link");
        }
        self.change(path, |node| node.attributes.mode = mode)
    }

    /// Sets owner and group.
    ///
    /// # Errors
    /// Where `path` is missing.
    pub fn chown(&mut self, path: &TreePath, uid: u32, gid: u32) -> Result<(), Refused> {
        self.change(path, |node| (node.attributes.uid, node.attributes.gid) = (uid, gid))
    }

    /// Sets the time of last modification.
    ///
    /// # Errors
    /// Where `path` is missing.
    pub fn set_mtime(&mut self, path: &TreePath, mtime: Timestamp) -> Result<(), Refused> {
        self.change(path, |node| node.attributes.mtime = mtime)
    }

    /// Sets the marks.
    ///
    /// # Errors
    /// Where `path` is missing.
    pub fn set_flags(&mut self, path: &TreePath, flags: NodeFlags) -> Result<(), Refused> {
        self.change(path, |node| node.attributes.flags = flags)
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// Where `path` is missing.
    pub fn set_xattr(&mut self, path: &TreePath, name: &[u8], value: &[u8]) -> Result<(), Refused> {
        self.change(path, |node| {
            node.xattrs.insert(name.to_vec(), Bytes::copy_from_slice(value));
        })
    }

    /// Removes an extended attribute, if it is there.
    ///
    /// # Errors
    /// Where `path` is missing.
    pub fn remove_xattr(&mut self, path: &TreePath, name: &[u8]) -> Result<(), Refused> {
        self.change(path, |node| {
            node.xattrs.remove(name);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::from_slashes(text.as_bytes()).unwrap()
    }

    #[test]
    fn link_counts_follow_the_names() {
        let mut tree = Tree::new();
        tree.mkdir_all(&path("a/b/c")).unwrap();
        tree.create_file(&path("a/f"), Content::dense("x")).unwrap();
        tree.link(&path("a/f"), &path("a/b/g")).unwrap();
        assert_eq!(tree.get(&path("a")).unwrap().attributes.nlink, 3);
        assert_eq!(tree.get(&path("a/f")).unwrap().attributes.nlink, 2);
        tree.rename(&path("a/b"), &path("z")).unwrap();
        assert_eq!(tree.get(&path("a")).unwrap().attributes.nlink, 2);
        assert_eq!(tree.get(&path("")).unwrap().attributes.nlink, 4);
        assert_eq!(tree.file_no(&path("z/g")), tree.file_no(&path("a/f")));
        tree.remove(&path("z")).unwrap();
        assert_eq!(tree.get(&path("a/f")).unwrap().attributes.nlink, 1);
        assert_eq!(tree.len(), 2);
        assert!(tree.rename(&path("a"), &path("a/b")).is_err());
        assert!(tree.mkdir(&path("a/f/x")).is_err());
        assert!(tree.link(&path("a"), &path("b")).is_err());
    }

    #[test]
    fn a_clone_does_not_follow_changes() {
        let mut tree = Tree::new();
        tree.create_file(&path("f"), Content::dense("old")).unwrap();
        let before = tree.clone();
        tree.edit(&path("f"), |content| content.write_at(0, b"new!")).unwrap();
        assert_eq!(before.get(&path("f")).unwrap().attributes.size, 3);
        assert_eq!(tree.get(&path("f")).unwrap().attributes.size, 4);
        assert!(
            tree.get(&path("f")).unwrap().attributes.mtime > before.get(&path("f")).unwrap().attributes.mtime
        );
    }
}
