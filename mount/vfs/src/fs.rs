//! The filesystem: the operations of the mount over the two read ports. Listings are in `dir`, extended
//! attributes in `xattr`.
//!
//! May not cache: the reader below does. What always holds: operations are independent of each other and may
//! run on any number of threads; nothing here waits but for the reader.

use crate::ahead::Ahead;
use crate::attr::{Attr, Owner, VolumeFigures};
use crate::inode::Place;
use crate::namespace::{Folder, Namespace, Own, Target};
use crate::reason::Reasons;
use crate::{FsError, Handle, Ino, Invalidations};
use backupengine_model::name_policy::NamePolicy;
use backupengine_model::{
    ContentReader, Kind, Node, NodeId, ReadError, SessionNo, SpanKind, TreePath, TreeReader,
};
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// How the mount shows things.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Whom files in snapshots belong to.
    pub owner: Owner,
    /// Whom the mount's own folders belong to: user and group that mount.
    pub mounter: (u32, u32),
    /// How names are shown.
    pub names: NamePolicy,
}

/// What to seek for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// The next byte that is stored.
    Data,
    /// The next byte that is not; the end of the file counts as one.
    Hole,
}

/// What is at the root.
pub(crate) enum View {
    /// All snapshots, with the version of the list they were built from.
    All { shown: RwLock<Shown>, version: Mutex<u64> },
    /// One directory of one snapshot.
    One(NodeId),
}

/// The top of the mount as it is, and as it was before the last change: whoever has just looked a name up may
/// ask for what it stood for a moment later.
#[derive(Clone, Default)]
pub(crate) struct Shown {
    now: Arc<Namespace>,
    before: Arc<Namespace>,
}

/// The read-only filesystem.
pub struct ReadOnlyFs<T, C> {
    pub(crate) tree: T,
    pub(crate) content: C,
    pub(crate) config: Config,
    pub(crate) view: View,
    pub(crate) reasons: Reasons,
    ahead: Ahead,
}

impl<T: TreeReader, C: ContentReader> ReadOnlyFs<T, C> {
    /// A mount of all snapshots.
    ///
    /// # Errors
    /// When the list of snapshots cannot be read.
    pub fn all(tree: T, content: C, config: Config) -> Result<Self, ReadError> {
        let version = tree.version()?;
        let now = Arc::new(Namespace::build(&tree.snapshots()?, &Namespace::default()));
        let shown = RwLock::new(Shown { before: now.clone(), now });
        let view = View::All { shown, version: Mutex::new(version) };
        Ok(Self { tree, content, config, view, reasons: Reasons::default(), ahead: Ahead::default() })
    }

    /// A mount that shows just one directory of one snapshot at its root.
    ///
    /// # Errors
    /// When it cannot be read; [`FsError::NotADirectory`] where `root` is none.
    pub fn one(tree: T, content: C, config: Config, root: NodeId) -> Result<Self, FsError> {
        let node = tree.node(root).map_err(|error| FsError::of(&error, FsError::NotFound))?;
        if node.attributes.kind != Kind::Directory {
            return Err(FsError::NotADirectory);
        }
        Ok(Self {
            tree,
            content,
            config,
            view: View::One(root),
            reasons: Reasons::default(),
            ahead: Ahead::default(),
        })
    }

    /// Looks whether the list of snapshots changed, shows the new one, and says what a system has to forget.
    /// To be called about every second; costs a look at the version while nothing changes.
    ///
    /// # Errors
    /// When the list cannot be read: what is shown stays.
    pub fn refresh(&self) -> Result<Invalidations, ReadError> {
        let View::All { shown, version } = &self.view else { return Ok(Invalidations::default()) };
        let mut last = version.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the list: a change in between is then seen next time.
        let now = self.tree.version()?;
        if now == *last {
            return Ok(Invalidations::default());
        }
        let list = self.tree.snapshots()?;
        let before = self.namespace();
        let after = Arc::new(Namespace::build(&list, &before));
        let changes = after.changes_since(&before);
        *shown.write().unwrap_or_else(PoisonError::into_inner) = Shown { now: after, before };
        *last = now;
        Ok(changes)
    }

    /// What an inode number stands for here.
    pub(crate) fn place(&self, ino: Ino) -> Place {
        match self.view {
            View::One(root) if ino == Ino::ROOT => Place::Node(root),
            _ => Place::of(ino),
        }
    }

    fn shown(&self) -> Shown {
        match &self.view {
            View::All { shown, .. } => shown.read().unwrap_or_else(PoisonError::into_inner).clone(),
            View::One(_) => Shown::default(),
        }
    }

    fn namespace(&self) -> Arc<Namespace> {
        self.shown().now
    }

