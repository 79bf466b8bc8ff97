//! The control-plane contract: what is asked, what is answered, which codes there are, how a request is signed.
//!
//! **What it is.** The types both sides share. `openapi.v1.json` beside it is the same contract for everybody
//! else; `crates/server/API.md` is its text.
//!
//! **What it may not do.** I/O, time, randomness, HTTP libraries, databases. No key and no name of a file has a
//! place in any type here: opaque bytes were sealed by the device.
//!
//! **What always holds.** A request with an unknown field is refused; an answer with one is read. Ids are lower-case
//! hexadecimal digits, opaque bytes standard base64, times whole seconds since 1970 by the server's clock.
//!
//! **Where it is tested.** Below; `tests/server` (golden of the OpenAPI text, every route).
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod auth;
mod code;
mod hex;
mod opaque;
mod operation;
pub mod signature;

mod account;
mod blob;
mod collect;
mod device;
mod retention;
mod session;
mod vault;

pub use account::*;
pub use blob::*;
pub use code::{ApiError, Code};
pub use collect::*;
pub use device::*;
pub use opaque::Opaque;
pub use operation::{Check, OPERATIONS, Operation, OperationInfo, op};
#[cfg(feature = "openapi")]
pub use operation::{SchemaOf, schemas};
pub use retention::*;
pub use session::*;
pub use vault::*;

/// Where operations live: this prefix, then the operation's name.
pub const OPERATIONS_PATH: &str = "/functions/v1/backupengine/";
/// Where identity lives.
pub const AUTH_PATH: &str = "/auth/v1";
/// The public file that maps regions to base addresses.
pub const DIRECTORY_PATH: &str = "/regions.json";
/// Largest body of a request, in bytes.
pub const BODY_MAX: usize = 1 << 20;
/// Most grants one call asks for.
pub const GRANTS_MAX: u32 = 256;
/// How long a grant lives where the server is not told otherwise, in seconds.
pub const GRANT_SECONDS: u32 = 900;

/// Regions and where they are served: the file at [`DIRECTORY_PATH`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Directory {
    /// Region (`us`, `ca`, `eu`) to base address, without a slash at its end.
    pub regions: std::collections::BTreeMap<String, String>,
}
