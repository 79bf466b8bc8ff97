//! `check-storage`: tries what the store honours, on objects of its own that it cannot mistake for a vault's.
use crate::ServerError;
use crate::config::{Profile, Storage};

/// Runs every case of control-plane.md 8.
///
/// # Errors
/// [`ServerError::Storage`] where a promise without which nothing is safe does not hold.
pub async fn probe(storage: &Storage) -> Result<Profile, ServerError> {
    let _ = storage;
    todo!()
}
