//! A small tree in memory that fills both read ports, and can be told to fail or to lie.

use backupengine_model::{
    Attributes, ContentReader, DataSpan, DeviceId, DirPage, DirSlot, Kind, Node, NodeFlags, NodeId,
    ReadError, ReadFailure, SessionNo, SnapshotId, SnapshotInfo, SpanKind, Timestamp, Totals, TreeReader,
    XattrName,
};
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(super) const SESSION: SessionNo = SessionNo(7);

pub(super) struct Thing {
    pub(super) name: Vec<u8>,
    pub(super) attributes: Attributes,
    pub(super) xattrs: Vec<(XattrName, Bytes)>,
    target: Bytes,
    /// Runs of data: offset and bytes. What lies between is hole.
    data: Vec<(u64, Bytes)>,
    parent: usize,
    inode: usize,
    children: Vec<usize>,
}

pub(super) struct Fake {
    things: Vec<Thing>,
    pub(super) sources: Vec<Vec<u8>>,
    /// Things whose content, listing or xattrs cannot be read.
    pub(super) damaged: HashSet<usize>,
    /// Bytes that were read.
    pub(super) read: AtomicU64,
    /// Called before each read of content.
    pub(super) before_read: Box<dyn Fn(usize) + Send + Sync>,
}

/// Who restores owns what it makes, root or not.
fn attributes(kind: Kind, mode: u32) -> Attributes {
    Attributes {
        kind,
        mode,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        size: 0,
        mtime: Timestamp { secs: 1_000_000_000, nanos: 123_456_789 },
        rdev: 0,
        nlink: 1,
        allocated: None,
        flags: NodeFlags::default(),
    }
}

impl Fake {
    pub(super) fn new() -> Self {
        let mut fake = Self {
            things: Vec::new(),
            sources: vec![b"/".to_vec()],
            damaged: HashSet::new(),
            read: AtomicU64::new(0),
            before_read: Box::new(|_| {}),
        };
        fake.add(0, b"", attributes(Kind::Directory, 0o755));
        fake
    }

    pub(super) fn add(&mut self, parent: usize, name: &[u8], attributes: Attributes) -> usize {
        let id = self.things.len();
        self.things.push(Thing {
            name: name.to_vec(),
            attributes,
            xattrs: Vec::new(),
            target: Bytes::new(),
            data: Vec::new(),
            parent,
            inode: id,
            children: Vec::new(),
        });
        if id != 0 {
            self.things[parent].children.push(id);
        }
        id
    }

    pub(super) fn dir(&mut self, parent: usize, name: &str) -> usize {
        self.add(parent, name.as_bytes(), attributes(Kind::Directory, 0o750))
    }

    pub(super) fn file(&mut self, parent: usize, name: &str, bytes: &[u8]) -> usize {
        let id = self.add(parent, name.as_bytes(), attributes(Kind::File, 0o640));
        self.set_bytes(id, bytes);
        id
    }

    pub(super) fn set_bytes(&mut self, id: usize, bytes: &[u8]) {
        self.things[id].attributes.size = bytes.len() as u64;
        self.things[id].data = vec![(0, Bytes::copy_from_slice(bytes))];
    }

    pub(super) fn sparse(&mut self, parent: usize, name: &str, size: u64, data: &[(u64, &[u8])]) -> usize {
        let id = self.file(parent, name, b"");
        let thing = &mut self.things[id];
        thing.attributes.size = size;
        thing.attributes.allocated = Some(data.iter().map(|run| run.1.len() as u64).sum());
        thing.data = data.iter().map(|(at, bytes)| (*at, Bytes::copy_from_slice(bytes))).collect();
        id
    }

    pub(super) fn link(&mut self, parent: usize, name: &str, target: &str) -> usize {
        let id = self.add(parent, name.as_bytes(), attributes(Kind::Symlink, 0o777));
        self.things[id].target = Bytes::copy_from_slice(target.as_bytes());
        self.things[id].attributes.size = target.len() as u64;
        id
    }

    pub(super) fn special(&mut self, parent: usize, name: &str, kind: Kind, rdev: u64) -> usize {
        let id = self.add(parent, name.as_bytes(), attributes(kind, 0o604));
        self.things[id].attributes.rdev = rdev;
        id
    }

    /// Another name of `first`. Call it when `first` has its attributes.
    pub(super) fn hard(&mut self, parent: usize, name: &str, first: usize) -> usize {
        let inode = self.things[first].inode;
        let id = self.add(parent, name.as_bytes(), self.things[first].attributes.clone());
        self.things[id].inode = inode;
        self.things[id].data = self.things[first].data.clone();
        self.things[id].target = self.things[first].target.clone();
        self.things[id].xattrs = self.things[first].xattrs.clone();
        let names: Vec<_> = (0..self.things.len()).filter(|&i| self.things[i].inode == inode).collect();
        for &name in &names {
            self.things[name].attributes.nlink = names.len() as u32;
        }
        id
    }

    pub(super) fn at(&mut self, id: usize) -> &mut Thing {
        &mut self.things[id]
    }

