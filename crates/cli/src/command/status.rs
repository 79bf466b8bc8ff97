//! `status`: vault, device, last push, mounts, room, and anything wrong, in one screen.
use crate::command::status_account::Of;
use crate::command::suspicion;
use crate::error::{Failure, Outcome};
use crate::keychain::{self, Device};
use crate::output::{self, count, shown_path, size};
use crate::time;
use crate::wire::{MEMORY, Opened, Wire, answer};
use crate::{mounts, wire};
use backupengine_model::SnapshotInfo;
use serde_json::{Map, Value, json};

/// Prints it. What is wrong is listed, and makes the outcome partial; only a vault that does not open is a
/// failure.
///
/// # Errors
/// When no vault is known or it does not open.
pub(crate) fn run(wire: &Wire) -> Result<Outcome, Failure> {
    let opened = wire.open(MEMORY)?;
    let list = opened.vault.list()?;
    let mut wrong: Vec<String> = Vec::new();
    let account = opened.online.as_ref().map(|(online, store)| Of::ask(online, store, &opened.vault));
    let account = account.transpose()?;
    let (used, free) = match &account {
        Some(account) => (account.used, account.quota.map(|quota| quota.saturating_sub(account.used))),
        None => answer::<_, backupengine_store::StoreError>(opened.store.space()).unwrap_or_else(|failure| {
            wrong.push(failure.message());
            (0, None)
        }),
    };
    let mounted = mounts::mounted()?;
    for mount in &mounted {
        // A mount whose process died answers with an error at once.
        if std::fs::symlink_metadata(&mount.path).is_err() {
            wrong.push(format!(
                "the mount {} does not answer: backupengine unmount it",
                shown_path(&mount.path)
            ));
        }
    }
    wrong.extend(suspicion::standing(&list));
    wrong.extend(account.as_ref().and_then(Of::wrong));
    let mine = opened.device.as_ref().map(Device::id);
    let last = list.iter().rev().find(|s| mine == Some(s.device));
    let screen = Screen { wire, opened: &opened, account, list: &list, last, used, free, mounted, wrong };
    if wire.global.json {
        output::json(&screen.object().into())?
    } else {
        screen.print()?
    }
    Ok(if screen.wrong.is_empty() { Outcome::Done } else { Outcome::Partial })
}

struct Screen<'a> {
    wire: &'a wire::Wire,
    opened: &'a Opened,
    account: Option<Of>,
    list: &'a [SnapshotInfo],
    last: Option<&'a SnapshotInfo>,
    used: u64,
    free: Option<u64>,
    mounted: Vec<backupengine_source::OwnMount>,
    wrong: Vec<String>,
}

impl Screen<'_> {
    fn object(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("vault".into(), self.opened.vault.keyring().vault().to_string().into());
        if let Some(folder) = self.opened.place.folder() {
            output::put_path(&mut object, "path", folder.as_os_str().as_encoded_bytes());
        }
        if let Some(account) = &self.account {
            account.put(&mut object);
        }
        object.insert("snapshots".into(), self.list.len().into());
        object.insert("newest".into(), self.list.last().map(|s| time::rfc3339(s.created)).into());
        object.insert("bytes_stored".into(), self.used.into());
        object.insert("bytes_free".into(), self.free.into());
        object.insert("device_name".into(), self.wire.device_name(None).into());
        let device = self.opened.device.as_ref().map(|d| d.id().to_string());
        object.insert("device_id".into(), device.into());
        object.insert("last_push".into(), self.last.map(|s| time::rfc3339(s.created)).into());
        let mounts: Vec<String> =
            self.mounted.iter().map(|m| m.path.to_string_lossy().into_owned()).collect();
        object.insert("mounts".into(), json!(mounts));
        let suspicious: Vec<String> =
            self.list.iter().filter(|s| s.is_suspicious()).map(|s| s.id.to_string()).collect();
        object.insert("suspicious".into(), json!(suspicious));
        object.insert("wrong".into(), json!(self.wrong));
        object
    }

    fn print(&self) -> Result<(), Failure> {
        let vault = self.opened.vault.keyring().vault();
        output::line(format!("vault      {}", shown_path(self.opened.place.as_path())))?;
        output::line(format!("           id {vault}"))?;
        let free = match (&self.account, self.free) {
            (Some(account), _) => {
                account.quota.map_or_else(String::new, |quota| format!(" of {}", size(quota)))
            }
            (None, free) => free.map_or_else(String::new, |free| format!(", {} free there", size(free))),
        };
        if let Some(account) = &self.account {
            account.print()?;
        }
        output::line(format!("stored     {}{free}", size(self.used)))?;
        let newest =
            self.list.last().map_or_else(String::new, |s| format!(", newest of {}", time::local(s.created)));
        let snapshots = count(self.list.len() as u64, "snapshot", "snapshots");
        output::line(format!("holds      {snapshots}{newest}"))?;
        let device = match &self.opened.device {
            Some(device) => format!("id {}", device.id()),
            None if self.account.is_some() => "without the vault's keys: backupengine login".to_owned(),
            None => "not one of the vault's yet: its first push asks for the recovery code".to_owned(),
        };
        output::line(format!("device     {}, {device}", self.wire.device_name(None)))?;
        if let (Some(_), None, true) = (&self.opened.device, &self.account, self.wire.global.verbose > 0) {
            let path = keychain::path(&self.wire.places.state, vault);
            output::line(format!("           its key is in {}", shown_path(&path)))?;
        }
        let last = self.last.map_or_else(|| "never".to_owned(), |s| time::local(s.created));
        output::line(format!("last push  {last}"))?;
        for mount in &self.mounted {
            output::line(format!("mounted    {}", shown_path(&mount.path)))?;
        }
        for wrong in &self.wrong {
            output::line(format!("wrong      {wrong}"))?;
        }
        Ok(())
    }
}
