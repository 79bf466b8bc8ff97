//! Faults × reading: what listing, reading, restoring and a mount come to when storage or the control plane fails, once
//! and for as long as it lasts. `tests/FAULTS.md` is the table.
//!
//! May not ask for more than a fault allows: what comes is right or the error that says what happened. What always
//! holds: when the fault is over, the same client and the same mount show everything.
use crate::http_room::Room;
use crate::program::fuse_is_wanted;
use crate::world::Tree;
use backupengine_fuse::{Mounted, NAMES, ServeConfig, mount, mounter};
use backupengine_model::{NodeId, ReadFailure, TreeReader};
use backupengine_restore::{
    Destination, Failure, Observer, RestoreConfig, RestoreError, RestoreStats, Selection, restore,
};
use backupengine_store::{BlobKey, Readable};
use backupengine_testkit::oracle::sample;
use backupengine_testkit::shown;
use backupengine_tests::relay::{Asked, Reply};
use backupengine_transfer::TransferError;
use backupengine_vault::{Locked, Vault, VaultConfig};
use backupengine_vfs::{Config, Owner, ReadOnlyFs};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What an operation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Right,
    To(ReadFailure),
}

use Came::{Right, To};

/// The pushed files as they lie on the disk: what a mount and a restore have to show.
fn files(room: &Room) -> BTreeMap<String, Vec<u8>> {
    let small = (0..room.sessions.len()).map(|n| format!("file {n}"));
    let names = small.chain(["folder/large".to_owned()]);
    names.map(|name| (name.clone(), std::fs::read(room.source().join(&name)).unwrap())).collect()
}

struct Quiet;
impl Observer for Quiet {
    fn progress(&self, _: &RestoreStats, _: &Path) {}
    fn failure(&self, _: &Failure) {}
}

fn listed(room: &Room, vault: &Vault, truth: &Tree) -> Came {
    let all = || {
        let sessions: Vec<_> = TreeReader::snapshots(vault)?.iter().map(|info| info.session).collect();
        assert_eq!(sessions, room.sessions);
        TreeReader::list(vault, NodeId::root(room.newest()), 0, 1000)
    };
    match all() {
        Ok(page) => {
            let top = truth.keys().filter(|path| path.iter().filter(|byte| **byte == b'/').count() == 1);
            assert_eq!(page.slots.len(), top.count(), "names are missing or made up");
            Right
        }
        Err(error) => To(error.failure),
    }
}

fn read(room: &Room, vault: &Vault, truth: &Tree) -> Came {
    match shown::everything(vault, room.newest()) {
        Ok(tree) => {
            assert!(tree == *truth, "other bytes were shown than were pushed");
            Right
        }
        Err(error) => {
            eprintln!("read: {error}");
            To(error.failure)
        }
    }
}

/// What failed of a restore is told in words, so `expected` is what to call it; that there is no wrong file is looked at.
fn restored(room: &Room, vault: &Vault, expected: Came) -> Came {
    let target = tempfile::tempdir().unwrap();
    let path = sample::path(room.source().canonicalize().unwrap().as_os_str().as_encoded_bytes());
    let chosen = [Selection { session: room.newest(), path }];
    let (into, stop) = (Destination::Into(target.path().to_owned()), AtomicBool::new(false));
    let done = restore(vault, vault, &chosen, &into, &RestoreConfig::default(), &stop, &Quiet);
    let at = target.path().join(room.source().file_name().unwrap());
    let mut missing = 0;
    for (name, bytes) in files(room) {
        match std::fs::read(at.join(&name)) {
            Ok(found) => assert!(found == bytes, "{name} was restored with other bytes"),
            Err(_) => missing += 1,
        }
    }
    match done {
        Ok(report) if report.failures.is_empty() && missing == 0 => Right,
        Ok(report) => {
            assert!(report.stats.errors > 0 && missing > 0, "{report:?}");
            assert!(report.failures.iter().all(|failure| !failure.message.is_empty()));
            expected
        }
        Err(RestoreError::Read(error)) => To(error.failure),
        Err(error) => panic!("{error:?}"),
    }
}

/// A mount of a client; gone with the value.
struct Mount {
    // Before its folder.
    mounted: Mounted,
    _folder: tempfile::TempDir,
}

