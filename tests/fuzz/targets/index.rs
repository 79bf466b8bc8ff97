#![no_main]
//! Index pages, and that separators ascend.
use backupengine_format::page::IndexPage;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    backupengine_fuzz::strict_page(bytes, &[1, 2, 3, 7, 8], IndexPage::decode, IndexPage::encode);
    if let Ok(page) = IndexPage::decode(bytes) {
        assert!(page.children.windows(2).all(|pair| pair[0].separator < pair[1].separator));
    }
});
