//! `mount`: shows snapshots as read-only folders, in the foreground or behind.
//!
//! What always holds: the mountpoint is looked at before anybody is asked for a passphrase; whatever ends this
//! process in an orderly way takes the mount away; a busy mount is not torn from who reads it without a second
//! word.
use crate::args::{Mount, Owner};
use crate::doing::Doing;
use crate::error::{Failure, Kind, Outcome};
use crate::find::find;
use crate::lease::Lease;
use crate::output::{self, count, size, tell};
use crate::place::Place;
use crate::progress::Bar;
use crate::select::What;
use crate::telling::Telling;
use crate::wire::{Away, How, Opened, Wire, away_text};
use crate::{background, cache, mounts, pace};
use backupengine_fuse::{Mounted, ServeConfig, UnmountError, UnmountHow, mounter, unmount};
use backupengine_model::{Kind as NodeKind, Timestamp};
use backupengine_transfer::PresignedStore;
use backupengine_vault::Vault;
use backupengine_vfs::{Config, ReadOnlyFs};
use serde_json::Map;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Least `--memory`: below it every read would throw out what the one before needs.
const LEAST: u64 = 32 << 20;

/// Threads that answer where each may wait for a server: so many reads can wait before something that is here has to.
/// Each keeps a buffer of the longest read, 1 MiB, and has what it reads in hand.
const FAR_THREADS: u64 = 32;
/// Memory beyond [`ITSELF`] for each of them.
const FAR_THREAD_MEMORY: u64 = 7 << 20;
/// What the program takes before anything is read, and a few threads that read.
const ITSELF: u64 = 32 << 20;

/// Which part of the memory for what is kept open may go to knowing what lies in live files.
const SEEDS_SHARE: u64 = 8;

/// How long to wait before a server that was not reached is looked for again; one that refused, or that was not believed.
const AGAIN: Duration = Duration::from_secs(5);
const AGAIN_REFUSED: Duration = Duration::from_secs(60);

/// Mounts, and serves until somebody unmounts.
///
/// # Errors
/// Whatever keeps the tree from being shown; nothing is mounted then.
pub(crate) fn run(wire: &Wire, args: &Mount) -> Result<Outcome, Failure> {
    let budget = Budget::of(args)?;
    let what = args.snapshot.as_deref().map(What::parse).transpose()?;
    let mountpoint = mounts::check(&args.mountpoint)?;
    refuse_in_vault(wire, &mountpoint)?;
    if budget.cache.is_some() && matches!(wire.place(None)?, Place::Folder(_)) {
        return Err(cache::none_of_folder().hint("leave --cache-size out"));
    }
    if args.background {
        let seen = background::start(wire, args, &mountpoint)?;
        report(wire, &mountpoint, seen)?;
        return Ok(Outcome::Done);
    }
    let stage = Arc::new(Mutex::new(Stage::Opening));
    watch_signals(&stage)?;
    let mounted = open_and_mount(wire, args, &mountpoint, &budget, what.as_ref(), &stage);
    if args.supervised {
        // Whoever started this one waits for a word.
        return serve_supervised(wire, mounted);
    }
    let served = mounted?;
    let seen = served.away.as_ref().map(|away| away.seen);
    if let Some(away) = &served.away {
        tell(away_text(away.seen));
    }
    report(wire, served.mounted.mountpoint(), seen)?;
    serve(wire, served)
}

/// A mount that answers.
struct Served {
    mounted: Mounted,
    vault: Vault,
    /// Where the server was not reached.
    away: Option<Away>,
    /// None where the system has no place for it: nobody can ask then what the mount does.
    telling: Option<Telling>,
    lease: Option<Lease>,
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
    budget: &Budget,
    what: Option<&What>,
    stage: &Mutex<Stage>,
) -> Result<Served, Failure> {
    let timeout = Some(Duration::from_secs(args.timeout.into()));
    let how = How { memory: budget.opened, cache_size: budget.cache, timeout, ..How::default() };
    let opened = wire.open_to_look(&how)?;
    wire.renew(&opened.vault);
    // Files are opened with the rights of this user, whoever asks: others are given the store's bytes.
    let others = args.allow_other || args.options.iter().any(|option| option.contains("allow_"));
    if !args.no_seeds && !others {
        wire.seed(&opened, budget.opened / SEEDS_SHARE);
    }
    let core = core(args, &opened, what)?;
    let mut config = ServeConfig::new(mountpoint);
    config.allow_other = args.allow_other;
    config.options.clone_from(&args.options);
    let far = opened.online.is_some() || opened.away.is_some();
    if far {
        config.threads = budget.threads;
    }
    // Held while mounting: a signal in between waits, and then unmounts.
    let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
    let mounted = backupengine_fuse::mount(core, &config)?;
    *stage = Stage::Mounted(mounted.mountpoint().to_owned());
    let store: Arc<OnceLock<PresignedStore>> = Arc::default();
    let lease = Lease::of_mount(&opened, &store)?;
    if let Some((_, online)) = opened.online {
        drop(store.set(online));
    }
    let away = opened.away.inspect(|away| come_back(wire, away, &store));
    let doing = Doing {
        mountpoint: mounted.mountpoint().to_owned(),
        vault: opened.vault.clone(),
        requests: mounted.requests(),
        far,
        store,
        away: away.as_ref().map(|away| away.store.clone()),
        begun: Instant::now(),
        looking: Arc::default(),
    };
    let telling = Telling::start(&wire.places.state, move || doing.say()).map_err(|failure| {
        tracing::warn!("`status --top` cannot ask this mount: {}", failure.message());
    });
    Ok(Served { mounted, vault: opened.vault, away, telling: telling.ok(), lease })
}

