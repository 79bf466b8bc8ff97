//! Fingerprints: six words that two screens show and a person compares.
//!
//! **What it may not do.** Show a part of a key: words come from a hash of all parts.
//! **What always holds.** 66 bits of BLAKE3 in derivation mode; every part enters with its length, and the first one
//! says what kind of thing it is, so that no device's words are a vault's.
//! **Where it is tested.** Below, and `tests/formats` (frozen vectors).

use crate::{Keyring, context};
use bip39::Language;

/// Words of a fingerprint, 11 bits each.
pub const FINGERPRINT_WORDS: usize = 6;

/// Six words of the list of BIP-39 for these parts.
pub fn fingerprint(parts: &[&[u8]]) -> [&'static str; FINGERPRINT_WORDS] {
    let mut hasher = blake3::Hasher::new_derive_key(context::FINGERPRINT);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let hash = hasher.finalize();
    let mut first = [0; 16];
    first.copy_from_slice(&hash.as_bytes()[..16]);
    let bits = u128::from_be_bytes(first);
    let list = Language::English.word_list();
    std::array::from_fn(|i| list[(bits >> (128 - 11 * (i + 1))) as usize & 0x7ff])
}

/// Of a device: both screens, the new device's and the approver's, must show the same words before it is approved.
pub fn device_fingerprint(
    sign_public: &[u8; 32],
    seal_public: &[u8; 32],
) -> [&'static str; FINGERPRINT_WORDS] {
    fingerprint(&[b"device", sign_public, seal_public])
}

/// Of a vault's opened keys: both screens must show the same words before an enrolment envelope is believed.
///
/// It is made of the secrets, not of the root key's public half: the control plane knows that one and could seal it
/// together with master keys of its own. Whoever can show these words has the vault's keys. They change when
/// keys are rotated.
pub fn vault_fingerprint(keyring: &Keyring) -> [&'static str; FINGERPRINT_WORDS] {
    let vault = keyring.vault();
    let epochs: Vec<[u8; 2]> = keyring.epochs().map(|(epoch, _)| epoch.to_le_bytes()).collect();
    let mut parts: Vec<&[u8]> = vec![b"vault", &vault.0, keyring.root_public(), keyring.dedup().expose()];
    for (epoch, (_, master)) in epochs.iter().zip(keyring.epochs()) {
        parts.extend([&epoch[..], master.expose()]);
    }
    fingerprint(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{keyring, keyring_of, root_key};
    use crate::{DedupSecret, MasterSecret};

    #[test]
    fn every_part_and_its_place_count() {
        let one = fingerprint(&[b"ab", b"c"]);
        assert_eq!(one, fingerprint(&[b"ab", b"c"]));
        for other in [&[&b"a"[..], b"bc"][..], &[b"abc"], &[b"ab", b"c", b""], &[b"c", b"ab"], &[]] {
            assert_ne!(one, fingerprint(other));
        }
        assert_ne!(device_fingerprint(&[1; 32], &[2; 32]), device_fingerprint(&[2; 32], &[1; 32]));
    }

    /// Both keys and the numbers of the words from another implementation (`tests/golden/seal`).
    #[test]
    fn words_are_bits_of_the_hash_eleven_at_a_time() {
        let key = |hex: &str| -> [u8; 32] {
            std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
        };
        let sign = key("d759793bbc13a2819a827c76adb6fba8a49aee007f49f2d0992d99b825ad2c48");
        let seal = key("30d3c865a48fceb3d6118577cf2e5f228d6ff69866264757785b253cb7a4806a");
        let list = Language::English.word_list();
        assert_eq!(device_fingerprint(&sign, &seal), [700, 605, 1774, 490, 247, 1267].map(|at| list[at]));
    }

    #[test]
    fn words_spread_over_the_whole_list() {
        let list = Language::English.word_list();
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..4000_u32 {
            for (at, word) in fingerprint(&[&n.to_le_bytes()]).into_iter().enumerate() {
                assert!(list.contains(&word));
                seen.insert((at, word));
            }
        }
        // 4000 draws of 2048: of each place about 86 of 100 words came up; a stuck bit would halve it.
        assert!(seen.len() > 6 * 1600, "{}", seen.len());
    }

    #[test]
    fn keys_of_another_maker_have_other_words_under_the_same_root_key() {
        let of = |master, dedup| {
            let (master, dedup) =
                (MasterSecret::from_bytes([master; 32]), DedupSecret::from_bytes([dedup; 32]));
            vault_fingerprint(&Keyring::new(keyring().vault(), master, dedup, root_key().public()))
        };
        assert_eq!(of(0x11, 0x22), vault_fingerprint(&keyring()));
        assert_ne!(of(0x12, 0x22), vault_fingerprint(&keyring()));
        assert_ne!(of(0x11, 0x23), vault_fingerprint(&keyring()));
        assert_ne!(vault_fingerprint(&keyring_of([9; 16])), vault_fingerprint(&keyring()));
    }
}
