//! Live files as seeds of a mount: what still lies on this device is not fetched, and whatever became of it, the
//! snapshot is shown. Calls are counted where they pass, before object storage.
use crate::account_world::Account;
use crate::program::{Person, fuse_is_wanted, shell};
use backupengine_tests::account::Server;
use backupengine_tests::relay::Relay;
use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes that no compressor shortens.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Somebody with a vault behind relays.
struct Garden {
    person: Person,
    storage: Relay,
    _control: Relay,
    _server: Server,
}

impl Garden {
    fn new() -> Self {
        let (control, storage) = (Relay::start(), Relay::start());
        let server = Server::behind(&control, &storage, |_| {}, |_| {});
        let person = Person::new();
        drop(Account::with_vault(&server, &person, "a@example.org"));
        Self { person, storage, _control: control, _server: server }
    }

    fn push(&self) {
        self.person.run(["push", self.person.at("src").to_str().unwrap()]).expect(0);
    }

    /// Parts of packs that were asked for so far.
    fn gets(&self) -> usize {
        self.storage.seen().iter().filter(|asked| asked.method == "GET" && asked.path.contains("/p/")).count()
    }

    /// Mounts anew, with nothing kept on this device; the folder where `src` is shown in a snapshot.
    fn mount(&self, snapshot: &str, more: &[&str]) -> PathBuf {
        self.person.run(["cache", "clear"]).expect(0);
        let mnt = self.person.mount(more);
        let seen = mnt.join(snapshot).join(self.person.at("src").strip_prefix("/").unwrap());
        // Every page of the tree is read here, and what a look at names brings along is over.
        shell(self.person.path(), &format!("find '{}' -printf '%s %p' > /dev/null", seen.display()));
        self.settle();
        seen
    }

    /// Waits until nothing is on its way any more.
    fn settle(&self) {
        let (mut before, mut quiet) = (self.gets(), Instant::now());
        while quiet.elapsed() < Duration::from_millis(700) {
            std::thread::sleep(Duration::from_millis(50));
            if self.gets() != before {
                (before, quiet) = (self.gets(), Instant::now());
            }
        }
    }

    fn unmount(&self) {
        self.person.run(["unmount", self.person.at("mnt").to_str().unwrap()]).expect(0);
    }

