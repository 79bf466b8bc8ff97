//! Guards: every store keeps the same promise.
//!
//! One conformance suite over memory, folder and each wrapper; what only a folder can suffer is in `folder`,
//! what only processes can do to each other in `processes`.
// Tests may panic; clippy only knows the functions that are marked as tests.
#![allow(clippy::unwrap_used)]

mod folder;
mod processes;
mod room;

use backupengine_store::{FolderStore, MemoryStore, Writable};
use backupengine_testkit::conformance::{Handles, VAULT};
use std::sync::Arc;

fn memory() -> Handles {
    let store = MemoryStore::new(VAULT);
    Handles { one: Arc::new(store.clone()), two: Arc::new(store), keep: Box::new(()) }
}

/// Two stores opened apart, as two processes would.
fn in_folder() -> Handles {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path().join("vault");
    let one = FolderStore::create(&folder, VAULT).unwrap();
    let two = FolderStore::open(&folder).unwrap();
    Handles { one: Arc::new(one), two: Arc::new(two), keep: Box::new(keep) }
}

fn wrapped<W: Writable + 'static>(inner: Handles, wrap: impl Fn(Arc<dyn Writable>) -> W) -> Handles {
    Handles { one: Arc::new(wrap(inner.one)), two: Arc::new(wrap(inner.two)), keep: inner.keep }
}

mod memory_store {
    backupengine_testkit::store_suite!(super::memory);
}

mod folder_store {
    backupengine_testkit::store_suite!(super::in_folder);
}

mod recording {
    use backupengine_testkit::Recording;
    backupengine_testkit::store_suite!(|| super::wrapped(super::memory(), Recording::keeping_spools));
}

mod faulty {
    use backupengine_testkit::Faulty;
    backupengine_testkit::store_suite!(|| super::wrapped(super::in_folder(), Faulty::new));
}

mod strict {
    use backupengine_testkit::Strict;
    backupengine_testkit::store_suite!(|| super::wrapped(super::memory(), Strict::new));
}

mod strict_and_watching {
    use backupengine_testkit::Strict;
    backupengine_testkit::store_suite!(|| super::wrapped(super::in_folder(), Strict::watching));
}
