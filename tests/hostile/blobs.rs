//! The storage answers other bytes: of another blob, another vault, an older time, or fewer of them.
use crate::liar::{Liar, Lie};
use crate::world::{World, refusal};
use backupengine_model::ReadFailure;
use backupengine_seal::{DedupSecret, Keyring, MasterSecret, RootKey};
use backupengine_store::{BlobKey, BlobKind, MemoryStore};
use backupengine_testkit::build::{TestVault, VAULT};
use backupengine_vault::VaultError;
use std::sync::Arc;

#[test]
fn no_pack_passes_for_another() {
    let (mut world, sessions) = World::with(3);
    let newest = sessions[2];
    let truth = world.truth(newest);
    let packs = world.liar.names(BlobKind::Packs);
    let mut needed = 0;
    for &asked in &packs {
        for &answered in packs.iter().filter(|other| **other != asked) {
            world.liar = Liar::around(Arc::clone(&world.vault.store));
            world.liar.swaps(asked, answered);
            match world.reads(newest, &truth) {
                // The newest snapshot does not need that pack.
                Ok(()) => {}
                Err(failure) => {
                    assert_eq!(failure, ReadFailure::Damaged, "{asked} answered by {answered}");
                    needed += 1;
                }
            }
        }
    }
    assert!(needed >= packs.len(), "most packs are needed: {needed} of {}", packs.len());
}

#[test]
fn cut_withheld_and_denied_packs_give_errors() {
    let (world, sessions) = World::with(2);
    let newest = sessions[1];
    let truth = world.truth(newest);
    for key in world.liar.names(BlobKind::Packs) {
        let whole = world.liar.blob(key);
        for len in [0, 1, 64, whole.len() / 2, whole.len() - 1] {
            world.liar.says(key, Lie::Bytes(whole[..len].to_vec()));
            assert_eq!(world.reads(newest, &truth), Err(ReadFailure::Damaged), "{key} cut to {len}");
        }
        world.liar.says(key, Lie::Bytes([&whole[..], &whole[..]].concat()));
        // Twice the pack ends as the pack does; its frames lie where they lay, so this may even be read.
        let _read = world.reads(newest, &truth);
        world.liar.says(key, Lie::Missing);
        assert_eq!(world.reads(newest, &truth), Err(ReadFailure::Damaged), "{key} withheld");
        world.liar.says(key, Lie::Denied);
        assert!(world.reads(newest, &truth).is_err(), "{key} denied");
        world.liar.says(key, Lie::Bytes(whole));
        assert_eq!(world.reads(newest, &truth), Ok(()));
    }
}

#[test]
fn an_old_root_does_not_pass_for_the_new_one() {
    let (world, sessions) = World::with(3);
    for (asked, answered) in [(2, 0), (2, 1), (0, 2)] {
        world.liar.swaps(BlobKey::Root(sessions[asked]), BlobKey::Root(sessions[answered]));
        let refused = refusal(&world.client(), sessions[asked]);
        let VaultError::Damaged { blob, what, .. } = &refused else { panic!("{refused:?}") };
        assert_eq!(*blob, BlobKey::Root(sessions[asked]));
        assert_eq!(*what, "another pack lies under this name");
    }
}

#[test]
fn bytes_of_another_vault_open_nothing() {
    let (world, sessions) = World::with(1);
    // The same id, the same sessions, another owner.
    let root_key = RootKey::from_seed([0x99; 32]);
    let (master, dedup) = (MasterSecret::from_bytes([0x98; 32]), DedupSecret::from_bytes([0x97; 32]));
    let keyring = Keyring::new(VAULT, master, dedup, root_key.public());
    let mut theirs = TestVault::around(Arc::new(MemoryStore::new(VAULT)));
    (theirs.keyring, theirs.root_key) = (keyring, root_key);
    let device = theirs.pusher("laptop");
    assert_eq!(device.push(world.source()), sessions[0]);
    let foreign = Liar::around(Arc::clone(&theirs.store));
    let truth = world.truth(sessions[0]);
    world.liar.says(BlobKey::Root(sessions[0]), Lie::Bytes(foreign.blob(BlobKey::Root(sessions[0]))));
    assert!(matches!(refusal(&world.client(), sessions[0]), VaultError::Damaged { .. }));
    assert_eq!(world.reads(sessions[0], &truth), Err(ReadFailure::Damaged));
    let (world, sessions) = World::with(1);
    for key in foreign.names(BlobKind::Packs) {
        world.liar.says(key, Lie::Bytes(foreign.blob(key)));
    }
    let truth = world.truth(sessions[0]);
    assert_eq!(world.reads(sessions[0], &truth), Err(ReadFailure::Damaged));
}
