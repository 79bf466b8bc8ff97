//! What a grant is worth to whoever holds it: one blob, once, with the announced bytes, for a while.
use crate::stores::{Blob, Session, get, put};
use backupengine_server::probe::probe;
use backupengine_tests::account::{Device, Server};
use serde_json::{Value, json};
use std::time::Duration;

const PACK: &[u8] = b"the bytes of a pack, sealed as far as anybody here can tell";
const OTHER: &[u8] = b"other bytes of a pack, as long as those that were announced";
const ROOT: &[u8] = b"a root";

fn pack(number: u32) -> Blob<'static> {
    Blob { kind: "pack", number, bytes: PACK }
}

fn root() -> Blob<'static> {
    Blob { kind: "root", number: 0, bytes: ROOT }
}

fn urls(device: &Device<'_>, vault: &str, want: Value) -> Value {
    device.ok("urls", &json!({"vault": vault, "want": [want]}))["grants"].clone()
}

#[test]
fn a_grant_stores_the_announced_bytes_once() {
    let server = Server::start();
    let device = server.user("a@example.org").device(1);
    let vault = device.make_vault();
    let session = Session::open(&device, &vault);
    let grant = session.grant(&pack(0));
    assert_eq!(grant["grant_seconds"], 900);
    assert_eq!(OTHER.len(), PACK.len());
    let denied = |what: &str, grant: &Value, body: &[u8]| {
        let status = put(&server, grant, body);
        assert!((400..500).contains(&status), "{what}: {status}");
    };
    denied("other bytes", &grant, OTHER);
    denied("longer", &grant, &[PACK, b"."].concat());
    denied("shorter", &grant, &PACK[1..]);
    denied("nothing", &grant, b"");
    for name in grant["headers"].as_object().unwrap().keys() {
        let mut fewer = grant.clone();
        fewer["headers"].as_object_mut().unwrap().remove(name);
        denied(&format!("without {name}"), &fewer, PACK);
    }
    let url = grant["url"].as_str().unwrap();
    let mut elsewhere = grant.clone();
    elsewhere["url"] = url.replace("/p/00000001/00000000", "/p/00000001/00000001").into();
    denied("another number", &elsewhere, PACK);
    elsewhere["url"] = url.replace("X-Amz-Expires=900", "X-Amz-Expires=90000").into();
    denied("a longer life", &elsewhere, PACK);
    assert_ne!(get(&server, url, None).0, 200, "a grant to write reads nothing");
    assert_eq!(put(&server, &grant, PACK), 200);
    assert_eq!(put(&server, &grant, PACK), 412, "once");
    // A number stands for its bytes: the same again is signed again, others never.
    assert_eq!(put(&server, &session.grant(&pack(0)), PACK), 412);
    let want = session.want(&[Blob { kind: "pack", number: 0, bytes: OTHER }]);
    assert_eq!(device.refused("session-urls", &want), "number_taken");
}

#[test]
fn what_is_committed_can_be_read_in_ranges() {
    let server = Server::start();
    let device = server.user("a@example.org").device(1);
    let vault = device.make_vault();
    let session = Session::open(&device, &vault);
    session.put(&pack(0));
    session.put(&root());
    let want = json!({"kind": "pack", "session": 1, "from": 0, "count": 1});
    device.ok("session-commit", &session.commit_of(&[PACK], ROOT, "00112233aabbccdd", 1));
    let grants = urls(&device, &vault, want);
    let url = grants[0]["url"].as_str().unwrap();
    assert_eq!(get(&server, url, None), (200, Some("no-store".to_owned()), PACK.to_vec()));
    assert_eq!(get(&server, url, Some("bytes=4-8")).2, &PACK[4..=8]);
    assert_eq!(
        get(&server, url, Some("bytes=-5")),
        (206, Some("no-store".to_owned()), PACK[PACK.len() - 5..].to_vec())
    );
    let grant = json!({"url": url, "headers": {}});
    assert_ne!(put(&server, &grant, PACK), 200, "a grant to read writes nothing");
    assert_ne!(get(&server, &url.replace("/p/00000001/00000000", "/r/00000001"), None).0, 200);
    assert_ne!(get(&server, &url.replace(&vault, &"0".repeat(32)), None).0, 200);
    // The whole call again is answered as before, though the session is open no more.
    device.ok("session-commit", &session.commit_of(&[PACK], ROOT, "00112233aabbccdd", 1));
    let list = |kind: &str, cursor: Value| json!({"vault": vault, "kind": kind, "cursor": cursor});
    let packs = device.ok("blob-list", &list("packs", Value::Null));
    assert_eq!(packs["blobs"], json!([{"name": "p/00000001/00000000", "size": PACK.len()}]));
    assert!(packs.get("cursor").is_none_or(Value::is_null));
    let after = device.ok("blob-list", &list("packs", "p/00000001/00000000".into()));
    assert_eq!(after["blobs"], json!([]));
    for bad in ["../x", "v/root", "r/00000001", ""] {
        assert_eq!(device.refused("blob-list", &list("packs", bad.into())), "bad_request", "{bad}");
    }
}

