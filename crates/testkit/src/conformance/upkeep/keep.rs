//! Trash, holds, labels. May not look behind the port; see the suite's head.

use super::{HOUR, Upkept, breaks, run, wait};
use backupengine_model::SessionNo;
use backupengine_model::ledger::{Commit, GRACE_SECS, Haste, Kept, LABEL_MAX, RuleBroken, TRASH_DAYS};
use backupengine_store::BlobKey;

const TRASH_SECS: i64 = TRASH_DAYS as i64 * 24 * HOUR;

fn kept(vault: &Upkept) -> Vec<Kept> {
    wait(vault.two.kept()).expect("snapshots are listed")
}

/// Session, in the trash, held.
fn shown(vault: &Upkept) -> Vec<(SessionNo, bool, bool)> {
    kept(vault).into_iter().map(|k| (k.snapshot.session, k.purge_after.is_some(), k.held)).collect()
}

fn live(vault: &Upkept) -> Vec<SessionNo> {
    let list = wait(vault.two.snapshots()).expect("the list is readable");
    list.snapshots.iter().map(|snapshot| snapshot.session).collect()
}

fn version(vault: &Upkept) -> u64 {
    wait(vault.two.version()).expect("the version is readable")
}

/// What a collection takes for needed.
fn counts(vault: &Upkept) -> Vec<SessionNo> {
    let begun = wait(vault.one.begin_collection(Haste::Wait)).expect("a collection begins");
    begun.snapshots.iter().map(|snapshot| snapshot.session).collect()
}

/// The list moves with it, and again changes nothing, not its time either.
pub fn the_trash_is_listed_no_more_and_can_be_emptied_back(vault: &Upkept) {
    let (a, b, c) = (vault.push(0), vault.push(0), vault.push(0));
    let all = kept(vault);
    assert_eq!(shown(vault), [(a, false, false), (b, false, false), (c, false, false)]);
    let before = version(vault);
    wait(vault.one.trash(&[c, a])).expect("snapshots go into the trash");
    let after = version(vault);
    assert_ne!(after, before);
    assert_eq!(live(vault), [b]);
    let trashed = kept(vault);
    assert_eq!(shown(vault), [(a, true, false), (b, false, false), (c, true, false)]);
    (vault.later)(0);
    wait(vault.one.trash(&[a])).expect("again is no error");
    assert_eq!((version(vault), kept(vault)), (after, trashed));
    wait(vault.one.untrash(&[a, b])).expect("a snapshot comes back");
    assert_ne!(version(vault), after);
    assert_eq!(live(vault), [a, b]);
    let after = version(vault);
    wait(vault.one.untrash(&[a])).expect("again is no error");
    assert_eq!(version(vault), after);
    wait(vault.one.untrash(&[c])).expect("a snapshot comes back");
    assert_eq!(kept(vault), all, "as it was");
}

/// A collection needs what is there until then; then snapshot and root are gone.
pub fn the_trash_counts_until_its_time_is_over(vault: &Upkept) {
    let (a, b) = (vault.push(1), vault.push(0));
    wait(vault.one.trash(&[a])).expect("a snapshot goes into the trash");
    assert_eq!(counts(vault), [a, b]);
    (vault.later)(TRASH_SECS - HOUR);
    assert_eq!(counts(vault), [a, b]);
    let before = version(vault);
    (vault.later)(HOUR);
    assert_eq!(counts(vault), [b]);
    assert_ne!(version(vault), before);
    assert_eq!(shown(vault), [(b, false, false)]);
    breaks(RuleBroken::UnknownSnapshot, wait(vault.one.untrash(&[a])));
    // Its packs are another matter.
    assert!(vault.is_there(BlobKey::Pack(a, 0)));
    vault.retire(&[run(a, 0, 1)]);
    (vault.later)(GRACE_SECS);
    assert_eq!(vault.purge(&[run(a, 0, 1)]), [run(a, 0, 1)]);
    assert!(!vault.is_there(BlobKey::Root(a)));
    assert!(vault.is_there(BlobKey::Root(b)));
}

