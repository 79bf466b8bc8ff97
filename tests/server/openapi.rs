//! The contract as text: `crates/api/openapi.v1.json` is what clients in other languages are written against.
use std::path::Path;

#[test]
fn the_golden_of_the_contract_holds() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/api/openapi.v1.json");
    let kept = std::fs::read_to_string(golden).unwrap();
    assert!(
        kept == backupengine_server::openapi::text(),
        "the contract changed. If that is meant and clients out there still understand it:\n\
         backupengine-server openapi > crates/api/openapi.v1.json"
    );
}
