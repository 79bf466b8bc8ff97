//! Logging in: the GoTrue shapes of `/auth/v1`, blocking.
//!
//! What always holds: a call that may have been done is not repeated, but for the refresh, whose token may be used
//! twice within the server's window. Tested below and in `tests/server`.
use crate::backoff::pause;
use crate::http::{Base, Failed, client, send};
use crate::runtime::wait;
use crate::{Tokens, TransferError};
use backupengine_api::auth::{
    Challenge, Credentials, EnrollFactor, EnrolledFactor, Exchange, Refresh, Secret, Session, User,
    VerifyFactor,
};
use backupengine_api::{AUTH_PATH, DIRECTORY_PATH, Directory};
use bytes::Bytes;
use reqwest::{Client, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};

/// How long one call may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How often a call that certainly did not arrive is tried.
const TRIES: u32 = 3;

/// The client of `/auth/v1` of one deployment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(crate) base: Base,
    http: Client,
}

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
    let identity = Identity::new(base)?;
    wait(async move {
        let request =
            Asked { method: Method::GET, path: DIRECTORY_PATH.to_owned(), bearer: None, body: None };
        identity.read(&request, true).await
    })
}

/// One call.
struct Asked {
    method: Method,
    /// From the root of the deployment on.
    path: String,
    bearer: Option<Secret>,
    body: Option<Vec<u8>>,
}

impl Asked {
    fn new(method: Method, path: &str) -> Self {
        Self { method, path: format!("{AUTH_PATH}{path}"), bearer: None, body: None }
    }
    fn by(mut self, access: &Secret) -> Self {
        self.bearer = Some(access.clone());
        self
    }
    fn with(mut self, body: &impl Serialize) -> Result<Self, TransferError> {
        let bytes = serde_json::to_vec(body);
        self.body =
            Some(bytes.map_err(|_| TransferError::System("a request could not be written".to_owned()))?);
        Ok(self)
    }
}

impl Identity {
    /// `base` is the deployment's address: https, or http on loopback.
    ///
    /// # Errors
    /// [`TransferError::BadAddress`], [`TransferError::System`].
    pub fn new(base: &str) -> Result<Self, TransferError> {
        Ok(Self { base: Base::parse(base)?, http: client()? })
    }

    async fn once(&self, asked: &Asked) -> Result<Bytes, Failed> {
        let mut request = self.http.request(asked.method.clone(), format!("{}{}", self.base.url, asked.path));
        request = request.header("x-supabase-api-version", "2024-01-01");
        if let Some(access) = &asked.bearer {
            request = request.bearer_auth(&access.0);
        }
        if let Some(body) = &asked.body {
            request = request.header("content-type", "application/json").body(body.clone());
        }
        send(request, LIMIT).await.map(|(_, body)| body)
    }

    /// `harmless` calls are repeated whatever happened to them, others only where they were never received.
    async fn repeated(&self, asked: &Asked, harmless: bool) -> Result<Bytes, TransferError> {
        let begun = Instant::now();
        let mut tries = 0;
        loop {
            let failed = match self.once(asked).await {
                Ok(body) => return Ok(body),
                Err(failed) => failed,
            };
            tries += 1;
            let again = matches!(failed, Failed::Broken(_, true)) || (harmless && failed.may_pass());
            // Nobody is made to wait for minutes before they hear why.
            let asked_for = failed.retry_after().unwrap_or_default();
            if !again || tries == TRIES || begun.elapsed() + asked_for > LIMIT {
                return Err(failed.tell(&self.base));
            }
            tokio::time::sleep(pause(tries, failed.retry_after())).await;
        }
    }

    async fn read<T: DeserializeOwned>(&self, asked: &Asked, harmless: bool) -> Result<T, TransferError> {
        let body = self.repeated(asked, harmless).await?;
        serde_json::from_slice(&body).map_err(|error| TransferError::BadAnswer {
            host: self.base.authority.clone(),
            // Line and column only: the text of the error may hold a token.
            what: format!("{} at line {}, column {}", asked.path, error.line(), error.column()),
        })
    }

