//! Tests of envelopes: every secret, every bit, every cost, and what a store could write.

use super::*;
use crate::testing::{keyring, root_key};
use backupengine_model::DeviceId;

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.to_owned())
}

fn device_envelope(secret: &DeviceSecret) -> Vec<u8> {
    seal_envelope(&keyring(), None, &UnlockSecret::Device(secret), KdfParams::FLOOR, [5; 44]).unwrap()
}

fn same_keys(a: &Keyring, b: &Keyring) -> bool {
    *encode_keys(a, None, None, None) == *encode_keys(b, None, None, None) && a.vault() == b.vault()
}

#[test]
fn each_kind_opens_with_its_secret_and_no_other() {
    let (phrase, code) = (passphrase("correct horse"), RecoveryCode::from_entropy([6; 32]));
    let device = DeviceSecret::from_bytes([7; 32]);
    let secrets =
        || [UnlockSecret::Passphrase(&phrase), UnlockSecret::Recovery(&code), UnlockSecret::Device(&device)];
    for secret in secrets() {
        let envelope =
            seal_envelope(&keyring(), Some(&root_key()), &secret, KdfParams::FLOOR, [5; 44]).unwrap();
        assert_eq!(envelope_kind(&envelope), Ok(secret.kind()));
        assert_eq!(envelope_vault(&envelope), Ok(keyring().vault()));
        let opened = open_envelope(&envelope, &secret).unwrap();
        assert!(same_keys(&opened.keyring, &keyring()));
        // The root key rests under the recovery code alone.
        assert_eq!(opened.root_key.is_some(), secret.kind() == EnvelopeKind::Recovery);
        for other in secrets().iter().filter(|other| other.kind() != secret.kind()) {
            assert_eq!(open_envelope(&envelope, other).unwrap_err(), WrapError::OtherKind);
        }
    }
}

#[test]
fn wrong_secrets_are_refused_in_one_way() {
    let envelope = seal_envelope(
        &keyring(),
        None,
        &UnlockSecret::Passphrase(&passphrase("correct horse")),
        KdfParams::FLOOR,
        [5; 44],
    )
    .unwrap();
    for wrong in ["", "correct horsE", "correct horse ", "correct"] {
        let opened = open_envelope(&envelope, &UnlockSecret::Passphrase(&passphrase(wrong)));
        assert_eq!(opened.unwrap_err(), WrapError::WrongSecret);
    }
    let envelope = device_envelope(&DeviceSecret::from_bytes([7; 32]));
    let opened = open_envelope(&envelope, &UnlockSecret::Device(&DeviceSecret::from_bytes([8; 32])));
    assert_eq!(opened.unwrap_err(), WrapError::WrongSecret);
}

#[test]
fn every_changed_bit_of_an_envelope_is_refused() {
    let (secret, code) = (DeviceSecret::from_bytes([7; 32]), RecoveryCode::from_entropy([6; 32]));
    let recovery = UnlockSecret::Recovery(&code);
    for (envelope, secret) in [
        (device_envelope(&secret), UnlockSecret::Device(&secret)),
        (
            seal_envelope(&keyring(), Some(&root_key()), &recovery, KdfParams::FLOOR, [5; 44]).unwrap(),
            recovery,
        ),
    ] {
        assert!(open_envelope(&envelope, &secret).is_ok());
        for bit in 0..envelope.len() * 8 {
            let mut bad = envelope.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open_envelope(&bad, &secret).is_err(), "bit {bit}");
        }
        for len in 0..envelope.len() {
            assert_eq!(open_envelope(&envelope[..len], &secret).unwrap_err(), WrapError::Malformed);
        }
        let longer = [&envelope[..], &[0]].concat();
        assert_eq!(open_envelope(&longer, &secret).unwrap_err(), WrapError::Malformed);
    }
}

#[test]
fn damage_is_not_called_a_wrong_secret() {
    let phrase = passphrase("correct horse");
    let secret = UnlockSecret::Passphrase(&phrase);
    let envelope = seal_envelope(&keyring(), None, &secret, KdfParams::FLOOR, [5; 44]).unwrap();
    // No passphrase is hashed for what is damaged, or this would take minutes.
    for bit in 0..envelope.len() * 8 {
        let mut bad = envelope.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let refused = open_envelope(&bad, &secret).unwrap_err();
        let known = [WrapError::Damaged, WrapError::Malformed].contains(&refused);
        assert!(known || matches!(refused, WrapError::UnknownVersion(_)), "bit {bit}: {refused}");
        assert_eq!(envelope_kind(&bad).unwrap_err(), refused);
    }
}

