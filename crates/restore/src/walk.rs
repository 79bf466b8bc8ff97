//! Walks the snapshot from above, makes its folders, and hands everything else to the writers.
//!
//! May not write files. What always holds: the files of a folder go before its sub-folders, as they were
//! pushed; what waits is bounded by the depth of the tree, not by its size. Tested in `tests`.

use crate::folder::{Filling, check_shown, release};
use crate::links::Role;
use crate::plan::Landing;
use crate::run::Run;
use crate::write::{Become, Item, Job};
use backupengine_model::{DirPage, DirSlot, Kind, Node, NodeId};
use crossbeam_channel::Sender;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

/// Slots asked for at once.
const PAGE: usize = 256;

/// A job ends at so many names, or at so many bytes of files.
const JOB_ITEMS: usize = 64;
const JOB_BYTES: u64 = 8 << 20;

/// So many files at once are said to be needed soon: many small hints would mean many small requests.
const SOON: usize = 512;

/// A folder whose sub-folders are walked.
struct Level {
    filling: Arc<Filling>,
    id: NodeId,
    /// Sub-folders that are made and wait.
    todo: VecDeque<(Arc<Filling>, NodeId)>,
    /// Where the listing goes on, for sub-folders only.
    more: Option<u64>,
}

/// Walks one selection.
pub(crate) fn walk(run: &Run<'_>, landing: &Landing, target: &Arc<Filling>, jobs: &Sender<Job>) {
    let walk = Walk { run, landing, jobs, soon: RefCell::default() };
    let mut at = Arc::clone(target);
    for (name, node) in &landing.above {
        let entered = walk.enter(&at, name, node, true);
        release(run, at);
        match entered {
            Some(next) => at = next,
            None => return,
        }
    }
    match &landing.name {
        None => walk.below(at, landing.node.id),
        Some(name) if landing.node.attributes.kind == Kind::Directory => {
            let leads = landing.leads(&at.path.child(name));
            let entered = walk.enter(&at, name, &landing.node, leads);
            release(run, at);
            if let Some(filling) = entered {
                walk.below(filling, landing.node.id);
            }
        }
        Some(name) => {
            let slot = DirSlot { name: name.clone(), node: landing.node.clone() };
            walk.send_others(&at, vec![slot]);
            release(run, at);
        }
    }
}

struct Walk<'a, 'r> {
    run: &'a Run<'r>,
    landing: &'a Landing,
    jobs: &'a Sender<Job>,
    /// Files handed to the writers that nobody was told of yet.
    soon: RefCell<Vec<NodeId>>,
}

impl Walk<'_, '_> {
    /// Makes one folder.
    fn enter(&self, at: &Arc<Filling>, name: &[u8], node: &Node, leads: bool) -> Option<Arc<Filling>> {
        let entered = check_shown(name).and_then(|()| {
            let here = self.run.target.folder(&at.path);
            let here = here.map_err(|error| format!("its folder cannot be opened: {error}"))?;
            at.enter(self.run, &here, name, node, leads)
        });
        entered.map_err(|message| self.run.fail(at.shown(self.run, name), message)).ok()
    }

    /// Everything below a folder.
    fn below(&self, filling: Arc<Filling>, id: NodeId) {
        let mut stack = vec![self.open(filling, id)];
        while let Some(level) = stack.last_mut() {
            if self.run.stopped() {
                level.todo.drain(..).for_each(|(filling, _)| release(self.run, filling));
                level.more = None;
            }
            if let Some((filling, id)) = level.todo.pop_front() {
                stack.push(self.open(filling, id));
            } else if let Some(from) = level.more.take() {
                self.list_folders(level, from);
            } else if let Some(done) = stack.pop() {
                release(self.run, done.filling);
            }
        }
    }

    /// Lists a folder: all its files, and its sub-folders if it is small.
    fn open(&self, filling: Arc<Filling>, id: NodeId) -> Level {
        let mut level = Level { filling, id, todo: VecDeque::new(), more: None };
        let mut from = 0;
        while let Some(page) = self.page(&level, from) {
            let (first, read) = (from == 0, page.slots.len() as u64);
            let (folders, others): (Vec<_>, Vec<_>) =
                page.slots.into_iter().partition(|slot| slot.node.attributes.kind == Kind::Directory);
            if first && page.end {
                self.make_folders(&mut level, folders);
            } else if first {
                level.more = Some(0);
            }
            self.send_others(&level.filling, others);
            from += read;
            if page.end || self.run.stopped() {
                break;
            }
        }
        level
    }

