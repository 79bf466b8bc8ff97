//! Giving space back without locks (format.md 8.4, 8.5): the rules.
//!
//! A collection marks, the ledger guards when. Two counters are compared and set. A pack that no snapshot needs is
//! *retired*: it stays readable, nobody may newly refer to it, whoever does already brings it back. A pack of which
//! little is needed is *moved*: what is needed was copied into a relocation pack, and its places are looked up there. It
//! is *purged* when every session that was opened before knows of it or has ended, and [`GRACE_SECS`] have passed.
//! Pushes never wait; only deletion does.
//!
//! **What always holds.**
//! - A snapshot is committed under the epoch of everything that was retired and moved before: nothing it refers to goes.
//! - What a mount has opened, and what is in the trash or held, is as good as live.
//! - A relocation pack is a place only: nothing refers to it but the map, it is never moved, and it goes when no pack
//!   that is left lies in it. Moving a pack again writes its entry anew: there are no chains.
//! - A move can be taken back until the old blob is gone: a writer that knew the pack before may refer to frames of it
//!   that were not copied. One that cannot be taken back is not replaced while a push is open.
//!
//! **Where it is tested.** Below; by random interleavings against each rule's absence in `tests/protocol`.
//!
//! *Decision.* 2026-11-29, against format.md 8.5 and the draft of the control plane: a move compares both counters and
//! begins an epoch. A push that was under way may have taken a frame for stored that no snapshot needed yet; without
//! the epoch its commit would not learn that just this frame was left behind, and without the other counter a
//! snapshot committed while frames were copied would lose its own.
//!
//! *Decision.* 2026-11-29: once its old blob is gone, a pack is moved on only while no push is open. A push that was may
//! build on a snapshot that was purged since, so that the second copy lacks frames of the first; and there would be
//! nothing left to bring back.

use super::{
    LedgerState, Moved, PackRun, RuleBroken, SessionKind, SessionRecord, SessionState, Since, SnapshotRecord,
};
use crate::{SessionNo, Timestamp};
use rangemap::RangeSet;

/// How long a retired pack, a silent session and a lease that ended are waited for, in seconds: 72 hours.
pub const GRACE_SECS: i64 = 72 * 60 * 60;

/// What is compared and set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Of the list of snapshots.
    pub version: u64,
    /// Of what was retired and moved.
    pub gc_epoch: u64,
}

/// Whether times are waited for. Sessions that are open, leases and holds always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// The trash and the grace last as long as they do.
    Wait,
    /// Both end now. Only where the vault is its owner's alone to remove anyway: in a folder.
    Now,
}

/// A pack whose frames were copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Where it was: session and number.
    pub from: (SessionNo, u32),
    /// Where they are.
    pub to: (SessionNo, u32),
}

impl LedgerState {
    /// Where a collection begins: ends what is silent, and purges snapshots whose time in the trash is over. A snapshot
    /// that a mount has opened stays. Gives every snapshot that counts.
    pub fn begin_collection(
        &mut self,
        now: Timestamp,
        haste: Haste,
        seen: &dyn Fn(SessionNo) -> Option<Timestamp>,
    ) -> Vec<SnapshotRecord> {
        self.expire(now, seen);
        // A mount that slept keeps what it had for as long as packs have grace.
        let grace = if haste == Haste::Now { 0 } else { GRACE_SECS };
        self.leases.retain(|lease| lease.expires.secs.saturating_add(grace) > now.secs);
        let before = self.trash.len();
        let (held, leases) = (&self.held, &self.leases);
        self.trash.retain(|t| {
            let session = t.snapshot.session;
            (haste == Haste::Wait && t.purge_after > now)
                || held.contains(&session)
                || leases.iter().any(|lease| lease.snapshots.binary_search(&session).is_ok())
        });
        self.version += u64::from(self.trash.len() != before);
        self.kept().into_iter().map(|kept| kept.snapshot).collect()
    }

