//! Names, paths, and the one order of all nodes of a snapshot.
//!
//! The order (format.md section 5.6): first all directories, then everything else; inside a class by the
//! path of the parent directory, component by component, then by name; bytes throughout. It makes a
//! directory's listing two runs of neighbours, a subtree two ranges, and gives every node a rank.
//! May not normalise or translate: bytes stay as the source gave them. Tested below.

use thiserror::Error;

/// Longest name of one component, in bytes.
pub const NAME_MAX: usize = 4096;

/// A name or path that the format cannot hold.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// Empty, `.` or `..`, longer than 4096 bytes, or holding `/` or NUL.
    #[error("{0:?} cannot be the name of a file in a snapshot")]
    Unusable(String),
}

/// Checks one component: not empty, not `.` or `..`, at most 4096 bytes, without `/` and NUL.
///
/// # Errors
/// [`NameError::Unusable`] with the name, lossily printed.
pub fn check_name(name: &[u8]) -> Result<(), NameError> {
    let bad = name.is_empty()
        || name.len() > NAME_MAX
        || name == b"."
        || name == b".."
        || name.iter().any(|&b| b == 0 || b == b'/');
    if bad { Err(NameError::Unusable(String::from_utf8_lossy(name).into_owned())) } else { Ok(()) }
}

/// A path inside a snapshot: components joined by a zero byte, empty for "/".
///
/// Comparing the bytes compares component by component, because no component holds a zero byte; a walk in
/// depth-first pre-order that sorts each directory by name meets directories in exactly this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(Vec<u8>);

impl TreePath {
    /// "/".
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Takes bytes that are already joined by zero bytes.
    ///
    /// # Errors
    /// [`NameError::Unusable`] for a component that [`check_name`] refuses.
    pub fn from_joined(bytes: Vec<u8>) -> Result<Self, NameError> {
        if !bytes.is_empty() {
            bytes.split(|&b| b == 0).try_for_each(check_name)?;
        }
        Ok(Self(bytes))
    }

    /// Reads a path written with slashes; leading, trailing and doubled slashes and `.` count for nothing.
    ///
    /// # Errors
    /// [`NameError::Unusable`] for `..` and for unusable components.
    pub fn from_slashes(path: &[u8]) -> Result<Self, NameError> {
        let mut out = Self::root();
        for part in path.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".") {
            check_name(part)?;
            out.push(part);
        }
        Ok(out)
    }

    /// The bytes, joined by zero bytes.
    pub fn as_joined(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is "/".
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends one component. The caller has checked it with [`check_name`].
    pub fn push(&mut self, name: &[u8]) {
        debug_assert!(check_name(name).is_ok());
        if !self.0.is_empty() {
            self.0.push(0);
        }
        self.0.extend_from_slice(name);
    }

    /// This path with one component more.
    pub fn child(&self, name: &[u8]) -> Self {
        let mut out = Self(Vec::with_capacity(self.0.len() + 1 + name.len()));
        out.0.extend_from_slice(&self.0);
        out.push(name);
        out
    }

    /// Parent and last component; `None` for "/".
    pub fn split_last(&self) -> Option<(Self, &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|&b| b == 0) {
            Some(at) => (Self(self.0[..at].to_vec()), &self.0[at + 1..]),
            None => (Self::root(), &self.0),
        })
    }

    /// The components in order; none for "/".
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&b| b == 0).filter(|part| !part.is_empty())
    }

    /// Whether `self` is `other` or lies below it.
    pub fn starts_with(&self, other: &Self) -> bool {
        other.is_root()
            || self
                .0
                .strip_prefix(other.0.as_slice())
                .is_some_and(|rest| rest.first().is_none_or(|&b| b == 0))
    }

    /// With slashes and a leading one, for messages and `resolve`.
    pub fn to_slashes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() + 1);
        out.push(b'/');
        out.extend(self.0.iter().map(|&b| if b == 0 { b'/' } else { b }));
        out
    }
}

impl std::fmt::Display for TreePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_slashes()))
    }
}

/// The two classes of nodes: pages hold one class each, directories come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Directories.
    Directory = 0,
    /// Everything else.
    Other = 1,
}

