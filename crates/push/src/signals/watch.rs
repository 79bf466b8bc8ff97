//! The walk's part of the signals: what each file was in the last snapshot, and what of it is gone.
//!
//! **What it is.** Told, in the order of the tree, of every file of the last snapshot that was met and of every one that
//! was not, it says of each file that is met what its past is.
//! **What it may not do.** Read, or decide: it counts into the [`Tally`].
//! **What always holds.** Memory is the names of one folder that are gone and are each the beginning of the next.
//! **Where it is tested.** Below; in the tests of whole pushes.
use super::{Look, Signal, Tally, WITNESS_MIN};
use crate::plan::Verdict;
use crate::side_file::SideRecord;
use backupengine_format::page::LeafEntry;
use backupengine_model::{Attributes, Kind, TreePath};
use std::path::PathBuf;
use std::sync::Arc;

/// What is known of the past of a file that is about to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// It was readable, under this name or under one that this name begins with and that is gone.
    pub(crate) readable: bool,
    /// The last snapshot has no such name.
    pub(crate) new: bool,
    /// Nobody is to touch it, and only its bytes can tell whether anybody did.
    pub(crate) canary: bool,
}

/// See the module header.
pub(crate) struct Watch<'a> {
    tally: &'a Tally,
    canaries: Vec<TreePath>,
    /// The folder that the names below were in.
    folder: Arc<TreePath>,
    gone: Vec<Vec<u8>>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(tally: &'a Tally, canaries: &[PathBuf]) -> Self {
        let path = |path: &PathBuf| TreePath::from_slashes(path.as_os_str().as_encoded_bytes()).ok();
        let canaries = canaries.iter().filter_map(path).collect();
        Self { tally, canaries, folder: Arc::new(TreePath::root()), gone: Vec::new() }
    }

    fn is_canary(&self, parent: &TreePath, name: &[u8]) -> bool {
        !self.canaries.is_empty() && self.canaries.contains(&parent.child(name))
    }

    /// The walk passed a file of the last snapshot without meeting it.
    pub(crate) fn is_gone(&mut self, entry: &LeafEntry, record: Option<&SideRecord>) {
        if self.is_canary(&entry.parent, &entry.name) {
            self.tally.find(Signal::CanaryMissing { path: path_of(&entry.parent, &entry.name) });
        }
        if !can_tell(&entry.attributes) {
            return;
        }
        self.tally.known.add(1);
        if record.is_some_and(|record| record.look == Look::Noise) {
            return;
        }
        self.tally.gone.add(1);
        self.enter(&entry.parent);
        self.leave_others(&entry.name);
        self.gone.push(entry.name.clone());
    }

    /// A file was met: what is known of its past.
    pub(crate) fn is_met(
        &mut self,
        (parent, name): (&Arc<TreePath>, &[u8]),
        now: &Attributes,
        verdict: Verdict,
        before: Option<(&LeafEntry, Option<&SideRecord>)>,
    ) -> Past {
        let Some((entry, record)) = before else {
            self.enter(parent);
            self.leave_others(name);
            return Past { readable: !self.gone.is_empty(), new: true, canary: false };
        };
        let was = &entry.attributes;
        let moved = was.kind != now.kind || was.size != now.size || was.mtime != now.mtime;
        let canary = verdict == Verdict::Changed && self.is_canary(parent, name);
        if canary && moved {
            self.tally.find(Signal::CanaryChanged { path: path_of(parent, name) });
        }
        if !can_tell(was) {
            return Past { canary: canary && !moved, ..Past::default() };
        }
        self.tally.known.add(1);
        let readable = verdict == Verdict::Changed
            && match record.map_or(Look::Unknown, |record| record.look) {
                Look::Plain | Look::Known => true,
                Look::Unknown => moved,
                Look::Noise => false,
            };
        Past { readable, new: false, canary: canary && !moved }
    }

    fn enter(&mut self, folder: &Arc<TreePath>) {
        if !Arc::ptr_eq(&self.folder, folder) && self.folder != *folder {
            self.gone.clear();
        }
        self.folder = Arc::clone(folder);
    }

    /// Forgets names that `name` does not begin with: names ascend, so no later one does.
    fn leave_others(&mut self, name: &[u8]) {
        while self.gone.last().is_some_and(|gone| !name.starts_with(gone)) {
            self.gone.pop();
        }
    }
}

/// Whether noise can be told from anything else in it.
fn can_tell(attributes: &Attributes) -> bool {
    attributes.kind == Kind::File && attributes.size >= WITNESS_MIN
}

