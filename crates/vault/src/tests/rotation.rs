//! Keys that were rotated: which envelope counts, what a reader held open goes on with, how ways in change.

use crate::fixture::{Counting, TreeWriter, VAULT, World, file, now, put};
use crate::{Floor, Locked, NewerKeys, Vault, VaultConfig, VaultError, Ways, WaysIn};
use backupengine_format::label;
use backupengine_format::trailer::{TRAILER_LEN, Trailer};
use backupengine_model::{NodeId, PackRef, ReadFailure, SessionNo, SnapshotInfo, TreeReader};
use backupengine_seal::{
    DedupSecret, EnvelopeKind, KdfParams, Keyring, MasterSecret, Passphrase, RecoveryCode, UnlockSecret,
    open_envelope, seal_envelope,
};
use backupengine_store::{BlobKey, EnvelopeId, EnvelopeKeeper, Keeper};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

fn rotated(keyring: &Keyring, seed: u8) -> Keyring {
    keyring.rotated(MasterSecret::from_bytes([seed; 32])).unwrap()
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.into())
}

fn code() -> RecoveryCode {
    RecoveryCode::from_entropy([3; 32])
}

fn locked(world: &World) -> Locked {
    Locked::open(Arc::new(Counting::new(world))).unwrap()
}

fn put_envelope(world: &World, number: u8, keyring: &Keyring, secret: &UnlockSecret<'_>) {
    let sealed =
        seal_envelope(keyring, Some(&world.root_key), secret, KdfParams::FLOOR, [number; 44]).unwrap();
    put(&world.store, BlobKey::Envelope(EnvelopeId([number; 8])), sealed);
}

/// Bytes that were never given before.
fn random(bytes: &mut [u8]) {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 40);
    bytes[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
}

fn change(
    ways: &WaysIn,
    keyring: &Keyring,
    passphrase: &Ways<&Passphrase>,
    recovery: &Ways<(&RecoveryCode, &backupengine_seal::RootKey)>,
) -> Result<backupengine_store::EnvelopeChange, VaultError> {
    ways.change(keyring, passphrase, recovery, KdfParams::FLOOR, &random)
}

/// With a passphrase and a recovery code, epoch 1.
fn world() -> World {
    let world = World::new();
    put_envelope(&world, 1, &world.keyring, &UnlockSecret::Passphrase(&passphrase("old horse")));
    put_envelope(&world, 2, &world.keyring, &UnlockSecret::Recovery(&code()));
    world
}

fn epoch_by(world: &World, secret: &UnlockSecret<'_>) -> Result<u16, VaultError> {
    let unlocked = locked(world).unlock(secret, VaultConfig::default())?;
    Ok(unlocked.vault.keyring().current_epoch())
}

#[test]
fn the_newest_keys_that_a_secret_opens_count() {
    for numbers in [[5, 6, 7], [7, 6, 5], [6, 7, 5]] {
        let world = World::new();
        let (two, right) = (rotated(&world.keyring, 9), passphrase("right horse"));
        // An old one that a store shows again, the new one, and somebody else's newer still.
        put_envelope(&world, numbers[0], &world.keyring, &UnlockSecret::Passphrase(&right));
        put_envelope(&world, numbers[1], &two, &UnlockSecret::Passphrase(&right));
        put_envelope(
            &world,
            numbers[2],
            &rotated(&two, 8),
            &UnlockSecret::Passphrase(&passphrase("another")),
        );
        assert_eq!(epoch_by(&world, &UnlockSecret::Passphrase(&right)).unwrap(), 2);
        assert_eq!(locked(&world).ways_in().unwrap().newest_epoch(), Some(3));
    }
}

#[test]
fn a_rotation_replaces_what_was_given_and_drops_the_other_passphrases() {
    let world = world();
    let ways = locked(&world).ways_in().unwrap();
    let two = rotated(&world.keyring, 9);
    let (new, code) = (passphrase("new horse"), code());
    let done = change(&ways, &two, &Ways::Replace(&new), &Ways::Replace((&code, &world.root_key))).unwrap();
    assert_eq!((done.keep.len(), done.add.len(), done.expected.len()), (0, 2, 2));
    now(world.store.change_envelopes(&done)).unwrap();
    assert_eq!(epoch_by(&world, &UnlockSecret::Passphrase(&new)).unwrap(), 2);
    assert_eq!(epoch_by(&world, &UnlockSecret::Recovery(&code)).unwrap(), 2);
    let old = passphrase("old horse");
    assert!(matches!(epoch_by(&world, &UnlockSecret::Passphrase(&old)), Err(VaultError::WrongSecret)));
}

