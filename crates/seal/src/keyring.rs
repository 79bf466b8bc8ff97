//! The opened keys of a vault, and everything derived from them.
//!
//! **What it may not do.** Draw randomness: salts are handed in.
//! **What always holds.** Every derivation binds the vault's id; packs and labels take the master key of an
//! epoch, ids and the chunker's table the dedup secret, so that rotation does not end deduplication.
//! **Where it is tested.** Below, against vectors computed with another implementation.

use crate::backend::{Backend, Cipher};
use crate::{ContentIdKey, DedupSecret, MasterSecret, OpenFailed, PackKey, context};
use backupengine_model::{PackRef, SessionNo, VaultId};
use std::collections::BTreeMap;
use subtle::ConstantTimeEq;
use thiserror::Error;

/// The vault has no master key of this epoch (yet): the keyring at hand is older than the pack.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the keys at hand do not reach key epoch {0}")]
pub struct UnknownEpoch(pub u16);

/// The vault has as many key epochs as an envelope is made for.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the vault's keys were rotated {EPOCHS_MAX} times, which is as often as they can be")]
pub struct EpochsUsedUp;

/// Most epochs of a keyring: with all of them, every kind of envelope stays within 64 KiB.
const EPOCHS_MAX: usize = 256;

/// The opened keys of a vault.
#[derive(Clone, Debug)]
pub struct Keyring {
    vault: VaultId,
    epochs: Epochs,
    dedup: DedupSecret,
    root_public: [u8; 32],
}

/// Master keys by epoch. Never empty, which is why the newest stands apart.
#[derive(Clone, Debug)]
pub(crate) struct Epochs {
    pub(crate) current: (u16, MasterSecret),
    pub(crate) older: BTreeMap<u16, MasterSecret>,
}

impl Keyring {
    /// A new vault's keys, epoch 1, from random secrets.
    pub fn new(vault: VaultId, master: MasterSecret, dedup: DedupSecret, root_public: [u8; 32]) -> Self {
        let epochs = Epochs { current: (1, master), older: BTreeMap::new() };
        Self::from_parts(vault, epochs, dedup, root_public)
    }

    pub(crate) fn from_parts(
        vault: VaultId,
        epochs: Epochs,
        dedup: DedupSecret,
        root_public: [u8; 32],
    ) -> Self {
        Self { vault, epochs, dedup, root_public }
    }

    /// These keys and a new master key, from 32 fresh random bytes, as the next epoch. New packs take it; the older
    /// ones stay for what was sealed under them, and the dedup secret stays.
    ///
    /// # Errors
    /// [`EpochsUsedUp`].
    pub fn rotated(&self, master: MasterSecret) -> Result<Self, EpochsUsedUp> {
        let next = self.epochs.current.0.checked_add(1).ok_or(EpochsUsedUp)?;
        let mut older = self.epochs.older.clone();
        if older.len() + 2 > EPOCHS_MAX {
            return Err(EpochsUsedUp);
        }
        older.insert(self.epochs.current.0, self.epochs.current.1.clone());
        let epochs = Epochs { current: (next, master), older };
        Ok(Self::from_parts(self.vault, epochs, self.dedup.clone(), self.root_public))
    }

    /// Whether these are the keys of `older`, all of them, with none or more epochs after them: what a rotation may
    /// make of a keyring, and nothing else.
    pub fn extends(&self, older: &Self) -> bool {
        let same = |one: &[u8; 32], other: &[u8; 32]| bool::from(one.ct_eq(other));
        let has = |(epoch, master): (u16, &MasterSecret)| {
            self.epochs().any(|(e, mine)| e == epoch && same(mine.expose(), master.expose()))
        };
        let after = self.epochs().filter(|(epoch, _)| *epoch > older.current_epoch()).count();
        self.vault == older.vault
            && self.root_public == older.root_public
            && same(self.dedup.expose(), older.dedup.expose())
            && older.epochs().all(has)
            && self.epochs().count() == older.epochs().count() + after
    }