/// Neither into the trash nor out of it.
pub fn what_is_held_goes_nowhere(vault: &Upkept) {
    let (a, b) = (vault.push(0), vault.push(0));
    let before = version(vault);
    wait(vault.one.hold(&[a], true)).expect("a snapshot is held");
    let after = version(vault);
    assert_ne!(after, before);
    wait(vault.one.hold(&[a], true)).expect("again is no error");
    assert_eq!(version(vault), after);
    breaks(RuleBroken::Held, wait(vault.one.trash(&[b, a])));
    assert_eq!(shown(vault), [(a, false, true), (b, false, false)]);
    // What is in the trash can still be held.
    wait(vault.one.trash(&[b])).expect("a snapshot goes into the trash");
    wait(vault.one.hold(&[b], true)).expect("a snapshot is held");
    (vault.later)(TRASH_SECS + HOUR);
    assert_eq!(counts(vault), [a, b]);
    wait(vault.one.hold(&[a, b], false)).expect("they are let go");
    assert_eq!(counts(vault), [a]);
    wait(vault.one.trash(&[a])).expect("a snapshot goes into the trash");
}

/// Live or in the trash; what is not there is no error. That it reaches no other device's: `model::ledger`, and the SQL.
pub fn a_commit_holds_what_its_device_made_before(vault: &Upkept) {
    let (a, b) = (vault.push(0), vault.push(0));
    wait(vault.one.trash(&[b])).expect("a snapshot goes into the trash");
    let push = |hold| {
        let session = vault.open();
        let commit = Commit { hold: Some(hold), ..vault.commit(session, 0) };
        wait(vault.one.commit(vault.me, &commit)).expect("a commit is taken");
        wait(vault.one.commit(vault.me, &commit)).expect("again is no error");
        session
    };
    let c = push(a);
    let d = push(b);
    let e = push(SessionNo(99));
    let (free, held) = (|s| (s, false, false), |s| (s, false, true));
    assert_eq!(shown(vault), [held(a), (b, true, true), free(c), free(d), free(e)]);
    breaks(RuleBroken::Held, wait(vault.one.trash(&[a])));
    wait(vault.one.hold(&[a], false)).expect("an owner lets it go");
    wait(vault.one.trash(&[a])).expect("a snapshot goes into the trash");
}

/// The longest, too; and in the trash.
pub fn a_label_is_replaced(vault: &Upkept) {
    let (a, b) = (vault.push(0), vault.push(0));
    wait(vault.one.trash(&[b])).expect("a snapshot goes into the trash");
    let longest = vec![7; LABEL_MAX];
    for (session, label) in [(a, &b"new"[..]), (b, &b""[..]), (a, &longest[..])] {
        let before = version(vault);
        wait(vault.one.relabel(session, label)).expect("a label is replaced");
        assert_ne!(version(vault), before);
        let found = kept(vault).into_iter().find(|kept| kept.snapshot.session == session);
        assert_eq!(found.expect("it is listed").snapshot.label, label);
    }
    breaks(RuleBroken::LabelTooLong, wait(vault.one.relabel(a, &[0; LABEL_MAX + 1])));
    breaks(RuleBroken::UnknownSnapshot, wait(vault.one.relabel(SessionNo(99), b"x")));
    assert_eq!(live(vault), [a]);
}

/// One that is not there refuses the others.
pub fn of_several_snapshots_all_go_or_none(vault: &Upkept) {
    let a = vault.push(0);
    // A session that makes no snapshot.
    let none = vault.relocation(1);
    let before = (version(vault), shown(vault));
    for unknown in [SessionNo(99), none] {
        breaks(RuleBroken::UnknownSnapshot, wait(vault.one.trash(&[a, unknown])));
        breaks(RuleBroken::UnknownSnapshot, wait(vault.one.untrash(&[a, unknown])));
        breaks(RuleBroken::UnknownSnapshot, wait(vault.one.hold(&[a, unknown], true)));
    }
    assert_eq!((version(vault), shown(vault)), before);
}
