//! A writer's key and every URL it can get remove and change nothing of what is there: each operation with arguments that
//! aim at it, and each URL that comes back with every method, other names and other headers. Against real PostgreSQL and a
//! real bucket; afterwards every object is what it was and every snapshot reads as before, to the last byte.
use crate::stores::Blob;
use backupengine_api::OPERATIONS;
use backupengine_model::SessionNo;
use backupengine_push::Device as Pushing;
use backupengine_seal::Role;
use backupengine_server::app::App;
use backupengine_server::sweep::Sweep;
use backupengine_store::Writable;
use backupengine_testkit::build::{Pusher, TestVault, Unwatched, VAULT};
use backupengine_testkit::shown::{Shown, everything};
use backupengine_tests::account::{Device, DeviceKeys, Server, base64, idem};
use backupengine_transfer::{PresignedConfig, PresignedStore};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

type Objects = BTreeMap<String, Vec<u8>>;
type Trees = BTreeMap<SessionNo, BTreeMap<Vec<u8>, Shown>>;

/// What it announces and stores, where it may.
const FORGED: &[u8] = b"what a writer makes up";

/// A vault that an owner and a writer pushed to.
struct World<'s> {
    server: &'s Server,
    owner: Device<'s>,
    writer: Device<'s>,
    vault: TestVault,
    /// Sessions of snapshots: the owner's, the writer's.
    sessions: [Vec<SessionNo>; 2],
    _spools: tempfile::TempDir,
}

fn pusher(vault: &TestVault, name: &str, keys: &DeviceKeys, role: Role) -> Pusher {
    let mut pusher = vault.pusher(name);
    let key = keys.device_key();
    let certificate = vault.root_key.certify(VAULT, key.public(), role, 1_600_000_000);
    pusher.device = Pushing { key, certificate };
    pusher
}