    /// The vault these keys are for.
    pub fn vault(&self) -> VaultId {
        self.vault
    }

    /// The epoch new packs use: the largest.
    pub fn current_epoch(&self) -> u16 {
        self.epochs.current.0
    }

    /// All epochs there are keys of, oldest first.
    pub fn epoch_numbers(&self) -> Vec<u16> {
        self.epochs().map(|(epoch, _)| epoch).collect()
    }

    /// Public half of the vault root key (Ed25519).
    pub fn root_public(&self) -> &[u8; 32] {
        &self.root_public
    }

    /// Master keys, oldest epoch first.
    pub(crate) fn epochs(&self) -> impl DoubleEndedIterator<Item = (u16, &MasterSecret)> {
        let current = (self.epochs.current.0, &self.epochs.current.1);
        self.epochs.older.iter().map(|(epoch, master)| (*epoch, master)).chain([current])
    }

    pub(crate) fn dedup(&self) -> &DedupSecret {
        &self.dedup
    }

    /// The key of one pack.
    ///
    /// # Errors
    /// [`UnknownEpoch`].
    pub fn pack_key(&self, pack: &PackRef) -> Result<PackKey, UnknownEpoch> {
        self.pack_key_with(pack, Backend::DEFAULT)
    }

    /// The same with a chosen library behind it: for tests that let one open what the other sealed.
    ///
    /// # Errors
    /// [`UnknownEpoch`].
    pub fn pack_key_with(&self, pack: &PackRef, backend: Backend) -> Result<PackKey, UnknownEpoch> {
        let master = if pack.epoch == self.epochs.current.0 {
            &self.epochs.current.1
        } else {
            self.epochs.older.get(&pack.epoch).ok_or(UnknownEpoch(pack.epoch))?
        };
        let info: [&[u8]; 4] =
            [&self.vault.0, &pack.session.0.to_le_bytes(), &pack.number.to_le_bytes(), &pack.salt];
        let derived = context::derive::<48>(master.expose(), context::PACK, &info);
        Ok(PackKey::new(*pack, &derived, backend))
    }

    /// K_cid: content ids.
    pub fn content_ids(&self) -> ContentIdKey {
        ContentIdKey::derive(self.dedup.expose(), &self.vault.0)
    }

