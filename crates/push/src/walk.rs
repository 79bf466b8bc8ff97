//! The first stage: takes the walk, holds it against the parent, and hands out the reading.
//!
//! **What it is.** The calling thread of a push. It sends every node in order to the assembler and what has to
//! be read to the readers; files too large to read whole it reads and cuts itself.
//! **What it may not do.** Hash, compress or store.
//! **What always holds.** Bytes in flight are taken from the budget before they are read. A node that is sent
//! to be read keeps its place in the order.
//! **Where it is tested.** In the tests of whole pushes.
use crate::budget::{Budget, Share};
use crate::config::WHOLE_MAX;
use crate::error::PushError;
use crate::flow::{
    ContentDraft, Draft, Event, FileRead, Job, LinkCell, LinkDraft, ReadTask, Ticket, XattrDraft, ticket,
};
use crate::parent::ParentStream;
use crate::plan::{Verdict, judge};
use crate::shared::{Shared, has_bytes};
use crate::signals::{Look, Past, Watch};
use backupengine_format::limits::{DEPTH_MAX, PATH_MAX};
use backupengine_format::page::Content;
use backupengine_model::{Class, Kind, NodeKey, TreePath};
use backupengine_source::{DirBatch, Entry, Notice, NoticeKind, Walker};
use bytes::Bytes;
use crossbeam_channel::{SendTimeoutError, Sender};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// A group is sent on when it has this many nodes,
const GROUP_NODES: usize = 256;
/// or this many files to read,
const GROUP_READS: usize = 32;
/// or this many bytes to read.
const GROUP_BYTES: u64 = 1 << 20;

/// Where the walk's stage sends things.
pub(crate) struct Outlets {
    pub(crate) events: Sender<Event>,
    pub(crate) urgent: Sender<Job>,
    pub(crate) reads: Sender<Job>,
}

/// The stage; see the module header.
pub(crate) struct Walk<'a> {
    pub(crate) shared: &'a Shared<'a>,
    /// Missing in a dry run.
    pub(crate) outlets: Option<Outlets>,
    pub(crate) budget: Arc<Budget>,
    group: Group,
    links: HashMap<(u64, u64), LinkGroup>,
    directories: ParentStream,
    others: ParentStream,
    /// Where there is an earlier snapshot to hold the files against.
    watch: Option<Watch<'a>>,
}

#[derive(Default)]
struct Group {
    drafts: Vec<Draft>,
    tasks: Vec<ReadTask>,
    bytes: u64,
    shares: Vec<Share>,
}