    /// The top of the mount in which an own number stands for something: as it is, else as it was.
    pub(crate) fn namespace_of(&self, number: u32) -> Arc<Namespace> {
        let Shown { now, before } = self.shown();
        if now.get(number).is_none() && before.get(number).is_some() { before } else { now }
    }

    fn ino_of(&self, node: &Node) -> Ino {
        match self.view {
            View::One(root) if node.id == root => Ino::ROOT,
            _ => Ino(node.inode.ino()),
        }
    }

    pub(crate) fn attr_of(&self, node: &Node) -> Attr {
        Attr::of_node(self.ino_of(node), &node.attributes, self.config.owner)
    }

    /// An error of the reader as this filesystem's, its reason kept for who asks.
    pub(crate) fn failed(&self, ino: Ino, error: &ReadError, wrong_kind: FsError) -> FsError {
        let answer = FsError::of(error, wrong_kind);
        if answer == FsError::Damaged {
            self.reasons.keep(ino, error.message.clone());
        }
        answer
    }

    pub(crate) fn node(&self, ino: Ino, id: NodeId) -> Result<Node, FsError> {
        self.tree.node(id).map_err(|error| self.failed(ino, &error, FsError::NotFound))
    }

    fn own_attr(&self, namespace: &Namespace, number: u32) -> Result<Attr, FsError> {
        let ino = Ino(u64::from(number));
        match namespace.get(number).ok_or(FsError::NotFound)? {
            Own::Folder(folder) => {
                let nlink = 2 + folder.folders(namespace);
                Ok(Attr::of_own(ino, Kind::Directory, nlink, 0, folder.modified, self.config.mounter))
            }
            Own::Link(link) => {
                let size = link.target.len() as u64;
                Ok(Attr::of_own(ino, Kind::Symlink, 1, size, link.modified, self.config.mounter))
            }
        }
    }

    /// The folder a snapshot is shown as: the mount's own, so that listing any number of snapshots fetches
    /// none of them. One link means "not counted".
    fn snapshot_attr(&self, namespace: &Namespace, session: SessionNo) -> Option<Attr> {
        let ino = Ino(NodeId::root(session).ino());
        let created = namespace.created(session)?;
        Some(Attr::of_own(ino, Kind::Directory, 1, 0, created, self.config.mounter))
    }

    pub(crate) fn target_attr(&self, namespace: &Namespace, target: Target) -> Result<Attr, FsError> {
        match target {
            Target::Own(number) => self.own_attr(namespace, number),
            Target::Snapshot(session) => self.snapshot_attr(namespace, session).ok_or(FsError::NotFound),
        }
    }

    /// The child of a directory by name.
    ///
    /// # Errors
    /// [`FsError::NotFound`] where there is none; see [`FsError`].
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attr, FsError> {
        if name.len() > self.config.names.name_max() {
            return Err(FsError::NameTooLong);
        }
        match self.place(parent) {
            Place::Own(number) => {
                let namespace = self.namespace_of(number);
                let folder = own_folder(&namespace, number)?;
                let entry = folder.get(name).ok_or(FsError::NotFound)?;
                self.target_attr(&namespace, entry.target)
            }
            Place::Node(dir) => {
                let hidden = self.config.names.hide(name);
                match self.tree.lookup(dir, &hidden) {
                    Ok(Some(node)) => Ok(self.attr_of(&node)),
                    Ok(None) => Err(FsError::NotFound),
                    Err(error) => Err(self.failed(parent, &error, FsError::NotADirectory)),
                }
            }
        }
    }

    /// Attributes of an inode.
    ///
    /// # Errors
    /// See [`FsError`].
    pub fn getattr(&self, ino: Ino) -> Result<Attr, FsError> {
        match self.place(ino) {
            Place::Own(number) => self.own_attr(&self.namespace_of(number), number),
            Place::Node(id) => {
                if id.place == 0
                    && let Some(attr) = self.snapshot_attr(&self.namespace(), id.session)
                {
                    return Ok(attr);
                }
                Ok(self.attr_of(&self.node(ino, id)?))
            }
        }
    }

