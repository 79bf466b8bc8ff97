//! `init`: makes a vault in a folder, with a passphrase and a recovery code, and makes this device its first.
//!
//! What always holds: nothing is written before every question was answered; what was begun and did not end is
//! taken away again.
use crate::args::Init;
use crate::command::init_account;
use crate::config::Config;
use crate::error::{Failure, Kind, Outcome};
use crate::keychain::{self, Device, random};
use crate::output::{self, tell};
use crate::place::Place;
use crate::secret;
use crate::wire::{Wire, answer};
use backupengine_model::VaultId;
use backupengine_seal::{
    DedupSecret, KdfParams, Keyring, MasterSecret, RecoveryCode, RootKey, UnlockSecret, seal_envelope,
};
use backupengine_store::{BlobKey, BlobWriter, EnvelopeId, FolderStore};
use serde_json::json;
use std::fs;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zeroize::{Zeroize, Zeroizing};

/// How often the recovery code may be typed wrong.
const TRIES: usize = 3;

/// Makes the vault.
///
/// # Errors
/// A folder that holds something, a weak passphrase, a recovery code not typed back, no room, no permission.
pub(crate) fn run(wire: &Wire, args: &Init) -> Result<Outcome, Failure> {
    let folder = match wire.place_to_make(args.path.as_deref())? {
        Place::Folder(folder) => folder,
        Place::Server(base) => return init_account::run(wire, args, &base),
    };
    if args.no_passphrase {
        return Err(Failure::usage("a vault in a folder needs a passphrase")
            .hint("the vault of an account may go without: its devices are approved by one another"));
    }
    let fresh = refuse_used(&folder)?;
    if !args.yes && !secret::can_ask() {
        return Err(Failure::usage("nobody is there to type the recovery code back")
            .hint("with --yes it is printed and not asked for"));
    }
    let passphrase = secret::new_passphrase(&wire.global, args.allow_weak_passphrase)?;

    let vault = VaultId(random()?);
    let root = RootKey::from_seed(random()?);
    let keyring = Keyring::new(
        vault,
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
    let by_passphrase =
        seal_envelope(&keyring, None, &UnlockSecret::Passphrase(&passphrase), KdfParams::DEFAULT, random()?);
    let by_code =
        seal_envelope(&keyring, Some(&root), &UnlockSecret::Recovery(&code), KdfParams::DEFAULT, random()?);
    let envelopes = [by_passphrase, by_code].into_iter().collect::<Result<Vec<_>, _>>();
    let envelopes = envelopes.map_err(|e| Failure::new(Kind::Failed, e))?;
    let device = Device::create(&keyring, &root, crate::time::now().secs)?;
    if wire.stopped() {
        return Err(Failure::interrupted());
    }

    let device_path = keychain::path(&wire.places.state, vault);
    let made = make(&folder, vault, &envelopes).and_then(|()| device.save(&device_path));
    if let Err(failure) = made {
        undo(&folder, fresh);
        drop(fs::remove_file(&device_path));
        return Err(failure.while_doing(format!("no vault was made in {}", folder.display())));
    }
    let is_default = Config::set_default_vault(&wire.places.config, &folder).unwrap_or_else(|failure| {
        tracing::warn!("the vault was not stored as the default: {}", failure.message());
        false
    });
    report(wire, args, &folder, vault, &device, &words, is_default)?;
    Ok(Outcome::Done)
}

/// Whether the folder is still to be made.
fn refuse_used(folder: &Path) -> Result<bool, Failure> {
    let used = |what: &str| Failure::new(Kind::InUse, format!("{} {what}", folder.display()));
    match fs::read_dir(folder) {
        Ok(mut entries) => {
            if folder.join("BACKUPENGINE").exists() {
                return Err(used("is a vault already")
                    .hint("use it: backupengine push FOLDER")
                    .hint("or give another folder"));
            }
            if entries.next().is_some() {
                return Err(used("is not empty").hint("give an empty or a new folder"));
            }
            Ok(false)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            Err(used("is no folder").hint("give an empty or a new folder"))
        }
        Err(error) => {
            Err(Failure::io("list", folder, error)
                .hint("check owner and permissions, or give another folder"))
        }
    }
}

fn make(folder: &Path, vault: VaultId, envelopes: &[Vec<u8>]) -> Result<(), Failure> {
    let store = FolderStore::create(folder, vault)?;
    for envelope in envelopes {
        let mut spool = store.spool()?;
        spool.write_all(envelope).map_err(backupengine_store::StoreError::from)?;
        answer(store.put(BlobKey::Envelope(EnvelopeId(random()?)), spool))?;
    }
    Ok(())
}

/// Takes a half-made vault away; leaves an empty folder where there was one.
fn undo(folder: &Path, fresh: bool) {
    if fresh {
        drop(fs::remove_dir_all(folder));
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        drop(if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) });
    }
}

