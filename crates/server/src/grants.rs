//! Presigning (SigV4) and the few requests of our own to object storage: LIST, HEAD, the tail of a root, and the 32
//! bytes that name a vault's root key. Content never passes here.
//!
//! May not take a key from a client or print an address it signed. A PUT is signed with the announced length and
//! checksum, so that it can store those bytes and no others; `x-amz-content-sha256` is never signed, stores treat it
//! differently. Tested in `tests/server`, against real stores.

use crate::ServerError;
use crate::config::{Lock, Profile, Storage};
use backupengine_api::{Grant, PutGrant};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, Response, StatusCode};
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Bucket, Credentials, Map, S3Action, UrlStyle};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// How long a request of our own may take.
const OWN_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer of one LIST: 1000 names.
const LIST_MAX: usize = 4 << 20;

/// Headers of an object lock.
pub(crate) const LOCK_MODE: &str = "x-amz-object-lock-mode";
/// See above.
pub(crate) const LOCK_UNTIL: &str = "x-amz-object-lock-retain-until-date";

/// What one PUT may store.
#[derive(Clone, Copy, Debug)]
pub struct Announced<'a> {
    /// In bytes.
    pub length: u64,
    /// Base64.
    pub sha256: &'a str,
    /// Base64; asked for by stores that verify nothing else.
    pub md5: Option<&'a str>,
}

/// A blob as a LIST shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The whole name in the bucket.
    pub key: String,
    /// In bytes.
    pub size: u64,
    /// RFC 3339, by the store's clock.
    pub modified: Option<String>,
}

/// Signs for one bucket.
#[derive(Clone)]
pub struct Grants {
    /// As this server reaches it.
    bucket: Bucket,
    /// As clients do.
    seen: Bucket,
    credentials: Credentials,
    life: Duration,
    profile: Profile,
    lock: Option<Lock>,
}

impl std::fmt::Debug for Grants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Grants({})", self.bucket.name())
    }
}

impl Grants {
    /// From the settings.
    ///
    /// # Errors
    /// [`ServerError::Setting`] for an endpoint that is no address.
    pub fn new(storage: &Storage) -> Result<Self, ServerError> {
        let wrong = |problem: &str| ServerError::Setting {
            setting: "storage endpoint".to_owned(),
            problem: problem.to_owned(),
        };
        let at = |address: &str| {
            let endpoint = address.parse().map_err(|_| wrong("is not an address (URL)"))?;
            Bucket::new(endpoint, UrlStyle::Path, storage.bucket.clone(), storage.region.clone())
                .map_err(|_| wrong("is not an address that begins with http:// or https://"))
        };
        let bucket = at(&storage.endpoint)?;
        let seen = storage.seen_at.as_deref().map_or_else(|| Ok(bucket.clone()), at)?;
        let credentials =
            Credentials::new(storage.access_key.clone(), storage.secret_key.expose().to_owned());
        Ok(Self {
            bucket,
            seen,
            credentials,
            life: storage.grant_life,
            profile: storage.profile,
            lock: storage.lock,
        })
    }

    /// The same bucket with another profile.
    #[must_use]
    pub fn with_profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// The same bucket with another lock.
    #[must_use]
    pub fn with_lock(mut self, lock: Option<Lock>) -> Self {
        self.lock = lock;
        self
    }

    /// The same bucket with grants of another life.
    #[must_use]
    pub fn with_life(mut self, life: Duration) -> Self {
        self.life = life;
        self
    }

    /// Name of the bucket.
    pub fn bucket(&self) -> &str {
        self.bucket.name()
    }

    /// How long a grant lives, in whole seconds.
    pub fn seconds(&self) -> u32 {
        u32::try_from(self.life.as_secs()).unwrap_or(u32::MAX)
    }

    /// A grant to read one blob; the range is the client's choice.
    pub fn get(&self, key: &str) -> Grant {
        let mut action = self.seen.get_object(Some(&self.credentials), key);
        action.query_mut().insert("response-cache-control", "no-store");
        Grant(action.sign(self.life).into())
    }

    /// A grant to store exactly the announced bytes. `None` where the profile needs an MD5 that was not announced.
    pub fn put(&self, key: &str, announced: &Announced<'_>) -> Option<PutGrant> {
        let mut headers = BTreeMap::new();
        let mut header = |name: &str, value: &str| headers.insert(name.to_owned(), value.to_owned());
        if self.profile.checksum_sha256 {
            header("x-amz-checksum-sha256", announced.sha256);
        }
        if self.profile.content_md5 {
            header("content-md5", announced.md5?);
        }
        if self.profile.if_none_match {
            header("if-none-match", "*");
        }
        if self.profile.sse_header {
            header("x-amz-server-side-encryption", "AES256");
        }
        if let Some(lock) = self.lock.filter(|_| self.profile.object_lock) {
            header(LOCK_MODE, lock.mode.as_str());
            header(LOCK_UNTIL, &lock.until(now()));
        }
        Some(self.put_with(key, Some(announced.length), headers))
    }

