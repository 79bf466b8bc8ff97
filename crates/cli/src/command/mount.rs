//! `mount`: shows snapshots as read-only folders, in the foreground or behind.
//!
//! What always holds: the mountpoint is looked at before anybody is asked for a passphrase; whatever ends this
//! process in an orderly way takes the mount away; a busy mount is not torn from who reads it without a second
//! word.
use crate::args::{Mount, Owner};
use crate::error::{Failure, Kind, Outcome};
use crate::find::find;
use crate::output::{self, count, size, tell};
use crate::place::Place;
use crate::progress::Bar;
use crate::select::What;
use crate::wire::{Opened, Wire};
use crate::{background, mounts};
use backupengine_fuse::{Mounted, ServeConfig, UnmountError, UnmountHow, mounter, unmount};
use backupengine_model::Kind as NodeKind;
use backupengine_vault::Vault;
use backupengine_vfs::{Config, ReadOnlyFs};
use serde_json::Map;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Least `--memory`: below it every read would throw out what the one before needs.
const LEAST: u64 = 32 << 20;

/// Mounts, and serves until somebody unmounts.
///
/// # Errors
/// Whatever keeps the tree from being shown; nothing is mounted then.
pub(crate) fn run(wire: &Wire, args: &Mount) -> Result<Outcome, Failure> {
    let memory = memory(&args.memory)?;
    let what = args.snapshot.as_deref().map(What::parse).transpose()?;
    let mountpoint = mounts::check(&args.mountpoint)?;
    refuse_in_vault(wire, &mountpoint)?;
    if args.background {
        background::start(wire, args, &mountpoint)?;
        report(wire, &mountpoint)?;
        return Ok(Outcome::Done);
    }
    let stage = Arc::new(Mutex::new(Stage::Opening));
    watch_signals(&stage)?;
    let mounted = open_and_mount(wire, args, &mountpoint, memory, what.as_ref(), &stage);
    if args.supervised {
        // Whoever started this one waits for a word.
        return serve_supervised(mounted);
    }
    let (mounted, vault) = mounted?;
    report(wire, mounted.mountpoint())?;
    serve(wire, mounted, &vault)
}

/// How far the mount is, for the thread that hears of signals.
enum Stage {
    /// Nothing is mounted yet.
    Opening,
    /// There it is.
    Mounted(PathBuf),
}

fn open_and_mount(
    wire: &Wire,
    args: &Mount,
    mountpoint: &Path,
    memory: u64,
    what: Option<&What>,
    stage: &Mutex<Stage>,
) -> Result<(Mounted, Vault), Failure> {
    let opened = wire.open(memory)?;
    let core = core(args, &opened, what)?;
    let mut config = ServeConfig::new(mountpoint);
    config.allow_other = args.allow_other;
    config.options.clone_from(&args.options);
    // Held while mounting: a signal in between waits, and then unmounts.
    let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
    let mounted = backupengine_fuse::mount(core, &config)?;
    *stage = Stage::Mounted(mounted.mountpoint().to_owned());
    Ok((mounted, opened.vault))
}

fn core(args: &Mount, opened: &Opened, what: Option<&What>) -> Result<ReadOnlyFs<Vault, Vault>, Failure> {
    let (uid, gid) = mounter();
    let owner = match args.owner {
        Owner::Me => backupengine_vfs::Owner::Fixed { uid, gid },
        Owner::Stored => backupengine_vfs::Owner::Stored,
    };
    let config = Config { owner, mounter: (uid, gid), names: backupengine_fuse::NAMES };
    let vault = &opened.vault;
    let Some(what) = what else {
        return Ok(ReadOnlyFs::all(vault.clone(), vault.clone(), config)?);
    };
    let list = vault.list()?;
    let node = find(vault, what.choose(&list, None)?, what)?;
    if node.attributes.kind != NodeKind::Directory {
        let path = what.path_bytes();
        return Err(Failure::new(Kind::Failed, format!("{} is no folder", output::shown(&path)))
            .hint("mount a folder of the snapshot, or print a file with `backupengine cat`"));
    }
    ReadOnlyFs::one(vault.clone(), vault.clone(), config, node.id).map_err(|e| {
        Failure::new(Kind::Failed, e).while_doing(format!("{:?} cannot be shown", args.snapshot))
    })
}

