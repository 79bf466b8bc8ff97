//! An S3-compatible bucket in memory with versions and object locks, on loopback.
//!
//! Written here because the store of `--dev` has neither. Stricter than most: a locked version is never deleted by anybody,
//! in either mode. What it may not: stand for any real store; `check-storage` has to be run against that.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, ETag, GetObjectInput, GetObjectOutput, HeadObjectInput,
    HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, Object, ObjectLockMode, PutObjectInput,
    PutObjectOutput, Range, StreamingBlob, Timestamp,
};
use s3s::service::S3ServiceBuilder;
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;
use tokio::task::JoinHandle;

/// How a store keeps its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// A delete without a version hides, a version that is locked stays.
    Kept,
    /// The same, but a delete without a version is refused where the object is locked.
    KeptStrictly,
    /// Says yes to every lock and deletes all the same.
    Broken,
    /// Knows no versions; takes the headers of a lock for nothing.
    NoVersions,
    /// Refuses the headers.
    NoLocks,
    /// Nobody may delete a version, locked or not.
    NothingGoes,
}

#[derive(Clone)]
struct Version {
    id: String,
    /// `None`: a mark that hides what is below.
    bytes: Option<Bytes>,
    lock: Option<(String, Timestamp)>,
    stored: SystemTime,
}

impl Version {
    fn is_locked(&self) -> bool {
        self.lock.as_ref().is_some_and(|(_, until)| *until > Timestamp::from(SystemTime::now()))
    }
}

type Objects = BTreeMap<String, Vec<Version>>;

#[derive(Clone)]
struct Bucket {
    word: Word,
    objects: Arc<Mutex<Objects>>,
}

/// A bucket that is served until it is dropped.
pub(super) struct Locking {
    pub(super) address: SocketAddr,
    objects: Arc<Mutex<Objects>>,
    serving: JoinHandle<()>,
}

