//! A place that is far away: a control plane and an object store behind a link with a delay.
//!
//!     far DATA [--delay MS] [--rate MBIT] [--port PORT]      serves until its standard input ends
//!     far --stdio MS COMMAND...                              a command behind the same link
//!
//! It says where it is in one line of JSON, and answers each line of its input by one: `counts`; `link MS MBIT`;
//! `slow N SECONDS` (one request in N to the store waits that long; 0 0 is none). The control plane, its PostgreSQL
//! and the store run in this process. Not a test: `scripts/bench --far` measures with it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "it prints, and has nobody to give errors to")]
mod link;
mod store;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use link::{Connection, Link, Way, join};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use serde_json::json;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use store::{Slow, Store};
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use backupengine_tests::account::{Dev, DevConfig};

/// Of what is asked of the store, which is in this process; what it answers goes to the link at once.
const PIPE: usize = 1 << 20;

#[tokio::main]
async fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if words.first().is_some_and(|word| word == "--stdio") {
        return relay(words[1].parse().expect("--stdio takes milliseconds"), &words[2..]).await;
    }
    let mut option = |name: &str, usual: u64| {
        let at = words.iter().position(|word| word == name)?;
        let value = words.get(at + 1).and_then(|text| text.parse().ok()).expect("an option takes a number");
        words.drain(at..at + 2);
        Some(value).or(Some(usual))
    };
    let delay = option("--delay", 0).unwrap_or(20);
    let rate = option("--rate", 0).unwrap_or(0);
    let port = u16::try_from(option("--port", 0).unwrap_or(0)).expect("--port takes a port");
    let [data] = words.as_slice() else { panic!("it takes one folder") };
    serve(PathBuf::from(data), delay, rate, port).await;
    ExitCode::SUCCESS
}

async fn serve(data: PathBuf, delay: u64, rate: u64, port: u16) {
    let (near, far) = (listen(port).await, listen(0).await);
    let (to_plane, to_store) = (Link::new(delay, rate), Link::new(delay, rate));
    let slow = Arc::new(Slow::default());
    let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
    let dev = Dev::start(DevConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        seen_at: Some(address(&near)),
        storage_seen_at: Some(address(&far)),
        ..DevConfig::new(data)
    });
    let dev = dev.await.unwrap_or_else(|error| panic!("{error}"));

    let plane = dev.config().listen;
    let link = Arc::clone(&to_plane);
    tokio::spawn(async move {
        while let Ok((socket, _)) = near.accept().await {
            let link = Arc::clone(&link);
            tokio::spawn(async move {
                let Ok(there) = TcpStream::connect(plane).await else { return };
                drop((socket.set_nodelay(true), there.set_nodelay(true)));
                join(link, socket.into_split(), there.into_split()).await;
            });
        }
    });

    let root = dev.objects.parent().unwrap();
    let mut builder = S3ServiceBuilder::new(Store::new(root, Arc::clone(&slow)));
    builder.set_auth(SimpleAuth::from_single(&dev.storage.access_key, dev.storage.secret_key.expose()));
    let service = builder.build();
    println!("{}", said(&dev, &address(&far), root));
    let link = Arc::clone(&to_store);
    tokio::spawn(async move {
        while let Ok((socket, _)) = far.accept().await {
            drop(socket.set_nodelay(true));
            let connection = Connection::new(Arc::clone(&link));
            let (near, answers) = socket.into_split();
            let (asked, there) = tokio::io::simplex(PIPE);
            let (answers, _) = connection.sender(Way::Down, answers);
            let service = service.clone();
            tokio::spawn(async move {
                let io = TokioIo::new(tokio::io::join(asked, answers));
                drop(http1::Builder::new().serve_connection(io, service).await);
            });
            tokio::spawn(async move { connection.carry(Way::Up, near, there).await });
        }
    });

    obey(&to_plane, &to_store, &slow).await;
    dev.stop().await;
}

async fn listen(port: u16) -> TcpListener {
    TcpListener::bind(("127.0.0.1", port)).await.unwrap_or_else(|error| panic!("port {port}: {error}"))
}

/// What the script has to know. The key of the store stays in the data folder's secrets.
fn said(dev: &Dev, store: &str, root: &Path) -> serde_json::Value {
    json!({"server": dev.base, "region": dev.config().region, "store": store, "access_key": dev.storage.access_key,
           "objects": dev.objects, "buckets": root})
}

/// Answers the lines of standard input, until it ends.
async fn obey(plane: &Link, store: &Link, slow: &Slow) {
    let (send, mut lines) = mpsc::unbounded_channel();
    // Waits in a read of its own; ends with the process.
    drop(std::thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| send.send(line))
    }));
    while let Some(line) = lines.recv().await {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        let answer = match words.as_slice() {
            ["counts"] => json!({"plane": plane.counts(), "store": store.counts()}),
            ["link", _, _] => {
                plane.set(number(1), number(2));
                store.set(number(1), number(2));
                json!("done")
            }
            ["slow", _, _] => {
                slow.milliseconds.store(number(2) * 1000, Relaxed);
                slow.of.store(number(1), Relaxed);
                json!("done")
            }
            _ => json!({"error": "it knows counts; link MS MBIT; slow N SECONDS"}),
        };
        println!("{answer}");
    }
}

/// A command as if it ran at the far end, like one behind ssh.
async fn relay(delay: u64, command: &[String]) -> ExitCode {
    let mut child = tokio::process::Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // Whoever runs this (borg) talks through pipes, as with ssh.
    let mine = (
        pipe::Receiver::from_owned_fd(std::io::stdin().as_fd().try_clone_to_owned().unwrap()).unwrap(),
        pipe::Sender::from_owned_fd(std::io::stdout().as_fd().try_clone_to_owned().unwrap()).unwrap(),
    );
    let there = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    let link = Link::new(delay, 0);
    let carried = tokio::spawn(join(link, mine, there));
    let status = child.wait().await.unwrap();
    // Its last words are still on the way.
    drop(tokio::time::timeout(std::time::Duration::from_millis(delay * 2 + 100), carried).await);
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
