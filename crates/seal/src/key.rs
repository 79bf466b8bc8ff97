//! Secrets as types: they print one fixed word and wipe themselves.
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name(pub(crate) [u8; 32]);
        impl $name {
            /// Takes 32 bytes drawn from the operating system or opened from an envelope.
            pub fn from_bytes(bytes: [u8; 32]) -> Self { Self(bytes) }
            /// The bytes, for storing them where a secret may rest.
            pub fn expose(&self) -> &[u8; 32] { &self.0 }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }
    };
}
secret!(/// Master key of one epoch of a vault (AMK_e).
    MasterSecret);
secret!(/// The dedup secret of a vault (DS); never rotates.
    DedupSecret);
secret!(/// What a device keeps to open the vault without a passphrase (0600 file or key store): wraps an
    /// envelope of its own on that device.
    DeviceSecret);

/// A passphrase as typed: any UTF-8.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Passphrase(pub(crate) String);
impl Passphrase {
    /// Takes what was typed, without the line end.
    pub fn new(text: String) -> Self {
        Self(text)
    }
}
impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(secret)")
    }
}

/// 256 random bits, shown as 24 words (BIP-39 English).
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RecoveryCode(pub(crate) [u8; 32]);
/// A recovery code that was not typed right.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecoveryCodeError {
    /// Not 24 words of the list, or their checksum is wrong. Says which word where that is known, 1-based;
    /// never the word itself.
    #[error("this is not a recovery code of 24 words{}", .word.map_or_else(String::new, |n| format!(" (word {n} is not in the list)")))]
    Malformed {
        /// Which word is unknown.
        word: Option<usize>,
    },
}
impl RecoveryCode {
    /// From 32 random bytes.
    pub fn from_entropy(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// Reads 24 words; case and white space do not matter.
    ///
    /// # Errors
    /// [`RecoveryCodeError`].
    pub fn parse(_words: &str) -> Result<Self, RecoveryCodeError> {
        todo!()
    }
    /// The 24 words, to be shown once.
    pub fn words(&self) -> Vec<&'static str> {
        todo!()
    }
}
impl std::fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryCode(secret)")
    }
}
