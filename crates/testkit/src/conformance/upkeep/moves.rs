//! Relocation packs, and packs that lie elsewhere. May not look behind the port; see the suite's head.

use super::{ALMOST, GRACE_SECS, HOUR, PACK, Upkept, breaks, run, wait};
use backupengine_model::SessionNo;
use backupengine_model::ledger::{
    Commit, Counters, Haste, Move, Moved, RuleBroken, SessionKind, SessionState,
};
use backupengine_store::BlobKey;

fn one(from: (SessionNo, u32), to: (SessionNo, u32)) -> Move {
    Move { from, to }
}

/// Where a pack lies, since which epoch, and whether its old blob is gone.
fn place(vault: &Upkept, session: SessionNo, number: u32) -> Option<(SessionNo, u32, u64, bool)> {
    let Moved { to, number, since, gone } = *vault.session(session).moved.get(&number)?;
    Some((to, number, since.epoch, gone))
}

/// Moves, and says where the counters are then.
fn relocate(vault: &Upkept, moves: &[Move]) -> Counters {
    wait(vault.one.relocate(vault.begin(), moves)).expect("packs are moved")
}

/// Its packs count once it has ended, whatever was retired meanwhile; the list does not move.
pub fn relocation_packs_are_no_snapshot(vault: &Upkept) {
    let pushed = vault.push(1);
    let before = vault.begin();
    for kind in [SessionKind::Compact, SessionKind::Heal] {
        let session = wait(vault.one.open_relocation(vault.me, kind)).expect("a session opens");
        vault.packs(session, 2);
        assert_eq!((vault.session(session).state, vault.session(session).kind), (SessionState::Open, kind));
        vault.retire(&[run(pushed, 0, 1)]);
        wait(vault.two.revive(&[run(pushed, 0, 1)])).expect("a pack is brought back");
        let bytes = 2 * PACK as u64;
        for _ in 0..2 {
            wait(vault.one.end_relocation(vault.me, session, 2, bytes))
                .expect("it ends, and again is no error");
        }
        breaks(RuleBroken::NotOpen, wait(vault.one.end_relocation(vault.me, session, 1, bytes)));
        let ended = vault.session(session);
        assert_eq!((ended.state, ended.packs, ended.bytes), (SessionState::Committed, 2, bytes));
        assert!(vault.is_there(BlobKey::Pack(session, 1)));
    }
    assert_eq!(vault.begin().version, before.version);
    assert_eq!(wait(vault.two.snapshots()).expect("the list is readable").snapshots.len(), 1);
    assert_eq!(vault.used(), 164 + 400);
}

/// Nor does anybody end one that is not there.
pub fn only_its_own_device_ends_a_relocation(vault: &Upkept) {
    let session = wait(vault.one.open_relocation(vault.me, SessionKind::Compact)).expect("a session opens");
    breaks(RuleBroken::UnknownSession, wait(vault.one.end_relocation(vault.other, session, 0, 0)));
    breaks(RuleBroken::UnknownSession, wait(vault.one.end_relocation(vault.me, SessionNo(99), 0, 0)));
    assert_eq!(vault.session(session).state, SessionState::Open);
}

/// A snapshot that was committed while frames were copied may need others.
pub fn moving_compares_both_counters(vault: &Upkept) {
    let (pushed, copies) = (vault.push(2), vault.relocation(1));
    let at = vault.begin();
    let moves = [one((pushed, 0), (copies, 0))];
    for wrong in [
        Counters { version: at.version + 1, ..at },
        Counters { version: at.version - 1, ..at },
        Counters { gc_epoch: at.gc_epoch + 1, ..at },
    ] {
        breaks(RuleBroken::CountersMoved, wait(vault.one.relocate(wrong, &moves)));
    }
    vault.push(1);
    breaks(RuleBroken::CountersMoved, wait(vault.one.relocate(at, &moves)));
    let at = vault.begin();
    vault.retire(&[run(pushed, 1, 1)]);
    breaks(RuleBroken::CountersMoved, wait(vault.one.relocate(at, &moves)));
    assert_eq!(place(vault, pushed, 0), None);
}

/// All or none.
pub fn packs_move_from_pushes_to_relocations_only(vault: &Upkept) {
    let (pushed, other, copies) = (vault.push(2), vault.push(1), vault.relocation(2));
    let open = wait(vault.one.open_relocation(vault.me, SessionKind::Compact)).expect("a session opens");
    vault.packs(open, 1);
    let at = vault.begin();
    for (bad, rule) in [
        (one((pushed, 1), (other, 0)), RuleBroken::WrongPack),
        (one((copies, 1), (copies, 0)), RuleBroken::WrongPack),
        (one((pushed, 0), (copies, 1)), RuleBroken::WrongPack),
        (one((pushed, 2), (copies, 0)), RuleBroken::WrongPack),
        (one((pushed, 1), (copies, 2)), RuleBroken::WrongPack),
        (one((pushed, 1), (open, 0)), RuleBroken::WrongPack),
        (one((pushed, 1), (SessionNo(99), 0)), RuleBroken::UnknownSession),
        (one((SessionNo(99), 0), (copies, 0)), RuleBroken::UnknownSession),
    ] {
        breaks(rule, wait(vault.one.relocate(at, &[one((pushed, 0), (copies, 0)), bad])));
    }
    assert_eq!((place(vault, pushed, 0), vault.begin()), (None, at));
}

