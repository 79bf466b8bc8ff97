//! Directory listings: entries and where a listing can be taken up again.
//!
//! What always holds: a cursor means the same in every listing of its directory, in this mount and after a
//! remount. In snapshots it is the place in the fixed order; in the mount's own folders it belongs to the
//! name, so that snapshots that come and go neither hide nor repeat the others.

use crate::fs::{ReadOnlyFs, View, own_folder};
use crate::inode::Place;
use crate::namespace::{Entry, Folder, Namespace};
use crate::{Attr, FsError, Handle, Ino};
use backupengine_model::{ContentReader, Kind, NodeId, TreeReader};

/// How many slots of a listing are asked for at once: a few kernel buffers' worth.
const LIST_STEP: usize = 64;

/// A place in a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirCursor(pub u64);

impl DirCursor {
    /// Before the first entry.
    pub const START: Self = Self(0);
    /// After `.` and `..`.
    pub(crate) const AFTER_DOTS: u64 = 2;
}

/// One entry of a listing.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// The name, raw bytes.
    pub name: &'a [u8],
    /// The inode behind it.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Where the listing goes on after this entry.
    pub next: DirCursor,
    /// Attributes; `None` for `.` and `..`.
    pub attr: Option<&'a Attr>,
}

impl<T: TreeReader, C: ContentReader> ReadOnlyFs<T, C> {
    /// Opens a directory for listing.
    ///
    /// # Errors
    /// [`FsError::NotADirectory`].
    pub fn opendir(&self, ino: Ino) -> Result<Handle, FsError> {
        match self.getattr(ino)?.kind {
            Kind::Directory => Ok(Handle::of(ino)),
            _ => Err(FsError::NotADirectory),
        }
    }

    /// Ends what [`ReadOnlyFs::opendir`] began: nothing was kept, so nothing is to do.
    pub fn releasedir(&self, handle: Handle) {
        let _ = handle;
    }

    /// Hands out entries from `cursor` on, `.` and `..` first, until there are no more or `emit` returns
    /// `false` for one it did not take.
    ///
    /// # Errors
    /// See [`FsError`]; entries handed out before it are right.
    pub fn readdir(
        &self,
        handle: Handle,
        cursor: DirCursor,
        mut emit: impl FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), FsError> {
        let ino = handle.ino();
        if cursor.0 < DirCursor::AFTER_DOTS {
            let parent = self.parent(ino)?;
            let dots: [(u64, &[u8], Ino); 2] = [(0, b".", ino), (1, b"..", parent)];
            for (at, name, ino) in dots {
                let next = DirCursor(at + 1);
                let entry = DirEntry { name, ino, kind: Kind::Directory, next, attr: None };
                if at >= cursor.0 && !emit(entry) {
                    return Ok(());
                }
            }
        }
        let from = cursor.0.max(DirCursor::AFTER_DOTS);
        match self.place(ino) {
            Place::Own(number) => {
                let namespace = self.namespace_of(number);
                let folder = own_folder(&namespace, number)?;
                self.list_own(&namespace, folder, from, emit)
            }
            Place::Node(dir) => self.list_node(ino, dir, from, emit),
        }
    }

    /// The directory above, as `..` shows it.
    fn parent(&self, ino: Ino) -> Result<Ino, FsError> {
        match self.place(ino) {
            Place::Own(number) => {
                let namespace = self.namespace_of(number);
                Ok(Ino(u64::from(own_folder(&namespace, number)?.parent)))
            }
            // "/" of a snapshot hangs in the root, as does the root itself.
            Place::Node(id) if id.place == 0 || ino == Ino::ROOT => Ok(Ino::ROOT),
            Place::Node(id) => {
                let parent = self.tree.parent(id).map_err(|e| self.failed(ino, &e, FsError::NotFound))?;
                match self.view {
                    View::One(root) if parent == root => Ok(Ino::ROOT),
                    _ => Ok(Ino(parent.ino())),
                }
            }
        }
    }

    fn list_own(
        &self,
        namespace: &Namespace,
        folder: &Folder,
        from: u64,
        mut emit: impl FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), FsError> {
        let first = folder.entries.partition_point(|entry| entry.cookie < from);
        for Entry { cookie, name, target } in &folder.entries[first..] {
            let attr = self.target_attr(namespace, *target)?;
            let next = DirCursor(cookie + 1);
            if !emit(DirEntry { name, ino: attr.ino, kind: attr.kind, next, attr: Some(&attr) }) {
                break;
            }
        }
        Ok(())
    }

    fn list_node(
        &self,
        ino: Ino,
        dir: NodeId,
        from: u64,
        mut emit: impl FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), FsError> {
        let mut slot = from - DirCursor::AFTER_DOTS;
        loop {
            let page = self
                .tree
                .list(dir, slot, LIST_STEP)
                .map_err(|error| self.failed(ino, &error, FsError::NotADirectory))?;
            let stuck = page.slots.is_empty();
            for found in page.slots {
                slot += 1;
                // A name this system cannot show is left out rather than changed.
                let Some(name) = self.config.names.show(&found.name) else { continue };
                let attr = self.attr_of(&found.node);
                let next = DirCursor(slot + DirCursor::AFTER_DOTS);
                let entry = DirEntry { name: &name, ino: attr.ino, kind: attr.kind, next, attr: Some(&attr) };
                if !emit(entry) {
                    return Ok(());
                }
            }
            if page.end || stuck {
                return Ok(());
            }
        }
    }
}