/// Names of one inode that are still to come.
struct LinkGroup {
    cell: Arc<LinkCell>,
    path: TreePath,
    kind: Kind,
    left: u32,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        shared: &'a Shared<'a>,
        outlets: Option<Outlets>,
        budget: Arc<Budget>,
        parent: [ParentStream; 2],
        watch: Option<Watch<'a>>,
    ) -> Self {
        let [directories, others] = parent;
        let (group, links) = (Group::default(), HashMap::new());
        Self { shared, outlets, budget, group, links, directories, others, watch }
    }

    /// Walks to the end.
    ///
    /// # Errors
    /// `Interrupted`; another stage's trouble shows only as an early end.
    pub(crate) fn run(mut self, walker: Walker) -> Result<(), PushError> {
        for batch in walker {
            let DirBatch { path, real, directories, others, notices } = batch;
            self.shared.progress.tick(&real);
            notices.into_iter().for_each(|notice| self.shared.progress.notice(notice));
            for entry in directories {
                self.shared.progress.count.directories.add(1);
                self.node(&path, &real, entry)?;
            }
            for entry in others {
                self.node(&path, &real, entry)?;
            }
            if self.shared.ended() {
                break;
            }
        }
        self.send_group();
        self.shared.go_on()?;
        if let Some(watch) = self.watch.as_mut().filter(|_| !self.shared.ended()) {
            self.others.pass_rest(&mut |entry, record| watch.is_gone(entry, record));
        }
        if let Some(outlets) = self.outlets.as_ref().filter(|_| !self.shared.ended()) {
            send(self.shared, &outlets.events, Event::End);
        }
        Ok(())
    }

    fn node(&mut self, path: &Arc<TreePath>, real: &Arc<PathBuf>, entry: Entry) -> Result<(), PushError> {
        self.shared.go_on()?;
        let mut draft = Draft {
            parent: Arc::clone(path),
            name: entry.name,
            real: Arc::clone(real),
            attributes: entry.attributes,
            identity: entry.identity,
            xattrs: XattrDraft::Raw(entry.xattrs),
            content: ContentDraft::Ready(match entry.target {
                Some(target) => Content::Inline(Bytes::from(target)),
                None => Content::None,
            }),
            link: LinkDraft::None,
            key_hash: None,
            look: Look::Unknown,
            past: Past::default(),
        };
        if path.as_joined().len() + 1 + draft.name.len() > PATH_MAX || too_deep(path) {
            let message = "its path is longer or deeper than a snapshot can hold".to_owned();
            let path = draft.real_path();
            self.shared.progress.notice(Notice { path, kind: NoticeKind::Unreadable, message });
            return Ok(());
        }
        let verdict = self.compare(&mut draft);
        let linked = self.link(&mut draft);
        let class = draft.class();
        let count = &self.shared.progress.count;
        if class == Class::Other {
            match verdict {
                Verdict::New => count.files_new.add(1),
                Verdict::Changed => count.files_changed.add(1),
                Verdict::Same => count.files_unmodified.add(1),
            }
        }
        let read = has_bytes(draft.attributes.kind) && verdict != Verdict::Same && !linked;
        if self.outlets.is_none() {
            count.bytes_new.add(if read { draft.attributes.size } else { 0 });
            return Ok(());
        }
        match (read, draft.attributes.size) {
            (false, _) => self.group.drafts.push(draft),
            (true, 0..=WHOLE_MAX) => self.read_whole(draft),
            (true, _) => {
                self.send_group();
                return self.stream(draft);
            }
        }
        let full = self.group.drafts.len() >= GROUP_NODES
            || self.group.tasks.len() >= GROUP_READS
            || self.group.bytes >= GROUP_BYTES;
        if full {
            self.send_group();
            self.shared.progress.tick(real);
        }
        Ok(())
    }

    /// Holds a draft against the parent and takes over what is the same.
    fn compare(&mut self, draft: &mut Draft) -> Verdict {
        let class = draft.class();
        let stream = match class {
            Class::Directory => &mut self.directories,
            Class::Other => &mut self.others,
        };
        let outlets = &self.outlets;
        let shared = self.shared;
        let mut tell = |event| {
            if let Some(outlets) = outlets {
                send(shared, &outlets.events, event);
            }
        };
        let watch = &mut self.watch;
        let mut gone = |entry: &_, record: Option<&_>| {
            if let Some(watch) = watch.as_mut().filter(|_| class == Class::Other) {
                watch.is_gone(entry, record);
            }
        };
        let found = stream.find(&draft.parent, &draft.name, &mut tell, &mut gone);
        let mut key_hash = None;
        let verdict = judge(&draft.attributes, &draft.identity, found, || {
            let key = NodeKey::new(class, &draft.parent, &draft.name);
            *key_hash.insert(shared.ids.hash64(key.as_bytes()))
        });
        draft.key_hash = key_hash;
        if let Some(watch) = self.watch.as_mut().filter(|_| class == Class::Other) {
            draft.past = watch.is_met((&draft.parent, &draft.name), &draft.attributes, verdict, found);
        }
        let lost = found.is_some_and(|(entry, _)| shared.lost.needs_again(&entry.content, &entry.xattrs));
        let verdict = if verdict == Verdict::Same && lost { Verdict::Changed } else { verdict };
        if let (Verdict::Same, Some((entry, record))) = (verdict, found) {
            draft.look = record.map_or(Look::Unknown, |record| record.look);
            draft.xattrs = XattrDraft::Ready(Arc::clone(&entry.xattrs));
            draft.attributes.flags = entry.attributes.flags;
            if has_bytes(draft.attributes.kind) {
                draft.attributes.allocated = entry.attributes.allocated;
                draft.content = ContentDraft::Ready(entry.content.clone());
            }
        }
        verdict
    }

    /// Finds the other names of a hard-linked file. True when the content comes from an earlier name.
    ///
    /// A file with more links than names in the walk is `First` all the same: what follows is not known yet.
    fn link(&mut self, draft: &mut Draft) -> bool {
        if draft.attributes.nlink < 2 || draft.class() == Class::Directory {
            return false;
        }
        let inode = (draft.identity.device, draft.identity.inode);
        let Some(group) = self.links.get_mut(&inode) else {
            let cell = Arc::new(OnceLock::new());
            let path = draft.parent.child(&draft.name);
            let left = draft.attributes.nlink - 1;
            self.links.insert(
                inode,
                LinkGroup { cell: Arc::clone(&cell), path, kind: draft.attributes.kind, left },
            );
            draft.link = LinkDraft::First(cell);
            return false;
        };
        if group.kind != draft.attributes.kind {
            // The number was given to another file meanwhile.
            return false;
        }
        draft.link = LinkDraft::Also(Arc::clone(&group.cell), group.path.clone());
        draft.content = ContentDraft::Linked;
        group.left -= 1;
        if group.left == 0 {
            self.links.remove(&inode);
        }
        true
    }

    fn read_whole(&mut self, mut draft: Draft) {
        let Some(share) = self.budget.take(draft.attributes.size, || self.shared.ended()) else { return };
        self.group.shares.push(share);
        self.group.bytes += draft.attributes.size;
        self.group.tasks.push(ReadTask { path: draft.real_path(), identity: draft.identity });
        draft.content = ContentDraft::Read;
        self.group.drafts.push(draft);
    }

    pub(crate) fn send_group(&mut self) {
        let Group { drafts, tasks, bytes: _, shares } = std::mem::take(&mut self.group);
        let Some(outlets) = self.outlets.as_ref().filter(|_| !drafts.is_empty()) else { return };
        let reads = (!tasks.is_empty()).then(|| {
            let (answer, reads): (_, Ticket<Vec<FileRead>>) = ticket();
            // A closed queue means that the readers are gone, which the assembler will report.
            drop(outlets.reads.send(Job::Read { tasks, answer }));
            reads
        });
        send(self.shared, &outlets.events, Event::Group { drafts, reads, share: shares });
    }
}

