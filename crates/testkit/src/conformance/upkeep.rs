//! One suite for every ledger: which snapshots stay, and giving space back.
//!
//! **What it is.** What [`Keeper`](backupengine_store::Keeper) and [`Collector`](backupengine_store::Collector) promise
//! whoever keeps the ledger, a file or a control plane: the rules of `model::ledger` as they are seen through the port.
//! Collecting stands in [`collect`], moving packs in [`moves`], snapshots in [`keep`].
//! **What it may not do.** Look behind the port, wait for a real time to pass.
//! **What always holds.** Each check gets two handles on one fresh vault; what one does is looked at through the other.
//! **Where it is used.** `tests/stores`.

pub mod collect;
pub mod keep;
pub mod moves;

use super::{kind, put};
use crate::wait;
use backupengine_model::ledger::{
    Commit, Counters, GRACE_SECS, Haste, PackRun, RuleBroken, SessionKind, SessionRecord, SnapshotRecord,
};
use backupengine_model::{DeviceId, SessionNo, SnapshotId, Timestamp};
use backupengine_store::{BlobKey, ErrorKind, Maintainable, Range, StoreError};
use std::fmt::Debug;
use std::sync::Arc;

/// Two handles on one fresh, empty vault, and its time.
pub struct Upkept {
    /// One.
    pub one: Arc<dyn Maintainable>,
    /// The other.
    pub two: Arc<dyn Maintainable>,
    /// A device that may do everything through both handles.
    pub me: DeviceId,
    /// Another one.
    pub other: DeviceId,
    /// Lets seconds pass, in which whoever writes goes on.
    pub later: Box<dyn Fn(i64)>,
    /// Lets seconds pass, in which nobody does anything.
    pub silence: Box<dyn Fn(i64)>,
    /// Whether the owner may have times end now.
    pub at_once: bool,
    /// What must live as long as they do.
    pub keep: Box<dyn std::any::Any>,
}

/// Makes a test of every check, in the module where it stands. `$make` gives fresh [`Upkept`] vaults.
#[macro_export]
macro_rules! upkeep_suite {
    ($make:expr) => {
        $crate::upkeep_suite!(@each $make; collect:
            retiring_compares_both_counters, only_packs_that_were_committed_are_retired, what_is_retired_can_be_brought_back,
            what_is_retired_goes_when_its_time_is_over, a_purge_gives_back_what_it_deletes,
            an_open_session_keeps_what_was_retired_after_it_began, a_commit_knows_of_everything_that_was_retired,
            what_is_silent_ends, times_end_now_only_where_that_is_allowed, many_runs_are_several_calls);
        $crate::upkeep_suite!(@each $make; moves:
            relocation_packs_are_no_snapshot, only_its_own_device_ends_a_relocation, moving_compares_both_counters,
            packs_move_from_pushes_to_relocations_only, a_move_is_listed_and_begins_an_epoch,
            the_old_blob_waits_for_its_time_and_for_open_sessions, what_others_were_moved_into_stays,
            moving_again_makes_no_chain, what_lies_in_its_copy_alone_stays_while_a_push_is_open, a_move_is_taken_back_while_its_blob_is_there, a_pack_that_is_going_is_no_target);
        $crate::upkeep_suite!(@each $make; keep:
            the_trash_is_listed_no_more_and_can_be_emptied_back, the_trash_counts_until_its_time_is_over,
            what_is_held_goes_nowhere, a_commit_holds_what_its_device_made_before, a_label_is_replaced, of_several_snapshots_all_go_or_none);
    };
    (@each $make:expr; $part:ident: $($check:ident),+) => {
        $(#[test]
        fn $check() {
            $crate::conformance::upkeep::$part::$check(&$make());
        })+
    };
}

/// A pack of a test, in bytes.
const PACK: usize = 100;

impl Upkept {
    fn open(&self) -> SessionNo {
        // Opened by the ledger's clock, whatever the device's says.
        wait(self.one.open_session(self.me, Timestamp::default())).expect("a session opens").session
    }

    /// A whole push of so many packs.
    fn push(&self, packs: u32) -> SessionNo {
        let session = self.open();
        self.packs(session, packs);
        wait(self.one.commit(self.me, &self.commit(session, packs))).expect("a commit is taken");
        session
    }

    /// Puts packs.
    fn packs(&self, session: SessionNo, packs: u32) {
        for number in 0..packs {
            let key = BlobKey::Pack(session, number);
            put(&*self.one, key, &[number as u8; PACK]).expect("a pack is put");
        }
    }

    /// Puts a root and says how a push of so many packs is committed.
    fn commit(&self, session: SessionNo, packs: u32) -> Commit {
        put(&*self.one, BlobKey::Root(session), &[session.0 as u8; 64]).expect("a root is put");
        Commit {
            snapshot: SnapshotRecord {
                session,
                id: SnapshotId([session.0 as u8; 8]),
                device: self.me,
                created: Timestamp { secs: 1_700_000_000, nanos: 3 },
                root_size: 64,
                head_len: 10,
                label: vec![session.0 as u8],
            },
            packs,
            bytes: 64 + u64::from(packs) * PACK as u64,
            meta_packs: Vec::new(),
            gc_epoch: None,
            hold: None,
        }
    }

    /// A session of relocation packs that has ended.
    fn relocation(&self, packs: u32) -> SessionNo {
        let session = wait(self.one.open_relocation(self.me, SessionKind::Compact)).expect("a session opens");
        self.packs(session, packs);
        let bytes = u64::from(packs) * PACK as u64;
        wait(self.one.end_relocation(self.me, session, packs, bytes)).expect("it ends");
        session
    }

    fn begin(&self) -> Counters {
        let begun = wait(self.two.begin_collection(Haste::Wait)).expect("a collection begins");
        assert_eq!(begun.counters.version, wait(self.one.version()).expect("the version is readable"));
        begun.counters
    }

    /// Retires, and says where the counters are then.
    fn retire(&self, packs: &[PackRun]) -> Counters {
        wait(self.one.retire(self.begin(), packs)).expect("packs are retired")
    }

    fn purge(&self, packs: &[PackRun]) -> Vec<PackRun> {
        wait(self.one.purge(packs, Haste::Wait)).expect("a purge is done")
    }

    /// As the other handle sees it.
    fn session(&self, session: SessionNo) -> SessionRecord {
        let sessions = wait(self.two.sessions()).expect("the sessions are readable").sessions;
        sessions.into_iter().find(|record| record.session == session).expect("the session is listed")
    }

    fn epoch(&self) -> u64 {
        wait(self.two.sessions()).expect("the sessions are readable").gc_epoch
    }

    fn is_there(&self, key: BlobKey) -> bool {
        match wait(self.two.get(key, Range::Whole)) {
            Ok(_) => true,
            Err(error) if error.kind == ErrorKind::NotFound => false,
            Err(error) => panic!("{key}: {error}"),
        }
    }

    fn used(&self) -> u64 {
        wait(self.two.space()).expect("space is known").0
    }
}

fn run(session: SessionNo, from: u32, count: u32) -> PackRun {
    PackRun { session, from, count }
}

fn breaks<T: Debug>(rule: RuleBroken, answer: Result<T, StoreError>) {
    assert_eq!(kind(answer), ErrorKind::RuleBroken(rule));
}

/// An hour, which no test takes.
const HOUR: i64 = 3600;
/// Just not enough.
const ALMOST: i64 = GRACE_SECS - HOUR;
