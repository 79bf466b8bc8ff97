//! Every refusal of an operation is written to the audit, under the right account, before it is answered.
use backupengine_api::BODY_MAX;
use backupengine_tests::account::{Answer, Request, Server, idem, now};
use serde_json::{Value, json};

const NOBODYS: &str = "00000000-0000-0000-0000-000000000000";

/// Operation and result of the newest row of this account.
fn newest(server: &Server, tenant: &str) -> (String, String) {
    let newest =
        "select op, result from app.audit where tenant = $1::text::uuid order by number desc limit 1";
    let row = server.admin().row(newest, &[&tenant]);
    (row.get(0), row.get(1))
}

#[test]
fn each_refusal_is_in_the_audit() {
    let server = Server::start();
    let user = server.user("a@example.org");
    let device = user.device(1);
    let member = "select tenant::text from app.member where user_id = $1::text::uuid";
    let tenant: String = server.admin().row(member, &[&user.id]).get(0);
    let vault = device.make_vault();
    let sign = |op: &str, body: &Value| device.sign(op, body);
    let noted = |request: Request, tenant: &str, op: &str, code: &str| {
        let answer: Answer = device.send(&request);
        assert_eq!(answer.refusal(op), code);
        assert_eq!(newest(&server, tenant), (op.to_owned(), code.to_owned()));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(answer.body["message"].as_str().is_some_and(|text| !text.is_empty()), "for a person");
    };
    let list = || sign("vault-list", &json!({}));
    noted(Request { authorization: String::new(), ..list() }, NOBODYS, "vault-list", "no_token");
    noted(Request { authorization: "Bearer a.b.c".to_owned(), ..list() }, NOBODYS, "vault-list", "bad_token");
    let mut broken = list();
    broken.headers.signature = format!("dev=:{}:", "A".repeat(88));
    noted(broken, &tenant, "vault-list", "bad_signature");
    noted(device.sign_at("vault-list", &json!({}), now() - 1000), &tenant, "vault-list", "clock_skew");
    let stranger = user.device_of(3, &device.session);
    noted(stranger.sign("vault-list", &json!({})), &tenant, "vault-list", "unknown_device");
    noted(sign("version", &json!({"vault": "x"})), &tenant, "version", "bad_request");
    let other = json!({"vault": "0".repeat(32)});
    noted(sign("version", &other), &tenant, "version", "not_found");
    let large = json!({"vault": "a".repeat(BODY_MAX)});
    noted(sign("version", &large), &tenant, "version", "too_large");
    noted(Request { op: "no-such".to_owned(), ..list() }, &tenant, "unknown", "no_such_operation");
    let open = sign("session-open", &json!({"vault": vault, "kind": "push", "idem": idem()}));
    assert_eq!(device.send(&open).status, 200);
    noted(open, &tenant, "session-open", "replayed");
    let pending = user.device(2);
    assert_eq!(pending.refused("version", &json!({"vault": vault})), "device_pending");
    assert_eq!(newest(&server, &tenant).1, "device_pending");
    // An owner finds them there, with who it was.
    let page = device.ok("audit-list", &json!({"limit": 100}));
    let entries = page["entries"].as_array().unwrap();
    let of = |result: &str| entries.iter().filter(move |entry| entry["result"] == result).collect::<Vec<_>>();
    assert_eq!(of("replayed").len(), 1);
    assert_eq!(of("device_pending")[0]["device"], pending.keys.device().to_string());
    assert!(of("bad_signature")[0]["device"].is_null(), "who did not prove a key is nobody's device");
    assert!(of("no_token").is_empty(), "what is nobody's is in nobody's list");
}

