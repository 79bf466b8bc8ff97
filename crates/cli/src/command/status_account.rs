//! What `status` says of an account: who, in which role, how much of the quota, where the keys rest.
use crate::account::{Online, shown};
use crate::error::Failure;
use crate::output;
use crate::time;
use backupengine_api::{Empty, RetireAlarm, op};
use backupengine_model::Timestamp;
use backupengine_seal::vault_fingerprint;
use backupengine_transfer::PresignedStore;
use backupengine_vault::Vault;
use serde_json::{Map, Value};

/// What the server says of the account, and where its keys rest here.
pub(crate) struct Of {
    server: String,
    email: String,
    region: String,
    role: String,
    keychain: crate::secrets::Keychain,
    folder: String,
    fingerprint: String,
    pub(crate) used: u64,
    reserved: u64,
    pub(crate) quota: Option<u64>,
    alarm: Option<RetireAlarm>,
}

impl Of {
    /// Asks.
    ///
    /// # Errors
    /// What the server says.
    pub(crate) fn ask(online: &Online, store: &PresignedStore, vault: &Vault) -> Result<Self, Failure> {
        let usage = online.call::<op::Usage>(&Empty {})?;
        let profile = &online.account.profile;
        Ok(Self {
            server: profile.base.clone(),
            email: profile.email.clone(),
            region: usage.region,
            role: store.mounted().role.clone(),
            keychain: online.account.secrets.keychain(),
            folder: output::shown_path(online.account.folder()),
            fingerprint: shown(vault_fingerprint(vault.keyring())),
            used: usage.used,
            reserved: usage.reserved,
            quota: usage.quota,
            alarm: usage.alarm,
        })
    }

    /// What an owner has to hear of.
    pub(crate) fn wrong(&self) -> Option<String> {
        let alarm = self.alarm.as_ref()?;
        let device = alarm.device.as_ref().map_or_else(String::new, |id| format!(" by the device {id}"));
        Some(format!(
            "{} of {} that are stored were given up until {}{device}; they go for good three days after that. Where nobody \
             forgot that much, run `backupengine prune` here: it brings back what snapshots need",
            output::size(alarm.retired),
            output::size(alarm.of),
            time::local(Timestamp { secs: alarm.at, nanos: 0 }),
        ))
    }

    /// For programs.
    pub(crate) fn put(&self, object: &mut Map<String, Value>) {
        object.insert("server".into(), self.server.clone().into());
        object.insert("email".into(), self.email.clone().into());
        object.insert("region".into(), self.region.clone().into());
        object.insert("role".into(), self.role.clone().into());
        object.insert("keychain".into(), self.keychain.as_str().into());
        object.insert("vault_fingerprint".into(), self.fingerprint.clone().into());
        object.insert("bytes_reserved".into(), self.reserved.into());
        object.insert("bytes_quota".into(), self.quota.into());
    }

    /// For people.
    ///
    /// # Errors
    /// When stdout is closed.
    pub(crate) fn print(&self) -> Result<(), Failure> {
        output::line(format!("           {}", self.fingerprint))?;
        let email = output::shown(self.email.as_bytes());
        output::line(format!("account    {email}, region {}, this device is {}", self.region, self.role))?;
        let place = match self.keychain {
            crate::secrets::Keychain::File => format!(", {}", self.folder),
            crate::secrets::Keychain::Os => String::new(),
        };
        output::line(format!("keys       in {}{place}", self.keychain.shown()))
    }
}
