//! First step, second half: every live snapshot's root, its label, its reference set, and how roots chain.

use super::finding::{Affected, Object, Problem};
use super::listing::{Listing, MovedPacks, moved_packs};
use super::moment::Moment;
use super::packs::PackId;
use super::{CheckError, Checker, Phase};
use backupengine_format::label;
use backupengine_format::reference::ReferenceSet;
use backupengine_model::ledger::SnapshotRecord;
use backupengine_model::{FrameKind, PackRef, RootHash, SessionNo, SnapshotInfo};
use backupengine_vault::Root;
use std::collections::{HashMap, HashSet};

/// What is known of the live snapshots before packs are looked at.
pub(super) struct Snapshots {
    pub(super) listing: Listing,
    /// Those whose root can be believed, oldest first.
    pub(super) live: Vec<SnapshotInfo>,
    /// Every pack that a reference set names.
    pub(super) needed: ReferenceSet,
    /// Packs whose frames lie elsewhere.
    pub(super) moved: MovedPacks,
    /// When all of this was so; `None` where the ledger does not read.
    pub(super) moment: Option<Moment>,
}

impl Checker<'_> {
    pub(super) fn check_roots(&self) -> Result<Snapshots, CheckError> {
        let listing = self.list()?;
        let moment = self.check_ledger(&listing)?;
        let moved = moment.as_ref().map(moved_packs).unwrap_or_default();
        let records = moment.as_ref().map_or(&[][..], |moment| &moment.snapshots);
        self.check_envelopes()?;
        let infos = self.vault.list()?;
        self.advance(Phase::Roots, |stats| stats.snapshots_total = infos.len() as u64)?;
        let (mut live, mut needed) = (Vec::new(), ReferenceSet::default());
        let mut hashes: HashMap<SessionNo, RootHash> = HashMap::new();
        let mut chains = Vec::new();
        for info in infos.iter() {
            self.advance(Phase::Roots, |_| {})?;
            let root = match self.vault.root(info.session) {
                Ok(root) => root,
                Err(error) => {
                    let number = self.found_error(Object::Root(info.session), error)?;
                    self.findings().affects(number, whole(info, 0));
                    continue;
                }
            };
            if let Some(record) = records.iter().find(|record| record.session == info.session) {
                self.check_label(record, &root);
            }
            hashes.insert(info.session, root.hash);
            chains.push((info.session, root.record.parent, root.record.others.clone()));
            if let Some(set) = self.reference_set(&root)? {
                for (session, packs) in &set.packs {
                    needed.packs.entry(*session).or_default().extend(packs.iter());
                }
            }
            live.push(info.clone());
        }
        for (session, parent, others) in chains {
            let named =
                parent.into_iter().chain(others.into_iter().map(|(_, session, hash)| (session, hash)));
            for (other, hash) in named {
                if hashes.get(&other).is_some_and(|found| *found != hash) {
                    let detail = format!("the root of session {session} has seen another root here");
                    self.found(Object::Root(other), Problem::Inconsistent, detail);
                }
            }
        }
        self.count_unused(&listing, &live, &needed, &moved);
        Ok(Snapshots { listing, live, needed, moved, moment })
    }

    /// The label in the ledger is what lists show instead of the root: it must say the same, tags apart, which an owner
    /// may have replaced. A record that was rebuilt from the blobs has none, and lists show the root.
    fn check_label(&self, record: &SnapshotRecord, root: &Root) {
        if record.is_rebuilt() {
            return;
        }
        let object = Object::Snapshot(record.session);
        let keyring = self.vault.keyring();
        let Ok(plain) = keyring.open_label(record.session, &record.label) else {
            self.found(object, Problem::Damaged, "its label in the ledger does not open");
            return;
        };
        let root = &root.record;
        let same = label::decode(&plain).is_ok_and(|label| {
            label.cut || (label.device_name == root.device_name && label.sources == root.sources)
        });
        if !same {
            self.found(object, Problem::Inconsistent, "its label in the ledger is not that of its root");
        }
    }

    /// The packs a snapshot says it needs; `None` where that cannot be read, which is a finding.
    pub(super) fn reference_set(&self, root: &Root) -> Result<Option<ReferenceSet>, CheckError> {
        let at = &root.record.reference_set;
        let object = Object::Frame { session: at.pack.session, number: at.pack.number, offset: at.offset };
        if (at.pack.session, at.pack.number) != (root.record.session, PackRef::ROOT) {
            self.found(object, Problem::Inconsistent, "the reference set does not lie in its own root");
            return Ok(None);
        }
        match self.vault.frame(FrameKind::ReferenceSet, at, None) {
            Ok(bytes) => match ReferenceSet::decode(&bytes) {
                Ok(set) => Ok(Some(set)),
                Err(error) => {
                    self.found(
                        object,
                        Problem::Damaged,
                        format!("the reference set does not decode: {error}"),
                    );
                    Ok(None)
                }
            },
            Err(error) => {
                self.found_error(object, error)?;
                Ok(None)
            }
        }
    }

    fn count_unused(
        &self,
        listing: &Listing,
        live: &[SnapshotInfo],
        needed: &ReferenceSet,
        moved: &MovedPacks,
    ) {
        use backupengine_store::BlobKey;
        let moved_to: HashSet<PackId> = moved.values().map(|moved| moved.to).collect();
        let unused = listing.packs().iter().chain(listing.roots()).filter(|(key, _)| match *key {
            BlobKey::Pack(session, number) => {
                !needed.contains(session, number) && !moved_to.contains(&(session, number))
            }
            BlobKey::Root(session) => !live.iter().any(|info| info.session == session),
            BlobKey::Envelope(_) => false,
        });
        let mut stats = self.stats();
        for (_, size) in unused {
            stats.unused += 1;
            stats.unused_bytes += size;
        }
    }
}

/// All of a snapshot.
pub(super) fn whole(info: &SnapshotInfo, nodes: u64) -> Affected {
    let (path, to) = (b"/".to_vec(), Some(Vec::new()));
    Affected { session: info.session, snapshot: info.id, path, to, nodes, below: true }
}
