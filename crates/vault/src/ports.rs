//! The two read ports of `model`, filled.
//!
//! **What it may not do.** Hold state. **What always holds.** An error names the path where it is known, and
//! what was removed by retention is told apart from what is damaged.
//! **Where it is tested.** In the reader's tests, `tests/oracle` and `tests/mount`.

use crate::codec;
use crate::content::piece;
use crate::core::Core;
use crate::fetch::deadline;
use crate::tree::{Found, Tree};
use crate::{Vault, VaultError};
use backupengine_format::page::{Content, Xattr, XattrValue};
use backupengine_model::{
    Class, ContentReader, DataSpan, DirPage, Kind, Nearness, Node, NodeId, ReadError, SessionNo,
    SnapshotInfo, Totals, TreePath, TreeReader, XattrName,
};
use bytes::Bytes;
use std::sync::Arc;

impl TreeReader for Vault {
    fn snapshots(&self) -> Result<Arc<Vec<SnapshotInfo>>, ReadError> {
        let _within = deadline::within(self.core.timeout);
        self.list().map_err(|error| error.told(None))
    }

    fn version(&self) -> Result<u64, ReadError> {
        let _within = deadline::within(self.core.timeout);
        self.core.snapshots.version().map_err(|error| error.told(None))
    }

    fn totals(&self, session: SessionNo) -> Result<Totals, ReadError> {
        let id = NodeId::root(session);
        self.core.answer(id, || Ok(self.core.tree(session)?.root.record.totals))
    }

    fn node(&self, id: NodeId) -> Result<Node, ReadError> {
        self.core.answer(id, || self.core.node(id))
    }

    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<Node>, ReadError> {
        self.core.answer(dir, || self.core.lookup(dir, name))
    }

    fn parent(&self, id: NodeId) -> Result<NodeId, ReadError> {
        self.core.answer(id, || self.core.parent(id))
    }

    fn list(&self, dir: NodeId, from: u64, max: usize) -> Result<DirPage, ReadError> {
        self.core.answer(dir, || {
            let tree = self.core.tree(dir.session)?;
            let runs = self.core.runs(&tree, dir)?;
            tree.list(&self.core.pages, &runs, from, max)
        })
    }

    fn read_link(&self, id: NodeId) -> Result<Bytes, ReadError> {
        self.core.answer(id, || self.core.read_link(id))
    }

    fn xattrs(&self, id: NodeId) -> Result<Vec<(XattrName, Bytes)>, ReadError> {
        self.core.answer(id, || self.core.xattrs(id))
    }

    fn vault_size(&self) -> Result<u64, ReadError> {
        let _within = deadline::within(self.core.timeout);
        let space = self.core.opener.fetcher().space().map_err(VaultError::from);
        space.map(|(taken, _)| taken).map_err(|error| error.told(None))
    }
}

impl ContentReader for Vault {
    fn read_at(&self, id: NodeId, offset: u64, out: &mut [u8]) -> Result<usize, ReadError> {
        self.core.answer(id, || {
            let found = self.core.file(id)?;
            let reading = self.core.reading(id, &found);
            let left = reading.size()?.saturating_sub(offset);
            let len = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.core.note_read(id, &reading, offset, len as u64);
            reading.fill(offset, &mut out[..len])?;
            Ok(len)
        })
    }

    fn answering(&self) {
        codec::answering();
    }

    fn answered(&self) {
        codec::answered();
    }

    fn span(&self, id: NodeId, offset: u64) -> Result<Option<DataSpan>, ReadError> {
        self.core.answer(id, || {
            let found = self.core.file(id)?;
            let reading = self.core.reading(id, &found);
            let inside = offset < reading.size()?;
            inside.then(|| reading.span(offset)).transpose()
        })
    }

    fn will_need(&self, ids: &[NodeId]) {
        let _within = deadline::within(self.core.timeout);
        if let Err(error) = self.core.will_need(ids) {
            tracing::debug!(error = crate::error::describe(&error), "fetching ahead was not possible");
        }
    }

    fn nearness(&self, id: NodeId) -> Result<Option<Nearness>, ReadError> {
        self.core.answer(id, || self.core.nearness(id).map(Some))
    }

    fn will_read(&self, ids: &[NodeId]) {
        let _within = deadline::within(self.core.timeout);
        if let Err(error) = self.core.will_read(ids) {
            tracing::debug!(error = crate::error::describe(&error), "reading ahead was not possible");
        }
    }
}