    /// The inode a path from the root of the mount leads to, for systems that open by path. Follows no links.
    ///
    /// # Errors
    /// See [`FsError`].
    pub fn resolve(&self, path: &TreePath) -> Result<Attr, FsError> {
        let mut attr = self.getattr(Ino::ROOT)?;
        for part in path.components() {
            if attr.kind != Kind::Directory {
                return Err(FsError::NotADirectory);
            }
            attr = self.lookup(attr.ino, part)?;
        }
        Ok(attr)
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// [`FsError::NotALink`] where it is none.
    pub fn readlink(&self, ino: Ino) -> Result<Bytes, FsError> {
        match self.place(ino) {
            Place::Own(number) => match self.namespace_of(number).get(number).ok_or(FsError::NotFound)? {
                Own::Link(link) => Ok(Bytes::copy_from_slice(&link.target)),
                Own::Folder(_) => Err(FsError::NotALink),
            },
            Place::Node(id) => {
                self.tree.read_link(id).map_err(|error| self.failed(ino, &error, FsError::NotALink))
            }
        }
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`FsError::IsADirectory`], [`FsError::BadHandle`] for what has no bytes.
    pub fn open(&self, ino: Ino) -> Result<Handle, FsError> {
        match self.getattr(ino)?.kind {
            Kind::File => Ok(Handle::of(ino)),
            Kind::Directory => Err(FsError::IsADirectory),
            _ => Err(FsError::BadHandle),
        }
    }

    /// Ends what [`ReadOnlyFs::open`] began: nothing was kept, so nothing is to do.
    pub fn release(&self, handle: Handle) {
        let _ = handle;
    }

    /// [`ReadOnlyFs::read`], with `answer` giving the result to whoever waits for it: what can be done after that is.
    pub fn read_for<R>(
        &self,
        handle: Handle,
        offset: u64,
        out: &mut [u8],
        answer: impl FnOnce(Result<&[u8], FsError>) -> R,
    ) -> R {
        self.content.answering();
        let read = self.read(handle, offset, out);
        let done = answer(read.map(|n| &out[..n]));
        self.content.answered();
        done
    }

    /// Reads from `offset` on into `out`. Fewer bytes than asked mean the end of the file, nothing else: a
    /// system may show zeros for what is missing.
    ///
    /// # Errors
    /// [`FsError::Damaged`] where any byte of the range cannot be verified; see [`FsError`].
    pub fn read(&self, handle: Handle, offset: u64, out: &mut [u8]) -> Result<usize, FsError> {
        let ino = handle.ino();
        let Place::Node(id) = self.place(ino) else { return Err(FsError::IsADirectory) };
        if offset == 0
            && let Some(next) = self.ahead.begun(id)
        {
            let next: Vec<NodeId> = next.map(|place| NodeId { session: id.session, place }).collect();
            self.content.will_read(&next);
        }
        let read = self.content.read_at(id, offset, out);
        let n = read.map_err(|error| self.failed(ino, &error, FsError::BadHandle))?;
        if n < out.len() {
            let size = self.node(ino, id)?.attributes.size;
            if offset.saturating_add(n as u64) < size {
                self.reasons.keep(ino, "fewer bytes are stored than the file has".into());
                return Err(FsError::Damaged);
            }
        }
        Ok(n)
    }

    /// The next data or hole at or after `offset`.
    ///
    /// # Errors
    /// [`FsError::NoSuchOffset`] at or after the end of the file, or where no data follows.
    pub fn seek(&self, handle: Handle, offset: u64, to: SeekTo) -> Result<u64, FsError> {
        let ino = handle.ino();
        let Place::Node(id) = self.place(ino) else { return Err(FsError::IsADirectory) };
        let wanted = match to {
            SeekTo::Data => SpanKind::Data,
            SeekTo::Hole => SpanKind::Hole,
        };
        let mut at = offset;
        loop {
            match self.content.span(id, at).map_err(|e| self.failed(ino, &e, FsError::BadHandle))? {
                Some(span) if span.kind == wanted => return Ok(at),
                Some(span) => at = span.offset.saturating_add(span.len.max(1)),
                None if to == SeekTo::Hole && at > offset => return Ok(at),
                None => return Err(FsError::NoSuchOffset),
            }
        }
    }

    /// Figures of the whole mount.
    ///
    /// # Errors
    /// When the vault cannot say.
    pub fn statfs(&self) -> Result<VolumeFigures, FsError> {
        let answer = |error: ReadError| self.failed(Ino::ROOT, &error, FsError::NotFound);
        let newest = match self.view {
            View::One(root) => Some(root.session),
            View::All { .. } => self.namespace().newest(),
        };
        let nodes = match newest {
            Some(session) => {
                let totals = self.tree.totals(session).map_err(answer)?;
                totals.files + totals.directories
            }
            None => 0,
        };
        let bytes = self.tree.vault_size().map_err(answer)?;
        Ok(VolumeFigures { bytes, nodes, name_max: self.config.names.name_max() as u32 })
    }
}

pub(crate) fn own_folder(namespace: &Namespace, number: u32) -> Result<&Folder, FsError> {
    match namespace.get(number) {
        Some(Own::Folder(folder)) => Ok(folder),
        Some(Own::Link(_)) => Err(FsError::NotADirectory),
        None => Err(FsError::NotFound),
    }
}
