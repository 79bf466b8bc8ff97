//! Everything there is in a walk, the time, mounts, and what must hold.

use super::collection::Collecting;
use super::pushing::Device;
use backupengine_model::ledger::{GRACE_SECS, LedgerState, SessionState, SnapshotRecord};
use backupengine_model::{DeviceId, SessionNo, SnapshotId, Timestamp};
use backupengine_testkit::Seeded;
use std::collections::{BTreeMap, BTreeSet};

pub(super) type Pack = (SessionNo, u32);
/// A frame: where it was stored first, and what it holds.
pub(super) type Frame = (Pack, u8);

/// A rule that can be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    CommitEpoch,
    ReviveAtCommit,
    ParentAgain,
    DedupFilter,
    RetireCas,
    AckWait,
    Grace,
    Leases,
    TrashCounts,
    MoveVersion,
    MoveEpoch,
    InUse,
    MoveUnderPush,
}

/// How often something happened.
#[derive(Default)]
pub(super) struct Count {
    pub(super) commits: u64,
    pub(super) deleted: u64,
    pub(super) moved: u64,
    pub(super) revived: u64,
}

/// A mount of one snapshot, with a lease.
struct Mount {
    id: [u8; 16],
    snapshot: SessionNo,
    renewed: i64,
    asleep: bool,
}

/// A reader that looked where the frames of a snapshot lie, and reads there for three days without asking again (a
/// grant that is held, a cached answer).
struct Holder {
    blobs: BTreeSet<Pack>,
    since: i64,
}

pub(super) struct World {
    pub(super) ledger: LedgerState,
    pub(super) now: i64,
    pub(super) random: Seeded,
    pub(super) without: Option<Rule>,
    /// Frames that lie in each stored blob.
    pub(super) blobs: BTreeMap<Pack, BTreeSet<Frame>>,
    /// What was ever stored in packs of pushes.
    pub(super) contents: BTreeMap<Pack, BTreeSet<u8>>,
    /// What each snapshot needs.
    pub(super) needs: BTreeMap<SessionNo, BTreeSet<Frame>>,
    pub(super) count: Count,
    devices: Vec<Device>,
    collections: Vec<Collecting>,
    mounts: Vec<Mount>,
    holders: Vec<Holder>,
    mounted: u8,
}

const HOUR: i64 = 3600;
/// How long a lease lasts.
const LEASE: i64 = HOUR;

pub(super) type Bad = String;

impl World {
    pub(super) fn new(seed: u64, without: Option<Rule>) -> Self {
        Self {
            ledger: LedgerState::default(),
            now: 1_000_000,
            random: Seeded::new(seed),
            without,
            blobs: BTreeMap::new(),
            contents: BTreeMap::new(),
            needs: BTreeMap::new(),
            count: Count::default(),
            devices: (1..4).map(|n| Device::new(DeviceId([n; 16]))).collect(),
            collections: vec![Collecting::Idle, Collecting::Idle],
            mounts: Vec::new(),
            holders: Vec::new(),
            mounted: 0,
        }
    }

