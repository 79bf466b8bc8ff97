//! The control plane as one device of an account sees it: every call signed, tokens kept fresh.
//!
//! What always holds: each try has a nonce of its own and the same body, so that what was done is not done twice; a
//! refusal is final, but for one renewal of the token and one correction of the clock. Tested in this crate's
//! tests and in `tests/server`.
use crate::backoff::pause;
use crate::clock::Clock;
use crate::http::{Base, Failed, client, send};
use crate::reach::Reach;
use crate::runtime::wait;
use crate::tokens::TokenSource;
use crate::{Identity, Keeper, Signer, TransferError};
use backupengine_api::auth::Secret;
use backupengine_api::signature::{self, LIFE_SECONDS, Message, Params};
use backupengine_api::{Code, OPERATIONS_PATH, Operation};
use backupengine_model::DeviceId;
use bytes::Bytes;
use reqwest::Client;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a server is tried that was not reached once: somebody sits before it. One that was heard may be
/// starting anew, and gets all the time.
const UNHEARD: Duration = Duration::from_secs(3);
/// Calls that are remembered.
const CALLS: usize = 1000;

/// How to reach it.
#[derive(Clone, Debug)]
pub struct AccountConfig {
    /// The deployment's address: https, or http on loopback.
    pub base: String,
    /// How long a call may take, tries included.
    pub timeout: Duration,
}

/// The control plane, called by one device. Cheap to clone; blocking calls from any thread.
#[derive(Clone)]
pub struct Account {
    inner: Arc<Inner>,
}

struct Inner {
    base: Base,
    timeout: Duration,
    http: Client,
    identity: Identity,
    signer: Arc<dyn Signer>,
    clock: Arc<Clock>,
    tokens: TokenSource,
    calls: Mutex<VecDeque<&'static str>>,
    /// Whether the server was ever heard.
    heard: AtomicBool,
    reach: Reach,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({} at {})", self.device(), self.inner.base.authority)
    }
}

