//! Pushes that stop after every call of the store.

use crate::fixture::{Base, Source, Trial, assert_same_as_disk};
use backupengine_push::PushError;
use backupengine_store::{ErrorKind, Writable};
use backupengine_testkit::Faulty;
use backupengine_testkit::build::{TestVault, Unwatched};
use backupengine_testkit::faulty::{Fault, When};
use backupengine_testkit::shown::everything;
use std::sync::Arc;

/// Pushes through `broken` with the state the device had.
fn push_through(base: &Base, trial: &Trial, broken: &Faulty) -> Result<(), PushError> {
    let pusher = trial.vault.pusher("laptop");
    let mut config = pusher.config(base.source.path());
    config.state = trial.state.path().to_owned();
    let store: Arc<dyn Writable> = Arc::new(broken.clone());
    pusher.push_to(&store, config, &Unwatched).map(drop)
}

/// Breaks a push at call after call, until one comes through unbroken, and checks the vault, and the next push,
/// after each. Says how many calls there were.
fn at_every_call(base: &Base, break_at: impl Fn(Faulty, u64) -> Faulty) -> u64 {
    for call in 1.. {
        let trial = base.trial();
        let broken = break_at(Faulty::new(Arc::clone(&trial.vault.store)), call);
        let outcome = push_through(base, &trial, &broken);
        let listed = base.check(&trial);
        if outcome.is_ok() {
            assert_eq!(listed.len(), 1, "a push that succeeded is listed once");
        }
        let unbroken = broken.calls() < call;
        assert!(!unbroken || outcome.is_ok(), "an unbroken push failed: {outcome:?}");

        // The next push succeeds and is complete, with the state the broken one left and without any. It may
        // also commit the broken one, if that lacked nothing but its commit.
        broken.heal();
        if call % 2 == 0 {
            push_through(base, &trial, &broken).unwrap_or_else(|e| panic!("after call {call}: {e:?}"));
        } else {
            trial.vault.pusher("laptop").push(base.source.path());
        }
        let more = base.check(&trial).len() - listed.len();
        assert!(more == 1 || (more == 2 && outcome.is_err()), "{more} snapshots more after call {call}");
        if unbroken {
            return call - 1;
        }
    }
    unreachable!("calls are counted in 64 bits")
}

fn stopped(broken: Faulty, call: u64) -> Faulty {
    broken.with(When::From(call), Fault::Refuse(ErrorKind::Unavailable))
}

/// The call is made, its answer lost, and nothing more can be called.
fn lost(broken: Faulty, call: u64) -> Faulty {
    stopped(broken.with(When::Call(call), Fault::LoseAnswer), call + 1)
}

/// One call fails, the others do not.
fn failed_once(broken: Faulty, call: u64) -> Faulty {
    broken.with(When::Call(call), Fault::Refuse(ErrorKind::Full))
}

#[test]
fn stopping_after_every_call_in_memory() {
    let calls = at_every_call(&Base::in_memory(), stopped);
    assert!(calls > 10, "only {calls} calls were made: the fault was not where the push is");
}

#[test]
fn stopping_after_every_call_in_a_folder() {
    at_every_call(&Base::in_folder(), stopped);
}

#[test]
fn losing_the_answer_of_every_call_in_memory() {
    at_every_call(&Base::in_memory(), lost);
}

#[test]
fn losing_the_answer_of_every_call_in_a_folder() {
    at_every_call(&Base::in_folder(), lost);
}

#[test]
fn failing_every_call_once() {
    at_every_call(&Base::in_memory(), failed_once);
}

#[test]
fn a_first_push_that_is_stopped_leaves_an_empty_vault() {
    let source = Source::new(3);
    for call in 1.. {
        let vault = TestVault::in_memory();
        let broken = stopped(Faulty::new(Arc::clone(&vault.store)), call);
        let pusher = vault.pusher("laptop");
        let store: Arc<dyn Writable> = Arc::new(broken.clone());
        let outcome = pusher.push_to(&store, pusher.config(source.path()), &Unwatched);
        assert_eq!(vault.reader().list().unwrap().len(), usize::from(outcome.is_ok()), "call {call}");
        if broken.calls() < call {
            break;
        }
        pusher.push(source.path());
        let list = vault.reader().list().unwrap();
        assert!(list.len() == 1 || list.len() == 2, "{} snapshots after call {call}", list.len());
        for snapshot in list.iter() {
            let tree = source.part_of(everything(&vault.reader(), snapshot.session).unwrap());
            assert_same_as_disk(&tree, source.path());
        }
    }
}
