//! A pinned tree opens without a network, and nothing else is made up.
use crate::account_world::Account;
use crate::program::{Person, fuse_is_wanted};
use backupengine_testkit::oracle::sample;
use backupengine_tests::account::Server;
use backupengine_tests::relay::Relay;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Somebody with an account's vault and two folders in it: `kept` and `other`.
fn pushed(server: &Server, person: &Person) {
    Account::with_vault(server, person, "a@example.org");
    for n in 0..40 {
        person.write(&format!("src/kept/small/{n}"), format!("small {n}"));
    }
    person.write("src/kept/large", sample::bytes(1, 3 << 20));
    person.write("src/kept/empty", "");
    std::os::unix::fs::symlink("large", person.at("src/kept/link")).unwrap();
    xattr(&person.at("src/kept/large"), &sample::bytes(3, 3000));
    fs::hard_link(person.at("src/kept/large"), person.at("src/kept/small/again")).unwrap();
    person.write("src/other/large", sample::bytes(2, 3 << 20));
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
}

fn xattr(path: &Path, value: &[u8]) {
    rustix::fs::setxattr(path, "user.long", value, rustix::fs::XattrFlags::empty()).unwrap();
}

fn below(root: &Path, person: &Person, name: &str) -> PathBuf {
    root.join(person.at("src").strip_prefix("/").unwrap()).join(name)
}

fn snapshot(person: &Person) -> String {
    person.run(["snapshots", "--json"]).expect(0).json()[0]["id"].as_str().unwrap().to_owned()
}

fn pins(person: &Person) -> Vec<Value> {
    person.run(["cache", "info", "--json"]).expect(0).json()["pins"].as_array().unwrap().clone()
}