impl Mount {
    fn of(vault: &Vault) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { owner: Owner::Stored, mounter: mounter(), names: NAMES };
        let core = ReadOnlyFs::all(Arc::new(vault.clone()), Arc::new(vault.clone()), config);
        let core = core.map_err(|error| format!("{error:?}"))?;
        let mounted = mount(core, &ServeConfig::new(folder.path())).map_err(|error| error.to_string())?;
        Ok(Self { mounted, _folder: folder })
    }

    fn reads(&self, room: &Room) -> Came {
        let source = room.source().canonicalize().unwrap();
        let at = self.mounted.mountpoint().join("latest").join(source.strip_prefix("/").unwrap());
        for (name, bytes) in files(room) {
            match std::fs::read(at.join(&name)) {
                Ok(found) => assert!(found == bytes, "{name} is shown with other bytes"),
                Err(error) => return To(failure_of(&error)),
            }
        }
        Right
    }
}

fn failure_of(error: &std::io::Error) -> ReadFailure {
    match Errno::from_io_error(error) {
        Some(Errno::IO) => ReadFailure::Damaged,
        Some(Errno::TIMEDOUT) => ReadFailure::TimedOut,
        Some(Errno::ACCESS) => ReadFailure::Denied,
        Some(Errno::STALE) => ReadFailure::Gone,
        other => panic!("a mount gave {other:?}: {error}"),
    }
}

/// A client that waits no longer than this for one answer.
fn patient(room: &Room, timeout: Duration) -> Vault {
    let store: Arc<dyn Readable> = Arc::new(room.store());
    let config = VaultConfig { timeout: Some(timeout), ..VaultConfig::default() };
    Locked::open(store).unwrap().unlock_as(room.vault.keyring.clone(), config).unwrap()
}

/// What becomes of an answer.
type Spoil = fn(Reply) -> Reply;
type Lie = Arc<dyn Fn(&Asked, &dyn Fn() -> Reply) -> Reply + Send + Sync>;

fn lie(lie: impl Fn(&Asked, &dyn Fn() -> Reply) -> Reply + Send + Sync + 'static) -> Lie {
    Arc::new(lie)
}

/// Each operation on a client of its own while storage lies, and again once it does not.
fn all_operations(room: &Room, name: &str, storage: &Lie, expected: Came) {
    let truth = room.truth(room.newest());
    let begin = || {
        let vault = patient(room, Duration::from_secs(15));
        let storage = Arc::clone(storage);
        room.storage
            .lies(move |asked, pass| if asked.method == "GET" { storage(asked, pass) } else { pass() });
        vault
    };
    let vault = begin();
    assert_eq!(listed(room, &vault, &truth), expected, "{name}: list");
    room.storage.is_honest();
    assert_eq!(listed(room, &vault, &truth), Right, "{name}: list, afterwards");

    let vault = begin();
    assert_eq!(read(room, &vault, &truth), expected, "{name}: read");
    room.storage.is_honest();
    assert_eq!(read(room, &vault, &truth), Right, "{name}: read, afterwards");

    let vault = begin();
    assert_eq!(restored(room, &vault, expected), expected, "{name}: restore");
    room.storage.is_honest();
    assert_eq!(restored(room, &vault, Right), Right, "{name}: restore, afterwards");

    if !fuse_is_wanted() {
        return;
    }
    let vault = begin();
    // The top of a mount shows the list of snapshots and needs nothing of storage.
    let mounted = Mount::of(&vault).unwrap_or_else(|error| panic!("{name}: mount: {error}"));
    assert_eq!(mounted.reads(room), expected, "{name}: mount");
    room.storage.is_honest();
    assert_eq!(mounted.reads(room), Right, "{name}: mount, afterwards");
}

fn half(reply: Reply) -> Reply {
    Reply { cut: Some(reply.body.len() / 2), ..reply }
}

/// Fewer bytes than the part that is named.
fn shorter(mut reply: Reply) -> Reply {
    reply.body.pop();
    reply
}

fn flipped(mut reply: Reply) -> Reply {
    // At many places: whatever is looked at of it is damaged.
    reply.body.iter_mut().step_by(16).for_each(|byte| *byte ^= 1);
    reply
}