    /// Sessions whose root may not be there (any more): their snapshot is purged, or there never was one.
    pub fn is_rootless(&self, session: SessionNo) -> bool {
        let listed = self.snapshots.iter().chain(self.trash.iter().map(|t| &t.snapshot));
        match self.session(session).map(|record| record.state) {
            Some(SessionState::Committed) => !listed.into_iter().any(|s| s.session == session),
            Some(SessionState::Expired) => true,
            Some(SessionState::Open) | None => false,
        }
    }

    fn need_counters(&self, at: Counters) -> Result<(), RuleBroken> {
        if at == self.counters() { Ok(()) } else { Err(RuleBroken::CountersMoved) }
    }

    /// A session that was committed and has these packs.
    fn packs(&self, run: &PackRun) -> Result<&SessionRecord, RuleBroken> {
        let record = self.session(run.session).ok_or(RuleBroken::UnknownSession)?;
        let end = run.from.checked_add(run.count).ok_or(RuleBroken::WrongPack)?;
        let good = record.state == SessionState::Committed && run.count > 0 && end <= record.packs;
        if good { Ok(record) } else { Err(RuleBroken::WrongPack) }
    }

    /// Whether a pack that is left lies in one of these.
    fn holds_moved(&self, run: &PackRun) -> bool {
        self.sessions.iter().any(|s| {
            s.moved.iter().any(|(number, moved)| {
                moved.to == run.session && numbers(run).contains(&moved.number) && !s.deleted.contains(number)
            })
        })
    }

    /// Nobody may newly refer to these packs.
    ///
    /// # Errors
    /// `CountersMoved`, `UnknownSession`, `WrongPack`; `InUse` where others were moved there. Nothing was changed then.
    pub fn retire(
        &mut self,
        at: Counters,
        packs: &[PackRun],
        now: Timestamp,
    ) -> Result<Counters, RuleBroken> {
        self.need_counters(at)?;
        for run in packs {
            self.packs(run)?;
            if self.holds_moved(run) {
                return Err(RuleBroken::InUse);
            }
        }
        let since = Since { epoch: self.gc_epoch + 1, at: now };
        let mut any = false;
        for run in packs {
            let Some(record) = self.session_mut(run.session) else { continue };
            let fresh: Vec<_> = record.retired.gaps(&numbers(run)).collect();
            for part in fresh {
                for part in record.deleted.gaps(&part).collect::<Vec<_>>() {
                    record.retired.insert(part, since);
                    any = true;
                }
            }
        }
        self.gc_epoch += u64::from(any);
        Ok(self.counters())
    }

    /// Brings packs back that somebody refers to after all: retired ones, and moved ones that are still there.
    ///
    /// # Errors
    /// `UnknownSession`, `WrongPack`; `PackGone` where that is too late: nothing was changed then.
    pub fn revive(&mut self, packs: &[PackRun]) -> Result<Counters, RuleBroken> {
        for run in packs {
            let record = self.packs(run)?;
            if record.deleted.overlaps(&numbers(run)) {
                return Err(RuleBroken::PackGone);
            }
        }
        let mut any = false;
        for run in packs {
            let Some(record) = self.session_mut(run.session) else { continue };
            if record.retired.overlaps(&numbers(run)) {
                record.retired.remove(numbers(run));
                any = true;
            }
            let back: Vec<u32> =
                record.moved.range(numbers(run)).filter(|(_, moved)| !moved.gone).map(|(n, _)| *n).collect();
            for number in back {
                record.moved.remove(&number);
                any = true;
            }
        }
        self.gc_epoch += u64::from(any);
        Ok(self.counters())
    }

