#![no_main]
//! Pack footers.
use backupengine_format::footer::Footer;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    backupengine_fuzz::strict(bytes, Footer::decode, Footer::encode);
});
