//! The writers: make one name after another, each under a temporary name first.
//!
//! May not make folders. What always holds: whatever goes wrong with one name, its temporary file is gone
//! and its folder is let go of. Tested in `tests`.

use crate::RestoreError;
use crate::content::{Content, ContentError};
use crate::folder::{Filling, check_shown, release};
use crate::links::Place;
use crate::meta::{Existing, Folder, is_full};
use crate::node::Before;
use crate::plan::{Action, decide};
use crate::run::Run;
use backupengine_model::{Kind, Node};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Names of one folder.
pub(crate) type Job = Vec<Item>;

/// One name that is no folder.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) filling: Arc<Filling>,
    pub(crate) name: Vec<u8>,
    pub(crate) node: Node,
    pub(crate) role: Become,
}

/// What it is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Become {
    /// A file of its own.
    Alone,
    /// The first of several names of a file.
    First,
    /// A hard link to a name that is there.
    LinkTo(Place),
}

/// Why a name is not there.
enum Trouble {
    Failed(String),
    Full(io::Error),
    Stopped,
}

impl From<ContentError> for Trouble {
    fn from(error: ContentError) -> Self {
        match error {
            ContentError::Write(error) if is_full(&error) => Self::Full(error),
            ContentError::Stopped => Self::Stopped,
            other => Self::Failed(other.to_string()),
        }
    }
}

/// For calls that make names: only those say that the disk is full.
fn making(error: io::Error) -> Trouble {
    if is_full(&error) {
        Trouble::Full(error)
    } else {
        Trouble::Failed(format!("it cannot be made: {error}"))
    }
}

/// Whether a name is there now, as its node.
#[derive(PartialEq, Eq)]
enum Outcome {
    There,
    Skipped,
}

/// A planned item: what is there and what is to be done.
struct Planned {
    item: Item,
    existing: Option<Existing>,
    action: Action,
    target: Vec<u8>,
}

/// One writing thread with its buffers.
pub(crate) struct Writer<'a, 'r> {
    run: &'a Run<'r>,
    buffer: Vec<u8>,
    back: Vec<u8>,
}

impl<'a, 'r> Writer<'a, 'r> {
    pub(crate) fn new(run: &'a Run<'r>) -> Self {
        Self { run, buffer: Vec::new(), back: Vec::new() }
    }

    /// Makes the names of one job, and those that waited for them.
    pub(crate) fn work(&mut self, job: Job) {
        let mut next = vec![job];
        while let Some(job) = next.pop() {
            self.make_all(job, &mut next);
        }
    }

    fn make_all(&mut self, job: Job, next: &mut Vec<Job>) {
        let Some(first) = job.first() else { return };
        let folder = match self.run.target.folder(&first.filling.path) {
            Ok(folder) => folder,
            Err(error) => {
                for item in job {
                    let error = Trouble::Failed(format!("its folder cannot be opened: {error}"));
                    self.settle(item, Err(error), next);
                }
                return;
            }
        };
        let mut planned = Vec::with_capacity(job.len());
        for item in job {
            match self.plan(&folder, &item) {
                Ok((existing, action, target)) => planned.push(Planned { item, existing, action, target }),
                Err(trouble) => self.settle(item, Err(trouble), next),
            }
        }
        let writes = |p: &&Planned| {
            p.item.node.attributes.kind == Kind::File
                && p.item.node.attributes.size > 0
                && matches!(p.action, Action::Make | Action::Replace)
                && !matches!(p.item.role, Become::LinkTo(_))
        };
        let ids: Vec<_> = planned.iter().filter(writes).map(|p| p.item.node.id).collect();
        if !ids.is_empty() && !self.run.stopped() {
            self.run.content.will_read(&ids);
        }
        for Planned { item, existing, action, target } in planned {
            let result = if self.run.stopped() {
                Err(Trouble::Stopped)
            } else {
                self.make(&folder, &item, existing, action, &target)
            };
            self.settle(item, result, next);
        }
    }