/// The header of an envelope with other KDF parameters, everything else as it was.
fn with_kdf(envelope: &[u8], kdf: KdfParams) -> Vec<u8> {
    let mut parts = Parts::decode(envelope).unwrap();
    parts.header.kdf = Some(kdf);
    parts.encode()
}

#[test]
fn a_store_cannot_choose_the_cost() {
    let phrase = passphrase("correct horse");
    let secret = UnlockSecret::Passphrase(&phrase);
    let floor = KdfParams::FLOOR;
    let envelope = seal_envelope(&keyring(), None, &secret, floor, [5; 44]).unwrap();
    for bad in [
        KdfParams { memory_kib: floor.memory_kib - 1, ..floor },
        KdfParams { passes: floor.passes - 1, ..floor },
        KdfParams { lanes: 0, ..floor },
        KdfParams { memory_kib: 0, passes: 0, lanes: 0 },
        KdfParams { memory_kib: KdfParams::CEILING.memory_kib + 1, ..floor },
        KdfParams { passes: KdfParams::CEILING.passes + 1, ..floor },
        KdfParams { lanes: KdfParams::CEILING.lanes + 1, ..floor },
        KdfParams { memory_kib: u32::MAX, passes: u32::MAX, lanes: u32::MAX },
    ] {
        assert_eq!(open_envelope(&with_kdf(&envelope, bad), &secret).unwrap_err(), WrapError::KdfOutOfRange);
        let sealed = seal_envelope(&keyring(), None, &secret, bad, [5; 44]);
        assert_eq!(sealed.unwrap_err(), WrapError::KdfOutOfRange);
    }
    // Inside the range, other parameters give another key.
    let dearer = with_kdf(&envelope, KdfParams { lanes: 2, ..floor });
    assert_eq!(open_envelope(&dearer, &secret).unwrap_err(), WrapError::WrongSecret);
}

#[test]
fn costs_are_those_of_the_text() {
    let kdf = |memory_mib: u32, passes, lanes| KdfParams { memory_kib: memory_mib * 1024, passes, lanes };
    assert_eq!(KdfParams::DEFAULT, kdf(128, 3, 4));
    assert_eq!(KdfParams::FLOOR, kdf(64, 3, 1));
    assert_eq!(KdfParams::CEILING, kdf(4096, 64, 64));
    assert!([KdfParams::DEFAULT, KdfParams::FLOOR, KdfParams::CEILING].into_iter().all(KdfParams::in_range));
}

/// The number of fields stands in the head of an envelope and of what its seal binds.
#[test]
fn heads_say_as_many_fields_as_follow() {
    let (phrase, device) = (passphrase("correct horse"), DeviceSecret::from_bytes([7; 32]));
    let secret = UnlockSecret::Passphrase(&phrase);
    let with_cost = seal_envelope(&keyring(), None, &secret, KdfParams::FLOOR, [5; 44]).unwrap();
    let enrolled = enrolment(&SealKey::from_seed([8; 32]));
    for (envelope, fields, bound) in [(with_cost, 10, 6), (device_envelope(&device), 9, 5), (enrolled, 8, 5)]
    {
        let mut items = minicbor::Decoder::new(&envelope);
        assert_eq!(items.map().unwrap(), Some(fields));
        (0..2 * fields).for_each(|_| items.skip().unwrap());
        assert_eq!(items.position(), envelope.len());
        let aad = Parts::decode(&envelope).unwrap().header.aad();
        let aad = aad.strip_prefix(context::ENVELOPE).unwrap();
        let mut items = minicbor::Decoder::new(aad);
        assert_eq!(items.map().unwrap(), Some(bound));
        (0..2 * bound).for_each(|_| items.skip().unwrap());
        assert_eq!(items.position(), aad.len());
    }
}

