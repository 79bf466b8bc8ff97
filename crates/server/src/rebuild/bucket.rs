//! What lies under a vault's prefix, put in order.

use super::plain;
use crate::ServerError;
use crate::grants::{Grants, Listed, is_blob_name};
use reqwest::Client;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinSet;

/// How many roots and envelopes are looked into at once.
const AT_ONCE: usize = 16;
/// Largest envelope.
const ENVELOPE_MAX: usize = 64 << 10;
/// A key that nothing verifies against: of small order, which the strict rule refuses.
const NO_KEY: [u8; 32] = [0; 32];

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Hexadecimal.
    pub(super) root_public: String,
    /// Of the oldest object.
    pub(super) first_seen: Option<String>,
    pub(super) sessions: Vec<Session>,
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) envelopes: Vec<Envelope>,
    pub(super) left_out: Vec<String>,
}

/// A session that left anything.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) number: u32,
    /// One more than the largest number of a pack.
    pub(super) packs: u64,
    pub(super) bytes: u64,
    /// Of its oldest object.
    pub(super) seen: Option<String>,
    /// Numbers below `packs` that have no pack: a multirange as PostgreSQL reads it.
    pub(super) missing: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Snapshot {
    s: u32,
    /// Salt of its root pack.
    id: String,
    committed: Option<String>,
    root_size: u64,
    head_len: u32,
}

#[derive(Debug, Serialize)]
pub(super) struct Envelope {
    id: String,
    epoch: u32,
    kind: &'static str,
    /// Hexadecimal.
    sealed: String,
    created: Option<String>,
}

/// Lists and looks.
pub(super) async fn look(grants: &Grants, vault: &str) -> Result<Found, ServerError> {
    let http = Client::builder()
        .tls_version_min(reqwest::tls::Version::TLS_1_3)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .map_err(|cause| ServerError::Other(format!("no HTTP client: {cause}")))?;
    let prefix = format!("{vault}/");
    let mut found = Found::default();
    let mut listed = Vec::new();
    for under in ["r/", "p/", "k/"] {
        for mut one in grants.list_all(&http, &format!("{prefix}{under}")).await? {
            let name = one.key.strip_prefix(&prefix).unwrap_or(&one.key).to_owned();
            if is_blob_name(&name) {
                one.key = name;
                listed.push(one);
            } else {
                found.left_out.push(format!("{name}: not the name of a blob"));
            }
        }
    }
    found.first_seen = listed.iter().filter_map(|one| one.modified.clone()).min();
    found.sessions = sessions(&listed);
    found.root_public = root_public(grants, &http, &prefix, &mut found.left_out).await?;
    let small = listed.into_iter().filter(|one| !one.key.starts_with("p/"));
    for (one, bytes) in tails(grants, &http, &prefix, small.collect()).await? {
        let name = one.key.clone();
        if let Err(reason) = found.take(vault, one, &bytes) {
            found.left_out.push(format!("{name}: {reason}"));
        }
    }
    Ok(found)
}

/// The public half of the vault's root key, as `vault-create` stored it.
async fn root_public(
    grants: &Grants,
    http: &Client,
    prefix: &str,
    left_out: &mut Vec<String>,
) -> Result<String, ServerError> {
    let name = format!("{prefix}v/root");
    let stored = match grants.size(http, &name).await? {
        Some(32) => grants.tail(http, &name, 32, NO_KEY.len()).await?,
        _ => None,
    };
    let key = stored.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    if key.is_none() {
        left_out.push("v/root: not stored; no new device can approve itself by the recovery code".to_owned());
    }
    Ok(plain::hex(&key.unwrap_or(NO_KEY)))
}

/// The ends of all these, in the order of their names.
async fn tails(
    grants: &Grants,
    http: &Client,
    prefix: &str,
    of: Vec<Listed>,
) -> Result<Vec<(Listed, Vec<u8>)>, ServerError> {
    let grants = Arc::new(grants.clone());
    let (mut waiting, mut running) = (of.into_iter(), JoinSet::new());
    let mut done = BTreeMap::new();
    loop {
        while running.len() < AT_ONCE
            && let Some(one) = waiting.next()
        {
            let (grants, http, key) = (Arc::clone(&grants), http.clone(), format!("{prefix}{}", one.key));
            let length = if one.key.starts_with("r/") { plain::TRAILER_LEN } else { ENVELOPE_MAX };
            running.spawn(async move {
                let bytes = grants.tail(&http, &key, one.size, length).await;
                bytes.map(|bytes| (one, bytes))
            });
        }
        let Some(joined) = running.join_next().await else { break };
        let joined = joined.map_err(|cause| ServerError::Other(format!("a task broke off: {cause}")))?;
        let (one, bytes) = joined?;
        // Gone since it was listed: as if it never was.
        if let Some(bytes) = bytes {
            done.insert(one.key.clone(), (one, bytes));
        }
    }
    Ok(done.into_values().collect())
}

