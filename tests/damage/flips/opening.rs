//! Damage to what an opening reads first: the ledger (and the labels in it), the marker, the key envelopes.
//!
//! May not let an opening be nearly right. What always holds: a vault whose marker or envelope is damaged opens as the
//! one it is or says what is wrong; one whose ledger is damaged shows the very list, from its roots.

use super::ground::{DEVICE, Ground, copy};
use super::harm::Harm;
use super::objects::{Undo, ask};
use super::tally::{Fail, Row};
use super::{Done, Group};
use backupengine_seal::{DeviceSecret, Passphrase, RecoveryCode, UnlockSecret};
use backupengine_store::{BlobKey, EnvelopeId, ErrorKind, FolderStore, Readable};
use backupengine_testkit::build::{PASSPHRASE, RECOVERY};
use backupengine_testkit::{Seeded, wait};
use backupengine_vault::{Locked, Vault, VaultConfig, VaultError};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::ops::Range;
use std::sync::Arc;
use tempfile::TempDir;

/// Things asked of a vault that opened.
const ASKED: usize = 4;

pub(crate) struct Opening {
    ground: Arc<Ground>,
    folder: TempDir,
    /// Kind, file, its bytes, where the kind lies in it.
    targets: Vec<Target>,
}

struct Target {
    kind: &'static str,
    file: String,
    sound: Vec<u8>,
    place: Range<usize>,
}

impl Opening {
    pub(crate) fn new(ground: Arc<Ground>) -> Self {
        let (folder, store) = copy(&ground);
        let read = |file: &str| std::fs::read(folder.path().join(file)).unwrap();
        let target = |kind, file: String, place: Option<Range<usize>>| {
            let sound = read(&file);
            let place = place.unwrap_or(0..sound.len());
            Target { kind, file, sound, place }
        };
        let mut targets = vec![
            target("ledger", "ledger".into(), None),
            target("ledger", "ledger".into(), None),
            target("marker", "BACKUPENGINE".into(), None),
        ];
        let ledger = read("ledger");
        for record in wait(store_list(&store)).unwrap().snapshots {
            let at = ledger.windows(record.label.len()).position(|bytes| bytes == record.label).unwrap();
            targets.push(target("label", "ledger".into(), Some(at..at + record.label.len())));
        }
        for id in 1..=3u8 {
            let file = BlobKey::Envelope(EnvelopeId([id; 8])).to_string();
            targets.push(target("envelope", file, None));
        }
        Self { ground, folder, targets }
    }

    fn try_one(&self, target: &Target, random: &Seeded, row: &mut Row) -> Result<(), Fail> {
        let opened = FolderStore::open(self.folder.path()).map_err(VaultError::from);
        let opened = opened.and_then(|store| match target.kind {
            "envelope" => self.unlock(store, target, random),
            _ => self.ground.open(Arc::new(store), None),
        });
        let reader = match opened {
            Ok(reader) => reader,
            Err(error) if is_fit(target.kind, &error) => {
                row.refused += 1;
                return Ok(());
            }
            Err(error) => {
                row.lost += 1;
                return Err(Fail::Lost(format!("it does not open: {error:?}")));
            }
        };
        let total = self.ground.things.len() as u64;
        let asked: Vec<usize> = (0..ASKED).map(|_| random.below(total) as usize).collect();
        ask(&self.ground, &reader, &asked, &BTreeSet::new(), row)
    }

    /// Unlocks with the secret of the damaged envelope or with that of another, which is no worse for it.
    fn unlock(&self, store: FolderStore, target: &Target, random: &Seeded) -> Result<Vault, VaultError> {
        let damaged = target.file.as_bytes()[target.file.len() - 1] - b'0';
        // The passphrase's hash is slow on purpose: that envelope is opened only while it is damaged.
        let tried = if random.below(3) == 0 { 2 + u8::from(damaged == 2) } else { damaged };
        let (passphrase, code) =
            (Passphrase::new(PASSPHRASE.to_owned()), RecoveryCode::from_entropy(RECOVERY));
        let device = DeviceSecret::from_bytes(DEVICE);
        let secret = match tried {
            1 => UnlockSecret::Passphrase(&passphrase),
            2 => UnlockSecret::Recovery(&code),
            _ => UnlockSecret::Device(&device),
        };
        let config = VaultConfig { read_ahead_threads: 0, ..VaultConfig::default() };
        let opened = Locked::open(Arc::new(store.clone()))?.unlock(&secret, config);
        if tried != damaged {
            let error = opened.as_ref().err().map(ToString::to_string);
            assert_eq!(error, None, "another envelope is damaged");
        }
        // With these keys, and told where the moved pack is.
        let keyring = opened?.vault.keyring().clone();
        assert_eq!(keyring.vault(), self.ground.vault.keyring.vault());
        assert_eq!(keyring.root_public(), self.ground.vault.keyring.root_public());
        self.ground.open(Arc::new(store), None)
    }
}

async fn store_list(
    store: &FolderStore,
) -> Result<backupengine_store::SnapshotList, backupengine_store::StoreError> {
    let store: &dyn Readable = store;
    store.snapshots().await
}

/// Whether an error says what is wrong with what was damaged.
fn is_fit(kind: &str, error: &VaultError) -> bool {
    match (kind, error) {
        ("marker", VaultError::Store(error)) => {
            matches!(error.kind, ErrorKind::NotAVault | ErrorKind::TooNew)
        }
        ("marker", VaultError::OtherVault { .. }) => true,
        ("envelope", VaultError::Envelope(_) | VaultError::NoEnvelope(_)) => true,
        _ => false,
    }
}

impl Group for Opening {
    fn case(&mut self, _: u64, random: &Seeded, row: &mut Row) -> Done {
        let target = &self.targets[random.below(self.targets.len() as u64) as usize];
        let harm = Harm::draw(random, &target.sound, &target.place);
        let path = self.folder.path().join(&target.file);
        let file = OpenOptions::new().write(true).open(path).unwrap();
        harm.apply(&file);
        let undo = Undo { harm: &harm, file: &file, sound: &target.sound };
        let failed = self.try_one(target, random, row).err();
        drop(undo);
        Done { kind: target.kind, act: format!("{:?}", harm.act), row: *row, failed }
    }

    fn end(&mut self) {
        for target in &self.targets {
            assert!(std::fs::read(self.folder.path().join(&target.file)).unwrap() == target.sound);
        }
    }
}
