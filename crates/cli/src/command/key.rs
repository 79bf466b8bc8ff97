//! `key`: what opens the vault: list it, and let another passphrase open it.
//!
//! What always holds: nothing secret is printed; a passphrase that can be guessed is refused as by `init`; the old ways
//! in go after the new ones are durable.
use crate::account::CodeSource;
use crate::args::{AddPassphrase, Key};
use crate::command::{key_recover, key_rotate};
use crate::error::{Failure, Kind, Outcome};
use crate::keychain::{fill, hex};
use crate::output::{self, tell};
use crate::secret;
use crate::time;
use crate::wire::{MEMORY, Opened, Wire, answer};
use backupengine_model::Timestamp;
use backupengine_seal::{EnvelopeKind, KdfParams, Passphrase, RecoveryCode, RootKey};
use backupengine_store::{EnvelopeChange, EnvelopeId};
use backupengine_vault::{WayIn, Ways, WaysIn};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Does what was asked.
///
/// # Errors
/// No or a wrong secret; a weak passphrase; what the store or the server says.
pub(crate) fn run(wire: &Wire, args: &Key) -> Result<Outcome, Failure> {
    match args {
        Key::List => list(wire),
        Key::AddPassphrase(args) => add_passphrase(wire, args),
        Key::Rotate(args) => key_rotate::run(wire, args),
        Key::Recover(args) => key_recover::run(wire, args),
    }
}

/// The word of a kind, in `--json`.
pub(super) const fn word(kind: EnvelopeKind) -> &'static str {
    match kind {
        EnvelopeKind::Passphrase => "passphrase",
        EnvelopeKind::Recovery => "recovery_code",
        EnvelopeKind::Device => "device",
        EnvelopeKind::Enrolment => "enrolment",
    }
}

/// A kind for people.
const fn name(kind: EnvelopeKind) -> &'static str {
    match kind {
        EnvelopeKind::Passphrase => "passphrase",
        EnvelopeKind::Recovery => "recovery code",
        EnvelopeKind::Device => "device",
        EnvelopeKind::Enrolment => "new device",
    }
}

fn list(wire: &Wire) -> Result<Outcome, Failure> {
    let opened = wire.open(MEMORY)?;
    let (ways, made) = (opened.vault.ways_in()?, made(&opened)?);
    let (epochs, newest) = (opened.vault.keyring().epoch_numbers(), opened.newest_epoch());
    let made_at = |way: &WayIn| made.get(&way.id).copied();
    let devices = devices(&opened)?;
    if wire.global.json {
        let all = ways.ways.iter().map(|way| {
            json!({
                "kind": word(way.kind),
                "id": hex(&way.id.0),
                "epoch": way.epoch,
                "newest": way.epoch == newest,
                "made": made_at(way).map(time::rfc3339),
            })
        });
        let object = json!({
            "vault": opened.vault.keyring().vault().to_string(),
            "epoch": newest,
            "epochs": epochs,
            "ways": all.collect::<Vec<Value>>(),
            "unusable": ways.unusable.iter().map(|(id, _)| hex(&id.0)).collect::<Vec<_>>(),
            "devices": devices.iter().map(|(id, _, _)| id.clone()).collect::<Vec<_>>(),
        });
        return output::json(&object).map(|()| Outcome::Done);
    }
    for way in &ways.ways {
        let when = made_at(way).map_or_else(String::new, time::local);
        let behind =
            if way.epoch < newest { "  (opens what was pushed before the keys were rotated)" } else { "" };
        output::line(format!(
            "{:13}  {}  epoch {:3}  {when:19}{behind}",
            name(way.kind),
            hex(&way.id.0),
            way.epoch
        ))?;
    }
    for (id, name, here) in &devices {
        let here = if *here { "  (this one)" } else { "" };
        output::line(format!("{:13}  {id}  {}{here}", "device", output::shown(name.as_bytes())))?;
    }
    for (id, error) in &ways.unusable {
        output::line(format!("{:13}  {}  {error}", "unusable", hex(&id.0)))?;
    }
    let many = epochs.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    output::line(format!("key epochs     {many}; what is pushed now takes {newest}"))?;
    Ok(if ways.unusable.is_empty() { Outcome::Done } else { Outcome::Partial })
}