#[test]
fn storage_that_fails_once_costs_nothing() {
    let room = Room::with(2);
    let once: [(&str, Spoil); 8] = [
        ("500", |_| Reply::status(500)),
        ("503", |_| Reply::status(503)),
        ("429", |_| Reply::status(429)),
        // A grant that has ended, or whose signature the clock spoilt.
        ("403", |_| Reply::status(403)),
        ("401", |_| Reply::status(401)),
        ("cut off", half),
        ("shorter than it says", shorter),
        ("slow", |reply| {
            std::thread::sleep(Duration::from_millis(300));
            reply
        }),
    ];
    for (name, fault) in once {
        let seen = Mutex::new(HashSet::new());
        let storage = lie(move |asked, pass| {
            let first =
                seen.lock().unwrap().insert((asked.path.clone(), asked.header("range").map(str::to_owned)));
            if first { fault(pass()) } else { pass() }
        });
        all_operations(&room, name, &storage, Right);
    }
    // Damaged on their way: packs, whose frames are fetched once more.
    let seen = Mutex::new(HashSet::new());
    let damaged = lie(move |asked, pass| {
        let first = asked.path.contains("/p/") && seen.lock().unwrap().insert(asked.path.clone());
        if first { flipped(pass()) } else { pass() }
    });
    all_operations(&room, "damaged on its way", &damaged, Right);
}

#[test]
fn storage_that_goes_on_failing_is_told_by_every_operation() {
    let room = Room::with(2);
    let lasting: [(&str, Spoil, Came); 10] = [
        ("500", |_| Reply::status(500), To(ReadFailure::TimedOut)),
        ("503", |_| Reply::status(503), To(ReadFailure::TimedOut)),
        ("429", |_| Reply::status(429), To(ReadFailure::TimedOut)),
        ("cut off", half, To(ReadFailure::TimedOut)),
        ("shorter than it says", shorter, To(ReadFailure::TimedOut)),
        ("401", |_| Reply::status(401), To(ReadFailure::Denied)),
        ("403", |_| Reply::status(403), To(ReadFailure::Denied)),
        ("404", |_| Reply::status(404), To(ReadFailure::Damaged)),
        ("412", |_| Reply::status(412), To(ReadFailure::Damaged)),
        ("corrupt bytes", flipped, To(ReadFailure::Damaged)),
    ];
    for (name, fault, expected) in lasting {
        all_operations(&room, name, &lie(move |_, pass| fault(pass())), expected);
    }
}

#[test]
fn answers_that_are_repeated_or_come_out_of_order_show_nothing_false() {
    let room = Room::with(3);
    // Each request waits another time: whatever is asked for at once is answered in another order.
    let asked = AtomicUsize::new(0);
    let disordered = lie(move |_, pass| {
        let turn = asked.fetch_add(1, Ordering::SeqCst) as u64 % 5;
        std::thread::sleep(Duration::from_millis(40 * (4 - turn)));
        pass()
    });
    all_operations(&room, "out of order", &disordered, Right);
    // The answer to another request, the one of the blob before it: another blob's bytes for the same part.
    let first = Mutex::new(None);
    let repeated = lie(move |_, pass| {
        let reply = pass();
        first.lock().unwrap().get_or_insert(reply).clone()
    });
    let truth = room.truth(room.newest());
    for _ in 0..3 {
        let vault = patient(&room, Duration::from_secs(15));
        let storage = Arc::clone(&repeated);
        room.storage.lies(move |asked, pass| storage(asked, pass));
        let came = read(&room, &vault, &truth);
        assert!(matches!(came, To(ReadFailure::Damaged | ReadFailure::TimedOut)), "{came:?}");
        let came = restored(&room, &vault, To(ReadFailure::Damaged));
        assert_ne!(came, Right);
        room.storage.is_honest();
        assert_eq!(read(&room, &vault, &truth), Right);
        assert_eq!(restored(&room, &vault, Right), Right);
    }
}

