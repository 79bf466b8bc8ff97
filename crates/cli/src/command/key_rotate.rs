//! `key rotate`: a new master key, sealed for every way in that can be made again.
//!
//! What always holds: what it means, and what it leaves out, is said before anything is done. The vault's new envelopes
//! are durable before its old ones go and before this device keeps the new keys, so that whatever breaks it off leaves a
//! vault that opens with the old keys or with the new.
use crate::account::{CodeSource, DeviceKeys, sealed_for};
use crate::args::Rotate;
use crate::command::key::{out_of_reach, word};
use crate::error::{Failure, Kind, Outcome};
use crate::floor;
use crate::keychain::{fill, random};
use crate::output::{self, count, tell};
use crate::secret;
use crate::wire::{MEMORY, Opened, Wire, answer};
use backupengine_model::DeviceId;
use backupengine_model::ledger::{SessionKind, SessionState};
use backupengine_seal::{
    EnvelopeKind, KdfParams, Keyring, MasterSecret, Passphrase, RecoveryCode, RootKey, UnlockSecret,
};
use backupengine_vault::{VaultError, Ways, WaysIn};
use serde_json::json;
use std::collections::BTreeMap;

/// Rotates.
///
/// # Errors
/// Secrets that do not open the vault; nobody to be asked; somebody else who rotates at the same time.
pub(crate) fn run(wire: &Wire, args: &Rotate) -> Result<Outcome, Failure> {
    let mut opened = wire.open(MEMORY)?;
    opened.refuse_older_keys()?;
    let ways = opened.vault.ways_in()?;
    let given = Given::collect(wire, args, &ways)?;
    let devices = match &opened.online {
        Some((online, _)) => sealed_for(online, &opened)?,
        None => DeviceKeys::default(),
    };
    let old = opened.vault.keyring().clone();
    let new = old.rotated(MasterSecret::from_bytes(random()?)).map_err(VaultError::from)?;
    let passphrase = given.passphrase.as_ref().map_or(Ways::Drop, Ways::Replace);
    let recovery = given.recovery.as_ref().map_or(Ways::Keep, |(code, root)| Ways::Replace((code, root)));
    // Worked out before anybody is asked: what cannot be done is said first.
    let change = ways.change(&new, &passphrase, &recovery, KdfParams::DEFAULT, &fill)?;
    let left_out = given.left_out(&ways);
    explain(wire, &opened, &new, &left_out, &devices);
    tell_open_pushes(&opened)?;
    if !args.yes {
        if !secret::can_ask() {
            return Err(Failure::usage("nobody is there to be asked").hint("--yes rotates without asking"));
        }
        if !secret::ask_yes("Rotate the keys? (yes or no) ")? {
            return Err(Failure::usage("nothing was changed").hint("only yes rotates"));
        }
    }
    if wire.stopped() {
        return Err(Failure::interrupted());
    }
    match (&opened.ways, opened.online.take()) {
        (Some(keeper), _) => answer(keeper.change_envelopes(&change))?,
        (None, Some((mut online, store))) => {
            let codes = CodeSource::new(wire, args.codes.totp_command.as_deref());
            let seen = floor::load(&floor::path(&wire.places.state, new.vault()))?.encode();
            let sealed = devices.seal(&opened, &new, &seen)?;
            crate::account::change_keys(wire, &mut online, &store, &codes, &change, sealed)?;
            opened.online = Some((online, store));
        }
        (None, None) => return Err(out_of_reach()),
    }
    keep(wire, &mut opened, &new)?;
    report(wire, &opened, &new, &given, &left_out, &devices)
}

/// What is stored by a push that began before goes on under the key of before.
fn tell_open_pushes(opened: &Opened) -> Result<(), Failure> {
    let sessions = answer(opened.store.sessions())?;
    let open =
        sessions.iter().filter(|s| s.state == SessionState::Open && s.kind == SessionKind::Push).count();
    if open > 0 {
        tell(format!(
            "{} open, or broken off in the last days: what such a push stores is sealed under the old key until it has ended.",
            count(open as u64, "push is", "pushes are")
        ));
    }
    Ok(())
}

/// The secrets that the new keys are sealed under.
struct Given {
    passphrase: Option<Passphrase>,
    recovery: Option<(RecoveryCode, RootKey)>,
}

impl Given {
    /// From where secrets come from, each held against the vault.
    fn collect(wire: &Wire, args: &Rotate, ways: &WaysIn) -> Result<Self, Failure> {
        let has = |kind| ways.ways.iter().any(|way| way.kind == kind);
        let set_new = args.new_passphrase || args.new.new_passphrase_file.is_some();
        let passphrase = if set_new {
            Some(secret::another_passphrase(&args.new)?)
        } else {
            let mut text = secret::given_passphrase(&wire.global)?;
            if text.is_none() && has(EnvelopeKind::Passphrase) {
                text = secret::ask_or_leave_out("Passphrase (Enter leaves it out): ")?;
            }
            let passphrase = text.map(|mut text| Passphrase::new(std::mem::take(&mut text)));
            if let Some(passphrase) = &passphrase {
                ways.opened_by(&UnlockSecret::Passphrase(passphrase)).map_err(|error| {
                    Failure::from(error)
                        .hint("to set a new one instead: --new-passphrase")
                        .while_doing("the passphrase was not taken")
                })?;
            }
            passphrase
        };
        let mut code = secret::given_recovery_code(&wire.global)?;
        if code.is_none()
            && has(EnvelopeKind::Recovery)
            && let Some(text) = secret::ask_or_leave_out("Recovery code (24 words; Enter leaves it out): ")?
        {
            code = Some(secret::parse_code(&text)?);
        }
        let recovery = code.map(|code| {
            let (_, root) = ways
                .opened_by(&UnlockSecret::Recovery(&code))
                .map_err(|error| Failure::from(error).while_doing("the recovery code was not taken"))?;
            let none = || Failure::new(Kind::Failed, "the recovery envelope holds no root key".to_owned());
            Ok::<_, Failure>((code, root.ok_or_else(none)?))
        });
        Ok(Self { passphrase, recovery: recovery.transpose()? })
    }

