//! Takes connections, with TLS 1.3 or without, and ends them in good order.
//!
//! Handshakes and headers have a time limit, so that nobody holds a connection by saying nothing.
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::error::Error;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// For a handshake, and for the headers of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// For calls that are under way when the server is stopped.
const GRACE: Duration = Duration::from_secs(5);
/// After the system refused a connection, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Something that serves until it is stopped; dropped, it ends at once.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl Serving {
    /// Takes no more calls and ends those under way within a few seconds.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            drop(task.await);
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Serves on a listener; `make` gives the service for a peer.
pub(crate) fn start<S, B>(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    make: impl Fn(SocketAddr) -> S + Send + 'static,
) -> std::io::Result<Serving>
where
    S: Service<Request<Incoming>, Response = hyper::Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let address = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let tls = tls.map(TlsAcceptor::from);
    let task = tokio::spawn(accept(listener, tls, make, stopped));
    Ok(Serving { address, stop, task: Some(task) })
}

async fn accept<S, B>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    make: impl Fn(SocketAddr) -> S,
    mut stopped: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Response = hyper::Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // Reaps what has ended; never ready on an empty set.
            Some(_) = connections.join_next() => continue,
            _ = stopped.changed() => break,
        };
        let Ok((socket, peer)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        drop(socket.set_nodelay(true));
        let (service, tls, stopped) = (make(peer), tls.clone(), stopped.clone());
        connections.spawn(async move {
            let Some(tls) = tls else { return converse(socket, service, stopped).await };
            // A failed handshake is the peer's business: a port is scanned all day.
            if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(socket)).await {
                converse(stream, service, stopped).await;
            }
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

async fn converse<I, S, B>(stream: I, service: S, mut stopped: watch::Receiver<bool>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = hyper::Response<B>>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}
