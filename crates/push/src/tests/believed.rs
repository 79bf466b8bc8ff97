//! Pushes into a vault that is held against what was seen of it before: the answer comes beside the data, and nothing
//! is committed without it.
use super::broken_off::Breaks;
use super::{Bench, assert_shows, noise, random};
use crate::{Observer, PushError, PushReport, PushStats, push};
use backupengine_model::SessionNo;
use backupengine_source::Notice;
use backupengine_store::BlobKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Says whether it believes, and counts how often it was asked.
struct Says {
    believes: bool,
    asked: AtomicU32,
}

impl Observer for Says {
    fn progress(&self, _: &PushStats, _: &Path) {}
    fn notice(&self, _: &Notice) {}
    fn believes(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.believes
    }
}

/// Pushes as `believes` says, into a store of this grid that takes `calls` writing calls: across a network above 1.
fn pushed(bench: &Bench, grid: u64, calls: u32, believes: bool) -> Result<PushReport, PushError> {
    let store = Breaks::new(bench.memory.clone(), calls, grid);
    let (vault, says) = (bench.vault(), Says { believes, asked: AtomicU32::new(0) });
    let stop = AtomicBool::new(false);
    let done = push(&vault, Arc::new(store), &bench.device, bench.config(), &random, &stop, &says);
    assert_eq!(says.asked.into_inner(), 1);
    done
}

#[test]
fn a_vault_that_is_not_believed_gets_no_snapshot() {
    for grid in [1, 64 << 10] {
        let bench = Bench::new();
        (0..20).for_each(|n| bench.write(&format!("large{n}"), &noise(n, 3 << 20)));
        assert!(matches!(pushed(&bench, grid, 1000, false), Err(PushError::NotBelieved)));
        let vault = bench.vault();
        assert_eq!(vault.list().unwrap().len(), 0);
        assert!(vault.ask(vault.store().list(BlobKind::Roots)).unwrap().is_empty());
        let sessions = vault.ask(bench.store.sessions()).unwrap().sessions.len();
        assert!(grid > 1 || (bench.packs(), sessions) == (0, 0), "where asking costs nothing it comes first");
        // Far, it left a session. The next push asks before it writes anything there.
        assert!(matches!(pushed(&bench, grid, 0, false), Err(PushError::NotBelieved)));
        let report = pushed(&bench, grid, 1000, true).unwrap();
        assert_eq!(report.snapshot.unwrap().0, SessionNo(1), "it goes on with what was left");
        assert_shows(&bench, SessionNo(1));
    }
}

#[test]
fn a_session_that_lacks_its_commit_is_not_committed_before_the_vault_is_believed() {
    for grid in [1, 64 << 10] {
        let bench = Bench::new();
        bench.write("a", b"a");
        // A session, a pack, a root; the commit fails.
        assert!(matches!(pushed(&bench, grid, 3, true), Err(PushError::Store(_))));
        let vault = bench.vault();
        assert_eq!(vault.ask(vault.store().list(BlobKind::Roots)).unwrap().len(), 1);
        assert!(matches!(pushed(&bench, grid, 1000, false), Err(PushError::NotBelieved)));
        assert_eq!(bench.vault().list().unwrap().len(), 0);
        pushed(&bench, grid, 1000, true).unwrap();
        assert_eq!(bench.vault().list().unwrap().len(), 2, "that one, and the new one");
    }
}