#[test]
fn a_commit_counts_what_is_stored() {
    let server = Server::start();
    let device = server.user("a@example.org").device(1);
    let vault = device.make_vault();
    let session = Session::open(&device, &vault);
    let commit = session.commit_of(&[PACK, PACK], ROOT, "00112233aabbccdd", 1);
    session.put(&pack(0));
    assert_eq!(device.refused("session-commit", &commit), "root_not_stored");
    session.put(&root());
    assert_eq!(device.refused("session-commit", &commit), "objects_differ", "a pack is missing");
    let grant = session.grant(&pack(1));
    assert_eq!(device.refused("session-commit", &commit), "objects_differ", "announced is not stored");
    assert_eq!(put(&server, &grant, PACK), 200);
    // A store that cut a pack short after it was acknowledged.
    let file = server.objects().join(format!("{vault}/p/00000001/00000001"));
    std::fs::write(&file, &PACK[1..]).unwrap();
    assert_eq!(device.refused("session-commit", &commit), "objects_differ", "a pack is short");
    std::fs::write(&file, PACK).unwrap();
    let stranger = file.with_file_name("00000002");
    std::fs::write(&stranger, PACK).unwrap();
    assert_eq!(device.refused("session-commit", &commit), "objects_differ", "more than was announced");
    std::fs::remove_file(&stranger).unwrap();
    device.ok("session-commit", &commit);
}

#[test]
fn grants_end() {
    let server = Server::with(|config| config.grant_life = Duration::from_secs(1));
    let device = server.user("a@example.org").device(1);
    let vault = device.make_vault();
    let session = Session::open(&device, &vault);
    let late = session.grant(&pack(0));
    session.put(&root());
    device.ok("session-commit", &session.commit_of(&[], ROOT, "00112233aabbccdd", 1));
    let read = urls(&device, &vault, json!({"kind": "root", "session": 1, "from": 0, "count": 1}));
    let url = read[0]["url"].as_str().unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(put(&server, &late, PACK), 403);
    assert_eq!(get(&server, url, None).0, 403);
}

#[test]
fn the_quota_stops_grants_and_frees_what_was_given_up() {
    let server = Server::start();
    let device = server.user("a@example.org").device(1);
    let vault = device.make_vault();
    server.admin().execute("update app.tenant set quota_bytes = $1", &[&(PACK.len() as i64 + 10)]).unwrap();
    let session = Session::open(&device, &vault);
    session.grant(&pack(0));
    let more = session.want(&[pack(1)]);
    assert_eq!(device.refused("session-urls", &more), "quota_exceeded");
    device.ok("session-abort", &json!({"vault": vault, "session": session.number}));
    Session::open(&device, &vault).grant(&pack(0));
}

#[test]
fn check_storage_finds_what_the_store_honours() {
    let server = Server::start();
    let storage = server.dev().storage.clone();
    let probed = server.wait(probe(&storage, server.dev().config().sweep.as_ref())).unwrap();
    assert!(probed.profile.checksum_sha256 && probed.profile.if_none_match && !probed.profile.content_md5);
    assert_eq!(probed.profile, storage.profile, "what --dev says of its store is what was found");
    assert!(
        !probed.profile.object_lock
            && probed.report.iter().any(|line| line.starts_with("no      an object lock holds"))
    );
    assert!(probed.report.len() >= 9);
    let said = probed.report.join("\n");
    assert!(!said.contains("X-Amz") && !said.contains(storage.secret_key.expose()), "no grant is printed");
    let folder = server.objects();
    let names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert!(names.iter().any(|name| name == "probe"));
    assert!(names.iter().all(|name| name == "probe" || name.to_string_lossy().starts_with('.')), "{names:?}");

    let wrong = backupengine_server::config::Secret::new("not the key".to_owned());
    let storage = backupengine_server::config::Storage { secret_key: wrong, ..storage };
    let refused = server.wait(probe(&storage, None)).unwrap_err().to_string();
    assert!(refused.contains("key pair") && !refused.contains("X-Amz"), "{refused}");
}
