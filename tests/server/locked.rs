//! Locked storage: what is stored cannot be deleted before its time, where the store was seen to keep to that.
//!
//! The bucket is this test's own ([`store`]): nothing that a package registry serves has object locks and a licence that
//! can be used here. What is proved is this program's side: what is signed, what is believed, what the sweep does.
mod store;

use crate::stores::{Blob, Session, put};
use backupengine_server::app::App;
use backupengine_server::config::{Config, Lock, LockMode, Profile, Secret, Storage, Sweep};
use backupengine_server::grants::{Announced, Grants};
use backupengine_server::probe::{Probed, probe};
use backupengine_server::sweep::{self, Swept};
use backupengine_tests::account::{Device, Server, base64, idem};
use backupengine_tests::relay::Relay;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::time::{Duration, SystemTime};
use store::{Locking, Word};

const KEYS: [(&str, &str); 2] = [("grants", "the secret of grants"), ("sweep", "the secret of the sweep")];
const LOCK: Lock = Lock { mode: LockMode::Compliance, days: 30 };
const BODY: &[u8] = b"the bytes of a pack";

fn storage(store: &Locking, lock: Option<Lock>) -> Storage {
    Storage {
        endpoint: format!("http://{}", store.address),
        seen_at: None,
        region: "eu".to_owned(),
        bucket: "backupengine-eu".to_owned(),
        access_key: KEYS[0].0.to_owned(),
        secret_key: Secret::new(KEYS[0].1.to_owned()),
        grant_life: Duration::from_secs(900),
        profile: Profile::NONE,
        lock,
    }
}

fn sweep_of() -> Sweep {
    let (access_key, secret_key) = (KEYS[1].0.to_owned(), Secret::new(KEYS[1].1.to_owned()));
    Sweep { access_key, secret_key, every: Duration::from_secs(86_400) }
}

async fn probed(word: Word, mode: LockMode, sweep: Option<&Sweep>) -> Probed {
    let store = Locking::start(word, KEYS).await;
    probe(&storage(&store, Some(Lock { mode, days: 30 })), sweep).await.unwrap()
}

fn said(probed: &Probed) -> &str {
    probed.report.iter().find(|line| line.contains("an object lock holds")).unwrap()
}

#[tokio::test]
async fn a_lock_is_believed_where_the_key_that_deletes_was_seen_to_fail() {
    let sweep = sweep_of();
    for word in [Word::Kept, Word::KeptStrictly] {
        for mode in [LockMode::Compliance, LockMode::Governance] {
            let probed = probed(word, mode, Some(&sweep)).await;
            assert!(probed.profile.object_lock, "{word:?} {mode:?}: {}", said(&probed));
            assert!(said(&probed).starts_with("ok"));
            let kept = Profile::from_json(probed.profile.to_json()).unwrap();
            assert_eq!(kept, probed.profile, "and is kept with the profile");
        }
    }
    for (word, why) in [
        (Word::Broken, "can be deleted all the same"),
        (Word::NoVersions, "keeps no versions"),
        (Word::NoLocks, "the bucket has none"),
        (Word::NothingGoes, "may not delete versions"),
    ] {
        let probed = probed(word, LockMode::Compliance, Some(&sweep)).await;
        assert!(
            !probed.profile.object_lock && said(&probed).starts_with("no"),
            "{word:?}: {}",
            said(&probed)
        );
        assert!(said(&probed).contains(why), "{word:?}: {}", said(&probed));
        assert!(probed.profile.checksum_sha256, "{word:?}: the rest is another matter");
    }
    let nobody = probed(Word::Kept, LockMode::Compliance, None).await;
    assert!(!nobody.profile.object_lock && said(&nobody).contains("BACKUPENGINE_S3_SWEEP_ACCESS_KEY"));
}

