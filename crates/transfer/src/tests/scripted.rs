//! A server on loopback that answers by a script and keeps what it was asked. One request a connection.
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request as it came.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) method: String,
    /// Without its query.
    pub(super) path: String,
    pub(super) body: Vec<u8>,
    /// How many of this method and path came before it.
    pub(super) nth: usize,
    /// Where the server is.
    pub(super) base: String,
    headers: Vec<(String, String)>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// Last part of the path: the operation's name.
    pub(super) fn op(&self) -> &str {
        self.path.rsplit('/').next().unwrap()
    }

    /// A parameter of the signature.
    pub(super) fn param(&self, name: &str) -> String {
        let input = self.header("signature-input");
        let found = input.split(';').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        found.unwrap().trim_matches('"').to_owned()
    }
}

/// What the script says.
pub(super) enum Reply {
    /// These bytes, then the end of the connection; none at all is a cut connection.
    Bytes(Vec<u8>),
    /// A head, then bytes for as long as anybody reads them.
    Endless(Vec<u8>),
    /// Nothing, until the client goes away.
    Silence,
}

/// A whole answer.
pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let length = body.len().to_string();
    let mut all = head(status, headers, &[("content-length", &length)]);
    all.extend_from_slice(body);
    Reply::Bytes(all)
}

/// One that promises `length` bytes and sends `body`.
pub(super) fn untrue(status: u16, headers: &[(&str, &str)], length: u64, body: &[u8]) -> Reply {
    let length = length.to_string();
    let mut all = head(status, headers, &[("content-length", &length)]);
    all.extend_from_slice(body);
    Reply::Bytes(all)
}

pub(super) fn endless(status: u16) -> Reply {
    Reply::Endless(head(status, &[], &[]))
}

pub(super) fn cut() -> Reply {
    Reply::Bytes(Vec::new())
}

fn head(status: u16, headers: &[(&str, &str)], more: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
    for (name, value) in headers.iter().chain(more) {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    format!("{text}\r\n").into_bytes()
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

pub(super) struct Scripted {
    pub(super) base: String,
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scripted {
    pub(super) fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let base = format!("http://{address}");
        let (seen, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (own, ended, script): (Arc<Mutex<Vec<Seen>>>, _, Arc<Script>) =
            (Arc::clone(&seen), Arc::clone(&stop), Arc::new(script));
        let here = base.clone();
        let thread = std::thread::spawn(move || {
            let counts = Arc::new(Mutex::new(HashMap::new()));
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (seen, script, base, counts) =
                    (Arc::clone(&own), Arc::clone(&script), here.clone(), Arc::clone(&counts));
                std::thread::spawn(move || drop(serve(&stream.unwrap(), base, &counts, &seen, &*script)));
            }
        });
        Self { base, address, seen, stop, thread: Some(thread) }
    }

    /// All requests so far, oldest first.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many there were of this operation or object.
    pub(super) fn count(&self, op: &str) -> usize {
        self.seen().iter().filter(|seen| seen.op() == op).count()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(
    stream: &TcpStream,
    base: String,
    counts: &Mutex<HashMap<(String, String), usize>>,
    kept: &Mutex<Vec<Seen>>,
    script: &Script,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(());
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let path = target.split('?').next().unwrap().to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let mut seen = Seen { method, path, body: Vec::new(), nth: 0, base, headers };
    let length = seen.header("content-length").parse().unwrap_or_default();
    seen.body.resize(length, 0);
    reader.read_exact(&mut seen.body)?;
    let key = (seen.method.clone(), seen.path.clone());
    {
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(key).or_default();
        seen.nth = *count;
        *count += 1;
    }
    kept.lock().unwrap().push(seen.clone());
    let mut out = stream;
    match script(&seen) {
        Reply::Bytes(bytes) => out.write_all(&bytes)?,
        // The client sends nothing more: its end is all there is to read.
        Reply::Silence => drop(reader.read(&mut [0])?),
        Reply::Endless(head) => {
            out.write_all(&head)?;
            let block = vec![b' '; 1 << 20];
            while out.write_all(&block).is_ok() {}
        }
    }
    stream.shutdown(Shutdown::Both)
}