#[test]
fn a_pinned_tree_is_mounted_and_read_without_the_server() {
    if !fuse_is_wanted() {
        return;
    }
    let server = Server::start();
    let person = Person::new();
    pushed(&server, &person);
    let kept = person.at("src/kept");
    let what = format!("latest:{}", kept.display());
    let id = snapshot(&person);
    let pinned = person.run(["cache", "pin", &what, "--json"]).expect(0).json();
    assert_eq!((&pinned["snapshot"], &pinned["path"]), (&id.as_str().into(), &kept.to_str().unwrap().into()));
    assert_eq!(pinned["blocks"], pinned["blocks_here"]);
    // The same again changes nothing.
    assert_eq!(person.run(["cache", "pin", &what, "--json"]).expect(0).json(), pinned);
    assert_eq!(pins(&person), std::slice::from_ref(&pinned));
    drop(server);

    let mounted =
        person.run(["mount", person.at("mnt").to_str().unwrap(), "--background", "--json"]).expect(0);
    assert!(mounted.stderr.contains("the server is not reached"), "{}", mounted.stderr);
    assert!(mounted.json()["last_seen"].is_string(), "{}", mounted.stdout);
    let latest = person.at("mnt/latest");
    // Everything below, names, links, attributes and bytes.
    let differences = std::process::Command::new("rsync")
        .args(["-anHAX", "--checksum", "--delete", "--itemize-changes"])
        .arg(format!("{}/", kept.display()))
        .arg(format!("{}/", below(&latest, &person, "kept").display()))
        .output()
        .unwrap();
    assert!(differences.status.success(), "{differences:?}");
    assert_eq!(String::from_utf8_lossy(&differences.stdout), "");
    assert!(fs::read(below(&latest, &person, "kept/large")).unwrap() == sample::bytes(1, 3 << 20));
    // A name that is not there is not there, and no trouble of the network's.
    for absent in ["kept/.git", "kept/zzz", "kept/small/100"] {
        let error = fs::metadata(below(&latest, &person, absent)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{absent}");
    }
    let error = fs::read(below(&latest, &person, "other/large")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "what is not pinned has to wait: {error}");
    let top = person.run(["status", "--top", "--json"]).expect(0).json();
    assert!(top[0]["unreachable_seconds"].is_number(), "{top}");
    person.run(["unmount", person.at("mnt").to_str().unwrap()]).expect(0);

    let cat = person.run(["cat", &format!("{what}/small/7")]).expect(0);
    assert_eq!(cat.stdout, "small 7");
    assert!(cat.stderr.contains("the server is not reached"), "{}", cat.stderr);
    // What asks the server is not answered from memory.
    person.run(["snapshots"]).expect(5);
    person.run(["push", kept.to_str().unwrap()]).expect(5);

    let unpinned = person.run(["cache", "unpin", &what, "--json"]).expect(0).json();
    assert_eq!(unpinned["path"], pinned["path"]);
    assert!(pins(&person).is_empty());
    person.run(["cache", "unpin", &format!("{id}:{}", kept.display())]).expect(1);
}

#[test]
fn names_of_pinned_trees_rest_sealed_and_are_shown_without_the_server() {
    let server = Server::start();
    let person = Person::new();
    pushed(&server, &person);
    let id = snapshot(&person);
    let file = person.at("src/kept/small/7");
    person.run(["cache", "pin", &format!("{id}:{}", file.display()), "-q"]).expect(0);
    drop(server);
    let shown = person.run(["cache", "info"]).expect(0).stdout;
    assert!(shown.contains(&format!("pinned     {id}:{}, all of it is here", file.display())), "{shown}");
    let folder =
        person.run(["cache", "info", "--json"]).expect(0).json()["path"].as_str().unwrap().to_owned();
    let rests = fs::read(Path::new(&folder).join("pins")).unwrap();
    assert!(!String::from_utf8_lossy(&rests).contains("kept"), "a path rests in the cache's folder");
    let cleared = person.run(["cache", "clear"]).expect(0).stdout;
    assert!(cleared.contains("are pinned"), "{cleared}");
    assert_eq!(pins(&person)[0]["blocks"], pins(&person)[0]["blocks_here"]);
    // By its id it is let go without the server too.
    let args = ["cache", "unpin", &format!("{}:{}", &id[..4], file.display())];
    assert!(person.run(args).expect(0).stdout.contains("is not pinned any more"));
}

#[test]
fn what_does_not_fit_is_refused_and_said_by_how_much() {
    let server = Server::start();
    let person = Person::new();
    Account::with_vault(&server, &person, "a@example.org");
    person.write("src/large", sample::bytes(1, 56 << 20));
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    let what = format!("latest:{}", person.at("src").display());
    let refused = person.run(["cache", "pin", &what, "--cache-size", "64MiB"]).expect(1);
    assert!(refused.stderr.contains("MiB too much"), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: give the cache more room"), "{}", refused.stderr);
    let info = person.run(["cache", "info", "--json"]).expect(0).json();
    assert_eq!((&info["bytes_most"], &info["pins"]), (&(64 << 20).into(), &Value::Array(Vec::new())));
    assert!(info["bytes"].as_u64().unwrap() < 4 << 20, "content was fetched before it was refused: {info}");

    person.run(["cache", "pin", &what, "--cache-size", "128MiB"]).expect(0);
    // And it stays: a size that it does not fit into is refused from then on.
    let smaller =
        person.run(["mount", person.at("mnt").to_str().unwrap(), "--cache-size", "64MiB"]).expect(1);
    assert!(smaller.stderr.contains("MiB too much"), "{}", smaller.stderr);
    let none = person.run(["cache", "pin", &what, "--cache-size", "none"]).expect(1);
    assert!(none.stderr.contains("too much"), "{}", none.stderr);
    person.run(["cache", "unpin", &what]).expect(0);
    let nothing = person.run(["cache", "pin", &what, "--cache-size", "none"]).expect(2);
    assert!(nothing.stderr.contains("keeps nothing"), "{}", nothing.stderr);
}

#[test]
fn a_mount_that_began_without_the_server_goes_on_with_it() {
    if !fuse_is_wanted() {
        return;
    }
    let (control, storage) = (Relay::start(), Relay::start());
    let server = Server::behind(&control, &storage, |_| {}, |_| {});
    let person = Person::new();
    pushed(&server, &person);
    for relay in [&control, &storage] {
        relay.is_away(true);
    }
    let mnt = person.mount(&["--no-seeds"]);
    assert!(mnt.join("latest").exists());
    let large = below(&mnt.join("latest"), &person, "other/large");
    assert!(fs::read(&large).is_err());
    for relay in [&control, &storage] {
        relay.is_away(false);
    }
    let until = Instant::now() + Duration::from_secs(30);
    while fs::read(&large).map_or(true, |bytes| bytes != sample::bytes(2, 3 << 20)) {
        assert!(Instant::now() < until, "the server is there, and the mount does not ask it");
        std::thread::sleep(Duration::from_millis(200));
    }
    person.write("src/new", "new");
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    while fs::read(below(&mnt.join("latest"), &person, "new")).is_err() {
        assert!(Instant::now() < until + Duration::from_secs(30), "a new snapshot does not show");
        std::thread::sleep(Duration::from_millis(200));
    }
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
}

#[test]
fn a_list_that_was_seen_is_held_against_the_floor() {
    let server = Server::start();
    let person = Person::new();
    pushed(&server, &person);
    let find = |name: &str| {
        let state = fs::read_dir(person.at("home/state")).unwrap().map(|entry| entry.unwrap().path());
        state.map(|folder| folder.join(name)).find(|path| path.exists()).unwrap()
    };
    let old = fs::read(find("seen")).unwrap();
    person.write("src/kept/new", "new");
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    person.run(["snapshots"]).expect(0);
    assert_ne!(fs::read(find("seen")).unwrap(), old);
    drop(server);
    let what = format!("latest:{}", person.at("src").display());
    let newest = fs::read(find("seen")).unwrap();
    fs::write(find("seen"), old).unwrap();
    let refused = person.run(["ls", &what]).expect(1);
    assert!(refused.stderr.contains("rollback"), "{}", refused.stderr);
    fs::write(find("seen"), "{}").unwrap();
    person.run(["ls", &what]).expect(5);

    // Of the newest list not even the roots have to be here.
    fs::write(find("seen"), newest).unwrap();
    fs::remove_dir_all(person.at("home/cache")).unwrap();
    person.run(["ls", &what]).expect(5);
    if fuse_is_wanted() {
        let mnt = person.mount(&[]);
        assert_eq!(fs::read_dir(&mnt).unwrap().count(), 5, "two snapshots, latest, by-device, by-tag");
        // Opening a folder asks nothing yet.
        let names = fs::read_dir(mnt.join("latest/")).and_then(|names| names.collect::<Result<Vec<_>, _>>());
        let error = names.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
    }
}
