//! Tests of certificates: signatures, roles, chains, every bit.

use super::*;
use crate::testing::{keyring, root_key};

const VAULT: VaultId = VaultId([0xaa; 16]);

fn device() -> DeviceKey {
    DeviceKey::from_seed([0x44; 32])
}

#[test]
fn a_certified_device_signs_roots() {
    let certificate = root_key().certify(VAULT, device().public(), Role::Writer, 1_800_000_000);
    assert_eq!(certificate.verify(VAULT, &root_key().public()), Ok(()));
    assert_eq!(Certificate::decode(&certificate.encode()), Ok(certificate.clone()));
    assert_eq!(certificate.device(), device().id());
    let signature = device().sign_root(b"record");
    let verify = |vault, root: &RootKey, signature, record| {
        verify_root_signature(vault, &root.public(), &certificate.encode(), signature, record)
    };
    assert_eq!(verify(VAULT, &root_key(), &signature, b"record"), Ok(device().id()));
    assert_eq!(verify(VAULT, &root_key(), &signature, b"recorD"), Err(CertificateError::BadSignature));
    let other = VaultId([1; 16]);
    assert_eq!(verify(other, &root_key(), &signature, b"record"), Err(CertificateError::Untrusted));
    let stranger = RootKey::from_seed([1; 32]);
    assert_eq!(verify(VAULT, &stranger, &signature, b"record"), Err(CertificateError::Untrusted));
    let foreign = DeviceKey::from_seed([1; 32]).sign_root(b"record");
    assert_eq!(verify(VAULT, &root_key(), &foreign, b"record"), Err(CertificateError::BadSignature));
}

#[test]
fn readers_sign_nothing_and_roles_cannot_be_raised() {
    let reader = root_key().certify(VAULT, device().public(), Role::Reader, 0);
    let signature = device().sign_root(b"record");
    let verify = |certificate: &Certificate| {
        verify_root_signature(VAULT, &root_key().public(), &certificate.encode(), &signature, b"record")
    };
    assert_eq!(verify(&reader), Err(CertificateError::RoleMayNotWrite));
    let raised = Certificate { role: Role::Owner, ..reader };
    assert_eq!(verify(&raised), Err(CertificateError::Untrusted));
}

#[test]
fn a_signature_of_one_kind_is_none_of_the_other() {
    let unsigned = root_key().certify(VAULT, device().public(), Role::Owner, 0);
    // The root key tricked into signing a root record whose bytes are a certificate's.
    let as_device = DeviceKey::from_seed([0x33; 32]);
    let forged = Certificate { signature: as_device.sign_root(&unsigned.encode_fields(false)), ..unsigned };
    assert_eq!(forged.verify(VAULT, &root_key().public()), Err(CertificateError::Untrusted));
}

#[test]
fn every_changed_bit_of_a_certificate_is_refused() {
    let good = root_key().certify(VAULT, device().public(), Role::Owner, -5).encode();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let verdict = Certificate::decode(&bad).and_then(|c| c.verify(VAULT, &root_key().public()));
        assert!(verdict.is_err(), "bit {bit}");
    }
    for len in 0..good.len() {
        assert_eq!(Certificate::decode(&good[..len]), Err(CertificateError::Malformed));
    }
    let longer = [&good[..], &[0]].concat();
    assert_eq!(Certificate::decode(&longer), Err(CertificateError::Malformed));
}

#[test]
fn weak_keys_verify_nothing() {
    // The neutral element as public key: a lax verification accepts one signature for every message.
    let mut weak = [0; 32];
    weak[0] = 1;
    let mut signature = [0; 64];
    signature[0] = 1;
    assert!(!holds(&weak, b"anything", &signature));
}

#[test]
fn keys_print_one_word() {
    assert_eq!(format!("{:?} {:?}", root_key(), device()), "RootKey(secret) DeviceKey(secret)");
}