#[tokio::test]
async fn a_grant_stores_locked_or_not_at_all() {
    let store = Locking::start(Word::Kept, KEYS).await;
    let plain = storage(&store, Some(LOCK));
    let probed = probe(&plain, Some(&sweep_of())).await.unwrap();
    let grants = Grants::new(&Storage { profile: probed.profile, ..plain.clone() }).unwrap();
    let sha256 = base64(&Sha256::digest(BODY));
    let announced = Announced { length: BODY.len() as u64, sha256: &sha256, md5: None };
    let grant = grants.put("v/p/00000001/00000000", &announced).unwrap();
    let names: Vec<&str> = grant.headers.keys().map(String::as_str).collect();
    let (mode, until) = ("x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date");
    assert!(names.contains(&mode) && names.contains(&until), "{names:?}");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let send = async |change: &[(&str, Option<&str>)]| {
        let mut headers = grant.headers.clone();
        for (name, value) in change {
            match value {
                Some(value) => headers.insert((*name).to_owned(), (*value).to_owned()),
                None => headers.remove(*name),
            };
        }
        let mut request = client.put(&grant.url.0).body(BODY);
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        request.send().await.unwrap().status().as_u16()
    };
    for change in [
        &[(mode, None), (until, None)][..],
        &[(mode, None)],
        &[(until, None)],
        &[(mode, Some("GOVERNANCE"))],
        &[(until, Some("2100-01-01T00:00:00Z"))],
        &[(until, Some("2026-01-01T00:00:00Z"))],
    ] {
        assert_eq!(send(change).await, 403, "{change:?}");
    }
    assert!(store.kept("v/p/00000001/00000000").is_empty());
    assert_eq!(send(&[]).await, 200);
    let shown = store.shown();
    let (kept, end) = shown["v/p/00000001/00000000"].clone().unwrap();
    assert_eq!(kept, "COMPLIANCE");
    let days = |days: u64| s3s::dto::Timestamp::from(SystemTime::now() + Duration::from_secs(days * 86_400));
    assert!(end > days(29) && end < days(31));
    // A store that is not known to keep to it is not told: whoever reads the setting must not believe in it.
    let plain = Grants::new(&plain).unwrap().put("v/p/00000001/00000001", &announced).unwrap();
    assert!(!plain.headers.contains_key(mode));
}

#[test]
fn a_server_does_not_start_with_a_lock_that_nobody_saw_hold() {
    let server = Server::start();
    let mut config = server.dev().config().clone();
    config.storage.lock = Some(LOCK);
    let refused = server.wait(async { App::new(config).await.map(drop) }).unwrap_err().to_string();
    assert!(refused.starts_with("BACKUPENGINE_S3_LOCK_MODE: "), "{refused}");
    assert!(refused.contains("check-storage"), "{refused}");
}

/// A control plane over a bucket with locks.
fn served(word: Word) -> (Server, Locking, Relay) {
    let mut started = None;
    let relay = Relay::start();
    let profile = Profile { checksum_sha256: true, if_none_match: true, object_lock: true, ..Profile::NONE };
    let server = Server::behind_with(&relay, |server: &Server, config: &mut Config| {
        let store = started.insert(server.wait(Locking::start(word, KEYS)));
        let kept = "update app.deployment set profile = $1::text::jsonb";
        server.admin().execute(kept, &[&profile.to_json().to_string()]).unwrap();
        let bucket = config.storage.bucket.clone();
        config.storage = Storage { bucket, ..storage(store, Some(LOCK)) };
        config.sweep = Some(sweep_of());
    });
    (server, started.unwrap(), relay)
}

fn pass(server: &Server, store: &Locking) -> Swept {
    let mut config = server.dev().config().clone();
    let bucket = config.storage.bucket.clone();
    config.storage = Storage { bucket, ..storage(store, Some(LOCK)) };
    config.sweep = Some(sweep_of());
    server.wait(async {
        sweep::Sweep::new(&App::new(config).await.unwrap()).unwrap().unwrap().pass().await.unwrap()
    })
}

fn pushed(device: &Device<'_>, vault: &str) -> u64 {
    let session = Session::open(device, vault);
    session.put(&Blob { kind: "pack", number: 0, bytes: BODY });
    session.put(&Blob { kind: "root", number: 0, bytes: b"a root" });
    let id = format!("{:016x}", session.number);
    device.ok("session-commit", &session.commit_of(&[BODY], b"a root", &id, 2));
    session.number
}