    /// All things with their slashed paths, "/" not counted.
    pub(super) fn all(&self) -> impl Iterator<Item = (String, &Thing)> {
        self.things.iter().enumerate().skip(1).map(|(id, thing)| {
            let (mut path, mut at) =
                (String::from_utf8_lossy(&thing.name).into_owned(), self.things[id].parent);
            while at != 0 {
                path = format!("{}/{path}", String::from_utf8_lossy(&self.things[at].name));
                at = self.things[at].parent;
            }
            (path, thing)
        })
    }

    fn node_of(&self, id: usize) -> Node {
        let thing = &self.things[id];
        let node_id = |id: usize| NodeId { session: SESSION, place: id as u32 };
        Node {
            id: node_id(id),
            attributes: thing.attributes.clone(),
            inode: node_id(thing.inode),
            has_xattrs: !thing.xattrs.is_empty(),
        }
    }

    fn whole(&self, id: NodeId) -> Result<usize, ReadError> {
        let id = id.place as usize;
        if self.damaged.contains(&id) {
            return Err(ReadError::new(ReadFailure::Damaged, "pack 3 is damaged"));
        }
        Ok(id)
    }
}

impl Thing {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0; self.attributes.size as usize];
        for (at, bytes) in &self.data {
            out[*at as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        out
    }

    pub(super) fn target(&self) -> &[u8] {
        &self.target
    }
}

impl TreeReader for Fake {
    fn snapshots(&self) -> Result<Arc<Vec<SnapshotInfo>>, ReadError> {
        Ok(Arc::new(vec![SnapshotInfo {
            session: SESSION,
            id: SnapshotId([1; 8]),
            created: Timestamp::default(),
            device: DeviceId([1; 16]),
            device_name: "here".into(),
            tags: Vec::new(),
            sources: self.sources.clone(),
        }]))
    }

    fn version(&self) -> Result<u64, ReadError> {
        Ok(1)
    }

    fn totals(&self, _: SessionNo) -> Result<Totals, ReadError> {
        Ok(Totals::default())
    }

    fn node(&self, id: NodeId) -> Result<Node, ReadError> {
        Ok(self.node_of(id.place as usize))
    }

    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<Node>, ReadError> {
        let children = &self.things[dir.place as usize].children;
        Ok(children.iter().find(|&&id| self.things[id].name == name).map(|&id| self.node_of(id)))
    }

    fn parent(&self, id: NodeId) -> Result<NodeId, ReadError> {
        Ok(NodeId { session: SESSION, place: self.things[id.place as usize].parent as u32 })
    }

    fn list(&self, dir: NodeId, from: u64, max: usize) -> Result<DirPage, ReadError> {
        let mut children = self.things[self.whole(dir)?].children.clone();
        children.sort_by_key(|&id| {
            let thing = &self.things[id];
            (thing.attributes.kind != Kind::Directory, thing.name.clone())
        });
        let end = children.len() <= from as usize + max;
        let rest = children.into_iter().skip(from as usize).take(max);
        let slots = rest.map(|id| DirSlot { name: self.things[id].name.clone(), node: self.node_of(id) });
        Ok(DirPage { slots: slots.collect(), end })
    }

    fn read_link(&self, id: NodeId) -> Result<Bytes, ReadError> {
        Ok(self.things[self.whole(id)?].target.clone())
    }

    fn xattrs(&self, id: NodeId) -> Result<Vec<(XattrName, Bytes)>, ReadError> {
        Ok(self.things[self.whole(id)?].xattrs.clone())
    }

    fn vault_size(&self) -> Result<u64, ReadError> {
        Ok(0)
    }
}

impl ContentReader for Fake {
    fn read_at(&self, id: NodeId, offset: u64, out: &mut [u8]) -> Result<usize, ReadError> {
        (self.before_read)(id.place as usize);
        let thing = &self.things[self.whole(id)?];
        let len = (thing.attributes.size.saturating_sub(offset)).min(out.len() as u64) as usize;
        out[..len].fill(0);
        for (at, bytes) in &thing.data {
            let from = offset.max(*at);
            let to = (offset + len as u64).min(at + bytes.len() as u64);
            if from < to {
                out[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&bytes[(from - at) as usize..(to - at) as usize]);
            }
        }
        self.read.fetch_add(len as u64, Relaxed);
        Ok(len)
    }

    fn span(&self, id: NodeId, offset: u64) -> Result<Option<DataSpan>, ReadError> {
        let thing = &self.things[self.whole(id)?];
        if offset >= thing.attributes.size {
            return Ok(None);
        }
        let run = thing.data.iter().find(|(at, bytes)| at + bytes.len() as u64 > offset);
        let (kind, end) = match run {
            Some((at, bytes)) if *at <= offset => (SpanKind::Data, at + bytes.len() as u64),
            Some((at, _)) => (SpanKind::Hole, *at),
            None => (SpanKind::Hole, thing.attributes.size),
        };
        Ok(Some(DataSpan { offset, len: end - offset, kind }))
    }
}