/// Place of a node in the order of a snapshot, as one byte string: class, parent path, two zero bytes, name.
///
/// Byte order of keys is the order of the module header: two zero bytes sort before any longer parent path,
/// because a component is never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey(Vec<u8>);

impl NodeKey {
    /// The key of `name` in `parent`.
    pub fn new(class: Class, parent: &TreePath, name: &[u8]) -> Self {
        let mut key = Vec::with_capacity(parent.0.len() + name.len() + 3);
        key.push(class as u8);
        key.extend_from_slice(&parent.0);
        key.extend_from_slice(&[0, 0]);
        key.extend_from_slice(name);
        Self(key)
    }

    /// Smallest key of the run of `parent`'s children in `class`.
    pub fn first_child(class: Class, parent: &TreePath) -> Self {
        Self::new(class, parent, b"")
    }

    /// First key after the run of `parent`'s children in `class`.
    pub fn after_children(class: Class, parent: &TreePath) -> Self {
        let mut key = Self::new(class, parent, b"");
        // No name starts with a zero byte, and nothing else sorts between `parent 00 00 ff…` and this.
        if let Some(last) = key.0.last_mut() {
            *last = 1;
        }
        key
    }

    /// Takes the byte form; any bytes are a usable separator, so this cannot fail.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The byte form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Class, joined bytes of the parent path, and name; `None` where the bytes are a shortened separator
    /// and no key of a node.
    pub fn parts(&self) -> Option<(Class, &[u8], &[u8])> {
        let class = match *self.0.first()? {
            0 => Class::Directory,
            1 => Class::Other,
            _ => return None,
        };
        let rest = &self.0[1..];
        let at = rest.windows(2).position(|pair| pair == [0, 0])?;
        Some((class, &rest[..at], &rest[at + 2..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::from_slashes(text.as_bytes()).unwrap()
    }

    #[test]
    fn paths_split_join_and_print() {
        let p = path("/home//me/./Documents/");
        assert_eq!(p.to_slashes(), b"/home/me/Documents");
        assert_eq!(p.components().count(), 3);
        let (parent, name) = p.split_last().unwrap();
        assert_eq!((parent, name), (path("home/me"), &b"Documents"[..]));
        assert!(TreePath::root().split_last().is_none());
        assert!(TreePath::from_slashes(b"a/../b").is_err());
        assert!(TreePath::from_joined(b"a\0\0b".to_vec()).is_err());
        assert!(p.starts_with(&path("home")) && !path("homes").starts_with(&path("home")));
    }

    #[test]
    fn keys_sort_as_a_depth_first_walk_meets_directories() {
        let order = ["", "a", "a/b", "a/b/c", "a/c", "a-", "b"].map(path);
        assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "{order:?}");
        let keys: Vec<_> = order.iter().map(|p| NodeKey::new(Class::Other, p, b"zzz")).collect();
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:?}");
        assert!(
            NodeKey::new(Class::Directory, &path("z"), b"z") < NodeKey::new(Class::Other, &path(""), b"a")
        );
    }

    #[test]
    fn a_directory_is_one_run() {
        let dir = path("a/b");
        let (from, to) =
            (NodeKey::first_child(Class::Other, &dir), NodeKey::after_children(Class::Other, &dir));
        for inside in [&b"\x01"[..], b"x", b"\xff\xff"] {
            let key = NodeKey::new(Class::Other, &dir, inside);
            assert!(from < key && key < to);
        }
        for outside in ["a", "a/b/c", "a/b-", "a/c"] {
            let key = NodeKey::new(Class::Other, &path(outside), b"x");
            assert!(key < from || key > to, "{outside}");
        }
        let key = NodeKey::new(Class::Other, &dir, b"x");
        assert_eq!(key.parts(), Some((Class::Other, &b"a\0b"[..], &b"x"[..])));
    }

    #[test]
    fn unusable_names_are_refused() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'x'; NAME_MAX + 1]] {
            assert!(check_name(bad).is_err());
        }
        for good in [&b"..."[..], b"a\nb", b"\xff\xfe", &[b'x'; 255]] {
            assert!(check_name(good).is_ok());
        }
    }
}
