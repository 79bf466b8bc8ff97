//! First step, first half: what the store lists, and what the ledger says of it.

use super::finding::{Object, Problem};
use super::findings::describe;
use super::packs::PackId;
use super::{CheckError, Checker, Phase};
use backupengine_model::SessionNo;
use backupengine_model::ledger::{SessionRecord, SessionState, SnapshotRecord};
use backupengine_seal::{EnvelopeKind, envelope_kind, envelope_vault};
use backupengine_store::{BlobKey, BlobKind, ErrorKind, Range, StoreError};
use backupengine_vault::VaultError;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Blobs with their sizes, sorted, for packs and roots.
pub(super) struct Listing {
    packs: Vec<(BlobKey, u64)>,
    roots: Vec<(BlobKey, u64)>,
}

impl Listing {
    /// Size of a blob; `None` where it is missing.
    pub(super) fn size(&self, key: BlobKey) -> Option<u64> {
        let list = if matches!(key, BlobKey::Root(_)) { &self.roots } else { &self.packs };
        list.binary_search_by_key(&key, |(key, _)| *key).ok().map(|at| list[at].1)
    }

    pub(super) fn packs(&self) -> &[(BlobKey, u64)] {
        &self.packs
    }

    pub(super) fn roots(&self) -> &[(BlobKey, u64)] {
        &self.roots
    }
}

/// Packs by name, with the relocation packs that hold their frames.
pub(super) type MovedPacks = HashMap<PackId, PackId>;

impl Checker<'_> {
    fn ask<T>(&self, answer: Result<T, StoreError>) -> Result<T, CheckError> {
        answer.map_err(|error| CheckError::Vault(VaultError::Store(error)))
    }

    pub(super) fn list(&self) -> Result<Listing, CheckError> {
        let store = self.vault.store();
        let mut packs = self.ask(self.vault.ask(store.list(BlobKind::Packs)))?;
        let mut roots = self.ask(self.vault.ask(store.list(BlobKind::Roots)))?;
        packs.sort_unstable();
        roots.sort_unstable();
        Ok(Listing { packs, roots })
    }

    /// The ledger's records, in the order of sessions, and where packs were moved; empty where it does not read, which
    /// is a finding.
    pub(super) fn check_ledger(
        &self,
        listing: &Listing,
    ) -> Result<(Vec<SnapshotRecord>, MovedPacks), CheckError> {
        let store = self.vault.store();
        let both = self
            .vault
            .ask(store.sessions())
            .and_then(|sessions| Ok((sessions, self.vault.ask(store.snapshots())?.snapshots)));
        let (sessions, snapshots) = match both {
            Ok(both) => both,
            Err(error) if error.kind == ErrorKind::LedgerDamaged => {
                self.found(Object::Ledger, Problem::Damaged, describe(&error));
                return Ok((Vec::new(), MovedPacks::new()));
            }
            Err(error) => return self.ask(Err(error)),
        };
        if self.ask(self.vault.ask(store.vault()))? != self.vault.keyring().vault() {
            self.found(Object::Ledger, Problem::Misplaced, "it is the ledger of another vault");
        }
        let sessions: BTreeMap<SessionNo, SessionRecord> =
            sessions.sessions.into_iter().map(|record| (record.session, record)).collect();
        let listed: BTreeSet<SessionNo> = snapshots.iter().map(|snapshot| snapshot.session).collect();
        let committed = |session: &SessionNo| {
            sessions.get(session).filter(|record| record.state == SessionState::Committed)
        };
        for snapshot in &snapshots {
            let session = snapshot.session;
            if committed(&session).is_none_or(|record| record.device != snapshot.device) {
                let detail = format!("it lists a snapshot of session {session}, which did not end in one");
                self.found(Object::Ledger, Problem::Inconsistent, detail);
            }
        }
        self.check_sessions_are_known(listing, &sessions);
        let blobs = listing.roots().iter();
        for session in blobs.filter_map(|(key, _)| session_of(*key)) {
            let in_trash = self.config.trashed.contains(&session);
            if !listed.contains(&session) && !in_trash && committed(&session).is_some() {
                let detail = format!("session {session} ended in a snapshot that it does not list");
                self.found(Object::Ledger, Problem::Inconsistent, detail);
            }
        }
        let moved = |record: &SessionRecord| {
            let session = record.session;
            record.moved.clone().into_iter().map(move |(number, to)| ((session, number), (to.to, to.number)))
        };
        Ok((snapshots, sessions.values().flat_map(moved).collect()))
    }

    /// A blob of a session that was never opened: the ledger is an older one than the blobs.
    fn check_sessions_are_known(&self, listing: &Listing, sessions: &BTreeMap<SessionNo, SessionRecord>) {
        let mut before = None;
        let blobs = listing.roots().iter().chain(listing.packs());
        for session in blobs.filter_map(|(key, _)| session_of(*key)) {
            if before.replace(session) == Some(session) || sessions.contains_key(&session) {
                continue;
            }
            let detail =
                format!("it does not know session {session}, whose blobs are stored: it is an old one");
            self.found(Object::Ledger, Problem::Inconsistent, detail);
        }
    }

    /// That each envelope is whole, and that the recovery code and, where it is wanted, a passphrase have one.
    pub(super) fn check_envelopes(&self) -> Result<(), CheckError> {
        let store = self.vault.store();
        let (mut by_passphrase, mut by_code) = (!self.config.passphrase, false);
        for (key, _) in self.ask(self.vault.ask(store.list(BlobKind::Envelopes)))? {
            let BlobKey::Envelope(id) = key else { continue };
            self.advance(Phase::Roots, |stats| stats.envelopes += 1)?;
            match self.vault.ask(store.get(key, Range::Whole)) {
                Ok(got) => {
                    match envelope_kind(&got.bytes).and_then(|kind| Ok((kind, envelope_vault(&got.bytes)?))) {
                        Ok((_, vault)) if vault != self.vault.keyring().vault() => {
                            let detail = "it is an envelope of another vault";
                            self.found(Object::Envelope(id), Problem::Misplaced, detail);
                        }
                        Ok((kind, _)) => {
                            by_passphrase |= kind == EnvelopeKind::Passphrase;
                            by_code |= kind == EnvelopeKind::Recovery;
                        }
                        Err(error) => {
                            self.found(Object::Envelope(id), Problem::Damaged, describe(&error));
                        }
                    }
                }
                Err(error) => {
                    self.found_error(Object::Envelope(id), error.into())?;
                }
            }
        }
        if !(by_passphrase && by_code) {
            let lost = match (by_passphrase, by_code) {
                (true, false) => "the recovery code does",
                (false, true) => "a passphrase does",
                _ => "neither a passphrase nor the recovery code do",
            };
            let detail =
                format!("{lost} not open this vault on a new device: no whole envelope is left for it");
            self.found(Object::Envelopes, Problem::Missing, detail);
        }
        Ok(())
    }
}

fn session_of(key: BlobKey) -> Option<SessionNo> {
    match key {
        BlobKey::Pack(session, _) | BlobKey::Root(session) => Some(session),
        BlobKey::Envelope(_) => None,
    }
}