impl Account {
    /// Calls nobody yet.
    ///
    /// # Errors
    /// [`TransferError::BadAddress`], [`TransferError::System`].
    pub fn new(
        config: AccountConfig,
        signer: Arc<dyn Signer>,
        keeper: Arc<dyn Keeper>,
    ) -> Result<Self, TransferError> {
        let identity = Identity::new(&config.base)?;
        let clock = Arc::new(Clock::default());
        let tokens = TokenSource::new(identity.clone(), keeper, Arc::clone(&clock));
        let base = identity.base.clone();
        let (http, calls) = (client()?, Mutex::default());
        let inner = Inner {
            base,
            timeout: config.timeout,
            http,
            identity,
            signer,
            clock,
            tokens,
            calls,
            heard: AtomicBool::new(false),
            reach: Reach::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The client of `/auth/v1` beside it.
    pub fn identity(&self) -> Identity {
        self.inner.identity.clone()
    }

    /// The device that calls.
    pub fn device(&self) -> DeviceId {
        self.inner.signer.device()
    }

    /// Host and port, for people.
    pub fn host(&self) -> &str {
        &self.inner.base.authority
    }

    /// One operation, waited for on the calling thread.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn call<O: Operation>(&self, request: &O::Request) -> Result<O::Answer, TransferError>
    where
        O::Answer: 'static,
    {
        let (own, body) = (self.clone(), body::<O>(request)?);
        wait(async move { own.answer::<O>(body).await })
    }

    /// One operation, to be awaited on this crate's runtime.
    pub(crate) async fn ask<O: Operation>(&self, request: &O::Request) -> Result<O::Answer, TransferError> {
        self.answer::<O>(body::<O>(request)?).await
    }

    async fn answer<O: Operation>(&self, body: Vec<u8>) -> Result<O::Answer, TransferError> {
        let bytes = self.inner.repeated(O::NAME, &body).await?;
        serde_json::from_slice(&bytes).map_err(|error| TransferError::BadAnswer {
            host: self.inner.base.authority.clone(),
            // Line and column only: the text of the error may hold a grant.
            what: format!("{} at line {}, column {}", O::NAME, error.line(), error.column()),
        })
    }

    /// A token that is good for now; refreshed if need be.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn access_token(&self) -> Result<Secret, TransferError> {
        let own = self.clone();
        wait(async move { own.inner.tokens.access(None).await })
    }

    /// Calls with the tokens that the keeper has from now on: the login was confirmed anew.
    ///
    /// # Errors
    /// [`TransferError::System`].
    pub fn renew(&self) -> Result<(), TransferError> {
        let own = self.clone();
        wait(async move {
            own.inner.tokens.renew().await;
            Ok(())
        })
    }

    /// When it first did not answer, where it has not answered since.
    pub fn away_since(&self) -> Option<Instant> {
        self.inner.reach.away_since()
    }

    /// The last thousand calls of operations, by name, tries included: tests count round trips.
    pub fn calls(&self) -> Vec<&'static str> {
        self.inner.calls.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

fn body<O: Operation>(request: &O::Request) -> Result<Vec<u8>, TransferError> {
    serde_json::to_vec(request)
        .map_err(|_| TransferError::System(format!("{} could not be written", O::NAME)))
}

impl Inner {
    async fn repeated(&self, op: &'static str, body: &[u8]) -> Result<Bytes, TransferError> {
        let begun = Instant::now();
        let mut access = self.tokens.access(None).await?;
        let (mut renewed, mut corrected, mut tries) = (false, false, 0);
        loop {
            let left = self.timeout.saturating_sub(begun.elapsed());
            let failed = match self.once(op, body, &access, left).await {
                Ok(answer) => {
                    self.reach.learn(true);
                    self.heard.store(true, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(failed) => failed,
            };
            self.reach.learn(!failed.may_pass());
            let code = match &failed {
                Failed::Refused(refusal, _) => refusal.known(),
                _ => None,
            };
            match (code, &failed) {
                (Some(Code::TokenExpired | Code::BadToken), _) if !renewed => {
                    renewed = true;
                    access = self.tokens.access(Some(&access)).await?;
                    continue;
                }
                (Some(Code::ClockSkew), Failed::Refused(_, headers)) if !corrected => {
                    corrected = true;
                    let date = headers.get("date").and_then(|value| value.to_str().ok());
                    if date.is_some_and(|date| self.clock.learn(date)) {
                        continue;
                    }
                }
                (Some(Code::SessionEnded), _) => {
                    return Err(TransferError::NotLoggedIn { host: self.base.authority.clone() });
                }
                _ => {}
            }
            tries += 1;
            let pause = pause(tries, failed.retry_after());
            let heard = self.heard.load(Ordering::Relaxed) || !matches!(failed, Failed::Broken(_, true));
            let patience = if heard { self.timeout } else { self.timeout.min(UNHEARD) };
            if !failed.may_pass() || begun.elapsed() + pause >= patience {
                return Err(failed.tell(&self.base));
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn count(&self, op: &'static str) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() == CALLS {
            calls.pop_front();
        }
        calls.push_back(op);
    }

    async fn once(
        &self,
        op: &'static str,
        body: &[u8],
        access: &Secret,
        left: Duration,
    ) -> Result<Bytes, Failed> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|_| Failed::Unreadable("this system gives no randomness"))?;
        let created = self.clock.now();
        let key = signature::key_id(&self.signer.sign_public());
        let params = Params { created, expires: created + LIFE_SECONDS, nonce, key };
        let path = format!("{OPERATIONS_PATH}{op}");
        let authorization = format!("Bearer {}", access.0);
        let message = Message {
            method: "POST",
            authority: &self.base.authority,
            path: &path,
            query: "",
            body,
            authorization: &authorization,
        };
        let signed = signature::sign(&message, &params, |base| self.signer.sign(base));
        let request = self
            .http
            .post(format!("{}{path}", self.base.url))
            .header("content-type", "application/json")
            .header("authorization", authorization)
            .header("content-digest", signed.content_digest)
            .header("signature-input", signed.signature_input)
            .header("signature", signed.signature)
            .body(body.to_vec());
        self.count(op);
        send(request, left.max(Duration::from_secs(1))).await.map(|(_, body)| body)
    }
}
