//! The HTTP client and addresses: TLS 1.3, or plain HTTP on loopback.
//!
//! May not follow redirects or print an address: it may be a grant. Tested below.
use crate::{Refusal, TransferError};
use backupengine_api::ApiError;
use backupengine_api::auth::AuthError;
use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder};
use std::sync::OnceLock;
use std::time::Duration;
use url::{Host, Url};

/// How long a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(10);
/// How long data that was sent may stay without any acknowledgement.
#[cfg(target_os = "linux")]
const STALLED: Duration = Duration::from_secs(30);
/// Largest answer of the control plane that is read, in bytes.
const ANSWER_MAX: usize = 64 << 20;
/// Characters of a refusal that a person is shown at most.
const REFUSAL_MAX: usize = 1000;

/// The client of this process: connections are kept and shared.
pub(crate) fn client() -> Result<Client, TransferError> {
    static CLIENT: OnceLock<Result<Client, String>> = OnceLock::new();
    let built = CLIENT.get_or_init(|| {
        let builder = Client::builder()
            .tls_version_min(reqwest::tls::Version::TLS_1_3)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .tcp_nodelay(true);
        // What a peer does not take for this long is lost: a PUT of many megabytes does not hang on a dead line.
        #[cfg(target_os = "linux")]
        let builder = builder.tcp_user_timeout(STALLED);
        let builder = builder.user_agent(concat!("backupengine/", env!("CARGO_PKG_VERSION")));
        builder.build().map_err(|error| format!("no HTTP client: {error}"))
    });
    built.clone().map_err(TransferError::System)
}

/// A deployment's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// Without a slash at its end.
    pub(crate) url: String,
    /// Host, with the port where it is not the scheme's own: what signatures cover, and what people are told.
    pub(crate) authority: String,
}

impl Base {
    /// Takes `https://host[:port]`, or `http://` on loopback.
    pub(crate) fn parse(text: &str) -> Result<Self, TransferError> {
        let bad = |why: &str| TransferError::BadAddress(format!("{text:?} is no address of a server: {why}"));
        let url = Url::parse(text).map_err(|_| bad("it has to look like https://host"))?;
        let Some(host) = url.host() else { return Err(bad("it names no host")) };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TransferError::BadAddress("an address with a user in it is not taken".to_owned()));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it has to end after the host and port"));
        }
        may_speak(&url).map_err(bad)?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        Ok(Self { url: format!("{}://{authority}", url.scheme()), authority })
    }
}

/// Whether this address may be spoken to.
pub(crate) fn may_speak(url: &Url) -> Result<(), &'static str> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(url) => Ok(()),
        "http" => Err("plain http is for this machine only; use https"),
        _ => Err("it has to begin with https://"),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// How a call came to nothing.
pub(crate) enum Failed {
    /// The server answered: no.
    Refused(Refusal, Box<HeaderMap>),
    /// It did not answer, or not to the end. True where it was never reached, so that nothing can have happened.
    Broken(Option<reqwest::Error>, bool),
    /// It answered what is no answer.
    Unreadable(&'static str),
}

impl Failed {
    /// Whether the same call may go well in a moment.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Refused(refusal, _) => refusal.status >= 500 || refusal.status == 429,
            Self::Broken(..) => true,
            Self::Unreadable(_) => false,
        }
    }

    /// How long the server asks to wait; a day where it asks for more, so that times can be added to it.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let Self::Refused(_, headers) = self else { return None };
        let text = headers.get("retry-after")?.to_str().ok()?;
        text.parse().ok().map(|seconds: u64| Duration::from_secs(seconds.min(24 * 3600)))
    }

    /// What the caller is told.
    pub(crate) fn tell(self, base: &Base) -> TransferError {
        let host = base.authority.clone();
        match self {
            Self::Refused(refusal, _) => TransferError::Refused(refusal),
            Self::Broken(source, _) => {
                TransferError::Unreachable { host, source: source.map(|error| error.without_url().into()) }
            }
            Self::Unreadable(what) => TransferError::BadAnswer { host, what: what.to_owned() },
        }
    }
}

/// Sends and reads the answer whole, within `limit`.
pub(crate) async fn send(request: RequestBuilder, limit: Duration) -> Result<(HeaderMap, Bytes), Failed> {
    tokio::time::timeout(limit, exchange(request)).await.unwrap_or(Err(Failed::Broken(None, false)))
}

async fn exchange(request: RequestBuilder) -> Result<(HeaderMap, Bytes), Failed> {
    let broken = |error: reqwest::Error| {
        let early = error.is_connect();
        Failed::Broken(Some(error.without_url()), early)
    };
    let mut answer = request.send().await.map_err(broken)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(broken)? {
        if body.len() + part.len() > ANSWER_MAX {
            return Err(Failed::Unreadable("it is too long"));
        }
        body.extend_from_slice(&part);
    }
    if status.is_success() || status.is_redirection() {
        return Ok((headers, body.into()));
    }
    Err(Failed::Refused(refusal(status.as_u16(), &body), Box::new(headers)))
}

/// Whatever shape the refusal has, fit for a terminal.
fn refusal(status: u16, body: &[u8]) -> Refusal {
    let Refusal { status, code, message, hint } = read_refusal(status, body);
    Refusal { status, code: plain(&code), message: plain(&message), hint: hint.as_deref().map(plain) }
}

/// One line of some length without control characters.
fn plain(text: &str) -> String {
    text.chars().take(REFUSAL_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn read_refusal(status: u16, body: &[u8]) -> Refusal {
    if let Ok(ApiError { code, message, hint, .. }) = serde_json::from_slice(body)
        && !message.is_empty()
    {
        return Refusal { status, code, message, hint };
    }
    let read = serde_json::from_slice(body).ok().and_then(|value| AuthError::read(&value));
    match read {
        Some(AuthError { code, message, reasons }) => {
            let hint = (!reasons.is_empty()).then(|| reasons.join(", "));
            Refusal { status, code, message, hint }
        }
        None => Refusal {
            status,
            code: format!("http_{status}"),
            message: format!("the server answered with status {status}"),
            hint: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_https_or_on_this_machine() {
        let good = |text: &str| Base::parse(text).unwrap();
        assert_eq!(good("https://Backup.Example.org").authority, "backup.example.org");
        assert_eq!(good("https://backup.example.org:443/").url, "https://backup.example.org");
        assert_eq!(good("https://backup.example.org:8443").authority, "backup.example.org:8443");
        assert_eq!(good("http://127.0.0.1:8417").url, "http://127.0.0.1:8417");
        assert_eq!(good("http://[::1]:80").url, "http://[::1]");
        for bad in [
            "backup.example.org",
            "http://backup.example.org",
            "http://127.0.0.1.example.org",
            "ftp://127.0.0.1",
            "https://a.example.org/path",
            "https://a.example.org/?q",
            "https://me:word@a.example.org",
        ] {
            let error = Base::parse(bad).unwrap_err().to_string();
            assert!(!error.contains("word"), "{error}");
        }
    }

    #[test]
    fn a_refusal_is_read_in_every_shape() {
        let read =
            refusal(403, br#"{"code":"role_denied","message":"no","details":null,"hint":"ask an owner"}"#);
        assert_eq!((read.code.as_str(), read.hint.as_deref()), ("role_denied", Some("ask an owner")));
        let read =
            refusal(422, br#"{"code":"weak_password","message":"m","weak_password":{"reasons":["length"]}}"#);
        assert_eq!(read.code, "weak_password");
        assert_eq!(refusal(502, b"<html>").code, "http_502");
    }
}
