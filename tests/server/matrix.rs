//! Every operation by everybody who may not call it, over HTTP: the code that is answered, and that the refusal is in
//! the audit. What is expected is written out here, apart from what the server goes by.
use backupengine_api::OPERATIONS;
use backupengine_tests::account::{Device, DeviceKeys, Request, Server, Session, User, base64, idem};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Operation; owner, maintainer, writer, reader; a device that waits; an owner whose one-time code is eleven minutes
/// old. Bodies are such that nothing much happens: a device, session or snapshot that is not there.
const TABLE: &[(&str, [&str; 4], &str, &str)] = &[
    ("device-enroll", ["ok", "ok", "ok", "ok"], "ok", "fresh_totp_required"),
    ("device-approve", ["not_found", NO, NO, NO], WAITS, "fresh_totp_required"),
    ("device-list", ["ok", "ok", "ok", "ok"], "ok", "ok"),
    ("device-rename", ["ok", "ok", "ok", "ok"], WAITS, "ok"),
    ("device-revoke", ["not_found", NO, NO, NO], WAITS, "fresh_totp_required"),
    ("vault-create", ["already_exists", NO, NO, NO], WAITS, "already_exists"),
    ("vault-list", ["ok", "ok", "ok", "ok"], "ok", "ok"),
    ("envelope-put", ["ok", NO, NO, NO], WAITS, "fresh_totp_required"),
    ("envelope-change", ["envelopes_moved", NO, NO, NO], WAITS, "fresh_totp_required"),
    ("mount", ["ok", "ok", "ok", "ok"], WAITS, "ok"),
    ("version", ["ok", "ok", "ok", "ok"], WAITS, "ok"),
    ("snapshot-list", ["ok", "ok", "ok", "ok"], WAITS, "ok"),
    ("urls", ["ok", "ok", "ok", "ok"], WAITS, "ok"),
    ("blob-list", ["ok", "ok", "ok", "ok"], WAITS, "ok"),
    ("session-list", ["ok", "ok", "ok", "ok"], WAITS, "ok"),
    ("session-open", ["ok", NO, "ok", NO], WAITS, "ok"),
    ("session-urls", [NONE, NONE, NONE, NO], WAITS, NONE),
    ("session-heartbeat", [NONE, NONE, NONE, NO], WAITS, NONE),
    ("session-commit", [NONE, NONE, NONE, NO], WAITS, NONE),
    ("session-abort", [NONE, NONE, NONE, NO], WAITS, NONE),
    ("snapshot-trash", ["not_found", NO, NO, NO], WAITS, "fresh_totp_required"),
    ("snapshot-untrash", ["not_found", NO, NO, NO], WAITS, "fresh_totp_required"),
    ("snapshot-hold", ["not_found", NO, NO, NO], WAITS, "fresh_totp_required"),
    ("snapshot-tag", ["not_found", NO, NO, NO], WAITS, "not_found"),
    ("retention-set", ["ok", NO, NO, NO], WAITS, "fresh_totp_required"),
    ("gc-begin", ["ok", "ok", NO, NO], WAITS, "ok"),
    ("gc-retire", ["counters_moved", "counters_moved", NO, NO], WAITS, "counters_moved"),
    ("gc-unretire", ["ok", "ok", "ok", NO], WAITS, "ok"),
    ("gc-move", ["counters_moved", "counters_moved", NO, NO], WAITS, "counters_moved"),
    ("gc-purge", ["ok", "ok", NO, NO], WAITS, "ok"),
    ("schedule-put", ["ok", "ok", "ok", "ok"], WAITS, "ok"),
    ("schedule-list", ["ok", "ok", "ok", "ok"], WAITS, "ok"),
    ("usage", ["ok", "ok", "ok", "ok"], WAITS, "ok"),
    ("audit-list", ["ok", "ok", "ok", "ok"], WAITS, "ok"),
    ("events", ["ok", "ok", NO, "ok"], WAITS, "ok"),
];
const NO: &str = "role_denied";
const WAITS: &str = "device_pending";
const NONE: &str = "unknown_session";
/// Of these, what happens depends on nothing of another account.
const OF_NOBODY: &[&str] =
    &["device-enroll", "device-list", "vault-list", "vault-create", "usage", "audit-list"];
const ROLES: [&str; 4] = ["owner", "maintainer", "writer", "reader"];
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

