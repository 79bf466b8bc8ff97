//! A folder of the target that is being filled. When the last that works in it lets go, it gets its attributes.
//!
//! May not hold a handle: as many folders can be open at once as a tree is deep. What always holds: a folder
//! is finished after everything below it, so its time of modification stays. Tested in `tests`.

use crate::meta::{Existing, Folder, to_path};
use crate::node::Before;
use crate::plan::{FolderAction, decide_folder};
use crate::run::Run;
use backupengine_model::name_policy::NamePolicy;
use backupengine_model::{Node, TreePath, check_name};
use std::path::PathBuf;
use std::sync::Arc;

/// What this system can show of names.
const NAMES: NamePolicy = NamePolicy::RawBytes;

/// A folder of the target that is being filled.
#[derive(Debug)]
pub(crate) struct Filling {
    /// Its path below the target.
    pub(crate) path: TreePath,
    parent: Option<Arc<Filling>>,
    /// What it is to become; `None` where it stays as it is.
    dress: Option<Node>,
    fresh: bool,
    /// Whether it was made where an ACL is handed down.
    inherits: bool,
}

impl Filling {
    /// The target itself.
    pub(crate) fn target() -> Arc<Self> {
        Arc::new(Self { path: TreePath::root(), parent: None, dress: None, fresh: false, inherits: false })
    }

    /// The path of a name in it, for messages.
    pub(crate) fn shown(&self, run: &Run<'_>, name: &[u8]) -> PathBuf {
        let mut path = self.path.to_slashes();
        path.push(b'/');
        path.extend_from_slice(name);
        let below = path.iter().position(|&b| b != b'/').unwrap_or(path.len());
        run.shown.join(to_path(path.split_off(below)))
    }

    /// Makes the folder `name` in this one, or finds it there. `leads`: it only leads to what is restored.
    /// The caller has checked the name.
    pub(crate) fn enter(
        self: &Arc<Self>,
        run: &Run<'_>,
        here: &Folder,
        name: &[u8],
        node: &Node,
        leads: bool,
    ) -> Result<Arc<Self>, String> {
        let failed = |error: std::io::Error| format!("the folder cannot be made: {error}");
        let existing = here.look(name).map_err(failed)?;
        let action = decide_folder(run.config.overwrite, existing.as_ref(), leads);
        if action == FolderAction::Refuse {
            return Err("something that is no folder is in its place; nothing below it is restored".into());
        }
        if action == FolderAction::Replace {
            here.remove(name).map_err(failed)?;
        }
        let fresh = matches!(action, FolderAction::Make | FolderAction::Replace);
        let inherits = fresh && here.hands_down_acl();
        if fresh {
            here.make_folder(name).map_err(failed)?;
            if inherits {
                strip_acl(here, name);
            }
        } else if let (FolderAction::Keep, Some(existing)) = (action, &existing) {
            open_up(run, here, name, existing);
        }
        let dress = (action != FolderAction::Leave).then(|| node.clone());
        let path = self.path.child(name);
        Ok(Arc::new(Self { path, parent: Some(Arc::clone(self)), dress, fresh, inherits }))
    }
}

/// Checks that a name can stand in the target: one component, and one that this system can show.
pub(crate) fn check_shown(name: &[u8]) -> Result<(), String> {
    check_name(name).map_err(|error| error.to_string())?;
    NAMES.show(name).map(drop).ok_or_else(|| "the name is too long for this system".to_owned())
}

/// What is made in the new folder shall not inherit what the snapshot does not have.
fn strip_acl(here: &Folder, name: &[u8]) {
    if let Ok(object) = here.object(name) {
        // Where this fails, the attributes that are set at the end say so.
        drop(object.remove_xattr(b"system.posix_acl_default"));
        drop(object.remove_xattr(b"system.posix_acl_access"));
    }
}

/// Lets its owner write into a folder that was there, until it gets its attributes.
fn open_up(run: &Run<'_>, here: &Folder, name: &[u8], existing: &Existing) {
    let mode = existing.attributes.mode;
    if !run.privileged
        && mode & 0o700 != 0o700
        && let Ok(object) = here.object(name)
    {
        // Where this fails, what cannot be written says so.
        drop(object.set_mode(mode | 0o700));
    }
}

/// Lets go of a folder; the last to do so finishes it, and so on upwards.
pub(crate) fn release(run: &Run<'_>, filling: Arc<Filling>) {
    let mut next = Some(filling);
    while let Some(mut filling) = next.take().and_then(Arc::into_inner) {
        next = filling.parent.take();
        if let Some(node) = &filling.dress {
            finish(run, &filling, node);
        }
    }
}

fn finish(run: &Run<'_>, filling: &Filling, node: &Node) {
    let shown = filling.shown(run, b"");
    let object = match run.target.folder(&filling.path) {
        Ok(folder) => folder.into_object(),
        Err(error) => return run.fail(shown, format!("its attributes cannot be set: {error}")),
    };
    let before = match object.look() {
        Ok(existing) if !filling.fresh => Before::There(existing),
        Ok(_) => Before::Fresh { inherits: filling.inherits },
        Err(error) => return run.fail(shown, format!("its attributes cannot be set: {error}")),
    };
    run.count(|stats| stats.directories += 1);
    let troubles = run.dress(&object, node, &before);
    if troubles.is_empty() {
        run.progress(&shown);
    } else {
        run.fail(shown, troubles.join("; "));
    }
}
