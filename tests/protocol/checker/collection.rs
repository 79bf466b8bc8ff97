//! A collection, step by step, as `maintain`'s prune makes them.

use super::world::{Bad, Frame, Pack, Rule, World};
use backupengine_model::ledger::{
    Counters, Haste, Move, PackRun, RuleBroken, SessionKind, SessionRecord, SessionState,
};
use backupengine_model::{DeviceId, SessionNo};
use std::collections::{BTreeMap, BTreeSet};

/// Frames that are needed, by pack.
type Needed = BTreeMap<Pack, BTreeSet<Frame>>;

#[derive(Default)]
pub(super) enum Collecting {
    #[default]
    Idle,
    /// It has begun, and knows what is needed.
    Begun { at: Counters, needed: Needed },
    /// It knows what nothing needs.
    Marked { at: Counters, needed: Needed, dead: Vec<PackRun> },
    /// That is given up.
    Retired { at: Counters, needed: Needed },
    /// Copies are stored.
    Copied { at: Counters, copied: Needed, session: SessionNo, moves: Vec<Move> },
    /// They count.
    Ended { at: Counters, copied: Needed, moves: Vec<Move> },
    /// All that is left is deleting.
    Purging,
}

const DEVICE: DeviceId = DeviceId([9; 16]);

impl Collecting {
    pub(super) fn step(self, world: &mut World) -> Result<Self, Bad> {
        if world.one_in(25) {
            return Ok(Self::Idle);
        }
        match self {
            Self::Idle => Ok(begin(world)),
            Self::Begun { at, needed } => {
                let dead = dead(world, &needed);
                Ok(Self::Marked { at, needed, dead })
            }
            Self::Marked { at, needed, dead } => retire(world, at, needed, &dead),
            Self::Retired { at, needed } => copy(world, at, &needed),
            Self::Copied { at, copied, session, moves } => {
                let packs = moves.iter().map(|one| one.to.1 + 1).max().unwrap_or(0);
                Ok(match world.ledger.end_relocation(DEVICE, session, packs, 1) {
                    Ok(()) => Self::Ended { at, copied, moves },
                    Err(_) => Self::Idle,
                })
            }
            Self::Ended { at, copied, moves } => relocate(world, at, copied, moves),
            Self::Purging => {
                purge(world)?;
                Ok(Self::Idle)
            }
        }
    }
}

fn survey(world: &mut World) -> (Counters, Needed) {
    let now = world.time();
    let kept = world.ledger.begin_collection(now, Haste::Wait, &|_| None);
    let mut sessions: BTreeSet<SessionNo> = kept.iter().map(|s| s.session).collect();
    if !world.has(Rule::TrashCounts) {
        sessions = world.live().into_iter().collect();
    }
    let mut needed = Needed::new();
    for frame in sessions.iter().filter_map(|session| world.needs.get(session)).flatten() {
        needed.entry(frame.0).or_default().insert(*frame);
    }
    (world.ledger.counters(), needed)
}

fn begin(world: &mut World) -> Collecting {
    let (at, needed) = survey(world);
    Collecting::Begun { at, needed }
}

/// Packs that are left in each relocation pack.
fn members(world: &World) -> BTreeMap<Pack, Vec<Pack>> {
    let mut members: BTreeMap<Pack, Vec<Pack>> = BTreeMap::new();
    for record in &world.ledger.sessions {
        for (number, moved) in record.moved.iter().filter(|(number, _)| !record.deleted.contains(number)) {
            members.entry((moved.to, moved.number)).or_default().push((record.session, *number));
        }
    }
    members
}

fn runs(world: &World, chosen: impl Fn(&SessionRecord, u32) -> bool) -> Vec<PackRun> {
    let mut runs = Vec::new();
    for record in world.ledger.sessions.iter().filter(|s| s.state == SessionState::Committed) {
        for from in (0..record.packs).filter(|number| chosen(record, *number)) {
            runs.push(PackRun { session: record.session, from, count: 1 });
        }
    }
    runs
}