#[test]
fn every_operation_is_in_the_table_once() {
    let names: BTreeSet<&str> = TABLE.iter().map(|(name, ..)| *name).collect();
    let known: BTreeSet<&str> = OPERATIONS.iter().map(|operation| operation.name).collect();
    assert_eq!(names, known);
    assert_eq!(names.len(), TABLE.len());
}

#[test]
fn each_role_may_call_what_the_table_says() {
    let server = Server::start();
    let world = World::new(&server);
    for (op, by_role, pending, _) in TABLE {
        for (device, expected) in world.roles.iter().zip(by_role) {
            world.expect(device, op, expected, "a role");
        }
        world.expect(&world.pending, op, pending, "a device that waits");
    }
}

#[test]
fn nobody_calls_anything_with_less_than_all_of_it() {
    let server = Server::start();
    let world = World::new(&server);
    for (op, ..) in TABLE {
        let enroll = *op == "device-enroll";
        world.expect(&world.aal1, op, "aal2_required", "without a second factor");
        world.expect(&world.ended, op, "session_ended", "after logout");
        world.expect(&world.revoked, op, "device_revoked", "a revoked device");
        if !enroll {
            world.expect(&world.stranger, op, "unknown_device", "keys that nobody enrolled");
            world.expect(&world.mixed, op, "unknown_device", "a login with another user's device");
        }
        let owner = &world.roles[0];
        let mut none = owner.sign(op, &world.body(op, owner));
        none.authorization = String::new();
        world.expect_of(&none, NOBODY, "no_token", "without a token");
        let mut other = owner.sign(op, &world.body(op, owner));
        other.headers = owner.sign(op, &json!({"another": "body"})).headers;
        world.expect_of(&other, &world.tenant, "bad_signature", "signed for another body");
    }
}

#[test]
fn what_matters_needs_a_fresh_one_time_code() {
    let server = Server::start();
    let world = World::new(&server);
    world.expect(&world.roles[0], "envelope-put", "ok", "the first envelope");
    let older = "update app.envelope set created_at = created_at - interval '11 minutes'";
    server.admin().execute(older, &[]).unwrap();
    let older = "update app.vault set created_at = created_at - interval '11 minutes'";
    server.admin().execute(older, &[]).unwrap();
    for (op, _, _, stale) in TABLE {
        world.expect(&world.stale, op, stale, "with an old one-time code");
    }
}

/// What only owners may do wants a fresh one-time code, unless it stands here with its reason. A new operation that only
/// owners may call has to be one or the other.
#[test]
fn what_only_owners_may_do_wants_a_fresh_code() {
    let without: BTreeMap<&str, &str> = [
        ("vault-create", "there is nothing yet that it could harm"),
        ("snapshot-tag", "a label says nothing of content; the root keeps what was pushed"),
    ]
    .into();
    let mut owners = 0;
    for (op, [owner, others @ ..], _, stale) in TABLE {
        if *owner == NO || others.iter().any(|code| *code != NO) {
            continue;
        }
        owners += 1;
        assert_eq!(*stale == "fresh_totp_required", !without.contains_key(op), "{op}: {:?}", without.get(op));
    }
    assert!(owners > without.len() && without.keys().all(|op| TABLE.iter().any(|(name, ..)| name == op)));
    // The database says the same of those that need it on every call.
    let server = Server::start();
    let rows =
        server.admin().query("select name from app.operation where roles = '{owner}' and fresh_totp", &[]);
    let kept: BTreeSet<String> = rows.unwrap().iter().map(|row| row.get(0)).collect();
    for op in ["snapshot-trash", "snapshot-untrash", "snapshot-hold", "retention-set"] {
        assert!(kept.contains(op), "{op}");
    }
}

