//! How long a question waits for a store across a network that does not answer.

use super::far::{FRAME, far, id, noise};
use crate::VaultConfig;
use crate::fixture::World;
use backupengine_model::{ContentReader, ReadFailure, TreeReader};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

#[test]
fn a_silent_store_is_waited_for_so_long_and_no_longer() {
    for read_ahead_threads in [0, 2] {
        let mut world = World::new();
        let (session, bytes) = noise(&mut world, 60);
        let timeout = Some(Duration::from_millis(300));
        let config = VaultConfig { read_ahead_threads, timeout, ..VaultConfig::default() };
        let (store, vault) = far(&world, config, |_| {});
        let file = id(&vault, session);
        let read = |frame: usize| {
            let mut out = vec![0; 4096];
            let read = vault.read_at(file, (frame * FRAME) as u64, &mut out);
            read.map(|len| assert!(len == 4096 && out == bytes[frame * FRAME..][..4096]))
        };
        read(0).unwrap();
        store.silent.store(true, Ordering::SeqCst);
        // Of one frame, which one of them opens for all; of others; and once more, when nobody has begun.
        for frames in [[30, 30, 30, 30], [30, 40, 50, 59], [30, 40, 50, 59]] {
            let ended = thread::scope(|scope| {
                let readers = frames.map(|frame| scope.spawn(move || read(frame)));
                readers.map(|reader| reader.join().unwrap())
            });
            for ended in ended {
                assert_eq!(ended.unwrap_err().failure, ReadFailure::TimedOut);
            }
        }
        // What is here is read meanwhile.
        read(0).unwrap();
        assert!(vault.node(file).is_ok());
        store.silent.store(false, Ordering::SeqCst);
        for frame in [30, 40, 50, 59] {
            read(frame).unwrap();
        }
    }
}

#[test]
fn a_hint_waits_no_longer_than_a_question() {
    let mut world = World::new();
    let (session, _) = noise(&mut world, 4);
    let timeout = Some(Duration::from_millis(300));
    let config = || VaultConfig { timeout, ..VaultConfig::default() };
    let file = id(&far(&world, config(), |_| {}).1, session);
    // Nothing of the snapshot is known to this one yet: for each hint its root and pages are wanted.
    let (store, vault) = far(&world, config(), |_| {});
    store.silent.store(true, Ordering::SeqCst);
    vault.will_need(&[file]);
    vault.will_read(&[file]);
    assert_eq!(vault.node(file).unwrap_err().failure, ReadFailure::TimedOut);
    store.silent.store(false, Ordering::SeqCst);
    assert!(vault.node(file).is_ok());
}
