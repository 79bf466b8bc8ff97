//! Runs one push from its first question to its commit.
//!
//! **What it is.** What is asked before the stages run and while they do, side by side where neither needs the other's
//! answer; and what is kept on this device afterwards.
//! **What it may not do.** Decide about nodes or bytes.
//! **What always holds.** The root is written only after every stage ended well and every pack is durable. What a snapshot
//! builds on was in the list when its session was opened.
//! **Where it is tested.** In the tests of whole pushes.
use crate::beside;
use crate::budget::Budget;
use crate::claim::{Claim, Claims};
use crate::config::{BYTES_IN_FLIGHT, Device, PushConfig};
use crate::dedup::{Dedup, footers};
use crate::error::PushError;
use crate::finish::{self, Chain, Facts, Made, sources};
use crate::lost::Lost;
use crate::mark;
use crate::parent::{self, ParentStream, same_sources};
use crate::session::{self, Opening, Session, StateLock};
use crate::shared::Shared;
use crate::side_file::{self, SideWriter};
use crate::signals::Tally;
use crate::stages::{Assembled, Base, Staged};
use crate::stats::{Observer, Progress};
use crate::walk::Walk;
use crate::{PushReport, Random};
use backupengine_chunk::{ChunkParams, Chunker};
use backupengine_model::ledger::SessionRecord;
use backupengine_model::{Attributes, Class, NodeFlags, SessionNo, SnapshotInfo};
use backupengine_source::Walker;
use backupengine_store::Writable;
use backupengine_vault::{Root, Vault};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

/// What every part of a push is given.
pub(crate) struct Run<'a> {
    pub(crate) vault: &'a Vault,
    pub(crate) store: &'a dyn Writable,
    pub(crate) device: &'a Device,
    pub(crate) config: &'a PushConfig,
    pub(crate) random: Random<'a>,
    pub(crate) stop: &'a AtomicBool,
    pub(crate) observer: &'a dyn Observer,
}

/// What an attempt begins with.
struct Begin<'b> {
    /// This device's state is ours alone to change.
    may_write: bool,
    claims: &'b Claims,
    broken_off: &'b [SessionRecord],
    /// Where it is open already.
    session: Option<Session>,
    /// Whether the vault was held against what was seen of it before.
    is_believed: bool,
}

/// How an attempt ended.
enum Attempt {
    /// With a snapshot.
    Made(Box<PushReport>),
    /// The list of snapshots moved until this session was opened: what to build on is chosen again.
    Moved(Session),
}

