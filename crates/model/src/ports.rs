//! The two read ports: what the mount's core and `restore` ask of whatever holds the snapshots.
//!
//! Plain synchronous calls, made from many threads at once. Filled by `vault` and by the oracle
//! filesystem of the tests. May not name stores, keys or formats.
//! What always holds: an answer is either what was pushed or an error; never a guess.

use crate::{DataSpan, Node, NodeId, SessionNo, SnapshotInfo, Totals, XattrName};
use bytes::Bytes;
use std::sync::Arc;
use thiserror::Error;

/// Why a read could not be answered. The message names the object and is fit for a person.
#[derive(Clone, Debug, Error)]
#[error("{message}")]
pub struct ReadError {
    /// What kind of trouble; decides the errno.
    pub failure: ReadFailure,
    /// What happened to which object.
    pub message: Arc<str>,
}

impl ReadError {
    /// An error of this kind with this message.
    pub fn new(failure: ReadFailure, message: impl Into<Arc<str>>) -> Self {
        Self { failure, message: message.into() }
    }
}

/// Kinds of trouble. Closed on purpose: the shells match it whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// No such snapshot or node.
    NotFound,
    /// The node is no directory, no link, or no file, as the call needed.
    WrongKind,
    /// Stored bytes failed their tag, their place or their length, or are missing.
    Damaged,
    /// The store could not be reached in time.
    TimedOut,
    /// The snapshot was removed while in use.
    Gone,
    /// The store refused access.
    Denied,
    /// The wait was interrupted by a signal.
    Interrupted,
}

/// One name of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirSlot {
    /// The name, raw bytes.
    pub name: Vec<u8>,
    /// The node behind it.
    pub node: Node,
}

/// A part of a listing: slots `from..from + slots.len()` of the directory's fixed order (directories by
/// name, then the others by name).
#[derive(Clone, Debug, Default)]
pub struct DirPage {
    /// The slots.
    pub slots: Vec<DirSlot>,
    /// Whether the directory ends here.
    pub end: bool,
}

/// How near the content of a file is, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nearness {
    /// Sealed bytes its content takes where it is stored; what a file shares with others counts in each. 0 where it
    /// lies within the tree.
    pub stored: u64,
    /// Of these, bytes that are on this device. At most `stored`.
    pub near: u64,
    /// Bytes that have to be fetched before it can be read whole; what is fetched ahead of other reads not counted.
    /// 0 only where all of it is near.
    pub to_fetch: u64,
}

/// Names and attributes.
pub trait TreeReader: Send + Sync {
    /// All snapshots that can be shown now, oldest first. Cheap enough to be asked every second: an
    /// implementation answers from memory while [`TreeReader::version`] has not moved.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    fn snapshots(&self) -> Result<Arc<Vec<SnapshotInfo>>, ReadError>;

    /// A number that changes whenever the list of snapshots does.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    fn version(&self) -> Result<u64, ReadError>;

    /// Figures of a snapshot.
    ///
    /// # Errors
    /// See [`ReadFailure`].
    fn totals(&self, session: SessionNo) -> Result<Totals, ReadError>;

    /// The node with this id; `NodeId::root` gives "/".
    ///
    /// # Errors
    /// See [`ReadFailure`].
    fn node(&self, id: NodeId) -> Result<Node, ReadError>;

    /// The child of a directory by name, `None` where there is none.
    ///
    /// # Errors
    /// `WrongKind` where `dir` is no directory.
    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<Node>, ReadError>;

    /// The directory that holds `id`; "/" is its own parent.
    ///
    /// # Errors
    /// See [`ReadFailure`].
    fn parent(&self, id: NodeId) -> Result<NodeId, ReadError>;

    /// Slots of a directory from `from` on, at least one unless it ends there, at most `max`.
    ///
    /// # Errors
    /// `WrongKind` where `dir` is no directory.
    fn list(&self, dir: NodeId, from: u64, max: usize) -> Result<DirPage, ReadError>;

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// `WrongKind` where `id` is no link.
    fn read_link(&self, id: NodeId) -> Result<Bytes, ReadError>;

