//! The store of `--dev` as its clients see it: files behind it, and nothing stored that was refused.
//!
//! The files' own service compares checksums only after it has stored, and looks for an object and writes it in two
//! steps. Here a body is verified first, and one PUT at a time decides. What nobody has a right to elsewhere (multipart,
//! policies) is not served; DELETE is the sweep's key's alone, which may nothing else. Tested in `tests/server`.
use super::objects::SWEEP_KEY;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, GetObjectInput, GetObjectOutput, HeadObjectInput,
    HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, PutObjectInput, PutObjectOutput, Range,
    StreamingBlob,
};
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use sha2::{Digest, Sha256};
use std::pin::Pin;
use tokio::sync::Mutex;

/// Largest object: that of a pack.
const BODY_MAX: usize = 256 << 20;

/// What the trait of the service wants its methods to return.
type Answer<'a, T> = Pin<Box<dyn Future<Output = S3Result<S3Response<T>>> + Send + 'a>>;

pub(super) struct Checked {
    files: FileSystem,
    /// Held from looking for an object to having written it.
    writing: Mutex<()>,
}

impl Checked {
    pub(super) fn new(files: FileSystem) -> Self {
        Self { files, writing: Mutex::new(()) }
    }

    async fn put(&self, mut request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = &mut request.input;
        let mut body = Body::from(input.body.take().ok_or_else(|| s3_error!(IncompleteBody))?);
        let bytes = body.store_all_limited(BODY_MAX).await.map_err(|_| s3_error!(IncompleteBody))?;
        if let Some(announced) = &input.checksum_sha256
            && *announced != STANDARD.encode(Sha256::digest(&bytes))
        {
            return Err(s3_error!(BadDigest));
        }
        input.body = Some(StreamingBlob::from(Body::from(bytes)));
        let (bucket, key) = (input.bucket.clone(), input.key.clone());

        let _one_at_a_time = self.writing.lock().await;
        let look = HeadObjectInput { bucket: bucket.clone(), key: key.clone(), ..Default::default() };
        let was_there = self.files.head_object(inner(look)).await.is_ok();
        let stored = self.files.put_object(request).await;
        if stored.is_err() && !was_there {
            // Whatever it was refused for, nothing of it stays. Nothing to remove is well, too.
            let remove = DeleteObjectInput { bucket, key, ..Default::default() };
            drop(self.files.delete_object(inner(remove)).await);
        }
        stored
    }
}

impl Checked {
    /// A last part that is longer than the object is all of it; the files' own service fails on it.
    async fn get(&self, mut request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        if let Some(Range::Suffix { length }) = request.input.range {
            let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
            let look = HeadObjectInput { bucket, key, ..Default::default() };
            let found = self.files.head_object(inner(look)).await?.output.content_length;
            let total = found.and_then(|total| u64::try_from(total).ok()).unwrap_or(length);
            request.input.range = Some(Range::Suffix { length: length.min(total) });
        }
        self.files.get_object(request).await
    }
}

impl Checked {
    async fn delete(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        if !is_sweep(&request) {
            return Err(s3_error!(AccessDenied));
        }
        let _one_at_a_time = self.writing.lock().await;
        self.files.delete_object(request).await
    }
}

fn is_sweep<T>(request: &S3Request<T>) -> bool {
    request.credentials.as_ref().is_some_and(|who| who.access_key == SWEEP_KEY)
}

/// Whoever deletes reads and writes nothing.
fn need_no_sweep<T>(request: S3Request<T>) -> S3Result<S3Request<T>> {
    if is_sweep(&request) { Err(s3_error!(AccessDenied)) } else { Ok(request) }
}

/// A request of our own to the files.
fn inner<T>(input: T) -> S3Request<T> {
    S3Request {
        input,
        method: Default::default(),
        uri: Default::default(),
        headers: Default::default(),
        extensions: Default::default(),
        credentials: None,
        region: None,
        service: None,
        trailing_headers: None,
    }
}

impl S3 for Checked {
    fn put_object<'a, 'b>(&'a self, request: S3Request<PutObjectInput>) -> Answer<'b, PutObjectOutput>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { self.put(need_no_sweep(request)?).await })
    }

    fn get_object<'a, 'b>(&'a self, request: S3Request<GetObjectInput>) -> Answer<'b, GetObjectOutput>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { self.get(need_no_sweep(request)?).await })
    }

    fn head_object<'a, 'b>(&'a self, request: S3Request<HeadObjectInput>) -> Answer<'b, HeadObjectOutput>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { self.files.head_object(need_no_sweep(request)?).await })
    }

    fn list_objects_v2<'a, 'b>(
        &'a self,
        request: S3Request<ListObjectsV2Input>,
    ) -> Answer<'b, ListObjectsV2Output>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { self.files.list_objects_v2(need_no_sweep(request)?).await })
    }

    fn delete_object<'a, 'b>(
        &'a self,
        request: S3Request<DeleteObjectInput>,
    ) -> Answer<'b, DeleteObjectOutput>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.delete(request))
    }
}