    /// Frames of pushed packs were copied into packs of a compaction or heal.
    ///
    /// # Errors
    /// `CountersMoved`, `UnknownSession`, `WrongPack`; `PackGone` where a source is deleted or a target is going; `InUse`
    /// where a source's old blob is gone and a push is open.
    pub fn relocate(&mut self, at: Counters, moves: &[Move], now: Timestamp) -> Result<Counters, RuleBroken> {
        self.need_counters(at)?;
        let open = |s: &SessionRecord| s.state == SessionState::Open && s.kind == SessionKind::Push;
        let pushing = self.sessions.iter().any(open);
        for (n, one) in moves.iter().enumerate() {
            let run = |(session, from)| PackRun { session, from, count: 1 };
            let (source, target) = (self.packs(&run(one.from))?, self.packs(&run(one.to))?);
            let twice = moves[..n].iter().any(|other| other.from == one.from);
            if source.kind != SessionKind::Push || target.kind == SessionKind::Push || twice {
                return Err(RuleBroken::WrongPack);
            }
            let going = target.retired.contains_key(&one.to.1) || target.deleted.contains(&one.to.1);
            if source.deleted.contains(&one.from.1) || going {
                return Err(RuleBroken::PackGone);
            }
            if pushing && source.moved.get(&one.from.1).is_some_and(|moved| moved.gone) {
                return Err(RuleBroken::InUse);
            }
        }
        let since = Since { epoch: self.gc_epoch + 1, at: now };
        for one in moves {
            let Some(record) = self.session_mut(one.from.0) else { continue };
            let gone = record.moved.get(&one.from.1).is_some_and(|moved| moved.gone);
            record.moved.insert(one.from.1, Moved { to: one.to.0, number: one.to.1, since, gone });
        }
        self.gc_epoch += u64::from(!moves.is_empty());
        Ok(self.counters())
    }

    /// Deletes what may be deleted of these packs and says which those were: retired ones, and old blobs of moved ones
    /// (the packs stay, elsewhere). `size` is the length of a pack's blob in bytes.
    ///
    /// # Errors
    /// `UnknownSession`, `WrongPack`.
    pub fn purge(
        &mut self,
        packs: &[PackRun],
        now: Timestamp,
        haste: Haste,
        size: &dyn Fn(SessionNo, u32) -> u64,
    ) -> Result<Vec<PackRun>, RuleBroken> {
        for run in packs {
            self.packs(run)?;
        }
        let open = self.sessions.iter().filter(|s| s.state == SessionState::Open);
        let known = open.map(|s| s.acked).min().unwrap_or(u64::MAX);
        let ripe = |since: &Since| {
            let waited = haste == Haste::Now || since.at.secs.saturating_add(GRACE_SECS) <= now.secs;
            waited && since.epoch <= known
        };
        let mut swept = Vec::new();
        for run in packs {
            let Some(record) = self.session_mut(run.session) else { continue };
            let whole = numbers(run);
            let mut blobs = RangeSet::new();
            let retired: Vec<_> = record
                .retired
                .overlapping(&whole)
                .filter(|(_, since)| ripe(since))
                .map(|(part, _)| part.start.max(whole.start)..part.end.min(whole.end))
                .collect();
            for part in retired {
                for part in record.deleted.gaps(&part).collect::<Vec<_>>() {
                    blobs.insert(part.clone());
                    record.deleted.insert(part);
                }
            }
            for (number, moved) in record.moved.range_mut(whole.clone()) {
                if moved.gone {
                    // That blob is gone since it was moved.
                    blobs.remove(*number..number + 1);
                } else if record.deleted.contains(number) || ripe(&moved.since) {
                    moved.gone = true;
                    blobs.insert(*number..number + 1);
                }
            }
            let deleted = &record.deleted;
            record.moved.retain(|number, _| !deleted.contains(number));
            for part in blobs.iter() {
                let freed = part.clone().fold(0_u64, |sum, n| sum.saturating_add(size(run.session, n)));
                record.bytes = record.bytes.saturating_sub(freed);
                swept.push(PackRun { session: run.session, from: part.start, count: part.end - part.start });
            }
        }
        Ok(swept)
    }
}

