//! How many calls one control plane answers: grants to read, grants to write, and calls that change something.
//!
//! Not a test: it asserts that every call is answered, and prints figures. The whole control plane runs in this process
//! with a real, durable PostgreSQL beside it, and the callers sign on the same cores: a server of its own does
//! better. Bounded in time. Run by `scripts/bench --server`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "it prints, and has nobody to give errors to")]

use backupengine_api::OPERATIONS_PATH;
use backupengine_tests::account::{Device, Request, Server, base64, idem};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Callers at the same time, each with a connection and a device of its own.
const CALLERS: usize = 8;
/// Blobs of one call for grants.
const BATCH: u32 = 256;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let seconds = match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => 5,
        (Some("--seconds"), Some(text)) if text.parse::<u64>().is_ok_and(|n| (1..=60).contains(&n)) => {
            text.parse().unwrap()
        }
        _ => panic!("it takes --seconds N, 1 to 60"),
    };
    let server = Server::with(|config| config.durable = true);
    let users: Vec<_> = (0..CALLERS).map(|n| server.user(&format!("load{n}@example.org"))).collect();
    let callers: Vec<Caller<'_>> =
        (1..).zip(&users).map(|(seed, user)| Caller::new(user.device(seed))).collect();
    // Sessions to read from: as if their packs had been put.
    let admin = server.admin();
    for caller in &callers {
        let session = caller.open();
        let done = admin.execute(
            "update app.session set state = 'committed', packs = 100000
               where s = $1 and vault = decode($2, 'hex')",
            &[&i64::from(session), &caller.vault],
        );
        assert_eq!(done.unwrap(), 1);
    }
    println!("{:<44} {:>9} {:>10} {:>9} {:>9}", "", "calls/s", "grants/s", "p50 ms", "p99 ms");
    let life = Duration::from_secs(seconds);
    run("grants to read, 256 a call (urls)", BATCH, &callers, life, |caller, call| {
        let from = (call as u32 * BATCH) % 90_000;
        let want = json!([{"kind": "pack", "session": 1, "from": from, "count": BATCH}]);
        caller.device.sign("urls", &json!({"vault": caller.vault, "want": want}))
    });
    run("grants to write, 256 a call (session-urls)", BATCH, &callers, life, |caller, call| {
        let first = call as u32 * BATCH;
        let blobs: Vec<Value> = (first..first + BATCH)
            .map(|number| {
                let mut hash = [7; 32];
                hash[..4].copy_from_slice(&number.to_le_bytes());
                json!({"kind": "pack", "number": number, "length": 1000, "sha256": base64(&hash)})
            })
            .collect();
        caller
            .device
            .sign("session-urls", &json!({"vault": caller.vault, "session": caller.session, "blobs": blobs}))
    });
    run("calls that change something (session-open)", 0, &callers, life, |caller, _| {
        caller.device.sign("session-open", &json!({"vault": caller.vault, "kind": "push", "idem": idem()}))
    });
    run("calls that change nothing (version)", 0, &callers, life, |caller, _| {
        caller.device.sign("version", &json!({"vault": caller.vault}))
    });
}

/// One device of one account, with a vault and an open session.
struct Caller<'s> {
    device: Device<'s>,
    vault: String,
    session: u32,
}

impl<'s> Caller<'s> {
    fn new(device: Device<'s>) -> Self {
        let vault = idem();
        let body = json!({"vault": vault, "root_public": base64(&[1; 32]), "certificate": base64(b"c"), "idem": idem()});
        device.ok("vault-create", &body);
        let mut caller = Self { device, vault, session: 0 };
        // The first one is what is read from, the second is written in.
        caller.session = 2;
        caller
    }

    /// Opens both sessions; gives the first.
    fn open(&self) -> u32 {
        let open = || {
            let body = json!({"vault": self.vault, "kind": "push", "idem": idem()});
            u32::try_from(self.device.ok("session-open", &body)["session"].as_u64().unwrap()).unwrap()
        };
        let (first, second) = (open(), open());
        assert_eq!((first, second), (1, self.session));
        first
    }
}

fn run<'s>(
    name: &str,
    grants: u32,
    callers: &[Caller<'s>],
    life: Duration,
    request: impl Fn(&Caller<'s>, usize) -> Request + Sync,
) {
    let all = Mutex::new(Vec::new());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for caller in callers {
            let (all, request) = (&all, &request);
            scope.spawn(move || {
                let mut times = Vec::new();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let http = reqwest::Client::builder().no_proxy().build().unwrap();
                while begun.elapsed() < life {
                    let signed = request(caller, times.len());
                    let sent = Instant::now();
                    runtime.block_on(send(&http, caller.device.server.base(), signed));
                    times.push(sent.elapsed());
                }
                all.lock().unwrap().extend(times);
            });
        }
    });
    let took = begun.elapsed().as_secs_f64();
    let mut times = all.into_inner().unwrap();
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
    let rate = times.len() as f64 / took;
    let granted = if grants == 0 { "-".to_owned() } else { format!("{:.0}", rate * f64::from(grants)) };
    println!("{name:<44} {rate:>9.0} {granted:>10} {:>9.1} {:>9.1}", at(0.5), at(0.99));
}

async fn send(http: &reqwest::Client, base: &str, request: Request) {
    let sent = http
        .post(format!("{base}{OPERATIONS_PATH}{}", request.op))
        .header("content-type", "application/json")
        .header("authorization", request.authorization)
        .header("content-digest", request.headers.content_digest)
        .header("signature-input", request.headers.signature_input)
        .header("signature", request.headers.signature)
        .body(request.body);
    let answer = sent.send().await.unwrap();
    let (status, body) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{} was answered {status}", request.op);
    assert!(!body.is_empty());
}