impl Found {
    fn take(&mut self, vault: &str, one: Listed, bytes: &[u8]) -> Result<(), String> {
        if let Some(number) = one.key.strip_prefix("r/") {
            let session = u32::from_str_radix(number, 16).map_err(|_| "not a session".to_owned())?;
            let (id, head_len) = plain::root_trailer(bytes, session)?;
            if u64::from(head_len) + plain::TRAILER_LEN as u64 > one.size {
                return Err("its trailer says more than there is".to_owned());
            }
            let (committed, root_size) = (one.modified, one.size);
            self.snapshots.push(Snapshot { s: session, id: plain::hex(&id), committed, root_size, head_len });
        } else if let Some(id) = one.key.strip_prefix("k/") {
            if one.size != bytes.len() as u64 {
                return Err("too long for an envelope".to_owned());
            }
            let (kind, epoch) = plain::envelope_head(bytes, vault)?;
            let (id, sealed) = (id.to_owned(), plain::hex(bytes));
            self.envelopes.push(Envelope { id, epoch, kind, sealed, created: one.modified });
        }
        Ok(())
    }
}

/// Packs and roots, by session.
fn sessions(listed: &[Listed]) -> Vec<Session> {
    let mut packs: BTreeMap<u32, (Session, Vec<u64>)> = BTreeMap::new();
    for one in listed {
        let parts: Vec<&str> = one.key.split('/').collect();
        let number = |text: &str| u32::from_str_radix(text, 16).ok();
        let (session, pack) = match *parts {
            ["p", session, pack] => (number(session), number(pack)),
            ["r", session] => (number(session), None),
            _ => continue,
        };
        // Session 0 does not exist: nothing can refer to it.
        let Some(session) = session.filter(|&session| session != 0) else { continue };
        let (found, numbers) = packs.entry(session).or_default();
        found.number = session;
        found.bytes += one.size;
        found.seen = [found.seen.take(), one.modified.clone()].into_iter().flatten().min();
        numbers.extend(pack.map(u64::from));
    }
    let finish = |(mut found, mut numbers): (Session, Vec<u64>)| {
        numbers.sort_unstable();
        found.packs = numbers.last().map_or(0, |last| last + 1);
        found.missing = gaps(&numbers);
        found
    };
    packs.into_values().map(finish).collect()
}

/// What is missing below the last of these ascending numbers.
fn gaps(numbers: &[u64]) -> String {
    let mut next = 0;
    let mut ranges = Vec::new();
    for &number in numbers {
        if number > next {
            ranges.push(format!("[{next},{number})"));
        }
        next = number + 1;
    }
    format!("{{{}}}", ranges.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(key: &str, size: u64, modified: &str) -> Listed {
        Listed { key: key.to_owned(), size, modified: Some(modified.to_owned()) }
    }

    #[test]
    fn sessions_come_from_packs_and_roots_alike() {
        let all = [
            listed("r/00000002", 7, "2026-01-02"),
            listed("p/00000002/00000000", 10, "2026-01-01"),
            listed("p/00000002/00000003", 20, "2026-01-03"),
            listed("p/00000009/00000000", 5, "2026-01-05"),
            listed("r/0000000a", 3, "2026-01-06"),
            listed("p/00000000/00000000", 5, "2026-01-05"),
            listed("k/0123456789abcdef", 5, "2026-01-05"),
        ];
        let session = |number, packs, bytes, seen: &str, missing: &str| Session {
            number,
            packs,
            bytes,
            seen: Some(seen.to_owned()),
            missing: missing.to_owned(),
        };
        let expected = [
            session(2, 4, 37, "2026-01-01", "{[1,3)}"),
            session(9, 1, 5, "2026-01-05", "{}"),
            session(10, 0, 3, "2026-01-06", "{}"),
        ];
        assert_eq!(sessions(&all), expected);
    }

    #[test]
    fn gaps_are_told() {
        assert_eq!(gaps(&[]), "{}");
        assert_eq!(gaps(&[0, 1, 2]), "{}");
        assert_eq!(gaps(&[2, 3, 7]), "{[0,2),[4,7)}");
    }
}