/// When envelopes were stored, where that is known.
fn made(opened: &Opened) -> Result<BTreeMap<EnvelopeId, Timestamp>, Failure> {
    let infos = match (&opened.ways, &opened.online) {
        (Some(keeper), _) => answer(keeper.envelopes())?,
        (None, Some((_, store))) => store.envelope_infos()?,
        (None, None) => Vec::new(),
    };
    Ok(infos.into_iter().filter_map(|info| Some((info.id, info.stored?))).collect())
}

/// Devices that keep keys of their own: id, name, whether it is this one. A folder knows this device alone.
fn devices(opened: &Opened) -> Result<Vec<(String, String, bool)>, Failure> {
    if let Some((online, _)) = &opened.online {
        let keyring = opened.vault.keyring();
        let listed = online.devices()?;
        let active = listed.devices.iter().filter(|device| device.status == "active");
        return Ok(active
            .map(|d| {
                let sealed = d.name_sealed.as_ref();
                let name = sealed.and_then(|sealed| crate::account::name_of(keyring, d.device, sealed));
                (d.device.to_string(), name.unwrap_or_default(), d.current)
            })
            .collect());
    }
    Ok(opened.device.iter().map(|device| (device.id().to_string(), String::new(), true)).collect())
}

fn add_passphrase(wire: &Wire, args: &AddPassphrase) -> Result<Outcome, Failure> {
    let mut opened = wire.open(MEMORY)?;
    opened.refuse_old_keys()?;
    let ways = opened.vault.ways_in()?;
    let new = secret::another_passphrase(&args.new)?;
    if ways.opened_by(&backupengine_seal::UnlockSecret::Passphrase(&new)).is_ok() && !args.replace {
        return Err(Failure::usage("this passphrase opens the vault already").hint("give another one"));
    }
    let wanted = if args.replace { Ways::Replace(&new) } else { Ways::Add(&new) };
    let change = change(&opened, &ways, &wanted, &Ways::Keep)?;
    put(wire, &mut opened, args.codes.totp_command.as_deref(), &change)?;
    let gone = change.expected.len() - change.keep.len();
    if wire.global.json {
        let id = change.add.first().map(|(id, _)| hex(&id.0));
        let object = json!({"id": id, "replaced": gone, "epoch": opened.vault.keyring().current_epoch()});
        return output::json(&object).map(|()| Outcome::Done);
    }
    output::line(if args.replace {
        "The new passphrase opens the vault now, and no other passphrase does."
    } else {
        "The new passphrase opens the vault too."
    })?;
    if gone > 0 && !wire.global.quiet {
        tell_old_copies("the old passphrase");
    }
    Ok(Outcome::Done)
}

/// What taking a way in away does not do.
pub(super) fn tell_old_copies(what: &str) {
    tell(format!(
        "Whoever has {what} and a copy of the vault's old key files still opens what was pushed until now, and what is pushed \
         until its keys are rotated: backupengine key rotate"
    ));
}

/// The change of the ways in, with the keys at hand.
pub(super) fn change(
    opened: &Opened,
    ways: &WaysIn,
    passphrase: &Ways<&Passphrase>,
    recovery: &Ways<(&RecoveryCode, &RootKey)>,
) -> Result<EnvelopeChange, Failure> {
    Ok(ways.change(opened.vault.keyring(), passphrase, recovery, KdfParams::DEFAULT, &fill)?)
}

/// Makes a change of the ways in the vault's own, with the keys as they are.
pub(super) fn put(
    wire: &Wire,
    opened: &mut Opened,
    totp_command: Option<&str>,
    change: &EnvelopeChange,
) -> Result<(), Failure> {
    if wire.stopped() {
        return Err(Failure::interrupted());
    }
    if let Some(keeper) = &opened.ways {
        return answer(keeper.change_envelopes(change));
    }
    let codes = CodeSource::new(wire, totp_command);
    let Some((online, store)) = &mut opened.online else { return Err(out_of_reach()) };
    crate::account::change_keys(wire, online, store, &codes, change, Vec::new())
}

/// What to say where the server has to be there.
pub(super) fn out_of_reach() -> Failure {
    Failure::new(
        Kind::Unreachable,
        "the vault's keys are changed only where its server is reached".to_owned(),
    )
    .hint("run it again when the server is reached")
}
