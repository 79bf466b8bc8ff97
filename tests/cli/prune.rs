//! `prune` with the real program on a vault in a folder: what it says, what it deletes, and what it leaves to mounts.
use crate::program::{PASSPHRASE, Person, fuse_is_wanted};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Bytes that do not compress and share nothing.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = |x: &mut u64| {
        *x ^= *x << 13;
        *x ^= *x >> 7;
        *x ^= *x << 17;
        *x as u8
    };
    (0..len).map(|_| step(&mut x)).collect()
}

fn push(person: &Person) -> String {
    let ran = person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    ran.stdout.split_whitespace().last().unwrap().to_owned()
}

/// Bytes of all blobs.
fn stored(person: &Person) -> u64 {
    fn below(folder: &Path) -> u64 {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| match entry.file_type().unwrap().is_dir() {
                true => below(&entry.path()),
                false => entry.metadata().unwrap().len(),
            })
            .sum()
    }
    below(&person.at("vault/p")) + below(&person.at("vault/r"))
}

fn prune(person: &Person, more: &[&str]) -> serde_json::Value {
    person.run(["--json", "prune"].iter().chain(more)).expect(0).json()
}

/// Two snapshots: the first with 3 MiB that the second has no more, and much that both have.
fn two() -> (Person, String, String) {
    let person = Person::with_vault();
    person.write("src/both", noise(1, 2 << 20));
    person.write("src/first", noise(2, 3 << 20));
    let first = push(&person);
    std::fs::remove_file(person.at("src/first")).unwrap();
    person.write("src/second", noise(3, 100_000));
    let second = push(&person);
    (person, first, second)
}

#[test]
fn space_comes_back_when_its_time_is_over_or_now() {
    let (person, first, second) = two();
    let before = stored(&person);
    person.run(["forget", &first]).expect(0);
    // In the trash everything is needed.
    let report = prune(&person, &[]);
    assert_eq!((report["snapshots"].as_u64(), report["packs_retired"].as_u64()), (Some(2), Some(0)));
    let would = prune(&person, &["--dry-run", "--now"]);
    assert!(would["bytes_moved"].as_u64().unwrap() > 0, "{would}");
    assert_eq!(stored(&person), before, "a dry run changes nothing");
    person.run(["forget", "--undo", &first]).expect(0);
    person.run(["forget", &first]).expect(0);

    let report = prune(&person, &["--now"]);
    assert_eq!(report["snapshots"].as_u64(), Some(1));
    assert!(report["packs_moved"].as_u64().unwrap() > 0, "half of a pack is needed: {report}");
    let after = stored(&person);
    assert!(after + (5 << 19) < before, "{before} bytes before, {after} after: {report}");
    person.run(["forget", "--undo", &first]).expect(1);
    person.run(["check", "--read-data"]).expect(0);
    person.run(["restore", &second, "--to", person.at("out").to_str().unwrap()]).expect(0);
    for name in ["both", "second"] {
        let out = person.at("out").join(person.at("src").join(name).strip_prefix("/").unwrap());
        assert_eq!(std::fs::read(out).unwrap(), std::fs::read(person.at("src").join(name)).unwrap());
    }
    // Again there is nothing to do, and pushes go on as ever.
    let again = prune(&person, &["--now"]);
    assert_eq!(
        (again["packs_retired"].as_u64(), again["bytes_deleted"].as_u64()),
        (Some(0), Some(0)),
        "{again}"
    );
    person.write("src/third", noise(2, 3 << 20));
    push(&person);
    person.run(["check", "--read-data"]).expect(0);
}

#[test]
fn much_that_is_given_up_at_once_is_told() {
    let (person, first, second) = two();
    // Neither is needed by a third one.
    for name in ["both", "second"] {
        std::fs::remove_file(person.at("src").join(name)).unwrap();
    }
    push(&person);
    person.run(["forget", &first, &second]).expect(0);
    let dry = person.run(["prune", "--now", "--dry-run"]).expect(0);
    assert!(dry.stderr.contains("would be given up at once"), "{}", dry.stderr);
    let ran = person.run(["prune", "--now", "--json"]).expect(0);
    assert!(ran.stderr.contains("WARNING") && ran.stderr.contains("were given up at once"), "{}", ran.stderr);
    assert_eq!(ran.json()["alarm"], true);
    let again = person.run(["prune", "--now", "--json"]).expect(0);
    assert_eq!((again.json()["alarm"].as_bool(), again.stderr.as_str()), (Some(false), ""));
}

