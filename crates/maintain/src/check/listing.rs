//! First step, first half: what the store lists, and what the ledger says of it.

use super::finding::{Object, Problem};
use super::findings::describe;
use super::moment::Moment;
use super::packs::PackId;
use super::{CheckError, Checker, Phase, ROUNDS};
use backupengine_model::SessionNo;
use backupengine_model::ledger::{SessionRecord, SessionState};
use backupengine_seal::{EnvelopeKind, envelope_kind, envelope_vault};
use backupengine_store::{BlobKey, BlobKind, EnvelopeId, ErrorKind, Range, StoreError};
use backupengine_vault::VaultError;
use std::collections::{BTreeMap, HashMap};

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

/// Where the frames of a pack lie that was moved.
#[derive(Clone, Copy)]
pub(super) struct MovedTo {
    /// The relocation pack.
    pub(super) to: PackId,
    /// Whether the old blob was given up. It may be there for a moment yet.
    pub(super) gone: bool,
}

/// Packs that were moved, by name.
pub(super) type MovedPacks = HashMap<PackId, MovedTo>;

/// Where packs lie that were moved.
pub(super) fn moved_packs(moment: &Moment) -> MovedPacks {
    let of_session = |record: &SessionRecord| {
        let session = record.session;
        let moved = record.moved.clone().into_iter();
        moved.map(move |(number, to)| ((session, number), MovedTo { to: (to.to, to.number), gone: to.gone }))
    };
    moment.sessions.values().flat_map(of_session).collect()
}

impl Checker<'_> {
    pub(super) fn ask<T>(&self, answer: Result<T, StoreError>) -> Result<T, CheckError> {
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

    /// What the ledger says, after `listing` was read; nothing where it does not read, which is a finding.
    pub(super) fn check_ledger(&self, listing: &Listing) -> Result<Option<Moment>, CheckError> {
        let moment = match self.moment()? {
            Ok(moment) => moment,
            Err(error) => {
                self.found(Object::Ledger, Problem::Damaged, describe(&error));
                return Ok(None);
            }
        };
        if self.ask(self.vault.ask(self.vault.store().vault()))? != self.vault.keyring().vault() {
            self.found(Object::Ledger, Problem::Misplaced, "it is the ledger of another vault");
        }
        for snapshot in &moment.snapshots {
            let session = snapshot.session;
            let ended = moment.sessions.get(&session).is_some_and(|record| {
                record.state == SessionState::Committed && record.device == snapshot.device
            });
            if !ended {
                let detail = format!("it lists a snapshot of session {session}, which did not end in one");
                self.found(Object::Ledger, Problem::Inconsistent, detail);
            }
        }
        self.check_sessions_are_known(listing, &moment.sessions);
        Ok(Some(moment))
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
        let (mut by_passphrase, mut by_code, mut gone) = (false, false, Vec::new());
        let mut listed = self.ask(self.vault.ask(store.list(BlobKind::Envelopes)))?;
        for _ in 0..ROUNDS {
            (by_passphrase, by_code) = (!self.config.passphrase, false);
            gone.clear();
            self.advance(Phase::Roots, |stats| stats.envelopes = 0)?;
            for (key, _) in &listed {
                let BlobKey::Envelope(id) = *key else { continue };
                self.advance(Phase::Roots, |stats| stats.envelopes += 1)?;
                match self.vault.ask(store.get(*key, Range::Whole)) {
                    Ok(got) => {
                        let kind = self.check_envelope(id, &got.bytes);
                        by_passphrase |= kind == Some(EnvelopeKind::Passphrase);
                        by_code |= kind == Some(EnvelopeKind::Recovery);
                    }
                    Err(error) if error.kind == ErrorKind::NotFound => gone.push((id, error)),
                    Err(error) => drop(self.found_error(Object::Envelope(id), error.into())?),
                }
            }
            if gone.is_empty() {
                break;
            }
            // They are replaced when the passphrase is changed: then there are others now.
            let now = self.ask(self.vault.ask(store.list(BlobKind::Envelopes)))?;
            if now == listed {
                break;
            }
            listed = now;
        }
        for (id, error) in gone {
            self.found_error(Object::Envelope(id), error.into())?;
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

    /// What kind of envelope it is, where it is a whole one of this vault.
    fn check_envelope(&self, id: EnvelopeId, bytes: &[u8]) -> Option<EnvelopeKind> {
        match envelope_kind(bytes).and_then(|kind| Ok((kind, envelope_vault(bytes)?))) {
            Ok((kind, vault)) if vault == self.vault.keyring().vault() => return Some(kind),
            Ok(_) => {
                self.found(Object::Envelope(id), Problem::Misplaced, "it is an envelope of another vault");
            }
            Err(error) => {
                self.found(Object::Envelope(id), Problem::Damaged, describe(&error));
            }
        }
        None
    }
}

fn session_of(key: BlobKey) -> Option<SessionNo> {
    match key {
        BlobKey::Pack(session, _) | BlobKey::Root(session) => Some(session),
        BlobKey::Envelope(_) => None,
    }
}
