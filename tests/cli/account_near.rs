//! What a mount across a network says of itself: how near files are, what its cache may take, and who waits for what.
use crate::account_cache::files_below;
use crate::account_world::Account;
use crate::json::{Judge, documented};
use crate::program::{PASSPHRASE, Person, fuse_is_wanted};
use backupengine_testkit::oracle::sample;
use backupengine_tests::account::Server;
use backupengine_tests::relay::Relay;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What is judged here of what `--json` prints.
pub(crate) const HEADINGS: [&str; 2] = ["status top: each", "status top: each of requests"];

fn pushed(server: &Server, person: &Person) {
    Account::with_vault(server, person, "a@example.org");
    person.write("src/large", sample::bytes(1, 4 << 20));
    person.write("src/empty", "");
    let src = person.at("src");
    person.run(["push", src.to_str().unwrap()]).expect(0);
    // In a pack of its own, so that it does not come with the other.
    person.write("src/second", sample::bytes(2, 1 << 20));
    person.run(["push", src.to_str().unwrap()]).expect(0);
}

fn shown(person: &Person, name: &str) -> PathBuf {
    person.at("mnt/latest").join(person.at("src").strip_prefix("/").unwrap()).join(name)
}

fn xattr(path: &Path, name: &str) -> String {
    let mut value = vec![0; 1000];
    let len = rustix::fs::getxattr(path, name, &mut value[..]).unwrap();
    String::from_utf8(value[..len].to_vec()).unwrap()
}

fn near(path: &Path) -> (String, u64) {
    let fetch = xattr(path, "user.backupengine.fetch_bytes").parse().unwrap();
    (xattr(path, "user.backupengine.cached"), fetch)
}

/// What the only mount tells.
fn top(person: &Person) -> Value {
    let told = person.run(["status", "--top", "--json"]).expect(0).json();
    assert_eq!(told.as_array().unwrap().len(), 1, "{told}");
    told[0].clone()
}

