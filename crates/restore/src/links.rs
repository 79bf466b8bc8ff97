//! Hard-linked files: the first name that is met is written, the others become links to it.
//!
//! May not touch the target. What always holds: an inode is forgotten once as many names were met as it had
//! at push, so a tree whose links lie together costs no memory. Tested below.

use backupengine_model::{NodeId, TreePath};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where a name of the target is: its folder and itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) folder: TreePath,
    pub(crate) name: Vec<u8>,
}

/// What a name of a hard-linked file is to become.
#[derive(Debug)]
pub(crate) enum Role<T> {
    /// The file itself; tell [`Links::written`] or [`Links::failed`] how it went.
    First(T),
    /// A link to a name that is there.
    LinkTo(Place, T),
    /// Nothing yet: it comes back when the first is written.
    Later,
}

struct Known<T> {
    /// Names that are still to come.
    left: u32,
    /// Where the first name is, once it is written.
    place: Option<Place>,
    waiting: Vec<T>,
}

/// Hard-linked files that have names still to come. `T` is what is waiting.
pub(crate) struct Links<T>(Mutex<HashMap<NodeId, Known<T>>>);

impl<T> Default for Links<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Links<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Known<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Meets a name of `inode`, which had `nlink` names at push.
    pub(crate) fn meet(&self, inode: NodeId, nlink: u32, item: T) -> Role<T> {
        match self.lock().entry(inode) {
            Entry::Vacant(new) => {
                new.insert(Known { left: nlink.saturating_sub(1), place: None, waiting: Vec::new() });
                Role::First(item)
            }
            Entry::Occupied(mut known) => {
                let entry = known.get_mut();
                entry.left = entry.left.saturating_sub(1);
                let Some(place) = entry.place.clone() else {
                    entry.waiting.push(item);
                    return Role::Later;
                };
                if entry.left == 0 {
                    known.remove();
                }
                Role::LinkTo(place, item)
            }
        }
    }

    /// The first name is there; gives back what waited for it.
    pub(crate) fn written(&self, inode: NodeId, place: Place) -> Vec<T> {
        let mut all = self.lock();
        let Some(known) = all.get_mut(&inode) else { return Vec::new() };
        known.place = Some(place);
        let waiting = std::mem::take(&mut known.waiting);
        if known.left == 0 {
            all.remove(&inode);
        }
        waiting
    }

    /// The first name could not be made; gives back the one that is to try next, as the first.
    pub(crate) fn failed(&self, inode: NodeId) -> Option<T> {
        let mut all = self.lock();
        let known = all.get_mut(&inode)?;
        let next = known.waiting.pop();
        if next.is_none() {
            // The next that is met begins anew.
            all.remove(&inode);
        }
        next
    }

    #[cfg(test)]
    pub(crate) fn known(&self) -> usize {
        self.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::SessionNo;

    fn inode(rank: u64) -> NodeId {
        NodeId::from_rank(SessionNo(1), rank).unwrap()
    }

    fn place(name: &[u8]) -> Place {
        Place { folder: TreePath::root(), name: name.to_vec() }
    }

    #[test]
    fn the_first_is_written_and_the_others_follow() {
        let links = Links::default();
        assert!(matches!(links.meet(inode(1), 4, "a"), Role::First("a")));
        assert!(matches!(links.meet(inode(1), 4, "b"), Role::Later));
        assert!(matches!(links.meet(inode(2), 2, "x"), Role::First("x")));
        assert_eq!(links.written(inode(1), place(b"a")), ["b"]);
        assert!(matches!(links.meet(inode(1), 4, "c"), Role::LinkTo(p, "c") if p == place(b"a")));
        assert_eq!(links.known(), 2);
        assert!(matches!(links.meet(inode(1), 4, "d"), Role::LinkTo(..)));
        assert!(links.written(inode(2), place(b"x")).is_empty());
        assert!(matches!(links.meet(inode(2), 2, "y"), Role::LinkTo(..)));
        assert_eq!(links.known(), 0, "nothing is kept once all names were met");
    }

    #[test]
    fn when_the_first_fails_the_next_is_the_first() {
        let links = Links::default();
        assert!(matches!(links.meet(inode(1), 3, "a"), Role::First("a")));
        assert!(matches!(links.meet(inode(1), 3, "b"), Role::Later));
        assert_eq!(links.failed(inode(1)), Some("b"));
        assert_eq!(links.failed(inode(1)), None);
        assert!(matches!(links.meet(inode(1), 3, "c"), Role::First("c")));
    }
}