#[test]
fn vault_epoch_and_commitment_are_bound() {
    let secret = DeviceSecret::from_bytes([7; 32]);
    let unlock = UnlockSecret::Device(&secret);
    let envelope = device_envelope(&secret);
    let changed = |change: &dyn Fn(&mut Parts<'_>)| {
        let mut parts = Parts::decode(&envelope).unwrap();
        change(&mut parts);
        open_envelope(&parts.encode(), &unlock).unwrap_err()
    };
    assert_eq!(changed(&|p| p.header.vault = VaultId([1; 16])), WrapError::WrongSecret);
    assert_eq!(changed(&|p| p.header.epoch = 2), WrapError::WrongSecret);
    assert_eq!(changed(&|p| p.header.salt[0] ^= 1), WrapError::WrongSecret);
    assert_eq!(changed(&|p| p.nonce.as_mut().unwrap()[0] ^= 1), WrapError::WrongSecret);
    assert_eq!(changed(&|p| p.commitment[31] ^= 1), WrapError::WrongSecret);
}

/// An envelope whose seal is right in every way but whose commitment is another's must not be opened: the
/// commitment decides alone.
#[test]
fn the_commitment_is_checked_before_the_seal() {
    let secret = DeviceSecret::from_bytes([7; 32]);
    let envelope = device_envelope(&secret);
    let mut parts = Parts::decode(&envelope).unwrap();
    let (cipher, _) = parts.header.key(&UnlockSecret::Device(&secret)).unwrap();
    assert!(cipher.open(&parts.nonce.unwrap(), &parts.header.aad(), &mut parts.sealed.to_vec()).is_ok());
    parts.commitment[31] ^= 1;
    let refused = open_envelope(&parts.encode(), &UnlockSecret::Device(&secret)).unwrap_err();
    assert_eq!(refused, WrapError::WrongSecret);
}

#[test]
fn newer_versions_are_called_newer() {
    let mut envelope = device_envelope(&DeviceSecret::from_bytes([7; 32]));
    assert_eq!(envelope[..3], [0xa9, 1, 1]);
    envelope[2] = 2;
    assert_eq!(envelope_kind(&envelope), Err(WrapError::UnknownVersion(2)));
    envelope[2] = 0;
    assert_eq!(envelope_kind(&envelope), Err(WrapError::Malformed));
    assert_eq!(envelope_kind(&[0xa1, 1, 0x18, 200]), Err(WrapError::UnknownVersion(200)));
    assert_eq!(envelope_kind(b""), Err(WrapError::Malformed));
    assert_eq!(envelope_kind(b"hello"), Err(WrapError::Malformed));
}

#[test]
fn several_epochs_survive_the_envelope() {
    let one = keyring();
    let older =
        BTreeMap::from([(1, MasterSecret::from_bytes([1; 32])), (5, MasterSecret::from_bytes([5; 32]))]);
    let epochs = Epochs { current: (300, MasterSecret::from_bytes([9; 32])), older };
    let ring = Keyring::from_parts(one.vault(), epochs, one.dedup().clone(), *one.root_public());
    let secret = DeviceSecret::from_bytes([7; 32]);
    let envelope =
        seal_envelope(&ring, None, &UnlockSecret::Device(&secret), KdfParams::FLOOR, [5; 44]).unwrap();
    let opened = open_envelope(&envelope, &UnlockSecret::Device(&secret)).unwrap();
    assert!(same_keys(&opened.keyring, &ring));
    assert_eq!(opened.keyring.current_epoch(), 300);
}

