//! `check-storage`: tries what the store honours, on objects of its own that it cannot mistake for a vault's.
//!
//! May not touch a name outside `probe/`. What it stored stays, a few bytes a run; the key that deletes is used for object
//! locks alone, to see it fail. What
//! is in the profile was seen to be refused when it was broken, not only to be taken when it was kept. Tested in
//! `tests/server`.

use crate::ServerError;
use crate::config::{Lock, LockMode, Profile, Storage, Sweep};
use crate::grants::{self, Announced, Grants, LOCK_MODE, LOCK_UNTIL};
use backupengine_api::PutGrant;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, StatusCode, header};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is stored.
const BODY: &[u8] = b"backupengine check-storage: these bytes\n";
/// As long, and others.
const OTHER: &[u8] = b"backupengine check-storage: other bytes\n";
/// MD5 of [`BODY`].
const BODY_MD5: &str = "n4+cakCNvFUEMOL2XvNQZw==";
const SUM: &str = "x-amz-checksum-sha256";
const MD5: &str = "content-md5";
const ONCE: &str = "if-none-match";
const SSE: &str = "x-amz-server-side-encryption";
/// How long what is locked by a probe stays, in seconds: longer than clocks differ.
const PROBE_LOCK: i64 = 20 * 60;

/// What was found.
#[derive(Clone, Debug)]
pub struct Probed {
    /// What the store honours.
    pub profile: Profile,
    /// One line a case, for a person.
    pub report: Vec<String>,
}

/// Runs every case of control-plane.md 8.
///
/// # Errors
/// [`ServerError::Storage`] where a promise without which nothing is safe does not hold: signed lengths, one of the
/// checksums, an end of every grant, ranges, lists.
///
/// An object lock is believed where `sweep`, the key that deletes, was seen to delete a version and to fail on a locked one.
pub async fn probe(storage: &Storage, sweep: Option<&Sweep>) -> Result<Probed, ServerError> {
    let http = Client::builder()
        .tls_version_min(reqwest::tls::Version::TLS_1_3)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .map_err(|cause| ServerError::Other(format!("no HTTP client: {cause}")))?;
    let deletes = sweep.map(|sweep| {
        let (access_key, secret_key) = (sweep.access_key.clone(), sweep.secret_key.clone());
        Grants::new(&Storage { access_key, secret_key, ..storage.clone() })
    });
    let deletes = deletes.transpose()?;
    let mut run = Run { http, grants: Grants::new(storage)?, report: Vec::new() };
    run.plain().await?;
    run.length().await?;
    let checksum_sha256 = run.signed_sum(SUM, &sum(BODY), &sum(OTHER)).await?;
    // Any 16 bytes that are not the MD5 of the other body will do.
    let md5 = run.signed_sum(MD5, BODY_MD5, &STANDARD.encode([0; 16])).await?;
    if !checksum_sha256 && !md5 {
        return Err(ServerError::Storage(
            "the store verifies neither a signed SHA-256 nor a signed MD5 of what is stored: whoever gets hold of a \
             grant could store other bytes; use another store"
                .to_owned(),
        ));
    }
    let if_none_match = run.once().await?;
    let sse_header = run.sse().await?;
    run.reads().await?;
    run.expired().await?;
    let content_md5 = md5 && !checksum_sha256;
    let checked = if checksum_sha256 { (SUM, sum(BODY)) } else { (MD5, BODY_MD5.to_owned()) };
    let mode = storage.lock.map_or(LockMode::Compliance, |lock| lock.mode);
    let object_lock = run.lock(mode, (checked.0, &checked.1), deletes.as_ref()).await?;
    let profile = Profile { checksum_sha256, content_md5, if_none_match, sse_header, object_lock };
    run.together(profile).await?;
    Ok(Probed { profile, report: run.report })
}

struct Run {
    http: Client,
    grants: Grants,
    report: Vec<String>,
}

fn sum(body: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(body))
}

