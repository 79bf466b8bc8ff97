//! The session a push writes in: a new one, or the one that was broken off.
//!
//! **What it is.** A lock in the state folder, so that one push of this device at a time changes what is kept
//! there; then a look at the ledger for this device's open sessions that no push holds a [`Claim`] of. Where there
//! is no claim at all, nothing of this device broke off, and the ledger is not asked.
//! **What it may not do.** Reuse a pack number, or touch another device's session.
//! **What always holds.** A session whose root is stored already is complete: it is committed as it is, never
//! written on. A session that another push is writing is left alone.
//! **Where it is tested.** In the tests of whole pushes; `tests/protocol`.
use crate::claim::{Claim, Claims};
use crate::commit;
use crate::dedup::footers::{PackEnd, packs_of};
use crate::error::PushError;
use crate::mark;
use backupengine_format::label;
use backupengine_format::reference::ReferenceSet;
use backupengine_format::root::RootRecord;
use backupengine_model::ledger::{Commit, PackRun, SessionRecord, SessionState, SnapshotRecord};
use backupengine_model::{DeviceId, FrameKind, PackRef, SessionNo, SnapshotId, SnapshotInfo, Timestamp};
use backupengine_store::{BlobKey, BlobKind, ErrorKind, SessionList, Writable};
use backupengine_vault::Vault;
use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::thread::{self, ScopedJoinHandle};
use std::time::SystemTime;

/// The state folder of one vault, held by one push at a time.
pub(crate) struct StateLock(Option<File>);

impl StateLock {
    /// Takes the lock if it is free. Where it is not, or the folder cannot be written, the push goes on
    /// without changing anything there.
    pub(crate) fn take(path: &Path) -> Self {
        let file = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| File::options().create(true).truncate(false).write(true).open(path));
        let file = match file {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the local state cannot be written");
                return Self(None);
            }
        };
        match file.try_lock() {
            Ok(()) => Self(Some(file)),
            Err(TryLockError::WouldBlock) => {
                tracing::info!(
                    "another push of this device is running; its unfinished session is left alone"
                );
                Self(None)
            }
            Err(TryLockError::Error(error)) => {
                tracing::warn!(%error, path = %path.display(), "the local state cannot be locked");
                Self(None)
            }
        }
    }

    /// Whether it was free.
    pub(crate) fn is_held(&self) -> bool {
        self.0.is_some()
    }
}

/// The session to write in.
pub(crate) struct Session {
    pub(crate) number: SessionNo,
    /// Packs of an earlier run of it, by number.
    pub(crate) packs: Vec<u32>,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Number of the first new pack.
    pub(crate) next: u32,
    /// Held until it ends.
    pub(crate) claim: Option<Claim>,
    /// Of the list of snapshots when it was opened just now.
    pub(crate) list_version: Option<u64>,
    /// All sessions as they are in the open session, where that was asked for.
    pub(crate) all: Option<SessionList>,
}

/// A session that is open, or that a thread opens meanwhile.
pub(crate) enum Opening<'s> {
    /// It is.
    Open(Session),
    /// It is being opened.
    UnderWay(ScopedJoinHandle<'s, Result<Session, PushError>>),
}

impl Opening<'_> {
    /// Waits until it is open.
    ///
    /// # Errors
    /// Why it could not be opened.
    pub(crate) fn wait(self) -> Result<Session, PushError> {
        match self {
            Self::Open(session) => Ok(session),
            Self::UnderWay(thread) => thread.join().map_err(|_| PushError::Broken("a thread"))?,
        }
    }
}

impl Session {
    /// Whether the list of snapshots moved from this version on until the session was opened. What was retired before that
    /// is not looked at when it is committed: what the push builds on must have been there then.
    pub(crate) fn is_newer_than(&self, list: Option<u64>) -> bool {
        self.list_version.is_some_and(|at| Some(at) != list)
    }
}

