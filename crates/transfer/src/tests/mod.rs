//! The client against a server that answers by a script: what is repeated, what is not, and how often.
//!
//! Requests are counted. Every error is printed in every way and searched for what must not stand there.
mod account;
mod get;
mod put;
mod scripted;
mod tokens;

use crate::{Account, AccountConfig, Keeper, PresignedConfig, PresignedStore, Signer, Tokens, TransferError};
use backupengine_api::auth::Secret;
use backupengine_api::{ApiError, Code};
use backupengine_model::{DeviceId, VaultId};
use scripted::{Reply, Seen, answer};
use serde_json::{Value, json};
use std::any::Any;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// Stands in every secret of these tests.
const SECRET: &str = "hunter2";
const VAULT: VaultId = VaultId([0x11; 16]);
const DEVICE: DeviceId = DeviceId([0x22; 16]);

/// What a person and a log see of an error; panics where a secret is in it.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = format!("{error:?}");
    let mut next = Some(error);
    while let Some(error) = next {
        text.push_str(&format!(" | {error} | {error:?}"));
        next = error.source();
    }
    assert!(!text.contains(SECRET), "a secret is in an error");
    text
}

fn seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// Signs with rubbish: nobody verifies here.
struct Rubbish;

impl Signer for Rubbish {
    fn sign_public(&self) -> [u8; 32] {
        [3; 32]
    }
    fn seal_public(&self) -> [u8; 32] {
        [4; 32]
    }
    fn seal_signature(&self) -> [u8; 64] {
        [6; 64]
    }
    fn device(&self) -> DeviceId {
        DEVICE
    }
    fn sign(&self, _base: &[u8]) -> [u8; 64] {
        [5; 64]
    }
}

fn tokens(name: &str, expires_at: i64) -> Tokens {
    let secret = |kind| Secret(format!("{SECRET}-{kind}-{name}"));
    Tokens { access: secret("access"), expires_at, refresh: secret("refresh") }
}

/// Remembers what was done with it, in order.
#[derive(Clone)]
struct Noted {
    tokens: Arc<Mutex<Option<Tokens>>>,
    log: Arc<Mutex<Vec<String>>>,
    full: bool,
}

impl Noted {
    fn with(tokens: Option<Tokens>) -> Self {
        Self { tokens: Arc::new(Mutex::new(tokens)), log: Arc::default(), full: false }
    }
    /// Tokens that are good for an hour.
    fn good() -> Self {
        Self::with(Some(tokens("old", seconds() + 3600)))
    }
    fn note(&self, what: &str) {
        self.log.lock().unwrap().push(what.to_owned());
    }
    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

impl Keeper for Noted {
    fn load(&self) -> Result<Option<Tokens>, TransferError> {
        Ok(self.tokens.lock().unwrap().clone())
    }
    fn save(&self, tokens: &Tokens) -> Result<(), TransferError> {
        if self.full {
            return Err(TransferError::Keeper("no room".to_owned()));
        }
        self.note("save");
        *self.tokens.lock().unwrap() = Some(tokens.clone());
        Ok(())
    }
    fn clear(&self) -> Result<(), TransferError> {
        *self.tokens.lock().unwrap() = None;
        Ok(())
    }
    fn lock(&self) -> Result<Box<dyn Any + Send>, TransferError> {
        self.note("lock");
        Ok(Box::new(Unlock(self.clone())))
    }
}

struct Unlock(Noted);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.note("unlock");
    }
}

fn account_at(base: &str, keeper: &Noted, timeout: Duration) -> Account {
    let config = AccountConfig { base: base.to_owned(), timeout };
    Account::new(config, Arc::new(Rubbish), Arc::new(keeper.clone())).unwrap()
}

fn account(base: &str) -> Account {
    account_at(base, &Noted::good(), Duration::from_secs(20))
}

fn store(base: &str, tries: u32) -> (TempDir, PresignedStore) {
    store_with(base, tries, Duration::from_secs(5))
}

fn store_with(base: &str, tries: u32, timeout: Duration) -> (TempDir, PresignedStore) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = PresignedConfig::new(folder.path().join("spools"));
    config.tries = tries;
    config.timeout = timeout;
    let store = PresignedStore::open(&account(base), config).unwrap();
    (folder, store)
}

fn refused(code: Code) -> Reply {
    refused_with(code, &[])
}

fn refused_with(code: Code, headers: &[(&str, &str)]) -> Reply {
    let (code, status) = (code.as_str().to_owned(), code.status());
    let error = ApiError { code, message: "no".to_owned(), details: None, hint: Some("ask".to_owned()) };
    answer(status, headers, &serde_json::to_vec(&error).unwrap())
}

fn yes(body: &Value) -> Reply {
    answer(200, &[("content-type", "application/json")], body.to_string().as_bytes())
}

/// A session as the refresh gives it.
fn session(name: &str) -> Value {
    let tokens = tokens(name, seconds() + 3600);
    json!({
        "access_token": tokens.access, "refresh_token": tokens.refresh, "expires_at": tokens.expires_at,
        "token_type": "bearer", "expires_in": 3600, "user": {"id": "u"},
    })
}

/// The answer to `usage`, the call most tests make.
fn usage() -> Reply {
    yes(&json!({"used": 1, "reserved": 0, "region": "eu", "devices": 1, "snapshots": 0, "now": seconds()}))
}

/// A grant's address, a secret.
fn grant(seen: &Seen, name: &str) -> String {
    format!("{}/bucket/{name}?X-Amz-Signature={SECRET}", seen.base)
}

/// A grant to read pack 0 of session 1.
fn pack_grant(url: &str) -> Value {
    json!({"kind": "pack", "session": 1, "number": 0, "state": "here", "url": url})
}

/// The answer to `mount`, with these grants.
fn mounted(grants: &[Value]) -> Reply {
    yes(&json!({
        "vault": {"vault": VAULT.to_string(), "root_public": "", "created": 1, "region": "eu", "version": 1,
            "gc_epoch": 0, "used": 0},
        "envelopes": [], "role": "owner", "device": DEVICE.to_string(),
        "snapshots": {"version": 1, "snapshots": [], "more": false},
        "lease": {"id": "lease", "expires": seconds() + 900},
        "grants": grants, "grant_seconds": 900, "now": seconds(),
    }))
}

/// The answer to `urls`: pack 0 of session 1, here.
fn urls(seen: &Seen) -> Reply {
    let grants = [pack_grant(&grant(seen, "again"))];
    yes(&json!({"grants": grants, "grant_seconds": 900, "now": seconds()}))
}
