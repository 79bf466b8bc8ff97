//! The one seam between this crate and the libraries that do AES-256-GCM.
//!
//! **What it may not do.** Choose nonces or additional data.
//! **What always holds.** Both backends give the same bytes and refuse the same bytes; a failed opening is one
//! error whatever the cause.
//! **Where it is tested.** Below and in `frame`: each opens what the other sealed.

use crate::OpenFailed;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Key};

/// Bytes of an AES-GCM nonce.
pub(crate) const NONCE_LEN: usize = 12;

/// Which library does the AES-256-GCM. Both give the same bytes; tests open each with the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// aws-lc-rs, where it builds.
    #[cfg(not(target_family = "wasm"))]
    AwsLc,
    /// RustCrypto's aes-gcm, everywhere.
    Portable,
}

impl Backend {
    /// All that build here, the fastest first.
    pub const ALL: &[Self] = &[
        #[cfg(not(target_family = "wasm"))]
        Self::AwsLc,
        Self::Portable,
    ];

    /// What is used unless a test asks for another: the fastest.
    pub const DEFAULT: Self = Self::ALL[0];
}

/// An AES-256-GCM key with its schedule computed. Both libraries wipe it when it is dropped.
pub(crate) enum Cipher {
    #[cfg(not(target_family = "wasm"))]
    AwsLc(Box<aws_lc_rs::aead::LessSafeKey>),
    Portable(Box<Aes256Gcm>),
}

impl Cipher {
    pub(crate) fn new(backend: Backend, key: &[u8; 32]) -> Self {
        match backend {
            #[cfg(not(target_family = "wasm"))]
            Backend::AwsLc => {
                use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
                // It fails only for want of memory in its own allocator; the other backend needs none of that.
                match UnboundKey::new(&AES_256_GCM, key) {
                    Ok(unbound) => Self::AwsLc(Box::new(LessSafeKey::new(unbound))),
                    Err(_) => Self::new(Backend::Portable, key),
                }
            }
            Backend::Portable => Self::Portable(Box::new(Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key)))),
        }
    }

    /// Seals in place and returns the tag.
    pub(crate) fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], in_out: &mut [u8]) -> [u8; 16] {
        match self {
            #[cfg(not(target_family = "wasm"))]
            Self::AwsLc(key) => {
                use aws_lc_rs::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(*nonce);
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(aad), in_out)
                    .expect("sealing fails only beyond 64 GiB");
                let mut out = [0; 16];
                out.copy_from_slice(tag.as_ref());
                out
            }
            Self::Portable(key) => key
                .encrypt_inout_detached(&(*nonce).into(), aad, in_out.into())
                .expect("sealing fails only beyond 64 GiB")
                .into(),
        }
    }

    /// Opens `in_out` (ciphertext, then tag) in place and returns the length of the plaintext.
    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        in_out: &mut [u8],
    ) -> Result<usize, OpenFailed> {
        let (body, tag) = in_out.split_last_chunk_mut::<16>().ok_or(OpenFailed)?;
        match self {
            #[cfg(not(target_family = "wasm"))]
            Self::AwsLc(key) => {
                use aws_lc_rs::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(*nonce);
                key.open_in_place(nonce, Aad::from(aad), in_out)
                    .map(|plain| plain.len())
                    .map_err(|_| OpenFailed)
            }
            Self::Portable(key) => {
                let len = body.len();
                key.decrypt_inout_detached(&(*nonce).into(), aad, body.into(), &(*tag).into())
                    .map_err(|_| OpenFailed)?;
                Ok(len)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_backend_opens_what_the_other_sealed() {
        for len in [0, 1, 15, 16, 17, 4096, 262_145] {
            let plain: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let mut seen = Vec::new();
            for sealer in Backend::ALL {
                let mut sealed = plain.clone();
                let tag = Cipher::new(*sealer, &[9; 32]).seal(&[3; 12], b"aad", &mut sealed);
                sealed.extend_from_slice(&tag);
                for opener in Backend::ALL {
                    let cipher = Cipher::new(*opener, &[9; 32]);
                    let mut buffer = sealed.clone();
                    let opened = cipher.open(&[3; 12], b"aad", &mut buffer).unwrap();
                    assert_eq!(buffer[..opened], plain);
                    for (nonce, aad) in [([4; 12], &b"aad"[..]), ([3; 12], b"aae"), ([3; 12], b"")] {
                        assert_eq!(cipher.open(&nonce, aad, &mut sealed.clone()), Err(OpenFailed));
                    }
                }
                seen.push(sealed);
            }
            assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }

    #[test]
    fn what_is_shorter_than_a_tag_is_refused() {
        for backend in Backend::ALL {
            for len in 0..16 {
                let result = Cipher::new(*backend, &[9; 32]).open(&[3; 12], b"", &mut vec![0; len]);
                assert_eq!(result, Err(OpenFailed));
            }
        }
    }
}