/// A push that is under way may have taken a frame for stored that was not copied: it has to hear of it.
pub fn a_move_is_listed_and_begins_an_epoch(vault: &Upkept) {
    let (pushed, copies) = (vault.push(3), vault.relocation(1));
    let writing = vault.open();
    let at = vault.begin();
    assert_eq!(wait(vault.one.relocate(at, &[])).expect("nothing is moved"), at);
    let moves = [one((pushed, 0), (copies, 0)), one((pushed, 2), (copies, 0))];
    let after = wait(vault.one.relocate(at, &moves)).expect("packs are moved");
    assert_eq!(after, Counters { gc_epoch: at.gc_epoch + 1, ..at });
    let there = Some((copies, 0, after.gc_epoch, false));
    assert_eq!([0, 1, 2].map(|number| place(vault, pushed, number)), [there, None, there]);
    let commit = vault.commit(writing, 0);
    breaks(RuleBroken::CountersMoved, wait(vault.one.commit(vault.me, &commit)));
    let commit = Commit { gc_epoch: Some(after.gc_epoch), ..commit };
    wait(vault.one.commit(vault.me, &commit)).expect("a commit is taken");
}

/// As a retired pack does; the pack itself stays.
pub fn the_old_blob_waits_for_its_time_and_for_open_sessions(vault: &Upkept) {
    let (pushed, copies) = (vault.push(2), vault.relocation(1));
    let writing = vault.open();
    let at = relocate(vault, &[one((pushed, 0), (copies, 0))]);
    let all = [run(pushed, 0, 2)];
    (vault.later)(ALMOST);
    assert_eq!(vault.purge(&all), []);
    (vault.later)(HOUR);
    assert_eq!(vault.purge(&all), [], "a session that was open before does not know of it");
    let commit = Commit { gc_epoch: Some(at.gc_epoch), ..vault.commit(writing, 0) };
    wait(vault.one.commit(vault.me, &commit)).expect("a commit is taken");
    let before = vault.used();
    assert_eq!(vault.purge(&all), [run(pushed, 0, 1)]);
    assert_eq!(vault.purge(&all), [], "once");
    assert_eq!(vault.used(), before - PACK as u64);
    assert_eq!(place(vault, pushed, 0), Some((copies, 0, at.gc_epoch, true)));
    assert_eq!(vault.session(pushed).deleted.len(), 0, "it is not gone, it lies elsewhere");
    assert!(vault.is_there(BlobKey::Pack(copies, 0)) && vault.is_there(BlobKey::Pack(pushed, 1)));
    // When nobody needs it any more, its place goes; its blob went before.
    vault.retire(&all);
    (vault.later)(GRACE_SECS);
    assert_eq!(vault.purge(&all), [run(pushed, 1, 1)]);
    assert_eq!(place(vault, pushed, 0), None);
    vault.retire(&[run(copies, 0, 1)]);
    (vault.later)(GRACE_SECS);
    assert_eq!(vault.purge(&[run(copies, 0, 1)]), [run(copies, 0, 1)]);
    assert_eq!(vault.used(), 2 * 64);
}

/// Until what lies there is gone.
pub fn what_others_were_moved_into_stays(vault: &Upkept) {
    let (pushed, copies) = (vault.push(1), vault.relocation(2));
    relocate(vault, &[one((pushed, 0), (copies, 0))]);
    let at = vault.begin();
    breaks(RuleBroken::InUse, wait(vault.one.retire(at, &[run(copies, 0, 2)])));
    let at = wait(vault.one.retire(at, &[run(copies, 1, 1)])).expect("what holds nothing is retired");
    let at = wait(vault.one.retire(at, &[run(pushed, 0, 1)])).expect("a moved pack is retired");
    breaks(RuleBroken::InUse, wait(vault.one.retire(at, &[run(copies, 0, 1)])));
    (vault.later)(GRACE_SECS);
    assert_eq!(vault.purge(&[run(pushed, 0, 1)]), [run(pushed, 0, 1)]);
    vault.retire(&[run(copies, 0, 1)]);
}

