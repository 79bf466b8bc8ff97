//! Which snapshots stay, by the control plane: trash, holds, labels.
//!
//! May not ask a person: a step that wants a fresh one-time code is refused, and the face asks. What always holds: what was
//! remembered of the list is forgotten with every change. Tested in `tests/stores`, `tests/server` and `tests/cli`.
use super::ledger::{PAGE, record, word};
use super::{Core, PresignedStore, store_error};
use crate::TransferError;
use backupengine_api::{
    Code, HoldSnapshots, ListSnapshots, OfSnapshots, Opaque, SnapshotListed, TagSnapshot, op,
};
use backupengine_model::ledger::{Kept, RuleBroken};
use backupengine_model::{SessionNo, Timestamp};
use backupengine_store::{BoxFuture, ErrorKind, Keeper, StoreError};

/// Snapshots of one call.
const CALL: usize = 1000;

impl Core {
    async fn trash(&self, sessions: &[SessionNo]) -> Result<(), StoreError> {
        for part in sessions.chunks(CALL) {
            let request = self.of(part)?;
            self.done(self.account.ask::<op::SnapshotTrash>(&request).await)?;
        }
        Ok(())
    }

    async fn untrash(&self, sessions: &[SessionNo]) -> Result<(), StoreError> {
        for part in sessions.chunks(CALL) {
            let request = self.of(part)?;
            self.done(self.account.ask::<op::SnapshotUntrash>(&request).await)?;
        }
        Ok(())
    }

    async fn hold(&self, sessions: &[SessionNo], hold: bool) -> Result<(), StoreError> {
        for part in sessions.chunks(CALL) {
            let OfSnapshots { vault, sessions, idem } = self.of(part)?;
            let request = HoldSnapshots { vault, sessions, hold, idem };
            self.done(self.account.ask::<op::SnapshotHold>(&request).await)?;
        }
        Ok(())
    }

    async fn relabel(&self, session: SessionNo, label: Vec<u8>) -> Result<(), StoreError> {
        let (session, label) = (session.0, Opaque(label));
        let request = TagSnapshot { vault: self.vault, session, label, idem: word()? };
        self.done(self.account.ask::<op::SnapshotTag>(&request).await)
    }

    fn of(&self, sessions: &[SessionNo]) -> Result<OfSnapshots, StoreError> {
        let sessions = sessions.iter().map(|session| session.0).collect();
        Ok(OfSnapshots { vault: self.vault, sessions, idem: word()? })
    }

    fn done<T>(&self, answer: Result<T, TransferError>) -> Result<(), StoreError> {
        self.answers.forget();
        match answer {
            Ok(_) => Ok(()),
            Err(TransferError::Refused(refusal)) if refusal.known() == Some(Code::NotFound) => {
                let rule = StoreError::rule(RuleBroken::UnknownSnapshot);
                Err(rule.caused_by(TransferError::Refused(refusal)))
            }
            Err(error) => Err(store_error(error)),
        }
    }

    async fn kept(&self) -> Result<Vec<Kept>, StoreError> {
        'anew: for _ in 0..8 {
            let mut all: Vec<Kept> = Vec::new();
            let mut version = None;
            for trashed in [false, true] {
                let mut before = None;
                loop {
                    let request = ListSnapshots { vault: self.vault, before, limit: PAGE, trashed };
                    let page = self.account.ask::<op::SnapshotList>(&request).await.map_err(store_error)?;
                    // One moment's, live ones and trash together.
                    if *version.get_or_insert(page.version) != page.version {
                        continue 'anew;
                    }
                    before = page.snapshots.last().map(|last| last.session);
                    for listed in page.snapshots {
                        all.push(kept(listed)?);
                    }
                    if !page.more || before.is_none() {
                        break;
                    }
                }
            }
            all.sort_unstable_by_key(|kept| kept.snapshot.session);
            return Ok(all);
        }
        Err(StoreError::new(
            ErrorKind::Unavailable,
            "the list of snapshots changed all the while it was read",
        ))
    }
}

fn kept(listed: SnapshotListed) -> Result<Kept, StoreError> {
    let purge_after = listed.purge_after.map(|secs| Timestamp { secs, nanos: 0 });
    // What has no time of its own and is not live waits for something else: its time is now.
    let purge_after = purge_after.or_else(|| (listed.state != "live").then(Timestamp::default));
    let held = listed.hold;
    Ok(Kept { snapshot: record(listed)?, purge_after, held })
}

impl Keeper for PresignedStore {
    /// At most 1000 go together; of more, some may have gone where it fails.
    fn trash<'a>(&'a self, sessions: &'a [SessionNo]) -> BoxFuture<'a, Result<(), StoreError>> {
        let sessions = sessions.to_vec();
        self.run(move |core| async move { core.trash(&sessions).await })
    }

    fn untrash<'a>(&'a self, sessions: &'a [SessionNo]) -> BoxFuture<'a, Result<(), StoreError>> {
        let sessions = sessions.to_vec();
        self.run(move |core| async move { core.untrash(&sessions).await })
    }

    fn hold<'a>(&'a self, sessions: &'a [SessionNo], hold: bool) -> BoxFuture<'a, Result<(), StoreError>> {
        let sessions = sessions.to_vec();
        self.run(move |core| async move { core.hold(&sessions, hold).await })
    }

    fn relabel<'a>(&'a self, session: SessionNo, label: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        let label = label.to_vec();
        self.run(move |core| async move { core.relabel(session, label).await })
    }

    fn kept(&self) -> BoxFuture<'_, Result<Vec<Kept>, StoreError>> {
        self.run(|core| async move { core.kept().await })
    }
}
