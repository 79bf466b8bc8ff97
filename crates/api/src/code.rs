//! Codes of refusals: stable words that clients branch on, each with its HTTP status.
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal;)+) => {
        /// Why a call was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[$doc])* $name,)+ }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Its HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }
        }
    };
}

codes! {
    /// No or a malformed bearer token.
    NoToken = "no_token", 401;
    /// The token does not verify: forged, of another algorithm, issuer or audience.
    BadToken = "bad_token", 401;
    /// The token is too old.
    TokenExpired = "token_expired", 401;
    /// The login behind the token has ended (logout, revocation, password change).
    SessionEnded = "session_ended", 401;
    /// The login was not confirmed with a one-time code.
    Aal2Required = "aal2_required", 403;
    /// The one-time code was given too long ago for this step.
    FreshTotpRequired = "fresh_totp_required", 403;
    /// The request carries no device signature, or one that does not hold.
    BadSignature = "bad_signature", 401;
    /// Created too long ago or in the future, by the server's clock; `Date` says what it is.
    ClockSkew = "clock_skew", 401;
    /// The same signed request was seen before.
    Replayed = "replayed", 401;
    /// The key is no device's of this user.
    UnknownDevice = "unknown_device", 401;
    /// The device waits for approval.
    DevicePending = "device_pending", 403;
    /// The device was revoked.
    DeviceRevoked = "device_revoked", 403;
    /// The device's role does not allow this.
    RoleDenied = "role_denied", 403;
    /// No such thing, or not this account's: the two are not told apart.
    NotFound = "not_found", 404;
    /// Something of this name is there already.
    AlreadyExists = "already_exists", 409;
    /// The number was announced before with other bytes.
    NumberTaken = "number_taken", 409;
    /// All session numbers are used up.
    NumbersUsedUp = "numbers_used_up", 409;
    /// The session is unknown or another device's.
    UnknownSession = "unknown_session", 404;
    /// The session has ended.
    NotOpen = "not_open", 409;
    /// The snapshot belongs to another device or session than the one that commits it.
    WrongSession = "wrong_session", 409;
    /// The root is not stored with the length the commit names.
    RootNotStored = "root_not_stored", 409;
    /// What is stored is not what was announced: missing, short, or more.
    ObjectsDiffer = "objects_differ", 409;
    /// The label is too long.
    LabelTooLong = "label_too_long", 400;
    /// The counters moved: fetch the difference and try again.
    CountersMoved = "counters_moved", 409;
    /// The snapshot is held against removal.
    Held = "held", 409;
    /// No such pack, its session was not committed, or it is of a kind this cannot be done to.
    WrongPack = "wrong_pack", 409;
    /// The pack is gone, or going.
    PackGone = "pack_gone", 409;
    /// The pack holds what was moved there.
    InUse = "in_use", 409;
    /// The key envelopes are not those that the caller has seen: somebody else changed them.
    EnvelopesMoved = "envelopes_moved", 409;
    /// The account's quota is used up.
    QuotaExceeded = "quota_exceeded", 403;
    /// The account or bucket belongs to another region than this deployment.
    RegionMismatch = "region_mismatch", 409;
    /// The body does not read or a value is out of range.
    BadRequest = "bad_request", 400;
    /// The body is larger than allowed.
    TooLarge = "too_large", 413;
    /// No such operation.
    NoSuchOperation = "no_such_operation", 404;
    /// Too many calls; `Retry-After` says when.
    TooManyRequests = "too_many_requests", 429;
    /// This server's storage or database cannot be reached now.
    Unavailable = "unavailable", 503;
    /// A fault of the server.
    Internal = "internal", 500;
}

impl Code {
    /// From the word on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

/// The body of every refusal of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiError {
    /// A [`Code`].
    pub code: String,
    /// What happened, for a person.
    pub message: String,
    /// More of it, for a person, where there is more.
    #[serde(default)]
    pub details: Option<String>,
    /// What to do next.
    #[serde(default)]
    pub hint: Option<String>,
}