    /// All extended attributes, sorted by name. May fetch: large values lie outside the pages.
    ///
    /// # Errors
    /// See [`ReadFailure`].
    fn xattrs(&self, id: NodeId) -> Result<Vec<(XattrName, Bytes)>, ReadError>;

    /// Bytes the vault takes where it is stored, for `statfs`.
    ///
    /// # Errors
    /// See [`ReadFailure`].
    fn vault_size(&self) -> Result<u64, ReadError>;
}

/// Bytes of files.
pub trait ContentReader: Send + Sync {
    /// Fills `out` from `offset` on and says how many bytes there were: less than asked only at the end of
    /// the file. Holes read as zeros.
    ///
    /// # Errors
    /// `WrongKind` where `id` is no file. On damage nothing is returned that was not verified.
    fn read_at(&self, id: NodeId, offset: u64, out: &mut [u8]) -> Result<usize, ReadError>;

    /// Tells that somebody waits for what this thread reads next: what need not be done before may be left for
    /// [`ContentReader::answered`], which is called in any case.
    fn answering(&self) {}

    /// Tells that the answer is out.
    fn answered(&self) {}

    /// The run of data or hole that holds `offset`, from `offset` on, joined with equal neighbours as far as
    /// is cheap; `None` at or after the end of the file.
    ///
    /// # Errors
    /// See [`ReadFailure`].
    fn span(&self, id: NodeId, offset: u64) -> Result<Option<DataSpan>, ReadError>;

    /// Tells that these files are going to be read whole, in this order, but not yet: what takes time to come may be
    /// fetched, and is not opened. A hint; may do nothing.
    fn will_need(&self, ids: &[NodeId]) {
        let _ = ids;
    }

    /// How near the content of a file is; `None` where that is not known. Fetches no content; may fetch what says
    /// where the content is.
    ///
    /// # Errors
    /// `WrongKind` where `id` is no file.
    fn nearness(&self, id: NodeId) -> Result<Option<Nearness>, ReadError> {
        let _ = id;
        Ok(None)
    }

    /// Tells that these files are going to be read whole, in this order. A hint; may do nothing.
    fn will_read(&self, ids: &[NodeId]) {
        let _ = ids;
    }
}

impl<T: TreeReader + ?Sized> TreeReader for Arc<T> {
    fn snapshots(&self) -> Result<Arc<Vec<SnapshotInfo>>, ReadError> {
        (**self).snapshots()
    }

    fn version(&self) -> Result<u64, ReadError> {
        (**self).version()
    }

    fn totals(&self, session: SessionNo) -> Result<Totals, ReadError> {
        (**self).totals(session)
    }

    fn node(&self, id: NodeId) -> Result<Node, ReadError> {
        (**self).node(id)
    }

    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<Node>, ReadError> {
        (**self).lookup(dir, name)
    }

    fn parent(&self, id: NodeId) -> Result<NodeId, ReadError> {
        (**self).parent(id)
    }

    fn list(&self, dir: NodeId, from: u64, max: usize) -> Result<DirPage, ReadError> {
        (**self).list(dir, from, max)
    }

    fn read_link(&self, id: NodeId) -> Result<Bytes, ReadError> {
        (**self).read_link(id)
    }

    fn xattrs(&self, id: NodeId) -> Result<Vec<(XattrName, Bytes)>, ReadError> {
        (**self).xattrs(id)
    }

    fn vault_size(&self) -> Result<u64, ReadError> {
        (**self).vault_size()
    }
}

impl<T: ContentReader + ?Sized> ContentReader for Arc<T> {
    fn read_at(&self, id: NodeId, offset: u64, out: &mut [u8]) -> Result<usize, ReadError> {
        (**self).read_at(id, offset, out)
    }

    fn answering(&self) {
        (**self).answering();
    }

    fn answered(&self) {
        (**self).answered();
    }

    fn span(&self, id: NodeId, offset: u64) -> Result<Option<DataSpan>, ReadError> {
        (**self).span(id, offset)
    }

    fn will_need(&self, ids: &[NodeId]) {
        (**self).will_need(ids);
    }

    fn nearness(&self, id: NodeId) -> Result<Option<Nearness>, ReadError> {
        (**self).nearness(id)
    }

    fn will_read(&self, ids: &[NodeId]) {
        (**self).will_read(ids);
    }
}
