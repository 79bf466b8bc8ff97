//! A push, step by step, as `push::run`, `push::session` and `push::commit` make them.

use super::world::{Bad, Frame, Pack, Rule, World};
use backupengine_model::ledger::{Commit, PackRun, RuleBroken, SessionKind, SessionRecord, SessionState};
use backupengine_model::{DeviceId, SessionNo};
use std::collections::BTreeSet;

/// What there is to store.
const CONTENTS: u8 = 10;
/// Most contents in a pack.
const PACK: usize = 3;

/// A device, and its push.
pub(super) struct Device {
    id: DeviceId,
    at: At,
    /// A push that broke off, and how far it was.
    broken: Option<(SessionNo, Option<BTreeSet<Frame>>)>,
}

#[derive(Default)]
enum At {
    #[default]
    Idle,
    /// The list was asked for.
    Listed { parent: Option<SessionNo>, version: u64 },
    /// The session is open.
    Open { session: SessionNo, parent: Option<SessionNo> },
    /// It is known which packs count.
    Asked { session: SessionNo, parent: Option<SessionNo>, list: Vec<SessionRecord> },
    /// Packs and root are stored.
    Written { session: SessionNo, refs: BTreeSet<Frame>, epoch: Option<u64> },
    /// The commit was refused.
    Overtaken { session: SessionNo, refs: BTreeSet<Frame>, epoch: Option<u64> },
    /// It is known what has to be brought back.
    Reviving { session: SessionNo, refs: BTreeSet<Frame>, epoch: Option<u64>, back: Vec<PackRun> },
}

impl Device {
    pub(super) fn new(id: DeviceId) -> Self {
        Self { id, at: At::Idle, broken: None }
    }

    pub(super) fn step(&mut self, world: &mut World) -> Result<(), Bad> {
        let at = std::mem::take(&mut self.at);
        if world.one_in(25) {
            self.crash(at);
            return Ok(());
        }
        self.at = match at {
            At::Idle => self.begin(world),
            At::Listed { parent, version } => self.open(world, parent, version),
            At::Open { session, parent } => {
                At::Asked { session, parent, list: world.ledger.sessions.clone() }
            }
            At::Asked { session, parent, list } => {
                let refs = write(world, session, parent, &list);
                At::Written { session, refs, epoch: None }
            }
            At::Written { session, refs, epoch } => self.commit(world, session, refs, epoch)?,
            At::Overtaken { session, refs, epoch } => look(world, session, refs, epoch)?,
            At::Reviving { session, refs, epoch, back } => {
                match world.ledger.revive(&back) {
                    Ok(_) => world.count.revived += back.len() as u64,
                    Err(error) if is_open(world, session) => {
                        return Err(format!("{session} is open and cannot bring back {back:?}: {error:?}"));
                    }
                    Err(_) => return Ok(()),
                }
                At::Written { session, refs, epoch }
            }
        };
        Ok(())
    }

    fn crash(&mut self, at: At) {
        match at {
            At::Idle | At::Listed { .. } => {}
            At::Open { session, .. } | At::Asked { session, .. } => self.broken = Some((session, None)),
            At::Written { session, refs, .. }
            | At::Overtaken { session, refs, .. }
            | At::Reviving { session, refs, .. } => self.broken = Some((session, Some(refs))),
        }
    }

    fn begin(&mut self, world: &World) -> At {
        let parent = world.pick(&world.live());
        match self.broken.take().filter(|(session, _)| is_open(world, *session)) {
            // It lacks nothing but its commit.
            Some((session, Some(refs))) => At::Written { session, refs, epoch: None },
            // It is gone on with.
            Some((session, None)) => At::Open { session, parent },
            None => At::Listed { parent, version: world.ledger.version },
        }
    }

    fn open(&self, world: &mut World, parent: Option<SessionNo>, version: u64) -> At {
        let Ok(session) = world.ledger.open(self.id, SessionKind::Push, world.time()) else {
            return At::Idle;
        };
        let again = world.ledger.version != version && world.has(Rule::ParentAgain);
        let parent = if again { world.pick(&world.live()) } else { parent };
        At::Open { session, parent }
    }

