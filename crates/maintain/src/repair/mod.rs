//! `repair`: rebuilds what can be rebuilt, and heals lost frames from what this device still has (format.md 8.6, 8.7).
//!
//! **What it is.** [`rebuild_ledger`]: a folder's ledger from its blobs. [`heal`]: given what a check found, the frames
//! that snapshots need of damaged packs, from wherever they are to be had, in relocation packs of a session of their own;
//! the ledger then says that the packs were moved there, as after a compaction. Every old snapshot is whole again, and no
//! page, root or hash of it was touched.
//! **What it may not do.** Delete or change a blob; give a frame that does not prove itself; forget a snapshot.
//! **What always holds.** A frame that still reads is copied before anything is said of its pack. Stopped anywhere, it
//! leaves at most relocation packs that nothing needs, of which the next repair takes what it needs. What was not healed
//! is as it was.
//! **Where it is tested.** `tests/damage`, `tests/protocol`, `tests/cli`.

mod ledger;
mod packs;
mod roots;
mod survey;

pub use ledger::{RebuiltLedger, rebuild_ledger};

use crate::check::finding::{Finding, Object};
use crate::check::findings::problem_of;
use crate::collect::relocation::Writer;
use crate::collect::survey::PackId;
use crate::collect::{PruneError, Random, is_in_the_way, is_overtaken, overtaken};
use backupengine_model::ledger::{Counters, Move, SessionKind, SessionRecord, SessionState, SnapshotRecord};
use backupengine_model::{DeviceId, FrameKind, FrameRef, PackRef, SessionNo};
use backupengine_store::{FolderStore, Maintainable, SessionList, StoreError};
use backupengine_vault::{Remains, Vault, VaultError};
use bytes::Bytes;
use packs::Strays;
use std::cell::{Cell, OnceCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use survey::{Needs, Survey};

/// Tries of a step that another device's came before.
const ROUNDS: u32 = 16;

/// What was healed. Field names are those of `--json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealStats {
    /// Packs that are damaged or gone, of which a snapshot needs anything.
    pub packs_damaged: u64,
    /// Of these, how many lie elsewhere now.
    pub packs_healed: u64,
    /// Frames that were lost and were found in the vault: in a pack whose end does not read, or in an older copy.
    pub frames_salvaged: u64,
    /// Pages that were lost and that this device had kept.
    pub frames_kept: u64,
    /// Frames that were lost and were made again from live files.
    pub frames_from_files: u64,
    /// Frames that stay lost.
    pub frames_lost: u64,
    /// Bytes of the packs that were written.
    pub bytes_stored: u64,
    /// Roots that were stored again, as this device had kept them.
    pub roots_restored: u64,
}

/// Why a repair ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// It was told to stop.
    #[error("interrupted")]
    Interrupted,
    /// The store or the ledger refused.
    #[error("the store refused")]
    Store(#[from] StoreError),
    /// The store could not be reached.
    #[error("the vault could not be read")]
    Vault(#[from] VaultError),
    /// A pack could not be written.
    #[error("a pack could not be written")]
    Write(#[from] PruneError),
}

/// Told while it runs; must not block.
pub trait RepairObserver: Sync {
    /// So many of the damaged packs were looked at.
    fn progress(&self, done: u64, stats: &HealStats) {
        let _ = (done, stats);
    }
}

/// Who repairs, and from what.
#[derive(Clone, Copy)]
pub struct RepairConfig<'a> {
    /// This device.
    pub device: DeviceId,
    /// What it has beside the store.
    pub remains: &'a dyn Remains,
    /// The vault's folder, where it is in one: there a damaged root can be put aside.
    pub folder: Option<&'a FolderStore>,
    /// Only say what would be healed.
    pub dry_run: bool,
}

impl std::fmt::Debug for RepairConfig<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RepairConfig").field("dry_run", &self.dry_run).finish_non_exhaustive()
    }
}