fn dead(world: &World, needed: &Needed) -> Vec<PackRun> {
    let members = members(world);
    runs(world, |record, number| {
        let pack = (record.session, number);
        let is_needed = match record.kind {
            SessionKind::Push => needed.contains_key(&pack),
            _ => world.has(Rule::InUse) && members.contains_key(&pack),
        };
        !is_needed && !record.retired.contains_key(&number) && !record.deleted.contains(&number)
    })
}

fn retire(world: &mut World, at: Counters, needed: Needed, dead: &[PackRun]) -> Result<Collecting, Bad> {
    let at = if world.has(Rule::RetireCas) { at } else { world.ledger.counters() };
    let maps = take_maps(world, Rule::InUse);
    let retired = world.ledger.retire(at, dead, world.time());
    put_maps(world, maps);
    match retired {
        Ok(at) => Ok(Collecting::Retired { at, needed }),
        Err(RuleBroken::CountersMoved) => Ok(begin(world)),
        // Not an error of its own: what it leads to is looked for.
        Err(RuleBroken::InUse) if !world.has(Rule::MoveEpoch) => Ok(begin(world)),
        Err(error) => Err(format!("{dead:?} cannot be retired: {error:?}")),
    }
}

type Maps = Vec<BTreeMap<u32, backupengine_model::ledger::Moved>>;

/// Where packs went, hidden from the ledger where it shall not have that rule.
fn take_maps(world: &mut World, rule: Rule) -> Option<Maps> {
    let without = !world.has(rule);
    without.then(|| world.ledger.sessions.iter_mut().map(|s| std::mem::take(&mut s.moved)).collect())
}

fn put_maps(world: &mut World, maps: Option<Maps>) {
    for (record, map) in world.ledger.sessions.iter_mut().zip(maps.into_iter().flatten()) {
        record.moved = map;
    }
}

fn pushing(world: &World) -> bool {
    world.ledger.sessions.iter().any(|s| s.state == SessionState::Open && s.kind == SessionKind::Push)
}

/// Packs of which little is needed.
fn sources(world: &World, needed: &Needed) -> Vec<Pack> {
    let few = |needed: usize, of: usize| needed * 2 <= of;
    let mut sources = Vec::new();
    for (pack, frames) in needed {
        let Some(record) = world.ledger.session(pack.0) else { continue };
        let counts = record.state == SessionState::Committed && !record.is_going(pack.1);
        let held = world.blobs.get(pack).map_or(0, BTreeSet::len);
        if counts && few(frames.len(), held) {
            sources.push(*pack);
        }
    }
    for (relocation, members) in members(world) {
        if pushing(world) && world.has(Rule::MoveUnderPush) {
            break;
        }
        let held = world.blobs.get(&relocation).map_or(0, BTreeSet::len);
        let left: usize = members.iter().filter_map(|pack| needed.get(pack)).map(BTreeSet::len).sum();
        if few(left, held) {
            sources.extend(members.into_iter().filter(|pack| needed.contains_key(pack)));
        }
    }
    sources
}

fn copy(world: &mut World, at: Counters, needed: &Needed) -> Result<Collecting, Bad> {
    let sources = sources(world, needed);
    if sources.is_empty() {
        return Ok(Collecting::Purging);
    }
    let now = world.time();
    let Ok(session) = world.ledger.open(DEVICE, SessionKind::Compact, now) else {
        return Ok(Collecting::Idle);
    };
    let (mut copied, mut moves) = (Needed::new(), Vec::new());
    for (n, pack) in sources.into_iter().enumerate() {
        // Several packs lie in one.
        let to = (session, n as u32 / 3);
        let frames = needed.get(&pack).cloned().unwrap_or_default();
        if let Some(frame) = frames.iter().find(|frame| !world.reads(frame)) {
            let there = world.ledger.kept().iter().any(|kept| {
                world.needs.get(&kept.snapshot.session).is_some_and(|needs| needs.contains(frame))
            });
            // What only a snapshot needed that was purged since may be gone by now.
            return if there { Err(format!("{frame:?} cannot be copied")) } else { Ok(Collecting::Idle) };
        }
        world.blobs.entry(to).or_default().extend(&frames);
        moves.push(Move { from: pack, to });
        copied.insert(pack, frames);
    }
    Ok(Collecting::Copied { at, copied, session, moves })
}

