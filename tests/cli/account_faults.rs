//! The program where server or storage fail: what `status` and the list of snapshots say, and a mount that slept.
use crate::account_world::Account;
use crate::program::{Person, fuse_is_wanted};
use backupengine_testkit::oracle::sample;
use backupengine_tests::account::Server;
use backupengine_tests::relay::{Relay, Reply};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

/// The process that serves a mount.
fn serving(mnt: &Path) -> Pid {
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let serves = line.contains("--supervised") && line.contains(mnt.to_str().unwrap());
        serves.then(|| entry.file_name().to_str().unwrap().parse().unwrap())
    });
    let found: Vec<i32> = numbers.collect();
    assert_eq!(found.len(), 1, "{found:?}");
    Pid::from_raw(found[0]).unwrap()
}

/// As a laptop that is shut and opened elsewhere: nothing runs, then no connection is there any more, grants and access
/// have ended.
#[test]
fn a_mount_that_slept_past_its_grants_and_its_access_goes_on() {
    if !fuse_is_wanted() {
        return;
    }
    let (control, storage) = (Relay::start(), Relay::start());
    let short = |config: &mut backupengine_tests::account::DevConfig| {
        config.grant_life = Duration::from_secs(2);
        config.access_life = Duration::from_secs(4);
    };
    let server = Server::behind(&control, &storage, short, |_| {});
    let person = Person::new();
    Account::with_vault(&server, &person, "a@example.org");
    for n in 0..3u64 {
        person.write(&format!("src/{n}"), sample::bytes(n + 1, 3 << 20));
    }
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    let mnt = person.mount(&["--no-seeds", "--cache-size", "none"]);
    let shown = mnt.join("latest").join(person.at("src").strip_prefix("/").unwrap());
    let right = |n: u64| fs::read(shown.join(n.to_string())).unwrap() == sample::bytes(n + 1, 3 << 20);
    assert!(right(0));
    for n in [1, 2] {
        let process = serving(&mnt);
        kill_process(process, Signal::STOP).unwrap();
        // The address changes meanwhile: what was connected is not any more.
        for relay in [&control, &storage] {
            relay.is_away(true);
        }
        std::thread::sleep(Duration::from_secs(5));
        for relay in [&control, &storage] {
            relay.is_away(false);
        }
        kill_process(process, Signal::CONT).unwrap();
        assert!(right(n), "after sleep {n}");
    }
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
}

#[test]
fn status_and_the_list_need_nothing_of_storage_and_say_what_the_server_did() {
    let (control, storage) = (Relay::start(), Relay::start());
    let server = Server::behind(&control, &storage, |_| {}, |_| {});
    let person = Person::new();
    Account::with_vault(&server, &person, "a@example.org");
    person.write("src/a", "a");
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    let good = || {
        let status = person.run(["status", "--json"]).expect(0).json();
        assert_eq!(status["snapshots"], 1, "{status}");
        let list = person.run(["snapshots", "--json"]).expect(0).json();
        assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    };
    good();
    for status in [400, 401, 403, 404, 412, 429, 500, 503] {
        storage.lies(move |_, _| Reply::status(status));
        good();
    }
    storage.lies(|_, pass| Reply { cut: Some(1), ..pass() });
    good();
    storage.is_away(true);
    good();
    storage.is_away(false);
    storage.is_honest();

    // Once: it is asked again without a word.
    for fault in [
        |_: Reply| Reply::status(500),
        |_| Reply::status(503),
        |_| Reply::status(429),
        |reply: Reply| Reply { cut: Some(reply.body.len() / 2), ..reply },
    ] {
        let seen = Mutex::new(HashSet::new());
        control.lies(move |asked, pass| {
            let first = seen.lock().unwrap().insert(asked.path.clone());
            if first { fault(pass()) } else { pass() }
        });
        good();
    }
    // A refusal, and what is no answer: at once, with what was done, and never a shorter list.
    let told = |what: &str| {
        for args in [vec!["status"], vec!["snapshots"]] {
            let ran = person.run(&args);
            assert_ne!(ran.status, 0, "{what}: {}", ran.everything());
            assert_eq!(ran.stdout, "", "{what}");
            assert!(ran.stderr.starts_with("backupengine: "), "{what}: {}", ran.stderr);
        }
    };
    for status in [403, 404, 412] {
        control.lies(move |_, _| Reply::status(status));
        told(&status.to_string());
    }
    control.lies(|_, pass| {
        let mut reply = pass();
        reply.body.iter_mut().step_by(7).for_each(|byte| *byte ^= 1);
        reply
    });
    told("corrupt");
    control.lies(|_, pass| {
        let mut reply = pass();
        reply.body.truncate(reply.body.len() / 2);
        reply
    });
    told("shorter");
    control.is_honest();
    good();
    control.is_away(true);
    for args in [["status"], ["snapshots"]] {
        assert!(person.run(args).expect(5).stderr.contains("cannot be reached"));
    }
    control.is_away(false);
    good();
}