fn path_of(parent: &TreePath, name: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    PathBuf::from(std::ffi::OsString::from_vec(parent.child(name).to_slashes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_format::page::{Content, HardLink};
    use backupengine_model::{NodeFlags, Timestamp};

    fn attributes(size: u64) -> Attributes {
        Attributes {
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size,
            mtime: Timestamp::default(),
            rdev: 0,
            nlink: 1,
            allocated: None,
            flags: NodeFlags::default(),
        }
    }

    fn entry(folder: &str, name: &str, size: u64) -> LeafEntry {
        LeafEntry {
            parent: Arc::new(TreePath::from_slashes(folder.as_bytes()).unwrap()),
            name: name.as_bytes().to_vec(),
            attributes: attributes(size),
            content: Content::None,
            xattrs: Arc::new([]),
            hard_link: HardLink::None,
        }
    }

    fn record(look: Look) -> SideRecord {
        SideRecord { look, ..SideRecord::distrusted(1) }
    }

    fn new(watch: &mut Watch<'_>, folder: &str, name: &str) -> Past {
        let parent = Arc::new(TreePath::from_slashes(folder.as_bytes()).unwrap());
        watch.is_met((&parent, name.as_bytes()), &attributes(1000), Verdict::New, None)
    }

    #[test]
    fn a_name_that_begins_with_one_that_is_gone_took_its_place() {
        let tally = Tally::default();
        let mut watch = Watch::new(&tally, &[]);
        for gone in ["a.doc", "a.doc-2"] {
            watch.is_gone(&entry("/d", gone, 1000), Some(&record(Look::Plain)));
        }
        assert!(new(&mut watch, "/d", "a.doc-2.x").readable);
        assert!(new(&mut watch, "/d", "a.doc.x").readable);
        assert!(!new(&mut watch, "/d", "b").readable);
        watch.is_gone(&entry("/d", "c", 1000), Some(&record(Look::Noise)));
        watch.is_gone(&entry("/d", "d", 100), Some(&record(Look::Plain)));
        assert!(!new(&mut watch, "/d", "c.x").readable, "it was noise");
        assert!(!new(&mut watch, "/d", "d.x").readable, "too short to tell");
        watch.is_gone(&entry("/d", "e", 1000), None);
        assert!(!new(&mut watch, "/e", "e.x").readable, "in another folder");
        assert_eq!((tally.known.get(), tally.gone.get()), (4, 3));
    }

    #[test]
    fn what_was_readable_may_not_become_noise() {
        let tally = Tally::default();
        let mut watch = Watch::new(&tally, &[]);
        let mut met = |look, verdict, size: u64| {
            let before = entry("/d", "a", 1000);
            let past = watch.is_met(
                (&before.parent, b"a"),
                &attributes(size),
                verdict,
                Some((&before, Some(&record(look)))),
            );
            assert!(!past.new && !past.canary);
            past.readable
        };
        assert!(met(Look::Plain, Verdict::Changed, 1000) && met(Look::Known, Verdict::Changed, 1000));
        assert!(!met(Look::Noise, Verdict::Changed, 2000));
        assert!(
            met(Look::Unknown, Verdict::Changed, 2000),
            "nobody knows what it was, and it was written to"
        );
        assert!(!met(Look::Unknown, Verdict::Changed, 1000), "only this device's memory is gone");
        assert!(!met(Look::Plain, Verdict::Same, 1000));
    }

    #[test]
    fn a_canary_says_when_it_was_touched() {
        let tally = Tally::default();
        let mut watch = Watch::new(&tally, &["/d/canary".into(), "/d/other".into()]);
        let before = entry("/d", "canary", 1000);
        let at = (&before.parent, &b"canary"[..]);
        let parent = Some((&before, None));
        assert!(watch.is_met(at, &attributes(1000), Verdict::Changed, parent).canary, "by its bytes, later");
        assert_eq!(watch.is_met(at, &attributes(1000), Verdict::Same, parent), Past::default());
        assert_eq!(tally.judge(), []);
        let touched = Attributes { mtime: Timestamp { secs: 1, nanos: 0 }, ..attributes(1000) };
        assert!(!watch.is_met(at, &touched, Verdict::Changed, parent).canary);
        watch.is_met(at, &touched, Verdict::Changed, parent);
        watch.is_gone(&entry("/d", "other", 10), None);
        let path = |name: &str| PathBuf::from("/d").join(name);
        let expected =
            [Signal::CanaryChanged { path: path("canary") }, Signal::CanaryMissing { path: path("other") }];
        assert_eq!(tally.judge(), expected);
    }
}