/// Without the code typed its envelope stays as it is: it goes on opening what was pushed until now.
#[test]
fn a_recovery_code_that_was_not_typed_keeps_the_root_key() {
    let world = world();
    let ways = locked(&world).ways_in().unwrap();
    let two = rotated(&world.keyring, 9);
    let new = passphrase("new horse");
    for recovery in [Ways::Keep, Ways::Drop] {
        let done = change(&ways, &two, &Ways::Replace(&new), &recovery).unwrap();
        assert_eq!((done.keep.as_slice(), done.add.len()), (&[EnvelopeId([2; 8])][..], 1));
    }
    let done = change(&ways, &two, &Ways::Replace(&new), &Ways::Keep).unwrap();
    now(world.store.change_envelopes(&done)).unwrap();
    assert_eq!(epoch_by(&world, &UnlockSecret::Recovery(&code())).unwrap(), 1);
    assert_eq!(epoch_by(&world, &UnlockSecret::Passphrase(&new)).unwrap(), 2);
}

#[test]
fn a_change_that_would_lock_everybody_out_is_refused() {
    let world = world();
    let ways = locked(&world).ways_in().unwrap();
    let two = rotated(&world.keyring, 9);
    let none = change(&ways, &two, &Ways::Drop, &Ways::Keep);
    assert!(matches!(none, Err(VaultError::NoWayIn)));
    // With the keys as they are the recovery code is a way in.
    assert!(change(&ways, &world.keyring, &Ways::Drop, &Ways::Keep).is_ok());
    put_envelope(&world, 3, &two, &UnlockSecret::Recovery(&code()));
    let ways = locked(&world).ways_in().unwrap();
    let old = change(&ways, &world.keyring, &Ways::Add(&passphrase("x")), &Ways::Keep);
    assert!(matches!(old, Err(VaultError::OldKeys { found: 1, newest: 2 })));
}

#[test]
fn of_two_rotations_at_once_one_comes_through() {
    let world = world();
    let (one, other) = (locked(&world).ways_in().unwrap(), locked(&world).ways_in().unwrap());
    let new = passphrase("new horse");
    let first = change(&one, &rotated(&world.keyring, 9), &Ways::Replace(&new), &Ways::Keep).unwrap();
    let second = change(&other, &rotated(&world.keyring, 8), &Ways::Replace(&new), &Ways::Keep).unwrap();
    now(world.store.change_envelopes(&first)).unwrap();
    now(world.store.change_envelopes(&second)).unwrap_err();
    let opened = locked(&world).unlock(&UnlockSecret::Passphrase(&new), VaultConfig::default()).unwrap();
    assert!(opened.vault.keyring().extends(&rotated(&world.keyring, 9)));
}

#[test]
fn passphrases_come_and_go() {
    let world = world();
    let (second, old) = (passphrase("second horse"), passphrase("old horse"));
    let ways = locked(&world).ways_in().unwrap();
    let added = change(&ways, &world.keyring, &Ways::Add(&second), &Ways::Keep).unwrap();
    now(world.store.change_envelopes(&added)).unwrap();
    for text in [&second, &old] {
        assert_eq!(epoch_by(&world, &UnlockSecret::Passphrase(text)).unwrap(), 1);
    }
    let mut ways = locked(&world).ways_in().unwrap();
    let (way, root) = ways.opened_by(&UnlockSecret::Passphrase(&second)).unwrap();
    assert!((way.kind, root.is_none()) == (EnvelopeKind::Passphrase, true));
    assert!(ways.opened_by(&UnlockSecret::Recovery(&code())).unwrap().1.is_some());
    for text in ["third horse", "fourth horse"] {
        let more = change(&ways, &world.keyring, &Ways::Add(&passphrase(text)), &Ways::Keep).unwrap();
        now(world.store.change_envelopes(&more)).unwrap();
        ways = locked(&world).ways_in().unwrap();
    }
    let fifth = change(&ways, &world.keyring, &Ways::Add(&passphrase("fifth")), &Ways::Keep);
    assert!(matches!(fifth, Err(VaultError::TooManyWays)));
    let alone = change(&ways, &world.keyring, &Ways::Replace(&passphrase("alone")), &Ways::Keep).unwrap();
    now(world.store.change_envelopes(&alone)).unwrap();
    assert!(matches!(epoch_by(&world, &UnlockSecret::Passphrase(&second)), Err(VaultError::WrongSecret)));
    assert_eq!(epoch_by(&world, &UnlockSecret::Passphrase(&passphrase("alone"))).unwrap(), 1);
}