    /// Ways in that there are, and that the new keys are not sealed for.
    fn left_out(&self, ways: &WaysIn) -> Vec<EnvelopeKind> {
        let count = |kind| ways.ways.iter().filter(|way| way.kind == kind).count();
        let phrases = count(EnvelopeKind::Passphrase).saturating_sub(self.passphrase.is_some().into());
        let codes = count(EnvelopeKind::Recovery).saturating_sub(self.recovery.is_some().into());
        let mut all = vec![EnvelopeKind::Passphrase; phrases];
        all.extend(vec![EnvelopeKind::Recovery; usize::from(codes > 0)]);
        all
    }
}

fn explain(wire: &Wire, opened: &Opened, new: &Keyring, left_out: &[EnvelopeKind], devices: &DeviceKeys) {
    tell(format!(
        "The vault's keys go on to epoch {}: what is pushed from now on is sealed under a new key.",
        new.current_epoch()
    ));
    tell(
        "Whoever has the old key, or a copy of the old key files and what opens them, can still read what was pushed until now, until it is rewritten.",
    );
    let phrases = left_out.iter().filter(|kind| **kind == EnvelopeKind::Passphrase).count();
    if phrases > 0 {
        let what = count(phrases as u64, "passphrase", "passphrases");
        tell(format!(
            "Left out: {what} that was not given. It opens nothing any more, neither old snapshots nor new ones."
        ));
    }
    if left_out.contains(&EnvelopeKind::Recovery) {
        tell(
            "Left out: the recovery code, which was not given. It goes on opening what was pushed until now, and nothing that is pushed from now on.",
        );
    }
    for id in devices.ids() {
        tell(format!(
            "The device {id} is given the new key; if it should not be, say no, and revoke it first."
        ));
    }
    for (id, why) in &devices.left_out {
        tell(format!(
            "Left out: the device {id}: {why}. It sees what was pushed until now, until it is let in again."
        ));
    }
    if opened.online.is_none() {
        for (id, name) in others(opened) {
            tell(format!(
                "The device {id} ({}) is asked once for the passphrase or the recovery code before it pushes again.",
                output::shown(name.as_bytes())
            ));
        }
    }
    if !wire.global.quiet {
        tell("A mount or push that runs now goes on.");
    }
}

/// Other devices that pushed into a vault in a folder: nothing can be sealed to them.
fn others(opened: &Opened) -> BTreeMap<DeviceId, String> {
    let own = opened.device.as_ref().map(crate::keychain::Device::id);
    let list = opened.vault.list().map(|list| list.to_vec()).unwrap_or_default();
    list.into_iter()
        .filter(|info| Some(info.device) != own)
        .map(|info| (info.device, info.device_name))
        .collect()
}

/// This device keeps the new keys, which the vault has already.
fn keep(wire: &Wire, opened: &mut Opened, new: &Keyring) -> Result<(), Failure> {
    let later = |failure: Failure| {
        failure
            .while_doing("the keys are rotated, but this device does not keep the new ones")
            .hint("it takes them the next time it opens the vault with the passphrase or the recovery code")
    };
    if let Some(device) = &opened.device {
        let renewed = device.with_keys(new).map_err(later)?;
        wire.keep_device(opened, &renewed).map_err(later)?;
        opened.device = Some(renewed);
    }
    floor::save_epoch(&floor::path(&wire.places.state, new.vault()), new.current_epoch(), false)
}

fn report(
    wire: &Wire,
    opened: &Opened,
    new: &Keyring,
    given: &Given,
    left_out: &[EnvelopeKind],
    devices: &DeviceKeys,
) -> Result<Outcome, Failure> {
    let account = opened.online.is_some();
    if wire.global.json {
        let object = json!({
            "vault": new.vault().to_string(),
            "epoch": new.current_epoch(),
            "passphrase": given.passphrase.is_some(),
            "recovery_code": given.recovery.is_some(),
            "devices": devices.ids(),
            "left_out": left_out.iter().map(|kind| word(*kind)).collect::<Vec<_>>(),
            "devices_left_out": devices.left_out.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>(),
        });
        return output::json(&object).map(|()| Outcome::Done);
    }
    output::line(format!("The vault's keys are of epoch {} now.", new.current_epoch()))?;
    if account && !wire.global.quiet {
        let others = devices.ids().len() as u64;
        tell(format!("Sealed to {}, which take them by themselves.", count(others, "device", "devices")));
    }
    Ok(Outcome::Done)
}
