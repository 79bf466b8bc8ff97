//! Which secrets open a vault, which roots are believed, and what a device remembers.

use crate::fixture::{Counting, TreeWriter, VAULT, World, file, put};
use crate::{Floor, Locked, VaultConfig, VaultError};
use backupengine_model::{NodeId, RootHash, SessionNo, TreeReader, VaultId};
use backupengine_seal::{
    DeviceKey, DeviceSecret, EnvelopeKind, KdfParams, Passphrase, RecoveryCode, Role, RootKey, UnlockSecret,
    seal_envelope,
};
use backupengine_store::{BlobKey, EnvelopeId, MemoryStore};
use std::sync::Arc;

fn locked(world: &World) -> Locked {
    Locked::open(Arc::new(Counting::new(world))).unwrap()
}

fn envelope(world: &World, number: u8, secret: &UnlockSecret<'_>) -> Vec<u8> {
    seal_envelope(&world.keyring, Some(&world.root_key), secret, KdfParams::FLOOR, [number; 44]).unwrap()
}

fn put_envelope(world: &World, number: u8, secret: &UnlockSecret<'_>) {
    put(&world.store, BlobKey::Envelope(EnvelopeId([number; 8])), envelope(world, number, secret));
}

#[test]
fn each_kind_of_secret_opens_its_own_envelope_and_no_other() {
    let mut world = World::new();
    let session = world.push(TreeWriter::new([file("f", b"1")]));
    let (right, wrong) = (Passphrase::new("right horse".into()), Passphrase::new("wrong horse".into()));
    let code = RecoveryCode::from_entropy([3; 32]);
    let unlock = |secret: &UnlockSecret<'_>| locked(&world).unlock(secret, VaultConfig::default());
    assert!(matches!(
        unlock(&UnlockSecret::Passphrase(&right)),
        Err(VaultError::NoEnvelope(EnvelopeKind::Passphrase))
    ));
    put_envelope(&world, 1, &UnlockSecret::Passphrase(&right));
    put_envelope(&world, 2, &UnlockSecret::Recovery(&code));
    let opened = unlock(&UnlockSecret::Passphrase(&right)).unwrap();
    assert!(opened.root_key.is_none());
    assert!(opened.vault.lookup(NodeId::root(session), b"f").unwrap().is_some());
    assert!(matches!(unlock(&UnlockSecret::Passphrase(&wrong)), Err(VaultError::WrongSecret)));
    let opened = unlock(&UnlockSecret::Recovery(&code)).unwrap();
    assert_eq!(opened.root_key.unwrap().public(), world.root_key.public());
    let other = RecoveryCode::from_entropy([4; 32]);
    assert!(matches!(unlock(&UnlockSecret::Recovery(&other)), Err(VaultError::WrongSecret)));
}

#[test]
fn an_envelope_kept_elsewhere_opens_without_the_stores_own() {
    let world = World::new();
    let secret = DeviceSecret::from_bytes([5; 32]);
    let other = DeviceSecret::from_bytes([6; 32]);
    let sealed = envelope(&world, 1, &UnlockSecret::Device(&secret));
    let with =
        |secret| locked(&world).unlock_with(&sealed, &UnlockSecret::Device(secret), VaultConfig::default());
    assert_eq!(with(&secret).unwrap().vault.keyring().vault(), VAULT);
    assert!(matches!(with(&other), Err(VaultError::WrongSecret)));
    let elsewhere = Locked::open(Arc::new(MemoryStore::new(VaultId([9; 16])))).unwrap();
    let opened = elsewhere.unlock_with(&sealed, &UnlockSecret::Device(&secret), VaultConfig::default());
    assert!(matches!(opened, Err(VaultError::OtherVault { .. })));
}

/// A world with one committed draft whose record `change` has spoiled.
fn spoiled(change: impl FnOnce(&mut World, &mut crate::fixture::Draft)) -> VaultError {
    let mut world = World::new();
    let mut draft = world.draft(TreeWriter::new([file("f", b"1")]));
    draft.record.signature = world.device.sign_root(&draft.record.encode_unsigned());
    change(&mut world, &mut draft);
    let session = world.commit_as_is(draft);
    world.vault().root(session).map(|_| ()).unwrap_err()
}

