//! A link that is long: every byte arrives a delay after it was sent, in either direction.
//!
//! May not reorder, lose or look into what it carries, but for counting what begins like a request. What always
//! holds: a connection costs a round trip of its own before its first byte arrives, as TCP's handshake does (on
//! loopback `accept` is at once); at most [`IN_FLIGHT`] bytes of a connection are under way in one direction; a
//! rate, where there is one, is shared by all connections. Tested by `scripts/bench --far`, which measures it first.
use bytes::BytesMut;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

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

/// Carries one connection both ways until both ends are done.
pub(crate) async fn join(
    link: Arc<Link>,
    near: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin + Send + 'static),
    far: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin + Send + 'static),
) {
    link.connections.fetch_add(1, Relaxed);
    let handshake = Instant::now() + link.delay() * 2;
    let up = carry(near.0, far.1, &link, &link.up, handshake);
    let down = carry(far.0, near.1, &link, &link.down, handshake);
    tokio::join!(up, down);
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    link: &Link,
    lane: &Lane,
    handshake: Instant,
) {
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let (send, mut arriving) = mpsc::unbounded_channel::<(Instant, BytesMut, _)>();
    let writer = tokio::spawn(async move {
        while let Some((at, bytes, _under_way)) = arriving.recv().await {
            // The clock of these waits has whole milliseconds and rounds up: half of one less is right in the mean.
            sleep_until(at - Duration::from_micros(500)).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        drop(to.shutdown().await);
    });
    let is_up = std::ptr::eq(lane, &raw const link.up);
    let mut block = BytesMut::new();
    loop {
        if block.capacity() < BLOCK / 4 {
            block = BytesMut::with_capacity(BLOCK);
        }
        let read = tokio::select! {
            read = from.read_buf(&mut block) => read,
            () = send.closed() => break,
        };
        let Ok(length @ 1..) = read else { break };
        let bytes = block.split();
        lane.bytes.fetch_add(length as u64, Relaxed);
        if is_up && begins_a_request(&bytes) {
            link.requests.fetch_add(1, Relaxed);
        }
        let at = link.arrival(lane, length).max(handshake + link.delay());
        let Ok(under_way) = Arc::clone(&room).acquire_many_owned(length as u32).await else { break };
        if send.send((at, bytes, under_way)).is_err() {
            break;
        }
    }
    drop(send);
    drop(writer.await);
}

/// Clients send the head of a request at once, and no second one before the answer.
fn begins_a_request(bytes: &[u8]) -> bool {
    [&b"GET "[..], b"PUT ", b"POST ", b"HEAD ", b"DELETE "].iter().any(|method| bytes.starts_with(method))
}
