//! The oracle as a vault: snapshots of trees, answered through the two read ports.
//!
//! May not share code with what it judges. What always holds: an injected fault is an error on exactly the
//! object and range it names, as a damaged vault would answer. Tested in `oracle::tests`.

use super::frozen::{Frozen, FrozenNode};
use super::tree::{Body, Tree};
use backupengine_model::{
    ContentReader, DataSpan, DeviceId, DirPage, DirSlot, Kind, Nearness, Node, NodeId, ReadError,
    ReadFailure, SessionNo, SnapshotId, SnapshotInfo, Timestamp, Totals, TreePath, TreeReader, XattrName,
};
use bytes::Bytes;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// How often each question was asked, to count round trips instead of seconds.
#[derive(Debug, Default)]
pub struct Calls {
    /// [`TreeReader::node`].
    pub node: AtomicU64,
    /// [`TreeReader::lookup`].
    pub lookup: AtomicU64,
    /// [`TreeReader::list`].
    pub list: AtomicU64,
    /// [`ContentReader::read_at`].
    pub read: AtomicU64,
    /// Files named by [`ContentReader::will_read`].
    pub announced: AtomicU64,
}

struct Fault {
    id: NodeId,
    range: Range<u64>,
    failure: ReadFailure,
}

#[derive(Default)]
struct State {
    snapshots: Vec<Arc<Frozen>>,
    infos: Arc<Vec<SnapshotInfo>>,
    faults: Vec<Fault>,
    last_session: u32,
    version: u64,
}

/// Snapshots of trees. Shared by reference; pushing while readers read is fine.
#[derive(Default)]
pub struct Oracle {
    state: RwLock<State>,
    calls: Calls,
}

impl Oracle {
    /// No snapshot yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a snapshot of the tree as it is now.
    pub fn push(&self, tree: &Tree, device: &str, created: Timestamp, tags: &[&str]) -> SessionNo {
        let mut state = self.write();
        state.last_session += 1;
        let session = SessionNo(state.last_session);
        let mut device_id = [0; 16];
        for (i, byte) in device.bytes().enumerate() {
            device_id[i % 16] ^= byte.rotate_left(i as u32 / 16);
        }
        // Any bijection does for ids that look random.
        let id = u64::from(session.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut tags: Vec<String> = tags.iter().map(|&tag| tag.to_owned()).collect();
        tags.sort();
        let info = SnapshotInfo {
            session,
            id: SnapshotId(id.to_be_bytes()),
            created,
            device: DeviceId(device_id),
            device_name: device.to_owned(),
            tags,
            sources: vec![b"/".to_vec()],
        };
        state.snapshots.push(Arc::new(Frozen::new(tree, info)));
        state.refresh();
        session
    }

    /// Removes a snapshot from the list, as retention would.
    pub fn forget(&self, session: SessionNo) {
        let mut state = self.write();
        state.snapshots.retain(|s| s.info.session != session);
        state.refresh();
    }

    /// Makes every read that touches `range` of this file fail. An empty range fails its metadata: its
    /// listing, link target and extended attributes.
    pub fn fail(&self, id: NodeId, range: Range<u64>, failure: ReadFailure) {
        self.write().faults.push(Fault { id, range, failure });
    }

    /// Takes back all faults.
    pub fn heal(&self) {
        self.write().faults.clear();
    }

    /// The node at a path of a snapshot.
    pub fn at(&self, session: SessionNo, path: &TreePath) -> Option<Node> {
        self.snapshot(session).ok()?.at_path(path).map(|found| found.node.clone())
    }

    /// Path of a node, for messages.
    pub fn path(&self, id: NodeId) -> Option<TreePath> {
        self.snapshot(id.session).ok()?.get(id.place).map(|found| found.path.clone())
    }

    /// Counts of calls so far.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot(&self, session: SessionNo) -> Result<Arc<Frozen>, ReadError> {
        let state = self.read();
        match state.snapshots.iter().find(|s| s.info.session == session) {
            Some(found) => Ok(found.clone()),
            None if session.0 <= state.last_session => {
                Err(ReadError::new(ReadFailure::Gone, format!("snapshot {session} was removed")))
            }
            None => Err(ReadError::new(ReadFailure::NotFound, format!("there is no snapshot {session}"))),
        }
    }

    fn with<R>(&self, id: NodeId, f: impl FnOnce(&Frozen, &FrozenNode) -> R) -> Result<R, ReadError> {
        let snapshot = self.snapshot(id.session)?;
        let found = snapshot
            .get(id.place)
            .ok_or_else(|| ReadError::new(ReadFailure::NotFound, format!("there is no node {id:?}")))?;
        Ok(f(&snapshot, found))
    }

    fn check_metadata(&self, id: NodeId) -> Result<(), ReadError> {
        let state = self.read();
        match state.faults.iter().find(|fault| fault.id == id && fault.range.is_empty()) {
            Some(fault) => Err(ReadError::new(fault.failure, format!("metadata of {id:?} cannot be read"))),
            None => Ok(()),
        }
    }