/// This device's sessions that are in the ledger's list and may have been broken off: where it has no claims, nobody
/// needs to ask.
///
/// # Errors
/// The store's.
pub(crate) fn broken_off(
    vault: &Vault,
    store: &dyn Writable,
    claims: &Claims,
) -> Result<Vec<SessionRecord>, PushError> {
    if claims.are_none() { Ok(Vec::new()) } else { sessions(vault, store) }
}

/// Commits this device's sessions that lack nothing but that, among `all`. True when there was one.
pub(crate) fn complete(
    vault: &Vault,
    store: &dyn Writable,
    device: DeviceId,
    random: &(dyn Fn(&mut [u8]) + Sync),
    claims: &Claims,
    all: &[SessionRecord],
) -> Result<bool, PushError> {
    let mut any = false;
    let open: Vec<SessionNo> = open_sessions(all, device).into_iter().map(|s| s.session).collect();
    claims.sweep(&open);
    for session in open {
        let Some((claim, _)) = take_over(vault, store, claims, session)? else { continue };
        let Some((mut commit, references)) = finished(vault, session, device, random)? else { continue };
        tracing::info!(%session, "a snapshot that was all but committed is committed now");
        commit::commit(vault, store, device, &mut commit, &references)?;
        claim.end();
        any = true;
    }
    Ok(any)
}

/// The claim of a session whose push broke off, if it still is open, and the ledger's list as it is under the claim.
fn take_over(
    vault: &Vault,
    store: &dyn Writable,
    claims: &Claims,
    session: SessionNo,
) -> Result<Option<(Claim, Vec<SessionRecord>)>, PushError> {
    let Some(claim) = claims.take(session) else { return Ok(None) };
    // Asked again under the claim: it may have been committed just before it was let go.
    let all = sessions(vault, store)?;
    let open = all.iter().any(|s| s.session == session && s.state == SessionState::Open);
    Ok(open.then_some((claim, all)))
}

/// Goes on in this device's open session, among `all`, where `resume` allows it and nobody writes it, else opens one.
/// `list_too`: asks for all sessions while a new one is opened, which takes no longer where the store is far.
pub(crate) fn begin(
    vault: &Vault,
    store: &dyn Writable,
    device: DeviceId,
    (resume, list_too): (bool, bool),
    claims: &Claims,
    all: &[SessionRecord],
) -> Result<Session, PushError> {
    if resume
        && let Some(open) = resumable(all, device)
        && let Some((claim, now)) = take_over(vault, store, claims, open.session)?
        // Another push may have been committed since `all` was asked for.
        && let Some(open) = resumable(&now, device).filter(|now| now.session == open.session)
        && !root_is_stored(vault, open.session)?
    {
        let packs = packs_of(vault, open.session)?;
        // Numbers may be used up that nothing is stored under: a name is announced with its bytes, and of several
        // packs that were under way any may have come through.
        let next = packs.last().map_or(0, |pack| pack.number + 1).max(open.packs);
        let bytes = packs.iter().map(|pack| pack.size).sum();
        let packs = packs.into_iter().map(|pack| pack.number).collect();
        let (claim, list_version, all) = (Some(claim), None, None);
        return Ok(Session { number: open.session, packs, bytes, next, claim, list_version, all });
    }
    let open = || vault.ask(store.open_session(device, now()));
    let (opened, all) = match list_too {
        true => thread::scope(|scope| {
            let all = scope.spawn(|| vault.ask(store.sessions()));
            // Where it cannot be had, it is asked for again when it is needed.
            (open(), all.join().ok().and_then(Result::ok))
        }),
        false => (open(), None),
    };
    let opened = opened?;
    let all = all.filter(|all| all.gc_epoch == opened.gc_epoch);
    let (number, list_version) = (opened.session, Some(opened.version));
    let claim = claims.make(number);
    Ok(Session { number, packs: Vec::new(), bytes: 0, next: 0, claim, list_version, all })
}

/// This device's newest open session, if a snapshot in it would be newer than the ones it chains to and can be ended.
fn resumable(all: &[SessionRecord], device: DeviceId) -> Option<&SessionRecord> {
    let committed = all.iter().filter(|s| s.device == device && s.state == SessionState::Committed);
    let newest = committed.map(|s| s.session).max();
    // One whose numbers are used up cannot be ended.
    let good = |s: &&SessionRecord| Some(s.session) > newest && s.packs < PackRef::ROOT;
    open_sessions(all, device).into_iter().rfind(good)
}