impl Drop for Locking {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What is known of an object: mode and end of the lock of its newest version with bytes.
pub(super) type Locked = BTreeMap<String, Option<(String, Timestamp)>>;

impl Locking {
    /// With these key pairs.
    pub(super) async fn start(word: Word, keys: [(&str, &str); 2]) -> Self {
        let objects = Arc::default();
        let mut builder = S3ServiceBuilder::new(Bucket { word, objects: Arc::clone(&objects) });
        let mut auth = SimpleAuth::from_single(keys[0].0, keys[0].1);
        auth.register(keys[1].0.to_owned(), keys[1].1.into());
        builder.set_auth(auth);
        let service = builder.build();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                drop(tokio::spawn(async move {
                    // Whoever hangs up has had enough.
                    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
                }));
            }
        });
        Self { address, objects, serving }
    }

    /// Objects that are shown, with their locks.
    pub(super) fn shown(&self) -> Locked {
        let objects = self.objects.lock().unwrap();
        let shown = objects.iter().filter_map(|(name, versions)| {
            let newest = versions.last().filter(|version| version.bytes.is_some())?;
            Some((name.clone(), newest.lock.clone()))
        });
        shown.collect()
    }

    /// Bytes of every version that is there, hidden or not.
    pub(super) fn kept(&self, name: &str) -> Vec<Bytes> {
        let objects = self.objects.lock().unwrap();
        objects.get(name).into_iter().flatten().filter_map(|version| version.bytes.clone()).collect()
    }

    /// Lets every lock end.
    pub(super) fn let_go(&self) {
        let mut objects = self.objects.lock().unwrap();
        objects.values_mut().flatten().for_each(|version| version.lock = None);
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = S3Result<S3Response<T>>> + Send + 'a>>;

impl Bucket {
    fn find(&self, key: &str, version: Option<&str>) -> S3Result<Version> {
        let objects = self.objects.lock().unwrap();
        let versions = objects.get(key).ok_or_else(|| s3_error!(NoSuchKey))?;
        let found = match version {
            Some(id) => versions.iter().find(|version| version.id == id),
            None => versions.last(),
        };
        found.filter(|found| found.bytes.is_some()).cloned().ok_or_else(|| s3_error!(NoSuchKey))
    }

    async fn put(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let mut input = request.input;
        let mut body = Body::from(input.body.take().ok_or_else(|| s3_error!(IncompleteBody))?);
        let bytes = body.store_all_limited(256 << 20).await.map_err(|_| s3_error!(IncompleteBody))?;
        let sum = STANDARD.encode(Sha256::digest(&bytes));
        if input.checksum_sha256.as_ref().is_some_and(|announced| *announced != sum) {
            return Err(s3_error!(BadDigest));
        }
        let lock = match (input.object_lock_mode, input.object_lock_retain_until_date) {
            (None, None) => None,
            _ if self.word == Word::NoLocks => return Err(s3_error!(InvalidRequest)),
            _ if input.checksum_sha256.is_none() && input.content_md5.is_none() => {
                return Err(s3_error!(InvalidRequest));
            }
            (Some(mode), Some(until)) if until > Timestamp::from(SystemTime::now()) => {
                Some((mode.as_str().to_owned(), until)).filter(|_| self.word != Word::NoVersions)
            }
            _ => return Err(s3_error!(InvalidArgument)),
        };
        let mut objects = self.objects.lock().unwrap();
        let versions = objects.entry(input.key).or_default();
        let there = versions.last().is_some_and(|version| version.bytes.is_some());
        if there && input.if_none_match.is_some() {
            return Err(s3_error!(PreconditionFailed));
        }
        if self.word == Word::NoVersions {
            versions.clear();
        }
        let id = format!("v{}-{sum:.8}", versions.len());
        versions.push(Version { id: id.clone(), bytes: Some(bytes), lock, stored: SystemTime::now() });
        let version_id = (self.word != Word::NoVersions).then_some(id);
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(sum)),
            version_id,
            ..Default::default()
        }))
    }

    fn get(&self, input: &GetObjectInput) -> S3Result<S3Response<GetObjectOutput>> {
        let found = self.find(&input.key, input.version_id.as_deref())?;
        let bytes = found.bytes.unwrap_or_default();
        let total = bytes.len() as u64;
        let range = match input.range {
            Some(Range::Suffix { length }) => Some(Range::Suffix { length: length.min(total) }),
            other => other,
        };
        let span = range.map(|range| range.check(total)).transpose().map_err(|_| s3_error!(InvalidRange))?;
        let part =
            span.clone().map_or(bytes.clone(), |span| bytes.slice(span.start as usize..span.end as usize));
        Ok(S3Response::new(GetObjectOutput {
            content_length: Some(part.len() as i64),
            content_range: span.map(|span| format!("bytes {}-{}/{total}", span.start, span.end - 1)),
            body: Some(StreamingBlob::from(Body::from(part))),
            ..Default::default()
        }))
    }

    fn head(&self, input: &HeadObjectInput) -> S3Result<S3Response<HeadObjectOutput>> {
        let found = self.find(&input.key, input.version_id.as_deref())?;
        let (mode, until) = found.lock.unzip();
        Ok(S3Response::new(HeadObjectOutput {
            content_length: found.bytes.map(|bytes| bytes.len() as i64),
            object_lock_mode: mode.map(ObjectLockMode::from),
            object_lock_retain_until_date: until,
            ..Default::default()
        }))
    }

    fn delete(&self, input: &DeleteObjectInput) -> S3Result<S3Response<DeleteObjectOutput>> {
        let mut objects = self.objects.lock().unwrap();
        let Some(versions) = objects.get_mut(&input.key) else {
            return Ok(S3Response::new(DeleteObjectOutput::default()));
        };
        let holds = |version: &Version| version.is_locked() && self.word != Word::Broken;
        match &input.version_id {
            Some(_) if self.word == Word::NothingGoes => return Err(s3_error!(AccessDenied)),
            Some(id) => {
                if versions.iter().any(|version| version.id == *id && holds(version)) {
                    return Err(s3_error!(AccessDenied));
                }
                versions.retain(|version| version.id != *id);
            }
            None if self.word == Word::KeptStrictly && versions.last().is_some_and(holds) => {
                return Err(s3_error!(AccessDenied));
            }
            None if matches!(self.word, Word::NoVersions | Word::Broken) => versions.clear(),
            None => {
                let id = format!("m{}", versions.len());
                versions.push(Version { id, bytes: None, lock: None, stored: SystemTime::now() });
            }
        }
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    fn list(&self, input: &ListObjectsV2Input) -> ListObjectsV2Output {
        let objects = self.objects.lock().unwrap();
        let (prefix, after) = (input.prefix.clone().unwrap_or_default(), input.start_after.clone());
        let contents = objects.iter().filter_map(|(name, versions)| {
            let newest = versions.last()?;
            let bytes = newest.bytes.as_ref()?;
            let wanted = name.starts_with(&prefix) && after.as_ref().is_none_or(|after| name > after);
            wanted.then(|| Object {
                key: Some(name.clone()),
                size: Some(bytes.len() as i64),
                e_tag: Some(ETag::Strong("0".to_owned())),
                last_modified: Some(newest.stored.into()),
                ..Default::default()
            })
        });
        let contents: Vec<Object> = contents.collect();
        ListObjectsV2Output {
            key_count: Some(contents.len() as i32),
            max_keys: Some(1000),
            is_truncated: Some(false),
            prefix: Some(prefix),
            name: Some(input.bucket.clone()),
            contents: Some(contents),
            ..Default::default()
        }
    }
}

impl S3 for Bucket {
    fn put_object<'a, 'b>(&'a self, request: S3Request<PutObjectInput>) -> Answer<'b, PutObjectOutput>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.put(request))
    }

    fn get_object<'a, 'b>(&'a self, request: S3Request<GetObjectInput>) -> Answer<'b, GetObjectOutput>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { self.get(&request.input) })
    }

    fn head_object<'a, 'b>(&'a self, request: S3Request<HeadObjectInput>) -> Answer<'b, HeadObjectOutput>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { self.head(&request.input) })
    }

    fn list_objects_v2<'a, 'b>(
        &'a self,
        request: S3Request<ListObjectsV2Input>,
    ) -> Answer<'b, ListObjectsV2Output>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { Ok(S3Response::new(self.list(&request.input))) })
    }

    fn delete_object<'a, 'b>(
        &'a self,
        request: S3Request<DeleteObjectInput>,
    ) -> Answer<'b, DeleteObjectOutput>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { self.delete(&request.input) })
    }
}
