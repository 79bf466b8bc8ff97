//! Wires the stages of one push together and runs them.
//!
//! **What it is.** The walk on the calling thread; readers, the assembler and the threads that put beside it; bounded queues
//! between them. Where the session is still being opened, the first files are walked, read and compressed meanwhile, as
//! far as the budget goes; the assembler waits for it.
//! **What it may not do.** Decide about nodes or bytes.
//! **What always holds.** Nothing is placed before the session is open. After [`Run::stages`] every pack is durable.
//! **Where it is tested.** In the tests of whole pushes.
use crate::assemble::Assembler;
use crate::budget::Budget;
use crate::config::{BYTES_IN_FLIGHT, READERS_MIN};
use crate::dedup::Dedup;
use crate::error::PushError;
use crate::flow::Event;
use crate::kept::Keep;
use crate::packer::{PackSource, Packer};
use crate::putting::{Putting, at_once};
use crate::reader;
use crate::run::Run;
use crate::sealer::Sealer;
use crate::session::{Opening, Session};
use crate::shared::Shared;
use crate::side_file::SideWriter;
use crate::signals::Watch;
use crate::tree::{FinishedTree, TreeWriter};
use crate::waiting::finish_xattrs;
use crate::walk::{Outlets, Walk};
use backupengine_format::page::Xattr;
use backupengine_model::{Class, SessionNo, SnapshotInfo};
use backupengine_seal::Role;
use backupengine_source::{Entry, Walker};
use backupengine_vault::Root;
use crossbeam_channel::{Receiver, bounded, unbounded};
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};

/// Events between the walk and the assembler: with groups of up to 256 nodes.
const EVENTS: usize = 64;

/// What the stages build on.
pub(crate) struct Base<'s, 'o> {
    /// The snapshot that is compared with, and its root.
    pub(crate) parent: Option<&'s (SnapshotInfo, Arc<Root>)>,
    /// Version of the list it was chosen from.
    pub(crate) version: Option<u64>,
    /// What is written in.
    pub(crate) opening: Opening<'o>,
}

/// What the assembler leaves behind.
pub(crate) struct Assembled<'a> {
    pub(crate) session: Session,
    pub(crate) tree: FinishedTree,
    pub(crate) xattrs: Arc<[Xattr]>,
    /// Packs of the session, and bytes of those that this push stored.
    pub(crate) packs: u32,
    pub(crate) bytes: u64,
    pub(crate) rest: (PackSource<'a>, Sealer),
}

/// How the stages ended.
pub(crate) enum Staged<'a> {
    /// Everything is stored but the root.
    Made(Box<Assembled<'a>>),
    /// Nothing is: the list moved until this session was opened.
    Moved(Session),
}

impl Run<'_> {
    /// Runs them to the end.
    ///
    /// # Errors
    /// What the first stage that gave up says.
    pub(crate) fn stages<'s>(
        &'s self,
        shared: &'s Shared<'s>,
        dedup: &'s Dedup<'s>,
        walker: Walker,
        Base { parent, version, opening }: Base<'s, '_>,
    ) -> Result<Staged<'s>, PushError> {
        let threads = match self.config.threads {
            0 => thread::available_parallelism().map_or(2, usize::from),
            n => n,
        };
        let (events, arriving) = bounded(EVENTS);
        let (urgent, urgent_jobs) = unbounded();
        let (reads, read_jobs) = unbounded();
        let (put, to_put) = bounded(1);
        let streams = self.streams(parent.map(|(info, _)| info.session));
        let root = walker.root().clone();
        let putting = Putting::new(self.vault, self.store, shared);
        let idle = putting.idle();
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
                let session = opening.wait();
                if session.is_err() {
                    shared.give_up();
                }
                let mut session = session?;
                if session.is_newer_than(version) {
                    shared.give_up();
                    return Ok(Staged::Moved(session));
                }
                let number = session.number;
                dedup.begin(number, session.all.take());
                let sides = [Class::Directory, Class::Other].map(|class| self.side_writer(number, class));
                let tree = TreeWriter::new(shared, self.vault, parent.map(|(_, root)| &**root), sides);
                let (store, random) = (self.store, self.random);
                let keyring = self.vault.keyring();
                let keep = Arc::new(Keep::new(&self.config.state, keyring.vault(), number));
                let source = PackSource { store, keyring, session: number, random, keep };
                let apart = self.device.certificate.role == Role::Writer;
                let packer = Packer::new(source, &shared.progress, (put, idle), session.next, apart);
                let mut assembler = Assembler::new(shared, (dedup, number), urgent, packer, tree);
                let done = assemble(&mut assembler, &root, &arriving);
                let done = done.and_then(|xattrs| finish_packs(assembler, session, xattrs));
                if done.is_err() {
                    shared.give_up();
                }
                done.map(|assembled| Staged::Made(Box::new(assembled)))
            });
            let budget = Budget::new(BYTES_IN_FLIGHT);
            let earlier = self.predecessor(parent.map(|(info, _)| info));
            let watch = earlier.map(|_| Watch::new(&shared.tally, &self.config.canaries));
            let walked = Walk::new(shared, Some(outlets), budget, streams, watch).run(walker);
            let assembled = joined(assembling);
            threads_that_put.into_iter().try_for_each(joined)?;
            match assembled? {
                // The walk was stopped for that.
                Ok(moved @ Staged::Moved(_)) => Ok(moved),
                made => walked.and(made),
            }
        });
        // The store's trouble is the reason for what the others say.
        let all_put = putting.finish()?;
        let staged = assembled?;
        if all_put { Ok(staged) } else { Err(PushError::Interrupted) }
    }

    fn side_writer(&self, session: SessionNo, class: Class) -> Option<SideWriter> {
        SideWriter::create(&self.side_folder(), session, class)
            .inspect_err(|error| tracing::warn!(%error, "the side file cannot be written"))
            .ok()
    }
}

fn assemble(
    assembler: &mut Assembler<'_>,
    root: &Entry,
    arriving: &Receiver<Event>,
) -> Result<Arc<[Xattr]>, PushError> {
    let waiting = assembler.xattrs(&root.xattrs)?;
    assembler.run(arriving)?;
    let xattrs = finish_xattrs(waiting).ok_or(PushError::Broken("the assembler"))?;
    assembler.tree.refer_to_xattrs(&xattrs);
    Ok(xattrs)
}

fn finish_packs<'s>(
    assembler: Assembler<'s>,
    session: Session,
    xattrs: Arc<[Xattr]>,
) -> Result<Assembled<'s>, PushError> {
    let Assembler { mut packer, tree, .. } = assembler;
    let tree = tree.finish(&mut packer)?;
    let (packs, bytes, source, sealer) = packer.finish()?;
    Ok(Assembled { session, tree, xattrs, packs, bytes, rest: (source, sealer) })
}

fn joined<T>(handle: ScopedJoinHandle<'_, T>) -> Result<T, PushError> {
    handle.join().map_err(|_| PushError::Broken("a thread"))
}
