//! Secrets as types: they print one fixed word and wipe themselves.
//!
//! **What it may not do.** Print, compare, or be made from a default.
//! **What always holds.** Memory is wiped on drop; `Debug` shows the type's name and `(secret)`.
//! **Where it is tested.** Below.

use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name(pub(crate) [u8; 32]);

        impl $name {
            /// Takes 32 bytes drawn from the operating system or opened from an envelope.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The bytes, for storing them where a secret may rest.
            pub fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }
    };
}

secret!(
    /// Master key of one epoch of a vault (AMK_e).
    MasterSecret
);
secret!(
    /// The dedup secret of a vault (DS); never rotates.
    DedupSecret
);
secret!(
    /// What a device keeps to open the vault without a passphrase (0600 file or key store): wraps an
    /// envelope of its own on that device.
    DeviceSecret
);

/// A passphrase as typed: any UTF-8, byte for byte.
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

/// Words of a recovery code.
const WORDS: usize = 24;

impl RecoveryCode {
    /// From 32 random bytes.
    pub fn from_entropy(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 24 words; case and white space do not matter.
    ///
    /// # Errors
    /// [`RecoveryCodeError`].
    pub fn parse(words: &str) -> Result<Self, RecoveryCodeError> {
        let words = Zeroizing::new(words.to_lowercase());
        // An unknown word is named even where the count is wrong too: it is what a person can look for.
        if let Some(at) =
            words.split_whitespace().position(|w| bip39::Language::English.find_word(w).is_none())
        {
            return Err(RecoveryCodeError::Malformed { word: Some(at + 1) });
        }
        let malformed = RecoveryCodeError::Malformed { word: None };
        if words.split_whitespace().count() != WORDS {
            return Err(malformed);
        }
        let Ok(mnemonic) = bip39::Mnemonic::parse_in_normalized(bip39::Language::English, &words) else {
            return Err(malformed);
        };
        let (mut entropy, len) = mnemonic.to_entropy_array();
        let code = <[u8; 32]>::try_from(&entropy[..len]).map(Self);
        entropy.zeroize();
        code.map_err(|_| malformed)
    }

    /// The 24 words, to be shown once.
    pub fn words(&self) -> Vec<&'static str> {
        bip39::Mnemonic::from_entropy_in(bip39::Language::English, &self.0)
            .expect("32 bytes are a length of the standard")
            .words()
            .collect()
    }
}

impl std::fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryCode(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From the vectors of BIP-39: entropy 7f7f… and its 24 words.
    #[test]
    fn words_are_those_of_the_standard() {
        let words = "legal winner thank year wave sausage worth useful legal winner thank year wave sausage \
                     worth useful legal winner thank year wave sausage worth title";
        assert_eq!(RecoveryCode::from_entropy([0x7f; 32]).words().join(" "), words);
        assert_eq!(RecoveryCode::parse(words).unwrap().0, [0x7f; 32]);
        let typed = words.to_uppercase().replace(' ', " \n\t ");
        assert_eq!(RecoveryCode::parse(&format!("  {typed}\r\n")).unwrap().0, [0x7f; 32]);
    }

    #[test]
    fn mistakes_are_told_apart_without_showing_words() {
        let words = RecoveryCode::from_entropy([0x7f; 32]).words();
        let refused = |words: &[&str]| RecoveryCode::parse(&words.join(" ")).unwrap_err();
        let mut unknown = words.clone();
        unknown[4] = "wafe";
        assert_eq!(refused(&unknown), RecoveryCodeError::Malformed { word: Some(5) });
        assert!(!refused(&unknown).to_string().contains("wafe"));
        let mut swapped = words.clone();
        swapped.swap(0, 1);
        assert_eq!(refused(&swapped), RecoveryCodeError::Malformed { word: None });
        for count in [0, 1, 12, 23] {
            assert_eq!(refused(&words[..count]), RecoveryCodeError::Malformed { word: None });
        }
        let twelve = bip39::Mnemonic::from_entropy(&[1; 16]).unwrap().to_string();
        assert_eq!(RecoveryCode::parse(&twelve).unwrap_err(), RecoveryCodeError::Malformed { word: None });
        assert_eq!(
            RecoveryCode::parse("пароль").unwrap_err(),
            RecoveryCodeError::Malformed { word: Some(1) }
        );
    }

    #[test]
    fn secrets_print_one_word() {
        let shown = format!(
            "{:?} {:?} {:?} {:?} {:?}",
            MasterSecret([17; 32]),
            DedupSecret([17; 32]),
            DeviceSecret([17; 32]),
            Passphrase::new("hunter2".into()),
            RecoveryCode([17; 32]),
        );
        assert_eq!(
            shown,
            "MasterSecret(secret) DedupSecret(secret) DeviceSecret(secret) Passphrase(secret) RecoveryCode(secret)"
        );
    }

    proptest! {
        #[test]
        fn any_code_reads_back(entropy: [u8; 32]) {
            let words = RecoveryCode::from_entropy(entropy).words();
            prop_assert_eq!(words.len(), WORDS);
            prop_assert_eq!(RecoveryCode::parse(&words.join(" ")).unwrap().0, entropy);
        }
    }
}