    fn ask<T: DeserializeOwned + Send + 'static>(
        &self,
        asked: Asked,
        harmless: bool,
    ) -> Result<T, TransferError> {
        let own = self.clone();
        wait(async move { own.read(&asked, harmless).await })
    }

    /// Makes an account.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn signup(&self, email: &str, password: &Secret) -> Result<Login, TransferError> {
        let asked = Asked::new(Method::POST, "/signup").with(&credentials(email, password))?;
        let answer: serde_json::Value = self.ask(asked, false)?;
        let unreadable = |_| TransferError::BadAnswer {
            host: self.base.authority.clone(),
            what: "neither a session nor a user".to_owned(),
        };
        if answer.get("access_token").is_some() {
            return serde_json::from_value(answer).map(Login::Session).map_err(unreadable);
        }
        serde_json::from_value(answer).map(Login::Confirm).map_err(unreadable)
    }

    /// Logs in by password.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn password(&self, email: &str, password: &Secret) -> Result<Session, TransferError> {
        let asked =
            Asked::new(Method::POST, "/token?grant_type=password").with(&credentials(email, password))?;
        self.ask(asked, false)
    }

    /// Whether the server offers a login by this provider.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn offers(&self, provider: &str) -> Result<bool, TransferError> {
        let settings: serde_json::Value = self.ask(Asked::new(Method::GET, "/settings"), true)?;
        Ok(settings["external"][provider] == true)
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
        let url = url::Url::parse_with_params(
            &format!("{}{AUTH_PATH}/authorize", self.base.url),
            [
                ("provider", provider),
                ("redirect_to", redirect_to),
                ("code_challenge", challenge),
                ("code_challenge_method", "s256"),
            ],
        );
        url.map(String::from).map_err(|_| TransferError::BadAddress("no address to log in at".to_owned()))
    }

    /// Ends a PKCE flow.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn exchange(&self, code: &Secret, verifier: &Secret) -> Result<Session, TransferError> {
        let body = Exchange { auth_code: code.clone(), code_verifier: verifier.clone() };
        self.ask(Asked::new(Method::POST, "/token?grant_type=pkce").with(&body)?, false)
    }

    /// New tokens for old ones; repeated where the answer was lost.
    pub(crate) async fn refresh(&self, refresh: &Secret) -> Result<Session, TransferError> {
        let body = Refresh { refresh_token: refresh.clone() };
        self.read(&Asked::new(Method::POST, "/token?grant_type=refresh_token").with(&body)?, true).await
    }

    /// The user with its factors.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn user(&self, access: &Secret) -> Result<User, TransferError> {
        self.ask(Asked::new(Method::GET, "/user").by(access), true)
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
        let body = serde_json::json!({"password": new, "current_password": old});
        self.ask(Asked::new(Method::PUT, "/user").by(access).with(&body)?, false)
    }

    /// Ends this login only.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn logout(&self, access: &Secret) -> Result<(), TransferError> {
        let own = self.clone();
        let asked = Asked::new(Method::POST, "/logout?scope=local").by(access);
        wait(async move { own.repeated(&asked, true).await.map(drop) })
    }

    /// Begins a TOTP factor.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn enroll_factor(&self, access: &Secret, name: &str) -> Result<EnrolledFactor, TransferError> {
        let body = EnrollFactor {
            factor_type: "totp".to_owned(),
            friendly_name: Some(name.to_owned()),
            issuer: Some("backupengine".to_owned()),
        };
        self.ask(Asked::new(Method::POST, "/factors").by(access).with(&body)?, false)
    }

    /// Begins a check of a factor.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn challenge(&self, access: &Secret, factor: &str) -> Result<Challenge, TransferError> {
        self.ask(Asked::new(Method::POST, &format!("/factors/{factor}/challenge")).by(access), true)
    }

    /// Challenge and verify over one connection; both again where the address changed in between.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn verify(&self, access: &Secret, factor: &str, code: &Secret) -> Result<Session, TransferError> {
        let once = || {
            let challenge_id = self.challenge(access, factor)?.id;
            let body = VerifyFactor { challenge_id, code: code.clone() };
            let path = format!("/factors/{factor}/verify");
            self.ask(Asked::new(Method::POST, &path).by(access).with(&body)?, false)
        };
        match once() {
            Err(TransferError::Refused(refusal)) if refusal.code == "mfa_ip_address_mismatch" => once(),
            other => other,
        }
    }

    /// Takes a factor away.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn remove_factor(&self, access: &Secret, factor: &str) -> Result<(), TransferError> {
        let own = self.clone();
        let asked = Asked::new(Method::DELETE, &format!("/factors/{factor}")).by(access);
        wait(async move { own.repeated(&asked, false).await.map(drop) })
    }
}

fn credentials(email: &str, password: &Secret) -> Credentials {
    Credentials {
        email: email.to_owned(),
        password: password.clone(),
        code_challenge: None,
        code_challenge_method: None,
        data: None,
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
