//! The database is expendable: what lies in the bucket is registered again for a user who has signed up anew.
use crate::stores::{Blob, Session, get, put};
use backupengine_format::trailer::Trailer;
use backupengine_model::{PackRef, SessionNo};
use backupengine_server::ServerError;
use backupengine_server::rebuild::{Rebuilt, rebuild};
use backupengine_tests::account::{Server, base64, idem};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::path::Path;

const PACK: &[u8] = b"the bytes of a pack";
const HEAD_LEN: u32 = 11;

/// A root pack as far as the server can tell one: its trailer.
fn root(session: u32) -> Vec<u8> {
    let pack = PackRef { session: SessionNo(session), number: u32::MAX, salt: [session as u8; 8], epoch: 1 };
    let trailer = Trailer { pack, footer_len: 20, head_len: HEAD_LEN, commitment: [5; 16] };
    [&[0x5a; 40][..], &trailer.encode()].concat()
}

fn id(session: u32) -> String {
    format!("{session:02x}").repeat(8)
}

/// The head of an envelope and nothing in it: {2: vault, 3: epoch, 4: kind}.
fn envelope(vault: &str, epoch: u8, kind: u8) -> Vec<u8> {
    let vault = backupengine_model::VaultId::from_hex(vault).unwrap();
    [&[0xa3, 2, 0x50][..], &vault.0, &[3, epoch, 4, kind]].concat()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for one in std::fs::read_dir(from).unwrap() {
        let one = one.unwrap();
        let to = to.join(one.file_name());
        if one.file_type().unwrap().is_dir() {
            copy(&one.path(), &to)
        } else {
            std::fs::copy(one.path(), to).unwrap();
        }
    }
}

fn run(server: &Server, vault: &str, email: &str) -> Result<Rebuilt, ServerError> {
    let (storage, mut admin) = (server.dev().storage.clone(), server.admin());
    server.wait(rebuild(admin.client(), &storage, vault, email))
}

