//! Retire, bring back, purge. May not look behind the port; see the suite's head.

use super::{ALMOST, HOUR, Upkept, breaks, kind, run, wait};
use backupengine_model::SessionNo;
use backupengine_model::ledger::{Commit, Counters, GRACE_SECS, Haste, PackRun, RuleBroken, SessionState};
use backupengine_store::{BlobKey, ErrorKind, Range};

/// Either counter that moved refuses, and changes nothing; again is no epoch of its own.
pub fn retiring_compares_both_counters(vault: &Upkept) {
    let session = vault.push(3);
    let at = vault.begin();
    for wrong in [
        Counters { version: at.version + 1, ..at },
        Counters { version: at.version - 1, ..at },
        Counters { gc_epoch: at.gc_epoch + 1, ..at },
    ] {
        breaks(RuleBroken::CountersMoved, wait(vault.one.retire(wrong, &[run(session, 0, 1)])));
        // Before all else: whoever is late begins again.
        breaks(RuleBroken::CountersMoved, wait(vault.one.retire(wrong, &[run(session, 0, 9)])));
    }
    assert_eq!(vault.session(session).retired.len(), 0);
    let after = wait(vault.one.retire(at, &[run(session, 0, 2)])).expect("packs are retired");
    assert_eq!(after, Counters { gc_epoch: at.gc_epoch + 1, ..at });
    assert_eq!((vault.epoch(), vault.begin()), (after.gc_epoch, after));
    let listed = vault.session(session);
    assert_eq!([0, 1, 2].map(|number| listed.is_going(number)), [true, true, false]);
    breaks(RuleBroken::CountersMoved, wait(vault.two.retire(at, &[run(session, 2, 1)])));
    assert_eq!(wait(vault.two.retire(after, &[run(session, 0, 2)])).expect("again is no error"), after);
    assert!(vault.is_there(BlobKey::Pack(session, 0)), "what is retired is readable");
    // A snapshot moves the other counter.
    vault.push(1);
    breaks(RuleBroken::CountersMoved, wait(vault.one.retire(after, &[run(session, 2, 1)])));
}

/// Not of an unknown session, not beyond its packs, not of one that is being written; all or none.
pub fn only_packs_that_were_committed_are_retired(vault: &Upkept) {
    let session = vault.push(2);
    let open = vault.open();
    vault.packs(open, 2);
    let at = vault.begin();
    for (bad, rule) in [
        (run(SessionNo(99), 0, 1), RuleBroken::UnknownSession),
        (run(session, 1, 2), RuleBroken::WrongPack),
        (run(session, 2, 1), RuleBroken::WrongPack),
        (run(open, 0, 1), RuleBroken::WrongPack),
        (run(session, 0, 0), RuleBroken::WrongPack),
        (run(session, u32::MAX, 2), RuleBroken::WrongPack),
    ] {
        breaks(rule, wait(vault.one.retire(at, &[run(session, 0, 1), bad])));
        breaks(rule, wait(vault.one.revive(&[run(session, 0, 1), bad])));
        breaks(rule, wait(vault.one.purge(&[run(session, 0, 1), bad], Haste::Wait)));
    }
    assert_eq!((vault.begin(), vault.session(session).retired.len()), (at, 0));
}

/// In an epoch of its own; what comes back is not deleted.
pub fn what_is_retired_can_be_brought_back(vault: &Upkept) {
    let session = vault.push(3);
    let retired = vault.retire(&[run(session, 0, 3)]);
    let back = wait(vault.two.revive(&[run(session, 1, 1)])).expect("a pack is brought back");
    assert_eq!(back, Counters { gc_epoch: retired.gc_epoch + 1, ..retired });
    assert_eq!(wait(vault.one.revive(&[run(session, 1, 1)])).expect("again is no error"), back);
    let listed = vault.session(session);
    assert_eq!([0, 1, 2].map(|number| listed.is_going(number)), [true, false, true]);
    (vault.later)(GRACE_SECS);
    assert_eq!(vault.purge(&[run(session, 0, 3)]), [run(session, 0, 1), run(session, 2, 1)]);
    assert!(vault.is_there(BlobKey::Pack(session, 1)));
    breaks(RuleBroken::PackGone, wait(vault.one.revive(&[run(session, 0, 2)])));
    assert_eq!(vault.epoch(), back.gc_epoch);
    // Retired a second time, its time begins anew.
    vault.retire(&[run(session, 1, 1)]);
    assert_eq!(vault.purge(&[run(session, 1, 1)]), []);
    (vault.later)(GRACE_SECS);
    assert_eq!(vault.purge(&[run(session, 1, 1)]), [run(session, 1, 1)]);
}