fn numbers(run: &PackRun) -> std::ops::Range<u32> {
    run.from..run.from.saturating_add(run.count)
}

#[cfg(test)]
mod tests {
    use super::super::Commit;
    use super::*;
    use crate::{DeviceId, SnapshotId};

    const ME: DeviceId = DeviceId([1; 16]);
    const HOUR: i64 = 60 * 60;

    fn at(secs: i64) -> Timestamp {
        Timestamp { secs, nanos: 0 }
    }

    fn run(session: SessionNo, from: u32, count: u32) -> PackRun {
        PackRun { session, from, count }
    }

    fn commit_of(session: SessionNo, gc_epoch: Option<u64>) -> Commit {
        let snapshot = SnapshotRecord {
            session,
            id: SnapshotId([1; 8]),
            device: ME,
            created: at(0),
            root_size: 64,
            head_len: 10,
            label: Vec::new(),
        };
        Commit { snapshot, packs: 4, bytes: 400, meta_packs: Vec::new(), gc_epoch, hold: None }
    }

    /// A ledger with two snapshots of four packs and two relocation packs.
    fn ledger() -> (LedgerState, SessionNo, SessionNo, SessionNo) {
        let mut ledger = LedgerState::default();
        let mut push = || {
            let session = ledger.open(ME, SessionKind::Push, at(0)).unwrap();
            ledger.commit(ME, &commit_of(session, None)).unwrap();
            session
        };
        let (one, two) = (push(), push());
        let copies = ledger.open(ME, SessionKind::Compact, at(0)).unwrap();
        ledger.end_relocation(ME, copies, 2, 200).unwrap();
        (ledger, one, two, copies)
    }

    fn retire(ledger: &mut LedgerState, packs: &[PackRun], secs: i64) -> Result<Counters, RuleBroken> {
        ledger.retire(ledger.counters(), packs, at(secs))
    }

    fn purge(ledger: &mut LedgerState, packs: &[PackRun], secs: i64) -> Vec<PackRun> {
        ledger.purge(packs, at(secs), Haste::Wait, &|_, _| 100).unwrap()
    }

    #[test]
    fn a_retired_pack_goes_when_its_time_is_over_and_everybody_knows() {
        let (mut ledger, one, ..) = ledger();
        let open = ledger.open(ME, SessionKind::Push, at(0)).unwrap();
        let all = [run(one, 0, 4)];
        retire(&mut ledger, &[run(one, 1, 2)], 10).unwrap();
        assert_eq!(ledger.gc_epoch, 1);
        assert_eq!(purge(&mut ledger, &all, 10 + GRACE_SECS - 1), []);
        assert_eq!(purge(&mut ledger, &all, 10 + GRACE_SECS), [], "an open session does not know");
        assert_eq!(ledger.purge(&all, at(10), Haste::Now, &|_, _| 100), Ok(vec![]), "whatever the haste");
        assert_eq!(ledger.commit(ME, &commit_of(open, None)), Err(RuleBroken::CountersMoved));
        ledger.commit(ME, &commit_of(open, Some(1))).unwrap();
        assert_eq!(purge(&mut ledger, &all, 10 + GRACE_SECS), [run(one, 1, 2)]);
        assert_eq!(ledger.session(one).unwrap().bytes, 200);
        assert_eq!(purge(&mut ledger, &all, 10 + GRACE_SECS), [], "once");
        assert_eq!(ledger.revive(&[run(one, 2, 1)]), Err(RuleBroken::PackGone));
        assert_eq!(retire(&mut ledger, &all, 20).unwrap().gc_epoch, 2, "the others may be retired");
        assert_eq!(ledger.session(one).unwrap().retired.iter().count(), 3);
    }