#[test]
fn roots_that_no_device_of_this_vault_signed_are_refused() {
    let sign = |device: &DeviceKey, draft: &mut crate::fixture::Draft| {
        draft.record.signature = device.sign_root(&draft.record.encode_unsigned());
    };
    assert!(matches!(spoiled(|_, draft| draft.record.signature[3] ^= 1), VaultError::Untrusted { .. }));
    assert!(matches!(
        spoiled(|_, draft| draft.record.tags.push("later".into())),
        VaultError::Untrusted { .. }
    ));
    // Another vault's root key, and a device that may only read.
    let foreign = RootKey::from_seed([66; 32]);
    let by_foreign = |world: &mut World, draft: &mut crate::fixture::Draft| {
        let certificate = foreign.certify(VAULT, world.device.public(), Role::Owner, 0);
        draft.record.certificate = certificate.encode();
        sign(&world.device, draft);
    };
    assert!(matches!(spoiled(by_foreign), VaultError::Untrusted { .. }));
    let by_reader = |world: &mut World, draft: &mut crate::fixture::Draft| {
        let certificate = world.root_key.certify(VAULT, world.device.public(), Role::Reader, 0);
        draft.record.certificate = certificate.encode();
        sign(&world.device, draft);
    };
    assert!(matches!(spoiled(by_reader), VaultError::Untrusted { .. }));
    // A good device that signs in another one's name.
    let in_anothers_name = |world: &mut World, draft: &mut crate::fixture::Draft| {
        draft.record.device = backupengine_model::DeviceId([1; 16]);
        sign(&world.device, draft);
    };
    assert!(matches!(spoiled(in_anothers_name), VaultError::Damaged { .. }));
}

#[test]
fn records_for_another_place_are_refused() {
    let resigned = |change: fn(&mut backupengine_format::root::RootRecord)| {
        spoiled(move |world, draft| {
            change(&mut draft.record);
            draft.record.signature = world.device.sign_root(&draft.record.encode_unsigned());
        })
    };
    assert!(matches!(resigned(|r| r.session = SessionNo(77)), VaultError::Damaged { .. }));
    assert!(matches!(
        resigned(|r| r.vault = VaultId([1; 16])),
        VaultError::Damaged { .. } | VaultError::Untrusted { .. }
    ));
    assert!(matches!(resigned(|r| r.totals.files = 5), VaultError::Damaged { .. }));
}

#[test]
fn a_ledger_that_contradicts_a_root_is_refused() {
    let mut world = World::new();
    let session = world.push(TreeWriter::new([file("f", b"1")]));
    let changes: [fn(&mut Vec<backupengine_model::ledger::SnapshotRecord>); 3] =
        [|list| list[0].created.secs += 1, |list| list[0].id.0[0] ^= 1, |list| list[0].device.0[0] ^= 1];
    for change in changes {
        let mut store = Counting::new(&world);
        store.rewrite = Some(change);
        let vault = world.open(Arc::new(store));
        assert!(matches!(vault.root(session), Err(VaultError::Contradiction { .. })));
    }
    // A wrong length only costs a second call.
    let wrong_lengths: [fn(&mut Vec<backupengine_model::ledger::SnapshotRecord>); 2] =
        [|list| list[0].head_len = 3, |list| list[0].head_len = u32::MAX];
    for change in wrong_lengths {
        let mut store = Counting::new(&world);
        store.rewrite = Some(change);
        assert!(world.open(Arc::new(store)).root(session).is_ok());
    }
}

fn push(world: &mut World, change: impl FnOnce(&mut backupengine_format::root::RootRecord)) -> SessionNo {
    let mut draft = world.draft(TreeWriter::new([file("f", b"1")]));
    change(&mut draft.record);
    world.commit(draft)
}

#[test]
fn the_floor_rises_with_few_roots_read() {
    let mut world = World::new();
    let mut other = world.other_device(40);
    let (id, other_id) = (world.device.id(), other.device.id());
    let first = push(&mut world, |_| {});
    let floor = world.vault().check_floor(&Floor::default()).unwrap();
    assert_eq!(floor.seen, [(id, first, world.hash(first))]);
    for _ in 0..5 {
        push(&mut world, |_| {});
    }
    let theirs = push(&mut other, |_| {});
    let newest = push(&mut world, |_| {});
    let store = Arc::new(Counting::new(&world));
    let vault = world.open(store.clone());
    let raised = vault.check_floor(&floor).unwrap();
    let mut expected = vec![(id, newest, world.hash(newest)), (other_id, theirs, world.hash(theirs))];
    expected.sort();
    assert_eq!(raised.seen, expected);
    assert_eq!(store.gets.lock().unwrap().len(), 2, "one root of each device that moved");
    // Nothing moved: only the newest of all, which a reader loads anyway.
    let store = Arc::new(Counting::new(&world));
    assert_eq!(world.open(store.clone()).check_floor(&raised).unwrap(), raised);
    assert_eq!(store.gets.lock().unwrap().len(), 1);
}

