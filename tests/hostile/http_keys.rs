//! The control plane over HTTP: key envelopes of its own, with a cheaper hash, and devices nobody certified.
use crate::envelopes::cheaper;
use crate::http_room::{Room, open, pusher};
use crate::world::refusal;
use backupengine_api::{EnvelopeRecord, Opaque};
use backupengine_model::VaultId;
use backupengine_seal::{
    Certificate, CertificateError, DedupSecret, EnvelopeKind, KdfParams, Keyring, MasterSecret, Passphrase,
    Role, RootKey, UnlockSecret, WrapError, envelope_kind, seal_envelope,
};
use backupengine_store::Readable;
use backupengine_testkit::build::{PASSPHRASE, TestVault, VAULT};
use backupengine_vault::{Floor, Locked, Unlocked, VaultConfig, VaultError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn unlock(room: &Room) -> Result<Unlocked, VaultError> {
    let secret = Passphrase::new(PASSPHRASE.into());
    let locked = Locked::open(Arc::new(room.store()) as Arc<dyn Readable>)?;
    locked.unlock(&UnlockSecret::Passphrase(&secret), VaultConfig::default())
}

fn is_passphrase(record: &EnvelopeRecord) -> bool {
    envelope_kind(&record.sealed.0) == Ok(EnvelopeKind::Passphrase)
}

/// What the server can make: it knows the vault's id and the root key's public half.
fn forged(room: &Room, vault: VaultId, phrase: &str) -> Opaque {
    let (master, dedup) = (MasterSecret::from_bytes([0x66; 32]), DedupSecret::from_bytes([0x67; 32]));
    let keyring = Keyring::new(vault, master, dedup, *room.vault.keyring.root_public());
    let phrase = Passphrase::new(phrase.into());
    let secret = UnlockSecret::Passphrase(&phrase);
    Opaque(seal_envelope(&keyring, None, &secret, KdfParams::FLOOR, [8; 44]).unwrap())
}

#[test]
fn a_cheaper_hash_is_refused_before_it_is_computed() {
    let room = Room::with(1);
    assert!(unlock(&room).is_ok());
    room.mounts(|answer| {
        for record in answer.envelopes.iter_mut().filter(|record| is_passphrase(record)) {
            record.sealed = Opaque(cheaper(&record.sealed.0));
        }
    });
    let refused = unlock(&room).err().unwrap();
    assert!(matches!(refused, VaultError::Envelope(WrapError::KdfOutOfRange)), "{refused:?}");
}

#[test]
fn envelopes_of_the_servers_own_open_nothing_of_the_vault() {
    let room = Room::with(1);
    // Beside the real one it is passed over.
    let theirs = forged(&room, VAULT, "the server does not know it");
    let beside = theirs.clone();
    room.mounts(move |answer| {
        let (id, sealed) = ("0".repeat(16), beside.clone());
        answer.envelopes.push(EnvelopeRecord { id, sealed, ..answer.envelopes[0].clone() });
    });
    assert_eq!(unlock(&room).unwrap().vault.keyring().root_public(), room.vault.keyring.root_public());
    let instead = |sealed: Opaque| {
        room.mounts(move |answer| {
            for record in answer.envelopes.iter_mut().filter(|record| is_passphrase(record)) {
                record.sealed = sealed.clone();
            }
        });
        unlock(&room).err().unwrap()
    };
    let refused = instead(theirs);
    assert!(matches!(refused, VaultError::WrongSecret), "{refused:?}");
    // One passphrase for two vaults, and their envelopes exchanged.
    let refused = instead(forged(&room, VaultId([9; 16]), PASSPHRASE));
    let VaultError::OtherVault { expected, found } = &refused else { panic!("{refused:?}") };
    assert_eq!((*expected, *found), (VAULT, VaultId([9; 16])));
    room.mounts(|answer| answer.envelopes.retain(|record| !is_passphrase(record)));
    let refused = unlock(&room).err().unwrap();
    assert!(matches!(refused, VaultError::NoEnvelope(EnvelopeKind::Passphrase)), "{refused:?}");
    assert_eq!(refused.to_string(), "the vault has no key envelope for a passphrase");
}

#[test]
fn a_vault_of_another_name_is_refused() {
    let room = Room::with(1);
    room.mounts(|answer| answer.vault.vault = VaultId([9; 16]));
    let refused = unlock(&room).err().unwrap();
    let VaultError::OtherVault { expected, found } = &refused else { panic!("{refused:?}") };
    assert_eq!((*expected, *found), (VaultId([9; 16]), VAULT));
}

/// The server lets a device of its own into the account. It has the vault's keys here, as a reader that changed
/// sides would: what it signs counts for nothing all the same.
#[test]
fn a_device_the_root_key_never_certified_is_nobody() {
    let room = Room::with(1);
    let (newest, truth) = (room.newest(), room.truth(room.newest()));
    let floor = room.client().check_floor(&Floor::default()).unwrap();
    let (account, keys) = &room.stranger;
    let key = keys.device_key();
    let by_own_root = RootKey::from_seed([0x52; 32]).certify(VAULT, key.public(), Role::Owner, 0);
    let reader = room.vault.root_key.certify(VAULT, key.public(), Role::Reader, 0);
    let raised = Certificate { role: Role::Owner, ..reader.clone() };
    let hidden = Arc::new(Mutex::new(Vec::new()));
    let hide = Arc::clone(&hidden);
    room.lists(move |list| list.retain(|listed| !hide.lock().unwrap().contains(&listed.session)));
    for (certificate, cause) in [
        (by_own_root, CertificateError::Untrusted),
        (reader, CertificateError::RoleMayNotWrite),
        (raised, CertificateError::Untrusted),
    ] {
        let spools = tempfile::tempdir().unwrap();
        let vault = TestVault::around(Arc::new(open(account, spools.path(), Duration::ZERO)));
        let mut device = pusher(&vault, keys);
        device.device.certificate = certificate;
        let planted = device.push(room.source());
        let refused = refusal(&room.client(), planted);
        assert!(refused.to_string().contains(&format!("session {planted}")), "{refused}");
        let VaultError::Untrusted { source, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(source, cause);
        // What was there before reads as before. What is not believed does not raise the floor.
        room.reads(newest, &truth).unwrap();
        let refused = room.client().check_floor(&floor).unwrap_err();
        assert!(matches!(refused, VaultError::Untrusted { .. }), "{refused:?}");
        hidden.lock().unwrap().push(planted.0);
        assert_eq!(room.client().check_floor(&floor).unwrap(), floor);
    }
}