fn name() -> Result<String, ServerError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|cause| ServerError::Other(format!("the system has no random bytes: {cause}")))?;
    Ok(format!("probe/{}", bytes.map(|byte| format!("{byte:02x}")).concat()))
}

fn headers(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Run {
    fn note(&mut self, case: &str, holds: bool, otherwise: &str) {
        let line = if holds { format!("ok      {case}") } else { format!("no      {case}: {otherwise}") };
        self.report.push(line);
    }

    async fn send(&self, grant: &PutGrant, body: &[u8]) -> Result<StatusCode, ServerError> {
        grants::put(&self.http, grant, body.to_vec()).await
    }

    /// A PUT to a new name with these headers signed and, in the second list, sent: whether anything lies there then.
    /// A store may refuse and keep what it refused.
    async fn stores(
        &self,
        signed: &[(&str, &str)],
        sent: &[(&str, &str)],
        body: &[u8],
    ) -> Result<bool, ServerError> {
        let name = name()?;
        let mut grant = self.grants.put_with(&name, Some(BODY.len() as u64), headers(signed));
        grant.headers = headers(sent);
        let taken = self.send(&grant, body).await?.is_success();
        Ok(taken || self.grants.size(&self.http, &name).await?.is_some())
    }

    /// That the key pair works at all, and what a grant without anything signed would be worth.
    async fn plain(&mut self) -> Result<(), ServerError> {
        let grant = self.grants.put_with(&name()?, None, BTreeMap::new());
        let status = self.send(&grant, BODY).await?;
        if !status.is_success() {
            return Err(ServerError::Storage(format!(
                "a plain PUT was answered with status {}: check endpoint, region, bucket and key pair",
                status.as_u16()
            )));
        }
        let again = self.send(&grant, OTHER).await?;
        let line = "a grant without signed headers does not overwrite";
        self.note(line, !again.is_success(), "it does, as with most stores; no such grant is ever given");
        Ok(())
    }

    async fn length(&mut self) -> Result<(), ServerError> {
        let kept = self.stores(&[], &[], BODY).await?;
        let longer = self.stores(&[], &[], &[BODY, b"more"].concat()).await?;
        let shorter = self.stores(&[], &[], &BODY[1..]).await?;
        if !kept || longer || shorter {
            return Err(ServerError::Storage(
                "the store takes a body of another length than the one that was signed: use another store"
                    .to_owned(),
            ));
        }
        self.note("a signed length holds", true, "");
        Ok(())
    }

    /// Whether a signed sum is verified: kept, other bytes, the header left out, the header changed with the bytes.
    async fn signed_sum(&mut self, header: &str, right: &str, other: &str) -> Result<bool, ServerError> {
        let signed = [(header, right)];
        let kept = self.stores(&signed, &signed, BODY).await?;
        let bytes = self.stores(&signed, &signed, OTHER).await?;
        let left_out = self.stores(&signed, &[], OTHER).await?;
        let changed = self.stores(&signed, &[(header, other)], OTHER).await?;
        let wrong = [(header, other)];
        let wrong = self.stores(&wrong, &wrong, BODY).await?;
        let holds = kept && !bytes && !left_out && !changed && !wrong;
        let otherwise = if kept { "other bytes pass" } else { "it is refused even when it is right" };
        self.note(&format!("a signed {header} holds"), holds, otherwise);
        Ok(holds)
    }

    async fn once(&mut self) -> Result<bool, ServerError> {
        let signed = headers(&[(ONCE, "*")]);
        let grant = self.grants.put_with(&name()?, Some(BODY.len() as u64), signed);
        let first = self.send(&grant, BODY).await?.is_success();
        let second = self.send(&grant, BODY).await?;
        let bare = PutGrant { headers: BTreeMap::new(), ..grant };
        let left_out = self.send(&bare, BODY).await?.is_success();
        let holds = first && second == StatusCode::PRECONDITION_FAILED && !left_out;
        let otherwise = "a second PUT is not refused; the signed sum keeps the bytes the same";
        self.note("a signed if-none-match holds", holds, otherwise);
        Ok(holds)
    }

    /// Whether the store says of an object that it is encrypted at rest because it was asked to.
    async fn sse(&mut self) -> Result<bool, ServerError> {
        let name = name()?;
        let grant = self.grants.put_with(&name, Some(BODY.len() as u64), headers(&[(SSE, "AES256")]));
        let mut holds = self.send(&grant, BODY).await?.is_success();
        if holds {
            let answer = grants::sent(self.http.get(&self.grants.get(&name).0), "GET").await?;
            holds = answer.headers().get(SSE).is_some_and(|value| value == "AES256");
        }
        self.note(
            "the header for encryption at rest is taken and read back",
            holds,
            "set it as the bucket's default",
        );
        Ok(holds)
    }

    /// Whether a lock that is signed is put on what is stored, and keeps the key that deletes from it.
    async fn lock(
        &mut self,
        mode: LockMode,
        checked: (&str, &str),
        deletes: Option<&Grants>,
    ) -> Result<bool, ServerError> {
        let found = self.try_lock(mode, checked, deletes).await?;
        let otherwise = found.err().unwrap_or_default();
        self.note("an object lock holds", found.is_ok(), otherwise);
        Ok(found.is_ok())
    }

    /// See [`Run::lock`]; where it does not, why.
    async fn try_lock(
        &self,
        mode: LockMode,
        checked: (&str, &str),
        deletes: Option<&Grants>,
    ) -> Result<Result<(), &'static str>, ServerError> {
        let Some(deletes) = deletes else {
            return Ok(Err("there is no key that deletes to try it with (BACKUPENGINE_S3_SWEEP_ACCESS_KEY)"));
        };
        let at = |secs: i64| jiff::Timestamp::from_second(secs).map(|at| at.to_string()).unwrap_or_default();
        let until = at(grants::now() + PROBE_LOCK);
        let signed = [checked, (LOCK_MODE, mode.as_str()), (LOCK_UNTIL, until.as_str())];
        let other = if mode == LockMode::Compliance { LockMode::Governance } else { LockMode::Compliance };
        let sooner = at(grants::now() + 5);
        if !self.stores(&signed, &signed, BODY).await? {
            return Ok(Err("it is refused: the bucket has none"));
        }
        for sent in [
            &[checked][..],
            &[checked, (LOCK_MODE, mode.as_str())],
            &[checked, (LOCK_MODE, other.as_str()), (LOCK_UNTIL, until.as_str())],
            &[checked, (LOCK_MODE, mode.as_str()), (LOCK_UNTIL, sooner.as_str())],
        ] {
            if self.stores(&signed, sent, BODY).await? {
                return Ok(Err("it can be left out or changed although it was signed"));
            }
        }
        let (Some(free), Some(locked)) = (self.version(&[checked]).await?, self.version(&signed).await?)
        else {
            return Ok(Err("the bucket keeps no versions"));
        };
        let deleted = deletes.delete_version(&self.http, &free.0, &free.1).await?.is_success();
        if !deleted || self.grants.has_version(&self.http, &free.0, &free.1).await? {
            return Ok(Err("the key that deletes may not delete versions, so nobody can see it fail"));
        }
        // For good, and as the sweep does: a mark in its place at most.
        let (name, version) = &locked;
        let gone = deletes.delete_version(&self.http, name, version).await?.is_success();
        // What it is answered is the store's matter; the version has to stay.
        drop(deletes.delete(&self.http, name).await);
        if gone || !self.grants.has_version(&self.http, name, version).await? {
            return Ok(Err("what is locked can be deleted all the same"));
        }
        Ok(Ok(()))
    }

    /// Stores with these headers under a new name; name and version, where the store gives versions.
    async fn version(&self, signed: &[(&str, &str)]) -> Result<Option<(String, String)>, ServerError> {
        let name = name()?;
        let grant = self.grants.put_with(&name, Some(BODY.len() as u64), headers(signed));
        let answer = grants::put_answered(&self.http, &grant, BODY.to_vec()).await?;
        let version = answer.headers().get("x-amz-version-id").and_then(|value| value.to_str().ok());
        Ok(version.filter(|version| *version != "null").map(|version| (name, version.to_owned())))
    }

    /// Ranges of the reader's own choice, tails, and lists.
    async fn reads(&mut self) -> Result<(), ServerError> {
        let name = name()?;
        let signed = headers(&[]);
        let grant = self.grants.put_with(&name, Some(BODY.len() as u64), signed);
        let stored = self.send(&grant, BODY).await?.is_success();
        let get = self.grants.get(&name);
        for (range, part) in [("bytes=3-9", &BODY[3..10]), ("bytes=-5", &BODY[BODY.len() - 5..])] {
            let answer = grants::sent(self.http.get(&get.0).header(header::RANGE, range), "GET").await?;
            let status = answer.status();
            let body = answer.bytes().await;
            let body = body.map_err(|cause| ServerError::Storage(format!("GET: {}", cause.without_url())))?;
            if !stored || status != StatusCode::PARTIAL_CONTENT || body != part {
                return Err(ServerError::Storage(format!(
                    "the store does not answer the range {range} as asked"
                )));
            }
        }
        self.note("ranges need not be signed", true, "");
        let listed = self.grants.list_all(&self.http, &name).await?;
        let size = self.grants.size(&self.http, &name).await?;
        let seen = listed.iter().map(|found| (found.key.as_str(), found.size)).collect::<Vec<_>>();
        let length = BODY.len() as u64;
        if seen != [(name.as_str(), length)] || size != Some(length) {
            return Err(ServerError::Storage("LIST or HEAD does not show what was just stored".to_owned()));
        }
        if self.grants.size(&self.http, &format!("{name}-none")).await?.is_some() {
            return Err(ServerError::Storage("HEAD shows an object that was never stored".to_owned()));
        }
        self.note("LIST and HEAD show what was stored", true, "");
        Ok(())
    }

    async fn expired(&mut self) -> Result<(), ServerError> {
        let name = name()?;
        let short = self.grants.clone().with_life(Duration::from_secs(1));
        let put = short.put_with(&name, Some(BODY.len() as u64), BTreeMap::new());
        let stored = self.grants.put_with(&name, Some(BODY.len() as u64), BTreeMap::new());
        self.send(&stored, BODY).await?;
        let get = short.get(&name);
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let late = self.send(&put, BODY).await?;
        let read = grants::sent(self.http.get(&get.0), "GET").await?.status();
        if late.is_success() || read.is_success() {
            return Err(ServerError::Storage(
                "a grant that has ended still works: use another store".to_owned(),
            ));
        }
        self.note("a grant ends", true, "");
        Ok(())
    }

    /// The profile as it will be used, all of it in one grant.
    async fn together(&mut self, profile: Profile) -> Result<(), ServerError> {
        // Locked for a day, whatever is set: it is the probe's own.
        let lock = Lock { mode: LockMode::Governance, days: 1 };
        let grants = self.grants.clone().with_profile(profile).with_lock(Some(lock));
        let sum = sum(BODY);
        let announced = Announced { length: BODY.len() as u64, sha256: &sum, md5: Some(BODY_MD5) };
        let name = name()?;
        let grant = grants.put(&name, &announced);
        let grant = grant.ok_or_else(|| ServerError::Storage("no grant could be made".to_owned()))?;
        let refused = !self.send(&grant, OTHER).await?.is_success()
            && self.grants.size(&self.http, &name).await?.is_none();
        if !refused || !self.send(&grant, BODY).await?.is_success() {
            return Err(ServerError::Storage(
                "what the store honours one by one it does not honour together".to_owned(),
            ));
        }
        self.note("all of it holds together", true, "");
        Ok(())
    }
}
