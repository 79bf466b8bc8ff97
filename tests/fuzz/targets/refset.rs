#![no_main]
//! Reference sets.
use backupengine_format::reference::ReferenceSet;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    backupengine_fuzz::strict(bytes, ReferenceSet::decode, ReferenceSet::encode);
});
