//! A reader small enough to be looked at whole, for the tests of this crate: the same tree in every snapshot.
//!
//! Places of the tree are constants. What is asked of it is counted, and single nodes can be made to fail.

use crate::{Config, NamePolicy, Owner, ReadOnlyFs};
use backupengine_model::{
    Attributes, ContentReader, DataSpan, DeviceId, DirPage, DirSlot, Kind, Nearness, Node, NodeFlags, NodeId,
    ReadError, ReadFailure, SessionNo, SnapshotId, SnapshotInfo, SpanKind, Timestamp, Totals, TreeReader,
    XattrName,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub(crate) const TOP: u32 = 0;
/// `/dir`, which holds `/dir/inner` and `/dir/inner/deep`.
pub(crate) const DIR: u32 = 1;
pub(crate) const INNER: u32 = 2;
pub(crate) const DEEP: u32 = 3;
/// `/file`: 100 bytes, 10 of data, a hole of 50, 40 of data, each byte its own offset or zero.
pub(crate) const FILE: u32 = 4;
/// `/link` to `file`.
pub(crate) const LINK: u32 = 5;
pub(crate) const PIPE: u32 = 6;
/// `/second`, another name of [`FILE`].
pub(crate) const SECOND: u32 = 7;
/// `/short`: its attributes say more bytes than there are.
pub(crate) const SHORT: u32 = 8;
/// `/torn`, which changed while it was pushed and has extended attributes, one of them called like a virtual one.
pub(crate) const TORN: u32 = 9;
/// A name of 256 bytes, which no system shows. Not the last in its directory.
pub(crate) const LONG: u32 = 10;
/// `/zero`, an empty file whose content is all near.
pub(crate) const ZERO: u32 = 11;
/// `/wide`: 150 files, from this place on.
pub(crate) const WIDE: u32 = 12;
pub(crate) const WIDE_COUNT: u32 = 150;

pub(crate) const MTIME: Timestamp = Timestamp { secs: -5, nanos: 7 };

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Small {
    pub(crate) list: Mutex<(u64, Vec<SnapshotInfo>)>,
    pub(crate) faults: Mutex<BTreeMap<NodeId, ReadFailure>>,
    /// Files that were hinted at.
    pub(crate) hinted: Mutex<Vec<NodeId>>,
    /// How often the list of snapshots was asked for.
    pub(crate) listed: Mutex<usize>,
    /// How often a parent was asked for.
    pub(crate) parents: Mutex<usize>,
    /// Gives listings three slots at a time and never says that they end.
    pub(crate) endless: bool,
}

pub(crate) fn id(session: u32, place: u32) -> NodeId {
    NodeId { session: SessionNo(session), place }
}

pub(crate) fn info(session: u32, device: &str, tags: &[&str]) -> SnapshotInfo {
    SnapshotInfo {
        session: SessionNo(session),
        id: SnapshotId([session as u8; 8]),
        created: Timestamp { secs: i64::from(session), nanos: 0 },
        device: DeviceId([0; 16]),
        device_name: device.into(),
        tags: tags.iter().map(|&tag| tag.into()).collect(),
        sources: Vec::new(),
    }
}

pub(crate) const CONFIG: Config =
    Config { owner: Owner::Stored, mounter: (7, 8), names: NamePolicy::RawBytes };

/// All snapshots of a reader that has these.
pub(crate) fn all(list: &[SnapshotInfo]) -> (ReadOnlyFs<Arc<Small>, Arc<Small>>, Arc<Small>) {
    let small = Arc::new(Small { list: Mutex::new((1, list.to_vec())), ..Small::default() });
    (ReadOnlyFs::all(small.clone(), small.clone(), CONFIG).unwrap(), small)
}

impl Small {
    /// Another list of snapshots.
    pub(crate) fn set(&self, list: &[SnapshotInfo]) {
        let mut now = self.list.lock().unwrap();
        *now = (now.0 + 1, list.to_vec());
    }

    pub(crate) fn fail(&self, id: NodeId, failure: ReadFailure) {
        self.faults.lock().unwrap().insert(id, failure);
    }

    fn check(&self, id: NodeId) -> Result<(), ReadError> {
        match self.faults.lock().unwrap().get(&id) {
            Some(failure) => Err(ReadError::new(*failure, format!("{} fails", id.place))),
            None => Ok(()),
        }
    }
}

fn name(place: u32) -> Vec<u8> {
    match place {
        DIR => b"dir".into(),
        INNER => b"inner".into(),
        DEEP => b"deep".into(),
        FILE => b"file".into(),
        LINK => b"link".into(),
        PIPE => b"pipe".into(),
        SECOND => b"second".into(),
        SHORT => b"short".into(),
        TORN => b"torn".into(),
        LONG => vec![b'x'; 256],
        ZERO => b"zero".into(),
        WIDE => b"wide".into(),
        other => format!("{other:05}").into(),
    }
}

fn parent_of(place: u32) -> u32 {
    match place {
        INNER => DIR,
        DEEP => INNER,
        place if place > WIDE => WIDE,
        _ => TOP,
    }
}

fn node_of(id: NodeId) -> Option<Node> {
    let (kind, size) = match id.place {
        TOP | DIR | INNER | WIDE => (Kind::Directory, 4096),
        FILE | SECOND | SHORT => (Kind::File, 100),
        LINK => (Kind::Symlink, 4),
        PIPE => (Kind::Fifo, 0),
        ZERO => (Kind::File, 0),
        place if place <= WIDE + WIDE_COUNT => (Kind::File, 10),
        _ => return None,
    };
    let inode = if id.place == SECOND { NodeId { place: FILE, ..id } } else { id };
    let attributes = Attributes {
        kind,
        mode: 0o4751,
        uid: 1000,
        gid: 1001,
        size,
        mtime: MTIME,
        rdev: 0x0103,
        nlink: 2,
        allocated: (inode.place == FILE).then_some(50),
        flags: if id.place == TORN { NodeFlags::TORN } else { NodeFlags::default() },
    };
    Some(Node { id, attributes, inode, has_xattrs: id.place == TORN })
}

fn refused(failure: ReadFailure) -> ReadError {
    ReadError::new(failure, "refused")
}

impl TreeReader for Small {
    fn snapshots(&self) -> Result<Arc<Vec<SnapshotInfo>>, ReadError> {
        *self.listed.lock().unwrap() += 1;
        Ok(Arc::new(self.list.lock().unwrap().1.clone()))
    }

    fn version(&self) -> Result<u64, ReadError> {
        Ok(self.list.lock().unwrap().0)
    }

    fn totals(&self, session: SessionNo) -> Result<Totals, ReadError> {
        let files = u64::from(session.0) * 100;
        Ok(Totals { files, directories: 5, bytes: 1 << 40, stored: 1 << 30 })
    }

    fn node(&self, id: NodeId) -> Result<Node, ReadError> {
        self.check(id)?;
        node_of(id).ok_or_else(|| refused(ReadFailure::NotFound))
    }

    fn lookup(&self, dir: NodeId, wanted: &[u8]) -> Result<Option<Node>, ReadError> {
        if self.node(dir)?.attributes.kind != Kind::Directory {
            return Err(refused(ReadFailure::WrongKind));
        }
        let found = (1..=WIDE + WIDE_COUNT).find(|at| parent_of(*at) == dir.place && name(*at) == wanted);
        Ok(found.and_then(|place| node_of(NodeId { place, ..dir })))
    }

    fn parent(&self, id: NodeId) -> Result<NodeId, ReadError> {
        *self.parents.lock().unwrap() += 1;
        self.check(id)?;
        Ok(NodeId { place: parent_of(id.place), ..id })
    }

    fn list(&self, dir: NodeId, from: u64, max: usize) -> Result<DirPage, ReadError> {
        if self.node(dir)?.attributes.kind != Kind::Directory {
            return Err(refused(ReadFailure::WrongKind));
        }
        let max = if self.endless { 3 } else { max };
        let mut places = (1..=WIDE + WIDE_COUNT).filter(|at| parent_of(*at) == dir.place).skip(from as usize);
        let slots = places
            .by_ref()
            .take(max)
            .filter_map(|place| Some(DirSlot { name: name(place), node: node_of(NodeId { place, ..dir })? }));
        let slots: Vec<_> = slots.collect();
        Ok(DirPage { slots, end: !self.endless && places.next().is_none() })
    }

    fn read_link(&self, id: NodeId) -> Result<Bytes, ReadError> {
        self.check(id)?;
        if id.place == LINK { Ok(Bytes::from_static(b"file")) } else { Err(refused(ReadFailure::WrongKind)) }
    }

    fn xattrs(&self, id: NodeId) -> Result<Vec<(XattrName, Bytes)>, ReadError> {
        self.check(id)?;
        let all = ["user.a", "user.backupengine.cached", "user.c"];
        Ok(all
            .iter()
            .map(|name| (name.as_bytes().to_vec(), Bytes::from(format!("value of {name}"))))
            .collect())
    }

    fn vault_size(&self) -> Result<u64, ReadError> {
        Ok(12_345)
    }
}

impl ContentReader for Small {
    fn read_at(&self, id: NodeId, offset: u64, out: &mut [u8]) -> Result<usize, ReadError> {
        self.check(id)?;
        let node = node_of(id).ok_or_else(|| refused(ReadFailure::NotFound))?;
        if node.attributes.kind != Kind::File {
            return Err(refused(ReadFailure::WrongKind));
        }
        let size = if id.place == SHORT { 60 } else { node.attributes.size };
        let n = out.len().min(size.saturating_sub(offset) as usize);
        for (nth, byte) in out[..n].iter_mut().enumerate() {
            let at = offset + nth as u64;
            *byte = if (10..60).contains(&at) { 0 } else { at as u8 };
        }
        Ok(n)
    }

    fn span(&self, id: NodeId, offset: u64) -> Result<Option<DataSpan>, ReadError> {
        self.check(id)?;
        // The first hole in two parts: who wants the data behind it has to step over both.
        let spans = [(0, 10, SpanKind::Data), (10, 20, SpanKind::Hole), (30, 30, SpanKind::Hole)];
        let spans = spans.into_iter().chain([(60, 35, SpanKind::Data), (95, 5, SpanKind::Hole)]);
        Ok(spans
            .map(|(from, len, kind)| (from, from + len, kind))
            .find(|(from, to, _)| (*from..*to).contains(&offset))
            .map(|(_, to, kind)| DataSpan { offset, len: to - offset, kind }))
    }

    fn nearness(&self, id: NodeId) -> Result<Option<Nearness>, ReadError> {
        self.check(id)?;
        Ok(match id.place {
            FILE => Some(Nearness { stored: 200, near: 50, to_fetch: 150 }),
            // Of a directory there is nothing to say, so nobody has to ask.
            ZERO | DIR => Some(Nearness::default()),
            _ => None,
        })
    }

    fn will_read(&self, ids: &[NodeId]) {
        self.hinted.lock().unwrap().extend_from_slice(ids);
    }
}