    #[test]
    fn the_grace_begins_with_the_last_time() {
        let (mut ledger, one, ..) = ledger();
        let pack = [run(one, 0, 1)];
        retire(&mut ledger, &pack, 0).unwrap();
        assert_eq!(retire(&mut ledger, &pack, 50 * HOUR).unwrap().gc_epoch, 1, "again is no new time");
        assert_eq!(ledger.revive(&pack).unwrap().gc_epoch, 2);
        assert_eq!(ledger.revive(&pack).unwrap().gc_epoch, 2);
        assert_eq!(purge(&mut ledger, &pack, 100 * HOUR), []);
        retire(&mut ledger, &pack, 100 * HOUR).unwrap();
        assert_eq!(purge(&mut ledger, &pack, 171 * HOUR), []);
        assert_eq!(purge(&mut ledger, &pack, 172 * HOUR), pack);
    }

    #[test]
    fn both_counters_are_compared() {
        let (mut ledger, one, _, copies) = ledger();
        let now = ledger.counters();
        for counters in [
            Counters { version: now.version - 1, ..now },
            Counters { version: now.version + 1, ..now },
            Counters { gc_epoch: now.gc_epoch + 1, ..now },
        ] {
            let before = ledger.clone();
            let moved = [Move { from: (one, 0), to: (copies, 0) }];
            assert_eq!(ledger.retire(counters, &[run(one, 0, 1)], at(0)), Err(RuleBroken::CountersMoved));
            assert_eq!(ledger.relocate(counters, &moved, at(0)), Err(RuleBroken::CountersMoved));
            assert_eq!(ledger, before);
        }
    }

    #[test]
    fn only_packs_of_sessions_that_ended_are_named() {
        let (mut ledger, one, ..) = ledger();
        let open = ledger.open(ME, SessionKind::Push, at(0)).unwrap();
        let before = ledger.clone();
        for (wrong, why) in [
            (run(one, 3, 2), RuleBroken::WrongPack),
            (run(one, 0, 0), RuleBroken::WrongPack),
            (run(one, u32::MAX, 2), RuleBroken::WrongPack),
            (run(open, 0, 1), RuleBroken::WrongPack),
            (run(SessionNo(99), 0, 1), RuleBroken::UnknownSession),
        ] {
            let runs = [run(one, 0, 1), wrong];
            assert_eq!(retire(&mut ledger, &runs, 0), Err(why));
            assert_eq!(ledger.revive(&runs), Err(why));
            assert_eq!(ledger.purge(&runs, at(0), Haste::Now, &|_, _| 0), Err(why));
        }
        assert_eq!(ledger, before);
    }

    #[test]
    fn what_was_moved_there_keeps_a_relocation_pack() {
        let (mut ledger, one, two, copies) = ledger();
        let moves = [Move { from: (one, 0), to: (copies, 0) }, Move { from: (two, 3), to: (copies, 0) }];
        assert_eq!(ledger.relocate(ledger.counters(), &moves, at(0)).unwrap().gc_epoch, 1);
        assert_eq!(retire(&mut ledger, &[run(copies, 0, 1)], 0), Err(RuleBroken::InUse));
        retire(&mut ledger, &[run(copies, 1, 1)], 0).unwrap();
        let going = [Move { from: (one, 1), to: (copies, 1) }];
        assert_eq!(ledger.relocate(ledger.counters(), &going, at(0)), Err(RuleBroken::PackGone));
        // The old blob goes by the same rules, the pack does not.
        let pack = [run(one, 0, 1)];
        assert_eq!(purge(&mut ledger, &pack, GRACE_SECS - 1), []);
        assert_eq!(purge(&mut ledger, &pack, GRACE_SECS), pack);
        assert!(
            ledger.session(one).unwrap().moved[&0].gone && !ledger.session(one).unwrap().deleted.contains(&0)
        );
        assert_eq!(purge(&mut ledger, &pack, GRACE_SECS), []);
        assert_eq!(ledger.revive(&pack).unwrap().gc_epoch, 2, "nothing is left to take back");
        retire(&mut ledger, &pack, GRACE_SECS).unwrap();
        assert_eq!(purge(&mut ledger, &pack, 2 * GRACE_SECS), [], "its blob is gone already");
        assert!(ledger.session(one).unwrap().moved.is_empty());
        assert_eq!(retire(&mut ledger, &[run(copies, 0, 1)], 0), Err(RuleBroken::InUse), "the other is left");
        retire(&mut ledger, &[run(two, 3, 1)], 0).unwrap();
        assert_eq!(purge(&mut ledger, &[run(two, 3, 1)], GRACE_SECS), [run(two, 3, 1)]);
        retire(&mut ledger, &[run(copies, 0, 1)], 0).unwrap();
    }

