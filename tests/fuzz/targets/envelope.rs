#![no_main]
//! Key envelopes, with the checksum as it is and put right, opened by secrets of the vectors.
use backupengine_fuzz::bounded;
use backupengine_seal::{
    DeviceSecret, EnvelopeKind, RecoveryCode, UnlockSecret, envelope_kind, open_envelope,
};

/// Bytes of the checksum at an envelope's end.
const CHECK_LEN: usize = 8;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    if let Some(at) = bytes.len().checked_sub(CHECK_LEN) {
        let mut right = bytes.to_vec();
        right[at..].copy_from_slice(&blake3::hash(&bytes[..at]).as_bytes()[..CHECK_LEN]);
        check(&right);
    }
});

fn check(bytes: &[u8]) {
    // Passphrases are left out: their hash would take all the time.
    let opened = match bounded(bytes, envelope_kind) {
        Ok(EnvelopeKind::Device) => {
            let secret = DeviceSecret::from_bytes([0x77; 32]);
            bounded(bytes, |bytes| open_envelope(bytes, &UnlockSecret::Device(&secret)))
        }
        Ok(EnvelopeKind::Recovery) => {
            let code = RecoveryCode::from_entropy(std::array::from_fn(|at| at as u8));
            bounded(bytes, |bytes| open_envelope(bytes, &UnlockSecret::Recovery(&code)))
        }
        _ => return,
    };
    if let Ok(opened) = opened {
        assert!(opened.keyring.current_epoch() > 0);
    }
}