#[test]
fn lengths_that_are_lied_about_show_nothing_false() {
    let room = Room::with(2);
    let truth = room.truth(room.newest());
    // The blob is said to be longer or shorter than it is; the part keeps its own place, or moves with the end.
    for (by, moves) in [(1, false), (1000, false), (-1, false), (4096, true), (-4096, true)] {
        let vault = patient(&room, Duration::from_secs(15));
        room.storage.lies(move |_, pass| {
            let mut reply = pass();
            for (name, value) in &mut reply.headers {
                let Some((place, total)) = value.strip_prefix("bytes ").and_then(|text| text.split_once('/'))
                else {
                    continue;
                };
                let (from, to) = place.split_once('-').unwrap();
                let moved = |text: &str| text.parse::<i64>().unwrap() + if moves { by } else { 0 };
                let total = total.parse::<i64>().unwrap() + by;
                assert_eq!(name, "content-range");
                *value = format!("bytes {}-{}/{total}", moved(from), moved(to));
            }
            reply
        });
        // A reader that does not look at the length is right; none is wrong.
        let came = [listed(&room, &vault, &truth), read(&room, &vault, &truth)];
        let came = [came[0], came[1], restored(&room, &vault, To(ReadFailure::Damaged))];
        for came in came {
            assert!(
                matches!(came, Right | To(ReadFailure::Damaged | ReadFailure::TimedOut)),
                "{by}: {came:?}"
            );
        }
        room.storage.is_honest();
        assert_eq!(read(&room, &vault, &truth), Right, "{by}");
        assert_eq!(restored(&room, &vault, Right), Right, "{by}");
    }
}

#[test]
fn storage_that_is_silent_or_away_ends_every_operation_and_is_read_when_it_is_back() {
    let room = Room::with(2);
    let truth = room.truth(room.newest());
    let gate = Arc::new(AtomicBool::new(true));
    for silent in [true, false] {
        let vaults: Vec<Vault> = (0..4).map(|_| patient(&room, Duration::from_secs(1))).collect();
        let mounted = fuse_is_wanted().then(|| Mount::of(&vaults[3]).unwrap());
        gate.store(true, Ordering::SeqCst);
        if silent {
            let gate = Arc::clone(&gate);
            room.storage.lies(move |_, pass| {
                while gate.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                pass()
            });
        } else {
            room.storage.is_away(true);
        }
        let late = To(ReadFailure::TimedOut);
        assert_eq!(listed(&room, &vaults[0], &truth), late);
        assert_eq!(read(&room, &vaults[1], &truth), late);
        assert_eq!(restored(&room, &vaults[2], late), late);
        if let Some(mounted) = &mounted {
            assert_eq!(mounted.reads(&room), late);
        }
        gate.store(false, Ordering::SeqCst);
        room.storage.is_honest();
        if !silent {
            room.storage.is_away(false);
        }
        assert_eq!(listed(&room, &vaults[0], &truth), Right);
        assert_eq!(read(&room, &vaults[1], &truth), Right);
        assert_eq!(restored(&room, &vaults[2], Right), Right);
        if let Some(mounted) = &mounted {
            assert_eq!(mounted.reads(&room), Right);
        }
    }
}

/// What the control plane may answer instead, whether that may pass, and whether asking again helps at once.
fn control_faults() -> Vec<(&'static str, Lie)> {
    let status = |status| lie(move |_, _| Reply::status(status));
    vec![
        ("500", status(500)),
        ("503", status(503)),
        ("429", status(429)),
        ("404", status(404)),
        ("403", status(403)),
        ("412", status(412)),
        ("cut off", lie(|_, pass| half(pass()))),
        ("corrupt", lie(|_, pass| flipped(pass()))),
        ("empty", lie(|_, pass| Reply { body: Vec::new(), ..pass() })),
    ]
}

#[test]
fn a_control_plane_that_fails_once_costs_nothing() {
    let room = Room::with(2);
    let truth = room.truth(room.newest());
    for (name, fault) in control_faults() {
        // A refusal is an answer: it is believed at once.
        if !["500", "503", "429", "cut off"].contains(&name) {
            continue;
        }
        let seen = Mutex::new(HashSet::new());
        room.control.lies(move |asked, pass| {
            let first = seen.lock().unwrap().insert(asked.path.clone());
            if first { fault(asked, pass) } else { pass() }
        });
        let vault = room.client_on(&room.asking_store());
        assert_eq!(listed(&room, &vault, &truth), Right, "{name}");
        assert_eq!(read(&room, &vault, &truth), Right, "{name}");
        assert_eq!(restored(&room, &vault, Right), Right, "{name}");
        if fuse_is_wanted() {
            assert_eq!(Mount::of(&vault).unwrap().reads(&room), Right, "{name}");
        }
        room.control.is_honest();
    }
}

