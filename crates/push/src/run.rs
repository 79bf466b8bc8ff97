//! Wires the stages of one push together and runs them.
//!
//! **What it is.** The walk on the calling thread; readers, the assembler and the threads that put beside it;
//! bounded queues between them. What is asked before goes out side by side where neither needs the other's answer.
//! **What it may not do.** Decide about nodes or bytes.
//! **What always holds.** The root is written only after every stage ended well and every pack is durable.
//! **Where it is tested.** In the tests of whole pushes.
use crate::assemble::Assembler;
use crate::beside;
use crate::budget::Budget;
use crate::claim::Claims;
use crate::config::{BYTES_IN_FLIGHT, Device, PushConfig, READERS_MIN};
use crate::dedup::{Dedup, footers};
use crate::error::PushError;
use crate::finish::{self, Chain, Facts, sources};
use crate::kept::Keep;
use crate::lost::Lost;
use crate::mark;
use crate::packer::{PackSource, Packer};
use crate::parent::{self, ParentStream, same_sources};
use crate::putting::{Putting, at_once};
use crate::reader;
use crate::session::{self, StateLock};
use crate::shared::Shared;
use crate::side_file::{self, SideWriter};
use crate::signals::{Tally, Watch};
use crate::stats::{Observer, Progress};
use crate::tree::{FinishedTree, TreeWriter};
use crate::waiting::finish_xattrs;
use crate::walk::{Outlets, Walk};
use crate::{PushReport, Random};
use backupengine_chunk::{ChunkParams, Chunker};
use backupengine_format::page::Xattr;
use backupengine_model::{Attributes, Class, NodeFlags, SessionNo, SnapshotInfo};
use backupengine_seal::Role;
use backupengine_source::{Entry, Walker};
use backupengine_store::Writable;
use backupengine_vault::{Root, Vault};
use crossbeam_channel::{bounded, unbounded};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, ScopedJoinHandle};

/// Events between the walk and the assembler: with groups of up to 256 nodes.
const EVENTS: usize = 64;

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

/// What the assembler leaves behind.
struct Assembled<'a> {
    tree: FinishedTree,
    xattrs: Arc<[Xattr]>,
    packs: u32,
    bytes: u64,
    rest: (PackSource<'a>, crate::sealer::Sealer),
}

