//! Random interleavings of three devices that push, two collections, mounts, removals and crashes, against the real
//! rules of the ledger; and again with one rule taken away, which must be noticed.
//!
//! **What it is.** `model::ledger` is the product's own. What stands around it are the steps of `push`, of `maintain`'s
//! prune and of a mount, one call of the ledger each, over packs that are sets of numbers; the clock is the test's. A
//! random walk, not a proof. `PROTOCOL_SEEDS` walks are made (fewer by default).
//! **What always holds.** `World::check`, after every step: each frame that a live, trashed, held or mounted snapshot
//! needs is readable, and bringing packs back never comes too late for a push whose session is open.

mod collection;
mod pushing;
mod world;

use std::io::Write;
use world::{Rule, World};

const STEPS: u64 = 500;

fn seeds(default: u64) -> u64 {
    std::env::var("PROTOCOL_SEEDS").map_or(default, |text| text.parse().unwrap())
}

fn say(text: &str) {
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

#[test]
fn with_all_rules_nothing_is_lost() {
    let (mut commits, mut deleted, mut moved, mut revived) = (0, 0, 0, 0);
    for seed in 0..seeds(1000) {
        let mut world = World::new(seed, None);
        if let Err(bad) = world.walk(STEPS) {
            panic!("seed {seed}: {bad}");
        }
        commits += world.count.commits;
        deleted += world.count.deleted;
        moved += world.count.moved;
        revived += world.count.revived;
    }
    let text =
        format!("{commits} commits, {deleted} blobs deleted, {moved} packs moved, {revived} brought back");
    say(&text);
    // The walks go where the rules matter.
    assert!(commits > 1000 && deleted > 1000 && moved > 200 && revived > 20, "{text}");
}

/// Walks until one goes wrong.
fn must_be_noticed(rule: Rule) {
    for seed in 0..seeds(10_000) {
        if let Err(bad) = World::new(seed, Some(rule)).walk(STEPS) {
            return say(&format!("without {rule:?}: seed {seed}: {bad}"));
        }
    }
    panic!("nobody notices that {rule:?} is missing");
}

macro_rules! each_rule_is_needed {
    ($($test:ident: $rule:ident,)*) => {
        $(#[test]
        fn $test() {
            must_be_noticed(Rule::$rule);
        })*
    };
}

each_rule_is_needed! {
    a_commit_knows_the_epoch: CommitEpoch,
    a_commit_brings_back_what_it_needs: ReviveAtCommit,
    the_parent_is_chosen_again_when_the_list_moved: ParentAgain,
    dedup_leaves_out_what_is_going: DedupFilter,
    retiring_compares_both_counters: RetireCas,
    deleting_waits_for_open_sessions: AckWait,
    deleting_waits_for_the_grace: Grace,
    mounts_have_leases: Leases,
    the_trash_is_as_good_as_live: TrashCounts,
    moving_compares_the_list: MoveVersion,
    moving_begins_an_epoch: MoveEpoch,
    relocation_packs_in_use_stay: InUse,
    what_lies_elsewhere_alone_is_not_moved_under_a_push: MoveUnderPush,
}