    #[test]
    fn a_move_waits_for_sessions_and_can_be_taken_back() {
        let (mut ledger, one, _, copies) = ledger();
        let open = ledger.open(ME, SessionKind::Push, at(0)).unwrap();
        let moves = [Move { from: (one, 0), to: (copies, 0) }];
        ledger.relocate(ledger.counters(), &moves, at(0)).unwrap();
        assert_eq!(purge(&mut ledger, &[run(one, 0, 1)], GRACE_SECS), [], "an open session does not know");
        assert_eq!(ledger.commit(ME, &commit_of(open, None)), Err(RuleBroken::CountersMoved));
        assert_eq!(ledger.revive(&[run(one, 0, 2)]).unwrap().gc_epoch, 2);
        assert!(ledger.session(one).unwrap().moved.is_empty());
        ledger.commit(ME, &commit_of(open, Some(2))).unwrap();
    }

    #[test]
    fn moving_again_leaves_no_chain() {
        let (mut ledger, one, two, copies) = ledger();
        let moves = |number| [Move { from: (one, 0), to: (copies, number) }];
        ledger.relocate(ledger.counters(), &moves(0), at(0)).unwrap();
        purge(&mut ledger, &[run(one, 0, 1)], GRACE_SECS);
        ledger.relocate(ledger.counters(), &moves(1), at(GRACE_SECS)).unwrap();
        let moved = ledger.session(one).unwrap().moved[&0];
        assert_eq!((moved.to, moved.number, moved.gone), (copies, 1, true));
        retire(&mut ledger, &[run(copies, 0, 1)], 0).unwrap();
        let into = |from, to| [Move { from, to }];
        for wrong in [into((copies, 1), (copies, 1)), into((one, 1), (two, 0)), into((one, 4), (copies, 1))] {
            assert_eq!(ledger.relocate(ledger.counters(), &wrong, at(0)), Err(RuleBroken::WrongPack));
        }
        let twice = [moves(1)[0], moves(1)[0]];
        assert_eq!(ledger.relocate(ledger.counters(), &twice, at(0)), Err(RuleBroken::WrongPack));
    }

    #[test]
    fn the_trash_is_as_good_as_live_until_its_time_is_over() {
        let (mut ledger, one, two, _) = ledger();
        ledger.trash(&[one, two], at(0)).unwrap();
        let over = 14 * 24 * HOUR;
        let counted = |ledger: &mut LedgerState, secs, haste| {
            let snapshots = ledger.begin_collection(at(secs), haste, &|_| None);
            snapshots.iter().map(|s| s.session).collect::<Vec<_>>()
        };
        let version = ledger.version;
        assert_eq!(counted(&mut ledger, over - 1, Haste::Wait), [one, two]);
        assert_eq!((ledger.version, ledger.is_rootless(one)), (version, false));
        ledger.hold(&[two], true).unwrap();
        ledger.lease([1; 16], &[one], at(over));
        let version = ledger.version;
        assert_eq!(
            counted(&mut ledger, over + HOUR + GRACE_SECS - 1, Haste::Wait),
            [one, two],
            "it may sleep"
        );
        assert_eq!(ledger.version, version);
        ledger.lease([1; 16], &[], at(over));
        assert_eq!(counted(&mut ledger, over + HOUR - 1, Haste::Now), [one, two], "it is mounted");
        assert_eq!(counted(&mut ledger, over + HOUR, Haste::Now), [two], "held");
        assert_eq!((ledger.version, ledger.is_rootless(one)), (version + 1, true));
        assert_eq!(ledger.untrash(&[one]), Err(RuleBroken::UnknownSnapshot));
        ledger.hold(&[two], false).unwrap();
        assert_eq!(counted(&mut ledger, over, Haste::Wait), []);
    }