#[test]
fn an_envelope_of_a_newer_program_is_not_thrown_away() {
    let world = world();
    put(&world.store, BlobKey::Envelope(EnvelopeId([9; 8])), vec![0xa1, 0x01, 0x02]);
    let ways = locked(&world).ways_in().unwrap();
    assert_eq!(ways.unusable.len(), 1);
    let refused = change(&ways, &world.keyring, &Ways::Replace(&passphrase("x")), &Ways::Keep);
    assert!(matches!(refused, Err(VaultError::Envelope(_))));
}

/// One snapshot under epoch 1, one under epoch 2: session numbers, and the keys of epoch 2.
fn before_and_after() -> (World, SessionNo, SessionNo, Keyring) {
    let mut world = World::new();
    let old = world.push(TreeWriter::new([file("f", b"old")]));
    let first = world.keyring.clone();
    let two = rotated(&world.keyring, 9);
    put_envelope(&world, 9, &two, &UnlockSecret::Recovery(&code()));
    world.keyring = two.clone();
    let new = world.push(TreeWriter::new([file("f", b"new")]));
    world.keyring = first;
    (world, old, new, two)
}

fn reads(vault: &Vault, session: SessionNo) -> bool {
    vault.lookup(NodeId::root(session), b"f").is_ok_and(|found| found.is_some())
}

#[test]
fn with_the_older_keys_one_snapshot_is_closed_and_the_others_open() {
    let (world, old, new, two) = before_and_after();
    let vault = world.vault();
    assert_eq!(vault.unknown_epoch(), None);
    let list = vault.list().unwrap();
    assert_eq!(list.len(), 2);
    assert!(reads(&vault, old));
    let error = vault.root(new).map(drop).unwrap_err();
    assert!(matches!(error, VaultError::UnknownEpoch { epoch: 2, .. }), "{error}");
    assert_eq!(error.failure(), ReadFailure::Denied);
    assert_eq!(vault.unknown_epoch(), Some(2));
    // What was seen before still is held against what is shown.
    let seen = vault.check_floor(&Floor::default()).unwrap();
    assert_eq!(seen.seen.len(), 0, "one device, whose newest root does not open");
    // The newer keys open both.
    let vault = Locked::open(Arc::new(Counting::new(&world))).unwrap();
    let vault = vault.unlock_as(two, VaultConfig::default()).unwrap();
    assert!(reads(&vault, old) && reads(&vault, new));
}

/// Gives these, and counts.
struct Source(Option<Keyring>, AtomicUsize);

impl NewerKeys for Source {
    fn newer(&self, epoch: u16) -> Option<Keyring> {
        assert_eq!(epoch, 2);
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.clone()
    }
}

#[test]
fn a_reader_that_is_held_open_goes_on_with_the_newer_keys() {
    let (world, old, new, two) = before_and_after();
    let vault = world.vault();
    let source = Arc::new(Source(Some(two), AtomicUsize::new(0)));
    vault.renew_from(source.clone());
    assert!(reads(&vault, old));
    assert!(reads(&vault, new) && reads(&vault, old));
    assert_eq!(source.1.load(Ordering::Relaxed), 1);
    assert_eq!(vault.unknown_epoch(), None);
    let names: Vec<String> = vault.list().unwrap().iter().map(|info| info.device_name.clone()).collect();
    assert_eq!(names[0], names[1], "labels of both epochs open");
    assert_eq!(source.1.load(Ordering::Relaxed), 1);
}

#[test]
fn keys_that_do_not_continue_its_own_are_not_taken() {
    let (world, old, new, _) = before_and_after();
    // The same dedup secret and root, another first master key.
    let other = Keyring::new(
        VAULT,
        MasterSecret::from_bytes([66; 32]),
        DedupSecret::from_bytes([2; 32]),
        *world.keyring.root_public(),
    );
    for given in [None, Some(world.keyring.clone()), Some(rotated(&other, 9))] {
        let vault = world.vault();
        vault.renew_from(Arc::new(Source(given, AtomicUsize::new(0))));
        assert!(!reads(&vault, new));
        assert!(reads(&vault, old));
    }
}