#[test]
fn only_posts_ask_and_nothing_of_a_body_is_said_again() {
    let server = Server::start();
    let device = server.user("a@example.org").device(1);
    let path = format!("{}vault-list", backupengine_api::OPERATIONS_PATH);
    for method in ["GET", "PUT", "DELETE"] {
        let (status, body) = server.http(method, &path, Some(&device.session.access), None);
        assert_eq!((status, body["code"].as_str()), (404, Some("no_such_operation")), "{method}");
    }
    for body in [json!({"hunter2": 1}), json!({"vault": "hunter2"}), json!("hunter2"), json!(["hunter2"])] {
        let answer = device.call("version", &body);
        assert_eq!(answer.refusal("version"), "bad_request");
        assert!(!answer.body.to_string().contains("hunter2"), "{}", answer.body);
    }
    // What JSON may hold and a database may not.
    let vault = device.make_vault();
    for word in ["\u{0}", "a\u{0}b", &"x".repeat(65)] {
        let body = json!({"vault": vault, "kind": "push", "idem": word});
        assert_eq!(device.refused("session-open", &body), "bad_request", "{word:?}");
    }
    let huge = json!({"vault": vault, "version": u64::MAX, "gc_epoch": 0, "seconds": 0});
    let answer = device.call("events", &huge);
    assert!(answer.status == 200 || answer.refusal("events") == "bad_request");
}

#[test]
fn waiting_for_events_ends_with_what_happens() {
    let server = Server::start();
    let user = server.user("a@example.org");
    let device = user.device(1);
    let vault = device.make_vault();
    let here = device.ok("version", &json!({"vault": vault}));
    let wait = |version: u64, seconds: u32| {
        let body =
            json!({"vault": vault, "version": version, "gc_epoch": here["gc_epoch"], "seconds": seconds});
        let since = std::time::Instant::now();
        let answer = device.call("events", &body);
        (answer, since.elapsed().as_secs_f64())
    };
    let version = here["version"].as_u64().unwrap();
    let (answer, took) = wait(version + 1, 30);
    assert!(answer.status == 200 && took < 5.0, "what differs is told at once");
    let (answer, took) = wait(version, 2);
    assert!(answer.status == 200 && took >= 1.9, "{took}");
    // A login that ends while it waits.
    let ended = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(version, 30));
        std::thread::sleep(std::time::Duration::from_millis(500));
        server.admin().execute("delete from auth.sessions", &[]).unwrap();
        waiting.join().unwrap()
    });
    assert_eq!(ended.0.refusal("events"), "session_ended");
    assert!(ended.1 < 10.0);
}

/// The server's own token, of a login that goes on, out of time; with the audit row every refusal gets.
#[test]
fn a_token_that_ended_does_nothing_though_its_login_goes_on() {
    let server = Server::start();
    let mut device = server.user("a@example.org").device(1);
    let vault = device.make_vault();
    let good = device.session.access.clone();
    let pem = server.dev().config().auth.jwt_key.expose().to_owned();
    let key = jsonwebtoken::EncodingKey::from_ec_pem(pem.as_bytes()).unwrap();
    let header = jsonwebtoken::decode_header(&good).unwrap();
    let mut claims = crate::auth_world::claims(&good);
    let mut ending = |seconds: i64| {
        claims["exp"] = json!(now() + seconds);
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    };
    let (ended, still_good) = (ending(-60), ending(60));
    let open = json!({"vault": vault, "kind": "push", "idem": idem()});
    let member = "select tenant::text from app.member";
    let tenant: String = server.admin().row(member, &[]).get(0);
    device.session.access = ended;
    for (op, body) in
        [("session-open", &open), ("mount", &json!({"snapshots": 1})), ("vault-list", &json!({}))]
    {
        let answer = device.call(op, body);
        assert_eq!(answer.refusal(op), "token_expired");
        assert_eq!(answer.status, 401);
        assert!(answer.body["hint"].as_str().is_some_and(|hint| hint.contains("Refresh")), "{}", answer.body);
    }
    assert_eq!(server.admin().row("select count(*) from app.session", &[]).get::<_, i64>(0), 0);
    let noted = "select count(*) from app.audit where result = 'token_expired'";
    assert_eq!(server.admin().row(noted, &[]).get::<_, i64>(0), 3);
    assert_eq!(newest(&server, &tenant).1, "ok", "who brings an expired token is nobody yet");
    device.session.access = still_good;
    device.ok("session-open", &open);
}