    fn commit(
        &self,
        world: &mut World,
        session: SessionNo,
        refs: BTreeSet<Frame>,
        epoch: Option<u64>,
    ) -> Result<At, Bad> {
        let own = world.blobs.keys().filter(|(of, _)| *of == session).map(|(_, number)| number + 1);
        let packs = own.max().unwrap_or(0);
        let gc_epoch = if world.has(Rule::CommitEpoch) { epoch } else { Some(world.ledger.gc_epoch) };
        let snapshot = world.record(session, self.id);
        let commit = Commit { snapshot, packs, bytes: 0, meta_packs: Vec::new(), gc_epoch, hold: None };
        match world.ledger.commit(self.id, &commit) {
            Ok(()) => {
                world.needs.insert(session, refs);
                world.count.commits += 1;
                Ok(At::Idle)
            }
            Err(RuleBroken::CountersMoved) => Ok(At::Overtaken { session, refs, epoch }),
            // Silent for too long.
            Err(RuleBroken::NotOpen) => Ok(At::Idle),
            Err(error) => Err(format!("{session} cannot be committed: {error:?}")),
        }
    }
}

fn is_open(world: &World, session: SessionNo) -> bool {
    world.ledger.session(session).is_some_and(|record| record.state == SessionState::Open)
}

/// Takes what the parent has, what the index knows, and stores the rest.
fn write(
    world: &mut World,
    session: SessionNo,
    parent: Option<SessionNo>,
    list: &[SessionRecord],
) -> BTreeSet<Frame> {
    let inherited = parent.and_then(|parent| world.needs.get(&parent)).cloned().unwrap_or_default();
    let filter = world.has(Rule::DedupFilter);
    let counts = |(of, number): &Pack| {
        list.iter().any(|s| {
            s.session == *of
                && (s.session == session
                    || (s.state == SessionState::Committed && !(filter && s.is_going(*number))))
        })
    };
    let (mut refs, mut fresh) = (BTreeSet::new(), Vec::new());
    for content in (0..CONTENTS).filter(|_| !world.one_in(2)).collect::<Vec<_>>() {
        let unchanged: Vec<Frame> = inherited.iter().filter(|frame| frame.1 == content).copied().collect();
        let holds = |(_, contents): &(&Pack, &BTreeSet<u8>)| contents.contains(&content);
        let known: Vec<Pack> =
            world.contents.iter().filter(holds).map(|(pack, _)| *pack).filter(counts).collect();
        // A device does not know all that others stored.
        match world.pick(&unchanged).or_else(|| world.pick(&known).map(|pack| (pack, content))) {
            Some(frame) if !world.one_in(6) => drop(refs.insert(frame)),
            _ => fresh.push(content),
        }
    }
    let used = world.contents.keys().filter(|(of, _)| *of == session).map(|(_, number)| number + 1);
    let first = used.max().unwrap_or(0);
    for (number, contents) in (first..).zip(fresh.chunks(PACK)) {
        let pack = (session, number);
        let frames: BTreeSet<Frame> = contents.iter().map(|content| (pack, *content)).collect();
        refs.extend(&frames);
        world.contents.insert(pack, contents.iter().copied().collect());
        world.blobs.insert(pack, frames);
    }
    refs
}

/// What is going of what is referred to (`push::commit`).
fn look(world: &World, session: SessionNo, refs: BTreeSet<Frame>, epoch: Option<u64>) -> Result<At, Bad> {
    let acked = world.ledger.session(session).map_or(0, |record| record.acked);
    let packs: BTreeSet<Pack> = refs.iter().map(|(pack, _)| *pack).collect();
    let mut back = Vec::new();
    for (of, number) in packs {
        let Some(record) = world.ledger.session(of) else { continue };
        let moved = record.moved.get(&number).filter(|moved| moved.since.epoch > acked);
        let deleted = record.deleted.contains(&number);
        if deleted || moved.is_some_and(|moved| moved.gone) {
            if is_open(world, session) {
                return Err(format!("{of}/{number} is gone, and the push in {session} needs it"));
            }
            return Ok(At::Idle);
        }
        if record.retired.contains_key(&number) || moved.is_some() {
            back.push(PackRun { session: of, from: number, count: 1 });
        }
    }
    if back.is_empty() || !world.has(Rule::ReviveAtCommit) {
        return Ok(At::Written { session, refs, epoch: Some(world.ledger.gc_epoch) });
    }
    Ok(At::Reviving { session, refs, epoch, back })
}