impl<'s> World<'s> {
    fn new(server: &'s Server) -> Self {
        let user = server.user("a@example.org");
        let (owner, writer) = (user.device(1), user.device(2));
        let body = json!({"vault": VAULT.to_string(), "root_public": base64(&[7; 32]),
                          "certificate": base64(b"c"), "idem": idem()});
        owner.ok("vault-create", &body);
        let body = json!({"vault": VAULT.to_string(), "device": id(&writer), "role": "writer",
                          "certificate": base64(b"c"), "idem": idem()});
        owner.ok("device-approve", &body);
        let spools = tempfile::tempdir().unwrap();
        let store = |device: &Device<'_>| -> Arc<dyn Writable> {
            let config = PresignedConfig::new(spools.path().to_owned());
            Arc::new(PresignedStore::open(&device.account(), config).unwrap())
        };
        let vault = TestVault::around(store(&owner));
        vault.put_envelopes();
        let source = tempfile::tempdir().unwrap();
        let mut sessions = [Vec::new(), Vec::new()];
        let pushers = [(&owner, "desk", Role::Owner), (&writer, "laptop", Role::Writer)];
        for ((device, name, role), of) in pushers.into_iter().zip(&mut sessions) {
            let pusher = pusher(&vault, name, &device.keys, role);
            for round in 0..2 {
                let file = source.path().join(format!("{name} {round}"));
                std::fs::write(file, format!("{name} {round} ").repeat(30_000)).unwrap();
                let config = pusher.config(source.path());
                let report = pusher.push_to(&store(device), config, &Unwatched).unwrap();
                of.push(report.snapshot.unwrap().0);
            }
        }
        Self { server, owner, writer, vault, sessions, _spools: spools }
    }

    fn all(&self) -> impl Iterator<Item = SessionNo> {
        self.sessions.iter().flatten().copied()
    }

    fn trees(&self) -> Trees {
        let config = PresignedConfig::new(self._spools.path().to_owned());
        let store = Arc::new(PresignedStore::open(&self.owner.account(), config).unwrap());
        let reader = self.vault.reader_on(store);
        self.all().map(|session| (session, everything(&reader, session).unwrap())).collect()
    }

    /// Every object of the bucket.
    fn objects(&self) -> Objects {
        fn walk(folder: &Path, under: &str, found: &mut Objects) {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let name = format!("{under}{}", entry.file_name().into_string().unwrap());
                match entry.file_type().unwrap().is_dir() {
                    true => walk(&entry.path(), &format!("{name}/"), found),
                    false => drop(found.insert(name, std::fs::read(entry.path()).unwrap())),
                }
            }
        }
        let mut found = Objects::new();
        walk(self.server.objects(), "", &mut found);
        found.retain(|name, _| name.starts_with(&VAULT.to_string()));
        found
    }

    /// What the database says of all that was there, as text. A hold is missing in it: that only adds.
    fn rows(&self) -> Vec<String> {
        let sessions: Vec<i64> = self.all().map(|session| i64::from(session.0)).collect();
        let text = "
            select 'snapshot ' || (to_jsonb(n) - 'hold')::text from app.snapshot n where n.s = any ($1)
            union all
            select 'session ' || to_jsonb(s)::text from app.session s where s.s = any ($1)
            union all select 'moved ' || to_jsonb(m)::text from app.moved m
            union all select 'envelope ' || to_jsonb(e)::text from app.envelope e
            union all select 'access ' || to_jsonb(a)::text from app.access a
            union all select 'doomed ' || to_jsonb(d)::text from app.doomed d where d.s = any ($1)
            union all
            select 'device ' || concat_ws(' ', encode(d.id, 'hex'), d.role, d.status, d.revoked_at, encode(d.sign_public, 'hex'))
              from app.device d
            union all
            select 'vault ' || concat_ws(' ', v.trash_days, v.next_trash_days, encode(v.root_public, 'hex'), v.gc_epoch)
              from app.vault v
            order by 1";
        let rows = self.server.admin().query(text, &[&sessions]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Opens a session of the writer's.
    fn open(&self) -> Value {
        self.writer.ok("session-open", &of_vault(json!({"kind": "push", "idem": idem()})))["session"].clone()
    }

    /// Bodies that aim at what is there, for an operation.
    fn aimed(&self, op: &str) -> Vec<Value> {
        let (own, owners) = (&self.sessions[1], &self.sessions[0]);
        let each = |make: &dyn Fn(u32) -> Value| self.all().map(|s| of_vault(make(s.0))).collect::<Vec<_>>();
        let all: Vec<u32> = self.all().map(|session| session.0).collect();
        let packs = |count: u32| -> Value {
            all.iter().map(|s| json!({"session": s, "from": 0, "count": count})).collect()
        };
        let now = || self.writer.ok("version", &of_vault(json!({})));
        let announced = |kind: &str, number: u32, bytes: &[u8]| json!({"kind": kind, "number": number, "length": bytes.len(), "sha256": base64(&Sha256::digest(bytes))});
        let forged = |session: &Value, id: &str, device: Value, extra: Value| {
            let mut body = of_vault(json!({
                "session": session, "id": id, "device": device, "created": {"secs": 1, "nanos": 0},
                "root_size": FORGED.len(), "head_len": 1, "label": base64(b"forged"), "packs": 0, "bytes": FORGED.len(),
                "meta_packs": [],
            }));
            body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            body
        };
        match op {
            "device-enroll" => {
                let as_owner = json!({
                    "sign_public": base64(&self.owner.keys.sign_public()), "region": "eu", "idem": idem(),
                    "seal_public": base64(&self.writer.keys.seal_public()), "device": id(&self.owner),
                });
                vec![as_owner]
            }
            "device-approve" => ["owner", "maintainer"]
                .map(|role| {
                    let proof = base64(&[0; 64]);
                    of_vault(json!({"device": id(&self.writer), "role": role, "certificate": base64(b"x"),
                        "root_signature": proof, "idem": idem()}))
                })
                .into(),
            "device-list" | "vault-list" | "usage" => vec![json!({})],
            "device-rename" => {
                vec![json!({"device": id(&self.owner), "name_sealed": base64(b"mine"), "idem": idem()})]
            }
            "device-revoke" => vec![json!({"device": id(&self.owner), "idem": idem()})],
            "vault-create" => vec![of_vault(
                json!({"root_public": base64(&[8; 32]), "certificate": base64(b"x"), "idem": idem()}),
            )],
            "envelope-put" => ["0101010101010101", "0202020202020202", "0303030303030303"]
                .map(|name| {
                    of_vault(json!({"id": name, "epoch": 1, "kind": "recovery", "sealed": base64(FORGED),
                        "sha256": base64(&Sha256::digest(FORGED)), "idem": idem()}))
                })
                .into(),
            "envelope-change" => {
                // Everybody's way in goes away, and one of its own comes.
                let there = ["0101010101010101", "0202020202020202"];
                let own = json!([{"id": "0404040404040404", "epoch": 2, "kind": "recovery", "sealed": base64(FORGED),
                    "sha256": base64(&Sha256::digest(FORGED))}]);
                let change = |keep: &[&str], add: &Value, commit: bool| {
                    of_vault(
                        json!({"expected": there, "keep": keep, "add": add, "devices": [], "commit": commit,
                        "idem": idem()}),
                    )
                };
                vec![change(&[], &own, false), change(&[], &own, true), change(&there[..1], &json!([]), true)]
            }
            "mount" => vec![of_vault(json!({"snapshots": 1000}))],
            "version" | "schedule-list" => vec![of_vault(json!({}))],
            "snapshot-list" => {
                [false, true].map(|trashed| of_vault(json!({"limit": 100, "trashed": trashed}))).into()
            }
            "urls" => {
                let want = |kind: &str, s: u32, count: u32| {
                    of_vault(json!({"want": [{"kind": kind, "session": s, "from": 0, "count": count}]}))
                };
                let roots = all.iter().map(|s| want("root", *s, 1));
                let packs = all.iter().flat_map(|s| [want("pack", *s, 1), want("pack", *s, 9)]);
                let one = |s: u32, n: u32| {
                    of_vault(json!({"want": [{"kind": "pack", "session": s, "from": n, "count": 1}]}))
                };
                let others = all.iter().flat_map(|s| (1..4).map(move |n| one(*s, n)));
                roots.chain(packs).chain(others).collect()
            }
            "blob-list" => {
                let kinds = ["packs", "roots", "envelopes"].map(|kind| of_vault(json!({"kind": kind})));
                let packs = each(&|s| json!({"kind": "packs", "session": s}));
                kinds.into_iter().chain(packs).collect()
            }
            "session-list" => vec![of_vault(json!({"after": 0, "limit": 100}))],
            "session-open" => {
                ["push", "compact", "heal"].map(|kind| of_vault(json!({"kind": kind, "idem": idem()}))).into()
            }
            "session-urls" => {
                let over = |s: Value| {
                    let blobs = [announced("pack", 0, FORGED), announced("root", 0, FORGED)];
                    of_vault(json!({"session": s, "blobs": blobs}))
                };
                all.iter().map(|s| over((*s).into())).chain([over(self.open())]).collect()
            }
            "session-heartbeat" => each(&|s| json!({"session": s, "gc_epoch": 0})),
            "session-abort" => {
                let opened = self.open();
                let mut bodies = each(&|s| json!({"session": s}));
                bodies.push(of_vault(json!({"session": opened})));
                bodies
            }
            "session-commit" => {
                let mut bodies: Vec<Value> = all
                    .iter()
                    .map(|s| forged(&(*s).into(), "00112233aabbccdd", id(&self.writer), json!({})))
                    .collect();
                // A session of its own: in the owner's name, and under the id of a snapshot that is there, saying that its
                // metadata lies in packs of data, and holding what is another's.
                let opened = self.open();
                let session = crate::stores::Session {
                    device: &self.writer,
                    vault: &VAULT.to_string(),
                    number: opened.as_u64().unwrap(),
                };
                session.put(&Blob { kind: "root", number: 0, bytes: FORGED });
                bodies.push(forged(&opened, "00112233aabbccde", id(&self.owner), json!({})));
                let theirs = self.server.admin().row(
                    "select encode(id, 'hex') from app.snapshot where s = $1",
                    &[&i64::from(owners[0].0)],
                );
                let meta = json!({"meta_packs": packs(1), "hold": owners[1].0});
                bodies.push(forged(&opened, &theirs.get::<_, String>(0), id(&self.writer), meta));
                bodies
            }
            "snapshot-trash" | "snapshot-untrash" => {
                let together = of_vault(json!({"sessions": all, "idem": idem()}));
                each(&|s| json!({"sessions": [s], "idem": idem()})).into_iter().chain([together]).collect()
            }
            "snapshot-hold" => each(&|s| json!({"sessions": [s], "hold": false, "idem": idem()})),
            "snapshot-tag" => each(&|s| json!({"session": s, "label": base64(b"x"), "idem": idem()})),
            "retention-set" => vec![of_vault(json!({"trash_days": 14, "idem": idem()}))],
            "gc-begin" => vec![of_vault(json!({}))],
            "gc-retire" => {
                let at = now();
                vec![of_vault(
                    json!({"version": at["version"], "gc_epoch": at["gc_epoch"], "packs": packs(1), "idem": idem()}),
                )]
            }
            "gc-unretire" => vec![of_vault(json!({"packs": packs(1)}))],
            "gc-move" => {
                let at = now();
                let moves = json!([{"from_session": owners[0].0, "from_number": 0, "to_session": own[0].0, "to_number": 0}]);
                vec![of_vault(
                    json!({"version": at["version"], "gc_epoch": at["gc_epoch"], "moves": moves, "idem": idem()}),
                )]
            }
            "gc-purge" => vec![of_vault(json!({"packs": packs(1)}))],
            "schedule-put" => vec![of_vault(
                json!({"device": id(&self.owner), "rule_sealed": base64(b"r"), "next_due": 1, "idem": idem()}),
            )],
            "audit-list" => vec![json!({"limit": 1000})],
            "events" => vec![of_vault(json!({"version": 0, "gc_epoch": 0, "seconds": 0}))],
            other => panic!("nobody has thought of what a writer could do with {other}"),
        }
    }
}

fn of_vault(mut body: Value) -> Value {
    body["vault"] = VAULT.to_string().into();
    body
}

fn id(device: &Device<'_>) -> Value {
    device.keys.device().to_string().into()
}

/// A URL that was answered, with the headers to be sent with it.
#[derive(Clone, Debug)]
struct Grant {
    url: String,
    headers: Vec<(String, String)>,
}

/// All URLs in an answer.
fn grants(answer: &Value, found: &mut Vec<Grant>) {
    match answer {
        Value::Object(fields) => {
            if let Some(url) = fields.get("url").and_then(Value::as_str) {
                let headers = fields.get("headers").and_then(Value::as_object).into_iter().flatten();
                let headers = headers.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
                found.push(Grant { url: url.to_owned(), headers: headers.collect() });
            }
            fields.values().for_each(|value| grants(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| grants(item, found)),
        _ => {}
    }
}

/// Name of the object that a URL is for.
fn name_of(url: &str) -> String {
    let path = url::Url::parse(url).unwrap().path().to_owned();
    path.trim_start_matches('/').split_once('/').unwrap().1.to_owned()
}

struct Attack<'w, 's> {
    world: &'w World<'s>,
    /// Names the writer was given to read or to write.
    given: BTreeSet<String>,
    tried: usize,
    /// What came back with a body.
    read: BTreeSet<String>,
}

impl Attack<'_, '_> {
    fn send(&mut self, method: &Method, url: &str, headers: &[(String, String)], body: Option<&[u8]>) {
        let mut request = self.world.server.client().request(method.clone(), url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.body(body.to_vec());
        }
        self.tried += 1;
        let (status, answered) = self.world.server.wait(async {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.bytes().await.unwrap_or_default())
        });
        if *method == Method::GET && (200..300).contains(&status) && !answered.is_empty() {
            self.read.insert(name_of(url));
        }
    }

    /// Every method, with the headers that belong to it and with others.
    fn everything(&mut self, grant: &Grant, others: &[String]) {
        let own = name_of(&grant.url);
        let mut urls = vec![grant.url.clone()];
        urls.extend(others.iter().filter(|name| **name != own).map(|name| grant.url.replace(&own, name)));
        for more in [
            "uploads",
            "tagging",
            "acl",
            "retention",
            "legal-hold",
            "delete",
            "versionId=null",
            "partNumber=1&uploadId=x",
        ] {
            urls.push(format!("{}&{more}", grant.url));
        }
        urls.push(grant.url.replace("X-Amz-Expires=900", "X-Amz-Expires=604800"));
        urls.push(grant.url.split('?').next().unwrap().to_owned());
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let copied = format!("/{}/{}", self.world.server.dev().storage.bucket, others[0]);
        for url in &urls {
            for method in [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS, Method::PATCH] {
                self.send(&method, url, &[], None);
            }
            for body in [FORGED, b""] {
                self.send(&Method::PUT, url, &grant.headers, Some(body));
                self.send(&Method::POST, url, &grant.headers, Some(body));
                self.send(&Method::PUT, url, &[], Some(body));
            }
            let fewer: Vec<_> =
                grant.headers.iter().filter(|(name, _)| name != "if-none-match").cloned().collect();
            self.send(&Method::PUT, url, &fewer, Some(FORGED));
            for other in [
                header("x-amz-copy-source", &copied),
                header("if-match", "*"),
                header("x-amz-acl", "public-read-write"),
                header("x-amz-bypass-governance-retention", "true"),
                header("x-http-method-override", "DELETE"),
                header("x-amz-checksum-sha256", &base64(&Sha256::digest(FORGED))),
            ] {
                let mut changed = grant.headers.clone();
                changed.retain(|(name, _)| *name != other.0);
                changed.push(other);
                self.send(&Method::PUT, url, &changed, Some(FORGED));
            }
        }
    }
}

#[test]
fn a_writer_can_add_and_nothing_else() {
    let server = Server::with(|dev| dev.sweep_every = Duration::from_secs(86_400));
    let world = World::new(&server);
    let (objects, rows, trees) = (world.objects(), world.rows(), world.trees());
    assert!(objects.len() >= 10 && trees.len() == 4 && rows.len() > 10, "{} objects", objects.len());

    // Every operation there is.
    let (mut found, mut answered) = (Vec::new(), BTreeSet::new());
    for operation in OPERATIONS {
        for body in world.aimed(operation.name) {
            let answer = world.writer.call(operation.name, &body);
            if answer.status == 200 {
                answered.insert(operation.name);
                grants(&answer.body, &mut found);
            }
        }
    }
    for never in [
        "device-approve",
        "device-revoke",
        "device-rename",
        "vault-create",
        "envelope-put",
        "snapshot-trash",
        "snapshot-untrash",
        "snapshot-hold",
        "snapshot-tag",
        "retention-set",
        "gc-begin",
        "gc-retire",
        "gc-move",
        "gc-purge",
        "schedule-put",
    ] {
        assert!(!answered.contains(never), "{never} was answered");
    }
    assert!(
        answered.contains("session-urls") && answered.contains("urls") && answered.contains("session-commit")
    );
    assert_eq!(world.rows(), rows, "by operations alone");

    // Every URL that came of it.
    let given: BTreeSet<String> = found.iter().map(|grant| name_of(&grant.url)).collect();
    let names: Vec<String> = objects.keys().cloned().collect();
    let mut attack = Attack { world: &world, given, tried: 0, read: BTreeSet::new() };
    let mut once = BTreeSet::new();
    for grant in found {
        let kind = (name_of(&grant.url), grant.headers.is_empty());
        if once.insert(kind) {
            attack.everything(&grant, &names);
        }
    }
    let Attack { given, tried, read, .. } = attack;
    assert!(tried > 2000, "{tried} requests");
    assert!(!read.is_empty() && read.is_subset(&given), "{:?}", read.difference(&given).collect::<Vec<_>>());
    // It reads roots and what holds its own metadata: never what holds files.
    for session in &world.sessions[0] {
        let packs = format!("{VAULT}/p/{session}/");
        assert!(!given.iter().any(|name| name.starts_with(&packs)), "{given:?}");
    }

    // What it gave up itself goes; nothing else.
    server.admin().batch("update app.doomed set due_at = now() - interval '1 hour'").unwrap();
    let swept = server.wait(async {
        let app = App::new(server.dev().config().clone()).await.unwrap();
        Sweep::new(&app).unwrap().unwrap().pass().await.unwrap()
    });
    assert_eq!(swept.failed, 0);
    let after = world.objects();
    for (name, bytes) in &objects {
        assert!(after.get(name) == Some(bytes), "{name} was changed or removed");
    }
    assert_eq!(world.rows(), rows);
    assert!(world.trees() == trees, "a snapshot reads otherwise");
}
