//! Mounts across a network under what is hard on them: late answers, a thin line, no answers at all, little memory, many
//! readers, a cache whose disk fails. Right bytes every time, and no read that waits longer than `--timeout`.
use crate::account_world::Account;
use crate::program::{Person, fuse_is_wanted};
use backupengine_testkit::oracle::sample;
use backupengine_testkit::system::Tmpfs;
use backupengine_tests::account::Server;
use backupengine_tests::relay::Relay;
use rustix::fs::Advice;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What was pushed: sizes of files by number, each of its own noise.
struct Pushed {
    control: Relay,
    storage: Relay,
    person: Person,
    sizes: Vec<usize>,
    // Last: those before it end first.
    _server: Server,
}

impl Pushed {
    fn new(sizes: impl IntoIterator<Item = usize>) -> Self {
        let (control, storage) = (Relay::start(), Relay::start());
        let server = Server::behind(&control, &storage, |_| {}, |_| {});
        let person = Person::new();
        Account::with_vault(&server, &person, "a@example.org");
        let sizes: Vec<usize> = sizes.into_iter().collect();
        for (n, size) in sizes.iter().enumerate() {
            person.write(&format!("src/{n}"), sample::bytes(n as u64 + 1, *size));
        }
        person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
        Self { control, storage, person, sizes, _server: server }
    }

    /// Mounts; everything comes from the store.
    fn mount(&self, more: &[&str]) {
        self.person.mount(&[&["--no-seeds"], more].concat());
    }

    fn unmount(&self) {
        self.person.run(["unmount", self.person.at("mnt").to_str().unwrap()]).expect(0);
    }

    fn shown(&self, n: usize) -> PathBuf {
        let below = self.person.at("src");
        self.person.at("mnt/latest").join(below.strip_prefix("/").unwrap()).join(n.to_string())
    }

    fn bytes(&self, n: usize) -> Vec<u8> {
        sample::bytes(n as u64 + 1, self.sizes[n])
    }

    /// Reads a file piece by piece; the longest that one of them took.
    fn read(&self, n: usize, step: usize) -> Duration {
        let (file, expected) = (File::open(self.shown(n)).unwrap(), self.bytes(n));
        let starts = (0..expected.len()).step_by(step);
        let took =
            starts.map(|from| read_at(&file, from, &expected[from..(from + step).min(expected.len())]));
        took.max().unwrap_or_default()
    }

    /// Reads these files with so many readers at once; the longest that a read took.
    fn read_all(&self, files: impl IntoIterator<Item = usize>, readers: usize) -> Duration {
        let (files, next): (Vec<usize>, _) = (files.into_iter().collect(), AtomicUsize::new(0));
        thread::scope(|scope| {
            let readers: Vec<_> = (0..readers)
                .map(|_| {
                    scope.spawn(|| {
                        let own = || files.get(next.fetch_add(1, Ordering::SeqCst));
                        std::iter::from_fn(own).map(|n| self.read(*n, 64 << 10)).max().unwrap_or_default()
                    })
                })
                .collect();
            readers.into_iter().map(|reader| reader.join().unwrap()).max().unwrap()
        })
    }

    /// The process that serves the mount.
    fn server_process(&self) -> u32 {
        let mnt = self.person.at("mnt");
        let serves = |line: &str| line.contains("--supervised") && line.contains(mnt.to_str().unwrap());
        let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let entry = entry.unwrap();
            let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
            serves(&line).then(|| entry.file_name().to_str().unwrap().parse().unwrap())
        });
        let found: Vec<u32> = numbers.collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found[0]
    }

    /// Most memory that process took so far, in bytes.
    fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server_process())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }
}

/// Reads what is expected, past the kernel's cache; how long that took.
fn read_at(file: &File, from: usize, expected: &[u8]) -> Duration {
    let mut out = vec![0; expected.len()];
    let begun = Instant::now();
    file.read_exact_at(&mut out, from as u64).unwrap();
    let took = begun.elapsed();
    assert!(out == expected, "wrong bytes from {from} on");
    took
}

/// The kernel forgets what it read of it.
fn drop_pages(path: &Path) {
    let file = File::open(path).unwrap();
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
}

#[test]
fn one_answer_in_twenty_that_is_late_stalls_nobody() {
    if !fuse_is_wanted() {
        return;
    }
    let pushed = Pushed::new((0..60).map(|n| if n % 10 == 0 { 3 << 20 } else { 20_000 }));
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    pushed.storage.lies(move |request, pass| {
        if request.method == "GET" && counter.fetch_add(1, Ordering::SeqCst) % 20 == 19 {
            thread::sleep(Duration::from_secs(2));
        }
        pass()
    });
    pushed.mount(&["--timeout", "10", "--cache-size", "none"]);
    // In an order that leads nobody.
    let longest = pushed.read_all((0..60).map(|n| n * 37 % 60), 4);
    assert!(longest < Duration::from_secs(10), "{longest:?}");
    assert!(asked.load(Ordering::SeqCst) >= 20, "none was late");
    pushed.unmount();
}

#[test]
fn over_a_thin_line_right_bytes_come_in_time() {
    if !fuse_is_wanted() {
        return;
    }
    let pushed = Pushed::new([900 << 10, 300 << 10, 20_000, 20_000, 20_000]);
    // 1 Mbit a second, of both together.
    pushed.storage.sends_at(125_000);
    pushed.mount(&["--timeout", "20"]);
    let longest = pushed.read_all(0..5, 3);
    assert!(longest < Duration::from_secs(20), "{longest:?}");
    pushed.unmount();
}

