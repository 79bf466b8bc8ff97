//! The snapshot a push builds on: which one, and its nodes in step with the walk.
//!
//! **What it is.** A choice by device and sources, and one stream of leaves per class, with the side file's
//! records beside them.
//! **What it may not do.** End a push: a parent that does not read any further gives no more nodes, and what
//! it would have told is read from the source instead.
//! **What always holds.** A stream only goes forward; memory is one leaf.
//! **Where it is tested.** Below and in the tests of whole pushes.
use crate::flow::Event;
use crate::side_file::{SideReader, SideRecord};
use backupengine_format::page::{LeafEntry, LeafPage};
use backupengine_model::{Class, DeviceId, NodeKey, SessionNo, SnapshotInfo, TreePath};
use backupengine_vault::{LeafAt, Leaves, Vault};
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

/// The snapshot to build on: the newest of this device with the same sources, else the newest of this device, else the
/// newest; of those that may hold any of the same paths. One that holds none would only be read in vain.
pub(crate) fn choose<'l>(
    list: &'l [SnapshotInfo],
    device: DeviceId,
    sources: &[Vec<u8>],
) -> Option<&'l SnapshotInfo> {
    let shared = list.iter().filter(|snapshot| share_paths(&snapshot.sources, sources));
    shared.max_by_key(|snapshot| {
        let own = snapshot.device == device;
        (own && same_sources(&snapshot.sources, sources), own, snapshot.session)
    })
}

/// Whether a path of one list is a path of the other, or lies below one. A list that is not known may be any.
fn share_paths(a: &[Vec<u8>], b: &[Vec<u8>]) -> bool {
    let path = |bytes| Path::new(OsStr::from_bytes(bytes));
    let one = |a: &Path| b.iter().map(|b| path(b)).any(|b| a.starts_with(b) || b.starts_with(a));
    a.is_empty() || a.iter().any(|a| one(path(a)))
}

/// Whether two lists of paths name the same ones.
pub(crate) fn same_sources(a: &[Vec<u8>], b: &[Vec<u8>]) -> bool {
    let sorted = |list: &[Vec<u8>]| {
        let mut list = list.to_vec();
        list.sort_unstable();
        list.dedup();
        list
    };
    sorted(a) == sorted(b)
}

/// Told of nodes of the parent that the walk did not meet.
pub(crate) type Passed<'a> = dyn FnMut(&LeafEntry, Option<&SideRecord>) + 'a;

/// The parent's nodes of one class, in order.
pub(crate) struct ParentStream {
    class: Class,
    leaves: Option<Leaves>,
    page: Option<Arc<LeafPage>>,
    at: usize,
    side: Option<SideReader>,
    record: Option<SideRecord>,
    /// The walk met the current node.
    met: bool,
}

impl ParentStream {
    /// Opens one; without a parent it is empty.
    pub(crate) fn open(vault: &Vault, parent: Option<SessionNo>, class: Class, side_folder: &Path) -> Self {
        let leaves = parent.and_then(|session| {
            vault
                .leaves_from(session, &first_of(class))
                .inspect_err(|error| tracing::warn!(%session, %error, "the parent snapshot does not read"))
                .ok()
        });
        let side = parent.and_then(|session| SideReader::open(side_folder, session, class));
        Self { class, leaves, page: None, at: 0, side, record: None, met: false }
    }

    /// Reads the first leaf of a class for what is kept of it on the way: the stream then need not wait for it.
    pub(crate) fn warm(vault: &Vault, session: SessionNo, class: Class) {
        let first = vault.leaves_from(session, &first_of(class)).map(|mut leaves| leaves.next().transpose());
        if let Err(error) | Ok(Err(error)) = first {
            // The stream that needs it says so for good.
            tracing::debug!(%session, %error, "the parent's first leaf does not read");
        }
    }

    /// The parent's node of this name, if it has one. Asked in ascending order. Leaves that are reached are
    /// announced to `tell`, nodes that are passed and were never asked for to `gone`.
    pub(crate) fn find(
        &mut self,
        parent: &TreePath,
        name: &[u8],
        tell: &mut dyn FnMut(Event),
        gone: &mut Passed<'_>,
    ) -> Option<(&LeafEntry, Option<&SideRecord>)> {
        loop {
            match self.current().map(|entry| compare(entry, parent, name)) {
                Some(Ordering::Less) => self.advance(gone),
                Some(Ordering::Equal) => break,
                Some(Ordering::Greater) => return None,
                None if !self.next_page(tell) => return None,
                None => {}
            }
        }
        self.met = true;
        let entry = self.page.as_ref()?.entries.get(self.at)?;
        Some((entry, self.record.as_ref()))
    }