/// Not an hour before, once, and only what was retired.
pub fn what_is_retired_goes_when_its_time_is_over(vault: &Upkept) {
    let session = vault.push(3);
    vault.retire(&[run(session, 1, 1)]);
    let all = [run(session, 0, 3)];
    assert_eq!(vault.purge(&all), []);
    (vault.later)(ALMOST);
    assert_eq!(vault.purge(&all), []);
    // Not through the handle that looks afterwards: what it was given to read by may outlive the purge for a while.
    wait(vault.one.get(BlobKey::Pack(session, 1), Range::Whole)).expect("it is there");
    (vault.later)(HOUR);
    assert_eq!(vault.purge(&all), [run(session, 1, 1)]);
    assert_eq!(vault.purge(&all), [], "once");
    assert_eq!([0, 1, 2].map(|n| vault.is_there(BlobKey::Pack(session, n))), [true, false, true]);
    let listed = vault.session(session);
    assert_eq!(listed.deleted.iter().cloned().collect::<Vec<_>>(), vec![1..2]);
    // Nor is it retired again.
    let before = vault.epoch();
    vault.retire(&[run(session, 1, 1)]);
    assert_eq!(vault.epoch(), before);
}

/// In what the vault takes, when the blob goes and not before.
pub fn a_purge_gives_back_what_it_deletes(vault: &Upkept) {
    let session = vault.push(4);
    assert_eq!(vault.used(), 464);
    vault.retire(&[run(session, 0, 3)]);
    assert_eq!(vault.used(), 464);
    (vault.later)(GRACE_SECS);
    vault.purge(&[run(session, 0, 1)]);
    assert_eq!(vault.used(), 364);
    vault.purge(&[run(session, 0, 4)]);
    assert_eq!(vault.used(), 164);
}

/// Whoever began before may have taken a pack for stored.
pub fn an_open_session_keeps_what_was_retired_after_it_began(vault: &Upkept) {
    let session = vault.push(1);
    let writing = vault.open();
    let at = vault.retire(&[run(session, 0, 1)]);
    let knows = vault.open();
    assert_eq!((vault.session(writing).acked, vault.session(knows).acked), (at.gc_epoch - 1, at.gc_epoch));
    (vault.later)(GRACE_SECS);
    assert_eq!(vault.purge(&[run(session, 0, 1)]), []);
    let commit = Commit { gc_epoch: Some(at.gc_epoch), ..vault.commit(writing, 0) };
    wait(vault.one.commit(vault.me, &commit)).expect("a commit is taken");
    assert_eq!(vault.session(writing).acked, at.gc_epoch);
    // The one that was opened afterwards keeps nothing.
    assert_eq!(vault.purge(&[run(session, 0, 1)]), [run(session, 0, 1)]);
}

/// By its session, or by its writer's word.
pub fn a_commit_knows_of_everything_that_was_retired(vault: &Upkept) {
    let session = vault.push(2);
    let writing = vault.open();
    let commit = vault.commit(writing, 0);
    let first = vault.retire(&[run(session, 0, 1)]);
    breaks(RuleBroken::CountersMoved, wait(vault.one.commit(vault.me, &commit)));
    let second = vault.retire(&[run(session, 1, 1)]);
    for old in [first.gc_epoch - 1, first.gc_epoch] {
        let commit = Commit { gc_epoch: Some(old), ..commit.clone() };
        breaks(RuleBroken::CountersMoved, wait(vault.one.commit(vault.me, &commit)));
    }
    assert_eq!(wait(vault.two.snapshots()).expect("the list is readable").snapshots.len(), 1);
    // What it refers to comes back first.
    let back = wait(vault.one.revive(&[run(session, 1, 1)])).expect("a pack is brought back");
    assert_eq!(back.gc_epoch, second.gc_epoch + 1);
    let commit = Commit { gc_epoch: Some(back.gc_epoch), ..commit };
    wait(vault.one.commit(vault.me, &commit)).expect("a commit is taken");
    wait(vault.one.commit(vault.me, &commit)).expect("again is no error");
    (vault.later)(GRACE_SECS);
    assert_eq!(vault.purge(&[run(session, 0, 2)]), [run(session, 0, 1)]);
}

