//! What is to be done, decided from what is known: where selections land, what becomes of what exists.
//!
//! May not touch the target. Pure but for looking up the selections. Tested below.

use crate::meta::Existing;
use crate::{Destination, Overwrite, RestoreError, Selection};
use backupengine_model::{Attributes, Kind, Node, NodeId, TreePath, TreeReader};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A selection, looked up.
#[derive(Debug)]
pub(crate) struct Landing {
    pub(crate) node: Node,
    /// Nodes that lead to it below the target, with their names, "/" not counted. Only in place.
    pub(crate) above: Vec<(Vec<u8>, Node)>,
    /// Its name; `None` where its children land in the target itself.
    pub(crate) name: Option<Vec<u8>>,
    /// In place: folders above these paths are not touched where they exist.
    pub(crate) sources: Vec<TreePath>,
}

/// Looks selections up and checks that they do not meet.
pub(crate) fn landings(
    tree: &dyn TreeReader,
    selections: &[Selection],
    destination: &Destination,
) -> Result<Vec<Landing>, RestoreError> {
    let mut taken = BTreeSet::new();
    let mut out = Vec::new();
    for selection in selections {
        let landing = landing(tree, selection, destination)?;
        if let (Destination::Into(dir), Some(name)) = (destination, &landing.name)
            && !taken.insert(name.clone())
        {
            let name = String::from_utf8_lossy(name).into_owned();
            return Err(RestoreError::SameName { path: dir.join(name) });
        }
        out.push(landing);
    }
    Ok(out)
}

fn landing(
    tree: &dyn TreeReader,
    selection: &Selection,
    destination: &Destination,
) -> Result<Landing, RestoreError> {
    let missing = || RestoreError::NotFound { path: selection.path.clone() };
    let snapshots = tree.snapshots()?;
    let info = snapshots.iter().find(|info| info.session == selection.session).ok_or_else(missing)?;
    let mut node = tree.node(NodeId::root(selection.session))?;
    let mut above = Vec::new();
    for name in selection.path.components() {
        if node.attributes.kind != Kind::Directory {
            return Err(missing());
        }
        let below = tree.lookup(node.id, name)?.ok_or_else(missing)?;
        above.push((name.to_vec(), std::mem::replace(&mut node, below)));
    }
    // Each was pushed with the name of its child: shift the names by one.
    let (names, nodes): (Vec<_>, Vec<_>) = above.into_iter().unzip();
    let name = names.last().cloned();
    let above: Vec<_> = names.into_iter().zip(nodes.into_iter().skip(1)).collect();
    let (above, sources) = match destination {
        Destination::Into(_) => (Vec::new(), Vec::new()),
        Destination::InPlace => {
            let known = info.sources.iter().filter_map(|source| TreePath::from_slashes(source).ok());
            (above, known.collect())
        }
    };
    Ok(Landing { node, above, name, sources })
}

impl Landing {
    /// Whether the folder at `path` of the target only leads to what was pushed.
    pub(crate) fn leads(&self, path: &TreePath) -> bool {
        self.sources.iter().any(|source| source != path && source.starts_with(path))
    }
}

/// What becomes of one name that is no folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make it; nothing is there.
    Make,
    /// Make it beside what is there, then put it in its place.
    Replace,
    /// It is there; put its attributes right.
    Keep,
    /// Something is there and stays.
    Skip,
}

/// Decides what becomes of a name. `same_target`: both are links with the same target.
pub(crate) fn decide(
    overwrite: Overwrite,
    wanted: &Attributes,
    existing: Option<&Existing>,
    same_target: bool,
) -> Action {
    let Some(existing) = existing else { return Action::Make };
    match overwrite {
        Overwrite::Never => Action::Skip,
        Overwrite::Always => Action::Replace,
        Overwrite::Changed => {
            let there = &existing.attributes;
            // Something else shares its inode: writing attributes would change that as well.
            let shared = there.nlink > 1 && wanted.nlink <= 1;
            let same = wanted.kind == there.kind
                && match wanted.kind {
                    Kind::File => wanted.size == there.size && wanted.mtime == there.mtime,
                    Kind::Symlink => same_target,
                    Kind::CharDevice | Kind::BlockDevice => wanted.rdev == there.rdev,
                    Kind::Fifo | Kind::Socket => true,
                    Kind::Directory => false,
                };
            if same && !shared { Action::Keep } else { Action::Replace }
        }
    }
}

