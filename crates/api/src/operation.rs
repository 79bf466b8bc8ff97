//! The table of operations: name, request, answer. One macro, so that routes, client and OpenAPI cannot drift.
use crate::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One operation of the control plane.
pub trait Operation {
    /// Last part of its path.
    const NAME: &'static str;
    /// Whether it changes anything: then its nonce is used up with it.
    const MUTATES: bool;
    /// What is asked.
    type Request: Serialize + DeserializeOwned + Send;
    /// What is answered.
    type Answer: Serialize + DeserializeOwned + Send;
}

/// Reads a body as a request of the operation and writes it again: unknown fields and wrong types end here.
pub type Check = fn(&[u8]) -> Result<serde_json::Value, serde_json::Error>;

/// One line of the table.
#[derive(Clone, Copy)]
pub struct OperationInfo {
    /// See [`Operation::NAME`].
    pub name: &'static str,
    /// See [`Operation::MUTATES`].
    pub mutates: bool,
    /// See [`Check`].
    pub check: Check,
}

impl std::fmt::Debug for OperationInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

fn check<R: Serialize + DeserializeOwned>(body: &[u8]) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::to_value(serde_json::from_slice::<R>(body)?)
}

macro_rules! operations {
    ($($name:literal $kind:ident $op:ident ( $request:ty ) -> $answer:ty;)+) => {
        /// The operations as types.
        pub mod op {
            $(
                #[doc = concat!("`", $name, "`")]
                #[derive(Clone, Copy, Debug)]
                pub struct $op;
            )+
        }
        $(impl Operation for op::$op {
            const NAME: &'static str = $name;
            const MUTATES: bool = operations!(@$kind);
            type Request = $request;
            type Answer = $answer;
        })+
        /// All operations.
        pub const OPERATIONS: &[OperationInfo] = &[
            $(OperationInfo { name: $name, mutates: operations!(@$kind), check: check::<$request> },)+
        ];
        #[cfg(feature = "openapi")]
        /// Name and the schemas of request and answer, for the OpenAPI text.
        pub fn schemas(mut visit: impl FnMut(&'static str, SchemaOf, SchemaOf)) {
            $(visit($name, SchemaOf::of::<$request>(), SchemaOf::of::<$answer>());)+
        }
    };
    (@writes) => { true };
    (@reads) => { false };
}

#[cfg(feature = "openapi")]
/// Name and schema of one type, with those it uses.
pub struct SchemaOf {
    /// The type's name.
    pub name: String,
    /// Its own schema.
    pub schema: utoipa::openapi::RefOr<utoipa::openapi::schema::Schema>,
    /// Schemas of the types in it.
    pub parts: Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::schema::Schema>)>,
}

#[cfg(feature = "openapi")]
impl SchemaOf {
    fn of<T: utoipa::ToSchema>() -> Self {
        let mut parts = Vec::new();
        T::schemas(&mut parts);
        Self { name: T::name().into_owned(), schema: T::schema(), parts }
    }
}

operations! {
    "device-enroll" writes DeviceEnroll(EnrollDevice) -> EnrolledDevice;
    "device-approve" writes DeviceApprove(ApproveDevice) -> Done;
    "device-list" reads DeviceList(Empty) -> DeviceListed;
    "device-rename" writes DeviceRename(RenameDevice) -> Done;
    "device-revoke" writes DeviceRevoke(RevokeDevice) -> Done;
    "vault-create" writes VaultCreate(CreateVault) -> VaultRecord;
    "vault-list" reads VaultList(Empty) -> VaultListed;
    "envelope-put" writes EnvelopePut(PutEnvelope) -> PutGrant;
    "envelope-change" writes EnvelopeChange(ChangeEnvelopes) -> ChangedEnvelopes;
    "mount" writes Mount(MountVault) -> MountedVault;
    "version" reads Version(OfVault) -> VaultVersion;
    "snapshot-list" reads SnapshotList(ListSnapshots) -> SnapshotPage;
    "urls" writes Urls(WantUrls) -> Urls;
    "blob-list" reads BlobList(ListBlobs) -> BlobPage;
    "session-list" reads SessionList(ListSessions) -> SessionPage;
    "session-open" writes SessionOpen(OpenSession) -> OpenedSession;
    "session-urls" writes SessionUrls(WantPuts) -> PutGrants;
    "session-heartbeat" writes SessionHeartbeat(OfSession) -> VaultVersion;
    "session-commit" writes SessionCommit(CommitSession) -> VaultVersion;
    "session-abort" writes SessionAbort(OfSession) -> Done;
    "snapshot-trash" writes SnapshotTrash(OfSnapshots) -> Done;
    "snapshot-untrash" writes SnapshotUntrash(OfSnapshots) -> Done;
    "snapshot-hold" writes SnapshotHold(HoldSnapshots) -> Done;
    "snapshot-tag" writes SnapshotTag(TagSnapshot) -> Done;
    "retention-set" writes RetentionSet(SetRetention) -> Done;
    "gc-begin" writes GcBegin(OfVault) -> GcState;
    "gc-retire" writes GcRetire(RetirePacks) -> VaultVersion;
    "gc-unretire" writes GcUnretire(PackSets) -> VaultVersion;
    "gc-move" writes GcMove(MovePacks) -> VaultVersion;
    "gc-purge" writes GcPurge(PackSets) -> PackSets;
    "schedule-put" writes SchedulePut(PutSchedule) -> Done;
    "schedule-list" reads ScheduleList(OfVault) -> ScheduleListed;
    "usage" reads Usage(Empty) -> UsageAnswer;
    "audit-list" reads AuditList(ListAudit) -> AuditPage;
    "events" reads Events(WaitEvents) -> EventsAnswer;
}