/// All sessions of the vault.
pub(crate) fn sessions(vault: &Vault, store: &dyn Writable) -> Result<Vec<SessionRecord>, PushError> {
    Ok(vault.ask(store.sessions())?.sessions)
}

fn open_sessions(all: &[SessionRecord], device: DeviceId) -> Vec<&SessionRecord> {
    all.iter().filter(|s| s.device == device && s.state == SessionState::Open).collect()
}

fn root_is_stored(vault: &Vault, session: SessionNo) -> Result<bool, PushError> {
    let roots = vault.ask(vault.store().list(BlobKind::Roots))?;
    Ok(roots.iter().any(|(key, _)| *key == BlobKey::Root(session)))
}

/// What the ledger should say of a session whose root is stored; `None` where there is none that holds.
fn finished(
    vault: &Vault,
    session: SessionNo,
    device: DeviceId,
    random: &(dyn Fn(&mut [u8]) + Sync),
) -> Result<Option<(Commit, ReferenceSet)>, PushError> {
    let end = match PackEnd::load(vault, BlobKey::Root(session)) {
        Ok(Some(end)) => end,
        Ok(None) => return Ok(None),
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let head_len = end.trailer.head_len;
    let opened = end.open(vault, FrameKind::Root, end.head_at, head_len)?;
    let Some(root) = opened.and_then(|plain| RootRecord::decode(&plain).ok()) else { return Ok(None) };
    if root.device != device || root.session != session || root.vault != vault.keyring().vault() {
        return Ok(None);
    }
    let at = &root.reference_set;
    let set = end.open(vault, FrameKind::ReferenceSet, at.offset.into(), at.stored_len)?;
    let Some(references) = set.and_then(|plain| ReferenceSet::decode(&plain).ok()) else { return Ok(None) };
    let meta_packs = meta_packs(&root);
    let info = SnapshotInfo {
        session,
        id: SnapshotId(end.trailer.pack.salt),
        created: root.created,
        device,
        device_name: root.device_name,
        tags: root.tags,
        sources: root.sources,
    };
    let packs = packs_of(vault, session)?;
    let bytes = packs.iter().map(|pack| pack.size).sum::<u64>() + end.total();
    let packs = packs.last().map_or(0, |pack| pack.number + 1);
    let snapshot = record(vault, &info, end.total(), head_len, random);
    let hold = if info.is_suspicious() {
        mark::before(&vault.list()?, device, &info.sources).map(|info| info.session)
    } else {
        None
    };
    let commit = Commit { snapshot, packs, bytes, meta_packs, gc_epoch: None, hold };
    Ok(Some((commit, references)))
}

/// Where the ledger may tell readers to look first: the record's own hint.
pub(crate) fn meta_packs(root: &RootRecord) -> Vec<PackRun> {
    PackRun::of(root.page_packs.iter().map(|pack| (pack.session, pack.number)))
}

/// The ledger's record of a snapshot.
pub(crate) fn record(
    vault: &Vault,
    info: &SnapshotInfo,
    root_size: u64,
    head_len: u32,
    random: &(dyn Fn(&mut [u8]) + Sync),
) -> SnapshotRecord {
    let mut salt = [0; 8];
    random(&mut salt);
    SnapshotRecord {
        session: info.session,
        id: info.id,
        device: info.device,
        created: info.created,
        root_size,
        head_len,
        label: vault.keyring().seal_label(info.session, salt, &label::encode(info)),
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp { secs: since.as_secs().try_into().unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_belongs_to_one_push_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/lock");
        let first = StateLock::take(&path);
        assert!(first.is_held());
        assert!(!StateLock::take(&path).is_held());
        drop(first);
        assert!(StateLock::take(&path).is_held());
        std::fs::write(dir.path().join("file"), b"").unwrap();
        assert!(!StateLock::take(&dir.path().join("file/lock")).is_held());
    }
}