/// What becomes of one folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FolderAction {
    /// Make it and give it its attributes.
    Make,
    /// Something else stands there: remove that first.
    Replace,
    /// It is there: give it its attributes.
    Keep,
    /// It is there and its attributes stay.
    Leave,
    /// Something else stands there and stays, so nothing can go below.
    Refuse,
}

/// Decides what becomes of a folder. `leads`: it only leads to what is restored.
pub(crate) fn decide_folder(overwrite: Overwrite, existing: Option<&Existing>, leads: bool) -> FolderAction {
    match existing.map(|existing| existing.attributes.kind) {
        None => FolderAction::Make,
        Some(Kind::Directory) if leads || overwrite == Overwrite::Never => FolderAction::Leave,
        Some(Kind::Directory) => FolderAction::Keep,
        Some(_) if leads || overwrite == Overwrite::Never => FolderAction::Refuse,
        Some(_) => FolderAction::Replace,
    }
}

/// The path of a target, for messages.
pub(crate) fn shown(destination: &Destination) -> PathBuf {
    match destination {
        Destination::Into(dir) => dir.clone(),
        Destination::InPlace => PathBuf::from("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::{NodeFlags, Timestamp};

    fn attributes(kind: Kind) -> Attributes {
        Attributes {
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 5,
            mtime: Timestamp { secs: 7, nanos: 1 },
            rdev: 3,
            nlink: 1,
            allocated: None,
            flags: NodeFlags::default(),
        }
    }

    fn there(change: impl FnOnce(&mut Attributes)) -> Existing {
        let mut attributes = attributes(Kind::File);
        change(&mut attributes);
        Existing { attributes, device: 1, inode: 1 }
    }

    #[test]
    fn what_exists_is_kept_skipped_or_replaced() {
        use Action::{Keep, Make, Replace, Skip};
        let file = attributes(Kind::File);
        let act = |overwrite, existing: &Existing| decide(overwrite, &file, Some(existing), false);
        assert_eq!(decide(Overwrite::Never, &file, None, false), Make);
        let same = there(|_| {});
        assert_eq!(act(Overwrite::Never, &same), Skip);
        assert_eq!(act(Overwrite::Always, &same), Replace);
        assert_eq!(act(Overwrite::Changed, &same), Keep);
        assert_eq!(act(Overwrite::Changed, &there(|a| a.mode = 0)), Keep);
        for changed in [
            there(|a| a.size = 6),
            there(|a| a.mtime.nanos = 2),
            there(|a| a.kind = Kind::Symlink),
            there(|a| a.nlink = 2),
        ] {
            assert_eq!(act(Overwrite::Changed, &changed), Replace, "{changed:?}");
        }
        let link = attributes(Kind::Symlink);
        let on_disk = there(|a| a.kind = Kind::Symlink);
        assert_eq!(decide(Overwrite::Changed, &link, Some(&on_disk), true), Keep);
        assert_eq!(decide(Overwrite::Changed, &link, Some(&on_disk), false), Replace);
        let device = attributes(Kind::CharDevice);
        let other = there(|a| (a.kind, a.rdev) = (Kind::CharDevice, 4));
        assert_eq!(decide(Overwrite::Changed, &device, Some(&other), false), Replace);
    }

    #[test]
    fn folders_are_never_traded_for_what_leads_to_them() {
        let dir = there(|a| a.kind = Kind::Directory);
        let link = there(|a| a.kind = Kind::Symlink);
        for (overwrite, existing, leads, expected) in [
            (Overwrite::Changed, None, true, FolderAction::Make),
            (Overwrite::Changed, Some(&dir), false, FolderAction::Keep),
            (Overwrite::Changed, Some(&dir), true, FolderAction::Leave),
            (Overwrite::Never, Some(&dir), false, FolderAction::Leave),
            (Overwrite::Always, Some(&link), false, FolderAction::Replace),
            (Overwrite::Always, Some(&link), true, FolderAction::Refuse),
            (Overwrite::Never, Some(&link), false, FolderAction::Refuse),
        ] {
            assert_eq!(decide_folder(overwrite, existing, leads), expected);
        }
    }
}