impl Run<'_> {
    pub(crate) fn side_folder(&self) -> PathBuf {
        self.config.state.join(format!("side-{}", self.vault.keyring().vault()))
    }

    /// The snapshot to build on, and its root.
    fn parent(&self, list: &[SnapshotInfo]) -> Option<(SnapshotInfo, Arc<Root>)> {
        let info = parent::choose(list, self.device.key.id(), &sources(self.config))?;
        match self.vault.root(info.session) {
            Ok(root) => Some((info.clone(), root)),
            Err(error) => {
                tracing::warn!(session = %info.session, %error, "the last snapshot does not read; everything is read again");
                None
            }
        }
    }

    /// Whether a question costs so much that several are worth their threads. Where it does not, they go out one after the
    /// other, always in the same order.
    pub(crate) fn is_far(&self) -> bool {
        self.store.grid() > 1
    }

    /// Reads the parent's first pages, which the walk compares with first. What goes wrong shows when they are read for good.
    fn warm(&self, parent: Option<&(SnapshotInfo, Arc<Root>)>) {
        let Some((info, _)) = parent.filter(|_| self.is_far()) else { return };
        let classes = [Class::Directory, Class::Other];
        beside::each(classes.len(), &classes, |class| ParentStream::warm(self.vault, info.session, *class));
    }

    /// Does two things at once, where the store is far.
    fn beside<A: Send, B>(
        &self,
        one: impl FnOnce() -> A + Send,
        other: impl FnOnce() -> B,
    ) -> Result<(A, B), PushError> {
        if !self.is_far() {
            return Ok((one(), other()));
        }
        thread::scope(|scope| {
            let one = scope.spawn(one);
            let other = other();
            let one = one.join().map_err(|_| PushError::Broken("a thread"))?;
            Ok((one, other))
        })
    }

    fn lost(&self) -> Lost {
        Lost::load(&self.config.state, self.vault.keyring().vault())
    }

    fn shared<'s>(&'s self, dedup: Option<&'s Dedup<'s>>) -> Shared<'s> {
        let keyring = self.vault.keyring();
        Shared {
            ids: keyring.content_ids(),
            chunker: Chunker::new(ChunkParams::DEFAULT, &keyring.gear()),
            dedup,
            progress: Progress::new(self.observer),
            tally: Tally::default(),
            lost: self.lost(),
            stop: self.stop,
            broken: AtomicBool::new(false),
        }
    }

    pub(crate) fn streams(&self, parent: Option<SessionNo>) -> [ParentStream; 2] {
        let folder = self.side_folder();
        [Class::Directory, Class::Other].map(|class| ParentStream::open(self.vault, parent, class, &folder))
    }

    /// Looks and counts, stores nothing.
    pub(crate) fn dry(&self) -> Result<PushReport, PushError> {
        let walker = Walker::start(self.config.walk.clone())?;
        let list = self.vault.list()?;
        let parent = self.parent(&list).map(|(info, _)| info.session);
        let shared = self.shared(None);
        let budget = Budget::new(BYTES_IN_FLIGHT);
        Walk::new(&shared, None, budget, self.streams(parent), None).run(walker)?;
        let (stats, notices) = (shared.progress.stats(), shared.progress.take_notices());
        let (signals, held) = (Vec::new(), None);
        Ok(PushReport { snapshot: None, record: None, root: None, stats, notices, signals, held })
    }

    /// Pushes.
    pub(crate) fn push(&self) -> Result<PushReport, PushError> {
        let mut walker = Walker::start(self.config.walk.clone())?;
        let vault = self.vault.keyring().vault();
        let lock = StateLock::take(&self.config.state.join(format!("push-{vault}.lock")));
        let device = self.device.key.id();
        let claims = Claims::new(&self.config.state, vault);
        let mut broken_off = Vec::new();
        // What an earlier push left is written on, or committed: not in a vault that is not believed. A near one answers at
        // once.
        let mut is_believed = !self.is_far() || !claims.are_none();
        if is_believed && !self.observer.believes() {
            return Err(PushError::NotBelieved);
        }
        let may_write = lock.is_held();
        if may_write {
            broken_off = session::broken_off(self.vault, self.store, &claims)?;
            if session::complete(self.vault, self.store, device, self.random, &claims, &broken_off)? {
                broken_off = session::sessions(self.vault, self.store)?;
            }
        }
        let mut session = None;
        loop {
            let list = self.vault.list()?;
            let (claims, broken_off) = (&claims, &broken_off[..]);
            match self.attempt(
                walker,
                &list,
                Begin { may_write, claims, broken_off, session, is_believed },
            )? {
                Attempt::Made(report) => return Ok(*report),
                Attempt::Moved(opened) => session = Some(Session { list_version: None, ..opened }),
            }
            is_believed = true;
            walker = Walker::start(self.config.walk.clone())?;
        }
    }

    /// Pushes on top of what this list shows.
    fn attempt(&self, walker: Walker, list: &[SnapshotInfo], begin: Begin<'_>) -> Result<Attempt, PushError> {
        let Begin { may_write, claims, broken_off, session, is_believed } = begin;
        let (version, device) = (self.vault.list_version(), self.device.key.id());
        // Without a parent every file is looked up by its content, and for that the sessions are asked for.
        let list_too = self.is_far() && parent::choose(list, device, &sources(self.config)).is_none();
        let how = (may_write, list_too);
        let open = || session::begin(self.vault, self.store, device, how, claims, broken_off);
        thread::scope(|scope| {
            let far = (session.is_none() && self.is_far()).then(|| Opening::UnderWay(scope.spawn(open)));
            let parent = self.parent(list).inspect(|parent| self.warm(Some(parent)));
            let opening = match (session, far) {
                (Some(session), _) => Opening::Open(session),
                // The first files are read while it is opened.
                (None, Some(far)) if broken_off.is_empty() => far,
                (None, Some(far)) => Opening::Open(far.wait()?),
                (None, None) => Opening::Open(open()?),
            };
            let dedup = self.dedup(may_write);
            let opening = match opening {
                Opening::Open(session) if session.is_newer_than(version) => {
                    return Ok(Attempt::Moved(session));
                }
                Opening::Open(session) => {
                    let insert =
                        |places: Vec<_>| places.into_iter().for_each(|(key, place)| dedup.insert(key, place));
                    if !footers::contents_of(self.vault, session.number, &session.packs, self.stop, insert)? {
                        return Err(PushError::Interrupted);
                    }
                    Opening::Open(session)
                }
                under_way @ Opening::UnderWay(_) => under_way,
            };
            let shared = self.shared(Some(&dedup));
            // The roots it chains to are needed at the end only. The newest of them is what a vault is believed by.
            let chain = || {
                if !is_believed && !self.observer.believes() {
                    shared.give_up();
                    return Err(PushError::NotBelieved);
                }
                Ok(Chain::now(self.vault, list, device))
            };
            let root = walker.root().attributes.clone();
            let base = Base { parent: parent.as_ref(), version, opening };
            let (chain, staged) = self.beside(chain, || self.stages(&shared, &dedup, walker, base))?;
            let (chain, staged) = (chain?, staged?);
            let assembled = match staged {
                Staged::Made(assembled) => *assembled,
                Staged::Moved(session) => return Ok(Attempt::Moved(session)),
            };
            shared.go_on()?;
            let signals = shared.tally.judge();
            let held = mark::before(list, device, &sources(self.config)).filter(|_| !signals.is_empty());
            let marked = (!signals.is_empty(), held.map(|info| info.session));
            let (made, claim) =
                self.end(assembled, root, chain, marked, parent.as_ref().map(|(info, _)| info), may_write)?;
            shared.progress.count.bytes_stored.add(made.record.root_size);
            let (stats, notices) = (shared.progress.stats(), shared.progress.take_notices());
            drop(shared);
            dedup.keep();
            claim.into_iter().for_each(Claim::end);
            Ok(Attempt::Made(Box::new(PushReport {
                snapshot: Some((made.record.session, made.record.id)),
                record: Some(made.record),
                root: Some(made.root),
                stats,
                notices,
                signals,
                held: held.map(|info| info.id),
            })))
        })
    }

    /// Root and commit, and what is kept of them on this device.
    fn end(
        &self,
        assembled: Assembled<'_>,
        root: Attributes,
        chain: Chain,
        (suspicious, hold): (bool, Option<SessionNo>),
        parent: Option<&SnapshotInfo>,
        may_sweep: bool,
    ) -> Result<(Made, Option<Claim>), PushError> {
        let Assembled { session, mut tree, xattrs, packs, bytes, rest } = assembled;
        let sides = std::mem::take(&mut tree.sides);
        let attributes = Attributes { flags: NodeFlags::default(), allocated: None, ..root };
        let bytes = session.bytes + bytes;
        let facts = Facts { attributes, xattrs, chain, packs, bytes, suspicious, hold };
        let keep = Arc::clone(&rest.0.keep);
        let made = match finish::finish(self.vault, self.device, self.config, rest, tree, facts) {
            Err(error @ (PushError::Healed { .. } | PushError::Gone { .. })) => {
                // Going on with this session would refer to the same again.
                session.claim.into_iter().for_each(Claim::end);
                return Err(error);
            }
            made => made?,
        };
        self.keep_state(sides, parent, may_sweep);
        if may_sweep {
            keep.sweep();
        }
        Ok((made, session.claim))
    }

    fn dedup(&self, may_write: bool) -> Dedup<'_> {
        let folder = self.config.state.join(format!("dedup-{}", self.vault.keyring().vault()));
        let ask = Box::new(|| self.vault.ask(self.store.sessions()));
        Dedup::new(folder, self.vault, ask, may_write, self.stop).without(self.lost())
    }

    /// The snapshot to build on, if it is one of this device's and of these sources.
    pub(crate) fn predecessor<'i>(&self, parent: Option<&'i SnapshotInfo>) -> Option<&'i SnapshotInfo> {
        let own = parent.filter(|info| info.device == self.device.key.id());
        own.filter(|info| same_sources(&info.sources, &sources(self.config)))
    }

    /// Gives the side files their names and removes what they replace.
    fn keep_state(&self, sides: Vec<SideWriter>, parent: Option<&SnapshotInfo>, may_sweep: bool) {
        let replaced = self.predecessor(parent).map(|info| info.session);
        let kept = sides.into_iter().try_for_each(SideWriter::finish);
        let swept = || side_file::sweep(Path::new(&self.side_folder()), replaced);
        if let Err(error) = kept.and_then(|()| if may_sweep { swept() } else { Ok(()) }) {
            tracing::warn!(%error, "the side file could not be kept; files may be read again");
        }
    }
}