#[test]
fn nothing_secret_prints() {
    let phrase = passphrase("hunter2");
    assert_eq!(format!("{:?}", UnlockSecret::Passphrase(&phrase)), "UnlockSecret(secret)");
    for error in [WrapError::WrongSecret, WrapError::Malformed, WrapError::OtherKind] {
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

const DEVICE: DeviceId = DeviceId([0xdd; 16]);

fn enrolment(to: &SealKey) -> Vec<u8> {
    seal_for_device(&keyring(), b"what was seen", &to.public(), DEVICE, [5; 32]).unwrap()
}

#[test]
fn a_new_device_gets_the_keys_and_what_was_seen() {
    let key = SealKey::from_seed([8; 32]);
    let envelope = enrolment(&key);
    assert_eq!(envelope_kind(&envelope), Ok(EnvelopeKind::Enrolment));
    assert_eq!(envelope_vault(&envelope), Ok(keyring().vault()));
    let opened = open_for_device(&envelope, &key, DEVICE).unwrap();
    assert!(same_keys(&opened.keyring, &keyring()));
    assert_eq!(opened.floor, b"what was seen");
    // Other random bytes, other envelope; the same ones, the same.
    assert_eq!(enrolment(&key), envelope);
    let again = seal_for_device(&keyring(), b"what was seen", &key.public(), DEVICE, [6; 32]).unwrap();
    assert_ne!(again, envelope);
    assert_eq!(format!("{key:?}"), "SealKey(secret)");
}

#[test]
fn an_enrolment_opens_for_its_device_alone() {
    let key = SealKey::from_seed([8; 32]);
    let envelope = enrolment(&key);
    let refused =
        |envelope: &[u8], key: &SealKey, device| open_for_device(envelope, key, device).unwrap_err();
    assert_eq!(refused(&envelope, &SealKey::from_seed([9; 32]), DEVICE), WrapError::WrongSecret);
    assert_eq!(refused(&envelope, &key, DeviceId([0xde; 16])), WrapError::WrongSecret);
    let secret = DeviceSecret::from_bytes([7; 32]);
    assert_eq!(refused(&device_envelope(&secret), &key, DEVICE), WrapError::OtherKind);
    assert_eq!(open_envelope(&envelope, &UnlockSecret::Device(&secret)).unwrap_err(), WrapError::OtherKind);
}

#[test]
fn every_changed_bit_of_an_enrolment_is_refused() {
    let key = SealKey::from_seed([8; 32]);
    let good = enrolment(&key);
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(open_for_device(&bad, &key, DEVICE).is_err(), "bit {bit}");
    }
    for len in 0..good.len() {
        assert_eq!(open_for_device(&good[..len], &key, DEVICE).unwrap_err(), WrapError::Malformed);
    }
}

#[test]
fn what_a_store_changes_in_an_enrolment_does_not_open() {
    let key = SealKey::from_seed([8; 32]);
    let envelope = enrolment(&key);
    let with = |change: &dyn Fn(&mut Header, &mut [u8; 32])| {
        let Parts { mut header, mut commitment, sealed, nonce } = Parts::decode(&envelope).unwrap();
        change(&mut header, &mut commitment);
        // The checksum is computed anew: anyone can.
        Parts { header, commitment, sealed, nonce }.encode()
    };
    let none: &dyn Fn(&mut Header, &mut [u8; 32]) = &|_, _| ();
    assert!(open_for_device(&with(none), &key, DEVICE).is_ok());
    for bad in [
        with(&|header, _| header.vault.0[0] ^= 1),
        with(&|header, _| header.epoch += 1),
        with(&|header, _| header.salt[0] ^= 1),
        // Of small order: HPKE must not agree on a secret that everybody knows.
        with(&|header, _| header.salt = [0; 32]),
        with(&|_, commitment| commitment[0] ^= 1),
    ] {
        assert_eq!(open_for_device(&bad, &key, DEVICE).unwrap_err(), WrapError::WrongSecret);
    }
}

#[test]
fn nothing_is_sealed_to_a_weak_key_and_nothing_too_long() {
    let sealed = seal_for_device(&keyring(), b"", &[0; 32], DEVICE, [5; 32]);
    assert_eq!(sealed.unwrap_err(), WrapError::WeakKey);
    let to = SealKey::from_seed([8; 32]).public();
    let sealed = seal_for_device(&keyring(), &vec![0; 49_153], &to, DEVICE, [5; 32]);
    assert_eq!(sealed.unwrap_err(), WrapError::TooLong(49_153));
    assert!(seal_for_device(&keyring(), &vec![0; 49_152], &to, DEVICE, [5; 32]).unwrap().len() < 64 << 10);
}

#[test]
fn an_enrolment_of_a_rotation_says_who_made_it() {
    let key = SealKey::from_seed([8; 32]);
    let owner = crate::DeviceKey::from_seed([0x44; 32]);
    let own = root_key().certify(keyring().vault(), owner.public(), crate::Role::Owner, 5);
    let newer = keyring().rotated(MasterSecret::from_bytes([0x12; 32])).unwrap();
    let signed = crate::Rotation::sign(&newer, &owner, &own).unwrap();
    let sealed = seal_rotated_for_device(&newer, b"seen", &signed, &key.public(), DEVICE, [6; 32]).unwrap();
    assert_eq!((envelope_kind(&sealed), envelope_epoch(&sealed)), (Ok(EnvelopeKind::Enrolment), Ok(2)));
    let opened = open_for_device(&sealed, &key, DEVICE).unwrap();
    assert_eq!(opened.floor, b"seen");
    assert_eq!(opened.rotation.unwrap().verify(&opened.keyring, &keyring()), Ok(()));
    // That of an approval has none.
    assert!(open_for_device(&enrolment(&key), &key, DEVICE).unwrap().rotation.is_none());
}
