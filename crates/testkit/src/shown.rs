//! A whole snapshot as one value, so that two can be compared.
//!
//! May not judge: it is what a reader shows, read to the last byte.

use backupengine_model::{
    Attributes, ContentReader, Kind, NodeId, ReadError, SessionNo, TreeReader, XattrName,
};
use bytes::Bytes;
use std::collections::BTreeMap;

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