fn relocate(
    world: &mut World,
    at: Counters,
    copied: Needed,
    mut moves: Vec<Move>,
) -> Result<Collecting, Bad> {
    let mut expected = at;
    if !world.has(Rule::MoveVersion) {
        expected.version = world.ledger.version;
    }
    let before = (world.ledger.gc_epoch, gone(world));
    let hidden = !world.has(Rule::MoveUnderPush);
    if hidden {
        set_gone(world, |_| false);
    }
    let now = world.time();
    let done = world.ledger.relocate(expected, &moves, now);
    if hidden {
        set_gone(world, |pack| before.1.contains(&pack));
    }
    match done {
        Ok(_) => {
            world.count.moved += moves.len() as u64;
            if !world.has(Rule::MoveEpoch) {
                world.ledger.gc_epoch = before.0;
                for one in &moves {
                    let record = world.ledger.sessions.iter_mut().find(|s| s.session == one.from.0);
                    if let Some(moved) = record.and_then(|record| record.moved.get_mut(&one.from.1)) {
                        moved.since.epoch = before.0;
                    }
                }
            }
            Ok(Collecting::Purging)
        }
        Err(RuleBroken::CountersMoved | RuleBroken::InUse | RuleBroken::PackGone) => {
            let (at, needed) = survey(world);
            let pushing = pushing(world);
            moves.retain(|one| {
                let covers = needed.get(&one.from).is_none_or(|frames| frames.is_subset(&copied[&one.from]));
                let source = world.ledger.session(one.from.0);
                let movable = source.is_some_and(|record| {
                    let stuck = pushing && record.moved.get(&one.from.1).is_some_and(|moved| moved.gone);
                    !stuck && !record.deleted.contains(&one.from.1)
                });
                let stays = world.ledger.session(one.to.0).is_some_and(|to| !to.is_going(one.to.1));
                covers && movable && stays
            });
            Ok(Collecting::Ended { at, copied, moves })
        }
        Err(error) => Err(format!("{moves:?} cannot be moved: {error:?}")),
    }
}

fn gone(world: &World) -> BTreeSet<Pack> {
    let of = |s: &SessionRecord| {
        let gone = s.moved.iter().filter(|(_, moved)| moved.gone);
        gone.map(|(number, _)| (s.session, *number)).collect::<Vec<_>>()
    };
    world.ledger.sessions.iter().flat_map(of).collect()
}

fn set_gone(world: &mut World, is_gone: impl Fn(Pack) -> bool) {
    for record in &mut world.ledger.sessions {
        for (number, moved) in &mut record.moved {
            moved.gone = is_gone((record.session, *number));
        }
    }
}

fn purge(world: &mut World) -> Result<(), Bad> {
    let waiting = runs(world, |record, number| {
        !record.deleted.contains(&number)
            && (record.retired.contains_key(&number)
                || record.moved.get(&number).is_some_and(|moved| !moved.gone))
    });
    let haste = if world.has(Rule::Grace) { Haste::Wait } else { Haste::Now };
    let acked: Vec<u64> = world.ledger.sessions.iter().map(|s| s.acked).collect();
    if !world.has(Rule::AckWait) {
        world.ledger.sessions.iter_mut().for_each(|s| s.acked = u64::MAX);
    }
    let now = world.time();
    let done = world.ledger.purge(&waiting, now, haste, &|_, _| 0);
    for (record, acked) in world.ledger.sessions.iter_mut().zip(acked) {
        record.acked = acked;
    }
    done.map_err(|error| format!("{waiting:?} cannot be deleted: {error:?}"))?;
    world.sweep();
    Ok(())
}