    /// A grant with exactly these headers signed; every HTTP client sends the length by itself.
    pub(crate) fn put_with(
        &self,
        key: &str,
        length: Option<u64>,
        headers: BTreeMap<String, String>,
    ) -> PutGrant {
        let mut action = self.seen.put_object(Some(&self.credentials), key);
        let signed: &mut Map<'_> = action.headers_mut();
        if let Some(length) = length {
            signed.insert("content-length", length.to_string());
        }
        for (name, value) in &headers {
            signed.insert(name.clone(), value.clone());
        }
        let url = Grant(action.sign(self.life).into());
        PutGrant { url, headers, grant_seconds: self.seconds() }
    }

    /// One page of names below a prefix, in order, at most 1000; and whether more follow.
    ///
    /// # Errors
    /// [`ServerError::Storage`].
    pub async fn list(
        &self,
        http: &Client,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<(Vec<Listed>, bool), ServerError> {
        let mut action = self.bucket.list_objects_v2(Some(&self.credentials));
        action.with_prefix(prefix);
        if let Some(after) = after {
            action.with_start_after(after);
        }
        let url = action.sign(OWN_TIMEOUT);
        let response = sent(http.get(url), "LIST").await?;
        if response.status() != StatusCode::OK {
            return Err(refused("LIST", response.status()));
        }
        let body = read_at_most(response, LIST_MAX, "LIST").await?;
        let no_list = || ServerError::Storage("a LIST was answered with what is no list".to_owned());
        let text = std::str::from_utf8(&body).map_err(|_| no_list())?;
        let page = ListObjectsV2::parse_response(text).map_err(|_| no_list())?;
        // A store says that more follow by a token; we go on from the last name, so that no token is kept.
        let more = page.next_continuation_token.is_some() && !page.contents.is_empty();
        let listed = page.contents.into_iter().map(|found| Listed {
            key: found.key,
            size: found.size.unwrap_or_default(),
            modified: found.last_modified,
        });
        Ok((listed.collect(), more))
    }

    /// All names below a prefix.
    ///
    /// # Errors
    /// [`ServerError::Storage`].
    pub async fn list_all(&self, http: &Client, prefix: &str) -> Result<Vec<Listed>, ServerError> {
        let mut all: Vec<Listed> = Vec::new();
        loop {
            let after = all.last().map(|last| last.key.clone());
            let (page, more) = self.list(http, prefix, after.as_deref()).await?;
            // A store that does not go on would keep us here for ever.
            let moves = page.first().is_none_or(|first| Some(&first.key) > after.as_ref());
            if !moves {
                return Err(ServerError::Storage("a LIST does not go on where it was asked to".to_owned()));
            }
            all.extend(page);
            if !more {
                return Ok(all);
            }
        }
    }

    /// Length of a blob; `None` where there is none.
    ///
    /// # Errors
    /// [`ServerError::Storage`].
    pub async fn size(&self, http: &Client, key: &str) -> Result<Option<u64>, ServerError> {
        let url = self.bucket.head_object(Some(&self.credentials), key).sign(OWN_TIMEOUT);
        let response = sent(http.head(url), "HEAD").await?;
        match response.status() {
            StatusCode::OK => {
                let length = response.headers().get(reqwest::header::CONTENT_LENGTH);
                let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
                length
                    .map(Some)
                    .ok_or_else(|| ServerError::Storage("a HEAD was answered without a length".to_owned()))
            }
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(refused("HEAD", status)),
        }
    }

    /// The last bytes of a blob of this size, or all of a smaller one; `None` where there is none.
    ///
    /// # Errors
    /// [`ServerError::Storage`], also where the store sends more than it was asked for.
    pub async fn tail(
        &self,
        http: &Client,
        key: &str,
        size: u64,
        length: usize,
    ) -> Result<Option<Vec<u8>>, ServerError> {
        let url = self.bucket.get_object(Some(&self.credentials), key).sign(OWN_TIMEOUT);
        let mut request = http.get(url);
        // Stores differ in what they make of a range that is longer than the blob.
        if size > length as u64 {
            request = request.header(reqwest::header::RANGE, format!("bytes=-{length}"));
        }
        let response = sent(request, "GET").await?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
                read_at_most(response, length, "GET").await.map(Some)
            }
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(refused("GET", status)),
        }
    }

    /// Deletes a blob; one that is not there is well, too.
    ///
    /// # Errors
    /// [`ServerError::Storage`].
    pub(crate) async fn delete(&self, http: &Client, key: &str) -> Result<(), ServerError> {
        let url = self.bucket.delete_object(Some(&self.credentials), key).sign(OWN_TIMEOUT);
        match sent(http.delete(url), "DELETE").await?.status() {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            status => Err(refused("DELETE", status)),
        }
    }

    /// Deletes one version of a blob for good: the status that is answered.
    ///
    /// # Errors
    /// [`ServerError::Storage`].
    pub(crate) async fn delete_version(
        &self,
        http: &Client,
        key: &str,
        version: &str,
    ) -> Result<StatusCode, ServerError> {
        let mut action = self.bucket.delete_object(Some(&self.credentials), key);
        action.query_mut().insert("versionId", version.to_owned());
        Ok(sent(http.delete(action.sign(OWN_TIMEOUT)), "DELETE").await?.status())
    }

    /// Whether a version of a blob is there.
    ///
    /// # Errors
    /// [`ServerError::Storage`].
    pub(crate) async fn has_version(
        &self,
        http: &Client,
        key: &str,
        version: &str,
    ) -> Result<bool, ServerError> {
        let mut action = self.bucket.get_object(Some(&self.credentials), key);
        action.query_mut().insert("versionId", version.to_owned());
        Ok(sent(http.get(action.sign(OWN_TIMEOUT)), "GET").await?.status() == StatusCode::OK)
    }

    /// Until when a blob is locked, in seconds since 1970; `None` where it is not there or the store says nothing.
    ///
    /// # Errors
    /// [`ServerError::Storage`].
    pub(crate) async fn locked_until(&self, http: &Client, key: &str) -> Result<Option<i64>, ServerError> {
        let url = self.bucket.head_object(Some(&self.credentials), key).sign(OWN_TIMEOUT);
        let response = sent(http.head(url), "HEAD").await?;
        let until = response.headers().get(LOCK_UNTIL).and_then(|value| value.to_str().ok());
        Ok(until.and_then(|text| text.parse::<jiff::Timestamp>().ok()).map(jiff::Timestamp::as_second))
    }

    /// Stores a few bytes that the server itself knows. Already there is well: it was signed as the same bytes.
    ///
    /// # Errors
    /// [`ServerError::Storage`].
    pub async fn store(&self, http: &Client, key: &str, bytes: Vec<u8>) -> Result<(), ServerError> {
        let sha256 = STANDARD.encode(Sha256::digest(&bytes));
        let announced = Announced { length: bytes.len() as u64, sha256: &sha256, md5: None };
        // Where only MD5 is verified, the transport has to do: the server sends these bytes to the store itself.
        let profile = Profile { content_md5: false, ..self.profile };
        let near = Self { seen: self.bucket.clone(), ..self.clone() }.with_profile(profile);
        let grant = near.put(key, &announced);
        let grant = grant.ok_or_else(|| ServerError::Storage("no grant for a PUT of our own".to_owned()))?;
        match put(http, &grant, bytes).await? {
            status if status.is_success() || status == StatusCode::PRECONDITION_FAILED => Ok(()),
            status => Err(refused("PUT", status)),
        }
    }
}