    /// Looks at what is there and decides.
    fn plan(&self, folder: &Folder, item: &Item) -> Result<(Option<Existing>, Action, Vec<u8>), Trouble> {
        if self.run.stopped() {
            return Err(Trouble::Stopped);
        }
        check_shown(&item.name).map_err(Trouble::Failed)?;
        let existing = folder.look(&item.name).map_err(making)?;
        let mut target = Vec::new();
        if item.node.attributes.kind == Kind::Symlink {
            let read = self.run.tree.read_link(item.node.id);
            target = read
                .map_err(|error| Trouble::Failed(format!("its target cannot be read: {error}")))?
                .to_vec();
        }
        let same_target = existing.as_ref().is_some_and(|e| e.attributes.kind == Kind::Symlink)
            && folder.target(&item.name).is_ok_and(|there| there == target);
        let action = decide(self.run.config.overwrite, &item.node.attributes, existing.as_ref(), same_target);
        Ok((existing, action, target))
    }

    /// Tells what came of an item, serves the names that waited for it, and lets go of its folder.
    fn settle(&self, item: Item, result: Result<Outcome, Trouble>, next: &mut Vec<Job>) {
        let there = matches!(result, Ok(Outcome::There));
        let shown = item.filling.shown(self.run, &item.name);
        match result {
            Ok(_) => self.run.progress(&shown),
            Err(Trouble::Failed(message)) => self.run.fail(shown, message),
            Err(Trouble::Full(source)) => self.run.end(RestoreError::Full { path: shown, source }),
            Err(Trouble::Stopped) => {}
        }
        let Item { filling, name, node, role } = item;
        if role == Become::First && there {
            let place = Place { folder: filling.path.clone(), name };
            let waited = self.run.links.written(node.inode, place.clone());
            next.extend(waited.into_iter().map(|w| vec![Item { role: Become::LinkTo(place.clone()), ..w }]));
        } else if role == Become::First {
            next.extend(self.run.links.failed(node.inode).map(|w| vec![Item { role: Become::First, ..w }]));
        }
        release(self.run, filling);
    }

    fn make(
        &mut self,
        folder: &Folder,
        item: &Item,
        existing: Option<Existing>,
        action: Action,
        target: &[u8],
    ) -> Result<Outcome, Trouble> {
        if let Become::LinkTo(place) = &item.role {
            return self.link(folder, item, existing, place, action, target);
        }
        match (action, existing) {
            (Action::Skip, _) => {
                self.run.count(|stats| stats.files_skipped += 1);
                Ok(Outcome::Skipped)
            }
            (Action::Keep, Some(existing)) if self.is_equal(folder, item)? => {
                self.keep(folder, item, existing)?;
                Ok(Outcome::There)
            }
            _ => self.fresh(folder, item, target).map(|()| Outcome::There),
        }
    }

