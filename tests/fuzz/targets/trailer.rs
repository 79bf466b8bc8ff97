#![no_main]
//! Trailers, with the checksum as it is and put right; and what a trailer says of its pack.
use backupengine_format::pack::find_end;
use backupengine_format::trailer::{TRAILER_LEN, Trailer};
use backupengine_fuzz::strict;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    if let Ok(mut right) = <[u8; TRAILER_LEN]>::try_from(bytes) {
        let sum = crc32c::crc32c(&right[..60]);
        right[60..].copy_from_slice(&sum.to_le_bytes());
        check(&right);
    }
});

fn check(bytes: &[u8]) {
    strict(bytes, Trailer::decode, |trailer| trailer.encode().to_vec());
    if let Ok(trailer) = Trailer::decode(bytes) {
        for total in [0, 64, 4096, 32 << 20, 256 << 20, u64::MAX] {
            if let Ok((footer_at, head_at)) = find_end(&trailer, total) {
                assert!(footer_at < head_at && head_at + u64::from(trailer.head_len) + 64 == total);
            }
        }
    }
}