/// The root key certifies `device()` as an owner, which certifies a second device.
fn second() -> (DeviceKey, Certificate) {
    let owner = root_key().certify(VAULT, device().public(), Role::Owner, 1_800_000_000);
    let key = DeviceKey::from_seed([0x55; 32]);
    let certificate = device().certify(&owner, key.public(), Role::Writer, 1_800_000_100).unwrap();
    (key, certificate)
}

#[test]
fn an_owner_device_certifies_another() {
    let (key, certificate) = second();
    let root = root_key().public();
    assert_eq!(certificate.verify(VAULT, &root), Ok(()));
    let encoded = certificate.encode();
    assert_eq!(Certificate::decode(&encoded), Ok(certificate.clone()));
    let signature = key.sign_root(b"record");
    let verdict = verify_root_signature(VAULT, &root, &encoded, &signature, b"record");
    assert_eq!(verdict, Ok(key.id()));
    assert_eq!(
        certificate.verify(VAULT, &RootKey::from_seed([1; 32]).public()),
        Err(CertificateError::Untrusted)
    );
    assert_eq!(certificate.verify(VaultId([1; 16]), &root), Err(CertificateError::Untrusted));
}

#[test]
fn only_owners_issue_and_only_with_their_own_certificate() {
    let root = root_key();
    for role in [Role::Maintainer, Role::Writer, Role::Reader] {
        let own = root.certify(VAULT, device().public(), role, 0);
        let refused = device().certify(&own, [9; 32], Role::Reader, 0);
        assert_eq!(refused, Err(CertificateError::IssuerNotOwner));
        // One that does it all the same is not believed.
        let forged = Certificate {
            vault: VAULT,
            device_public: DeviceKey::from_seed([0x55; 32]).public(),
            role: Role::Owner,
            issued_secs: 0,
            issuer: Some(Box::new(own)),
            signature: [0; 64],
        }
        .signed(&device().key);
        assert_eq!(forged.verify(VAULT, &root.public()), Err(CertificateError::IssuerNotOwner));
        let record = DeviceKey::from_seed([0x55; 32]).sign_root(b"record");
        let verdict = verify_root_signature(VAULT, &root.public(), &forged.encode(), &record, b"record");
        assert_eq!(verdict, Err(CertificateError::IssuerNotOwner));
    }
    let own = root.certify(VAULT, device().public(), Role::Owner, 0);
    let refused = DeviceKey::from_seed([0x55; 32]).certify(&own, [9; 32], Role::Reader, 0);
    assert_eq!(refused, Err(CertificateError::OtherDevice));
}

#[test]
fn issuers_of_another_vault_or_by_a_stranger_do_not_count() {
    let other_vault = root_key().certify(VaultId([1; 16]), device().public(), Role::Owner, 0);
    let stranger = RootKey::from_seed([1; 32]).certify(VAULT, device().public(), Role::Owner, 0);
    let alone =
        Certificate { role: Role::Owner, ..root_key().certify(VAULT, device().public(), Role::Reader, 0) };
    for issuer in [other_vault, stranger, alone] {
        let forged = Certificate {
            vault: VAULT,
            device_public: [9; 32],
            role: Role::Owner,
            issued_secs: 0,
            issuer: Some(Box::new(issuer)),
            signature: [0; 64],
        }
        .signed(&device().key);
        assert_eq!(forged.verify(VAULT, &root_key().public()), Err(CertificateError::Untrusted));
    }
}

#[test]
fn a_chain_cannot_be_hung_elsewhere() {
    let (_, good) = second();
    // The same owner key, certified anew: what it signed before stays with the certificate it signed with.
    let again = root_key().certify(VAULT, device().public(), Role::Owner, 1_900_000_000);
    let moved = Certificate { issuer: Some(Box::new(again)), ..good.clone() };
    assert_eq!(moved.verify(VAULT, &root_key().public()), Err(CertificateError::Untrusted));
    let cut = Certificate { issuer: None, ..good };
    assert_eq!(cut.verify(VAULT, &root_key().public()), Err(CertificateError::Untrusted));
}

