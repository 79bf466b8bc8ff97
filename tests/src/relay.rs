//! What stands between a client and a server on loopback: it passes calls on, or lies about the answers.
//!
//! **What it may not do.** Sign anything: it has what passes through it, and no key.
//! **What always holds.** Without a lie both sides see the bytes of the other; one request a connection; it ends on
//! drop. **Where it is tested.** Every test behind it begins with a push through it that tells the truth.
use crate::account::Own;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a peer may say nothing.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at something that comes soon.
const PAUSE: Duration = Duration::from_millis(5);
/// Sent at once, of an answer that is.
const PART: usize = 4096;
/// Of one connection, and counted anew by whoever passes calls on.
const HOP: [&str; 3] = ["connection", "content-length", "transfer-encoding"];

/// A request that passes.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET`, `PUT`, `POST`...
    pub method: String,
    /// Without its query, which is a secret in a grant.
    pub path: String,
    /// In lower case.
    pub headers: Vec<(String, String)>,
    /// Whole. Not kept by [`Relay::seen`].
    pub body: Vec<u8>,
    target: String,
}

impl Asked {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Last part of the path: the operation's name.
    pub fn op(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// An answer that passes.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// In lower case, those of the connection left out.
    pub headers: Vec<(String, String)>,
    /// Whole.
    pub body: Vec<u8>,
    /// Of the announced body only so many bytes are sent; then the connection is cut.
    pub cut: Option<usize>,
}

impl Reply {
    /// Nothing but a status.
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// A part of `bytes` as storage answers `range` (`bytes=a-b` or `bytes=-n`), all of them without one.
    pub fn part(bytes: &[u8], range: Option<&str>) -> Self {
        let Some(range) = range.and_then(|text| text.strip_prefix("bytes=")) else {
            return Self { status: 200, body: bytes.to_vec(), ..Self::default() };
        };
        let (from, to) = range.split_once('-').unwrap();
        let len = bytes.len();
        let (from, to) = match from.parse::<usize>() {
            Ok(from) => (from, to.parse().map_or(len, |last: usize| len.min(last + 1))),
            Err(_) => (len.saturating_sub(to.parse().unwrap()), len),
        };
        if from >= to {
            return Self::status(416);
        }
        let place = format!("bytes {from}-{}/{len}", to - 1);
        let headers = vec![("content-range".to_owned(), place)];
        Self { status: 206, headers, body: bytes[from..to].to_vec(), cut: None }
    }
}

/// What is answered: the request, and a way to pass it on and have the true answer.
type Lie = dyn Fn(&Asked, &dyn Fn() -> Reply) -> Reply + Send + Sync;

/// See the module header.
pub struct Relay {
    base: String,
    address: SocketAddr,
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

struct Inner {
    upstream: Mutex<Option<SocketAddr>>,
    lie: Mutex<Option<Arc<Lie>>>,
    seen: Mutex<Vec<Asked>>,
    stop: AtomicBool,
    away: AtomicBool,
    /// Bytes a second that answers are sent with, all of them together; 0 for no limit.
    rate: AtomicU64,
    /// When what is being sent has left.
    free: Mutex<Instant>,
    http: reqwest::Client,
    runtime: Own,
}

impl Relay {
    /// On a free port, with nobody behind it yet: everything is answered with 404.
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            upstream: Mutex::default(),
            lie: Mutex::default(),
            seen: Mutex::default(),
            stop: AtomicBool::new(false),
            away: AtomicBool::new(false),
            rate: AtomicU64::new(0),
            free: Mutex::new(Instant::now()),
            http: crate::account::client(),
            runtime: Own::new(),
        });
        let own = Arc::clone(&inner);
        let thread = std::thread::spawn(move || {
            let mut listener = listener;
            loop {
                let stream = listener.accept();
                if own.stop.load(Ordering::SeqCst) {
                    return;
                }
                if own.away.load(Ordering::SeqCst) {
                    drop((stream, listener));
                    while own.away.load(Ordering::SeqCst) && !own.stop.load(Ordering::SeqCst) {
                        std::thread::sleep(PAUSE);
                    }
                    if own.stop.load(Ordering::SeqCst) {
                        return;
                    }
                    listener = TcpListener::bind(address).unwrap();
                    continue;
                }
                let (inner, Ok((stream, _))) = (Arc::clone(&own), stream) else { continue };
                // A peer that goes away in the middle is its own business.
                std::thread::spawn(move || drop(inner.serve(&stream)));
            }
        });
        Self { base: format!("http://{address}"), address, inner, thread: Some(thread) }
    }

    /// Where it listens, `http://127.0.0.1:PORT`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// To whom calls are passed on from now on.
    pub fn passes_to(&self, upstream: SocketAddr) {
        *self.inner.upstream.lock().unwrap() = Some(upstream);
    }

    /// Answers by `lie` from now on.
    pub fn lies(&self, lie: impl Fn(&Asked, &dyn Fn() -> Reply) -> Reply + Send + Sync + 'static) {
        *self.inner.lie.lock().unwrap() = Some(Arc::new(lie));
    }

    /// Tells the truth from now on.
    pub fn is_honest(&self) {
        *self.inner.lie.lock().unwrap() = None;
    }

    /// Nobody listens here any more, as where there is no network; or somebody does again.
    pub fn is_away(&self, away: bool) {
        self.inner.away.store(away, Ordering::SeqCst);
        // The first attempt wakes the listener.
        while TcpStream::connect(self.address).is_ok() == away {
            std::thread::sleep(PAUSE);
        }
    }

    /// All answers together go at this rate from now on, in bytes a second; 0 for no limit.
    pub fn sends_at(&self, rate: u64) {
        self.inner.rate.store(rate, Ordering::SeqCst);
    }

    /// What was asked so far, oldest first, without bodies.
    pub fn seen(&self) -> Vec<Asked> {
        self.inner.seen.lock().unwrap().clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Inner {
    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let Some(asked) = read(stream)? else { return Ok(()) };
        self.seen.lock().unwrap().push(Asked { body: Vec::new(), ..asked.clone() });
        let lie = self.lie.lock().unwrap().clone();
        let pass = || self.pass(&asked);
        let reply = lie.map_or_else(pass, |lie| lie(&asked, &pass));
        self.write(stream, &asked, &reply)
    }

    fn write(&self, mut stream: &TcpStream, asked: &Asked, reply: &Reply) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
        for (name, value) in reply.headers.iter().filter(|(name, _)| name != "connection") {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if asked.method != "HEAD" && reply.status != 204 {
            head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
        }
        let sent = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        for part in reply.body[..sent].chunks(PART) {
            self.wait_for_room(part.len());
            stream.write_all(part)?;
        }
        stream.shutdown(Shutdown::Both)
    }

    /// Waits until so many bytes have left on a line of the rate that was set.
    fn wait_for_room(&self, bytes: usize) {
        let rate = self.rate.load(Ordering::SeqCst);
        if rate == 0 {
            return;
        }
        let until = {
            let mut free = self.free.lock().unwrap();
            *free = Instant::now().max(*free) + Duration::from_secs_f64(bytes as f64 / rate as f64);
            *free
        };
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
    }

    fn pass(&self, asked: &Asked) -> Reply {
        let Some(upstream) = *self.upstream.lock().unwrap() else { return Reply::status(404) };
        let url = format!("http://{upstream}{}", asked.target);
        let mut request = self.http.request(asked.method.parse().unwrap(), url).body(asked.body.clone());
        // The host as well: a grant is signed for the one that the client calls.
        for (name, value) in asked.headers.iter().filter(|(name, _)| !HOP.contains(&name.as_str())) {
            request = request.header(name, value);
        }
        self.runtime.wait(async {
            let Ok(answer) = request.send().await else { return Reply::status(502) };
            let kept = |(name, _): &(String, String)| !HOP.contains(&name.as_str()) || asked.method == "HEAD";
            let headers = answer.headers().iter();
            let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
            let (status, headers) = (answer.status().as_u16(), headers.filter(kept).collect());
            let Ok(body) = answer.bytes().await else { return Reply::status(502) };
            Reply { status, headers, body: body.to_vec(), cut: None }
        })
    }
}

fn find<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

fn read(stream: &TcpStream) -> std::io::Result<Option<Asked>> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let length = find(&headers, "content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let path = target.split('?').next().unwrap().to_owned();
    Ok(Some(Asked { method, path, headers, body, target }))
}
