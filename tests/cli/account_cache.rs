//! The disk cache of an account's vault, as the program shows and empties it: without the server.
use crate::account_world::Account;
use crate::program::Person;
use backupengine_tests::account::Server;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

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