#[test]
fn chains_end_at_four() {
    let keys: Vec<DeviceKey> = (0x44..0x4a).map(|seed| DeviceKey::from_seed([seed; 32])).collect();
    let mut last = root_key().certify(VAULT, keys[0].public(), Role::Owner, 0);
    for at in 1..4 {
        last = keys[at - 1].certify(&last, keys[at].public(), Role::Owner, 0).unwrap();
        assert_eq!(Certificate::decode(&last.encode()), Ok(last.clone()), "{at}");
        assert_eq!(last.verify(VAULT, &root_key().public()), Ok(()));
    }
    assert!(last.encode().len() < 800);
    let refused = keys[3].certify(&last, keys[4].public(), Role::Owner, 0);
    assert_eq!(refused, Err(CertificateError::ChainTooLong));
    let fifth = Certificate {
        vault: VAULT,
        device_public: keys[4].public(),
        role: Role::Owner,
        issued_secs: 0,
        issuer: Some(Box::new(last)),
        signature: [0; 64],
    }
    .signed(&keys[3].key);
    assert_eq!(Certificate::decode(&fifth.encode()), Err(CertificateError::ChainTooLong));
    assert_eq!(fifth.verify(VAULT, &root_key().public()), Err(CertificateError::ChainTooLong));
    assert_eq!(Certificate::decode(&vec![0; 4097]), Err(CertificateError::ChainTooLong));
    assert_eq!(Certificate::decode(&vec![0; 4096]), Err(CertificateError::Malformed));
}

#[test]
fn every_changed_bit_of_a_chain_is_refused() {
    let good = second().1.encode();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let verdict = Certificate::decode(&bad).and_then(|c| c.verify(VAULT, &root_key().public()));
        assert!(verdict.is_err(), "bit {bit}");
    }
    for len in 0..good.len() {
        assert_eq!(Certificate::decode(&good[..len]), Err(CertificateError::Malformed));
    }
}

#[test]
fn requests_and_approvals_are_signed_as_they_are_and_nothing_else_is() {
    let base = b"\"@method\": POST\n\"@authority\": backup.example.org";
    assert!(holds(&device().public(), base, &device().sign_request(base)));
    let approval = b"backupengine approval v1\0and so on";
    assert!(holds(&root_key().public(), approval, &root_key().sign_approval(approval)));
    // Whoever chooses what is signed gets neither a root nor a certificate nor the other kind.
    let certificate = root_key().certify(VAULT, [9; 32], Role::Owner, 0).signed_message();
    for other in [&root_message(b"record")[..], &certificate, b"", b"\"@metho", approval] {
        assert!(!holds(&device().public(), other, &device().sign_request(other)));
    }
    for other in [&root_message(b"record")[..], &certificate, b"", base] {
        assert!(!holds(&root_key().public(), other, &root_key().sign_approval(other)));
    }
}

#[test]
fn a_device_vouches_for_its_own_seal_key_alone() {
    let device = DeviceKey::from_seed([0x44; 32]);
    let own = root_key().certify(keyring().vault(), device.public(), Role::Writer, 5);
    let signature = device.sign_seal_key(&[7; 32]);
    assert_eq!(own.verify_seal_key(&[7; 32], &signature), Ok(()));
    let refused = Err(CertificateError::BadSignature);
    assert_eq!(own.verify_seal_key(&[8; 32], &signature), refused);
    let other = DeviceKey::from_seed([0x45; 32]);
    assert_eq!(own.verify_seal_key(&[7; 32], &other.sign_seal_key(&[7; 32])), refused);
    // No other signature of the device passes for one.
    assert_eq!(own.verify_seal_key(&[7; 32], &device.sign_root(&[7; 32])), refused);
    assert_eq!(own.verify_seal_key(&[7; 32], &device.sign_request(&[7; 32])), refused);
}