/// Sends an event; gives up when everybody does.
pub(crate) fn send(shared: &Shared<'_>, events: &Sender<Event>, mut event: Event) {
    loop {
        match events.send_timeout(event, crate::budget::POLL) {
            Ok(()) => return,
            Err(SendTimeoutError::Timeout(back)) if !shared.ended() => event = back,
            Err(_) => return shared.give_up(),
        }
    }
}

/// Whether nodes in this directory lie deeper than the format allows. Counts only where the length allows it.
fn too_deep(directory: &TreePath) -> bool {
    directory.as_joined().len() >= 2 * DEPTH_MAX && directory.components().count() > DEPTH_MAX
}

#[cfg(test)]
mod tests {
    use super::too_deep;
    use crate::shared::has_bytes;
    use backupengine_format::limits::DEPTH_MAX;
    use backupengine_model::{Kind, TreePath};

    #[test]
    fn nodes_deeper_than_the_format_allows_are_found() {
        let path = |depth: usize, name: &str| {
            TreePath::from_slashes(vec![name; depth].join("/").as_bytes()).unwrap()
        };
        assert!(!too_deep(&path(DEPTH_MAX, "d")));
        assert!(too_deep(&path(DEPTH_MAX + 1, "d")));
        assert!(!too_deep(&path(DEPTH_MAX / 2, "long")));
    }

    #[test]
    fn only_regular_files_are_read() {
        for kind in
            [Kind::Directory, Kind::Symlink, Kind::Fifo, Kind::Socket, Kind::CharDevice, Kind::BlockDevice]
        {
            assert!(!has_bytes(kind));
        }
        assert!(has_bytes(Kind::File));
    }
}
