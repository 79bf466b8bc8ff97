//! `init` for an account: makes its vault, with a recovery code, and this device its first owner.
//!
//! What always holds: nothing is made before every question was answered; what was begun and broken off goes on with
//! the same keys and the same recovery code when it is run again. The server never sees either.
use crate::account::{Online, idem, seal_name};
use crate::args::Init;
use crate::command::init::{ask_back, show};
use crate::config::{Config, write_private};
use crate::error::{Failure, Kind, Outcome};
use crate::keychain::{hex, random, unhex};
use crate::output::{self, tell};
use crate::secret;
use crate::wire::Wire;
use backupengine_api::{Code, CreateVault, Empty, Opaque, op};
use backupengine_model::VaultId;
use backupengine_seal::{
    DedupSecret, KdfParams, Keyring, MasterSecret, RecoveryCode, Role, RootKey, UnlockSecret, seal_envelope,
};
use backupengine_store::EnvelopeId;
use backupengine_transfer::{Signer, TransferError};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Epoch of a new keyring.
const FIRST_EPOCH: u32 = 1;

/// What is being made: written down before the server hears of it. Everything in it is sealed or public.
#[derive(serde::Serialize, serde::Deserialize)]
struct Making {
    version: u32,
    vault: String,
    root_public: String,
    certificate: String,
    name_sealed: String,
    idem: String,
    envelopes: Vec<Envelope>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Envelope {
    id: String,
    kind: String,
    sealed: String,
}

/// Makes the account's vault.
///
/// # Errors
/// An account that has one; a device that may not; a recovery code not typed back; a server that is not reached.
pub(crate) fn run(wire: &Wire, args: &Init, base: &str) -> Result<Outcome, Failure> {
    let online = Online::open(wire.account_at(base)?)?;
    let file = online.account.folder().join("making.json");
    let begun = read(&file)?;
    refuse_waiting(&online)?;
    refuse_made(&online, begun.as_ref())?;
    if let Some(making) = begun {
        tell("Going on with the vault that was begun; its recovery code is the one that was shown then.");
        finish(wire, &online, &making, &file)?;
        return report(wire, args, &online, &making, None);
    }
    // Where the server lost the vault, another one beside it would only hide the way back.
    if online.account.device()?.is_some() {
        return Err(online.no_vault());
    }
    if !args.yes && !secret::can_ask() {
        return Err(Failure::usage("nobody is there to type the recovery code back")
            .hint("with --yes it is printed and not asked for"));
    }
    let passphrase = if args.no_passphrase {
        None
    } else {
        secret::optional_passphrase(&wire.global, args.allow_weak_passphrase)?
    };
    let root = RootKey::from_seed(random()?);
    let keyring = Keyring::new(
        VaultId(random()?),
        MasterSecret::from_bytes(random()?),
        DedupSecret::from_bytes(random()?),
        root.public(),
    );
    let code = RecoveryCode::from_entropy(random()?);
    let words = Zeroizing::new(code.words().join(" "));
    if !args.yes {
        show(&words)?;
        ask_back(&words)?;
    }
    let seal = |root: Option<&RootKey>, secret: &UnlockSecret<'_>, kind: &str| {
        let sealed = seal_envelope(&keyring, root, secret, KdfParams::DEFAULT, random()?)
            .map_err(|e| Failure::new(Kind::Failed, e))?;
        Ok::<_, Failure>(Envelope { id: hex(&random::<8>()?), kind: kind.to_owned(), sealed: hex(&sealed) })
    };
    let mut envelopes = vec![seal(Some(&root), &UnlockSecret::Recovery(&code), "recovery")?];
    if let Some(passphrase) = &passphrase {
        envelopes.push(seal(None, &UnlockSecret::Passphrase(passphrase), "passphrase")?);
    }
    let certificate =
        root.certify(keyring.vault(), online.keys.sign_public(), Role::Owner, crate::time::now().secs);
    let name = wire.device_name(args.device_name.as_deref());
    let making = Making {
        version: 1,
        vault: keyring.vault().to_string(),
        root_public: hex(&root.public()),
        certificate: hex(&certificate.encode()),
        name_sealed: hex(&seal_name(&keyring, online.keys.device(), &name)?.0),
        idem: idem()?,
        envelopes,
    };
    if wire.stopped() {
        return Err(Failure::interrupted());
    }
    let device = online.keys.certified(&keyring, certificate)?;
    online.account.keep(&device)?;
    let text = serde_json::to_string(&making).map_err(|e| Failure::new(Kind::Failed, e))?;
    write_private(&file, text.as_bytes())?;
    let done = finish(wire, &online, &making, &file);
    if done.is_ok() || (args.yes && file.exists()) {
        report(wire, args, &online, &making, Some(&words))?;
    }
    done.map(|()| Outcome::Done)
}

