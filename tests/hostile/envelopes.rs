//! The control plane hands out key envelopes of its own making, of another vault, or with a cheaper passphrase hash.
use crate::liar::Lie;
use crate::world::World;
use backupengine_model::VaultId;
use backupengine_seal::{
    DedupSecret, EnvelopeKind, KdfParams, Keyring, MasterSecret, Passphrase, RecoveryCode, RootKey,
    UnlockSecret, WrapError, envelope_kind, seal_envelope,
};
use backupengine_store::{BlobKey, BlobKind, EnvelopeId, Readable};
use backupengine_testkit::build::{PASSPHRASE, RECOVERY, VAULT};
use backupengine_vault::{Locked, Unlocked, VaultConfig, VaultError};
use std::sync::Arc;

fn unlock(world: &World, secret: &UnlockSecret<'_>) -> Result<Unlocked, VaultError> {
    let store = Arc::new(world.liar.clone()) as Arc<dyn Readable>;
    Locked::open(store).unwrap().unlock(secret, VaultConfig::default())
}

/// The vault's own envelopes by kind, and the server's name for one more.
fn world() -> (World, BlobKey, BlobKey) {
    let (world, _) = World::with(1);
    world.vault.put_envelopes();
    let of = |kind| {
        let names = world.liar.names(BlobKind::Envelopes);
        names.into_iter().find(|key| envelope_kind(&world.liar.blob(*key)) == Ok(kind)).unwrap()
    };
    let (passphrase, recovery) = (of(EnvelopeKind::Passphrase), of(EnvelopeKind::Recovery));
    (world, passphrase, recovery)
}

/// What the server can make: it knows the vault's id and the root key's public half.
fn forged_keyring(world: &World, vault: VaultId) -> Keyring {
    let (master, dedup) = (MasterSecret::from_bytes([0x66; 32]), DedupSecret::from_bytes([0x67; 32]));
    Keyring::new(vault, master, dedup, *world.vault.keyring.root_public())
}

/// An envelope at the least cost that is allowed, with one pass fewer and the checksum put right.
pub(crate) fn cheaper(envelope: &[u8]) -> Vec<u8> {
    let mut envelope = envelope.to_vec();
    // The cost stands in the open, as CBOR: 65536 KiB, 3 passes, 1 lane.
    let floor = [0x1a, 0x00, 0x01, 0x00, 0x00, 0x03, 0x01];
    let at = envelope.windows(floor.len()).position(|bytes| bytes == floor).unwrap();
    envelope[at + 5] = 2;
    let end = envelope.len() - 8;
    // The checksum covers the map without its own pair: one pair fewer in the head.
    let mut covered = envelope[..end - 2].to_vec();
    covered[0] -= 1;
    envelope[end..].copy_from_slice(&blake3::hash(&covered).as_bytes()[..8]);
    envelope
}

#[test]
fn a_cheaper_hash_is_refused_before_it_is_computed() {
    let (world, passphrase, _) = world();
    let envelope = cheaper(&world.liar.blob(passphrase));
    world.liar.says(passphrase, Lie::Bytes(envelope));
    let secret = Passphrase::new(PASSPHRASE.into());
    let refused = unlock(&world, &UnlockSecret::Passphrase(&secret)).err().unwrap();
    assert!(matches!(refused, VaultError::Envelope(WrapError::KdfOutOfRange)), "{refused:?}");
}

#[test]
fn envelopes_of_another_vault_do_not_open() {
    let (world, passphrase, recovery) = world();
    let (phrase, code) = (Passphrase::new(PASSPHRASE.into()), RecoveryCode::from_entropy(RECOVERY));
    // Somebody uses one passphrase for two vaults; the server exchanges the envelopes.
    let other = forged_keyring(&world, VaultId([9; 16]));
    for (key, secret) in
        [(passphrase, UnlockSecret::Passphrase(&phrase)), (recovery, UnlockSecret::Recovery(&code))]
    {
        let envelope = seal_envelope(&other, None, &secret, KdfParams::FLOOR, [8; 44]).unwrap();
        world.liar.says(key, Lie::Bytes(envelope));
        let refused = unlock(&world, &secret).err().unwrap();
        let VaultError::OtherVault { expected, found } = refused else { panic!("{refused:?}") };
        assert_eq!((expected, found), (VAULT, other.vault()));
    }
}

#[test]
fn an_envelope_of_the_servers_own_is_one_wrong_secret_more() {
    let (world, passphrase, _) = world();
    let phrase = Passphrase::new(PASSPHRASE.into());
    let theirs = Passphrase::new("the server does not know it".into());
    let sealed = UnlockSecret::Passphrase(&theirs);
    let forged =
        seal_envelope(&forged_keyring(&world, VAULT), None, &sealed, KdfParams::FLOOR, [8; 44]).unwrap();
    // Beside the real one it is passed over; in its place the vault does not open.
    world.liar.says(BlobKey::Envelope(EnvelopeId([0; 8])), Lie::Bytes(forged.clone()));
    let opened = unlock(&world, &UnlockSecret::Passphrase(&phrase)).unwrap();
    assert_eq!(opened.vault.keyring().root_public(), world.vault.keyring.root_public());
    world.liar.says(passphrase, Lie::Bytes(forged));
    assert!(matches!(unlock(&world, &UnlockSecret::Passphrase(&phrase)), Err(VaultError::WrongSecret)));
}

#[test]
fn damaged_and_withheld_envelopes_are_not_called_a_wrong_secret() {
    let (world, passphrase, _) = world();
    let phrase = Passphrase::new(PASSPHRASE.into());
    let good = world.liar.blob(passphrase);
    let mut flipped = good.clone();
    let at = flipped.len() / 2;
    flipped[at] ^= 1;
    world.liar.says(passphrase, Lie::Bytes(flipped));
    let refused = unlock(&world, &UnlockSecret::Passphrase(&phrase)).err().unwrap();
    assert!(matches!(refused, VaultError::Envelope(WrapError::Damaged)), "{refused:?}");
    world.liar.says(passphrase, Lie::Missing);
    let refused = unlock(&world, &UnlockSecret::Passphrase(&phrase)).err().unwrap();
    assert!(matches!(refused, VaultError::NoEnvelope(EnvelopeKind::Passphrase)), "{refused:?}");
    world.liar.says(passphrase, Lie::Bytes(good));
    // More of them than anyone would make do not make the hash run for ever.
    let root = RootKey::from_seed([1; 32]);
    assert_ne!(root.public(), *world.vault.keyring.root_public());
    assert!(unlock(&world, &UnlockSecret::Passphrase(&phrase)).is_ok());
}