/// A list made while one snapshot was closed says more once the keys are there.
#[test]
fn a_list_made_with_the_older_keys_is_made_anew_with_the_newer() {
    let (world, _, new, two) = before_and_after();
    let vault = world.vault();
    let name_of = |vault: &Vault| {
        vault.list().unwrap().iter().find(|info| info.session == new).unwrap().device_name.clone()
    };
    let before = name_of(&vault);
    assert_eq!(before, world.device.id().to_string());
    vault.renew_from(Arc::new(Source(Some(two), AtomicUsize::new(0))));
    assert!(reads(&vault, new));
    assert_ne!(name_of(&vault), before);
}

/// A label does not say its epoch: an owner gave an older snapshot another one after the rotation.
#[test]
fn a_label_that_was_sealed_anew_is_read_with_the_newer_keys() {
    let mut world = World::new();
    let session = world.push(TreeWriter::new([file("f", b"old")]));
    let two = rotated(&world.keyring, 9);
    let of_root = world.vault().list().unwrap()[0].clone();
    let info = SnapshotInfo { tags: vec!["given later".into()], ..of_root.clone() };
    let sealed = two.seal_label(session, [8; 8], &label::encode(&info));
    now(world.store.relabel(session, &sealed)).unwrap();
    // With the older keys the root says what it said.
    assert_eq!(*world.vault().list().unwrap(), std::slice::from_ref(&of_root));
    let vault = world.vault();
    let source = Arc::new(Source(Some(two), AtomicUsize::new(0)));
    vault.renew_from(source.clone());
    assert_eq!(*vault.list().unwrap(), std::slice::from_ref(&info));
    assert_eq!(*vault.list().unwrap(), [info]);
    assert_eq!(source.1.load(Ordering::Relaxed), 1);
    // In vain it costs nothing but the asking, and the root says the rest.
    let vault = world.vault();
    let source = Arc::new(Source(None, AtomicUsize::new(0)));
    vault.renew_from(source.clone());
    assert_eq!(*vault.list().unwrap(), [of_root]);
    assert_eq!(source.1.load(Ordering::Relaxed), 1);
}

/// Nothing vouches for a trailer before its key is there: without an envelope that reaches it, there is no such epoch.
#[test]
fn a_forged_epoch_in_a_trailer_is_damage_and_no_rotation() {
    let high = 7;
    let spoilt = |world: &World, key: BlobKey| {
        let mut bytes = world.blob(key);
        let end = bytes.len() - TRAILER_LEN;
        let mut trailer = Trailer::decode(&bytes[end..]).unwrap();
        trailer.pack.epoch = high;
        bytes[end..].copy_from_slice(&trailer.encode());
        world.replace(key, bytes);
    };
    for number in [PackRef::ROOT, 0] {
        let mut world = World::new();
        let session = world.push(TreeWriter::new([file("f", &[7; 5000])]));
        let key =
            if number == PackRef::ROOT { BlobKey::Root(session) } else { BlobKey::Pack(session, number) };
        spoilt(&world, key);
        let vault = world.vault();
        vault.renew_from(Arc::new(Source(None, AtomicUsize::new(0))));
        let error = match vault.root(session) {
            Err(error) => error,
            Ok(_) => vault.leaves(session).unwrap().find_map(Result::err).unwrap(),
        };
        assert!(error.is_damage(), "{error}");
        assert_eq!(vault.unknown_epoch(), None);
        // Where an envelope reaches that far it may be true of a root; what is referred to says its epoch itself.
        let mut reaching = world.keyring.clone();
        for seed in 1..7 {
            reaching = rotated(&reaching, seed);
        }
        put_envelope(&world, 9, &reaching, &UnlockSecret::Recovery(&code()));
        let vault = world.vault();
        let error = match vault.root(session) {
            Err(error) => error,
            Ok(_) => vault.leaves(session).unwrap().find_map(Result::err).unwrap(),
        };
        assert_eq!(error.is_damage(), number != PackRef::ROOT, "{error}");
    }
}

#[test]
fn a_recovery_envelope_that_was_remade_still_holds_the_root_key() {
    let world = world();
    let ways = locked(&world).ways_in().unwrap();
    let (two, code) = (rotated(&world.keyring, 9), code());
    let done = change(&ways, &two, &Ways::Drop, &Ways::Replace((&code, &world.root_key))).unwrap();
    let opened = open_envelope(&done.add[0].1, &UnlockSecret::Recovery(&code)).unwrap();
    assert_eq!(opened.root_key.unwrap().public(), world.root_key.public());
    assert!(opened.keyring.extends(&two));
}
