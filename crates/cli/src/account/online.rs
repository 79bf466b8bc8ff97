//! An account as one of its devices calls it.
//!
//! **What it may not do.** Decide what a device may do: the server does.
//! **What always holds.** New tokens are durable before they are used; a step that wants a fresh one-time code gets
//! one, once.
//! **Where it is tested.** `tests/cli`.

use crate::account::keeper::Kept;
use crate::account::{Account, CodeSource, Keys};
use crate::error::{Failure, Kind};
use crate::keychain::{hex, random};
use crate::output::shown;
use backupengine_api::auth::Session;
use backupengine_api::{Code, DeviceListed, Empty, Opaque, Operation, op};
use backupengine_model::{DeviceId, SessionNo};
use backupengine_seal::Keyring;
use backupengine_transfer::{
    Account as Calls, AccountConfig, Identity, Keeper, PresignedConfig, PresignedStore, Tokens, TransferError,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long one call may take, tries included.
const CALL: Duration = Duration::from_secs(60);

/// How old the list of snapshots may be: an idle mount asks no more often.
const FRESH: Duration = Duration::from_secs(10);

/// An account, its keys, and the line to it.
pub(crate) struct Online {
    pub(crate) account: Account,
    pub(crate) keys: Arc<Keys>,
    calls: Calls,
}

impl Online {
    /// With the keys that are kept.
    ///
    /// # Errors
    /// `Denied` where this device has none.
    pub(crate) fn open(account: Account) -> Result<Self, Failure> {
        let keys = Keys::load(&account.secrets)?.ok_or_else(|| {
            Failure::new(Kind::Denied, format!("this device is none of the account at {}", account.host()))
                .hint(format!("log in: backupengine login --server {}", account.profile.base))
        })?;
        Self::with(account, Arc::new(keys))
    }

    /// With these keys.
    ///
    /// # Errors
    /// An address that may not be called.
    pub(crate) fn with(account: Account, keys: Arc<Keys>) -> Result<Self, Failure> {
        let calls = connect(&account, &keys)?;
        Ok(Self { account, keys, calls })
    }

    /// The client of identity.
    pub(crate) fn identity(&self) -> Identity {
        self.calls.identity()
    }

    /// One operation.
    ///
    /// # Errors
    /// What the server says, or that it is not reached.
    pub(crate) fn call<O: Operation<Answer: 'static>>(
        &self,
        request: &O::Request,
    ) -> Result<O::Answer, TransferError> {
        self.calls.call::<O>(request)
    }

    /// One operation that may want a fresh one-time code: asked for where it does.
    ///
    /// # Errors
    /// See [`Online::call`].
    pub(crate) fn call_fresh<O: Operation<Answer: 'static>>(
        &mut self,
        codes: &CodeSource<'_>,
        request: &O::Request,
    ) -> Result<O::Answer, Failure> {
        match self.call::<O>(request) {
            Err(TransferError::Refused(refusal)) if refusal.known() == Some(Code::FreshTotpRequired) => {
                crate::output::tell("This needs a fresh one-time code.");
                self.verify_again(codes)?;
                Ok(self.call::<O>(request)?)
            }
            other => Ok(other?),
        }
    }

    /// Confirms this login once more.
    ///
    /// # Errors
    /// A wrong code; no factor.
    pub(crate) fn verify_again(&mut self, codes: &CodeSource<'_>) -> Result<(), Failure> {
        let access = self.calls.access_token()?;
        let identity = self.identity();
        let user = identity.user(&access)?;
        let factor = user.factors.iter().find(|factor| factor.status == "verified").ok_or_else(|| {
            Failure::new(Kind::Denied, "the account has no second factor".to_owned())
                .hint("log in anew: backupengine login")
        })?;
        let session = codes.verify(&identity, &access, &factor.id, None)?;
        self.keep(&session)
    }

    /// Keeps a new login, and calls with it from now on.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub(crate) fn keep(&mut self, session: &Session) -> Result<(), Failure> {
        let kept = kept(&self.account);
        let lock = kept.lock()?;
        kept.save(&Tokens::from(session))?;
        drop(lock);
        self.calls = connect(&self.account, &self.keys)?;
        Ok(())
    }

    /// A token that is good for now.
    ///
    /// # Errors
    /// Where nobody is logged in.
    pub(crate) fn access(&self) -> Result<backupengine_api::auth::Secret, Failure> {
        Ok(self.calls.access_token()?)
    }

    /// All devices that this one may see.
    ///
    /// # Errors
    /// See [`Online::call`].
    pub(crate) fn devices(&self) -> Result<DeviceListed, TransferError> {
        self.call::<op::DeviceList>(&Empty {})
    }

    /// The account's vault as a store.
    ///
    /// # Errors
    /// `Denied` where this device waits or was revoked; where there is no vault yet.
    pub(crate) fn store(&self, cache: &Path) -> Result<PresignedStore, Failure> {
        let spools = cache.join(self.account.folder().file_name().unwrap_or_default()).join("spools");
        let config = PresignedConfig { fresh: FRESH, ..PresignedConfig::new(spools) };
        PresignedStore::open(&self.calls, config).map_err(|error| match error {
            TransferError::Refused(refusal) if refusal.known() == Some(Code::NotFound) => self.no_vault(),
            other => other.into(),
        })
    }

    /// That the server knows no vault of this account: none was made yet, or the server lost what it knew.
    pub(crate) fn no_vault(&self) -> Failure {
        let host = self.account.host();
        let Ok(Some(device)) = self.account.device() else {
            return Failure::new(Kind::Failed, format!("the account at {host} has no vault yet"))
                .hint("make it: backupengine init");
        };
        let (vault, email) = (device.certificate.vault, &self.account.profile.email);
        let place = self.account.folder().join("vault.json");
        let text = format!(
            "the server at {host} knows nothing of the vault {vault}, of which this device has the keys"
        );
        Failure::new(Kind::Failed, text)
            .hint(format!(
                "if its database was lost, whoever runs it registers the vault again from the bucket: \
                 backupengine-server rebuild {vault} {}",
                shown(email.as_bytes())
            ))
            .hint(format!(
                "to make another vault all the same, move {} away and run: backupengine init",
                place.display()
            ))
    }
}