/// Then nothing waits for it, and nothing of it counts.
pub fn what_is_silent_ends(vault: &Upkept) {
    let session = vault.push(1);
    let writing = vault.open();
    vault.packs(writing, 1);
    let commit = vault.commit(writing, 1);
    vault.retire(&[run(session, 0, 1)]);
    (vault.silence)(GRACE_SECS + HOUR);
    vault.begin();
    assert_eq!(vault.session(writing).state, SessionState::Expired);
    assert_eq!(vault.session(session).state, SessionState::Committed);
    assert_eq!(vault.purge(&[run(session, 0, 1)]), [run(session, 0, 1)]);
    assert!(!vault.is_there(BlobKey::Pack(writing, 0)) && !vault.is_there(BlobKey::Root(writing)));
    let commit = Commit { gc_epoch: Some(vault.epoch()), ..commit };
    breaks(RuleBroken::NotOpen, wait(vault.one.commit(vault.me, &commit)));
    assert!(vault.open() > writing, "its number is not given again");
}

/// Only a vault that is its owner's alone forgets at once; sessions that are open are waited for even then.
pub fn times_end_now_only_where_that_is_allowed(vault: &Upkept) {
    let session = vault.push(2);
    wait(vault.one.trash(&[session])).expect("a snapshot goes into the trash");
    let writing = vault.open();
    let at = vault.retire(&[run(session, 0, 1)]);
    let all = [run(session, 0, 2)];
    if !vault.at_once {
        assert_eq!(kind(wait(vault.one.begin_collection(Haste::Now))), ErrorKind::Denied);
        assert_eq!(kind(wait(vault.one.purge(&all, Haste::Now))), ErrorKind::Denied);
        assert_eq!(wait(vault.two.kept()).expect("snapshots are listed").len(), 1);
        assert_eq!(vault.session(session).deleted.len(), 0);
        return;
    }
    assert_eq!(wait(vault.one.purge(&all, Haste::Now)).expect("a purge is done"), []);
    let begun = wait(vault.one.begin_collection(Haste::Now)).expect("a collection begins");
    assert_eq!(begun.snapshots, []);
    let commit = Commit { gc_epoch: Some(at.gc_epoch), ..vault.commit(writing, 0) };
    wait(vault.one.commit(vault.me, &commit)).expect("a commit is taken");
    assert_eq!(wait(vault.one.purge(&all, Haste::Now)).expect("a purge is done"), [run(session, 0, 1)]);
    assert!(!vault.is_there(BlobKey::Root(session)), "its root goes with the snapshot");
}

/// More than one call of an account takes.
pub fn many_runs_are_several_calls(vault: &Upkept) {
    const MANY: u32 = 5000;
    let session = vault.open();
    let commit = vault.commit(session, 0);
    // Numbers that were used and given up: the commit says how many there may be.
    wait(vault.one.commit(vault.me, &Commit { packs: 2 * MANY, ..commit })).expect("a commit is taken");
    let runs: Vec<PackRun> = (0..MANY).map(|n| run(session, 2 * n, 1)).collect();
    vault.retire(&runs);
    let listed = vault.session(session);
    assert_eq!((listed.retired.len(), listed.is_going(8), listed.is_going(9)), (MANY as usize, true, false));
    (vault.later)(GRACE_SECS);
    assert_eq!(vault.purge(&runs).len(), MANY as usize);
    breaks(RuleBroken::PackGone, wait(vault.one.revive(&runs)));
}