/// The entry is written anew: in a new epoch, with a new time, and the first place is free.
pub fn moving_again_makes_no_chain(vault: &Upkept) {
    let (pushed, first, second) = (vault.push(2), vault.relocation(1), vault.relocation(1));
    relocate(vault, &[one((pushed, 0), (first, 0))]);
    (vault.later)(GRACE_SECS);
    assert_eq!(vault.purge(&[run(pushed, 0, 2)]), [run(pushed, 0, 1)]);
    relocate(vault, &[one((pushed, 1), (first, 0))]);
    (vault.later)(ALMOST);
    let at = relocate(vault, &[one((pushed, 0), (second, 0)), one((pushed, 1), (second, 0))]);
    let there = |gone| Some((second, 0, at.gc_epoch, gone));
    assert_eq!([0, 1].map(|n| place(vault, pushed, n)), [there(true), there(false)]);
    vault.retire(&[run(first, 0, 1)]);
    (vault.later)(ALMOST);
    assert_eq!(vault.purge(&[run(pushed, 0, 2)]), [], "its time began anew");
    (vault.later)(HOUR);
    assert_eq!(vault.purge(&[run(pushed, 0, 2), run(first, 0, 1)]), [run(pushed, 1, 1), run(first, 0, 1)]);
    assert_eq!([0, 1].map(|n| place(vault, pushed, n)), [there(true), there(true)]);
}

/// A writer that knew the pack before may refer to frames of it that were not copied.
pub fn a_move_is_taken_back_while_its_blob_is_there(vault: &Upkept) {
    let (pushed, copies) = (vault.push(2), vault.relocation(1));
    relocate(vault, &[one((pushed, 0), (copies, 0))]);
    (vault.later)(GRACE_SECS);
    assert_eq!(vault.purge(&[run(pushed, 0, 1)]), [run(pushed, 0, 1)]);
    let at = relocate(vault, &[one((pushed, 1), (copies, 0))]);
    let back = wait(vault.two.revive(&[run(pushed, 0, 2)])).expect("what can be is brought back");
    assert_eq!(back, Counters { gc_epoch: at.gc_epoch + 1, ..at });
    assert_eq!(wait(vault.two.revive(&[run(pushed, 0, 2)])).expect("again is no error"), back);
    assert_eq!(place(vault, pushed, 1), None);
    assert_eq!(place(vault, pushed, 0), Some((copies, 0, at.gc_epoch - 1, true)), "its blob is gone");
    assert!(!vault.session(pushed).is_going(1));
    (vault.later)(GRACE_SECS);
    assert_eq!(wait(vault.one.purge(&[run(pushed, 0, 2)], Haste::Wait)).expect("a purge is done"), []);
    assert!(vault.is_there(BlobKey::Pack(pushed, 1)));
}

/// It may need frames that a second copy lacks, and there is nothing left to bring back.
pub fn what_lies_in_its_copy_alone_stays_while_a_push_is_open(vault: &Upkept) {
    let (pushed, first, second) = (vault.push(2), vault.relocation(1), vault.relocation(1));
    relocate(vault, &[one((pushed, 0), (first, 0))]);
    (vault.later)(GRACE_SECS);
    assert_eq!(vault.purge(&[run(pushed, 0, 2)]), [run(pushed, 0, 1)]);
    let at = relocate(vault, &[one((pushed, 1), (first, 0))]);
    let writing = vault.open();
    let both = [one((pushed, 1), (second, 0)), one((pushed, 0), (second, 0))];
    breaks(RuleBroken::InUse, wait(vault.one.relocate(at, &both)));
    assert_eq!(place(vault, pushed, 1), Some((first, 0, at.gc_epoch, false)), "all or none");
    // One that can be taken back moves, and other sessions are no matter.
    relocate(vault, &both[..1]);
    wait(vault.one.open_relocation(vault.me, SessionKind::Heal)).expect("a session opens");
    let commit = Commit { gc_epoch: Some(vault.epoch()), ..vault.commit(writing, 0) };
    wait(vault.one.commit(vault.me, &commit)).expect("a commit is taken");
    relocate(vault, &both);
}

/// Neither is what is gone moved, nor anything moved into what is going.
pub fn a_pack_that_is_going_is_no_target(vault: &Upkept) {
    let (pushed, copies) = (vault.push(2), vault.relocation(2));
    vault.retire(&[run(pushed, 0, 1), run(copies, 0, 1)]);
    let at = vault.begin();
    breaks(RuleBroken::PackGone, wait(vault.one.relocate(at, &[one((pushed, 1), (copies, 0))])));
    (vault.later)(GRACE_SECS);
    assert_eq!(vault.purge(&[run(pushed, 0, 1)]), [run(pushed, 0, 1)]);
    breaks(RuleBroken::PackGone, wait(vault.one.relocate(at, &[one((pushed, 0), (copies, 1))])));
    wait(vault.one.relocate(at, &[one((pushed, 1), (copies, 1))])).expect("what is there moves");
}
