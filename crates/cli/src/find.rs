//! From a snapshot and a path to a node, over the read ports.
//!
//! **What it may not do.** Follow links: a path in a snapshot is what it says.
//! **What always holds.** A missing name is named, with the part of the path that does exist.
//! **Where it is tested.** `tests/cli`.

use crate::error::{Failure, Kind};
use crate::output::shown;
use crate::select::What;
use backupengine_model::{Kind as NodeKind, Node, NodeId, SnapshotInfo, TreeReader};

/// The node at `what`'s path in `snapshot`.
///
/// # Errors
/// When there is none, or it cannot be read.
pub(crate) fn find(tree: &impl TreeReader, snapshot: &SnapshotInfo, what: &What) -> Result<Node, Failure> {
    let mut node = tree.node(NodeId::root(snapshot.session))?;
    let mut walked = Vec::new();
    for name in &what.path {
        let missing = |why: &str| {
            let path = what.path_bytes();
            Failure::new(Kind::Failed, format!("{} is not in snapshot {}: {why}", shown(&path), snapshot.id))
        };
        let here = if walked.is_empty() { b"/".to_vec() } else { walked.clone() };
        if node.attributes.kind != NodeKind::Directory {
            return Err(missing(&format!("{} is no folder", shown(&here))));
        }
        match tree.lookup(node.id, name)? {
            Some(found) => node = found,
            None => {
                return Err(missing(&format!("{} holds no {:?}", shown(&here), shown(name))).hint(format!(
                    "look there: backupengine ls {}:{}",
                    snapshot.id,
                    shown(&here)
                )));
            }
        }
        walked.push(b'/');
        walked.extend_from_slice(name);
    }
    Ok(node)
}