impl Run<'_> {
    fn side_folder(&self) -> PathBuf {
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
    fn is_far(&self) -> bool {
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

    fn shared<'s>(&'s self, dedup: Option<&'s Dedup<'s>>, session: SessionNo) -> Shared<'s> {
        let keyring = self.vault.keyring();
        Shared {
            ids: keyring.content_ids(),
            chunker: Chunker::new(ChunkParams::DEFAULT, &keyring.gear()),
            dedup,
            progress: Progress::new(self.observer),
            tally: Tally::default(),
            session,
            lost: self.lost(),
            stop: self.stop,
            broken: AtomicBool::new(false),
        }
    }

    fn streams(&self, parent: Option<SessionNo>) -> [ParentStream; 2] {
        let folder = self.side_folder();
        [Class::Directory, Class::Other].map(|class| ParentStream::open(self.vault, parent, class, &folder))
    }

    /// Looks and counts, stores nothing.
    pub(crate) fn dry(&self) -> Result<PushReport, PushError> {
        let walker = Walker::start(self.config.walk.clone())?;
        let list = self.vault.list()?;
        let parent = self.parent(&list).map(|(info, _)| info.session);
        let shared = self.shared(None, SessionNo(0));
        let budget = Budget::new(BYTES_IN_FLIGHT);
        Walk::new(&shared, None, budget, self.streams(parent), None).run(walker)?;
        let (stats, notices) = (shared.progress.stats(), shared.progress.take_notices());
        let (signals, held) = (Vec::new(), None);
        Ok(PushReport { snapshot: None, record: None, root: None, stats, notices, signals, held })
    }

    /// Pushes.
    pub(crate) fn push(&self) -> Result<PushReport, PushError> {
        let walker = Walker::start(self.config.walk.clone())?;
        let vault = self.vault.keyring().vault();
        let lock = StateLock::take(&self.config.state.join(format!("push-{vault}.lock")));
        let device = self.device.key.id();
        let claims = Claims::new(&self.config.state, vault);
        let mut broken_off = Vec::new();
        // What an earlier push left is written on, or committed: not in a vault that is not believed. A near one answers at
        // once.
        let asks_first = !self.is_far() || !claims.are_none();
        if asks_first && !self.observer.believes() {
            return Err(PushError::NotBelieved);
        }
        if lock.is_held() {
            broken_off = session::broken_off(self.vault, self.store, &claims)?;
            if session::complete(self.vault, self.store, device, self.random, &claims, &broken_off)? {
                broken_off = session::sessions(self.vault, self.store)?;
            }
        }
        let mut list = self.vault.list()?;
        let look = || self.parent(&list).inspect(|parent| self.warm(Some(parent)));
        let begin = || session::begin(self.vault, self.store, device, lock.is_held(), &claims, &broken_off);
        let (parent, session) = self.beside(look, begin)?;
        let (mut parent, session) = (parent, session?);
        if session.list_version.is_some_and(|at| Some(at) != self.vault.list_version()) {
            // What was retired before the session was opened is not looked at when it is committed: the parent must have
            // been there then.
            list = self.vault.list()?;
            parent = self.parent(&list);
        }
        let folder = self.config.state.join(format!("dedup-{vault}"));
        let ask = Box::new(|| self.vault.ask(self.store.sessions()));
        let dedup = Dedup::new(folder, self.vault, ask, session.number, lock.is_held(), self.stop);
        let dedup = dedup.without(self.lost());
        let insert = |places: Vec<_>| places.into_iter().for_each(|(key, place)| dedup.insert(key, place));
        if !footers::contents_of(self.vault, session.number, &session.packs, self.stop, insert)? {
            return Err(PushError::Interrupted);
        }
        let shared = self.shared(Some(&dedup), session.number);
        let root = walker.root().clone();
        let keep = Keep::new(&self.config.state, vault, session.number);
        let into = (session.next, &keep);
        // The roots it chains to are needed at the end only. The newest of them is what a vault is believed by.
        let chain = || {
            if !asks_first && !self.observer.believes() {
                shared.give_up();
                return Err(PushError::NotBelieved);
            }
            Ok(Chain::now(self.vault, &list, device))
        };
        let stages = || self.stages(&shared, &dedup, walker, &root, parent.as_ref(), into);
        let (chain, assembled) = self.beside(chain, stages)?;
        let (chain, assembled) = (chain?, assembled?);
        let Assembled { mut tree, xattrs, packs, bytes, rest } = assembled;
        let sides = std::mem::take(&mut tree.sides);
        let attributes = Attributes { flags: NodeFlags::default(), allocated: None, ..root.attributes };
        let signals = shared.tally.judge();
        let suspicious = !signals.is_empty();
        let held = mark::before(&list, device, &sources(self.config)).filter(|_| suspicious);
        let hold = held.map(|info| info.session);
        let held = held.map(|info| info.id);
        let bytes = session.bytes + bytes;
        let facts = Facts { attributes, xattrs, chain, packs, bytes, suspicious, hold };
        shared.go_on()?;
        let made = match finish::finish(self.vault, self.device, self.config, rest, tree, facts) {
            Err(error @ (PushError::Healed { .. } | PushError::Gone { .. })) => {
                // Going on with this session would refer to the same again.
                if let Some(claim) = session.claim {
                    claim.end();
                }
                return Err(error);
            }
            made => made?,
        };
        shared.progress.count.bytes_stored.add(made.record.root_size);
        self.keep_state(sides, parent.as_ref().map(|(info, _)| info), lock.is_held());
        if lock.is_held() {
            keep.sweep();
        }
        let (stats, notices) = (shared.progress.stats(), shared.progress.take_notices());
        drop(shared);
        dedup.keep();
        if let Some(claim) = session.claim {
            claim.end();
        }
        let snapshot = Some((session.number, made.record.id));
        let (record, root) = (Some(made.record), Some(made.root));
        Ok(PushReport { snapshot, record, root, stats, notices, signals, held })
    }

    fn stages<'s>(
        &'s self,
        shared: &'s Shared<'s>,
        dedup: &'s Dedup<'s>,
        walker: Walker,
        root: &Entry,
        parent: Option<&'s (SnapshotInfo, Arc<Root>)>,
        (next, keep): (u32, &'s Keep),
    ) -> Result<Assembled<'s>, PushError> {
        let threads = match self.config.threads {
            0 => thread::available_parallelism().map_or(2, usize::from),
            n => n,
        };
        let (events, arriving) = bounded(EVENTS);
        let (urgent, urgent_jobs) = unbounded();
        let (reads, read_jobs) = unbounded();
        let (put, to_put) = bounded(1);
        let session = shared.session;
        let streams = self.streams(parent.map(|(info, _)| info.session));
        let sides = [Class::Directory, Class::Other].map(|class| self.side_writer(session, class));
        let putting = Putting::new(self.vault, self.store, shared);
        let assembled = thread::scope(|scope| {
            for _ in 0..threads.max(READERS_MIN) {
                let (urgent, reads) = (urgent_jobs.clone(), read_jobs.clone());
                scope.spawn(move || reader::work(shared, &urgent, &reads));
            }
            drop((urgent_jobs, read_jobs));
            let threads_that_put: Vec<_> = (0..at_once(self.store.grid()))
                .map(|_| (to_put.clone(), &putting))
                .map(|(to_put, putting)| scope.spawn(move || putting.work(to_put)))
                .collect();
            drop(to_put);
            let outlets = Outlets { events, urgent: urgent.clone(), reads };
            let assembling = scope.spawn(move || {
                let tree = TreeWriter::new(shared, self.vault, parent.map(|(_, root)| &**root), sides);
                let (store, random) = (self.store, self.random);
                let source = PackSource { store, keyring: self.vault.keyring(), session, random, keep };
                let apart = self.device.certificate.role == Role::Writer;
                let packer = Packer::new(source, &shared.progress, put, next, apart);
                let mut assembler = Assembler::new(shared, dedup, urgent, packer, tree);
                let done = assemble(&mut assembler, root, &arriving);
                let done = done.and_then(|xattrs| finish_packs(assembler, xattrs));
                if done.is_err() {
                    shared.give_up();
                }
                done
            });
            let budget = Budget::new(BYTES_IN_FLIGHT);
            let earlier = self.predecessor(parent.map(|(info, _)| info));
            let watch = earlier.map(|_| Watch::new(&shared.tally, &self.config.canaries));
            let walked = Walk::new(shared, Some(outlets), budget, streams, watch).run(walker);
            let assembled = joined(assembling);
            threads_that_put.into_iter().try_for_each(joined)?;
            walked.and(assembled?)
        });
        // The store's trouble is the reason for what the others say.
        let all_put = putting.finish()?;
        let assembled = assembled?;
        if all_put { Ok(assembled) } else { Err(PushError::Interrupted) }
    }

    fn side_writer(&self, session: SessionNo, class: Class) -> Option<SideWriter> {
        SideWriter::create(&self.side_folder(), session, class)
            .inspect_err(|error| tracing::warn!(%error, "the side file cannot be written"))
            .ok()
    }

    /// The snapshot to build on, if it is one of this device's and of these sources.
    fn predecessor<'i>(&self, parent: Option<&'i SnapshotInfo>) -> Option<&'i SnapshotInfo> {
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

fn assemble(
    assembler: &mut Assembler<'_>,
    root: &Entry,
    arriving: &crossbeam_channel::Receiver<crate::flow::Event>,
) -> Result<Arc<[Xattr]>, PushError> {
    let waiting = assembler.xattrs(&root.xattrs)?;
    assembler.run(arriving)?;
    let xattrs = finish_xattrs(waiting).ok_or(PushError::Broken("the assembler"))?;
    assembler.tree.refer_to_xattrs(&xattrs);
    Ok(xattrs)
}

fn finish_packs<'s>(assembler: Assembler<'s>, xattrs: Arc<[Xattr]>) -> Result<Assembled<'s>, PushError> {
    let Assembler { mut packer, tree, .. } = assembler;
    let tree = tree.finish(&mut packer)?;
    let (packs, bytes, source, sealer) = packer.finish()?;
    Ok(Assembled { tree, xattrs, packs, bytes, rest: (source, sealer) })
}

fn joined<T>(handle: ScopedJoinHandle<'_, T>) -> Result<T, PushError> {
    handle.join().map_err(|_| PushError::Broken("a thread"))
}
