#![no_main]
//! Root records, and what their signature covers.
use backupengine_format::root::{RootRecord, signed_bytes};
use backupengine_fuzz::bounded;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let signed = bounded(bytes, signed_bytes);
    let Ok(record) = bounded(bytes, RootRecord::decode) else { return };
    let again = record.encode();
    assert_eq!(RootRecord::decode(&again).as_ref(), Ok(&record));
    // Key 1 without optional features: nothing unknown can be in it.
    if bytes[2..5] == [0x82, 0x80, 0x80] {
        assert_eq!(again, bytes);
        assert_eq!(signed, Ok(record.encode_unsigned()));
    } else {
        assert!(signed.is_ok());
    }
});