#[test]
fn a_damaged_folder_is_listed_and_status_says_what_is_wrong() {
    let person = Person::with_vault();
    person.write("src/a", "a".repeat(300));
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    let vault = person.run(["status", "--json"]).expect(0).json()["path"].as_str().unwrap().to_owned();
    let at = |name: &str| Path::new(&vault).join(name);
    let listed = || {
        let list = person.run(["snapshots", "--json"]).expect(0).json();
        assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
        list
    };
    let right = listed();
    // A pack: neither looks at it.
    let sound = fs::read(at("p/00000001/00000000")).unwrap();
    fs::write(at("p/00000001/00000000"), vec![0; sound.len()]).unwrap();
    assert_eq!(listed(), right);
    assert_eq!(person.run(["status", "--json"]).expect(0).json()["snapshots"], 1);
    fs::write(at("p/00000001/00000000"), sound).unwrap();
    // The ledger: the list comes from the roots, and what only the ledger knows is said to be missing.
    let sound = fs::read(at("ledger")).unwrap();
    fs::write(at("ledger"), &sound[..sound.len() / 2]).unwrap();
    assert_eq!(listed(), right);
    let status = person.run(["status", "--json"]).expect(3);
    assert_eq!(status.json()["snapshots"], 1, "{}", status.stdout);
    assert!(status.everything().contains("ledger"), "{}", status.everything());
    fs::write(at("ledger"), sound).unwrap();
    let sound = fs::read(at("BACKUPENGINE")).unwrap();
    fs::write(at("BACKUPENGINE"), &sound[..sound.len() / 2]).unwrap();
    for args in [["status"], ["snapshots"]] {
        let ran = person.run(args);
        assert!(ran.status != 0 && ran.stdout.is_empty(), "{}", ran.everything());
        assert!(ran.stderr.contains("BACKUPENGINE"), "{}", ran.stderr);
    }
    fs::write(at("BACKUPENGINE"), sound).unwrap();
    assert_eq!(listed(), right);
}

/// A damaged newest root could hide another past, so nothing is shown without a word; but what is left can be had.
#[test]
fn a_newest_root_that_is_damaged_does_not_take_the_other_snapshots_with_it() {
    let person = Person::with_vault();
    let src = person.at("src");
    person.write("src/a", "first");
    person.run(["push", src.to_str().unwrap()]).expect(0);
    let older = person.run(["snapshots", "--json"]).expect(0).json()[0]["id"].as_str().unwrap().to_owned();
    person.write("src/a", "second");
    person.run(["push", src.to_str().unwrap()]).expect(0);
    let root = person.at("vault/r/00000002");
    let sound = fs::read(&root).unwrap();
    let mut damaged = sound.clone();
    let middle = damaged.len() / 2;
    damaged[middle..].iter_mut().for_each(|byte| *byte ^= 1);
    fs::write(&root, damaged).unwrap();
    let what = format!("{older}:{}", person.at("src/a").display());
    for args in [vec!["snapshots"], vec!["status"], vec!["cat", &what]] {
        let said = person.run(&args).expect(1).stderr;
        assert!(said.contains("r/00000002") && said.contains("--accept-rollback"), "{said}");
    }
    // Looking for damage needs no word, and finds it.
    let checked = person.run(["check"]).expect(3).everything();
    assert!(checked.contains("r/00000002"), "{checked}");
    let read = person.run(["cat", &what, "--accept-rollback"]).expect(0);
    assert_eq!(read.stdout, "first");
    let listed = person.run(["snapshots", "--json", "--accept-rollback"]).expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    // It has not become the usual way, and a vault that is older than what was seen is not let in by it.
    person.run(["snapshots"]).expect(1);
    fs::write(&root, sound).unwrap();
    assert_eq!(person.run(["snapshots", "--json"]).expect(0).json().as_array().unwrap().len(), 2);
}