/// Gives a snapshot and its pack up, and lets all times pass.
fn give_up(server: &Server, device: &Device<'_>, vault: &str, session: u64) {
    let packs = json!([{"session": session, "from": 0, "count": 1}]);
    let at = device.ok("gc-begin", &json!({"vault": vault}));
    let retire = json!({"vault": vault, "version": at["version"], "gc_epoch": at["gc_epoch"], "packs": packs, "idem": idem()});
    device.ok("gc-retire", &retire);
    device.ok("snapshot-trash", &json!({"vault": vault, "sessions": [session], "idem": idem()}));
    let later = "update app.gc_log set at = at - interval '72 hours';
                 update app.snapshot set purge_after = purge_after - interval '14 days'";
    server.admin().batch(later).unwrap();
    device.ok("gc-begin", &json!({"vault": vault}));
    device.ok("gc-purge", &json!({"vault": vault, "packs": packs}));
    server.admin().batch("update app.doomed set due_at = due_at - interval '1 hour'").unwrap();
}

fn due(server: &Server) -> i64 {
    server.admin().row("select count(*) from app.doomed where due_at <= now()", &[]).get(0)
}

#[test]
fn everything_a_client_stores_is_locked() {
    let (server, store, _relay) = served(Word::Kept);
    let device = server.user("a@example.org").device(1);
    let vault = device.make_vault();
    let envelope = json!({"vault": vault, "id": "0123456789abcdef", "epoch": 1, "kind": "recovery", "sealed": base64(b"e"),
                          "sha256": base64(&Sha256::digest(b"e")), "idem": idem()});
    let grant: Value = device.ok("envelope-put", &envelope);
    assert_eq!(put(&server, &grant, b"e"), 200);
    pushed(&device, &vault);
    let shown = store.shown();
    assert!(shown.len() >= 3, "{:?}", shown.keys());
    for (name, lock) in shown {
        assert_eq!(lock.map(|(mode, _)| mode).as_deref(), Some("COMPLIANCE"), "{name}");
    }
}

#[test]
fn what_is_locked_is_swept_when_its_lock_ends_and_keeps_nothing_waiting() {
    let (server, store, _relay) = served(Word::KeptStrictly);
    let device = server.user("a@example.org").device(1);
    let vault = device.make_vault();
    let (locked, free) = (pushed(&device, &vault), pushed(&device, &vault));
    give_up(&server, &device, &vault, locked);
    // The root stays, so does its pack; it is asked for again in thirty days, not every minute.
    assert_eq!(pass(&server, &store), Swept { objects: 0, failed: 0, locked: 1 });
    assert_eq!((due(&server), pass(&server, &store)), (0, Swept::default()));
    let waits = "select min(due_at) > now() + interval '29 days' and max(due_at) < now() + interval '31 days' and count(*) = 2
                 from app.doomed";
    assert!(server.admin().row(waits, &[]).get::<_, bool>(0));
    // Another session's goes meanwhile.
    let name = |kind: &str, session: u64| match kind {
        "root" => format!("{vault}/r/{session:08x}"),
        _ => format!("{vault}/p/{session:08x}/00000000"),
    };
    store.let_go();
    give_up(&server, &device, &vault, free);
    assert_eq!(pass(&server, &store).objects, 2);
    assert!(
        !store.shown().contains_key(&name("root", free)) && store.shown().contains_key(&name("pack", locked))
    );
    server.admin().batch("update app.doomed set due_at = due_at - interval '40 days'").unwrap();
    assert_eq!(pass(&server, &store), Swept { objects: 2, failed: 0, locked: 0 });
    assert!(!store.shown().contains_key(&name("pack", locked)));
    assert_eq!(server.admin().row("select count(*) from app.doomed", &[]).get::<_, i64>(0), 0);
}

/// In a bucket with versions the sweep hides; the bytes stay until the bucket's own rule ends them.
#[test]
fn where_there_are_versions_the_sweep_hides_what_is_locked() {
    let (server, store, _relay) = served(Word::Kept);
    let device = server.user("a@example.org").device(1);
    let vault = device.make_vault();
    let session = pushed(&device, &vault);
    give_up(&server, &device, &vault, session);
    assert_eq!(pass(&server, &store), Swept { objects: 2, failed: 0, locked: 0 });
    let name = format!("{vault}/p/{session:08x}/00000000");
    assert!(!store.shown().contains_key(&name));
    assert_eq!(store.kept(&name), [BODY]);
}
