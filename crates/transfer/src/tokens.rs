//! Fresh tokens: one refresh at a time per account, over threads and processes.
//!
//! What always holds: the new tokens are durable before they are used; nobody refreshes while another holds the
//! keeper's lock; a token that somebody else renewed meanwhile is taken. Tested in this crate's tests.
use crate::clock::Clock;
use crate::identity::Identity;
use crate::{Keeper, Tokens, TransferError};
use backupengine_api::auth::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

/// Codes that say a login is over.
const OVER: &[&str] = &[
    "refresh_token_not_found",
    "refresh_token_already_used",
    "session_not_found",
    "session_expired",
    "user_not_found",
];

pub(crate) struct TokenSource {
    identity: Identity,
    keeper: Arc<dyn Keeper>,
    clock: Arc<Clock>,
    kept: Mutex<Option<Tokens>>,
}

impl TokenSource {
    pub(crate) fn new(identity: Identity, keeper: Arc<dyn Keeper>, clock: Arc<Clock>) -> Self {
        Self { identity, keeper, clock, kept: Mutex::new(None) }
    }

    /// An access token that is good for now; another one than `refused`, which the server did not take.
    pub(crate) async fn access(&self, refused: Option<&Secret>) -> Result<Secret, TransferError> {
        // Held while refreshing: other threads want the same.
        let mut kept = self.kept.lock().await;
        if let Some(tokens) = kept.as_ref().filter(|tokens| self.is_good(tokens, refused)) {
            return Ok(tokens.access.clone());
        }
        let stored = self.load().await?;
        if self.is_good(&stored, refused) {
            return Ok(kept.insert(stored).access.clone());
        }
        let keeper = Arc::clone(&self.keeper);
        let lock = blocking(move || keeper.lock()).await?;
        // Somebody may have been faster.
        let mut tokens = self.load().await?;
        if !self.is_good(&tokens, refused) {
            let session = self.identity.refresh(&tokens.refresh).await.map_err(|error| self.over(error))?;
            tokens = Tokens::from(&session);
            let (keeper, new) = (Arc::clone(&self.keeper), tokens.clone());
            blocking(move || keeper.save(&new)).await?;
            tracing::debug!("the login was renewed");
        }
        drop(lock);
        Ok(kept.insert(tokens).access.clone())
    }

    /// Takes what the keeper has from now on: the login was confirmed anew.
    pub(crate) async fn renew(&self) {
        *self.kept.lock().await = None;
    }

    async fn load(&self) -> Result<Tokens, TransferError> {
        let keeper = Arc::clone(&self.keeper);
        let found = blocking(move || keeper.load()).await?;
        found.ok_or_else(|| TransferError::NotLoggedIn { host: self.identity.base.authority.clone() })
    }

    fn is_good(&self, tokens: &Tokens, refused: Option<&Secret>) -> bool {
        refused != Some(&tokens.access) && self.clock.now() < tokens.expires_at - margin(tokens)
    }

    fn over(&self, error: TransferError) -> TransferError {
        match error {
            TransferError::Refused(refusal) if OVER.contains(&refusal.code.as_str()) => {
                TransferError::NotLoggedIn { host: self.identity.base.authority.clone() }
            }
            other => other,
        }
    }
}

/// How long before its end a token is renewed: a minute, or a tenth of a short life, in seconds.
fn margin(tokens: &Tokens) -> i64 {
    let issued = || {
        let payload = URL_SAFE_NO_PAD.decode(tokens.access.0.split('.').nth(1)?).ok()?;
        serde_json::from_slice::<serde_json::Value>(&payload).ok()?.get("iat")?.as_i64()
    };
    issued().map_or(60, |issued| (tokens.expires_at.saturating_sub(issued) / 10).clamp(0, 60))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TransferError> + Send + 'static,
) -> Result<T, TransferError> {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(TransferError::System("the keeper of the login broke off".to_owned())))
}
