#![no_main]
//! Devices' certificates.
use backupengine_seal::Certificate;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    backupengine_fuzz::strict(bytes, Certificate::decode, Certificate::encode);
});