#[test]
fn what_is_another_accounts_is_not_there() {
    let server = Server::start();
    let world = World::new(&server);
    let bob = server.user("bob@example.org").device(21);
    let vault = "b0".repeat(16);
    bob.ok("vault-create", &created(&vault));
    let of_bob =
        server.admin().row("select tenant::text from app.vault where id = decode($1, 'hex')", &[&vault]);
    let of_bob: String = of_bob.get(0);
    for (op, ..) in TABLE.iter().filter(|(op, ..)| !OF_NOBODY.contains(op)) {
        let mut body = world.body(op, &bob);
        if matches!(*op, "device-rename" | "device-revoke") {
            body["device"] = id(&world.roles[2]);
        }
        world.expect_of(&bob.sign(op, &body), &of_bob, "not_found", "another account's vault or device");
    }
    // A device of another account in a vault of one's own.
    for op in ["device-approve", "schedule-put"] {
        let mut body = world.body(op, &bob);
        body["vault"] = vault.clone().into();
        body["device"] = id(&world.roles[2]);
        world.expect_of(&bob.sign(op, &body), &of_bob, "not_found", "another account's device");
    }
    // A vault's id is taken once, whoever comes.
    world.expect_of(
        &bob.sign("vault-create", &created(VAULT)),
        &of_bob,
        "already_exists",
        "another account's vault",
    );
    // Snapshots and sessions have numbers of the vault: those of another are nothing here.
    assert_eq!(bob.ok("snapshot-list", &listing(&vault))["snapshots"], json!([]));
    let wanted =
        json!({"vault": vault, "want": [{"kind": "root", "session": world.snapshot, "from": 0, "count": 1}]});
    assert_eq!(bob.ok("urls", &wanted)["grants"][0]["state"], "gone");
    let mut trashed = world.body("snapshot-trash", &bob);
    trashed["vault"] = vault.clone().into();
    trashed["sessions"] = json!([world.snapshot]);
    world.expect_of(
        &bob.sign("snapshot-trash", &trashed),
        &of_bob,
        "not_found",
        "another account's snapshot",
    );
    // Nothing of it shows in what is answered.
    for op in OF_NOBODY.iter().filter(|op| !op.contains("enroll") && !op.contains("create")) {
        let text = bob.ok(op, &world.body(op, &bob)).to_string();
        assert!(!text.contains(VAULT), "{op}");
        assert!(world.roles.iter().all(|device| !text.contains(&device.keys.device().to_string())), "{op}");
    }
    assert_eq!(bob.ok("usage", &json!({}))["used"], 0);
}

#[test]
fn an_open_session_is_its_devices_alone() {
    let server = Server::start();
    let world = World::new(&server);
    let [owner, maintainer, writer, reader] = &world.roles;
    let opened = writer.ok("session-open", &world.body("session-open", writer));
    let session = &opened["session"];
    for other in [owner, maintainer] {
        for op in ["session-urls", "session-heartbeat", "session-commit", "session-abort"] {
            let mut body = world.body(op, other);
            body["session"] = session.clone();
            world.expect_of(&other.sign(op, &body), &world.tenant, NONE, "another device's session");
        }
    }
    let mut body = world.body("session-commit", writer);
    body["session"] = session.clone();
    body["device"] = id(owner);
    world.expect_of(
        &writer.sign("session-commit", &body),
        &world.tenant,
        "wrong_session",
        "in another's name",
    );
    let wanted =
        json!({"vault": VAULT, "want": [{"kind": "pack", "session": session, "from": 0, "count": 1}]});
    assert_eq!(reader.ok("urls", &wanted)["grants"][0]["state"], "gone");
    // What others wrote is not for writers, what others are not for anybody but owners.
    let wanted = json!({"vault": VAULT, "want": [{"kind": "pack", "session": 999, "from": 0, "count": 1}]});
    world.expect_of(&writer.sign("urls", &wanted), &world.tenant, NO, "packs of data for a writer");
    world.expect_of(
        &maintainer.sign("session-open", &world.body("session-open", maintainer)),
        &world.tenant,
        NO,
        "a push",
    );
    let mut compact = world.body("session-open", writer);
    compact["kind"] = "compact".into();
    world.expect_of(&writer.sign("session-open", &compact), &world.tenant, NO, "a compaction by a writer");
    for op in ["device-rename", "schedule-put", "device-revoke"] {
        let mut body = world.body(op, writer);
        body["device"] = id(reader);
        world.expect_of(&writer.sign(op, &body), &world.tenant, NO, "another device of the account");
    }
    let listed = json!({"vault": VAULT, "kind": "packs"});
    world.expect_of(&writer.sign("blob-list", &listed), &world.tenant, NO, "all packs for a writer");
    let unretired = json!({"vault": VAULT, "packs": [{"session": 4_000_000, "from": 0, "count": 1}]});
    world.expect_of(&writer.sign("gc-unretire", &unretired), &world.tenant, NONE, "a session nobody opened");
}

const VAULT: &str = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";

/// Alice's account: a device of each role, one that waits, one that was revoked, and logins and keys that lack one thing.
struct World<'s> {
    server: &'s Server,
    tenant: String,
    roles: [Device<'s>; 4],
    pending: Device<'s>,
    revoked: Device<'s>,
    stranger: Device<'s>,
    mixed: Device<'s>,
    ended: Device<'s>,
    stale: Device<'s>,
    aal1: Device<'s>,
    /// Session of a snapshot.
    snapshot: u32,
}

