//! The store port: blobs, and the ledger that says which blobs count.
//!
//! Async because presigned URLs are; a folder answers in the first poll, on the caller's own thread, so that
//! `block_on` costs it nothing. Reading and writing are traits apart: what is given only the reading ones
//! cannot write.
use crate::{BlobKey, BlobKind, EnvelopeId, Spool, StoreError};
use backupengine_model::ledger::{
    Commit, Counters, Haste, Kept, Move, PackRun, SessionKind, SessionRecord, SnapshotRecord,
};
use backupengine_model::{DeviceId, SessionNo, Timestamp, VaultId};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A boxed answer, so that ports can be objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A part of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Range {
    /// All of it.
    Whole,
    /// `len` bytes from `offset`; cut short at the end of the blob, refused when it begins there or later.
    At { offset: u64, len: u64 },
    /// The last `len` bytes, or the whole blob if it is shorter.
    Suffix(u64),
}
impl Range {
    /// Which bytes of a blob of `total` bytes these are: first and number. `None` (an error of kind `BadRange`)
    /// where there are none: a range that begins at the end or later, and one of length 0, which could not be
    /// asked for over HTTP.
    pub const fn resolve(self, total: u64) -> Option<(u64, u64)> {
        match self {
            Self::Whole => Some((0, total)),
            Self::At { len: 0, .. } | Self::Suffix(0) => None,
            Self::At { offset, .. } if offset >= total => None,
            Self::At { offset, len } if len < total - offset => Some((offset, len)),
            Self::At { offset, .. } => Some((offset, total - offset)),
            Self::Suffix(len) if len < total => Some((total - len, len)),
            Self::Suffix(_) => Some((0, total)),
        }
    }
}
/// What a `get` brought.
#[derive(Clone, Debug)]
pub struct Got {
    /// The bytes.
    pub bytes: Bytes,
    /// Where they begin in the blob.
    pub offset: u64,
    /// Length of the whole blob.
    pub total: u64,
}
/// Reading blobs.
pub trait BlobReader: Send + Sync {
    /// Fetches a part of a blob.
    fn get(&self, key: BlobKey, range: Range) -> BoxFuture<'_, Result<Got, StoreError>>;
    /// Names and sizes of a family of blobs, sorted. For check and rebuild; no read of a file needs it.
    fn list(&self, kind: BlobKind) -> BoxFuture<'_, Result<Vec<(BlobKey, u64)>, StoreError>>;
    /// Hears which blobs are likely to be read soon, so that what must be had before (a grant, a connection) may be
    /// got meanwhile. Nobody waits, nothing is promised; a blob that is not there is no error.
    fn expect(&self, _keys: &[BlobKey]) {}
    /// Reads are widened to multiples of this many bytes, so that a watching store learns no frame lengths.
    /// 1 where nobody watches.
    fn grid(&self) -> u64;
}
/// Writing blobs.
pub trait BlobWriter: Send + Sync {
    /// Begins a blob: a private file that is nowhere listed until it is put.
    ///
    /// # Errors
    /// `Full`, `Denied`, `Io`.
    fn spool(&self) -> Result<Spool, StoreError>;
    /// Puts a finished spool under its name, durably, unless that name is taken (`AlreadyExists`: nothing was
    /// changed). The spool is gone afterwards either way.
    fn put(&self, key: BlobKey, spool: Spool) -> BoxFuture<'_, Result<(), StoreError>>;
}
/// The list of live snapshots at one moment.
#[derive(Clone, Debug, Default)]
pub struct SnapshotList {
    /// Changes whenever the list does.
    pub version: u64,
    /// By session number.
    pub snapshots: Vec<SnapshotRecord>,
}
/// The sessions at one moment.
#[derive(Clone, Debug, Default)]
pub struct SessionList {
    /// Everything that was retired, brought back or moved up to this epoch is in the list.
    pub gc_epoch: u64,
    /// By number.
    pub sessions: Vec<SessionRecord>,
}
impl std::ops::Deref for SessionList {
    type Target = [SessionRecord];
    fn deref(&self) -> &Self::Target {
        &self.sessions
    }
}
/// Reading the ledger.
pub trait LedgerReader: Send + Sync {
    /// The vault's id, as the ledger says.
    fn vault(&self) -> BoxFuture<'_, Result<VaultId, StoreError>>;
    /// A number that changes whenever the list of snapshots does; cheap.
    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>>;
    /// All live snapshots: one call, whatever their number.
    fn snapshots(&self) -> BoxFuture<'_, Result<SnapshotList, StoreError>>;
    /// All sessions, open ones included.
    fn sessions(&self) -> BoxFuture<'_, Result<SessionList, StoreError>>;
    /// Bytes the vault takes and bytes free where it lies, `None` where that is not known.
    fn space(&self) -> BoxFuture<'_, Result<(u64, Option<u64>), StoreError>>;
}
/// A session that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its number.
    pub session: SessionNo,
    /// Of the list of snapshots at that moment. Who chose before what to build on, by another list, chooses again: what
    /// was retired until now is not looked at when the session is committed.
    pub version: u64,
    /// What was retired, brought back or moved up to this epoch counts for the session. A list of sessions that was asked for
    /// at the same time and is of this epoch is as good as one that was asked for afterwards.
    pub gc_epoch: u64,
}
/// Writing the ledger.
pub trait LedgerWriter: Send + Sync {
    /// Opens a session; its number was never given before.
    fn open_session(&self, device: DeviceId, now: Timestamp) -> BoxFuture<'_, Result<Opened, StoreError>>;
    /// Commits: the only moment a snapshot begins to exist. Repeating it is harmless.
    fn commit<'a>(&'a self, device: DeviceId, commit: &'a Commit) -> BoxFuture<'a, Result<(), StoreError>>;
    /// Brings packs back that were retired or moved and are referred to after all.
    fn revive<'a>(&'a self, packs: &'a [PackRun]) -> BoxFuture<'a, Result<Counters, StoreError>>;
}
/// Deciding which snapshots stay: an owner's matter.
pub trait Keeper: Send + Sync {
    /// Puts snapshots into the trash: they are listed no more, and can be brought back until their time is over. Again
    /// is no new time. All of them or none.
    fn trash<'a>(&'a self, sessions: &'a [SessionNo]) -> BoxFuture<'a, Result<(), StoreError>>;
    /// Brings snapshots back from the trash.
    fn untrash<'a>(&'a self, sessions: &'a [SessionNo]) -> BoxFuture<'a, Result<(), StoreError>>;
    /// Holds snapshots against removal, or lets them go.
    fn hold<'a>(&'a self, sessions: &'a [SessionNo], hold: bool) -> BoxFuture<'a, Result<(), StoreError>>;
    /// Replaces a snapshot's sealed label.
    fn relabel<'a>(&'a self, session: SessionNo, label: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>>;
    /// All snapshots that are not gone: live ones and those in the trash.
    fn kept(&self) -> BoxFuture<'_, Result<Vec<Kept>, StoreError>>;
}
/// Where a collection begins.
#[derive(Clone, Debug)]
pub struct Collection {
    /// What its steps are compared with.
    pub counters: Counters,
    /// Every snapshot that counts: nothing one of them needs may go.
    pub snapshots: Vec<SnapshotRecord>,
}
/// Giving space back: marks are the caller's, who has keys; guarding is the ledger's.
pub trait Collector: Send + Sync {
    /// Begins: ends what is silent, purges snapshots whose time in the trash is over.
    fn begin_collection(&self, haste: Haste) -> BoxFuture<'_, Result<Collection, StoreError>>;
    /// Nobody may newly refer to these packs.
    fn retire<'a>(
        &'a self,
        at: Counters,
        packs: &'a [PackRun],
    ) -> BoxFuture<'a, Result<Counters, StoreError>>;
    /// Frames of pushed packs were copied into relocation packs.
    fn relocate<'a>(&'a self, at: Counters, moves: &'a [Move])
    -> BoxFuture<'a, Result<Counters, StoreError>>;
    /// Deletes what may be deleted by now of these packs, and says which those are.
    fn purge<'a>(
        &'a self,
        packs: &'a [PackRun],
        haste: Haste,
    ) -> BoxFuture<'a, Result<Vec<PackRun>, StoreError>>;
    /// Opens a session for relocation packs.
    fn open_relocation(
        &self,
        device: DeviceId,
        kind: SessionKind,
    ) -> BoxFuture<'_, Result<SessionNo, StoreError>>;
    /// Ends one: its packs count from now on, as places to move to. Repeating it is harmless.
    fn end_relocation(
        &self,
        device: DeviceId,
        session: SessionNo,
        packs: u32,
        bytes: u64,
    ) -> BoxFuture<'_, Result<(), StoreError>>;
}
/// A key envelope that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeInfo {
    /// Its name.
    pub id: EnvelopeId,
    /// When it was stored, where that is known.
    pub stored: Option<Timestamp>,
}
/// A change of the key envelopes that count.
#[derive(Clone, Debug, Default)]
pub struct EnvelopeChange {
    /// Those that count now, as whoever changes them has seen them.
    pub expected: Vec<EnvelopeId>,
    /// Those of them that go on counting.
    pub keep: Vec<EnvelopeId>,
    /// New ones: name and bytes.
    pub add: Vec<(EnvelopeId, Vec<u8>)>,
    /// Those of the new ones that a recovery code opens: a control plane gives them to devices that wait.
    pub recovery: Vec<EnvelopeId>,
    /// Key epoch of the new ones.
    pub epoch: u16,
}
impl EnvelopeChange {
    /// All that count afterwards.
    pub fn after(&self) -> impl Iterator<Item = EnvelopeId> + '_ {
        self.keep.iter().copied().chain(self.add.iter().map(|(id, _)| *id))
    }
}
/// Changing how a vault is opened. Apart from [`Writable`]: a push cannot.
pub trait EnvelopeKeeper: Send + Sync {
    /// The envelopes that count.
    fn envelopes(&self) -> BoxFuture<'_, Result<Vec<EnvelopeInfo>, StoreError>>;
    /// Stores the new ones, and from one moment on they and the kept ones count and no others; those are taken away
    /// afterwards. Durable when it returns. Before that moment, whenever it ends, the old ones count. Repeating it is
    /// harmless.
    ///
    /// Refused with [`RuleBroken::EnvelopesMoved`](backupengine_model::ledger::RuleBroken) where others count than
    /// expected: of two changes at once one comes through.
    fn change_envelopes<'a>(&'a self, change: &'a EnvelopeChange) -> BoxFuture<'a, Result<(), StoreError>>;
}
/// What readers are given.
pub trait Readable: BlobReader + LedgerReader {}
impl<T: BlobReader + LedgerReader + ?Sized> Readable for T {}
/// What writers are given.
pub trait Writable: Readable + BlobWriter + LedgerWriter {}
impl<T: Readable + BlobWriter + LedgerWriter + ?Sized> Writable for T {}
/// What upkeep is given.
pub trait Maintainable: Writable + Keeper + Collector {}
impl<T: Writable + Keeper + Collector + ?Sized> Maintainable for T {}
const _: fn(&Arc<dyn Writable>) = |_| {};
