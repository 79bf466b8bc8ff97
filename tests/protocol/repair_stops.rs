//! Repairs that stop after every call of the store, or lose its answer: nothing is worse than before, and the next one
//! makes it whole.

use crate::fixture::{Source, Tree, copy_folder};
use backupengine_maintain::{
    CheckConfig, CheckObserver, Finding, HealStats, RepairConfig, RepairError, RepairObserver, check, heal,
};
use backupengine_model::SessionNo;
use backupengine_push::LiveRemains;
use backupengine_source::WalkConfig;
use backupengine_store::{BlobKey, ErrorKind, FolderStore, Maintainable, Readable};
use backupengine_testkit::Faulty;
use backupengine_testkit::build::{Pusher, TestVault};
use backupengine_testkit::faulty::{Fault, When};
use backupengine_testkit::shown::everything;
use backupengine_vault::{Locked, Vault, VaultConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A vault of two snapshots, of which a pack and a root are gone, and the end of another pack.
struct Damaged {
    vault: TestVault,
    pusher: Pusher,
    _source: Source,
    shown: BTreeMap<SessionNo, Tree>,
}

struct Quiet;
impl CheckObserver for Quiet {}
impl RepairObserver for Quiet {}

impl Damaged {
    fn new() -> Self {
        let (vault, source) = (TestVault::in_folder(), Source::small(21));
        vault.put_envelopes();
        let pusher = vault.pusher("laptop");
        let mut sessions = Vec::new();
        for name in ["first", "second", "third"] {
            fs::write(source.path().join(name), name.repeat(50_000)).unwrap();
            sessions.push(pusher.push(source.path()));
        }
        let reader = vault.reader();
        let shown = sessions.iter().map(|s| (*s, everything(&reader, *s).unwrap())).collect();
        let at = |key: BlobKey| vault.folder().unwrap().join(key.to_string());
        fs::remove_file(at(BlobKey::Pack(sessions[0], 0))).unwrap();
        fs::remove_file(at(BlobKey::Root(sessions[1]))).unwrap();
        let end = fs::OpenOptions::new().write(true).open(at(BlobKey::Pack(sessions[2], 0))).unwrap();
        end.set_len(end.metadata().unwrap().len() - 30).unwrap();
        Self { vault, pusher, _source: source, shown }
    }

    fn reader(&self, store: &Arc<dyn Maintainable>) -> Vault {
        let locked = Locked::open(Arc::clone(store) as Arc<dyn Readable>).unwrap();
        locked.unlock_as(self.vault.keyring.clone(), VaultConfig::default()).unwrap()
    }

    fn found(&self, store: &Arc<dyn Maintainable>) -> Vec<Finding> {
        let config = CheckConfig { read_data: None, threads: 1, passphrase: true };
        check(&self.reader(store), &config, &AtomicBool::new(false), &Quiet).unwrap().findings
    }

    fn heal(&self, store: &Arc<dyn Maintainable>, findings: &[Finding]) -> Result<HealStats, RepairError> {
        let remains = LiveRemains::open(self.pusher.state(), &self.vault.keyring, WalkConfig::default());
        let device = self.pusher.device.key.id();
        let config = RepairConfig { device, remains: &remains, folder: None, dry_run: false };
        let random = |out: &mut [u8]| self.pusher.random.fill(out);
        let stop = AtomicBool::new(false);
        // Opening is not what breaks here.
        let reader = self.reader(store);
        heal(&reader, &**store, findings, &config, &random, &stop, &Quiet)
    }

    fn at_every_call(&self, break_at: impl Fn(Faulty, u64) -> Faulty) -> u64 {
        for call in 1.. {
            let copy = tempfile::tempdir().unwrap();
            copy_folder(&self.vault.folder().unwrap(), copy.path());
            let plain: Arc<dyn Maintainable> = Arc::new(FolderStore::open(copy.path()).unwrap());
            let findings = self.found(&plain);
            assert!(findings.len() >= 3, "{findings:#?}");
            let before = files(copy.path());
            let broken = Faulty::maintained(Arc::clone(&plain));
            let opening = {
                let store: Arc<dyn Maintainable> = Arc::new(broken.clone());
                drop(self.reader(&store));
                broken.calls()
            };
            let broken = break_at(broken, 2 * opening + call);
            let store: Arc<dyn Maintainable> = Arc::new(broken.clone());
            let outcome = self.heal(&store, &findings);
            let unbroken = broken.calls() < 2 * opening + call;
            assert!(!unbroken || outcome.is_ok(), "an unbroken repair failed: {outcome:?}");
            assert!(before.is_subset(&files(copy.path())), "something was deleted at call {call}");
            if !unbroken {
                let again = self.found(&plain);
                self.heal(&plain, &again).unwrap();
            }
            let left = self.found(&plain);
            assert!(left.is_empty(), "broken at call {call}: {left:#?}");
            let reader = self.reader(&plain);
            for (session, tree) in &self.shown {
                assert!(everything(&reader, *session).unwrap() == *tree, "snapshot {session}, call {call}");
            }
            if unbroken {
                return call - 1;
            }
        }
        unreachable!("calls are counted in 64 bits")
    }
}

fn files(folder: &Path) -> BTreeSet<std::path::PathBuf> {
    let mut all = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if !entry.path().components().any(|part| part.as_os_str() == "tmp") {
                all.insert(entry.path());
            }
        }
    }
    all
}

#[test]
fn stopping_a_repair_after_every_call() {
    let calls = Damaged::new()
        .at_every_call(|broken, call| broken.with(When::From(call), Fault::Refuse(ErrorKind::Unavailable)));
    assert!(calls > 20, "only {calls} calls were made: the fault was not where the repair is");
}

#[test]
fn losing_the_answer_of_every_call_of_a_repair() {
    Damaged::new().at_every_call(|broken, call| {
        let broken = broken.with(When::Call(call), Fault::LoseAnswer);
        broken.with(When::From(call + 1), Fault::Refuse(ErrorKind::Unavailable))
    });
}

#[test]
fn failing_every_call_of_a_repair_once() {
    Damaged::new()
        .at_every_call(|broken, call| broken.with(When::Call(call), Fault::Refuse(ErrorKind::Full)));
}
