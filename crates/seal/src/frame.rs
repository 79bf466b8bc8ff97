//! Sealing and opening one frame with its pack's key.
//!
//! **What it may not do.** Pick offsets: the packer hands them in, each once.
//! **What always holds.** Nonce = offset; kind, epoch, session, number and salt are bound as additional data
//! (format.md 5.4), so that a frame opens only where and as what it was sealed.
//! **Where it is tested.** Below, in `tests/formats` (frozen vectors) and `tests/protocol`.

use crate::backend::{Backend, Cipher, NONCE_LEN};
use crate::context;
use backupengine_model::{FrameKind, PackRef};
use std::fmt;
use subtle::ConstantTimeEq;
use thiserror::Error;

/// Bytes a seal adds.
pub const TAG_LEN: usize = 16;

/// A sealed thing did not open. One way outward for every cause, so that nothing helps guessing.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the seal does not hold")]
pub struct OpenFailed;

/// The key of one pack, ready for use: AES-256-GCM key and commitment (format.md 5.2).
pub struct PackKey {
    pack: PackRef,
    commitment: [u8; 16],
    cipher: Cipher,
}

impl PackKey {
    /// From what was derived for `pack`: 32 bytes of key and 16 of commitment.
    pub(crate) fn new(pack: PackRef, derived: &[u8; 48], backend: Backend) -> Self {
        let (mut key, mut commitment) = (zeroize::Zeroizing::new([0; 32]), [0; 16]);
        key.copy_from_slice(&derived[..32]);
        commitment.copy_from_slice(&derived[32..]);
        Self { pack, commitment, cipher: Cipher::new(backend, &key) }
    }

    /// What this key is for.
    pub fn pack(&self) -> &PackRef {
        &self.pack
    }

    /// The 16 bytes a pack's trailer must show.
    pub fn commitment(&self) -> &[u8; 16] {
        &self.commitment
    }

    /// Compares in constant time. To be called once per pack, before anything of it is opened.
    ///
    /// # Errors
    /// [`OpenFailed`].
    pub fn check_commitment(&self, in_trailer: &[u8; 16]) -> Result<(), OpenFailed> {
        if bool::from(self.commitment.ct_eq(in_trailer)) { Ok(()) } else { Err(OpenFailed) }
    }

    /// Seals `buffer[start..]` in place and appends the tag: the frame is then `buffer[start..]`.
    /// `offset` is where the frame will stand in the pack; it must never be used twice for one key.
    ///
    /// # Panics
    /// Where `start` lies behind the end of `buffer`, or the frame is beyond 64 GiB.
    pub fn seal(&self, kind: FrameKind, offset: u32, buffer: &mut Vec<u8>, start: usize) {
        let tag = self.cipher.seal(&nonce(offset), &self.aad(kind), &mut buffer[start..]);
        buffer.extend_from_slice(&tag);
    }

    /// Opens a whole frame in place; the plaintext is `sealed[..len]`, whose length is returned.
    ///
    /// # Errors
    /// [`OpenFailed`]; `sealed` then holds nothing that may be used.
    pub fn open(&self, kind: FrameKind, offset: u32, sealed: &mut [u8]) -> Result<usize, OpenFailed> {
        self.cipher.open(&nonce(offset), &self.aad(kind), sealed)
    }

    /// "bke1" ‖ kind ‖ bytes 10..28 of the pack's trailer.
    fn aad(&self, kind: FrameKind) -> [u8; 23] {
        let mut aad = [0; 23];
        aad[..4].copy_from_slice(context::FRAME_AAD);
        aad[4] = kind as u8;
        aad[5..7].copy_from_slice(&self.pack.epoch.to_le_bytes());
        aad[7..11].copy_from_slice(&self.pack.session.0.to_le_bytes());
        aad[11..15].copy_from_slice(&self.pack.number.to_le_bytes());
        aad[15..].copy_from_slice(&self.pack.salt);
        aad
    }
}

impl fmt::Debug for PackKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PackKey(secret)")
    }
}

