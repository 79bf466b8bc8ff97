//! Where a vault lies: in a folder, or with a control plane.
//!
//! **What it may not do.** Look whether anything is there.
//! **What always holds.** An address is https, or http to this machine; it holds no password and no query, and ends
//! without a slash.
//! **Where it is tested.** Below.

use crate::error::Failure;
use std::path::{Path, PathBuf};
use url::{Host, Url};

/// Where a vault lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this folder.
    Folder(PathBuf),
    /// The account's one, at this address.
    Server(String),
}

impl Place {
    /// Reads what a person wrote: a path, or an address.
    ///
    /// # Errors
    /// Bad usage where an address is none that may be used.
    pub(crate) fn parse(given: &Path) -> Result<Self, Failure> {
        match given.to_str() {
            Some(text) if text.contains("://") => parse_server(text).map(Self::Server),
            _ => {
                let path = std::path::absolute(given).map_err(|e| Failure::io("resolve", given, e))?;
                Ok(Self::Folder(path))
            }
        }
    }

    /// The folder, where it is one.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Server(_) => None,
        }
    }

    /// As the config file holds it.
    pub(crate) fn as_path(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder,
            Self::Server(base) => Path::new(base),
        }
    }
}

/// Reads the address of a control plane.
///
/// # Errors
/// Bad usage where it is none.
pub(crate) fn parse_server(text: &str) -> Result<String, Failure> {
    let bad = |why: &str| {
        Failure::usage(format!("{} {why}", crate::output::shown(shown_part(text).as_bytes())))
            .hint("write it like https://backup.example.org")
    };
    let url = Url::parse(text.trim()).map_err(|_| bad("is no address"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("holds a user or a password, which have no place in an address"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("has something behind its path"));
    }
    match (url.scheme(), is_loopback(&url)) {
        ("https", _) | ("http", true) => {}
        ("http", false) => {
            return Err(bad("would be reached unprotected: only https is allowed off this machine"));
        }
        _ => return Err(bad("is no address of a server")),
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// What of a wrong address may be shown: a password in it may not.
fn shown_part(text: &str) -> &str {
    match text.rsplit_once('@') {
        Some((_, host)) => host,
        None => text.split(['?', '#']).next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn addresses_are_told_from_paths() {
        let place = |text: &str| Place::parse(Path::new(text)).unwrap();
        assert_eq!(place("/v"), Place::Folder("/v".into()));
        assert_eq!(place("https://b.example/"), Place::Server("https://b.example".into()));
        assert_eq!(place("https://B.example:443/x/"), Place::Server("https://b.example/x".into()));
        assert_eq!(place("http://127.0.0.1:8080"), Place::Server("http://127.0.0.1:8080".into()));
        assert_eq!(place("http://[::1]:8080/"), Place::Server("http://[::1]:8080".into()));
    }

    #[test]
    fn what_may_not_be_used_is_refused_and_passwords_are_not_repeated() {
        for bad in [
            "http://b.example",
            "ftp://b.example",
            "https://",
            "https://me:hunter2@b.example",
            "https://b/?t=hunter2",
        ] {
            let failure = Place::parse(Path::new(bad)).unwrap_err();
            assert_eq!(failure.kind, Kind::Usage, "{bad}");
            assert!(!failure.message().contains("hunter2"), "{}", failure.message());
        }
    }
}
