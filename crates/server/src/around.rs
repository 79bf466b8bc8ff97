//! What happens around every call: a request id, a limit of the body, a log line, a count, and an answer even after a
//! panic.
use crate::app::{App, Refused};
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use backupengine_api::{BODY_MAX, Code, OPERATIONS, OPERATIONS_PATH};
use hyper::body::Body as _;
use std::borrow::Cow;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::time::{Duration, Instant};
use tracing::Instrument;

/// For the body of a request.
const PATIENCE: Duration = Duration::from_secs(30);
/// So much of a body that is too large is read away, so that the client reads the answer instead of a broken pipe.
const READ_AWAY: usize = 32 << 20;

/// Where a call comes from: the peer, or what a configured proxy says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientIp(pub IpAddr);

impl FromRequestParts<App> for ClientIp {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Ok(Self(client_of(peer, &parts.headers, &app.config.proxies)))
    }
}

/// The last address in `X-Forwarded-For` that is none of our proxies: what stands before it, anybody can write.
fn client_of(peer: IpAddr, headers: &HeaderMap, proxies: &[IpAddr]) -> IpAddr {
    let ours = |address: &IpAddr| proxies.iter().any(|proxy| proxy.to_canonical() == *address);
    let mut client = peer.to_canonical();
    let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    for line in lines.into_iter().rev() {
        for text in line.to_str().unwrap_or_default().split(',').rev() {
            if !ours(&client) {
                return client;
            }
            let Ok(address) = text.trim().parse::<IpAddr>() else { return client };
            client = address.to_canonical();
        }
    }
    client
}

/// The outermost layer.
pub(crate) async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let since = Instant::now();
    let op = label(&request);
    let id = request_id();
    let span = tracing::info_span!("call", id = %id, op = %op);
    // In a task of its own, because a panic ends a task and no more. It ends with the client's interest, too.
    let task = AbortOnDrop(tokio::spawn(next.run(request).instrument(span.clone())));
    let mut response = match task.await {
        Ok(response) => response,
        Err(_) => {
            span.in_scope(|| tracing::error!("the call panicked"));
            Refused::of(Code::Internal).into_response()
        }
    };
    let (status, took) = (response.status().as_u16(), since.elapsed());
    span.in_scope(|| {
        tracing::info!(status, ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "answered")
    });
    app.metrics.call(op, status, took);
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", id);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if app.config.tls.is_some() {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    response
}

/// Reads the whole body before anything else looks at the call.
pub(crate) async fn whole_body(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(PATIENCE, read(body)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Ok(Err(refused)) => refused.into_response(),
        Err(_) => Refused::new(Code::BadRequest, "The body did not come in time.").into_response(),
    }
}

async fn read(mut body: Body) -> Result<Bytes, Refused> {
    let (mut kept, mut seen) = (Vec::new(), 0);
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| Refused::new(Code::BadRequest, "The body broke off."))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len();
        if seen > READ_AWAY {
            break;
        }
        if seen <= BODY_MAX {
            kept.extend_from_slice(&data);
        } else {
            kept = Vec::new();
        }
    }
    if seen <= BODY_MAX {
        return Ok(kept.into());
    }
    Err(Refused::of(Code::TooLarge))
}

/// A name for counts and logs: one of a fixed set, whatever was asked for.
fn label(request: &Request) -> Cow<'static, str> {
    if let Some(name) = request.uri().path().strip_prefix(OPERATIONS_PATH) {
        let known = OPERATIONS.iter().find(|operation| operation.name == name);
        return Cow::Borrowed(known.map_or("unknown", |operation| operation.name));
    }
    match request.extensions().get::<MatchedPath>() {
        Some(path) => Cow::Owned(path.as_str().to_owned()),
        None => Cow::Borrowed("unknown"),
    }
}

fn request_id() -> String {
    let mut bytes = [0; 8];
    // Without randomness calls are only harder to tell apart in the log.
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct AbortOnDrop(tokio::task::JoinHandle<Response>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Future for AbortOnDrop {
    type Output = Result<Response, tokio::task::JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str], proxies: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_str(line).unwrap());
        }
        let proxies: Vec<_> = proxies.iter().map(|proxy| proxy.parse().unwrap()).collect();
        client_of(peer.parse().unwrap(), &headers, &proxies).to_string()
    }

    #[test]
    fn only_configured_proxies_are_believed() {
        assert_eq!(client("203.0.113.9", &["192.0.2.1"], &[]), "203.0.113.9");
        assert_eq!(client("203.0.113.9", &["192.0.2.1"], &["203.0.113.8"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["192.0.2.1"], &["10.0.0.1"]), "192.0.2.1");
        assert_eq!(client("::ffff:10.0.0.1", &["192.0.2.1"], &["10.0.0.1"]), "192.0.2.1");
    }

    #[test]
    fn what_a_client_writes_before_is_not_believed() {
        let two = ["10.0.0.1", "10.0.0.2"];
        assert_eq!(client("10.0.0.1", &["127.0.0.1, 192.0.2.1"], &two), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["127.0.0.1", "192.0.2.1, 10.0.0.2"], &two), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["127.0.0.1, nonsense, 10.0.0.2"], &two), "10.0.0.2");
        assert_eq!(client("10.0.0.1", &[], &two), "10.0.0.1");
    }
}