    /// With `verify`, whether a file that looks the same is the same.
    fn is_equal(&mut self, folder: &Folder, item: &Item) -> Result<bool, Trouble> {
        if !self.run.config.verify || item.node.attributes.kind != Kind::File {
            return Ok(true);
        }
        let opened = folder.open_file(&item.name);
        let file = opened.map_err(|error| Trouble::Failed(format!("it cannot be read back: {error}")))?;
        match self.compare(item, &file) {
            Ok(()) => Ok(true),
            Err(ContentError::Differs(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn compare(&mut self, item: &Item, file: &crate::meta::NewFile) -> Result<(), ContentError> {
        let (run, shown) = (self.run, item.filling.shown(self.run, &item.name));
        let tick = |bytes: u64| {
            run.count(|stats| stats.bytes_verified += bytes);
            run.progress(&shown);
            !run.stopped()
        };
        let content = Content { reader: run.content, node: &item.node, file, sparse: false, tick: &tick };
        content.compare(&mut self.buffer, &mut self.back)
    }

    /// Puts the attributes of something right that is there already.
    fn keep(&self, folder: &Folder, item: &Item, existing: Existing) -> Result<(), Trouble> {
        let attributes = &item.node.attributes;
        self.run.count(|stats| {
            stats.files_unchanged += 1;
            stats.bytes_unchanged += if attributes.kind == Kind::File { attributes.size } else { 0 };
        });
        let object = folder.object(&item.name);
        let object =
            object.map_err(|error| Trouble::Failed(format!("its attributes cannot be set: {error}")))?;
        self.report(item, self.run.dress(&object, &item.node, &Before::There(existing)));
        Ok(())
    }

    /// The name is there, but not in every way as it should be.
    fn report(&self, item: &Item, troubles: Vec<String>) {
        if !troubles.is_empty() {
            self.run.fail(item.filling.shown(self.run, &item.name), troubles.join("; "));
        }
    }

    /// Makes it under its temporary name and puts it in its place.
    fn fresh(&mut self, folder: &Folder, item: &Item, target: &[u8]) -> Result<(), Trouble> {
        let temporary = temporary(&item.node);
        let made = self.build(folder, item, &temporary, target);
        let put = made.and_then(|troubles| {
            folder.put(&temporary, &item.name).map_err(making)?;
            Ok(troubles)
        });
        match put {
            Ok(troubles) => {
                self.report(item, troubles);
                Ok(())
            }
            Err(trouble) => {
                // Nothing is there where making it failed.
                drop(folder.remove(&temporary));
                Err(trouble)
            }
        }
    }

    fn build(
        &mut self,
        folder: &Folder,
        item: &Item,
        temporary: &[u8],
        target: &[u8],
    ) -> Result<Vec<String>, Trouble> {
        let (run, node) = (self.run, &item.node);
        let before = Before::Fresh { inherits: folder.hands_down_acl() };
        if node.attributes.kind == Kind::File {
            let file = folder.make_file(temporary).map_err(making)?;
            self.fill(item, &file)?;
            run.count(|stats| stats.files_written += 1);
            return Ok(run.dress(&file.into_object(), node, &before));
        }
        match node.attributes.kind {
            Kind::Symlink => folder.make_link(temporary, target),
            kind => folder.make_special(temporary, kind, node.attributes.rdev),
        }
        .map_err(making)?;
        let object = folder.object(temporary).map_err(making)?;
        run.count(|stats| stats.specials += 1);
        Ok(run.dress(&object, node, &before))
    }

    /// Writes the bytes of a new file.
    fn fill(&mut self, item: &Item, file: &crate::meta::NewFile) -> Result<(), Trouble> {
        let (run, shown) = (self.run, item.filling.shown(self.run, &item.name));
        let tick = |bytes: u64| {
            run.count(|stats| stats.bytes_written += bytes);
            // Small files are told of when they are there.
            if item.node.attributes.size > 1 << 20 {
                run.progress(&shown);
            }
            !run.stopped()
        };
        let content =
            Content { reader: run.content, node: &item.node, file, sparse: run.config.sparse, tick: &tick };
        let helpers = if content.is_shared() { run.helpers.swap(0, Relaxed) } else { 0 };
        let written = content.write(&mut self.buffer, helpers);
        run.helpers.fetch_add(helpers, Relaxed);
        written?;
        if run.config.verify {
            self.compare(item, file)?;
        }
        Ok(())
    }

    /// Makes a further name of a file that is there.
    fn link(
        &mut self,
        folder: &Folder,
        item: &Item,
        existing: Option<Existing>,
        place: &Place,
        action: Action,
        target: &[u8],
    ) -> Result<Outcome, Trouble> {
        let first = self.run.target.folder(&place.folder).map_err(making)?;
        let inode = first.look(&place.name).map_err(making)?.map(|there| (there.device, there.inode));
        if existing.as_ref().is_some_and(|there| Some((there.device, there.inode)) == inode) {
            self.run.count(|stats| stats.files_unchanged += 1);
            return Ok(Outcome::There);
        }
        if action == Action::Skip {
            self.run.count(|stats| stats.files_skipped += 1);
            return Ok(Outcome::Skipped);
        }
        let temporary = temporary(&item.node);
        if let Err(error) = folder.make_hard_link(&temporary, &first, &place.name) {
            if is_full(&error) {
                return Err(Trouble::Full(error));
            }
            self.fresh(folder, item, target)?;
            self.report(item, vec![format!("it is a copy, because it cannot be a hard link: {error}")]);
            return Ok(Outcome::There);
        }
        if let Err(error) = folder.put(&temporary, &item.name) {
            drop(folder.remove(&temporary));
            return Err(making(error));
        }
        self.run.count(|stats| stats.hard_links += 1);
        Ok(Outcome::There)
    }
}

/// The name under which a node is made. The same in every run, so that a later one finds what was left.
fn temporary(node: &Node) -> Vec<u8> {
    format!(".backupengine-restore.{}.{:08x}", node.id.session, node.id.place).into_bytes()
}
