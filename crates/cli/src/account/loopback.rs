//! Login by a provider: a browser does it, and hands the code to a listener on this machine (PKCE).
//!
//! **What it may not do.** Listen off this machine, or believe a request at another path than the one it made up.
//! **What always holds.** It ends: with a code, with what the provider says, or after five minutes with a hint.
//! **Where it is tested.** Below; `tests/cli`, with a provider of its own.

use crate::error::{Failure, Kind};
use crate::keychain::{hex, random};
use crate::output::{shown, tell};
use crate::wire::Wire;
use backupengine_api::auth::{Secret, Session};
use backupengine_transfer::Identity;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The server keeps a login that was begun for so long.
const PATIENCE: Duration = Duration::from_secs(300);
/// Longest request that is read.
const LONGEST: usize = 16 << 10;

/// Logs in by a provider.
///
/// # Errors
/// What the provider or the server says; that nobody came back in time.
pub(crate) fn by_provider(
    wire: &Wire,
    identity: &Identity,
    provider: &str,
    open_browser: bool,
) -> Result<Session, Failure> {
    // The browser would end on a page of the server, and nobody would come back.
    if !identity.offers(provider)? {
        return Err(Failure::usage(format!("this server offers no login by {provider}"))
            .hint("log in by e-mail and password: backupengine login --email E"));
    }
    let failed = |e| Failure::new(Kind::Failed, e).while_doing("the browser cannot be listened for");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let path = format!("/{}", hex(&random::<16>()?));
    let verifier = Secret(URL_SAFE_NO_PAD.encode(random::<32>()?));
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.0.as_bytes()));
    let back = format!("http://127.0.0.1:{port}{path}");
    let address = identity.authorize_url(provider, &back, &challenge)?;
    tell(format!("Log in with a browser on this machine, at:\n\n    {}\n", shown(address.as_bytes())));
    if open_browser {
        open(&address);
    }
    let code = wait(wire, &listener, &path, PATIENCE)?;
    Ok(identity.exchange(&code, &verifier)?)
}

fn wait(wire: &Wire, listener: &TcpListener, path: &str, patience: Duration) -> Result<Secret, Failure> {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        match listener.accept() {
            Ok((stream, _)) => match answer(stream, path) {
                Some(Ok(code)) => return Ok(code),
                Some(Err(said)) => {
                    return Err(Failure::new(Kind::Denied, format!("the provider says: {said}"))
                        .hint("run it again, or log in by e-mail and password"));
                }
                None => {}
            },
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                wire.sleep(Duration::from_millis(100))?;
            }
            Err(error) => {
                return Err(Failure::new(Kind::Failed, error).while_doing("listening for the browser"));
            }
        }
    }
    Err(Failure::new(Kind::Failed, "the browser did not come back within five minutes".to_owned())
        .hint("run it again and finish in the browser of this machine; over ssh, forward the port or log in by e-mail")
        .hint("if the browser ended on a page of the server, its settings do not allow 127.0.0.1 to be returned to"))
}

/// What one request brought; `None` where it was not the one that is waited for.
fn answer(mut stream: TcpStream, path: &str) -> Option<Result<Secret, String>> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut request = Vec::new();
    let mut part = [0; 2048];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") && request.len() < LONGEST {
        match stream.read(&mut part) {
            Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
            _ => break,
        }
    }
    let came = read_request(&String::from_utf8_lossy(&request), path);
    let (status, text) = match &came {
        Some(Ok(_)) => ("200 OK", "You are logged in; go on in the terminal. This window may be closed."),
        Some(Err(_)) => ("200 OK", "This login did not work; the terminal says why."),
        None => ("404 Not Found", "There is nothing here."),
    };
    let reply = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    drop(stream.write_all(reply.as_bytes()));
    came
}

fn read_request(request: &str, path: &str) -> Option<Result<Secret, String>> {
    let target = request.strip_prefix("GET ")?.split(' ').next()?;
    let (at, query) = target.split_once('?')?;
    if at != path {
        return None;
    }
    let value = |name: &str| {
        url::form_urlencoded::parse(query.as_bytes()).find(|(n, _)| n == name).map(|(_, v)| v.into_owned())
    };
    if let Some(code) = value("code").filter(|code| !code.is_empty()) {
        return Some(Ok(Secret(code)));
    }
    let said = value("error_description").or_else(|| value("error"))?;
    Some(Err(shown(said.chars().take(200).collect::<String>().as_bytes()).into_owned()))
}

/// Opens the address in a browser, where there seems to be one. The address was told anyway.
fn open(address: &str) {
    let program = if cfg!(target_os = "macos") {
        "open"
    } else if cfg!(windows) {
        "explorer"
    } else if ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|v| std::env::var_os(v).is_some()) {
        "xdg-open"
    } else {
        return;
    };
    let null = || (Stdio::null(), Stdio::null(), Stdio::null());
    let (input, output, errors) = null();
    match Command::new(program).arg(address).stdin(input).stdout(output).stderr(errors).spawn() {
        Ok(mut child) => drop(std::thread::spawn(move || child.wait())),
        Err(error) => tracing::debug!(%error, program, "no browser was opened"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_path_that_was_made_up_counts() {
        let read = |line: &str| read_request(&format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n"), "/abc");
        assert_eq!(read("GET /abc?code=a%2Bb").unwrap().unwrap().0, "a+b");
        assert_eq!(
            read("GET /abc?error=access_denied&error_description=No+way").unwrap().unwrap_err(),
            "No way"
        );
        assert_eq!(read("GET /abc?error=x%1b[31m").unwrap().unwrap_err(), "x\\u{1b}[31m");
        for other in
            ["GET /abd?code=a", "GET /?code=a", "POST /abc?code=a", "GET /abc", "GET /abc?code=", "", "GET"]
        {
            assert!(read(other).is_none(), "{other:?}");
        }
    }
}