/// The recovery code on the terminal, six words a line.
///
/// # Errors
/// When stdout is closed.
pub(crate) fn show(words: &str) -> Result<(), Failure> {
    output::line(
        "Recovery code. It opens the vault when the passphrase is lost, and lets new devices push.",
    )?;
    output::line("Write it down and keep it apart from this machine; it is shown only now.\n")?;
    let words: Vec<&str> = words.split(' ').collect();
    for row in words.chunks(6) {
        output::line(format!("    {}", row.join(" ")))?;
    }
    output::line("")
}

/// Asks for the recovery code, which was just shown.
///
/// # Errors
/// Where it is not typed back.
pub(crate) fn ask_back(words: &str) -> Result<(), Failure> {
    // Reading a line does not end by a signal that is only noted; nothing is made yet, so one may end it all.
    let asking = Arc::new(AtomicBool::new(true));
    let failed = |e| Failure::new(Kind::Failed, e).while_doing("signals cannot be watched");
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, Kind::Interrupted as i32, asking.clone())
            .map_err(failed)?;
    }
    let typed = type_back(words);
    asking.store(false, Ordering::Relaxed);
    typed
}

fn type_back(words: &str) -> Result<(), Failure> {
    for _ in 0..TRIES {
        tell("Type the 24 words back (they are shown as you type):");
        let mut line = Zeroizing::new(String::new());
        let mut typed = Zeroizing::new(String::new());
        while typed.split_whitespace().count() < 24 {
            line.zeroize();
            let read = std::io::stdin().lock().read_line(&mut line);
            if read.map_err(|e| Failure::io("read", Path::new("the terminal"), e))? == 0 {
                return Err(Failure::usage("the recovery code was not typed back").hint("nothing was made"));
            }
            typed.push(' ');
            typed.push_str(&line.to_lowercase());
        }
        if typed.split_whitespace().eq(words.split(' ')) {
            return Ok(());
        }
        tell("That is not the code.");
    }
    Err(Failure::usage("the recovery code was not typed back")
        .hint("nothing was made; start again, a new code will be shown"))
}

fn report(
    wire: &Wire,
    args: &Init,
    folder: &Path,
    vault: VaultId,
    device: &Device,
    words: &str,
    is_default: bool,
) -> Result<(), Failure> {
    if wire.global.json {
        let mut object = serde_json::Map::new();
        object.insert("vault".into(), vault.to_string().into());
        output::put_path(&mut object, "path", folder.as_os_str().as_encoded_bytes());
        object.insert("device".into(), device.id().to_string().into());
        object.insert("device_name".into(), wire.device_name(args.device_name.as_deref()).into());
        object.insert("default".into(), is_default.into());
        if args.yes {
            object.insert("recovery_code".into(), json!(words));
        }
        return output::json(&object.into());
    }
    if args.yes {
        show(words)?;
    }
    output::line(format!("The vault {} is ready in {}.", vault, output::shown_path(folder)))?;
    if !wire.global.quiet {
        let flag = if is_default || wire.config.vault.as_deref() == Some(folder) {
            String::new()
        } else {
            format!(" --vault {}", output::shown_path(folder))
        };
        tell(format!("Next: backupengine push ~/Documents{flag}"));
    }
    Ok(())
}
