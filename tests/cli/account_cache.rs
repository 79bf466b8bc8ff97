//! The disk cache of an account's vault, as the program shows and empties it: without the server.
use crate::account_world::Account;
use crate::program::Person;
use backupengine_tests::account::Server;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

#[test]
fn the_cache_is_shown_and_emptied_without_the_server() {
    let server = Server::start();
    let person = Person::new();
    let (account, _) = Account::with_vault(&server, &person, "a@example.org");
    let vault = person.run(["status", "--json"]).expect(0).json()["vault"].clone();
    drop(account);
    drop(server);

    let info = || person.run(["cache", "info", "--json"]).expect(0).json();
    let empty = info();
    assert_eq!((&empty["vault"], &empty["blocks"], &empty["bytes"]), (&vault, &0.into(), &0.into()));
    assert!(empty["bytes_most"].as_u64().unwrap() <= 10 << 30, "{empty}");
    let path = PathBuf::from(empty["path"].as_str().unwrap());
    assert!(path.starts_with(person.at("home/cache")), "{empty}");
    let mode = |path: &PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for file in fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
    let shown = person.run(["cache", "info"]).expect(0).stdout;
    assert!(shown.contains(path.to_str().unwrap()) && shown.contains("0 B in 0 blocks, sealed"), "{shown}");

    // What nobody can read any more is given back as well.
    fs::write(path.join("slots"), vec![7; 1 << 20]).unwrap();
    let cleared = person.run(["cache", "clear", "--json"]).expect(0).json();
    assert!(cleared["bytes_freed"].as_u64().unwrap() >= 1 << 20, "{cleared}");
    assert_eq!(path.join("slots").metadata().unwrap().len(), 0);
    assert!(person.run(["cache", "clear"]).expect(0).stdout.contains("the cache is empty"));
    assert!(person.run(["cache", "clear", "-q"]).expect(0).stdout.is_empty());
    // Deleted by hand, it is made again.
    fs::remove_dir_all(&path).unwrap();
    assert_eq!(info(), empty);
    // A file in its place: said, and of whom.
    fs::remove_dir_all(&path).unwrap();
    fs::write(&path, "in the way").unwrap();
    let failed = person.run(["cache", "info"]).expect(1);
    assert!(failed.stderr.contains(path.to_str().unwrap()), "{}", failed.stderr);
}

#[test]
fn check_looks_at_what_is_stored_and_not_at_the_cache() {
    let server = Server::start();
    let person = Person::new();
    Account::with_vault(&server, &person, "a@example.org");
    let src = person.at("src");
    (0..2000).for_each(|n| person.write(&format!("src/{n:050}"), format!("{n}")));
    person.run(["push", src.to_str().unwrap()]).expect(0);
    let what = format!("latest:{}", src.display());
    let listed = person.run(["ls", &what]).expect(0).stdout;
    person.run(["check"]).expect(0);
    // The pages of the tree, of which this device has a copy: all of each pack but footer and trailer.
    for pack in files_below(server.objects(), "/p/") {
        let mut bytes = fs::read(&pack).unwrap();
        let most = bytes.len() * 3 / 4;
        bytes[..most].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(&pack, bytes).unwrap();
    }
    assert_eq!(person.run(["ls", &what]).expect(0).stdout, listed, "what is here is shown");
    let found = person.run(["check", "--json"]).expect(3).json_lines();
    assert!(found.iter().any(|line| line["object_kind"] == "frame"), "{found:?}");
}

/// Files whose path holds this.
pub(crate) fn files_below(folder: &Path, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path, part));
        } else if path.to_str().unwrap().contains(part) {
            found.push(path);
        }
    }
    found
}
