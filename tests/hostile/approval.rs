//! The control plane at the moment a device is approved: an envelope of its own, a device of its own, an old envelope.
use crate::world::World;
use backupengine_model::DeviceId;
use backupengine_seal::{
    DedupSecret, DeviceKey, Keyring, MasterSecret, SealKey, WrapError, device_fingerprint, open_for_device,
    seal_for_device, vault_fingerprint,
};
use backupengine_testkit::build::VAULT;
use backupengine_vault::{Floor, VaultError};

/// The new device.
fn new_device() -> (DeviceKey, SealKey, DeviceId) {
    let key = DeviceKey::from_seed([0x61; 32]);
    let id = key.id();
    (key, SealKey::from_seed([0x62; 32]), id)
}

#[test]
fn keys_of_the_servers_own_show_other_words() {
    let (world, _) = World::with(1);
    let (_, seal, id) = new_device();
    let approver = vault_fingerprint(&world.vault.keyring);
    // It knows the vault's id and the root key's public half, and makes up the rest: the envelope opens.
    let (master, dedup) = (MasterSecret::from_bytes([0x66; 32]), DedupSecret::from_bytes([0x67; 32]));
    let forged = Keyring::new(VAULT, master, dedup, *world.vault.keyring.root_public());
    let envelope = seal_for_device(&forged, &[], &seal.public(), id, [1; 32]).unwrap();
    let opened = open_for_device(&envelope, &seal, id).unwrap();
    assert_ne!(
        vault_fingerprint(&opened.keyring),
        approver,
        "the person sees other words on the two screens"
    );
    // The approver's own shows the same.
    let envelope = seal_for_device(&world.vault.keyring, &[], &seal.public(), id, [2; 32]).unwrap();
    let opened = open_for_device(&envelope, &seal, id).unwrap();
    assert_eq!(vault_fingerprint(&opened.keyring), approver);
}

#[test]
fn a_false_device_shows_other_words() {
    let (key, seal, _) = new_device();
    let shown = device_fingerprint(&key.public(), &seal.public());
    // Its own keys altogether; or the new device's signing key with a sealing key of its own, to read the keyring.
    let (theirs, their_seal) = (DeviceKey::from_seed([0x71; 32]), SealKey::from_seed([0x72; 32]));
    for offered in [
        device_fingerprint(&theirs.public(), &their_seal.public()),
        device_fingerprint(&key.public(), &their_seal.public()),
        device_fingerprint(&theirs.public(), &seal.public()),
        device_fingerprint(&seal.public(), &key.public()),
    ] {
        assert_ne!(offered, shown);
    }
}

#[test]
fn an_envelope_for_another_device_or_vault_does_not_open() {
    let (world, _) = World::with(1);
    let (_, seal, id) = new_device();
    let keyring = &world.vault.keyring;
    let for_other =
        seal_for_device(keyring, &[], &SealKey::from_seed([0x72; 32]).public(), id, [1; 32]).unwrap();
    let bound_elsewhere = seal_for_device(keyring, &[], &seal.public(), DeviceId([9; 16]), [1; 32]).unwrap();
    for envelope in [for_other, bound_elsewhere] {
        assert_eq!(open_for_device(&envelope, &seal, id).unwrap_err(), WrapError::WrongSecret);
    }
}

#[test]
fn the_approvers_floor_keeps_a_new_device_from_an_old_state() {
    let (world, sessions) = World::with(3);
    let (_, seal, id) = new_device();
    let approver = world.vault.reader().check_floor(&Floor::default()).unwrap();
    let envelope =
        seal_for_device(&world.vault.keyring, &approver.encode(), &seal.public(), id, [1; 32]).unwrap();
    let floor = Floor::decode(&open_for_device(&envelope, &seal, id).unwrap().floor).unwrap();
    assert_eq!(floor, approver);
    world.liar.lists(|list| list.snapshots.truncate(2));
    let refused = world.client().check_floor(&floor).unwrap_err();
    assert!(matches!(&refused, VaultError::RolledBack { seen, .. } if seen.0 == sessions[2]), "{refused:?}");
    // An older envelope of the same approver, kept by the server, tells less but lowers nothing that is known.
    let older = Floor { seen: vec![(approver.seen[0].0, sessions[0], approver.seen[0].2)] };
    assert_eq!(floor.merged(&older), floor);
}