impl Core {
    /// Answers a question about `id`, or says what is wrong with which path.
    fn answer<T>(&self, id: NodeId, ask: impl FnOnce() -> Result<T, VaultError>) -> Result<T, ReadError> {
        let _within = deadline::within(self.timeout);
        ask().map_err(|error| {
            // What retention took away is no damage.
            if error.is_missing() && matches!(self.snapshots.is_listed(id.session), Ok(false)) {
                return VaultError::Removed(id.session).told(None);
            }
            let path = self.tree(id.session).and_then(|tree| self.path(&tree, id));
            error.told(path.ok().map(|path| path.to_string()).as_deref())
        })
    }

    pub(crate) fn path(&self, tree: &Tree, id: NodeId) -> Result<TreePath, VaultError> {
        if id.place == 0 {
            return Ok(TreePath::root());
        }
        Ok(tree.found(&self.pages, id)?.path())
    }

    /// The path of a directory.
    pub(crate) fn directory(&self, tree: &Tree, dir: NodeId) -> Result<TreePath, VaultError> {
        if dir.place == 0 {
            return Ok(TreePath::root());
        }
        let found = tree.found(&self.pages, dir)?;
        match found.entry().attributes.kind {
            Kind::Directory => Ok(found.path()),
            _ => Err(VaultError::WrongKind { wanted: "directory" }),
        }
    }

    pub(crate) fn file(&self, id: NodeId) -> Result<Found, VaultError> {
        let tree = self.tree(id.session)?;
        if id.place == 0 {
            return Err(VaultError::WrongKind { wanted: "file" });
        }
        tree.found(&self.pages, id)
    }

    fn node(&self, id: NodeId) -> Result<Node, VaultError> {
        let tree = self.tree(id.session)?;
        if id.place == 0 {
            return Ok(tree.root_node());
        }
        let found = tree.found(&self.pages, id)?;
        tree.node(&self.pages, found.entry(), found.rank)
    }

    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<Node>, VaultError> {
        let tree = self.tree(dir.session)?;
        self.gather(&tree, dir);
        let parent = self.directory(&tree, dir)?;
        // Directories first: their leaves are few and shared by all look-ups of a path.
        for class in [Class::Directory, Class::Other] {
            if let Some(found) = tree.find(&self.pages, class, &parent, name)? {
                return tree.node(&self.pages, found.entry(), found.rank).map(Some);
            }
        }
        Ok(None)
    }

    fn parent(&self, id: NodeId) -> Result<NodeId, VaultError> {
        let tree = self.tree(id.session)?;
        if id.place == 0 {
            return Ok(id);
        }
        let found = tree.found(&self.pages, id)?;
        let Some((grandparent, name)) = found.entry().parent.split_last() else {
            return Ok(NodeId::root(id.session));
        };
        match tree.find(&self.pages, Class::Directory, &grandparent, name)? {
            Some(parent) => tree.id(parent.rank),
            None => Err(VaultError::NoNode(id)),
        }
    }

    fn read_link(&self, id: NodeId) -> Result<Bytes, VaultError> {
        let wrong = VaultError::WrongKind { wanted: "symbolic link" };
        let tree = self.tree(id.session)?;
        if id.place == 0 {
            return Err(wrong);
        }
        let found = tree.found(&self.pages, id)?;
        let entry = found.entry();
        match (&entry.attributes.kind, &entry.content) {
            (Kind::Symlink, Content::Inline(target)) => Ok(target.clone()),
            (Kind::Symlink, _) => Err(VaultError::ShortContent { at: 0, size: entry.attributes.size }),
            _ => Err(wrong),
        }
    }

    fn xattrs(&self, id: NodeId) -> Result<Vec<(XattrName, Bytes)>, VaultError> {
        let tree = self.tree(id.session)?;
        let value = |xattr: &Xattr| {
            let value = match &xattr.value {
                XattrValue::Inline(value) => Bytes::copy_from_slice(value),
                XattrValue::Stored { frame, inner, len } => {
                    piece(&self.frames, frame, *inner, (*len).into())?
                }
            };
            Ok((xattr.name.clone(), value))
        };
        if id.place == 0 {
            return tree.root.record.xattrs.iter().map(value).collect();
        }
        let found = tree.found(&self.pages, id)?;
        found.entry().xattrs.iter().map(value).collect()
    }
}