#[test]
fn an_older_past_is_refused_with_both_named() {
    let mut world = World::new();
    let first = push(&mut world, |_| {});
    let earlier = world.copy();
    let second = push(&mut world, |_| {});
    let floor = world.vault().check_floor(&Floor::default()).unwrap();
    assert!(matches!(earlier.vault().check_floor_list(&floor), Err(VaultError::RolledBack { .. })));
    world.vault().check_floor_list(&floor).unwrap();
    let Err(VaultError::RolledBack { device, seen, listed }) = earlier.vault().check_floor(&floor) else {
        panic!("a rollback went unnoticed");
    };
    assert_eq!((device, seen.0, listed), (world.device.id(), second, Some(first)));
    let empty = World::new();
    let refused = empty.vault().check_floor(&floor);
    assert!(matches!(refused, Err(VaultError::RolledBack { listed: None, .. })));
    let text = earlier.vault().check_floor(&floor).unwrap_err().to_string();
    assert!(text.contains(&second.to_string()) && text.contains(&first.to_string()), "{text}");
}

#[test]
fn another_root_in_a_remembered_place_is_refused() {
    let mut world = World::new();
    let session = push(&mut world, |_| {});
    let device = world.device.id();
    let forged = Floor { seen: vec![(device, session, RootHash([9; 32]))] };
    // The list alone does not tell; but from then on that root is not taken.
    let vault = world.vault();
    vault.check_floor_list(&forged).unwrap();
    assert!(matches!(vault.root(session), Err(VaultError::Forked { .. })));
    assert!(matches!(world.vault().check_floor(&forged), Err(VaultError::Forked { .. })));
    // A root that was opened before the floor was known is compared as well.
    let vault = world.vault();
    vault.root(session).unwrap();
    assert!(matches!(vault.check_floor(&forged), Err(VaultError::Forked { .. })));
    // The next root names another parent than the one remembered.
    let right = world.vault().check_floor(&Floor::default()).unwrap();
    let next = push(&mut world, |record| record.parent = Some((session, RootHash([8; 32]))));
    assert!(matches!(world.vault().check_floor(&right), Err(VaultError::Forked { .. })));
    // Where the device moved on since, the remembered root is compared when it is read.
    let vault = world.vault();
    let chain = push(&mut world, |record| record.parent = Some((next, RootHash([7; 32]))));
    assert!(chain > next && vault.check_floor(&forged).is_ok());
    assert!(matches!(vault.root(session), Err(VaultError::Forked { .. })));
}

#[test]
fn what_another_device_has_seen_must_be_there() {
    let mut world = World::new();
    let mut other = world.other_device(41);
    push(&mut world, |_| {});
    let unseen = (world.device.id(), SessionNo(99), RootHash([4; 32]));
    push(&mut other, |record| record.others = vec![unseen]);
    let refused = world.vault().check_floor(&Floor::default());
    assert!(matches!(refused, Err(VaultError::RolledBack { seen: (SessionNo(99), _), .. })));
}

#[test]
fn damaged_newest_roots_are_told_to_who_wants_what_is_left() {
    let mut world = World::new();
    let mut other = world.other_device(40);
    let first = push(&mut world, |_| {});
    let theirs = push(&mut other, |_| {});
    let newest = push(&mut world, |_| {});
    let floor = world.vault().check_floor(&Floor::default()).unwrap();
    let mut spoilt = world.blob(BlobKey::Root(newest));
    let end = spoilt.len() - 80;
    spoilt[end] ^= 1;
    let lost: [&dyn Fn(&World); 2] =
        [&|world| world.replace(BlobKey::Root(newest), spoilt.clone()), &|world| {
            world.remove(BlobKey::Root(newest))
        }];
    for lose in lost {
        let damaged = world.copy();
        lose(&damaged);
        let refused = damaged.vault().check_floor(&floor).unwrap_err();
        assert!(refused.is_damage(), "{refused}");
        let (shown, told) = damaged.vault().check_floor_past_damage(&floor).unwrap();
        assert_eq!((&shown, told.len()), (&floor, 1), "what was seen stays");
        assert!(damaged.vault().root(newest).is_err());
        for session in [first, theirs] {
            assert_eq!(damaged.vault().root(session).unwrap().record.session, session);
        }
        // Who has seen nothing yet learns of the others only.
        let (shown, _) = damaged.vault().check_floor_past_damage(&Floor::default()).unwrap();
        assert_eq!(shown.seen, [(other.device.id(), theirs, world.hash(theirs))]);
    }
    // An older past is no damage.
    let empty = World::new();
    assert!(matches!(empty.vault().check_floor_past_damage(&floor), Err(VaultError::RolledBack { .. })));
}
