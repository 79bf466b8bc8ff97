//! What was given up goes from the bucket when it is due, and nothing else ever does. With a real bucket.
use crate::stores::{Blob, Session};
use backupengine_server::app::App;
use backupengine_server::config::Config;
use backupengine_server::sweep::{Sweep, Swept};
use backupengine_tests::account::{Device, Server, idem};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

const PACKS: [&[u8]; 3] = [b"pack 0", b"pack 1", b"pack 2"];
const ROOT: &[u8] = b"a root";

/// The server's own sweep rests: a test says when.
fn server() -> Server {
    Server::with(|dev| dev.sweep_every = Duration::from_secs(86_400))
}

/// One pass, by these settings.
fn pass(server: &Server, change: impl FnOnce(&mut Config)) -> Swept {
    let mut config = server.dev().config().clone();
    change(&mut config);
    server.wait(async {
        let sweep = Sweep::new(&App::new(config).await.unwrap()).unwrap().unwrap();
        sweep.pass().await.unwrap()
    })
}

/// Names of all objects in the bucket.
fn objects(server: &Server) -> BTreeSet<String> {
    fn walk(folder: &Path, under: &str, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = format!("{under}{}", entry.file_name().into_string().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => walk(&entry.path(), &format!("{name}/"), found),
                false => drop(found.insert(name)),
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(server.objects(), "", &mut found);
    found
}

/// A session of these packs and a root.
fn written<'a, 's>(device: &'a Device<'s>, vault: &'a str, packs: usize) -> Session<'a, 's> {
    let session = Session::open(device, vault);
    for (number, bytes) in (0..).zip(&PACKS[..packs]) {
        session.put(&Blob { kind: "pack", number, bytes });
    }
    session.put(&Blob { kind: "root", number: 0, bytes: ROOT });
    session
}

fn pushed(device: &Device<'_>, vault: &str, packs: usize) -> u64 {
    let session = written(device, vault, packs);
    let id = format!("{:016x}", session.number);
    device.ok("session-commit", &session.commit_of(&PACKS[..packs], ROOT, &id, 2));
    session.number
}

fn packs(vault: &str, session: u64, from: u32, count: u32) -> Value {
    json!({"vault": vault, "packs": [{"session": session, "from": from, "count": count}]})
}

/// Gives a pack of a snapshot up, and its root with it.
fn give_up(server: &Server, device: &Device<'_>, vault: &str, session: u64, number: u32) {
    let begun = device.ok("gc-begin", &json!({"vault": vault}));
    let mut retire = packs(vault, session, number, 1);
    retire["version"] = begun["version"].clone();
    retire["gc_epoch"] = begun["gc_epoch"].clone();
    retire["idem"] = idem().into();
    device.ok("gc-retire", &retire);
    device.ok("snapshot-trash", &json!({"vault": vault, "sessions": [session], "idem": idem()}));
    let later = "update app.gc_log set at = at - interval '72 hours';
                 update app.snapshot set purge_after = purge_after - interval '14 days'";
    server.admin().batch(later).unwrap();
    device.ok("gc-begin", &json!({"vault": vault}));
    let gone = device.ok("gc-purge", &packs(vault, session, 0, 3));
    assert_eq!(gone["packs"], packs(vault, session, number, 1)["packs"]);
}

/// All entries, as if they had been made twenty minutes and a second earlier.
fn due(server: &Server) {
    server.admin().batch("update app.doomed set due_at = due_at - interval '20 minutes 1 second'").unwrap();
}

fn entries(server: &Server) -> i64 {
    server.admin().row("select count(*) from app.doomed", &[]).get(0)
}

fn names(vault: &str, names: &[String]) -> BTreeSet<String> {
    names.iter().map(|name| format!("{vault}/{name}")).collect()
}

#[test]
fn what_was_given_up_goes_when_it_is_due_and_nothing_else() {
    let server = server();
    let (alice, bob) = (server.user("a@example.org").device(1), server.user("b@example.org").device(2));
    let (vault, of_bob) = (alice.make_vault(), bob.make_vault());
    let (goes, stays) = (pushed(&alice, &vault, 3), pushed(&alice, &vault, 2));
    pushed(&bob, &of_bob, 3);
    let aborted = written(&alice, &vault, 2);
    alice.ok("session-abort", &json!({"vault": vault, "session": aborted.number}));
    give_up(&server, &alice, &vault, goes, 1);
    let open = written(&alice, &vault, 2);
    let before = objects(&server);
    // A root, a pack, and what the session that was given up had announced.
    assert_eq!(entries(&server), 3);
    assert_eq!(pass(&server, |_| ()), Swept::default(), "a grant for them may still live");
    assert_eq!(objects(&server), before);

    due(&server);
    let expected = names(
        &vault,
        &[
            format!("r/{goes:08x}"),
            format!("p/{goes:08x}/00000001"),
            format!("r/{:08x}", aborted.number),
            format!("p/{:08x}/00000000", aborted.number),
            format!("p/{:08x}/00000001", aborted.number),
        ],
    );
    assert_eq!(pass(&server, |_| ()), Swept { objects: 5, failed: 0, locked: 0 });
    assert_eq!(&before - &objects(&server), expected);
    assert_eq!((entries(&server), pass(&server, |_| ())), (0, Swept::default()));
    // What stays is read, and what is being written goes on.
    let want = json!({"vault": vault, "want": [{"kind": "pack", "session": stays, "from": 0, "count": 2}]});
    for grant in alice.ok("urls", &want)["grants"].as_array().unwrap() {
        assert_eq!(crate::stores::get(&server, grant["url"].as_str().unwrap(), None).0, 200);
    }
    alice.ok("session-commit", &open.commit_of(&PACKS[..2], ROOT, "00000000000000ff", 2));
}

#[test]
fn what_cannot_be_deleted_is_tried_again_and_keeps_no_other_vault_waiting() {
    let server = server();
    let (alice, bob) = (server.user("a@example.org").device(1), server.user("b@example.org").device(2));
    let (vault, of_bob) = (alice.make_vault(), bob.make_vault());
    let (session, other) = (pushed(&alice, &vault, 3), pushed(&bob, &of_bob, 3));
    give_up(&server, &alice, &vault, session, 0);
    give_up(&server, &bob, &of_bob, other, 0);
    due(&server);
    let before = objects(&server);
    // Whoever signs grants may not delete.
    let own = pass(&server, |config| {
        let sweep = config.sweep.as_mut().unwrap();
        sweep.access_key = config.storage.access_key.clone();
        sweep.secret_key = config.storage.secret_key.clone();
    });
    assert_eq!((own, entries(&server)), (Swept { objects: 0, failed: 2, locked: 0 }, 4));
    assert_eq!(objects(&server), before);
    // Nothing is deleted where nobody may.
    let none = server.wait(async {
        let config = Config { sweep: None, ..server.dev().config().clone() };
        Sweep::new(&App::new(config).await.unwrap()).unwrap().is_none()
    });
    assert!(none);

    // One root resists: its vault's packs stay with it.
    let root = server.objects().join(&of_bob).join(format!("r/{other:08x}"));
    std::fs::remove_file(&root).unwrap();
    std::fs::create_dir(&root).unwrap();
    assert_eq!(pass(&server, |_| ()), Swept { objects: 2, failed: 1, locked: 0 });
    let pack =
        |vault: &str, session: u64| server.objects().join(vault).join(format!("p/{session:08x}/00000000"));
    assert!(!pack(&vault, session).exists() && pack(&of_bob, other).exists());
    assert_eq!(entries(&server), 2);
    std::fs::remove_dir(&root).unwrap();
    assert_eq!(pass(&server, |_| ()), Swept { objects: 2, failed: 0, locked: 0 });
    assert!(!pack(&of_bob, other).exists());
    assert_eq!(entries(&server), 0);
}

#[test]
fn the_server_sweeps_by_itself() {
    let mut server = Server::with(|dev| dev.sweep_every = Duration::from_millis(20));
    // What was given up before it was started again, too.
    let object = {
        let alice = server.user("a@example.org").device(1);
        let vault = alice.make_vault();
        let session = pushed(&alice, &vault, 3);
        give_up(&server, &alice, &vault, session, 2);
        server.objects().join(&vault).join(format!("p/{session:08x}/00000002"))
    };
    assert!(object.exists());
    server.restart();
    due(&server);
    let counted = || {
        let (_, text) = server.wait(async {
            let answer = server.client().get(format!("{}/metrics", server.base())).send().await.unwrap();
            (answer.status(), answer.text().await.unwrap())
        });
        text.lines().any(|line| line == "backupengine_objects_deleted_total 2")
    };
    for _ in 0..6000 {
        if !object.exists() && entries(&server) == 0 && counted() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("two objects are due, and the server does not delete them");
}