#[test]
fn a_store_that_is_silent_is_waited_for_so_long_and_then_read_again() {
    if !fuse_is_wanted() {
        return;
    }
    let pushed = Pushed::new((0..12).map(|n| if n == 0 { 100_000 } else { 2 << 20 }));
    pushed.mount(&["--timeout", "2"]);
    pushed.read_all([0], 1);
    (1..12).for_each(|n| assert!(pushed.shown(n).exists()));
    let silent = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let gate = silent.clone();
    pushed.storage.lies(move |request, pass| {
        while request.method == "GET" && gate.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        pass()
    });
    // More readers than would fit where each stops all: what is here is read beside them.
    thread::scope(|scope| {
        let readers: Vec<_> = (1..12)
            .map(|n| {
                let file = File::open(pushed.shown(n)).unwrap();
                scope.spawn(move || {
                    let begun = Instant::now();
                    let ended = file.read_at(&mut [0; 4096], 1 << 20);
                    (ended.unwrap_err().raw_os_error(), begun.elapsed())
                })
            })
            .collect();
        drop_pages(&pushed.shown(0));
        let here = pushed.read_all([0], 1);
        for reader in readers {
            let (errno, took) = reader.join().unwrap();
            assert_eq!(errno, Some(rustix::io::Errno::TIMEDOUT.raw_os_error()));
            // Twice what the kernel asks, a tenth of it the second time; and a machine with much to do.
            assert!(took < Duration::from_secs(6), "{took:?}");
            assert!(here < took, "what is here waited {here:?} for what is not");
        }
    });
    silent.store(false, Ordering::SeqCst);
    pushed.read_all(1..12, 4);

    // Nobody there at all, control plane or storage: what is on this disk is read.
    for relay in [&pushed.control, &pushed.storage] {
        relay.is_away(true);
    }
    for n in 1..12 {
        drop_pages(&pushed.shown(n));
    }
    pushed.read_all(1..12, 4);
    for relay in [&pushed.control, &pushed.storage] {
        relay.is_away(false);
    }
    pushed.unmount();
}

#[test]
fn little_memory_many_readers_and_thousands_of_open_files() {
    if !fuse_is_wanted() {
        return;
    }
    // 64 files of 2 MiB and one of 24, which is read backwards.
    let pushed = Pushed::new((0..65).map(|n| if n == 64 { 24 << 20 } else { 2 << 20 }));
    pushed.mount(&["--memory", "64MiB"]);
    pushed.read_all(0..64, 64);
    let film = File::open(pushed.shown(64)).unwrap();
    let expected = pushed.bytes(64);
    for from in (0..expected.len()).step_by(200_000).rev() {
        read_at(&film, from, &expected[from..(from + 200_000).min(expected.len())]);
    }
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: most.maximum, maximum: most.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let open: Vec<File> = (0..2000).map(|n| File::open(pushed.shown(n % 64)).unwrap()).collect();
    (0..64).for_each(|n| drop_pages(&pushed.shown(n)));
    let all: Vec<Vec<u8>> = (0..64).map(|n| pushed.bytes(n)).collect();
    for (n, file) in open.iter().enumerate().rev() {
        let from = n * 1009 % (1 << 20);
        read_at(file, from, &all[n % 64][from..from + 100]);
    }
    let peak = pushed.peak();
    assert!(peak <= 64 << 20, "{} MiB", peak >> 20);
    drop((open, film));
    pushed.unmount();
}

#[test]
fn a_cache_disk_that_is_full_damaged_or_gone_costs_no_byte() {
    if !fuse_is_wanted() {
        return;
    }
    let pushed = Pushed::new([6 << 20, 6 << 20, 6 << 20, 50_000, 50_000]);
    let cache = pushed.person.at("home/cache");
    drop(fs::remove_dir_all(&cache));
    // A disk of 8 MiB for 18 MiB of files.
    let disk = Tmpfs::new("size=8m");
    std::os::unix::fs::symlink(disk.path(), &cache).unwrap();
    let again = |pushed: &Pushed| {
        (0..5).for_each(|n| drop_pages(&pushed.shown(n)));
        pushed.read_all(0..5, 3);
    };
    pushed.mount(&["--memory", "32MiB"]);
    pushed.read_all(0..5, 3);
    // Full to the last byte, by somebody else.
    let rest = disk.path().join("rest");
    drop(std::io::copy(&mut std::io::repeat(7), &mut File::create(&rest).unwrap()).unwrap_err());
    again(&pushed);
    fs::remove_file(&rest).unwrap();
    again(&pushed);
    // Damaged under the mount, in every page.
    for file in files_below(disk.path()) {
        let file = fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
        let len = file.metadata().unwrap().len();
        for at in (0..len).step_by(4096) {
            file.write_all_at(&[0x5a; 16], at).unwrap();
        }
    }
    again(&pushed);
    // Cut, and then gone.
    for file in files_below(disk.path()) {
        fs::OpenOptions::new().write(true).open(file).unwrap().set_len(10_000).unwrap();
    }
    again(&pushed);
    for entry in fs::read_dir(disk.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }
    again(&pushed);
    pushed.unmount();
    // The next mount begins anew.
    pushed.mount(&[]);
    again(&pushed);
    pushed.unmount();
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