fn nonce(offset: u32) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    nonce[..4].copy_from_slice(&offset.to_le_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{keyring, pack};
    use backupengine_model::SessionNo;
    use proptest::prelude::*;

    fn sealed(key: &PackKey, kind: FrameKind, offset: u32, plain: &[u8]) -> Vec<u8> {
        let mut buffer = plain.to_vec();
        key.seal(kind, offset, &mut buffer, 0);
        buffer
    }

    #[test]
    fn a_frame_opens_only_where_and_as_what_it_was_sealed() {
        let at = pack();
        let key = keyring().pack_key(&at).unwrap();
        let frame = sealed(&key, FrameKind::Data, 77, b"some bytes");
        assert_eq!(frame.len(), 10 + TAG_LEN);
        let mut good = frame.clone();
        let len = key.open(FrameKind::Data, 77, &mut good).unwrap();
        assert_eq!(&good[..len], b"some bytes");

        assert_eq!(key.open(FrameKind::Leaf, 77, &mut frame.clone()), Err(OpenFailed));
        assert_eq!(key.open(FrameKind::Data, 78, &mut frame.clone()), Err(OpenFailed));
        for other in [
            PackRef { session: SessionNo(8), ..at },
            PackRef { number: at.number + 1, ..at },
            PackRef { salt: [1; 8], ..at },
        ] {
            let other = keyring().pack_key(&other).unwrap();
            assert_eq!(other.open(FrameKind::Data, 77, &mut frame.clone()), Err(OpenFailed));
            assert!(other.check_commitment(key.commitment()).is_err());
        }
        let other_vault = crate::testing::keyring_of([9; 16]).pack_key(&at).unwrap();
        assert_eq!(other_vault.open(FrameKind::Data, 77, &mut frame.clone()), Err(OpenFailed));
        // The place is bound as additional data too, not by the key alone.
        let moved = PackKey { pack: PackRef { epoch: 2, ..at }, ..keyring().pack_key(&at).unwrap() };
        assert_eq!(moved.open(FrameKind::Data, 77, &mut frame.clone()), Err(OpenFailed));
    }

    #[test]
    fn only_the_own_commitment_is_accepted() {
        let key = keyring().pack_key(&pack()).unwrap();
        assert_eq!(key.check_commitment(&key.commitment().clone()), Ok(()));
        for bit in 0..128 {
            let mut other = *key.commitment();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.check_commitment(&other), Err(OpenFailed));
        }
    }

    #[test]
    fn sealing_appends_to_what_is_there() {
        let key = keyring().pack_key(&pack()).unwrap();
        let mut buffer = b"before".to_vec();
        buffer.extend_from_slice(b"plain");
        key.seal(FrameKind::Data, 6, &mut buffer, 6);
        assert_eq!(&buffer[..6], b"before");
        let len = key.open(FrameKind::Data, 6, &mut buffer[6..]).unwrap();
        assert_eq!(&buffer[6..6 + len], b"plain");
    }

    #[test]
    fn every_backend_opens_every_backends_frame() {
        let ring = keyring();
        for sealer in Backend::ALL {
            for opener in Backend::ALL {
                let mut frame =
                    sealed(&ring.pack_key_with(&pack(), *sealer).unwrap(), FrameKind::Leaf, 5, &[7; 1000]);
                let key = ring.pack_key_with(&pack(), *opener).unwrap();
                assert_eq!(key.open(FrameKind::Leaf, 5, &mut frame), Ok(1000));
                assert_eq!(frame[..1000], [7; 1000]);
            }
        }
    }

    proptest! {
        #[test]
        fn any_changed_bit_is_refused(
            plain in proptest::collection::vec(any::<u8>(), 0..300),
            offset: u32,
            at: proptest::sample::Index,
            bit in 0_u8..8,
        ) {
            for backend in Backend::ALL {
                let key = keyring().pack_key_with(&pack(), *backend).unwrap();
                let mut frame = sealed(&key, FrameKind::Data, offset, &plain);
                let mut good = frame.clone();
                prop_assert_eq!(key.open(FrameKind::Data, offset, &mut good), Ok(plain.len()));
                prop_assert_eq!(&good[..plain.len()], &plain[..]);
                let byte = at.index(frame.len());
                frame[byte] ^= 1 << bit;
                prop_assert_eq!(key.open(FrameKind::Data, offset, &mut frame), Err(OpenFailed));
            }
        }
    }
}