/// What the only mount tells, once one of its requests is as wanted.
fn waiting(person: &Person, what: &str, wanted: impl Fn(&Value) -> bool) -> (Value, Value) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let told = top(person);
        if let Some(found) = told["requests"].as_array().unwrap().iter().find(|one| wanted(one)) {
            return (told.clone(), found.clone());
        }
        assert!(Instant::now() < until, "{what} did not come: {told}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn reader(path: &Path) -> Child {
    Command::new("cat").arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn files_say_how_near_they_are() {
    if !fuse_is_wanted() {
        return;
    }
    let server = Server::start();
    let person = Person::new();
    pushed(&server, &person);
    person.mount(&["--no-seeds"]);
    let large = shown(&person, "large");
    let (cached, fetch) = near(&large);
    assert_eq!(cached, "0%");
    assert!((4 << 20..6 << 20).contains(&fetch), "{fetch}");
    assert_eq!(near(&shown(&person, "empty")), ("100%".to_owned(), 0));
    assert!(fs::read(&large).unwrap() == sample::bytes(1, 4 << 20));
    assert_eq!(near(&large), ("100%".to_owned(), 0));
    // Nobody who lists attributes sees them, so that no copy carries them away.
    let mut names = [0; 1000];
    assert_eq!(rustix::fs::listxattr(&large, &mut names[..]).unwrap(), 0);
    person.run(["unmount", person.at("mnt").to_str().unwrap()]).expect(0);

    // What the line carried is kept for the next mount, once this one has ended.
    let kept =
        || files_below(&person.at("home"), "/pace").pop().and_then(|file| fs::read_to_string(file).ok());
    let until = Instant::now() + Duration::from_secs(30);
    let pace = loop {
        match kept().and_then(|pace| pace.trim_end().parse::<u64>().ok()) {
            Some(pace) => break pace,
            None => assert!(Instant::now() < until, "nothing was kept of what the line carries"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(pace > 1_000_000, "{pace} bytes a second on this machine's own line");

    // On the disk they stay near for the next mount, and for one without the server.
    drop(server);
    person.mount(&["--no-seeds"]);
    assert_eq!(near(&large), ("100%".to_owned(), 0));
    assert!(fs::read(&large).unwrap() == sample::bytes(1, 4 << 20));
    person.run(["unmount", person.at("mnt").to_str().unwrap()]).expect(0);
}

#[test]
fn the_size_of_the_cache_is_given_to_a_mount_and_remembered() {
    if !fuse_is_wanted() {
        return;
    }
    let server = Server::start();
    let person = Person::new();
    pushed(&server, &person);
    let most = || person.run(["cache", "info", "--json"]).expect(0).json()["bytes_most"].as_u64().unwrap();
    let large = shown(&person, "large");
    let mount = |more: &[&str]| {
        let mnt = person.mount(&[&["--no-seeds"], more].concat());
        assert!(fs::read(&large).unwrap() == sample::bytes(1, 4 << 20));
        let near = near(&large);
        person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
        near
    };
    assert_eq!(mount(&["--cache-size", "80MiB"]).0, "100%");
    assert_eq!(most(), 80 << 20);
    assert_eq!(mount(&[]).0, "100%");
    assert_eq!(most(), 80 << 20);
    // Nothing is kept, and what there was is gone.
    mount(&["--cache-size", "none", "--memory", "32MiB"]);
    let info = person.run(["cache", "info", "--json"]).expect(0).json();
    assert_eq!((&info["bytes_most"], &info["blocks"]), (&0.into(), &0.into()), "{info}");
    for (size, said) in [
        ("lots", "no size of a cache"),
        ("1KiB", "too little to be of use"),
        ("100TiB", "a quarter of --memory"),
    ] {
        let mnt = person.at("mnt");
        let args = ["mount", mnt.to_str().unwrap(), "--background", "--cache-size", size];
        let refused = person.run(args).expect(2);
        assert!(refused.stderr.contains(said) && refused.stderr.contains("hint:"), "{}", refused.stderr);
    }
    assert_eq!(most(), 0);
}

#[test]
fn a_mount_says_who_waits_for_what_and_why() {
    if !fuse_is_wanted() {
        return;
    }
    let (control, storage) = (Relay::start(), Relay::start());
    let server = Server::behind(&control, &storage, |_| {}, |_| {});
    let person = Person::new();
    pushed(&server, &person);
    person.mount(&["--no-seeds"]);
    let mountpoint = person.at("mnt");
    // All that is needed to open the file, so that what waits is its content.
    fs::metadata(shown(&person, "large")).unwrap();
    let quiet = top(&person);
    assert_eq!(quiet["mountpoint"], mountpoint.to_str().unwrap());
    assert_eq!(
        (&quiet["requests"], &quiet["unreachable_seconds"]),
        (&Value::Array(Vec::new()), &Value::Null)
    );
    assert_eq!((&quiet["network"], &quiet["blocks_missed"].is_u64()), (&true.into(), &true));

    let held = Arc::new(AtomicBool::new(true));
    let gate = held.clone();
    storage.lies(move |asked, pass| {
        while asked.method == "GET" && gate.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        pass()
    });
    let mut cat = reader(&shown(&person, "large"));
    let (told, found) = waiting(&person, "the reader", |one| one["seconds"].as_f64().unwrap() > 0.2);
    assert_eq!((&found["program"], &found["pid"]), (&"cat".into(), &cat.id().into()), "{told}");
    assert_eq!((&found["what"], &found["why"]), (&"read".into(), &"fetching".into()), "{told}");
    assert_eq!(found["path"], person.at("src/large").to_str().unwrap());
    assert!(told["under_way"].as_u64().unwrap() > 0, "{told}");
    let mut judge = Judge { documented: documented(), seen: Default::default() };
    judge.document(HEADINGS[0], &told);
    judge.document(HEADINGS[1], &found);
    for heading in HEADINGS {
        let fields = judge.documented[heading].keys().filter(|name| !name.ends_with("_hex"));
        fields.for_each(|name| assert!(judge.seen[heading].contains(name), "{heading}: {name}"));
    }
    let text = person.run(["status", "--top"]).expect(0).stdout;
    let line = format!("waits      cat (process {})", cat.id());
    assert!(text.contains(&line) && text.contains("it is being fetched"), "{text}");
    held.store(false, Ordering::SeqCst);
    assert!(cat.wait().unwrap().success());
    let after = top(&person);
    assert!(after["bytes_fetched"].as_u64() > quiet["bytes_fetched"].as_u64(), "{after}");
    assert_eq!(after["requests"], Value::Array(Vec::new()));

    // Away: said, and since when.
    for relay in [&control, &storage] {
        relay.is_away(true);
    }
    let mut cat = reader(&shown(&person, "second"));
    let (told, found) = waiting(&person, "the store's absence", |one| one["why"] == "unreachable");
    assert!(told["unreachable_seconds"].as_f64().unwrap() > 0.0, "{told}");
    assert_eq!(found["pid"], cat.id());
    for relay in [&control, &storage] {
        relay.is_away(false);
    }
    assert!(cat.wait().unwrap().success(), "the network is back, and the read that waited failed");
    let until = Instant::now() + Duration::from_secs(30);
    while !top(&person)["unreachable_seconds"].is_null() {
        assert!(Instant::now() < until, "the store answers, and is said not to");
        std::thread::sleep(Duration::from_millis(100));
    }
    person.run(["unmount", mountpoint.to_str().unwrap()]).expect(0);
    let until = Instant::now() + Duration::from_secs(30);
    while person.run(["status", "--top"]).expect(0).stdout != "nothing is mounted\n" {
        assert!(Instant::now() < until, "it is still told of");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_mount_of_a_folder_says_what_it_does_too() {
    if !fuse_is_wanted() {
        return;
    }
    let person = Person::with_vault();
    person.write("src/a", sample::bytes(1, 100_000));
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    assert_eq!(person.run(["status", "--top"]).expect(0).stdout, "nothing is mounted\n");
    let refused = person.run(["mount", person.at("mnt").to_str().unwrap(), "--cache-size", "1GiB"]).expect(2);
    assert!(refused.stderr.contains("a vault in a folder has no cache"), "{}", refused.stderr);
    let mnt = person.mount(&[]);
    let file = shown(&person, "a");
    assert_eq!(near(&file), ("100%".to_owned(), 0));
    assert!(fs::read(&file).unwrap() == sample::bytes(1, 100_000));
    let told = top(&person);
    assert_eq!((&told["network"], &told["unreachable_seconds"]), (&false.into(), &Value::Null));
    assert!(told["bytes_fetched"].as_u64().unwrap() > 50_000, "{told}");
    let text = person.run(["status", "--top", "--vault", "/nowhere"]).expect(0).stdout;
    assert!(text.contains("disk       ") && !text.contains("blocks"), "{text}");
    // Nobody else may ask: the socket and its folder are this user's alone.
    use std::os::unix::fs::PermissionsExt;
    let folder = person.at("home/state/mounts");
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for socket in fs::read_dir(&folder).unwrap() {
        assert_eq!(socket.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
    // The name is gone at once; the process that served it ends a moment later.
    let until = Instant::now() + Duration::from_secs(30);
    while fs::read_dir(&folder).unwrap().count() > 0 {
        assert!(Instant::now() < until, "the socket is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    person.given(PASSPHRASE, ["status"]).expect(0);
}