    /// The next sub-folders of a large folder. They come before everything else in its order.
    fn list_folders(&self, level: &mut Level, from: u64) {
        let Some(page) = self.page(level, from) else { return };
        let read = page.slots.len();
        let mut folders = page.slots;
        folders.retain(|slot| slot.node.attributes.kind == Kind::Directory);
        if folders.len() == read && !page.end {
            level.more = Some(from + read as u64);
        }
        self.make_folders(level, folders);
    }

    fn page(&self, level: &Level, from: u64) -> Option<DirPage> {
        let shown = || level.filling.shown(self.run, b"");
        match self.run.tree.list(level.id, from, PAGE) {
            Ok(page) if page.slots.is_empty() && !page.end => {
                self.run.fail(shown(), "its listing breaks off; what follows is not restored");
                None
            }
            Ok(page) => Some(page),
            Err(error) => {
                self.run.fail(shown(), format!("its listing cannot be read: {error}"));
                None
            }
        }
    }

    fn make_folders(&self, level: &mut Level, folders: Vec<DirSlot>) {
        if folders.is_empty() {
            return;
        }
        let here = match self.run.target.folder(&level.filling.path) {
            Ok(here) => here,
            Err(error) => {
                let shown = level.filling.shown(self.run, b"");
                return self
                    .run
                    .fail(shown, format!("it cannot be opened; its folders are not restored: {error}"));
            }
        };
        for slot in folders {
            let entered = check_shown(&slot.name).and_then(|()| {
                let leads = self.landing.leads(&level.filling.path.child(&slot.name));
                level.filling.enter(self.run, &here, &slot.name, &slot.node, leads)
            });
            match entered {
                Ok(filling) => level.todo.push_back((filling, slot.node.id)),
                Err(message) => self.run.fail(level.filling.shown(self.run, &slot.name), message),
            }
        }
    }

    /// Hands what is no folder to the writers.
    fn send_others(&self, filling: &Arc<Filling>, others: Vec<DirSlot>) {
        let (mut items, mut bytes) = (Vec::new(), 0u64);
        for slot in others {
            let size = if slot.node.attributes.kind == Kind::File { slot.node.attributes.size } else { 0 };
            let item =
                Item { filling: Arc::clone(filling), name: slot.name, node: slot.node, role: Become::Alone };
            let Some(item) = self.cast(item) else { continue };
            items.push(item);
            bytes = bytes.saturating_add(size);
            if items.len() >= JOB_ITEMS || bytes >= JOB_BYTES {
                self.send(std::mem::take(&mut items));
                bytes = 0;
            }
        }
        self.send(items);
    }

    /// Finds the role of a name of a hard-linked file.
    fn cast(&self, item: Item) -> Option<Item> {
        let (inode, nlink) = (item.node.inode, item.node.attributes.nlink);
        if nlink <= 1 {
            return Some(item);
        }
        match self.run.links.meet(inode, nlink, item) {
            Role::First(item) => Some(Item { role: Become::First, ..item }),
            Role::LinkTo(place, item) => Some(Item { role: Become::LinkTo(place), ..item }),
            Role::Later => None,
        }
    }

    fn send(&self, items: Vec<Item>) {
        if items.is_empty() {
            return;
        }
        let read =
            |item: &&Item| item.node.attributes.kind == Kind::File && !matches!(item.role, Become::LinkTo(_));
        let mut soon = self.soon.borrow_mut();
        soon.extend(items.iter().filter(read).map(|item| item.node.id));
        if soon.len() >= SOON {
            self.run.content.will_need(&std::mem::take(&mut *soon));
        }
        drop(soon);
        // No writer is left only if all of them panicked; the scope passes the panic on.
        if let Err(unsent) = self.jobs.send(items) {
            unsent.into_inner().into_iter().for_each(|item| release(self.run, item.filling));
        }
    }
}