fn read(file: &Path) -> Result<Option<Making>, Failure> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::io("read", file, error)),
    };
    let making = serde_json::from_str(&text).ok().filter(|making: &Making| making.version == 1);
    making.map(Some).ok_or_else(|| unreadable(file))
}

fn unreadable(file: &Path) -> Failure {
    Failure::new(Kind::Failed, format!("{} does not read", file.display())).hint(
        "delete it to begin anew; a vault that was made already is then opened by its recovery code alone",
    )
}

/// A device that waits makes nothing, and is told what it waits for.
fn refuse_waiting(online: &Online) -> Result<(), Failure> {
    let id = online.keys.device();
    let listed = online.devices()?;
    if listed.devices.iter().any(|device| device.device == id && device.status == "pending") {
        return Err(Failure::new(Kind::Denied, format!("this device, {id}, waits for approval"))
            .hint(format!("on an owner device: backupengine device approve {id}"))
            .hint("then here: backupengine login"));
    }
    Ok(())
}

/// An account has one vault; the one that is being made is that one.
fn refuse_made(online: &Online, begun: Option<&Making>) -> Result<(), Failure> {
    let listed = online.call::<op::VaultList>(&Empty {})?;
    match listed.vaults.first() {
        Some(vault) if begun.is_none_or(|making| making.vault != vault.vault.to_string()) => {
            let failure = Failure::new(
                Kind::InUse,
                format!("the account at {} has its vault already", online.account.host()),
            );
            Err(failure
                .hint("use it: backupengine push FOLDER")
                .hint("where this device has no keys of it: backupengine login"))
        }
        _ => Ok(()),
    }
}

/// Everything the server has to hear; each step may be repeated.
fn finish(wire: &Wire, online: &Online, making: &Making, file: &Path) -> Result<(), Failure> {
    let bytes = |text: &str| unhex(text).map(Opaque).ok_or_else(|| unreadable(file));
    let request = CreateVault {
        vault: VaultId::from_hex(&making.vault).map_err(|_| unreadable(file))?,
        root_public: bytes(&making.root_public)?,
        certificate: bytes(&making.certificate)?,
        name_sealed: Some(bytes(&making.name_sealed)?),
        idem: making.idem.clone(),
    };
    let again = |failure: Failure| {
        failure.hint(
            "run it again: it goes on with the same vault, and the recovery code that was shown stays good",
        )
    };
    match online.call::<op::VaultCreate>(&request) {
        Ok(_) => {}
        // Made by a try before, whose answer was lost.
        Err(TransferError::Refused(refusal)) if refusal.known() == Some(Code::AlreadyExists) => {
            refuse_made(online, Some(making))?;
        }
        Err(error @ TransferError::Refused(_)) => {
            drop(fs::remove_file(file));
            online.account.forget_vault()?;
            return Err(Failure::from(error).while_doing("no vault was made"));
        }
        Err(error) => return Err(again(error.into())),
    }
    let store = online.store(&wire.places.cache).map_err(again)?;
    for envelope in &making.envelopes {
        let id = unhex(&envelope.id).and_then(|id| id.try_into().ok()).map(EnvelopeId);
        let id = id.ok_or_else(|| unreadable(file))?;
        store.put_envelope(id, FIRST_EPOCH, &envelope.kind, &bytes(&envelope.sealed)?.0).map_err(
            |error| {
                again(
                    Failure::from(error).while_doing("the vault is made, but not all of its keys are stored"),
                )
            },
        )?;
    }
    fs::remove_file(file).map_err(|e| Failure::io("remove", file, e))
}

fn report(
    wire: &Wire,
    args: &Init,
    online: &Online,
    making: &Making,
    words: Option<&str>,
) -> Result<Outcome, Failure> {
    let base = &online.account.profile.base;
    let place = PathBuf::from(base);
    let is_default = Config::set_default_vault(&wire.places.config, &place).unwrap_or_else(|failure| {
        tracing::warn!("the vault was not stored as the default: {}", failure.message());
        false
    });
    let words = words.filter(|_| args.yes);
    if wire.global.json {
        let mut object = json!({
            "vault": making.vault,
            "server": base,
            "device": online.keys.device().to_string(),
            "device_name": wire.device_name(args.device_name.as_deref()),
            "default": is_default,
        });
        if let (Some(words), Some(object)) = (words, object.as_object_mut()) {
            object.insert("recovery_code".into(), words.into());
        }
        return output::json(&object).map(|()| Outcome::Done);
    }
    if let Some(words) = words {
        show(words)?;
    }
    output::line(format!(
        "The vault {} of the account at {} is ready.",
        making.vault,
        online.account.host()
    ))?;
    if !wire.global.quiet {
        let flag = if is_default || wire.config.vault.as_deref() == Some(&*place) {
            String::new()
        } else {
            format!(" --vault {base}")
        };
        tell(format!("Next: backupengine push ~/Documents{flag}"));
    }
    Ok(Outcome::Done)
}