#[test]
fn a_control_plane_that_goes_on_failing_is_told_and_what_was_granted_is_read() {
    let room = Room::with(2);
    let truth = room.truth(room.newest());
    let mut faults = control_faults();
    faults.push(("away", lie(|_, pass| pass())));
    for (name, fault) in faults {
        let store = room.hurried_store().unwrap();
        // Grants for everything are at hand, and nothing is in memory.
        assert_eq!(read(&room, &room.client_on(&store), &truth), Right, "{name}");
        let (client, listing) = (room.client_on(&store), room.client_on(&store));
        TreeReader::snapshots(&client).unwrap();
        let mounted = fuse_is_wanted().then(|| Mount::of(&client).unwrap());
        if name == "away" {
            room.control.is_away(true);
        } else {
            room.control.lies(move |asked, pass| fault(asked, pass));
        }
        // The list is asked for, and says what is wrong with the server, never an older or an empty list.
        let refused = TreeReader::snapshots(&listing).unwrap_err();
        assert!(!refused.message.is_empty(), "{name}");
        assert!(
            matches!(refused.failure, ReadFailure::TimedOut | ReadFailure::Denied | ReadFailure::Damaged),
            "{name}: {refused:?}"
        );
        let refused_list = refused.failure;
        let opened = room.hurried_store().map(|_| ());
        let Err(refused) = opened else { panic!("{name}: it opens") };
        assert!(!matches!(refused, TransferError::System(_)), "{name}: {refused:?}");
        // A restore begins with the list.
        assert_eq!(restored(&room, &client, Right), To(refused_list), "{name}");
        // Storage is up: what was listed before is read.
        let known = NodeId::root(room.newest());
        assert!(TreeReader::list(&client, known, 0, 100).is_ok(), "{name}");
        assert_eq!(read(&room, &client, &truth), Right, "{name}");
        if let Some(mounted) = &mounted {
            assert_eq!(mounted.reads(&room), Right, "{name}");
        }
        if name == "away" {
            room.control.is_away(false);
        }
        room.control.is_honest();
        assert_eq!(listed(&room, &listing, &truth), Right, "{name}: afterwards");
    }
}

#[test]
fn a_restore_that_has_begun_needs_the_control_plane_no_more_than_its_grants_do() {
    let room = Room::with(2);
    let truth = room.truth(room.newest());
    for (name, fault) in control_faults() {
        let store = room.hurried_store().unwrap();
        assert_eq!(read(&room, &room.client_on(&store), &truth), Right, "{name}");
        let client = room.client_on(&store);
        TreeReader::snapshots(&client).unwrap();
        // One look whether the list is still the same, then nothing.
        let looked = AtomicUsize::new(0);
        room.control.lies(move |asked, pass| {
            let first = asked.op() == "version" && looked.fetch_add(1, Ordering::SeqCst) == 0;
            if first { pass() } else { fault(asked, pass) }
        });
        assert_eq!(restored(&room, &client, To(ReadFailure::Damaged)), Right, "{name}");
        room.control.is_honest();
    }
}

#[test]
fn a_blob_that_is_damaged_in_storage_costs_what_it_held_in_every_operation() {
    let room = Room::with(2);
    let newest = BlobKey::Root(room.newest());
    let storage = |key: BlobKey| {
        lie(move |asked, pass| if crate::http_room::is(asked, key) { flipped(pass()) } else { pass() })
    };
    all_operations(&room, "the newest root", &storage(newest), To(ReadFailure::Damaged));
    // The older snapshot does not need it.
    let (older, truth) = (room.sessions[0], room.truth(room.sessions[0]));
    let lies = storage(newest);
    room.storage.lies(move |asked, pass| lies(asked, pass));
    assert_eq!(room.reads(older, &truth).map_err(|error| error.failure), Ok(()));
    room.storage.is_honest();
}
