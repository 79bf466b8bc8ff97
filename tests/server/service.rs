//! What every caller meets first: health, metrics, limits of size and rate.
use crate::stores::{Blob, Session};
use backupengine_api::Code;
use backupengine_tests::account::Server;
use serde_json::{Value, json};
use std::io::copy;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

#[test]
fn health_speaks_of_the_database() {
    let server = Server::start();
    assert_eq!(server.http("GET", "/health", None, None).0, 200);
    let pid = std::fs::read_to_string(server.data().join("postgres/postmaster.pid")).unwrap();
    let pid = rustix::process::Pid::from_raw(pid.lines().next().unwrap().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::QUIT).unwrap();
    let (mut status, mut body) = (200, Value::Null);
    for _ in 0..100 {
        (status, body) = server.http("GET", "/health", None, None);
        if status != 200 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!((status, body["code"].as_str()), (503, Some(Code::Unavailable.as_str())));
    assert!(!body.to_string().contains("postgres://"), "{body}");
}

#[test]
fn calls_are_counted_under_names_nobody_can_choose() {
    let server = Server::start();
    let user = server.user("a@example.org");
    let device = user.device_of(1, &user.session);
    device.enroll();
    device.ok("vault-list", &json!({}));
    device.call("no-such-thing", &json!({}));
    server.http("GET", "/made/up/by/a/client", None, None);
    let text = text(&server, "/metrics", None).1;
    for line in [
        "backupengine_calls_total{op=\"device-enroll\",status=\"200\"} 1",
        "backupengine_calls_total{op=\"vault-list\",status=\"200\"} 1",
        "backupengine_calls_total{op=\"/auth/v1/factors/{id}/verify\",status=\"200\"} 1",
        "backupengine_call_seconds_count{op=\"vault-list\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("op=\"unknown\",status=\"404\""), "{text}");
    assert!(!text.contains("made") && !text.contains("no-such-thing"), "{text}");
    assert!(text.contains("backupengine_grants_signed_total "), "{text}");
}

#[test]
fn answers_carry_an_id_and_are_not_cached() {
    let server = Server::start();
    let device = server.user("a@example.org").device(1);
    let (first, second) = (device.call("vault-list", &json!({})), device.call("vault-list", &json!({})));
    for answer in [&first, &second] {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert!(answer.header("date").is_some());
    }
    assert_ne!(first.header("x-request-id").unwrap(), second.header("x-request-id").unwrap());
}

#[test]
fn ten_mebibytes_are_too_large_and_the_answer_says_so() {
    let server = Server::start();
    let device = server.user("a@example.org").device(1);
    let large = json!({"a": "x".repeat(10 << 20)});
    assert_eq!(device.refused("vault-list", &large), "too_large");
    let (status, body) = server.http("POST", "/auth/v1/signup", None, Some(&large));
    assert_eq!((status, body["code"].as_str()), (413, Some("too_large")), "{body}");
    // To the byte.
    let just = json!({"a": "x".repeat((1 << 20) - 8)});
    assert_eq!(just.to_string().len(), 1 << 20);
    assert_eq!(device.refused("vault-list", &just), "bad_request");
    let more = json!({"a": "x".repeat((1 << 20) - 7)});
    assert_eq!(device.refused("vault-list", &more), "too_large");
}

#[test]
fn a_burst_is_answered_and_then_told_to_wait() {
    let server = Server::with(|config| config.rate_limits = true);
    let signup = |forwarded: &str| {
        let request = server.client().post(format!("{}/auth/v1/signup", server.base()));
        let weak = json!({"email": "a@example.org", "password": "short"});
        let request = request.json(&weak).header("x-forwarded-for", forwarded);
        server.wait(async {
            let answer = request.send().await.unwrap();
            let wait = answer.headers().get("retry-after").map(|wait| wait.to_str().unwrap().to_owned());
            (answer.status().as_u16(), wait)
        })
    };
    for n in 0..30 {
        // Nobody configured a proxy: what the header says does not make another caller of one.
        let (status, _) = signup(&format!("192.0.2.{n}"));
        assert!((400..429).contains(&status), "{status}");
    }
    let (status, wait) = signup("192.0.2.200");
    assert_eq!(status, 429);
    let wait: u64 = wait.unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    // Other calls have counts of their own.
    assert_eq!(server.http("GET", "/health", None, None).0, 200);
}

#[test]
fn the_directory_names_this_region() {
    let server = Server::start();
    let (status, body) = server.http("GET", "/regions.json", None, None);
    assert_eq!((status, &body), (200, &json!({"regions": {"eu": server.base()}})));
}

#[test]
fn what_stands_before_it_is_what_clients_are_told_and_sign_for() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let seen_at = format!("http://{}", proxy.local_addr().unwrap());
    let storage = "http://127.0.0.1:9";
    let server = Server::with(|config| {
        config.seen_at = Some(seen_at.clone());
        config.storage_seen_at = Some(storage.to_owned());
    });
    let behind = server.dev().config().listen;
    assert_ne!(seen_at, format!("http://{behind}"));
    // Ends with the test's process.
    drop(std::thread::spawn(move || {
        for near in proxy.incoming() {
            let (near, far) = (near.unwrap(), TcpStream::connect(behind).unwrap());
            let (mut up, mut down) = ((near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near));
            drop(std::thread::spawn(move || copy(&mut up.0, &mut up.1)));
            drop(std::thread::spawn(move || copy(&mut down.0, &mut down.1)));
        }
    }));
    let (status, body) = server.http("GET", "/regions.json", None, None);
    assert_eq!((status, &body), (200, &json!({"regions": {"eu": seen_at}})));
    let device = server.user("a@example.org").device(1);
    let vault = device.make_vault();
    let grant = Session::open(&device, &vault).grant(&Blob { kind: "pack", number: 0, bytes: b"a pack" });
    assert!(grant["url"].as_str().unwrap().starts_with(&format!("{storage}/")), "{grant}");
}

fn text(server: &Server, path: &str, bearer: Option<&str>) -> (u16, String) {
    let mut request = server.client().get(format!("{}{path}", server.base()));
    if let Some(token) = bearer {
        request = request.bearer_auth(token);
    }
    server.wait(async {
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    })
}