    fn check_content(&self, inode: NodeId, range: Range<u64>) -> Result<(), ReadError> {
        let state = self.read();
        let hit = state.faults.iter().find(|fault| {
            fault.id == inode && fault.range.start < range.end && range.start < fault.range.end
        });
        match hit {
            Some(fault) => Err(ReadError::new(
                fault.failure,
                format!("bytes {} to {} cannot be read", fault.range.start, fault.range.end),
            )),
            None => Ok(()),
        }
    }
}

impl State {
    fn refresh(&mut self) {
        let mut infos: Vec<_> = self.snapshots.iter().map(|s| s.info.clone()).collect();
        infos.sort_by_key(|info| (info.created, info.session));
        self.infos = Arc::new(infos);
        self.version += 1;
    }
}

fn wrong_kind(what: &str) -> ReadError {
    ReadError::new(ReadFailure::WrongKind, format!("this is no {what}"))
}

impl TreeReader for Oracle {
    fn snapshots(&self) -> Result<Arc<Vec<SnapshotInfo>>, ReadError> {
        Ok(self.read().infos.clone())
    }

    fn version(&self) -> Result<u64, ReadError> {
        Ok(self.read().version)
    }

    fn totals(&self, session: SessionNo) -> Result<Totals, ReadError> {
        Ok(self.snapshot(session)?.totals)
    }

    fn node(&self, id: NodeId) -> Result<Node, ReadError> {
        self.calls.node.fetch_add(1, Ordering::Relaxed);
        self.with(id, |_, found| found.node.clone())
    }

    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<Node>, ReadError> {
        self.calls.lookup.fetch_add(1, Ordering::Relaxed);
        self.check_metadata(dir)?;
        self.with(dir, |snapshot, found| {
            let children = found.children.as_ref().ok_or_else(|| wrong_kind("directory"))?;
            Ok(snapshot.child(children, name).map(|child| child.node.clone()))
        })?
    }

    fn parent(&self, id: NodeId) -> Result<NodeId, ReadError> {
        self.with(id, |_, found| NodeId { session: id.session, place: found.parent })
    }

    fn list(&self, dir: NodeId, from: u64, max: usize) -> Result<DirPage, ReadError> {
        self.calls.list.fetch_add(1, Ordering::Relaxed);
        self.check_metadata(dir)?;
        self.with(dir, |snapshot, found| {
            let children = found.children.as_ref().ok_or_else(|| wrong_kind("directory"))?;
            let all = children.iter().flat_map(Clone::clone);
            let total: u64 = children.iter().map(|run| run.len() as u64).sum();
            let slots: Vec<DirSlot> = all
                .skip(usize::try_from(from).unwrap_or(usize::MAX))
                .take(max)
                .map(|place| {
                    let child = &snapshot.nodes[place as usize];
                    DirSlot { name: child.name().to_vec(), node: child.node.clone() }
                })
                .collect();
            let end = from.saturating_add(slots.len() as u64) >= total;
            Ok(DirPage { slots, end })
        })?
    }

    fn read_link(&self, id: NodeId) -> Result<Bytes, ReadError> {
        self.check_metadata(id)?;
        self.with(id, |_, found| match &found.file.body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(wrong_kind("link")),
        })?
    }

    fn xattrs(&self, id: NodeId) -> Result<Vec<(XattrName, Bytes)>, ReadError> {
        self.check_metadata(id)?;
        self.with(id, |_, found| found.file.xattrs.iter().map(|(n, v)| (n.clone(), v.clone())).collect())
    }

    fn vault_size(&self) -> Result<u64, ReadError> {
        Ok(self.read().snapshots.iter().map(|s| s.totals.bytes + 4096).sum())
    }
}

impl ContentReader for Oracle {
    /// A quarter of every file is near, so that what is shown of it can be known.
    fn nearness(&self, id: NodeId) -> Result<Option<Nearness>, ReadError> {
        self.with(id, |_, found| match &found.file.body {
            Body::File(_) => {
                let stored = found.node.attributes.size;
                Ok(Some(Nearness { stored, near: stored / 4, to_fetch: stored - stored / 4 }))
            }
            _ => Err(wrong_kind("file")),
        })?
    }

    fn read_at(&self, id: NodeId, offset: u64, out: &mut [u8]) -> Result<usize, ReadError> {
        self.calls.read.fetch_add(1, Ordering::Relaxed);
        let inode = self.with(id, |_, found| found.node.inode)?;
        self.check_content(inode, offset..offset.saturating_add(out.len() as u64))?;
        self.with(id, |_, found| match &found.file.body {
            Body::File(content) => Ok(content.read_at(offset, out)),
            _ => Err(wrong_kind("file")),
        })?
    }

    fn will_read(&self, ids: &[NodeId]) {
        self.calls.announced.fetch_add(ids.len() as u64, Ordering::Relaxed);
    }

    fn span(&self, id: NodeId, offset: u64) -> Result<Option<DataSpan>, ReadError> {
        self.with(id, |_, found| match &found.file.body {
            Body::File(content) => Ok(content.span(offset)),
            _ => Err(wrong_kind("file")),
        })?
    }
}

/// Whether a kind is listed among the directories.
pub(super) fn is_directory(node: &Node) -> bool {
    node.attributes.kind == Kind::Directory
}
