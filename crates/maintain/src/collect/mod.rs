//! Gives space back: retire what no snapshot needs, copy what little is needed of a pack, delete what was given up long
//! enough ago (format.md 8.4, 8.5).
//!
//! **What it is.** The marking half of a collection: it has the keys and says what is needed. When anything goes is the
//! ledger's to decide (`model::ledger`), by rules that wait for pushes and mounts and make none of them wait.
//! **What it may not do.** Delete a blob by its own hand. Give anything up while one snapshot, those in the trash
//! included, does not say what it needs.
//! **What always holds.** What was given up and is needed is brought back before anything else: whoever retires has keys,
//! and may have been taken over. A full disk keeps it from copying, not from giving up. Interrupted anywhere it leaves at
//! most copies that nothing needs, which the next run retires.
//! Repeating it is harmless.
//! **Where it is tested.** In `tests/protocol`: against a model, stopped after every call, interleaved with pushes.

pub(crate) mod relocation;
pub(crate) mod survey;

use backupengine_model::ledger::{
    Counters, Haste, Move, PackRun, RuleBroken, SessionKind, SessionRecord, SessionState, SnapshotRecord,
};
use backupengine_model::{DeviceId, SessionNo, Timestamp};
use backupengine_seal::UnknownEpoch;
use backupengine_store::{BlobKey, BlobKind, Collection, ErrorKind, Maintainable, SessionList, StoreError};
use backupengine_vault::{Vault, VaultError};
use relocation::{Source, Writer};
use std::collections::{BTreeMap, BTreeSet};
use survey::{PackId, Survey};

/// Fills a buffer with random bytes of the operating system.
pub type Random<'a> = &'a (dyn Fn(&mut [u8]) + Sync);

/// Tries of a step that another device's came before.
const ROUNDS: u32 = 16;

/// How to collect.
#[derive(Clone, Copy, Debug)]
pub struct PruneConfig {
    /// Whether times are waited for.
    pub haste: Haste,
    /// Packs of which less than this share is needed are copied, 0 to 100; 0 copies none.
    pub compact_percent: u8,
    /// Least bytes of a pack that is worth copying.
    pub compact_min: u64,
}

impl Default for PruneConfig {
    fn default() -> Self {
        Self { haste: Haste::Wait, compact_percent: 50, compact_min: 64 << 10 }
    }
}

/// What a collection did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Snapshots that count, those in the trash included.
    pub snapshots: u64,
    /// Bytes of all packs, before anything was done.
    pub stored: u64,
    /// Packs that somebody had given up although snapshots need them, brought back now, with their bytes.
    pub revived: (u64, u64),
    /// Packs that nothing needs, newly given up now, with their bytes.
    pub retired: (u64, u64),
    /// Packs copied for what little is needed of them, with the bytes they take and those of the copies.
    pub moved: (u64, u64, u64),
    /// Blobs deleted now, with their bytes: given up by this run or an earlier one.
    pub deleted: (u64, u64),
    /// Blobs that were given up and still wait for their time, or for a push that was open then.
    pub waiting: (u64, u64),
    /// There was no room for copies: what nothing needs was given up, and packs of which little is needed stay.
    pub full: bool,
}

impl PruneReport {
    /// Whether so much is given up at once that it may be a mistake or an attack: more than a quarter of what is stored.
    /// An account's server draws the same line for its alarm.
    pub fn is_mass(&self) -> bool {
        self.retired.1.saturating_mul(4) > self.stored
    }
}