/// Packs that a check's findings say are not whole.
pub fn damaged_packs(findings: &[Finding]) -> BTreeSet<(SessionNo, u32)> {
    let pack = |finding: &Finding| match finding.object {
        Object::Pack(session, number) | Object::Footer(session, number) => Some((session, number)),
        Object::Frame { session, number, .. } => Some((session, number)),
        _ => None,
    };
    findings.iter().filter_map(pack).filter(|(_, number)| *number != PackRef::ROOT).collect()
}

/// Snapshots whose roots a check's findings say are not whole.
pub fn damaged_roots(findings: &[Finding]) -> BTreeSet<SessionNo> {
    let root = |finding: &Finding| match finding.object {
        Object::Root(session) => Some(session),
        Object::Frame { session, number: PackRef::ROOT, .. }
        | Object::Pack(session, PackRef::ROOT)
        | Object::Footer(session, PackRef::ROOT) => Some(session),
        _ => None,
    };
    findings.iter().filter_map(root).collect()
}

/// Heals what `findings` say is lost or damaged, as far as it can. `stop` is polled and ends it with `Interrupted`.
///
/// # Errors
/// [`RepairError`]; what was healed by then stays so, and nothing is worse than before.
pub fn heal(
    vault: &Vault,
    store: &dyn Maintainable,
    findings: &[Finding],
    config: &RepairConfig<'_>,
    random: Random<'_>,
    stop: &AtomicBool,
    observer: &dyn RepairObserver,
) -> Result<HealStats, RepairError> {
    let heal = Heal {
        vault,
        store,
        config,
        random,
        stop,
        observer,
        stats: Cell::default(),
        strays: OnceCell::new(),
    };
    heal.roots(&damaged_roots(findings))?;
    let damaged = damaged_packs(findings);
    if !damaged.is_empty() {
        heal.packs(&damaged)?;
    }
    Ok(heal.stats.get())
}

/// A repair under way.
struct Heal<'a> {
    vault: &'a Vault,
    store: &'a dyn Maintainable,
    config: &'a RepairConfig<'a>,
    random: Random<'a>,
    stop: &'a AtomicBool,
    observer: &'a dyn RepairObserver,
    stats: Cell<HealStats>,
    strays: OnceCell<Strays>,
}

