//! Every string that separates one use of a key from another, and the one derivation behind them.
//!
//! **What it may not do.** Let two uses share a string: each stands here once, so that a look shows it.
//! **What always holds.** HKDF-SHA-256 (RFC 5869) with the string as salt and the parts as info, joined;
//! every part has a fixed length, so that joining them is unambiguous.
//! **Where it is tested.** Below, against vectors computed with another implementation.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Key and commitment of a pack.
pub(crate) const PACK: &[u8] = b"bke1 pack";
/// Key of a sealed label.
pub(crate) const LABEL: &[u8] = b"bke1 label";
/// Key of content ids.
pub(crate) const CONTENT_ID: &[u8] = b"bke1 cid";
/// Key of hashes of roots.
pub(crate) const ROOT_HASH: &[u8] = b"bke1 root hash";
/// Key of short hashes (page cuts, side files).
pub(crate) const HASH64: &[u8] = b"bke1 hash64";
/// Key of what a device keeps for itself.
pub(crate) const STATE: &[u8] = b"bke1 state";
/// The chunker's table.
pub(crate) const GEAR: &[u8] = b"bke1 gear";
/// Key and commitment of an envelope, from the stretched or random secret.
pub(crate) const ENVELOPE: &[u8] = b"bke1 envelope";
/// First bytes of the additional data of every frame.
pub(crate) const FRAME_AAD: &[u8; 4] = b"bke1";
/// First bytes of what HPKE binds an enrolment envelope to.
pub(crate) const ENROLMENT: &[u8] = b"bke1 enrolment";
/// What the commitment of an enrolment envelope is exported for.
pub(crate) const ENROLMENT_COMMITMENT: &[u8] = b"bke1 enrolment commitment";
/// BLAKE3's derivation context of fingerprints.
pub(crate) const FINGERPRINT: &str = "backupengine 2026-11-24 fingerprint of six words";
/// First bytes of what a root key or an owner device signs; no prefix of [`ROOT_SIGNATURE`], nor the other way round.
pub(crate) const CERTIFICATE_SIGNATURE: &[u8] = b"bke1 certificate\0";
/// First bytes of what a device signs.
pub(crate) const ROOT_SIGNATURE: &[u8] = b"bke1 root record\0";

/// First bytes of what an owner device signs of a keyring it rotated.
pub(crate) const ROTATION_SIGNATURE: &[u8] = b"bke1 rotation\0";
/// First bytes of what a device signs of its own X25519 key.
pub(crate) const SEAL_KEY_SIGNATURE: &[u8] = b"bke1 seal key\0";
/// BLAKE3's derivation context of what stands for a keyring in such a signature.
pub(crate) const ROTATION: &str = "backupengine 2026-11-29 keys after a rotation";

/// First bytes of the signature base of a request (RFC 9421), which is signed without a prefix.
pub(crate) const REQUEST: &[u8] = b"\"@method\": ";
/// First bytes of what the root key signs so that a device may approve itself.
pub(crate) const APPROVAL: &[u8] = b"backupengine approval v1\0";
/// Before anything that was handed in to be signed and is none of the above: no reader looks for it.
pub(crate) const NOTHING: &[u8] = b"bke1 nothing\0";

/// HKDF-SHA-256 of `secret`, `N` bytes, at most 8160.
pub(crate) fn derive<const N: usize>(secret: &[u8], context: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; N]> {
    const { assert!(N <= 255 * 32, "HKDF-SHA-256 gives at most 8160 bytes") };
    let mut out = Zeroizing::new([0; N]);
    Hkdf::<Sha256>::new(Some(context), secret)
        .expand_multi_info(info, out.as_mut())
        .expect("the length was checked when this was compiled");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5869, A.1 with our argument order.
    #[test]
    fn derivation_is_hkdf_sha256() {
        let salt: Vec<u8> = (0x00..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let okm = derive::<42>(&[0x0b; 22], &salt, &[&info[..3], &info[3..]]);
        let hex: String = okm.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        );
    }

    /// HPKE separates these by labels of its own; the commitment may begin as the info does.
    #[test]
    fn those_inside_hpke_differ() {
        assert_ne!(ENROLMENT, ENROLMENT_COMMITMENT);
    }

    #[test]
    fn no_two_uses_share_a_string() {
        let all = [
            PACK,
            LABEL,
            CONTENT_ID,
            ROOT_HASH,
            HASH64,
            STATE,
            GEAR,
            ENVELOPE,
            CERTIFICATE_SIGNATURE,
            ROOT_SIGNATURE,
            REQUEST,
            APPROVAL,
            NOTHING,
        ];
        for (i, a) in all.iter().enumerate() {
            for b in &all[i + 1..] {
                assert!(!a.starts_with(b) && !b.starts_with(a));
            }
        }
    }
}