impl<'s> World<'s> {
    fn new(server: &'s Server) -> Self {
        let alice = server.user("alice@example.org");
        let roles = [1, 2, 3, 4].map(|seed| alice.device(seed));
        let owner = &roles[0];
        owner.ok("vault-create", &created(VAULT));
        for (device, role) in roles.iter().zip(ROLES).skip(1) {
            owner.ok("device-approve", &approval(device, role));
        }
        let pending = alice.device(5);
        let revoked = alice.device(6);
        owner.ok("device-approve", &approval(&revoked, "writer"));
        owner.ok("device-revoke", &json!({"device": id(&revoked), "idem": idem()}));
        let revoked = Device::new(server, alice.login(), revoked.keys);
        let stranger = alice.stranger(7);
        let carol = server.user("carol@example.org").device(9);
        let mixed = Device::new(server, alice.login(), carol.keys);
        let keys = || DeviceKeys::from_seed(1);
        let ended = Device::new(server, alice.login(), keys());
        let (status, _) =
            server.http("POST", "/auth/v1/logout?scope=local", Some(&ended.session.access), Some(&json!({})));
        assert_eq!(status, 204);
        let stale = Device::new(server, stale(server, &alice), keys());
        // The last login: a second factor ends all that have none.
        let aal1 = Device::new(server, alice.password_login(), keys());
        let tenant = "select tenant::text from app.vault where id = decode($1, 'hex')";
        let tenant = server.admin().row(tenant, &[&VAULT]).get(0);
        let snapshot = pushed(server, &roles[2]);
        Self { server, tenant, roles, pending, revoked, stranger, mixed, ended, stale, aal1, snapshot }
    }

    fn expect(&self, device: &Device<'_>, op: &str, expected: &str, why: &str) {
        self.expect_of(&device.sign(op, &self.body(op, device)), &self.tenant, expected, why);
    }

    /// Sends; compares the code; a refusal is one more entry of its tenant's audit, an answer is none.
    fn expect_of(&self, request: &Request, tenant: &str, expected: &str, why: &str) {
        let op = request.op.as_str();
        let before = self.refusals(tenant, op);
        let sent =
            Device::new(self.server, self.roles[0].session.clone(), self.roles[0].keys.clone()).send(request);
        let code = if sent.status == 200 { "ok".to_owned() } else { sent.refusal(op) };
        assert_eq!(code, expected, "{op}: {why}");
        let mut after = self.refusals(tenant, op);
        if expected != "ok" {
            assert_eq!(after.pop().as_deref(), Some(expected), "{op}: {why}: the refusal is in the audit");
        }
        assert_eq!(after, before, "{op}: {why}: nothing else is");
    }

