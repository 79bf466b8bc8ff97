//! Gives one thing of the target the attributes of its node.
//!
//! May not touch content or place. What always holds: one attribute that cannot be set keeps none of the
//! others from being set; setuid and setgid are set only where the owner is the stored one. Tested in `tests`.

use crate::meta::{Existing, Object};
use backupengine_model::{Attributes, Kind, XattrName};
use bytes::Bytes;
use std::io;

/// Extended attributes of a node.
pub(crate) type Xattrs = Vec<(XattrName, Bytes)>;

/// What a thing is before it gets its attributes.
#[derive(Debug)]
pub(crate) enum Before {
    /// Just made by this process. `inherits`: in a folder that hands an ACL down.
    Fresh { inherits: bool },
    /// It was there.
    There(Existing),
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Dressed {
    /// The owner may not be given by this user.
    pub(crate) owner_refused: bool,
    /// So many attributes of the system may not be set by this user.
    pub(crate) xattrs_refused: u64,
    /// What failed otherwise, in words.
    pub(crate) troubles: Vec<String>,
}

impl Dressed {
    fn note(&mut self, what: &str, result: io::Result<()>) {
        if let Err(error) = result {
            self.troubles.push(format!("{what} cannot be set: {error}"));
        }
    }
}

/// How owners are given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owners {
    /// At all.
    pub(crate) give: bool,
    /// This process may give files away.
    pub(crate) privileged: bool,
}

/// Sets owner, mode, extended attributes and time. `xattrs`: `None` where they could not be read.
pub(crate) fn dress(
    object: &Object,
    wanted: &Attributes,
    xattrs: Option<&Xattrs>,
    before: &Before,
    owners: Owners,
) -> Dressed {
    let mut out = Dressed::default();
    let there = match before {
        Before::There(existing) => Some(&existing.attributes),
        Before::Fresh { .. } => None,
    };
    let owned = if owners.give {
        set_owner(object, wanted, there, owners.privileged, &mut out)
    } else {
        is_owned(object, wanted)
    };
    // Attributes that need the right to write come before the mode that may take it; an ACL comes after the
    // mode, which would change its mask; capabilities come last, since a change of owner drops them.
    let known = match (xattrs, before) {
        (None, _) | (_, Before::Fresh { inherits: false }) => Vec::new(),
        _ => object.xattr_names().unwrap_or_default(),
    };
    if let Some(xattrs) = xattrs {
        for name in known.iter().filter(|name| is_ours(name) && !xattrs.iter().any(|x| x.0 == **name)) {
            out.note(&format!("extended attribute {}", lossy(name)), object.remove_xattr(name));
        }
        set_xattrs(object, xattrs, &known, false, &mut out);
    }
    if wanted.kind != Kind::Symlink {
        let mode = if owned { wanted.mode } else { wanted.mode & 0o1777 };
        // A change of owner clears bits, so the mode seen before is worth something only without one.
        if there.is_none_or(|t| t.mode != mode || (t.uid, t.gid) != (wanted.uid, wanted.gid)) {
            out.note("mode", object.set_mode(mode));
        }
    }
    if let Some(xattrs) = xattrs {
        set_xattrs(object, xattrs, &known, true, &mut out);
    }
    // A folder's time moved while things were made in it.
    if wanted.kind == Kind::Directory || there.is_none_or(|there| there.mtime != wanted.mtime) {
        out.note("time of modification", object.set_mtime(wanted.mtime));
    }
    out
}

/// Gives it its owner; says whether it has it then.
fn set_owner(
    object: &Object,
    wanted: &Attributes,
    there: Option<&Attributes>,
    privileged: bool,
    out: &mut Dressed,
) -> bool {
    let has = |a: &Attributes| (a.uid, a.gid) == (wanted.uid, wanted.gid);
    if there.is_some_and(has) || (!privileged && is_owned(object, wanted)) {
        return true;
    }
    let Err(error) = object.set_owner(Some(wanted.uid), Some(wanted.gid)) else { return true };
    if !matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) {
        out.note("owner", Err(error));
        return false;
    }
    out.owner_refused = true;
    // A group of one's own may be given without privilege.
    drop(object.set_owner(None, Some(wanted.gid)));
    false
}

fn is_owned(object: &Object, wanted: &Attributes) -> bool {
    object.look().is_ok_and(|now| (now.attributes.uid, now.attributes.gid) == (wanted.uid, wanted.gid))
}

/// Sets the early ones (`user.`, `trusted.`) or the late ones (`system.`, `security.`).
fn set_xattrs(object: &Object, xattrs: &Xattrs, known: &[Vec<u8>], late: bool, out: &mut Dressed) {
    for (name, value) in xattrs.iter().filter(|x| is_late(&x.0) == late) {
        if known.contains(name) && object.xattr_is(name, value) {
            continue;
        }
        let Err(error) = object.set_xattr(name, value) else { continue };
        let refused =
            error.kind() == io::ErrorKind::PermissionDenied || error.kind() == io::ErrorKind::Unsupported;
        if refused && is_the_systems(name) {
            out.xattrs_refused += 1;
        } else {
            out.note(&format!("extended attribute {}", lossy(name)), Err(error));
        }
    }
}

fn is_late(name: &[u8]) -> bool {
    name.starts_with(b"system.") || name.starts_with(b"security.")
}

fn is_the_systems(name: &[u8]) -> bool {
    name.starts_with(b"security.") || name.starts_with(b"trusted.")
}

/// Whether an attribute that the snapshot does not have is removed.
fn is_ours(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_")
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