/// Bytes for what is kept open, out of the memory the whole process shall stay within: what is under way, the
/// lists and the program itself take the rest.
fn memory(text: &str) -> Result<u64, Failure> {
    match output::parse_size(text) {
        Some(bytes) if bytes >= LEAST => Ok(bytes / 8 * 3),
        Some(_) => Err(Failure::usage(format!("--memory {text} is too little")).hint("give at least 32MiB")),
        None => Err(Failure::usage(format!("{text:?} is no size")).hint("write it like 256MiB")),
    }
}

fn refuse_in_vault(wire: &Wire, mountpoint: &Path) -> Result<(), Failure> {
    let Place::Folder(vault) = wire.place(None)? else { return Ok(()) };
    let real = vault.canonicalize().unwrap_or(vault);
    if mountpoint.starts_with(&real) {
        return Err(Failure::usage(format!("the mountpoint {} lies in the vault", mountpoint.display()))
            .hint("choose an empty folder outside it"));
    }
    Ok(())
}

fn report(wire: &Wire, mountpoint: &Path) -> Result<(), Failure> {
    if wire.global.json {
        let mut object = Map::new();
        output::put_path(&mut object, "mountpoint", mountpoint.as_os_str().as_encoded_bytes());
        object.insert("mounted".into(), true.into());
        return output::json(&object.into());
    }
    if wire.global.quiet {
        return Ok(());
    }
    output::line(format!("mounted on {}", output::shown_path(mountpoint)))
}

/// Serves in the foreground; a line on the terminal says how it goes.
fn serve(wire: &Wire, mounted: Mounted, vault: &Vault) -> Result<Outcome, Failure> {
    let at = output::shown_path(mounted.mountpoint());
    let bar = Bar::start(&wire.global, None);
    let (ended, over) = mpsc::channel::<()>();
    let done = std::thread::scope(|scope| {
        let (bar, at) = (&bar, &at);
        scope.spawn(move || {
            loop {
                let snapshots = vault.list().map_or(0, |list| list.len() as u64);
                let read = size(vault.stats().bytes_fetched);
                let what = count(snapshots, "snapshot", "snapshots");
                bar.update(0, format!("{at}: {what}, {read} read. Ctrl-C unmounts"));
                match over.recv_timeout(Duration::from_secs(1)) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => break,
                }
            }
        });
        let done = mounted.wait();
        drop(ended);
        done
    });
    drop(bar);
    done.map_err(|e| Failure::new(Kind::Failed, e).while_doing("the mount ended"))?;
    Ok(Outcome::Done)
}

/// Serves behind: says first how mounting went, then nothing any more.
fn serve_supervised(mounted: Result<(Mounted, Vault), Failure>) -> Result<Outcome, Failure> {
    let mounted = match mounted {
        Ok((mounted, _)) => mounted,
        Err(failure) => {
            background::tell_failure(&failure)?;
            return Err(failure);
        }
    };
    background::tell_ready()?;
    let done = mounted.wait();
    done.map_err(|e| Failure::new(Kind::Failed, e).while_doing("the mount ended"))?;
    Ok(Outcome::Done)
}

/// Ends the mount when a signal asks for it.
fn watch_signals(stage: &Arc<Mutex<Stage>>) -> Result<(), Failure> {
    let failed = |e| Failure::new(Kind::Failed, e).while_doing("signals cannot be watched");
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let stage = stage.clone();
    let watch = move || {
        let mut asked = 0;
        for signal in signals.forever() {
            let stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
            let Stage::Mounted(mountpoint) = &*stage else {
                std::process::exit(Kind::Interrupted as i32);
            };
            asked += 1;
            // SIGTERM comes from who will not wait; at a terminal somebody can close what is open.
            let how =
                if signal == SIGTERM || asked > 1 { UnmountHow::Detach } else { UnmountHow::UnlessBusy };
            match unmount(mountpoint, how) {
                Ok(()) => {}
                Err(UnmountError::NotMounted(_)) if asked > 2 => {
                    // Detached before, and still read by somebody: enough.
                    std::process::exit(Kind::Interrupted as i32);
                }
                Err(UnmountError::NotMounted(_)) => {}
                Err(error) => {
                    let failure = Failure::from(error);
                    tell(failure.message());
                    tell(
                        "Close it and press Ctrl-C again; the mountpoint is then taken away even if it is busy.",
                    );
                }
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch).map_err(failed)?;
    Ok(())
}
