//! `key recover`: opens the vault with the recovery code, and sets a new passphrase; lets this device of an account in.
//!
//! What always holds: a new recovery code takes the place of the one that was typed, and of no other; it is typed back
//! before anything is changed.
use crate::account::{self, Online};
use crate::args::Recover;
use crate::command::init::{ask_back, show};
use crate::command::key::{change, put, tell_old_copies};
use crate::error::{Failure, Kind, Outcome};
use crate::keychain::{self, Device, random};
use crate::output::{self, tell};
use crate::place::Place;
use crate::secret;
use crate::wire::{How, Opened, Wire};
use backupengine_seal::{Passphrase, RecoveryCode, RootKey, UnlockSecret};
use backupengine_vault::{VaultError, Ways};
use serde_json::json;
use zeroize::Zeroizing;

/// Recovers.
///
/// # Errors
/// `Denied` where the code does not open the vault; a weak passphrase; what the store or the server says.
pub(crate) fn run(wire: &Wire, args: &Recover) -> Result<Outcome, Failure> {
    let code = typed_code(wire)?;
    if let Place::Server(base) = wire.place(None)? {
        let online = Online::open(wire.account_at(&base)?)?;
        // A device that has the newest keys stays what it is; any other is let in as an owner.
        if behind(wire, &online)? {
            account::recover(wire, &online, &code)?;
        }
    }
    let how = How { code: Some(code.clone()), ..How::default() };
    let mut opened = wire.open_how(&how).map_err(named)?;
    let root = opened
        .root_key
        .take()
        .ok_or_else(|| Failure::new(Kind::Failed, "the recovery envelope holds no root key".to_owned()))?;
    opened.refuse_older_keys()?;
    let account = opened.online.is_some();
    let passphrase = new_passphrase(args, account)?;
    let words = args.new_recovery_code.then(new_code).transpose()?;
    if let Some((_, words)) = &words
        && !args.yes
    {
        if !secret::can_ask() {
            return Err(Failure::usage("nobody is there to type the new recovery code back")
                .hint("with --yes it is printed and not asked for"));
        }
        show(words)?;
        ask_back(words)?;
    }
    if passphrase.is_some() || words.is_some() {
        let ways = opened.vault.ways_in()?;
        // The one that was typed, and no other, is replaced.
        ways.opened_by(&UnlockSecret::Recovery(&code)).map_err(named_vault)?;
        let wanted = passphrase.as_ref().map_or(Ways::Keep, Ways::Replace);
        let recovery = words.as_ref().map_or(Ways::Keep, |(new, _)| Ways::Replace((new, &root)));
        let change = change(&opened, &ways, &wanted, &recovery)?;
        put(wire, &mut opened, args.codes.totp_command.as_deref(), &change)?;
    }
    let made = make_device(wire, &mut opened, &root)?;
    report(wire, args, &opened, passphrase.is_some(), words.as_ref().map(|(_, words)| words.as_str()), made)
}

fn typed_code(wire: &Wire) -> Result<RecoveryCode, Failure> {
    if let Some(code) = secret::given_recovery_code(&wire.global)? {
        return Ok(code);
    }
    let text = secret::ask("Recovery code (24 words): ", || {
        Failure::new(Kind::Denied, "the recovery code is needed, and nobody is there to type it".to_owned())
            .hint("give it by --recovery-code-file or BACKUPENGINE_RECOVERY_CODE")
    })?;
    secret::parse_code(&text)
}

/// Whether this device of an account lacks the vault's newest keys.
fn behind(wire: &Wire, online: &Online) -> Result<bool, Failure> {
    let Some(own) = online.account.device()?.and_then(|device| device.keyring()) else { return Ok(true) };
    let store = online.store(&wire.places.cache)?;
    let newest = store.mounted().envelopes.iter().map(|envelope| envelope.epoch).max().unwrap_or(0);
    Ok(newest > u32::from(own.current_epoch()))
}

/// The vault of an account may go without: there it is set where one is given.
fn new_passphrase(args: &Recover, account: bool) -> Result<Option<Passphrase>, Failure> {
    let given =
        args.new.new_passphrase_file.is_some() || std::env::var_os("BACKUPENGINE_NEW_PASSPHRASE").is_some();
    if args.keep_passphrase || (account && !given) {
        return Ok(None);
    }
    secret::another_passphrase(&args.new).map(Some)
}

fn new_code() -> Result<(RecoveryCode, Zeroizing<String>), Failure> {
    let code = RecoveryCode::from_entropy(random()?);
    let words = Zeroizing::new(code.words().join(" "));
    Ok((code, words))
}

/// Where this machine is no device of a vault in a folder yet, it becomes one: the root key is at hand.
fn make_device(wire: &Wire, opened: &mut Opened, root: &RootKey) -> Result<bool, Failure> {
    if opened.device.is_some() || opened.online.is_some() {
        return Ok(false);
    }
    let keyring = opened.vault.keyring();
    let device = Device::create(keyring, root, crate::time::now().secs)?;
    device.save(&keychain::path(&wire.places.state, keyring.vault()))?;
    opened.device = Some(device);
    Ok(true)
}

fn named(failure: Failure) -> Failure {
    let wrong =
        failure.error.downcast_ref::<VaultError>().is_some_and(|e| matches!(e, VaultError::WrongSecret));
    if wrong { named_vault(VaultError::WrongSecret) } else { failure }
}

fn named_vault(error: VaultError) -> Failure {
    match error {
        VaultError::WrongSecret => {
            Failure::new(Kind::Denied, "the recovery code does not open this vault".to_owned()).hint(
                "it is the 24 words that `init` showed when this vault was made, or `key recover` later",
            )
        }
        other => other.into(),
    }
}

fn report(
    wire: &Wire,
    args: &Recover,
    opened: &Opened,
    passphrase: bool,
    words: Option<&str>,
    made: bool,
) -> Result<Outcome, Failure> {
    let device = opened.device.as_ref().map(|device| device.id().to_string());
    let shown = words.filter(|_| args.yes);
    if wire.global.json {
        let mut object = json!({
            "vault": opened.vault.keyring().vault().to_string(),
            "epoch": opened.vault.keyring().current_epoch(),
            "device": device,
            "passphrase": passphrase,
            "new_recovery_code": words.is_some(),
        });
        if let (Some(words), Some(object)) = (shown, object.as_object_mut()) {
            object.insert("recovery_code".into(), words.into());
        }
        return output::json(&object).map(|()| Outcome::Done);
    }
    if let Some(words) = shown {
        show(words)?;
    }
    if passphrase {
        output::line("The new passphrase opens the vault now, and no other passphrase does.")?;
    }
    if words.is_some() {
        output::line(
            "The new recovery code opens the vault now, and the one that was typed does not any more.",
        )?;
    }
    if made && let Some(device) = &device {
        output::line(format!("This device is one of the vault's now, as {device}."))?;
    }
    if !passphrase && words.is_none() && !made {
        output::line("The recovery code opens this vault.")?;
    }
    if !wire.global.quiet && (passphrase || words.is_some()) {
        let what = if words.is_some() { "the old recovery code" } else { "an old passphrase" };
        tell_old_copies(what);
    }
    tell_age(opened);
    Ok(Outcome::Done)
}

/// By the code alone a device cannot tell whether it is shown the newest.
fn tell_age(opened: &Opened) {
    let Ok(list) = opened.vault.list() else { return };
    if let Some(last) = list.last() {
        tell(format!("The newest snapshot the vault shows is of {}.", crate::time::local(last.created)));
    }
}
