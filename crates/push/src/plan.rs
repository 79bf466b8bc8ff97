//! Decides of each file whether it is new, changed, or the parent's.
//!
//! Pure. What always holds: a file counts as the same only if this device recorded its inode and change time
//! when it was last read, and size and modification time are the parent's. Tested below.
use crate::side_file::SideRecord;
use backupengine_format::page::LeafEntry;
use backupengine_model::{Attributes, Kind, NodeFlags};
use backupengine_source::Identity;

/// What a file is, compared with the parent snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The parent has no such name.
    New,
    /// It has, but not surely with this content.
    Changed,
    /// Content and extended attributes are the parent's.
    Same,
}

/// Compares a node of the source with what the parent has under its key.
pub(crate) fn judge(
    attributes: &Attributes,
    identity: &Identity,
    parent: Option<(&LeafEntry, Option<&SideRecord>)>,
    key_hash: impl FnOnce() -> u64,
) -> Verdict {
    let Some((entry, record)) = parent else { return Verdict::New };
    let was = &entry.attributes;
    let looks_same = was.kind == attributes.kind
        && was.mtime == attributes.mtime
        && (was.size == attributes.size || attributes.kind != Kind::File)
        && !was.flags.contains(NodeFlags::TORN);
    let known = record.is_some_and(|record| {
        record.inode == identity.inode && record.inode != 0 && record.ctime == identity.ctime
    });
    if looks_same && known && record.is_some_and(|record| record.key_hash == key_hash()) {
        Verdict::Same
    } else {
        Verdict::Changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::Look;
    use backupengine_format::page::{Content, HardLink};
    use backupengine_model::{Timestamp, TreePath};
    use std::sync::Arc;

    const NOW: Timestamp = Timestamp { secs: 100, nanos: 5 };

    fn entry() -> LeafEntry {
        let attributes = Attributes {
            kind: Kind::File,
            mode: 0o600,
            uid: 0,
            gid: 0,
            size: 10,
            mtime: NOW,
            rdev: 0,
            nlink: 1,
            allocated: None,
            flags: NodeFlags::default(),
        };
        LeafEntry {
            parent: Arc::new(TreePath::root()),
            name: b"a".to_vec(),
            attributes,
            content: Content::None,
            xattrs: Arc::new([]),
            hard_link: HardLink::None,
        }
    }

    #[test]
    fn only_a_file_known_by_all_its_marks_is_the_same() {
        let was = entry();
        let identity = Identity { device: 9, inode: 4, ctime: NOW };
        let record = SideRecord { key_hash: 77, ctime: NOW, inode: 4, look: Look::Plain };
        let verdict = |attributes: &Attributes, identity: &Identity, record: Option<&SideRecord>| {
            judge(attributes, identity, Some((&was, record)), || 77)
        };
        let now = &was.attributes;
        assert_eq!(judge(now, &identity, None, || 77), Verdict::New);
        assert_eq!(verdict(now, &identity, Some(&record)), Verdict::Same);
        assert_eq!(verdict(now, &Identity { device: 1, ..identity }, Some(&record)), Verdict::Same);
        assert_eq!(verdict(&Attributes { mode: 0, ..now.clone() }, &identity, Some(&record)), Verdict::Same);
        assert_eq!(verdict(now, &identity, None), Verdict::Changed);
        for other in [
            SideRecord { key_hash: 78, ..record },
            SideRecord { inode: 5, ..record },
            SideRecord { ctime: Timestamp { nanos: 6, ..NOW }, ..record },
            SideRecord::distrusted(77),
        ] {
            assert_eq!(verdict(now, &identity, Some(&other)), Verdict::Changed);
        }
        for other in [
            Attributes { size: 11, ..now.clone() },
            Attributes { mtime: Timestamp::default(), ..now.clone() },
            Attributes { kind: Kind::Fifo, ..now.clone() },
        ] {
            assert_eq!(verdict(&other, &identity, Some(&record)), Verdict::Changed);
        }
        let mut torn = was.clone();
        torn.attributes.flags = NodeFlags::TORN;
        assert_eq!(judge(now, &identity, Some((&torn, Some(&record))), || 77), Verdict::Changed);
    }
}