fn kept(account: &Account) -> Kept {
    Kept::new(account.secrets.clone(), account.folder().to_owned())
}

fn connect(account: &Account, keys: &Arc<Keys>) -> Result<Calls, Failure> {
    let config = AccountConfig { base: account.profile.base.clone(), timeout: CALL };
    Ok(Calls::new(config, keys.clone(), Arc::new(kept(account)))?)
}

/// A word of one's own for a call that changes something.
///
/// # Errors
/// When the system gives no randomness.
pub(crate) fn idem() -> Result<String, Failure> {
    Ok(hex(&random::<16>()?))
}

/// Session numbers begin at 1: names of devices are sealed under 0, so that none passes for a snapshot's label.
const NAMES: SessionNo = SessionNo(0);
/// Longest name, in bytes.
const NAME_MAX: usize = 400;

/// A device's name, sealed and bound to the device.
///
/// # Errors
/// When the system gives no randomness.
pub(crate) fn seal_name(keyring: &Keyring, device: DeviceId, name: &str) -> Result<Opaque, Failure> {
    let name = &name.as_bytes()[..name.floor_char_boundary(NAME_MAX)];
    Ok(Opaque(keyring.seal_label(NAMES, random()?, &[&device.0, name].concat())))
}

/// What [`seal_name`] sealed; `None` where it is another device's or no name.
pub(crate) fn name_of(keyring: &Keyring, device: DeviceId, sealed: &Opaque) -> Option<String> {
    let plain = keyring.open_label(NAMES, &sealed.0).ok()?;
    let name = plain.strip_prefix(&device.0)?;
    String::from_utf8(name.to_vec()).ok()
}