#[test]
fn what_lies_in_the_bucket_is_registered_again() {
    let lost = Server::start();
    let device = lost.user("a@example.org").device(1);
    let vault = device.make_vault();
    let sealed = envelope(&vault, 3, 2);
    let asked = json!({"vault": vault, "id": "00112233445566aa", "epoch": 3, "kind": "recovery",
        "sealed": base64(&sealed), "sha256": base64(&Sha256::digest(&sealed)), "idem": idem()});
    assert_eq!(put(&lost, &device.ok("envelope-put", &asked), &sealed), 200);
    for number in 1..=2 {
        let session = Session::open(&device, &vault);
        let root = root(number);
        session.put(&Blob { kind: "pack", number: 0, bytes: PACK });
        session.put(&Blob { kind: "pack", number: 1, bytes: PACK });
        session.put(&Blob { kind: "root", number: 0, bytes: &root });
        device.ok("session-commit", &session.commit_of(&[PACK, PACK], &root, &id(number), HEAD_LEN));
    }
    // A third one was under way: two packs, one of them not yet there, no root.
    Session::open(&device, &vault).put(&Blob { kind: "pack", number: 1, bytes: PACK });
    let before = device.ok("vault-list", &json!({}))["vaults"][0].clone();

    // Another database, the same bucket; the user signs up anew.
    let server = Server::start();
    copy(lost.objects(), server.objects());
    drop(lost);
    let bucket = server.objects();
    std::fs::write(bucket.join(&vault).join("r/00000007"), b"not a root").unwrap();
    std::fs::write(bucket.join(&vault).join("k/00112233445566bb"), b"not an envelope").unwrap();
    std::fs::write(bucket.join(&vault).join("p/stray"), b"stray").unwrap();
    assert!(run(&server, &vault, "a@example.org").unwrap_err().to_string().contains("sign up first"));
    let user = server.user("a@example.org");
    let device = user.device(8);
    let other = server.user("b@example.org").device(9);
    let refused = |vault: &str| run(&server, vault, "a@example.org").unwrap_err().to_string();
    assert!(refused(&"0".repeat(32)).contains("holds nothing of the vault"));
    for bad in ["", "..", &format!("{vault}/"), &vault.to_uppercase()] {
        assert!(refused(bad).contains("32 hexadecimal digits"), "{bad}");
    }
    let rebuilt = run(&server, &vault, "A@example.org").unwrap();
    assert_eq!((rebuilt.sessions, rebuilt.snapshots), (4, 2));
    let left_out = rebuilt.left_out.join("\n");
    for name in ["r/00000007", "k/00112233445566bb", "p/stray"] {
        assert!(left_out.contains(&format!("{name}: ")), "{left_out}");
    }
    assert_eq!(rebuilt.left_out.len(), 3);
    assert!(refused(&vault).contains("registered"), "nothing is written over");

    let after = device.ok("vault-list", &json!({}))["vaults"][0].clone();
    assert_eq!((&after["vault"], &after["root_public"]), (&before["vault"], &before["root_public"]));
    assert!(
        after["version"].as_u64() > before["version"].as_u64(),
        "who remembers the old list sees that it moved"
    );
    let listed = device.ok("snapshot-list", &json!({"vault": vault, "limit": 10, "trashed": false}));
    let snapshots = listed["snapshots"].as_array().unwrap();
    let seen: Vec<_> = snapshots
        .iter()
        .map(|one| (&one["session"], &one["id"], &one["root_size"], &one["head_len"]))
        .collect();
    let expected =
        [2, 1].map(|number| (json!(number), json!(id(number)), json!(root(number).len()), json!(HEAD_LEN)));
    assert_eq!(seen, expected.iter().map(|(a, b, c, d)| (a, b, c, d)).collect::<Vec<_>>());
    assert!(snapshots.iter().all(|one| one["device"].is_null() && one["state"] == "live"));

    let mounted = device.ok("mount", &json!({"vault": vault, "snapshots": 10}));
    let kept = &mounted["envelopes"][0];
    assert_eq!(
        (&kept["epoch"], &kept["kind"], &kept["sealed"]),
        (&json!(3), &json!("recovery"), &json!(base64(&sealed)))
    );
    let want =
        |session: u32, from: u32| json!({"kind": "pack", "session": session, "from": from, "count": 1});
    let asked = json!({"vault": vault, "want": [want(1, 0), want(2, 1), want(3, 0), want(3, 1)]});
    let grants = device.ok("urls", &asked)["grants"].clone();
    let states: Vec<_> = (0..4).map(|at| grants[at]["state"].as_str().unwrap().to_owned()).collect();
    assert_eq!(states, ["here", "here", "gone", "here"]);
    assert_eq!(get(&server, grants[0]["url"].as_str().unwrap(), None).2, PACK);

    let usage = device.ok("usage", &json!({}));
    let roots = root(1).len() + root(2).len() + b"not a root".len();
    assert_eq!(usage["used"], json!(PACK.len() * 5 + roots));
    assert_eq!(Session::open(&device, &vault).number, 8, "no number is given twice");
    assert_eq!(other.refused("version", &json!({"vault": vault})), "not_found", "it is one user's");
    let audit = device.ok("audit-list", &json!({"limit": 100}));
    let entries = audit["entries"].as_array().unwrap();
    assert!(entries.iter().any(|entry| entry["operation"] == "rebuild"));
}

#[test]
fn without_the_root_key_it_is_registered_and_said() {
    let server = Server::start();
    server.user("a@example.org");
    let vault = idem();
    let folder = server.objects().join(&vault);
    std::fs::create_dir_all(folder.join("r")).unwrap();
    std::fs::write(folder.join("r/00000001"), root(1)).unwrap();
    // A trailer of another session's root: moved by whoever can write the bucket.
    std::fs::write(folder.join("r/00000002"), root(1)).unwrap();
    let rebuilt = run(&server, &vault, "a@example.org").unwrap();
    assert_eq!(rebuilt.snapshots, 1);
    let left_out = rebuilt.left_out.join("\n");
    assert!(left_out.contains("v/root: ") && left_out.contains("r/00000002: "), "{left_out}");
    let members: i64 = server.admin().row("select count(*) from app.member", &[]).get(0);
    assert_eq!(members, 1, "the account was made with it");
}
