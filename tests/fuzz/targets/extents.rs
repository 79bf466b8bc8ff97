#![no_main]
//! Extent pages.
use backupengine_format::page::ExtentPage;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    backupengine_fuzz::strict_page(bytes, &[1, 7, 8], ExtentPage::decode, ExtentPage::encode);
});
