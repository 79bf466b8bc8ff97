//! Fixed keys for the tests of this crate.

use crate::{DedupSecret, Keyring, MasterSecret, RootKey};
use backupengine_model::{PackRef, SessionNo, VaultId};

/// Master key 0x11…, dedup secret 0x22…, root seed 0x33…, in a vault of this id.
pub(crate) fn keyring_of(vault: [u8; 16]) -> Keyring {
    Keyring::new(
        VaultId(vault),
        MasterSecret::from_bytes([0x11; 32]),
        DedupSecret::from_bytes([0x22; 32]),
        root_key().public(),
    )
}

/// The same in vault 0xaa….
pub(crate) fn keyring() -> Keyring {
    keyring_of([0xaa; 16])
}

/// Root seed 0x33….
pub(crate) fn root_key() -> RootKey {
    RootKey::from_seed([0x33; 32])
}

/// Session 7, pack 3, salt 01 to 08, epoch 1.
pub(crate) fn pack() -> PackRef {
    PackRef { session: SessionNo(7), number: 3, salt: [1, 2, 3, 4, 5, 6, 7, 8], epoch: 1 }
}