/// Why a collection ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    /// A snapshot does not say what it needs.
    #[error(
        "the snapshot of session {session} does not read, so nobody knows what it needs; nothing was given up: run `check`"
    )]
    Unreadable {
        /// Its session.
        session: SessionNo,
        /// Why.
        source: VaultError,
    },
    /// A frame that is needed does not read.
    #[error("a frame that is needed could not be copied")]
    Vault(#[from] VaultError),
    /// The store or the ledger refused.
    #[error("the store refused")]
    Store(#[from] StoreError),
    /// The keyring has no key for new packs.
    #[error("the vault's keys cannot be used for writing")]
    Keys(#[from] UnknownEpoch),
    /// A pack would be larger than packs are.
    #[error("a pack would be larger than 4 GiB")]
    TooLarge,
}

/// Gives space back.
///
/// # Errors
/// [`PruneError`]; what was done by then stays done.
pub fn prune(
    vault: &Vault,
    store: &dyn Maintainable,
    device: DeviceId,
    config: &PruneConfig,
    random: Random<'_>,
) -> Result<PruneReport, PruneError> {
    let run = Prune { vault, store, device, config, random };
    let sizes = run.sizes()?;
    let mut survey = Survey::default();
    let mut report = PruneReport::default();
    let begun = run.retire(&mut survey, &sizes, &mut report)?;
    if config.compact_percent > 0 {
        let snapshots = begun.snapshots.clone();
        match run.compact(&mut survey, begun, &sizes, &mut report) {
            // What did not read is no matter: the next run copies what is left.
            Err(PruneError::Unreadable { .. } | PruneError::Vault(_)) if !run.are_kept(&snapshots)? => {}
            // Deleting needs no room and makes some: the next run copies.
            Err(PruneError::Store(error)) if error.kind == ErrorKind::Full => report.full = true,
            done => done?,
        }
    }
    run.purge(&mut survey, &sizes, &mut report)?;
    Ok(report)
}

/// Says what a collection would do, and changes nothing. `now` decides whose time in the trash is over.
///
/// # Errors
/// As [`prune`].
pub fn prune_dry(
    vault: &Vault,
    store: &dyn Maintainable,
    config: &PruneConfig,
    now: Timestamp,
) -> Result<PruneReport, PruneError> {
    let kept = vault.ask(store.kept())?.into_iter().filter(|kept| {
        kept.held || kept.purge_after.is_none_or(|at| config.haste == Haste::Wait && at > now)
    });
    let snapshots: Vec<SnapshotRecord> = kept.map(|kept| kept.snapshot).collect();
    let unused = |_: &mut [u8]| {};
    let run = Prune { vault, store, device: DeviceId([0; DeviceId::LEN]), config, random: &unused };
    let (sizes, mut survey) = (run.sizes()?, Survey::default());
    survey.packs_of(vault, &snapshots)?;
    let list = vault.ask(store.sessions())?;
    let mut report = PruneReport { snapshots: snapshots.len() as u64, ..PruneReport::default() };
    report.stored = sizes.values().sum();
    report.revived = measure(&wanted(&list, &survey), &sizes);
    let dead = dead(&list, &survey);
    report.retired = measure(&dead, &sizes);
    if config.compact_percent > 0 {
        survey.frames_of(vault, &snapshots)?;
        let sources = run.sources(&survey, &list, &sizes);
        for source in &sources {
            report.moved.0 += 1;
            report.moved.1 += sizes.get(&source.id).copied().unwrap_or(0);
            report.moved.2 += source.bytes;
        }
    }
    report.waiting = measure(&given_up(&list), &sizes);
    Ok(report)
}

struct Prune<'a> {
    vault: &'a Vault,
    store: &'a dyn Maintainable,
    device: DeviceId,
    config: &'a PruneConfig,
    random: Random<'a>,
}

/// Bytes of the stored packs.
type Sizes = BTreeMap<PackId, u64>;

impl Prune<'_> {
    fn sizes(&self) -> Result<Sizes, PruneError> {
        let listed = self.vault.ask(self.store.list(BlobKind::Packs))?;
        let packs = listed.into_iter().filter_map(|(key, size)| match key {
            BlobKey::Pack(session, number) => Some(((session, number), size)),
            _ => None,
        });
        Ok(packs.collect())
    }

    fn begin(&self, survey: &mut Survey) -> Result<(Collection, SessionList), PruneError> {
        for _ in 0..ROUNDS {
            let begun = self.vault.ask(self.store.begin_collection(self.config.haste))?;
            match survey.packs_of(self.vault, &begun.snapshots) {
                Err(PruneError::Unreadable { .. }) if !self.are_kept(&begun.snapshots)? => continue,
                surveyed => surveyed?,
            }
            let list = self.vault.ask(self.store.sessions())?;
            return Ok((begun, list));
        }
        Err(overtaken().into())
    }

    /// Whether all of these still count: another collection may have purged one while it was looked at.
    fn are_kept(&self, snapshots: &[SnapshotRecord]) -> Result<bool, PruneError> {
        let kept: BTreeSet<SessionNo> =
            self.vault.ask(self.store.kept())?.iter().map(|kept| kept.snapshot.session).collect();
        Ok(snapshots.iter().all(|snapshot| kept.contains(&snapshot.session)))
    }

    /// Gives up the packs that no snapshot needs.
    fn retire(
        &self,
        survey: &mut Survey,
        sizes: &Sizes,
        report: &mut PruneReport,
    ) -> Result<Collection, PruneError> {
        for _ in 0..ROUNDS {
            let (mut begun, list) = self.begin(survey)?;
            report.snapshots = begun.snapshots.len() as u64;
            report.stored = sizes.values().sum();
            let wanted = wanted(&list, survey);
            if !wanted.is_empty() {
                self.vault.ask(self.store.revive(&wanted))?;
                let (packs, bytes) = measure(&wanted, sizes);
                report.revived = (report.revived.0 + packs, report.revived.1 + bytes);
                continue;
            }
            let dead = dead(&list, survey);
            match self.vault.ask(self.store.retire(begun.counters, &dead)) {
                Ok(counters) => {
                    report.retired = measure(&dead, sizes);
                    begun.counters = counters;
                    return Ok(begun);
                }
                Err(error) if is_overtaken(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(overtaken().into())
    }

    /// Packs of which little is needed, each with its frames, those that are read first first.
    fn sources(&self, survey: &Survey, list: &SessionList, sizes: &Sizes) -> Vec<Source> {
        let mut sources = Vec::new();
        for record in
            list.iter().filter(|r| r.state == SessionState::Committed && r.kind == SessionKind::Push)
        {
            for number in survey.packs.packs.get(&record.session).into_iter().flat_map(|set| set.iter()) {
                let id = (record.session, number);
                // One that was moved is copied again with its relocation pack, not by itself.
                let Some(size) = sizes.get(&id).filter(|_| !record.is_going(number)) else { continue };
                let Some(source) = source(survey, id) else { continue };
                let few = source.bytes.saturating_mul(100) < size * u64::from(self.config.compact_percent);
                if few && *size >= self.config.compact_min {
                    sources.push(source);
                }
            }
        }
        // What lies in a relocation pack and nowhere else is left there while a push is open that may need all of it.
        let pushing = list.iter().any(|r| r.state == SessionState::Open && r.kind == SessionKind::Push);
        for (relocation, members) in relocated(list) {
            let Some(size) = sizes.get(&relocation).filter(|_| !pushing) else { continue };
            let members: Vec<Source> = members.into_iter().filter_map(|id| source(survey, id)).collect();
            let bytes: u64 = members.iter().map(|source| source.bytes).sum();
            let few = bytes.saturating_mul(100) < size * u64::from(self.config.compact_percent);
            if few && *size >= self.config.compact_min {
                sources.extend(members);
            }
        }
        sources.sort_by_key(|source| source.frames.first().map(|frame| frame.rank));
        sources
    }

    fn compact(
        &self,
        survey: &mut Survey,
        begun: Collection,
        sizes: &Sizes,
        report: &mut PruneReport,
    ) -> Result<(), PruneError> {
        survey.frames_of(self.vault, &begun.snapshots)?;
        let list = self.vault.ask(self.store.sessions())?;
        let sources = self.sources(survey, &list, sizes);
        if sources.is_empty() {
            return Ok(());
        }
        let session = self.vault.ask(self.store.open_relocation(self.device, SessionKind::Compact))?;
        let mut writer = Writer::new(self.vault, self.store, self.random, session);
        for source in &sources {
            writer.copy(source)?;
        }
        writer.put()?;
        let (packs, bytes) = (writer.packs(), writer.bytes);
        self.vault.ask(self.store.end_relocation(self.device, session, packs, bytes))?;
        let moves = std::mem::take(&mut writer.moves);
        let moved = self.relocate(survey, begun.counters, &sources, moves)?;
        report.moved = (moved.len() as u64, moved.iter().filter_map(|id| sizes.get(id)).sum(), bytes);
        Ok(())
    }

    /// Says where the frames lie now. Where a snapshot was committed meanwhile, only packs of which it needs nothing more
    /// than was copied; where a push or another collection came in between, only what it left as it was.
    fn relocate(
        &self,
        survey: &mut Survey,
        counters: Counters,
        sources: &[Source],
        moves: Vec<Move>,
    ) -> Result<Vec<PackId>, PruneError> {
        let (mut counters, mut moves) = (counters, moves);
        for _ in 0..ROUNDS {
            match self.vault.ask(self.store.relocate(counters, &moves)) {
                Ok(_) => return Ok(moves.into_iter().map(|one| one.from).collect()),
                Err(error) if is_overtaken(&error) || is_in_the_way(&error) => {}
                Err(error) => return Err(error.into()),
            }
            let (begun, list) = self.begin(survey)?;
            survey.frames_of(self.vault, &begun.snapshots)?;
            let pushing = list.iter().any(|r| r.state == SessionState::Open && r.kind == SessionKind::Push);
            let of = |(session, number): PackId| {
                list.iter().find(|record| record.session == session).map(|record| (record, number))
            };
            moves.retain(|one| {
                let copied = sources.iter().find(|source| source.id == one.from);
                let movable = of(one.from).is_some_and(|(record, number)| {
                    let stuck = pushing && record.moved.get(&number).is_some_and(|moved| moved.gone);
                    !stuck && !record.deleted.contains(&number)
                });
                // Another collection takes copies that nothing lies in yet for what nobody needs.
                let stays = of(one.to).is_some_and(|(record, number)| !record.is_going(number));
                movable && stays && copied.is_some_and(|source| still_covers(survey, source))
            });
            counters = begun.counters;
        }
        // The copies are retired by the next run.
        Ok(Vec::new())
    }

    /// Packs whose old blob is still there and was healed, but not all that is needed of it: nobody knows what a disk gives
    /// back tomorrow, so it stays. Where needs cannot be told, all that were healed.
    fn half_healed(&self, survey: &mut Survey, list: &SessionList) -> BTreeSet<PackId> {
        let by_repair = |to: SessionNo| list.iter().any(|s| s.session == to && s.kind == SessionKind::Heal);
        let healed: BTreeMap<PackId, PackId> = list
            .iter()
            .flat_map(|record| record.moved.iter().map(move |(number, moved)| (record, *number, moved)))
            .filter(|(_, _, moved)| !moved.gone && by_repair(moved.to))
            .map(|(record, number, moved)| ((record.session, number), (moved.to, moved.number)))
            .collect();
        if healed.is_empty() {
            return BTreeSet::new();
        }
        let kept: Result<Vec<SnapshotRecord>, StoreError> =
            self.vault.ask(self.store.kept()).map(|kept| kept.into_iter().map(|one| one.snapshot).collect());
        let surveyed = kept.map_err(PruneError::from).and_then(|kept| {
            survey.packs_of(self.vault, &kept)?;
            survey.frames_of(self.vault, &kept)
        });
        let covers = |from: &PackId, to: PackId| {
            let needed = survey.frames.get(from).into_iter().flat_map(|frames| frames.values());
            needed.into_iter().all(|frame| matches!(self.vault.place_in(&frame.at, to), Ok(Some(_))))
        };
        let whole = |(from, to): &(PackId, PackId)| surveyed.is_ok() && covers(from, *to);
        healed.into_iter().filter(|pair| !whole(pair)).map(|(from, _)| from).collect()
    }

    /// Has deleted whatever may be deleted by now.
    fn purge(&self, survey: &mut Survey, sizes: &Sizes, report: &mut PruneReport) -> Result<(), PruneError> {
        let list = self.vault.ask(self.store.sessions())?;
        let half_healed = self.half_healed(survey, &list);
        let mut waiting = given_up(&list);
        if !half_healed.is_empty() {
            waiting = runs(&list, |record, number| {
                is_given_up(record, number) && !half_healed.contains(&(record.session, number))
            });
        }
        let gone = self.vault.ask(self.store.purge(&waiting, self.config.haste))?;
        report.deleted = measure(&gone, sizes);
        let all = measure(&waiting, sizes);
        report.waiting = (all.0.saturating_sub(report.deleted.0), all.1.saturating_sub(report.deleted.1));
        Ok(())
    }
}

fn source(survey: &Survey, id: PackId) -> Option<Source> {
    let mut frames: Vec<_> = survey.frames.get(&id)?.values().copied().collect();
    frames.sort_by_key(|frame| frame.rank);
    let bytes = frames.iter().map(|frame| u64::from(frame.at.stored_len)).sum();
    Some(Source { id, frames, bytes })
}

fn still_covers(survey: &Survey, source: &Source) -> bool {
    let copied: BTreeSet<u32> = source.frames.iter().map(|frame| frame.at.offset).collect();
    survey.frames.get(&source.id).is_none_or(|needed| needed.keys().all(|offset| copied.contains(offset)))
}

/// Packs that lie in each relocation pack.
fn relocated(list: &SessionList) -> BTreeMap<PackId, Vec<PackId>> {
    let mut members: BTreeMap<PackId, Vec<PackId>> = BTreeMap::new();
    for record in list.iter() {
        for (number, moved) in record.moved.iter().filter(|(number, _)| !record.deleted.contains(number)) {
            members.entry((moved.to, moved.number)).or_default().push((record.session, *number));
        }
    }
    members
}

/// Packs that nothing needs and that were not given up yet.
fn dead(list: &SessionList, survey: &Survey) -> Vec<PackRun> {
    let relocated = relocated(list);
    let needed = |record: &SessionRecord, number: u32| match record.kind {
        SessionKind::Push => survey.packs.contains(record.session, number),
        SessionKind::Compact | SessionKind::Heal => relocated.contains_key(&(record.session, number)),
    };
    runs(list, |record, number| {
        !needed(record, number) && !record.retired.contains_key(&number) && !record.deleted.contains(&number)
    })
}

/// Packs that were given up, are needed and are there.
fn wanted(list: &SessionList, survey: &Survey) -> Vec<PackRun> {
    runs(list, |record, number| {
        record.retired.contains_key(&number)
            && !record.deleted.contains(&number)
            && survey.packs.contains(record.session, number)
    })
}

/// Packs that were given up and are not gone.
fn given_up(list: &SessionList) -> Vec<PackRun> {
    runs(list, is_given_up)
}

fn is_given_up(record: &SessionRecord, number: u32) -> bool {
    !record.deleted.contains(&number)
        && (record.retired.contains_key(&number)
            || record.moved.get(&number).is_some_and(|moved| !moved.gone))
}

fn runs(list: &SessionList, chosen: impl Fn(&SessionRecord, u32) -> bool) -> Vec<PackRun> {
    let mut runs: Vec<PackRun> = Vec::new();
    for record in list.iter().filter(|record| record.state == SessionState::Committed) {
        for number in (0..record.packs).filter(|number| chosen(record, *number)) {
            match runs.last_mut() {
                Some(run) if run.session == record.session && run.from + run.count == number => {
                    run.count += 1
                }
                _ => runs.push(PackRun { session: record.session, from: number, count: 1 }),
            }
        }
    }
    runs
}

fn measure(runs: &[PackRun], sizes: &Sizes) -> (u64, u64) {
    let stored = runs.iter().flat_map(|run| {
        sizes.range((run.session, run.from)..(run.session, run.from.saturating_add(run.count)))
    });
    stored.fold((0, 0), |(packs, bytes), (_, size)| (packs + 1, bytes + size))
}

pub(crate) fn is_overtaken(error: &StoreError) -> bool {
    error.kind == ErrorKind::RuleBroken(RuleBroken::CountersMoved)
}

pub(crate) fn is_in_the_way(error: &StoreError) -> bool {
    matches!(error.kind, ErrorKind::RuleBroken(RuleBroken::InUse | RuleBroken::PackGone))
}

pub(crate) fn overtaken() -> StoreError {
    let message = "snapshots were committed faster than this collection could look at them; run it again";
    StoreError::new(ErrorKind::Unavailable, message)
}
