//! A link that is long: every byte arrives a delay after it was sent, in either direction.
//!
//! May not reorder, lose or look into what it carries, but for counting what begins like a request. What always
//! holds: a connection costs a round trip of its own before its first byte arrives, as TCP's handshake does (on
//! loopback `accept` is at once); at most [`IN_FLIGHT`] bytes of a connection are under way in one direction; a
//! rate, where there is one, is shared by all connections. Tested by `scripts/bench --far`, which measures it first.
use bytes::BytesMut;
use serde_json::{Value, json};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::PollSemaphore;

/// As with a large TCP window: 400 MiB/s over 40 ms.
const IN_FLIGHT: usize = 16 << 20;
/// Read at once.
const BLOCK: usize = 256 << 10;

/// One direction of the link, shared by all its connections.
struct Lane {
    bytes: AtomicU64,
    /// When what was sent last has left the sender.
    free: Mutex<Instant>,
}

/// The way to one place.
pub(crate) struct Link {
    delay: AtomicU64,
    /// Bits a second; 0 is no limit.
    rate: AtomicU64,
    connections: AtomicU64,
    requests: AtomicU64,
    up: Lane,
    down: Lane,
}

impl Link {
    /// `delay` one way, milliseconds; `rate` in Mbit/s and direction, 0 for no limit.
    pub(crate) fn new(delay: u64, rate: u64) -> Arc<Self> {
        let lane = || Lane { bytes: AtomicU64::new(0), free: Mutex::new(Instant::now()) };
        let link = Self {
            delay: AtomicU64::new(0),
            rate: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            up: lane(),
            down: lane(),
        };
        link.set(delay, rate);
        Arc::new(link)
    }

    /// As in [`Link::new`], for what is sent from now on.
    pub(crate) fn set(&self, delay: u64, rate: u64) {
        self.delay.store(delay, Relaxed);
        self.rate.store(rate * 1_000_000, Relaxed);
    }

    /// What went over it since it began.
    pub(crate) fn counts(&self) -> Value {
        json!({
            "connections": self.connections.load(Relaxed),
            "requests": self.requests.load(Relaxed),
            "up": self.up.bytes.load(Relaxed),
            "down": self.down.bytes.load(Relaxed),
        })
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(self.delay.load(Relaxed))
    }

    /// When `bytes` that are sent now arrive.
    fn arrival(&self, lane: &Lane, bytes: usize) -> Instant {
        let (now, rate) = (Instant::now(), self.rate.load(Relaxed));
        if rate == 0 {
            return now + self.delay();
        }
        let mut free = lane.free.lock().unwrap();
        *free = now.max(*free) + Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64);
        *free + self.delay()
    }
}

/// A connection over the link, from here on.
pub(crate) struct Connection {
    link: Arc<Link>,
    handshake: Instant,
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the far end.
    Up,
    /// From it.
    Down,
}

impl Connection {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        link.connections.fetch_add(1, Relaxed);
        let handshake = Instant::now() + link.delay() * 2;
        Self { link, handshake }
    }

    /// What is written to the one that is given back comes out of `to`, later; the task ends with the last of it.
    pub(crate) fn sender(
        &self,
        way: Way,
        mut to: impl AsyncWrite + Unpin + Send + 'static,
    ) -> (Sender, JoinHandle<()>) {
        let (send, mut arriving) = mpsc::unbounded_channel::<Sent>();
        let arrives = tokio::spawn(async move {
            while let Some((at, bytes, _under_way)) = arriving.recv().await {
                // The clock of these waits has whole milliseconds and rounds up: half of one less is right in the mean.
                sleep_until(at - Duration::from_micros(500)).await;
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            drop(to.shutdown().await);
        });
        let room = PollSemaphore::new(Arc::new(Semaphore::new(IN_FLIGHT)));
        let (link, handshake) = (Arc::clone(&self.link), self.handshake);
        (Sender { link, handshake, way, room, send: Some(send) }, arrives)
    }

    /// Carries what comes from `from` to `to` until either ends, and all of it arrived.
    pub(crate) async fn carry(
        &self,
        way: Way,
        mut from: impl AsyncRead + Unpin,
        to: impl AsyncWrite + Unpin + Send + 'static,
    ) {
        let (mut sender, arrives) = self.sender(way, to);
        let mut block = BytesMut::new();
        while let Some(send) = &sender.send {
            if block.capacity() < BLOCK / 4 {
                block = BytesMut::with_capacity(BLOCK);
            }
            let read = tokio::select! {
                read = from.read_buf(&mut block) => read,
                () = send.closed() => break,
            };
            let Ok(1..) = read else { break };
            let bytes = block.split();
            let room = poll_fn(|cx| sender.room.poll_acquire_many(cx, bytes.len() as u32)).await;
            let Some(()) = room.and_then(|room| sender.send(bytes, room)) else { break };
        }
        drop(sender);
        drop(arrives.await);
    }
}

/// When it arrives, what, and its share of what may be under way.
type Sent = (Instant, BytesMut, OwnedSemaphorePermit);

/// The end of a [`Connection`] that is written to.
pub(crate) struct Sender {
    link: Arc<Link>,
    handshake: Instant,
    way: Way,
    room: PollSemaphore,
    /// `None` once it was shut.
    send: Option<mpsc::UnboundedSender<Sent>>,
}

impl Sender {
    fn send(&self, bytes: BytesMut, room: OwnedSemaphorePermit) -> Option<()> {
        let lane = if self.way == Way::Up { &self.link.up } else { &self.link.down };
        lane.bytes.fetch_add(bytes.len() as u64, Relaxed);
        if self.way == Way::Up && begins_a_request(&bytes) {
            self.link.requests.fetch_add(1, Relaxed);
        }
        let at = self.link.arrival(lane, bytes.len()).max(self.handshake + self.link.delay());
        self.send.as_ref()?.send((at, bytes, room)).ok()
    }
}

/// Whoever is in this process writes without a pipe in between.
impl AsyncWrite for Sender {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = parts.iter().map(|part| part.len()).sum::<usize>().min(BLOCK);
        let room = ready!(self.room.poll_acquire_many(cx, len as u32));
        let mut block = BytesMut::with_capacity(len);
        for part in parts {
            block.extend_from_slice(&part[..part.len().min(len - block.len())]);
        }
        let sent = room.and_then(|room| self.send(block, room));
        Poll::Ready(sent.map(|()| len).ok_or_else(|| io::ErrorKind::BrokenPipe.into()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send = None;
        Poll::Ready(Ok(()))
    }
}

/// Carries one connection both ways until both ends are done.
pub(crate) async fn join(
    link: Arc<Link>,
    near: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin + Send + 'static),
    far: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin + Send + 'static),
) {
    let connection = Connection::new(link);
    tokio::join!(connection.carry(Way::Up, near.0, far.1), connection.carry(Way::Down, far.0, near.1));
}

/// Clients send the head of a request at once, and no second one before the answer.
fn begins_a_request(bytes: &[u8]) -> bool {
    [&b"GET "[..], b"PUT ", b"POST ", b"HEAD ", b"DELETE "].iter().any(|method| bytes.starts_with(method))
}