    pub(super) fn has(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    pub(super) fn time(&self) -> Timestamp {
        Timestamp { secs: self.now, nanos: 0 }
    }

    /// True once in `n`.
    pub(super) fn one_in(&self, n: u64) -> bool {
        self.random.below(n) == 0
    }

    pub(super) fn pick<T: Clone>(&self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { from.get(self.random.below(from.len() as u64) as usize).cloned() }
    }

    pub(super) fn live(&self) -> Vec<SessionNo> {
        self.ledger.snapshots.iter().map(|s| s.session).collect()
    }

    pub(super) fn record(&self, session: SessionNo, device: DeviceId) -> SnapshotRecord {
        let (created, label) = (Timestamp::default(), Vec::new());
        SnapshotRecord { session, id: SnapshotId([1; 8]), device, created, root_size: 1, head_len: 1, label }
    }

    /// Random steps; the first thing that is not as it must be.
    pub(super) fn walk(&mut self, steps: u64) -> Result<(), Bad> {
        for step in 0..steps {
            self.step().and_then(|()| self.check()).map_err(|bad| format!("step {step}: {bad}"))?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Bad> {
        match self.random.below(20) {
            0..8 => {
                let at = self.random.below(self.devices.len() as u64) as usize;
                let mut device = self.devices.swap_remove(at);
                let done = device.step(self);
                self.devices.push(device);
                done
            }
            8..14 => {
                let at = self.random.below(self.collections.len() as u64) as usize;
                let collecting = std::mem::take(&mut self.collections[at]);
                self.collections[at] = collecting.step(self)?;
                Ok(())
            }
            14..16 => {
                self.keep();
                Ok(())
            }
            16..18 => {
                self.mount();
                Ok(())
            }
            _ => {
                self.wait();
                Ok(())
            }
        }
    }

    /// An owner decides.
    fn keep(&mut self) {
        let live = self.live();
        let Some(session) = self.pick(&live) else { return };
        let trashed: Vec<SessionNo> = self.ledger.trash.iter().map(|t| t.snapshot.session).collect();
        match self.random.below(8) {
            0 => drop(self.ledger.hold(&[session], true)),
            1 => drop(self.ledger.hold(&[session], false)),
            2 => drop(self.pick(&trashed).map(|session| self.ledger.untrash(&[session]))),
            _ if live.len() > 2 || self.one_in(3) => drop(self.ledger.trash(&[session], self.time())),
            _ => {}
        }
    }

    fn mount(&mut self) {
        let at = self.random.below(self.mounts.len().max(1) as u64) as usize;
        match self.random.below(8) {
            0 if at < self.mounts.len() => {
                let mount = self.mounts.remove(at);
                self.ledger.release(mount.id);
            }
            1 if at < self.mounts.len() => self.mounts[at].asleep = !self.mounts[at].asleep,
            2..4 if self.holders.len() < 3 => {
                let Some(snapshot) = self.pick(&self.live()) else { return };
                let frames = self.needs.get(&snapshot).into_iter().flatten();
                let blobs = frames.map(|(pack, _)| self.place(*pack)).collect();
                self.holders.push(Holder { blobs, since: self.now });
            }
            _ if self.mounts.len() < 3 => {
                let Some(snapshot) = self.pick(&self.live()) else { return };
                self.mounted += 1;
                let id = [self.mounted; 16];
                self.mounts.push(Mount { id, snapshot, renewed: self.now, asleep: false });
            }
            _ => {}
        }
        self.renew();
    }

    fn wait(&mut self) {
        self.now += match self.random.below(10) {
            0..4 => HOUR / 2,
            4..7 => 20 * HOUR,
            7..9 => 73 * HOUR,
            _ => 15 * 24 * HOUR,
        };
        // One that sleeps for longer than it is promised anything is gone.
        let now = self.now;
        self.mounts.retain(|mount| !mount.asleep || now < mount.renewed + LEASE + GRACE_SECS);
        self.holders.retain(|holder| now < holder.since + GRACE_SECS);
        self.renew();
    }

    fn renew(&mut self) {
        for mount in self.mounts.iter_mut().filter(|mount| !mount.asleep) {
            mount.renewed = self.now;
            if self.without != Some(Rule::Leases) {
                self.ledger.lease(mount.id, &[mount.snapshot], Timestamp { secs: self.now, nanos: 0 });
            }
        }
    }

    /// Where a pack's frames lie, as the ledger says.
    fn place(&self, pack: Pack) -> Pack {
        let moved = self.ledger.session(pack.0).and_then(|record| record.moved.get(&pack.1));
        moved.map_or(pack, |moved| (moved.to, moved.number))
    }

    /// Whether a frame can be read: where it was stored, or else where the ledger says.
    pub(super) fn reads(&self, frame: &Frame) -> bool {
        let (pack, _) = frame;
        if let Some(blob) = self.blobs.get(pack) {
            return blob.contains(frame);
        }
        self.blobs.get(&self.place(*pack)).is_some_and(|blob| blob.contains(frame))
    }

    fn check(&self) -> Result<(), Bad> {
        let kept = self.ledger.kept().into_iter().map(|kept| (kept.snapshot.session, "kept"));
        let mounted = self.mounts.iter().map(|mount| (mount.snapshot, "mounted"));
        for (session, why) in kept.chain(mounted) {
            for frame in self.needs.get(&session).into_iter().flatten() {
                if !self.reads(frame) {
                    return Err(format!("{frame:?} of {session} is lost, which is {why}"));
                }
            }
        }
        let held = self.holders.iter().flat_map(|holder| &holder.blobs);
        match held.into_iter().find(|pack| !self.blobs.contains_key(pack)) {
            Some(pack) => Err(format!("{pack:?} is read for three days, and gone")),
            None => Ok(()),
        }
    }

    /// Deletes the blobs that the ledger says are gone.
    pub(super) fn sweep(&mut self) {
        let ledger = &self.ledger;
        let before = self.blobs.len();
        self.blobs.retain(|(session, number), _| {
            ledger.session(*session).is_some_and(|s| {
                s.state != SessionState::Expired
                    && !s.deleted.contains(number)
                    && !s.moved.get(number).is_some_and(|moved| moved.gone)
            })
        });
        self.count.deleted += (before - self.blobs.len()) as u64;
    }
}