    fn current(&self) -> Option<&LeafEntry> {
        self.page.as_ref()?.entries.get(self.at)
    }

    /// Passes all that is left: the walk is complete.
    pub(crate) fn pass_rest(&mut self, gone: &mut Passed<'_>) {
        loop {
            if self.current().is_some() {
                self.advance(gone);
            } else if !self.next_page(&mut |_| ()) {
                return;
            }
        }
    }

    fn advance(&mut self, gone: &mut Passed<'_>) {
        if let Some(entry) = self.current().filter(|_| !self.met) {
            gone(entry, self.record.as_ref());
        }
        self.met = false;
        self.at += 1;
        if self.current().is_some() {
            self.record = self.side.as_mut().and_then(SideReader::next);
        }
    }

    /// The next leaf of this class, with the key of its first node.
    fn next_leaf(&mut self) -> Option<(LeafAt, Vec<u8>)> {
        loop {
            let leaf = self.leaves.as_mut()?.next()?;
            let leaf = leaf
                .inspect_err(|error| tracing::warn!(%error, "the parent snapshot does not read any further"))
                .ok()?;
            let first = leaf.page.entries.first()?;
            match first.class().cmp(&self.class) {
                Ordering::Less => {}
                Ordering::Equal => {
                    let key = first.key().as_bytes().to_vec();
                    return Some((leaf, key));
                }
                Ordering::Greater => return None,
            }
        }
    }

    fn next_page(&mut self, tell: &mut dyn FnMut(Event)) -> bool {
        self.page = None;
        let Some((leaf, first_key)) = self.next_leaf() else {
            self.leaves = None;
            return false;
        };
        tell(Event::ParentLeaf { class: self.class, first_key, frame: leaf.frame, encoded: leaf.encoded });
        self.page = Some(leaf.page);
        self.at = 0;
        self.record = self.side.as_mut().and_then(SideReader::next);
        true
    }
}

/// No key of the class is smaller.
fn first_of(class: Class) -> NodeKey {
    NodeKey::from_bytes(vec![class as u8])
}

/// Order of keys of one class, without building them: see `NodeKey`.
fn compare(entry: &LeafEntry, parent: &TreePath, name: &[u8]) -> Ordering {
    let same = std::ptr::eq(Arc::as_ptr(&entry.parent), parent);
    let parents = if same { Ordering::Equal } else { entry.parent.as_joined().cmp(parent.as_joined()) };
    parents.then_with(|| entry.name.as_slice().cmp(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::{SnapshotId, Timestamp};

    fn snapshot(session: u32, device: u8, source: &str) -> SnapshotInfo {
        SnapshotInfo {
            session: SessionNo(session),
            id: SnapshotId([0; 8]),
            created: Timestamp::default(),
            device: DeviceId([device; 16]),
            device_name: String::new(),
            tags: Vec::new(),
            sources: vec![source.as_bytes().to_vec()],
        }
    }

    #[test]
    fn the_nearest_snapshot_is_chosen() {
        let list = [snapshot(1, 1, "/a"), snapshot(2, 1, "/b"), snapshot(3, 2, "/a")];
        let chosen = |device, source: &str| {
            choose(&list, DeviceId([device; 16]), &[source.as_bytes().to_vec()]).map(|s| s.session.0)
        };
        assert_eq!(chosen(1, "/a"), Some(1));
        assert_eq!(chosen(1, "/c"), None, "none of the paths can be the same");
        assert_eq!((chosen(1, "/b/c"), chosen(1, "/bc")), (Some(2), None));
        assert_eq!(chosen(1, "/"), Some(2));
        assert_eq!(chosen(2, "/b"), Some(2));
        assert_eq!(chosen(9, "/a"), Some(3));
        assert!(choose(&[], DeviceId([1; 16]), &[]).is_none());
        let unknown = SnapshotInfo { sources: Vec::new(), ..snapshot(4, 1, "/") };
        assert!(choose(&[unknown], DeviceId([1; 16]), &[b"/c".to_vec()]).is_some());
        let (a, b) = (b"/a".to_vec(), b"/b".to_vec());
        assert!(same_sources(&[a.clone(), b.clone()], &[b.clone(), a.clone(), a.clone()]));
        assert!(!same_sources(&[a], &[b]));
    }
}
