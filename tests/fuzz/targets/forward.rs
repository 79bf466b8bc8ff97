#![no_main]
//! Forwarding tables, and that all they hold is found.
use backupengine_format::forward::ForwardTable;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    backupengine_fuzz::strict(bytes, ForwardTable::decode, ForwardTable::encode);
    if let Ok(table) = ForwardTable::decode(bytes) {
        for e in &table.entries {
            assert_eq!(table.find(e.session, e.number, e.old_offset), Some((e.new_offset, e.new_len)));
        }
    }
});
