//! Tokens in memory, for `transfer::Account`.
use super::{Device, DeviceKeys, Session};
use backupengine_api::auth::Secret;
use backupengine_model::DeviceId;
use backupengine_transfer::{Account, AccountConfig, Keeper, Signer, Tokens, TransferError};
use std::any::Any;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Keeps the tokens of one login; clones share them.
#[derive(Clone)]
pub struct MemoryKeeper {
    tokens: Arc<Mutex<Option<Tokens>>>,
    held: Arc<(Mutex<bool>, Condvar)>,
}

impl MemoryKeeper {
    /// Of this login.
    pub fn new(session: &Session) -> Self {
        let tokens = Tokens {
            access: Secret(session.access.clone()),
            expires_at: session.expires_at,
            refresh: Secret(session.refresh.clone()),
        };
        Self { tokens: Arc::new(Mutex::new(Some(tokens))), held: Arc::default() }
    }
}

impl Keeper for MemoryKeeper {
    fn load(&self) -> Result<Option<Tokens>, TransferError> {
        Ok(self.tokens.lock().unwrap().clone())
    }
    fn save(&self, tokens: &Tokens) -> Result<(), TransferError> {
        *self.tokens.lock().unwrap() = Some(tokens.clone());
        Ok(())
    }
    fn clear(&self) -> Result<(), TransferError> {
        *self.tokens.lock().unwrap() = None;
        Ok(())
    }
    fn lock(&self) -> Result<Box<dyn Any + Send>, TransferError> {
        let (held, freed) = &*self.held;
        let mut held = freed.wait_while(held.lock().unwrap(), |held| *held).unwrap();
        *held = true;
        Ok(Box::new(Held(Arc::clone(&self.held))))
    }
}

struct Held(Arc<(Mutex<bool>, Condvar)>);

impl Drop for Held {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap() = false;
        self.0.1.notify_one();
    }
}

impl Signer for DeviceKeys {
    fn sign_public(&self) -> [u8; 32] {
        Self::sign_public(self)
    }
    fn seal_public(&self) -> [u8; 32] {
        Self::seal_public(self)
    }
    fn seal_signature(&self) -> [u8; 64] {
        self.device_key().sign_seal_key(&Self::seal_public(self))
    }
    fn device(&self) -> DeviceId {
        Self::device(self)
    }
    fn sign(&self, base: &[u8]) -> [u8; 64] {
        Self::sign(self, base)
    }
}

impl Device<'_> {
    /// The real client of this device, on the same login.
    pub fn account(&self) -> Account {
        self.account_with(MemoryKeeper::new(&self.session))
    }

    /// The same with a keeper that the test looks into.
    pub fn account_with(&self, keeper: MemoryKeeper) -> Account {
        self.account_within(keeper, Duration::from_secs(60))
    }

    /// The same, whose calls may take so long.
    pub fn account_within(&self, keeper: MemoryKeeper, timeout: Duration) -> Account {
        let config = AccountConfig { base: self.server.base().to_owned(), timeout };
        Account::new(config, Arc::new(self.keys.clone()), Arc::new(keeper)).unwrap()
    }
}