/// Looks for a server that was not reached until it is; from then on it is asked.
fn come_back(wire: &Wire, away: &Away, store: &Arc<OnceLock<PresignedStore>>) {
    let (wire, seen, store) = (wire.clone(), away.store.clone(), store.clone());
    let look = move || {
        let mut told = false;
        loop {
            let pause = match wire.reach_again() {
                Ok(reached) => {
                    seen.reached(Arc::new(reached.clone()));
                    drop(store.set(reached));
                    tracing::info!("the server is reached again");
                    return;
                }
                Err(failure) if failure.kind == Kind::Unreachable => AGAIN,
                // What it says keeps this mount from believing it: what was seen stays.
                Err(failure) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!("the server is there, but is not asked: {}", failure.message());
                    }
                    AGAIN_REFUSED
                }
            };
            std::thread::sleep(pause);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("come back".into()).spawn(look) {
        tracing::warn!(%error, "the server is not looked for: mount again when it is reached");
    }
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

/// What the process may take.
struct Budget {
    /// Bytes for what is kept open, out of the memory the whole process shall stay within: what is under way, the
    /// lists and the program itself take the rest.
    opened: u64,
    /// Bytes of disk for the cache, where that was said.
    cache: Option<u64>,
    /// Threads that answer where the vault is behind a server.
    threads: usize,
}

impl Budget {
    fn of(args: &Mount) -> Result<Self, Failure> {
        let text = &args.memory;
        let memory = match output::parse_size(text) {
            Some(bytes) if bytes >= LEAST => bytes,
            Some(_) => {
                return Err(
                    Failure::usage(format!("--memory {text} is too little")).hint("give at least 32MiB")
                );
            }
            None => return Err(Failure::usage(format!("{text:?} is no size")).hint("write it like 256MiB")),
        };
        let cache = args.cache_size.as_deref().map(|text| cache::parse_size(text, Some(memory)));
        let rest = memory.saturating_sub(ITSELF);
        let threads = (rest / FAR_THREAD_MEMORY).clamp(4, FAR_THREADS) as usize;
        let opened = (rest / 7 * 3).max(memory / 8);
        Ok(Self { opened, cache: cache.transpose()?, threads })
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

/// `seen`: when the vault was last seen, where its server is not reached.
fn report(wire: &Wire, mountpoint: &Path, seen: Option<Timestamp>) -> Result<(), Failure> {
    if wire.global.json {
        let mut object = Map::new();
        output::put_path(&mut object, "mountpoint", mountpoint.as_os_str().as_encoded_bytes());
        object.insert("mounted".into(), true.into());
        if let Some(seen) = seen {
            object.insert("last_seen".into(), crate::time::rfc3339(seen).into());
        }
        return output::json(&object.into());
    }
    if wire.global.quiet {
        return Ok(());
    }
    output::line(format!("mounted on {}", output::shown_path(mountpoint)))
}

/// Serves in the foreground; a line on the terminal says how it goes.
fn serve(wire: &Wire, served: Served) -> Result<Outcome, Failure> {
    let Served { mounted, vault, telling, lease, .. } = served;
    let at = output::shown_path(mounted.mountpoint());
    let bar = Bar::start(&wire.global, None);
    let (ended, over) = mpsc::channel::<()>();
    let done = std::thread::scope(|scope| {
        let (bar, at, vault) = (&bar, &at, &vault);
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
    drop((telling, lease));
    keep_pace(wire, &vault);
    done.map_err(|e| Failure::new(Kind::Failed, e).while_doing("the mount ended"))?;
    Ok(Outcome::Done)
}

/// Serves behind: says first how mounting went, then nothing any more.
fn serve_supervised(wire: &Wire, mounted: Result<Served, Failure>) -> Result<Outcome, Failure> {
    let Served { mounted, vault, away, telling, lease } = match mounted {
        Ok(served) => served,
        Err(failure) => {
            background::tell_failure(&failure)?;
            return Err(failure);
        }
    };
    if let Some(away) = &away {
        tracing::warn!("{}", away_text(away.seen));
    }
    background::tell_ready(away.as_ref().map(|away| away.seen))?;
    let done = mounted.wait();
    drop((telling, lease));
    keep_pace(wire, &vault);
    done.map_err(|e| Failure::new(Kind::Failed, e).while_doing("the mount ended"))?;
    Ok(Outcome::Done)
}

/// Keeps what the line carried, for the next mount to begin with.
fn keep_pace(wire: &Wire, vault: &Vault) {
    if let Some(seen) = vault.pace() {
        pace::save(&pace::path(&wire.places.state, vault.keyring().vault()), seen);
    }
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
