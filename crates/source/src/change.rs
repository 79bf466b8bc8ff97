//! What tells that a file is still the same one, in the same state.
//!
//! May not look at files: it compares what was seen. Tested below.

use backupengine_model::{Attributes, Timestamp};

/// Which file it is, and when the system last changed anything about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// Time of last change of content or metadata. Cannot be set by programs, unlike the mtime.
    pub ctime: Timestamp,
}

/// Whether two looks at a file show the same file with the same bytes: same inode, size, mtime and ctime.
///
/// Two writes inside one tick of the filesystem's clock look the same; who remembers a look for longer
/// should distrust one whose times are not older than the look itself.
pub fn same_state(before: (&Attributes, &Identity), after: (&Attributes, &Identity)) -> bool {
    before.1 == after.1
        && before.0.kind == after.0.kind
        && before.0.size == after.0.size
        && before.0.mtime == after.0.mtime
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::{Kind, NodeFlags};

    #[test]
    fn each_part_counts() {
        let attributes = Attributes {
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 5,
            mtime: Timestamp { secs: 1, nanos: 1 },
            rdev: 0,
            nlink: 1,
            allocated: None,
            flags: NodeFlags::default(),
        };
        let identity = Identity { device: 1, inode: 2, ctime: Timestamp { secs: 3, nanos: 3 } };
        let before = (&attributes, &identity);
        assert!(same_state(before, before));
        for change in [
            |a: &mut Attributes, _: &mut Identity| a.size += 1,
            |a: &mut Attributes, _: &mut Identity| a.mtime.nanos += 1,
            |a: &mut Attributes, _: &mut Identity| a.kind = Kind::Fifo,
            |_: &mut Attributes, i: &mut Identity| i.ctime.nanos += 1,
            |_: &mut Attributes, i: &mut Identity| i.inode += 1,
            |_: &mut Attributes, i: &mut Identity| i.device += 1,
        ] {
            let (mut a, mut i) = (attributes.clone(), identity);
            change(&mut a, &mut i);
            assert!(!same_state(before, (&a, &i)));
        }
    }
}