impl Heal<'_> {
    fn go_on(&self) -> Result<(), RepairError> {
        if self.stop.load(Ordering::Relaxed) { Err(RepairError::Interrupted) } else { Ok(()) }
    }

    fn count(&self, change: impl FnOnce(&mut HealStats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }

    /// What was read, or nothing where it is lost. An error only where the store is away: that says nothing of what it
    /// holds.
    fn readable<T>(&self, read: Result<T, VaultError>) -> Result<Option<T>, RepairError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) if problem_of(&error).is_none() => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    /// Everything that counts, and what it is compared with.
    fn now(&self) -> Result<(Counters, SessionList, Vec<SnapshotRecord>), RepairError> {
        let version = self.vault.ask(self.store.version())?;
        let list = self.vault.ask(self.store.sessions())?;
        let kept = self.vault.ask(self.store.kept())?;
        let counters = Counters { version, gc_epoch: list.gc_epoch };
        Ok((counters, list, kept.into_iter().map(|kept| kept.snapshot).collect()))
    }

    fn packs(&self, damaged: &BTreeSet<PackId>) -> Result<(), RepairError> {
        let (counters, list, snapshots) = self.now()?;
        let survey = Survey::of(self, &pushed(&list, damaged), &snapshots)?;
        self.seek(&survey)?;
        self.count(|stats| stats.packs_damaged = survey.packs.len() as u64);
        let mut writer = None;
        let mut copied: BTreeMap<PackId, BTreeSet<u32>> = BTreeMap::new();
        for (done, (id, needs)) in survey.packs.iter().enumerate() {
            self.go_on()?;
            self.observer.progress(done as u64, &self.stats.get());
            let gathered = self.gather(needs)?;
            if !gathered.is_worth_it(target_of(&list, id), damaged) {
                continue;
            }
            self.count(|stats| stats.packs_healed += 1);
            if self.config.dry_run {
                continue;
            }
            if writer.is_none() {
                let open = self.store.open_relocation(self.config.device, SessionKind::Heal);
                let session = self.vault.ask(open)?;
                writer = Some((session, Writer::new(self.vault, self.store, self.random, session)));
            }
            if let Some((_, writer)) = &mut writer {
                writer.add(*id, &gathered.frames)?;
                copied.insert(*id, needs.keys().copied().collect());
            }
        }
        let Some((session, mut writer)) = writer else { return Ok(()) };
        writer.put()?;
        let (packs, bytes) = (writer.packs(), writer.bytes);
        self.vault.ask(self.store.end_relocation(self.config.device, session, packs, bytes))?;
        let moves = std::mem::take(&mut writer.moves);
        let moved = self.relocate(counters, moves, &copied)?;
        self.count(|stats| {
            stats.packs_healed = moved;
            stats.bytes_stored += bytes;
        });
        Ok(())
    }

    /// Says where the frames lie now, for packs of which a snapshot that was committed meanwhile needs no more than was
    /// looked for. Says how many these are.
    fn relocate(
        &self,
        counters: Counters,
        moves: Vec<Move>,
        copied: &BTreeMap<PackId, BTreeSet<u32>>,
    ) -> Result<u64, RepairError> {
        let (mut counters, mut moves) = (counters, moves);
        for _ in 0..ROUNDS {
            if moves.is_empty() {
                return Ok(0);
            }
            match self.vault.ask(self.store.relocate(counters, &moves)) {
                Ok(_) => return Ok(moves.len() as u64),
                Err(error) if is_overtaken(&error) || is_in_the_way(&error) => {}
                Err(error) => return Err(error.into()),
            }
            let (now, list, snapshots) = self.now()?;
            let survey = Survey::of(self, &moves.iter().map(|one| one.from).collect(), &snapshots)?;
            let pushing = list.iter().any(|r| r.state == SessionState::Open && r.kind == SessionKind::Push);
            moves.retain(|one| {
                let (from, to) = (record_of(&list, one.from.0), record_of(&list, one.to.0));
                let movable = from.is_some_and(|record| {
                    let stuck = pushing && record.moved.get(&one.from.1).is_some_and(|moved| moved.gone);
                    !stuck && !record.deleted.contains(&one.from.1)
                });
                let stays = to.is_some_and(|record| !record.is_going(one.to.1));
                let covers = copied.get(&one.from).is_some_and(|copied| {
                    let needed = survey.packs.get(&one.from).into_iter().flat_map(Needs::keys);
                    needed.into_iter().all(|offset| copied.contains(offset))
                });
                movable && stays && covers
            });
            counters = now;
        }
        Err(overtaken().into())
    }

    /// A page, from wherever it is to be had.
    fn page(&self, kind: FrameKind, at: &FrameRef) -> Result<Option<Bytes>, RepairError> {
        if let Some(plain) = self.readable(self.vault.frame(kind, at, None))? {
            return Ok(Some(plain));
        }
        Ok(self.otherwise(kind, at)?.map(|(_, plain, _)| plain))
    }
}

fn record_of(list: &SessionList, session: SessionNo) -> Option<&SessionRecord> {
    list.iter().find(|record| record.session == session)
}

/// Damaged packs that a push made: for a relocation pack, those that lie in it.
fn pushed(list: &SessionList, damaged: &BTreeSet<PackId>) -> BTreeSet<PackId> {
    let committed = list.iter().filter(|record| record.state == SessionState::Committed);
    let pushes = committed.filter(|record| record.kind == SessionKind::Push);
    let mut all = BTreeSet::new();
    for record in pushes {
        let own = damaged.range((record.session, 0)..=(record.session, u32::MAX));
        all.extend(own.filter(|(_, number)| *number < record.packs && !record.deleted.contains(number)));
        let lies = record.moved.iter().filter(|(_, moved)| damaged.contains(&(moved.to, moved.number)));
        all.extend(lies.map(|(number, _)| (record.session, *number)));
    }
    all
}

/// The relocation pack in which a pack lies.
fn target_of(list: &SessionList, (session, number): &PackId) -> Option<PackId> {
    let moved = record_of(list, *session)?.moved.get(number)?;
    Some((moved.to, moved.number))
}