    #[test]
    fn haste_waits_for_no_time() {
        let (mut ledger, one, two, _) = ledger();
        ledger.trash(&[one], at(0)).unwrap();
        let left = ledger.begin_collection(at(1), Haste::Now, &|_| None);
        assert_eq!(left.len(), 1);
        retire(&mut ledger, &[run(one, 0, 4)], 1).unwrap();
        assert_eq!(ledger.purge(&[run(one, 0, 4)], at(1), Haste::Now, &|_, _| 100), Ok(vec![run(one, 0, 4)]));
        assert!(!ledger.is_rootless(two) && !ledger.is_rootless(SessionNo(99)));
    }

    fn pushed(ledger: &mut LedgerState) -> SessionNo {
        let session = ledger.open(ME, SessionKind::Push, at(0)).unwrap();
        let id = SnapshotId([1; 8]);
        let (created, label) = (at(0), Vec::new());
        let snapshot = SnapshotRecord { session, id, device: ME, created, root_size: 1, head_len: 1, label };
        let commit =
            Commit { snapshot, packs: 2, bytes: 2, meta_packs: Vec::new(), gc_epoch: None, hold: None };
        ledger.commit(ME, &commit).unwrap();
        session
    }

    fn moved_to(ledger: &mut LedgerState, from: (SessionNo, u32), now: i64) -> Result<SessionNo, RuleBroken> {
        let to = ledger.open(ME, SessionKind::Compact, at(now)).unwrap();
        ledger.end_relocation(ME, to, 1, 1).unwrap();
        ledger.relocate(ledger.counters(), &[Move { from, to: (to, 0) }], at(now)).map(|_| to)
    }

    /// A push that is open may refer to what only the first copy holds.
    #[test]
    fn a_pack_whose_blob_is_gone_is_not_moved_on_under_a_push() {
        let mut ledger = LedgerState::default();
        let first = pushed(&mut ledger);
        moved_to(&mut ledger, (first, 1), 0).unwrap();
        let whole = PackRun { session: first, from: 0, count: 2 };
        let open = ledger.open(ME, SessionKind::Push, at(1)).unwrap();
        // The old blob is there: the move can be taken back.
        let to = moved_to(&mut ledger, (first, 1), 1).unwrap();
        let purge = |ledger: &mut LedgerState, now| ledger.purge(&[whole], at(now), Haste::Wait, &|_, _| 1);
        assert_eq!(purge(&mut ledger, 1 + GRACE_SECS), Ok(vec![]), "a push is open that may need it");
        ledger.expire(at(1 + GRACE_SECS), &|_| None);
        assert_eq!(ledger.session(open).unwrap().state, SessionState::Expired);
        let gone = PackRun { session: first, from: 1, count: 1 };
        assert_eq!(purge(&mut ledger, 1 + GRACE_SECS), Ok(vec![gone]));
        ledger.open(ME, SessionKind::Push, at(2 * GRACE_SECS)).unwrap();
        assert_eq!(moved_to(&mut ledger, (first, 1), 2 * GRACE_SECS), Err(RuleBroken::InUse));
        assert_eq!(ledger.session(first).unwrap().moved[&1].to, to);
        ledger.expire(at(4 * GRACE_SECS), &|_| None);
        moved_to(&mut ledger, (first, 1), 4 * GRACE_SECS).unwrap();
    }
}
