//! Logging in: the GoTrue shapes of `/auth/v1`, blocking.
use crate::{Tokens, TransferError};
use backupengine_api::Directory;
use backupengine_api::auth::{Challenge, EnrolledFactor, Secret, Session, User};

/// The client of `/auth/v1` of one deployment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity {}

/// What a login came to.
#[derive(Debug)]
pub enum Login {
    /// A session; `aal1` until a one-time code was verified.
    Session(Box<Session>),
    /// A mail was sent: the address is to be confirmed first.
    Confirm(Box<User>),
}

/// The public file that maps regions to base addresses.
///
/// # Errors
/// [`TransferError`].
pub fn fetch_directory(base: &str) -> Result<Directory, TransferError> {
    let _ = base;
    todo!()
}

#[allow(unused_variables)]
impl Identity {
    /// `base` is the deployment's address: https, or http on loopback.
    ///
    /// # Errors
    /// [`TransferError::BadAddress`], [`TransferError::System`].
    pub fn new(base: &str) -> Result<Self, TransferError> {
        todo!()
    }
    /// Makes an account.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn signup(&self, email: &str, password: &Secret) -> Result<Login, TransferError> {
        todo!()
    }
    /// Logs in by password.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn password(&self, email: &str, password: &Secret) -> Result<Session, TransferError> {
        todo!()
    }
    /// The address a browser opens to log in by a provider (`google`, `azure`, `apple`), PKCE S256.
    ///
    /// # Errors
    /// [`TransferError::BadAddress`].
    pub fn authorize_url(
        &self,
        provider: &str,
        redirect_to: &str,
        challenge: &str,
    ) -> Result<String, TransferError> {
        todo!()
    }
    /// Ends a PKCE flow.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn exchange(&self, code: &Secret, verifier: &Secret) -> Result<Session, TransferError> {
        todo!()
    }
    /// The user with its factors.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn user(&self, access: &Secret) -> Result<User, TransferError> {
        todo!()
    }
    /// Changes the password.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn change_password(
        &self,
        access: &Secret,
        old: &Secret,
        new: &Secret,
    ) -> Result<User, TransferError> {
        todo!()
    }
    /// Ends this login only.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn logout(&self, access: &Secret) -> Result<(), TransferError> {
        todo!()
    }
    /// Begins a TOTP factor.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn enroll_factor(&self, access: &Secret, name: &str) -> Result<EnrolledFactor, TransferError> {
        todo!()
    }
    /// Begins a check of a factor.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn challenge(&self, access: &Secret, factor: &str) -> Result<Challenge, TransferError> {
        todo!()
    }
    /// Challenge and verify over one connection; both again where the address changed in between.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn verify(&self, access: &Secret, factor: &str, code: &Secret) -> Result<Session, TransferError> {
        todo!()
    }
    /// Takes a factor away.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn remove_factor(&self, access: &Secret, factor: &str) -> Result<(), TransferError> {
        todo!()
    }
}

/// What a keeper keeps of a session.
impl From<&Session> for Tokens {
    fn from(session: &Session) -> Self {
        Self {
            access: session.access_token.clone(),
            expires_at: session.expires_at,
            refresh: session.refresh_token.clone(),
        }
    }
}