/// Sends a body where a grant says.
pub(crate) async fn put(http: &Client, grant: &PutGrant, body: Vec<u8>) -> Result<StatusCode, ServerError> {
    Ok(put_answered(http, grant, body).await?.status())
}

/// The same, with all of the answer.
pub(crate) async fn put_answered(
    http: &Client,
    grant: &PutGrant,
    body: Vec<u8>,
) -> Result<Response, ServerError> {
    let mut request = http.put(&grant.url.0);
    for (name, value) in &grant.headers {
        request = request.header(name, value);
    }
    sent(request.body(body), "PUT").await
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Sends a request; what went wrong is said without the address, which is a grant.
pub(crate) async fn sent(
    request: reqwest::RequestBuilder,
    what: &'static str,
) -> Result<Response, ServerError> {
    let answered = request.timeout(OWN_TIMEOUT).send().await;
    answered.map_err(|error| ServerError::Storage(format!("{what}: {}", full(&error.without_url()))))
}

/// An error with its causes.
fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn refused(what: &str, status: StatusCode) -> ServerError {
    ServerError::Storage(format!("a {what} was answered with status {}", status.as_u16()))
}

async fn read_at_most(
    mut response: Response,
    most: usize,
    what: &'static str,
) -> Result<Vec<u8>, ServerError> {
    let mut body = Vec::new();
    loop {
        let part = response.chunk().await;
        match part.map_err(|error| ServerError::Storage(format!("{what}: {}", full(&error.without_url()))))? {
            None => return Ok(body),
            Some(part) if body.len() + part.len() > most => {
                return Err(ServerError::Storage(format!("a {what} was answered with more than it may be")));
            }
            Some(part) => body.extend_from_slice(&part),
        }
    }
}

/// Whether a name below a vault's prefix is one of the vault's own: `p/0000000a/00000001`, `r/0000000a`,
/// `k/0123456789abcdef`. Nothing else is ever signed for a client.
pub fn is_blob_name(name: &str) -> bool {
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
    };
    match *name.split('/').collect::<Vec<_>>() {
        ["p", session, number] => hex(session, 8) && hex(number, 8),
        ["r", session] => hex(session, 8),
        ["k", id] => hex(id, 16),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LockMode, Secret};

    fn grants(profile: Profile) -> Grants {
        Grants::new(&Storage {
            endpoint: "https://s3.example.org".to_owned(),
            seen_at: None,
            region: "eu".to_owned(),
            bucket: "bucket".to_owned(),
            access_key: "key".to_owned(),
            secret_key: Secret::new("secret".to_owned()),
            grant_life: Duration::from_secs(900),
            profile,
            lock: Some(Lock { mode: LockMode::Compliance, days: 30 }),
        })
        .unwrap()
    }

    const ALL: Profile = Profile {
        checksum_sha256: true,
        content_md5: true,
        if_none_match: true,
        sse_header: true,
        object_lock: false,
    };

    #[test]
    fn what_is_announced_is_signed() {
        let announced = Announced { length: 7, sha256: "c2hh", md5: Some("bWQ1") };
        let grant = grants(ALL).put("v/p/0000000a/00000001", &announced).unwrap();
        let names: Vec<&str> = grant.headers.keys().map(String::as_str).collect();
        let expected =
            ["content-md5", "if-none-match", "x-amz-checksum-sha256", "x-amz-server-side-encryption"];
        assert_eq!(names, expected);
        let signed = "X-Amz-SignedHeaders=content-length%3Bcontent-md5%3Bhost%3Bif-none-match%3Bx-amz-checksum-sha256%3Bx-amz-server-side-encryption&";
        assert!(grant.url.0.contains(signed));
        assert!(!grant.url.0.contains("content-sha256"));
        assert!(grants(ALL).put("v/r/0000000a", &Announced { md5: None, ..announced }).is_none());
        let grant = grants(Profile::NONE).put("v/r/0000000a", &announced).unwrap();
        assert!(grant.headers.is_empty());
        assert!(grant.url.0.contains("X-Amz-SignedHeaders=content-length%3Bhost&"));
    }

    #[test]
    fn a_lock_is_signed_where_the_store_keeps_to_it() {
        let announced = Announced { length: 7, sha256: "c2hh", md5: Some("bWQ1") };
        let (from, days) = (now(), 30 * 24 * 60 * 60);
        let grant = grants(Profile { object_lock: true, ..ALL }).put("v/r/0000000a", &announced).unwrap();
        assert_eq!(grant.headers[LOCK_MODE], "COMPLIANCE");
        let until: jiff::Timestamp = grant.headers[LOCK_UNTIL].parse().unwrap();
        assert!((from + days..=now() + days).contains(&until.as_second()), "{until}");
        assert!(grant.url.0.contains("%3Bx-amz-object-lock-mode%3Bx-amz-object-lock-retain-until-date%3B"));
        assert!(!grants(ALL).put("v/r/0000000a", &announced).unwrap().headers.contains_key(LOCK_MODE));
    }

    #[test]
    fn nothing_that_reads_is_kept_by_a_cache() {
        let url = grants(ALL).get("v/r/0000000a").0;
        assert!(url.contains("response-cache-control=no-store"));
        assert!(url.contains("X-Amz-Expires=900"));
        assert!(url.contains("X-Amz-SignedHeaders=host&"), "the range is not signed");
    }

    #[test]
    fn only_names_of_blobs_are_names() {
        for good in ["p/0000000a/00000001", "r/ffffffff", "k/0123456789abcdef"] {
            assert!(is_blob_name(good), "{good}");
        }
        for bad in [
            "",
            "p/0000000a",
            "p/0000000A/00000001",
            "r/../x",
            "r/0000000a/",
            "/r/0000000a",
            "v/root",
            "k/0123456789abcde",
            "p/0000000a/00000001/..",
        ] {
            assert!(!is_blob_name(bad), "{bad}");
        }
    }
}