    /// K_gear: 256 keyed values for the chunker, one table; little-endian.
    pub fn gear(&self) -> Box<[u64; 256]> {
        let bytes = context::derive::<2048>(self.dedup.expose(), context::GEAR, &[&self.vault.0]);
        let mut table = Box::new([0; 256]);
        for (value, chunk) in table.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *value = u64::from_le_bytes(*chunk);
        }
        table
    }

    /// Seals a label for the ledger's list; `salt` is 8 fresh random bytes that choose its key.
    ///
    /// The result is `salt ‖ ciphertext ‖ tag`: 24 bytes longer than `plain`.
    pub fn seal_label(&self, session: SessionNo, salt: [u8; 8], plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(8 + plain.len() + crate::TAG_LEN);
        sealed.extend_from_slice(&salt);
        sealed.extend_from_slice(plain);
        let cipher = self.label_cipher(&self.epochs.current.1, session, &salt);
        let tag = cipher.seal(&[0; 12], context::LABEL, &mut sealed[8..]);
        sealed.extend_from_slice(&tag);
        sealed
    }

    /// Opens what [`Keyring::seal_label`] made, in this or an earlier epoch.
    ///
    /// # Errors
    /// `OpenFailed`, in one way for every cause.
    pub fn open_label(&self, session: SessionNo, sealed: &[u8]) -> Result<Vec<u8>, OpenFailed> {
        let (salt, body) = sealed.split_first_chunk::<8>().ok_or(OpenFailed)?;
        // A label does not say its epoch: it is short, epochs are few, and the newest is nearly always right.
        self.epochs()
            .rev()
            .find_map(|(_, master)| {
                let mut plain = body.to_vec();
                let cipher = self.label_cipher(master, session, salt);
                let len = cipher.open(&[0; 12], context::LABEL, &mut plain).ok()?;
                plain.truncate(len);
                Some(plain)
            })
            .ok_or(OpenFailed)
    }

    /// K_label: one key per label, so that its nonce can be zero.
    fn label_cipher(&self, master: &MasterSecret, session: SessionNo, salt: &[u8; 8]) -> Cipher {
        let info: [&[u8]; 3] = [&self.vault.0, &session.0.to_le_bytes(), salt];
        Cipher::new(Backend::DEFAULT, &context::derive::<32>(master.expose(), context::LABEL, &info))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{keyring, keyring_of, pack};
    use backupengine_model::FrameKind;

    fn two_epochs() -> Keyring {
        let older = BTreeMap::from([(1, MasterSecret::from_bytes([0x11; 32]))]);
        let epochs = Epochs { current: (2, MasterSecret::from_bytes([0x12; 32])), older };
        let one = keyring();
        Keyring::from_parts(one.vault, epochs, one.dedup.clone(), one.root_public)
    }

    #[test]
    fn packs_of_every_epoch_open_and_unknown_ones_are_named() {
        let ring = two_epochs();
        assert_eq!(ring.current_epoch(), 2);
        let old = ring.pack_key(&pack()).unwrap();
        assert_eq!(old.commitment(), keyring().pack_key(&pack()).unwrap().commitment());
        let new = ring.pack_key(&PackRef { epoch: 2, ..pack() }).unwrap();
        let mut frame = b"x".to_vec();
        old.seal(FrameKind::Data, 0, &mut frame, 0);
        assert_eq!(new.open(FrameKind::Data, 0, &mut frame), Err(OpenFailed));
        let unknown = ring.pack_key(&PackRef { epoch: 3, ..pack() });
        assert_eq!(unknown.unwrap_err(), UnknownEpoch(3));
    }

    #[test]
    fn a_rotation_adds_an_epoch_and_keeps_everything_else() {
        let one = keyring();
        let two = one.rotated(MasterSecret::from_bytes([0x12; 32])).unwrap();
        assert_eq!((one.current_epoch(), two.current_epoch()), (1, 2));
        assert!(two.extends(&one) && two.extends(&two) && one.extends(&one));
        assert!(!one.extends(&two));
        let of = |ring: &Keyring, epoch| *ring.pack_key(&PackRef { epoch, ..pack() }).unwrap().commitment();
        assert_eq!(of(&two, 1), of(&one, 1));
        assert_eq!(of(&two, 2), of(&two_epochs(), 2));
    }

    /// Session, number and salt of a pack may come again after a rotation: the key is another one all the same.
    #[test]
    fn the_same_place_in_two_epochs_has_two_keys() {
        let mut ring = keyring();
        let mut seen = std::collections::BTreeSet::new();
        for round in 0..20 {
            let key = ring.pack_key(&PackRef { epoch: ring.current_epoch(), ..pack() }).unwrap();
            let mut frame = vec![0; 48];
            key.seal(FrameKind::Data, 0, &mut frame, 0);
            assert!(seen.insert(frame) && seen.insert(key.commitment().to_vec()), "epoch {}", round + 1);
            ring = ring.rotated(MasterSecret::from_bytes([0x80 + round; 32])).unwrap();
        }
    }

    #[test]
    fn keys_that_lost_or_changed_anything_extend_nothing() {
        let older = two_epochs();
        let newer = older.rotated(MasterSecret::from_bytes([0x13; 32])).unwrap();
        assert!(newer.extends(&older) && newer.extends(&keyring()));
        let changed = |change: fn(&mut Keyring)| {
            let mut ring = newer.clone();
            change(&mut ring);
            ring.extends(&older)
        };
        assert!(!changed(|ring| ring.vault = VaultId([1; 16])));
        assert!(!changed(|ring| ring.root_public[31] ^= 1));
        assert!(!changed(|ring| ring.dedup = DedupSecret::from_bytes([0x23; 32])));
        assert!(!changed(|ring| drop(ring.epochs.older.remove(&1))));
        assert!(!changed(|ring| drop(ring.epochs.older.insert(2, MasterSecret::from_bytes([9; 32])))));
        assert!(!changed(|ring| drop(ring.epochs.older.insert(0, MasterSecret::from_bytes([9; 32])))));
        // An epoch of the same number by another rotation.
        assert!(!keyring().rotated(MasterSecret::from_bytes([0x99; 32])).unwrap().extends(&older));
    }

    #[test]
    fn epochs_end_before_an_envelope_grows_too_long() {
        let mut ring = keyring();
        while let Ok(next) = ring.rotated(MasterSecret::from_bytes([7; 32])) {
            ring = next;
        }
        assert_eq!(usize::from(ring.current_epoch()), EPOCHS_MAX);
        let to = crate::SealKey::from_seed([5; 32]).public();
        let device = backupengine_model::DeviceId([1; 16]);
        let sealed = crate::seal_for_device(&ring, &vec![0; 48 << 10], &to, device, [3; 32]).unwrap();
        assert!(sealed.len() <= 64 << 10, "{}", sealed.len());
    }

    #[test]
    fn rotation_does_not_end_deduplication() {
        let (before, after) = (keyring(), two_epochs());
        assert_eq!(before.content_ids().content_id(b"a"), after.content_ids().content_id(b"a"));
        assert_eq!(before.gear(), after.gear());
    }

    /// First and last value from another implementation (`tests/golden/seal`).
    #[test]
    fn the_chunkers_table_is_the_vaults() {
        let table = keyring_of(std::array::from_fn(|i| 0xa0 + i as u8)).gear();
        assert_eq!(table[0].to_le_bytes(), [0x52, 0x16, 0x3d, 0x0e, 0xce, 0xed, 0xd4, 0xe9]);
        assert_eq!(table[255].to_le_bytes(), [0xc7, 0x21, 0x62, 0x88, 0xb8, 0x22, 0xbe, 0xac]);
        assert_ne!(table, keyring().gear());
    }

    #[test]
    fn labels_open_in_their_session_and_vault_only() {
        let ring = keyring();
        let sealed = ring.seal_label(SessionNo(7), [5; 8], b"laptop");
        assert_eq!(sealed.len(), 6 + 24);
        assert_eq!(ring.open_label(SessionNo(7), &sealed).as_deref(), Ok(&b"laptop"[..]));
        assert_eq!(two_epochs().open_label(SessionNo(7), &sealed).as_deref(), Ok(&b"laptop"[..]));
        assert_eq!(ring.open_label(SessionNo(8), &sealed), Err(OpenFailed));
        assert_eq!(keyring_of([9; 16]).open_label(SessionNo(7), &sealed), Err(OpenFailed));
        let newer = two_epochs().seal_label(SessionNo(7), [5; 8], b"laptop");
        assert_eq!(ring.open_label(SessionNo(7), &newer), Err(OpenFailed));
        for at in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert_eq!(ring.open_label(SessionNo(7), &bad), Err(OpenFailed));
        }
        for len in 0..sealed.len() {
            assert_eq!(ring.open_label(SessionNo(7), &sealed[..len]), Err(OpenFailed));
        }
    }

    #[test]
    fn nothing_secret_prints() {
        let shown = format!("{:?} {:?}", two_epochs(), keyring().pack_key(&pack()).unwrap());
        let shown = format!("{shown} {:?}", keyring().content_ids());
        for byte in ["17, 17", "34, 34", "18, 18", "1111", "2222"] {
            assert!(!shown.contains(byte), "{shown}");
        }
        assert!(shown.contains("MasterSecret(secret)") && shown.contains("PackKey(secret)"));
    }
}
