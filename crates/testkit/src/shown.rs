//! A whole snapshot as one value, so that two can be compared.
//!
//! May not judge: it is what a reader shows, read to the last byte. Full names, as a push gives them; what lies
//! above the pushed folder changes as others come and go, so tests compare what lies [`below`] it.

use backupengine_model::{
    Attributes, ContentReader, Kind, NodeId, ReadError, SessionNo, TreeReader, XattrName,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a reader shows of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Attributes.
    pub attributes: Attributes,
    /// Bytes of a file, target of a link, else empty. Of a file longer than [`WHOLE_MAX`] only its data runs.
    pub bytes: Vec<u8>,
    /// Extended attributes.
    pub xattrs: Vec<(XattrName, Bytes)>,
}

/// Longest file that is read whole.
pub const WHOLE_MAX: u64 = 64 << 20;

/// Everything a snapshot shows, by path: components joined by a slash, "/" itself as the empty path.
///
/// # Errors
/// The first error of any read.
pub fn everything<R: TreeReader + ContentReader>(
    reader: &R,
    session: SessionNo,
) -> Result<BTreeMap<Vec<u8>, Shown>, ReadError> {
    let mut shown = BTreeMap::new();
    let root = reader.node(NodeId::root(session))?;
    let mut folders = vec![(Vec::new(), root.id)];
    shown.insert(Vec::new(), Shown { attributes: root.attributes, bytes: Vec::new(), xattrs: Vec::new() });
    while let Some((path, folder)) = folders.pop() {
        let mut from = 0;
        loop {
            let page = reader.list(folder, from, 1000)?;
            from += page.slots.len() as u64;
            for slot in page.slots {
                let below = [path.as_slice(), b"/", &slot.name].concat();
                let (id, attributes) = (slot.node.id, slot.node.attributes);
                let bytes = match attributes.kind {
                    Kind::File => contents(reader, id, attributes.size)?,
                    Kind::Symlink => reader.read_link(id)?.to_vec(),
                    _ => Vec::new(),
                };
                if attributes.kind == Kind::Directory {
                    folders.push((below.clone(), id));
                }
                let xattrs = if slot.node.has_xattrs { reader.xattrs(id)? } else { Vec::new() };
                shown.insert(below, Shown { attributes, bytes, xattrs });
            }
            if page.end {
                break;
            }
        }
    }
    Ok(shown)
}

/// All bytes of a file, or of its data runs where it is longer than [`WHOLE_MAX`].
fn contents<R: ContentReader>(reader: &R, id: NodeId, size: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let mut read = |from: u64, len: u64| {
        let start = bytes.len();
        bytes.resize(start + len as usize, 0);
        let mut filled = 0;
        while filled < len as usize {
            match reader.read_at(id, from + filled as u64, &mut bytes[start + filled..])? {
                0 => break,
                more => filled += more,
            }
        }
        bytes.truncate(start + filled);
        Ok(())
    };
    if size <= WHOLE_MAX {
        read(0, size)?;
        return Ok(bytes);
    }
    let mut at = 0;
    while let Some(span) = reader.span(id, at)? {
        if span.kind == backupengine_model::SpanKind::Data {
            read(span.offset, span.len)?;
        }
        at = span.offset + span.len;
    }
    Ok(bytes)
}

/// The part of a tree that is `root` or lies below it.
pub fn below(tree: BTreeMap<Vec<u8>, Shown>, root: &Path) -> BTreeMap<Vec<u8>, Shown> {
    let root = root.as_os_str().as_bytes();
    let inside = |path: &[u8]| path.strip_prefix(root).is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
    tree.into_iter().filter(|(path, _)| inside(path)).collect()
}

/// Where a tree that shows all [`below`] `root` differs from what lies there: names, kind, mode, owner, size,
/// time and bytes.
///
/// # Panics
/// Where the folder cannot be read.
pub fn differences_from_disk(tree: &BTreeMap<Vec<u8>, Shown>, root: &Path) -> Vec<String> {
    let mut differences = Vec::new();
    let mut left: BTreeMap<&[u8], &Shown> =
        tree.iter().map(|(path, shown)| (path.as_slice(), shown)).collect();
    let mut todo: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let found = fs::symlink_metadata(&path).expect("the source can be read");
        if found.is_dir() {
            let entries = fs::read_dir(&path).expect("the source can be listed");
            todo.extend(entries.map(|entry| entry.expect("the source can be listed").path()));
        }
        match left.remove(path.as_os_str().as_bytes()) {
            None => differences.push(format!("{} is missing", path.display())),
            Some(shown) => differences.extend(difference(shown, &found, &path)),
        }
    }
    differences.extend(left.into_keys().map(|path| format!("{} is not on the disk", path.escape_ascii())));
    differences
}

fn difference(shown: &Shown, found: &fs::Metadata, path: &Path) -> Option<String> {
    let a = &shown.attributes;
    let says = (a.mode, a.uid, a.gid, a.size, a.mtime.secs, i64::from(a.mtime.nanos));
    let has =
        (found.mode() & 0o7777, found.uid(), found.gid(), found.size(), found.mtime(), found.mtime_nsec());
    let kind = match a.kind {
        Kind::Directory => found.is_dir(),
        Kind::File => found.is_file(),
        Kind::Symlink => found.is_symlink(),
        _ => !found.is_dir() && !found.is_file() && !found.is_symlink(),
    };
    let bytes = || match a.kind {
        Kind::File if a.size <= WHOLE_MAX => fs::read(path).expect("the source can be read"),
        Kind::Symlink => {
            fs::read_link(path).expect("the source can be read").into_os_string().into_encoded_bytes()
        }
        _ => shown.bytes.clone(),
    };
    if !kind {
        Some(format!("{} is no {:?}", path.display(), a.kind))
    } else if says != has {
        Some(format!("{} has {has:?}, shown as {says:?}", path.display()))
    } else if bytes() != shown.bytes {
        Some(format!("the bytes of {} differ", path.display()))
    } else {
        None
    }
}