    /// Codes in the order they were written down.
    fn refusals(&self, tenant: &str, op: &str) -> Vec<String> {
        let text = "select result from app.audit where tenant = $1::text::uuid and op = $2 and result <> 'ok' order by number";
        let rows = self.server.admin().query(text, &[&tenant, &op]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// A body that reads: its refusal is for who sends it.
    fn body(&self, op: &str, me: &Device<'_>) -> Value {
        let nobody = "00".repeat(16);
        let mut body = match op {
            "device-enroll" => json!({
                "sign_public": base64(&me.keys.sign_public()), "seal_public": base64(&me.keys.seal_public()),
                "device": id(me), "region": "eu",
            }),
            "device-approve" => json!({"device": nobody, "role": "owner", "certificate": base64(b"c")}),
            "device-rename" => json!({"device": id(me), "name_sealed": base64(b"n")}),
            "device-revoke" => json!({"device": nobody}),
            "vault-create" => return created(VAULT),
            "device-list" | "vault-list" | "usage" => return json!({}),
            "audit-list" => return json!({"limit": 100}),
            "envelope-put" => json!({
                "id": "0123456789abcdef", "epoch": 0, "kind": "recovery", "sealed": base64(b"e"),
                "sha256": base64(&Sha256::digest(b"e")),
            }),
            "envelope-change" => json!({
                "expected": ["00000000000000ff"], "keep": ["00000000000000ff"], "add": [], "devices": [], "commit": true,
            }),
            "mount" => json!({"snapshots": 1}),
            "snapshot-list" => return listing(VAULT),
            "urls" => json!({"want": [{"kind": "root", "session": 1, "from": 0, "count": 1}]}),
            "blob-list" => json!({"kind": "roots"}),
            "session-list" => json!({"after": 0, "limit": 10}),
            "session-open" => json!({"kind": "push"}),
            "session-urls" => json!({"session": 999, "blobs": []}),
            "session-heartbeat" | "session-abort" => json!({"session": 999}),
            "session-commit" => commit(999, me),
            "snapshot-trash" | "snapshot-untrash" => json!({"sessions": [999]}),
            "snapshot-hold" => json!({"sessions": [999], "hold": true}),
            "snapshot-tag" => json!({"session": 999, "label": base64(b"l")}),
            "retention-set" => json!({"trash_days": 14}),
            "gc-retire" => json!({"version": 999, "gc_epoch": 999, "packs": []}),
            "gc-unretire" | "gc-purge" => json!({"packs": []}),
            "gc-move" => json!({"version": 999, "gc_epoch": 999, "moves": []}),
            "schedule-put" => {
                json!({"device": id(me), "rule_sealed": base64(b"r"), "next_due": 2_000_000_000})
            }
            "events" => json!({"version": 0, "gc_epoch": 0, "seconds": 0}),
            _ => json!({}),
        };
        if !matches!(op, "device-enroll" | "device-rename" | "device-revoke") {
            body["vault"] = VAULT.into();
        }
        let repeats = ["device-", "vault-", "envelope-", "snapshot-", "retention-", "schedule-put"];
        if repeats.iter().any(|start| op.starts_with(start))
            || matches!(op, "session-open" | "gc-retire" | "gc-move")
        {
            body["idem"] = idem().into();
        }
        body
    }
}

fn id(device: &Device<'_>) -> Value {
    device.keys.device().to_string().into()
}

fn created(vault: &str) -> Value {
    json!({"vault": vault, "root_public": base64(&[7; 32]), "certificate": base64(b"c"), "idem": idem()})
}

fn approval(device: &Device<'_>, role: &str) -> Value {
    json!({"vault": VAULT, "device": id(device), "role": role, "certificate": base64(b"c"), "idem": idem()})
}

fn listing(vault: &str) -> Value {
    json!({"vault": vault, "limit": 10, "trashed": false})
}

fn commit(session: u32, me: &Device<'_>) -> Value {
    json!({
        "session": session, "id": "0011223344556677", "device": id(me), "created": {"secs": 1, "nanos": 0},
        "root_size": 5, "head_len": 1, "label": "", "packs": 0, "bytes": 5, "meta_packs": [],
    })
}

/// A snapshot of a root alone.
fn pushed(server: &Server, writer: &Device<'_>) -> u32 {
    let opened = writer.ok("session-open", &json!({"vault": VAULT, "kind": "push", "idem": idem()}));
    let session = u32::try_from(opened["session"].as_u64().unwrap()).unwrap();
    let blob = json!({"kind": "root", "number": 0, "length": 5, "sha256": base64(&Sha256::digest(b"root!"))});
    let granted = writer.ok("session-urls", &json!({"vault": VAULT, "session": session, "blobs": [blob]}));
    let grant = &granted["grants"][0];
    let mut put = reqwest::Client::new().put(grant["url"].as_str().unwrap()).body("root!");
    for (name, value) in grant["headers"].as_object().unwrap() {
        put = put.header(name, value.as_str().unwrap());
    }
    let status = server.wait(async { put.send().await.unwrap().status().as_u16() });
    assert_eq!(status, 200);
    let mut body = commit(session, writer);
    body["vault"] = VAULT.into();
    writer.ok("session-commit", &body);
    session
}

/// A login whose one-time code was given eleven minutes ago: by its row, then by the token of a refresh.
fn stale(server: &Server, alice: &User<'_>) -> Session {
    let session = alice.login();
    let earlier = "update auth.mfa_amr_claims set created_at = created_at - interval '11 minutes',
                   updated_at = updated_at - interval '11 minutes'";
    assert!(server.admin().execute(earlier, &[]).unwrap() > 0);
    let body = json!({"refresh_token": session.refresh});
    let (status, answer) = server.http("POST", "/auth/v1/token?grant_type=refresh_token", None, Some(&body));
    assert_eq!(status, 200);
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    Session { access: text("access_token"), refresh: text("refresh_token"), expires_at: 0 }
}