    /// Reads all of these files as they were pushed; during which of them parts of packs were asked for.
    fn read(&self, seen: &Path, files: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
        let mut fetched = Vec::new();
        for (name, bytes) in files {
            let before = self.gets();
            let read = fs::read(seen.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(read == *bytes, "{name} is not what was pushed");
            if self.gets() > before {
                fetched.push(name.clone());
            }
        }
        fetched
    }
}

/// Writes files below `src`.
fn plant(person: &Person, files: &BTreeMap<String, Vec<u8>>) {
    files.iter().for_each(|(name, bytes)| person.write(&format!("src/{name}"), bytes));
}

fn files(parts: &[(&str, Vec<u8>)]) -> BTreeMap<String, Vec<u8>> {
    parts.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect()
}

/// Gives a file the modification time that it had.
fn set_mtime(path: &Path, like: &fs::Metadata) {
    let times = FileTimes::new().set_modified(like.modified().unwrap());
    OpenOptions::new().write(true).open(path).unwrap().set_times(times).unwrap();
}

#[test]
fn what_lies_unchanged_on_this_device_is_not_fetched() {
    if !fuse_is_wanted() {
        return;
    }
    let garden = Garden::new();
    let person = &garden.person;
    let mut all = files(&[
        ("empty", Vec::new()),
        ("inline", noise(1, 100)),
        ("large", noise(2, 9 << 20)),
        ("just over a bundle", noise(3, (64 << 10) + 1)),
        ("zeros", vec![0; 5 << 20]),
    ]);
    for n in 0..120_usize {
        all.insert(format!("folder {}/small {n}", n % 7), noise(100 + n as u64, 129 + n * 97));
        // Equal and too short to be stored once: each has a place of its own.
        all.insert(format!("folder {}/same {n}", n % 7), noise(4, 300));
    }
    plant(person, &all);
    fs::hard_link(person.at("src/large"), person.at("src/large too")).unwrap();
    all.insert("large too".to_owned(), all["large"].clone());
    let sparse = File::create(person.at("src/sparse")).unwrap();
    sparse.set_len(20 << 20).unwrap();
    sparse.write_all_at(&noise(5, 1 << 20), 3 << 20).unwrap();
    all.insert("sparse".to_owned(), fs::read(person.at("src/sparse")).unwrap());
    garden.push();
    // A second snapshot has one file more; the first one's are where they were.
    let first = all.clone();
    person.write("src/new", noise(6, 200_000));
    all.insert("new".to_owned(), noise(6, 200_000));
    garden.push();

    let seen = garden.mount("latest", &[]);
    assert_eq!(garden.read(&seen, &all), [""; 0], "content was fetched");
    // Of an earlier snapshot as well, and of one that is pushed while the mount stands.
    let folders = fs::read_dir(person.at("mnt")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut folders: Vec<_> = folders.filter(|name| name.to_string_lossy().contains('Z')).collect();
    folders.sort();
    let earlier = person.at("mnt").join(&folders[0]).join(person.at("src").strip_prefix("/").unwrap());
    shell(person.path(), &format!("find '{}' -printf '%s %p' > /dev/null", earlier.display()));
    garden.settle();
    assert_eq!(garden.read(&earlier, &first), [""; 0], "content of an earlier snapshot was fetched");
    person.write("src/newer", noise(7, 2 << 20));
    garden.push();
    let newer = person.at("mnt/latest").join(person.at("src/newer").strip_prefix("/").unwrap());
    let until = Instant::now() + Duration::from_secs(30);
    while !newer.exists() {
        assert!(Instant::now() < until, "the new snapshot does not appear");
        std::thread::sleep(Duration::from_millis(100));
    }
    garden.settle();
    let before = garden.gets();
    assert!(fs::read(&newer).unwrap() == noise(7, 2 << 20));
    assert_eq!(garden.gets(), before, "content of a new snapshot was fetched");
    garden.unmount();

    // The same without seeds: everything comes from the store.
    let seen = garden.mount("latest", &["--no-seeds"]);
    assert!(garden.read(&seen, &all).len() > 3);
    garden.unmount();
    // And where nothing is left of what pushes knew, or what is left is damaged.
    let index = shell(person.path(), "find home/cache -name 'dedup-*'");
    let index = person.at(index.trim());
    for segment in fs::read_dir(&index).unwrap() {
        let path = segment.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "seg") {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(b"damage", 40).unwrap();
        }
    }
    let seen = garden.mount("latest", &[]);
    assert!(!garden.read(&seen, &all).is_empty());
    garden.unmount();
    fs::remove_dir_all(&index).unwrap();
    let seen = garden.mount("latest", &[]);
    assert!(garden.read(&seen, &all).len() > 3);
    garden.unmount();
}

#[test]
fn whatever_becomes_of_a_live_file_the_snapshot_is_shown() {
    if !fuse_is_wanted() {
        return;
    }
    let garden = Garden::new();
    let person = &garden.person;
    let kinds = [
        "in place", "one byte", "replaced", "cut", "longer", "link", "pipe", "folder", "gone", "restless",
        "same",
    ];
    let mut all = BTreeMap::new();
    for (n, kind) in (0..).zip(kinds) {
        all.insert(format!("{kind}/small"), noise(1000 + n, 3000));
        all.insert(format!("{kind}/tiny"), noise(2000 + n, 200));
        all.insert(format!("{kind}/large"), noise(3000 + n, 3 << 20));
    }
    all.insert("behind/link/small".to_owned(), noise(1, 4000));
    plant(person, &all);
    garden.push();

    let secret = person.at("secret");
    fs::write(&secret, "not what was pushed").unwrap();
    for name in ["small", "tiny", "large"] {
        let at = |kind: &str| person.at(format!("src/{kind}/{name}"));
        let was = |kind: &str| (fs::metadata(at(kind)).unwrap(), all[&format!("{kind}/{name}")].clone());
        // The same size and time, other bytes: all of them, or one.
        let (meta, bytes) = was("in place");
        OpenOptions::new()
            .write(true)
            .open(at("in place"))
            .unwrap()
            .write_all_at(&noise(9, bytes.len()), 0)
            .unwrap();
        set_mtime(&at("in place"), &meta);
        let (meta, bytes) = was("one byte");
        let middle = bytes.len() as u64 / 2;
        let other = [bytes[middle as usize] ^ 1];
        OpenOptions::new().write(true).open(at("one byte")).unwrap().write_all_at(&other, middle).unwrap();
        set_mtime(&at("one byte"), &meta);
        // Another file under the name.
        let (meta, bytes) = was("replaced");
        let aside = person.at("aside");
        fs::write(&aside, noise(10, bytes.len())).unwrap();
        set_mtime(&aside, &meta);
        fs::rename(&aside, at("replaced")).unwrap();
        assert_ne!(fs::metadata(at("replaced")).unwrap().ino(), meta.ino());
        let (meta, bytes) = was("cut");
        OpenOptions::new().write(true).open(at("cut")).unwrap().set_len(bytes.len() as u64 / 2).unwrap();
        set_mtime(&at("cut"), &meta);
        let (meta, bytes) = was("longer");
        OpenOptions::new()
            .append(true)
            .open(at("longer"))
            .unwrap()
            .write_all_at(b"more", bytes.len() as u64)
            .unwrap();
        set_mtime(&at("longer"), &meta);
        for kind in ["link", "pipe", "folder", "gone"] {
            fs::remove_file(at(kind)).unwrap();
        }
        symlink(&secret, at("link")).unwrap();
        shell(person.path(), &format!("mkfifo 'src/pipe/{name}'"));
        fs::create_dir(at("folder")).unwrap();
    }
    // A folder on the way that is a link now.
    fs::rename(person.at("src/behind/link"), person.at("elsewhere")).unwrap();
    symlink(person.at("elsewhere"), person.at("src/behind/link")).unwrap();

    let seen = garden.mount("latest", &[]);
    let same = |name: &str| name.starts_with("same/");
    let (unchanged, changed): (BTreeMap<_, _>, BTreeMap<_, _>) =
        all.into_iter().partition(|(name, _)| same(name));
    assert_eq!(garden.read(&seen, &unchanged), [""; 0]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Somebody writes while the mount reads, and sets the time back each time.
        for name in ["small", "tiny", "large"] {
            let path = person.at(format!("src/restless/{name}"));
            let (meta, bytes, stop) =
                (fs::metadata(&path).unwrap(), &changed[&format!("restless/{name}")], &stop);
            scope.spawn(move || {
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let at = n * 7919 % bytes.len();
                    let byte = if n % 2 == 0 { bytes[at] } else { !bytes[at] };
                    file.write_all_at(&[byte], at as u64).unwrap();
                    set_mtime(&path, &meta);
                }
            });
        }
        let cost = garden.read(&seen, &changed);
        stop.store(true, Ordering::Relaxed);
        assert!(!cost.is_empty());
    });
    garden.unmount();
}
