#![no_main]
//! Leaf pages, and that their order and class hold.
use backupengine_format::page::LeafPage;

const KNOWN: [u8; 15] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 16, 17];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    backupengine_fuzz::strict_page(bytes, &KNOWN, LeafPage::decode, LeafPage::encode);
    if let Ok(page) = LeafPage::decode(bytes) {
        assert!(page.entries.windows(2).all(|pair| pair[0].key() < pair[1].key()));
        assert!(page.entries.iter().all(|entry| entry.class() == page.entries[0].class()));
    }
});