#[test]
fn without_haste_nothing_is_deleted_yet() {
    let (person, first, _) = two();
    person.run(["forget", &first]).expect(0);
    person.run(["prune", "--now"]).expect(0);
    let third = push(&person);
    std::fs::remove_file(person.at("src/both")).unwrap();
    push(&person);
    let before = stored(&person);
    person.run(["forget", &third]).expect(0);
    let said = person.run(["prune"]).expect(0).stdout;
    assert!(said.contains("Nothing to give back"), "{said}");
    assert_eq!(stored(&person), before);
}

fn file_in(mount: &Path, snapshot: &Path, source: &Path) -> PathBuf {
    mount.join(snapshot).join(source.strip_prefix("/").unwrap())
}

#[test]
fn what_is_mounted_and_was_opened_stays_until_it_is_unmounted() {
    if !fuse_is_wanted() {
        return;
    }
    let (person, first, _) = two();
    let before = stored(&person);
    let mount = person.mount(&[]);
    let ledger = || std::fs::read(person.at("vault/ledger")).unwrap();
    let untouched = ledger();
    let folder = std::fs::read_dir(&mount)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() && !path.is_symlink())
        .find(|path| file_in(&mount, path, &person.at("src/first")).exists())
        .expect("the first snapshot is shown");
    let open = std::fs::File::open(file_in(&mount, &folder, &person.at("src/first"))).unwrap();
    // A lease may have been taken for the newest snapshot before; the mount looks again every two seconds.
    std::thread::sleep(Duration::from_secs(8));
    assert!(ledger() != untouched, "no lease is taken");
    person.run(["forget", &first]).expect(0);
    let report = prune(&person, &["--now"]);
    assert_eq!(report["bytes_deleted"].as_u64(), Some(0), "{report}");
    let mut read = Vec::new();
    std::io::Read::read_to_end(&mut &open, &mut read).unwrap();
    assert!(read == noise(2, 3 << 20));
    drop(open);
    person.run(["unmount", mount.to_str().unwrap()]).expect(0);
    let begun = Instant::now();
    while stored(&person) + (5 << 19) > before {
        assert!(begun.elapsed() < Duration::from_secs(30), "the lease is not given back");
        person.run(["prune", "--now"]).expect(0);
    }
    person.run(["check", "--read-data"]).expect(0);
}

#[test]
fn what_is_being_printed_or_restored_stays_until_it_is_done() {
    let (person, first, _) = two();
    let before = stored(&person);
    let what = format!("{first}:{}", person.at("src/first").display());
    // Nobody reads: it waits with most of the file before it.
    let mut child =
        person.command(["cat", &what]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut read = vec![0; 1];
    out.read_exact(&mut read).unwrap();
    person.run(["forget", &first]).expect(0);
    let report = prune(&person, &["--now"]);
    assert_eq!(report["bytes_deleted"].as_u64(), Some(0), "{report}");
    out.read_to_end(&mut read).unwrap();
    assert!(child.wait().unwrap().success() && read == noise(2, 3 << 20));
    // Its lease was given back.
    person.run(["prune", "--now"]).expect(0);
    assert!(stored(&person) + (5 << 19) < before);
    let ran = person.run(["restore", "latest", "--to", person.at("out").to_str().unwrap()]).expect(0);
    assert!(!ran.stderr.contains("lease"), "{}", ran.stderr);
}

#[test]
fn a_snapshot_that_does_not_read_keeps_everything() {
    let (person, first, second) = two();
    person.run(["forget", &first]).expect(0);
    let mut roots: Vec<PathBuf> =
        std::fs::read_dir(person.at("vault/r")).unwrap().map(|entry| entry.unwrap().path()).collect();
    roots.sort();
    let root = roots.pop().unwrap();
    let whole = std::fs::read(&root).unwrap();
    std::fs::write(&root, vec![0; whole.len()]).unwrap();
    let before = stored(&person);
    let ran = person.given(PASSPHRASE, ["prune", "--now"]);
    assert_ne!(ran.status, 0, "{}", ran.everything());
    assert_eq!(stored(&person), before);
    std::fs::write(&root, whole).unwrap();
    person.run(["restore", &second, "--to", person.at("out").to_str().unwrap()]).expect(0);
}
