//! The object store at the far end: files behind it, the same one for ours and for the peers.
//!
//! May not be slower than what it stands for: a range comes in one read, where the files' own service reads in steps
//! of 4 KiB and would be what is measured. What always holds: signatures are checked; what was put is what is given;
//! of `slow` (N, S), one request in N is answered only after S seconds. Tested by `scripts/bench`, which compares
//! all that it reads.
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, GetBucketLocationInput, GetBucketLocationOutput, GetObjectInput, GetObjectOutput,
    HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListObjectsInput,
    ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, PutObjectInput, PutObjectOutput,
    StreamingBlob, Timestamp, UploadPartInput, UploadPartOutput,
};
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

type Answer<'a, T> = Pin<Box<dyn Future<Output = S3Result<S3Response<T>>> + Send + 'a>>;

/// One request in `of` waits for `milliseconds`; 0 is none.
#[derive(Default)]
pub(crate) struct Slow {
    pub(crate) of: AtomicU64,
    pub(crate) milliseconds: AtomicU64,
    asked: AtomicU64,
}

impl Slow {
    async fn wait(&self) {
        let (of, number) = (self.of.load(Relaxed), self.asked.fetch_add(1, Relaxed));
        if of > 0 && number % of == of - 1 {
            tokio::time::sleep(Duration::from_millis(self.milliseconds.load(Relaxed))).await;
        }
    }
}

pub(crate) struct Store {
    root: PathBuf,
    files: FileSystem,
    slow: Arc<Slow>,
}

impl Store {
    /// Serves the buckets, which are the folders in `root`.
    pub(crate) fn new(root: &Path, slow: Arc<Slow>) -> Self {
        Self { root: root.to_owned(), files: FileSystem::new(root).unwrap(), slow }
    }

    fn path(&self, bucket: &str, key: &str) -> Option<PathBuf> {
        let below = Path::new(bucket).join(key);
        let plain = below.components().all(|part| matches!(part, Component::Normal(_)));
        plain.then(|| self.root.join(below))
    }

    async fn get(&self, input: GetObjectInput) -> S3Result<S3Response<GetObjectOutput>> {
        let path = self.path(&input.bucket, &input.key).ok_or_else(|| s3_error!(NoSuchKey))?;
        let read = move || -> S3Result<(Vec<u8>, u64, u64, Timestamp)> {
            let mut file = File::open(path).map_err(|_| s3_error!(NoSuchKey))?;
            let about = file.metadata().map_err(|_| s3_error!(InternalError))?;
            let (total, changed) = (about.len(), about.modified().map_err(|_| s3_error!(InternalError))?);
            let range = input.range.map_or(Ok(0..total), |range| range.check(total))?;
            let length = range.end - range.start;
            let mut bytes = Vec::with_capacity(length as usize);
            let read = file
                .seek(SeekFrom::Start(range.start))
                .and_then(|_| file.take(length).read_to_end(&mut bytes));
            if read.map_err(|_| s3_error!(InternalError))? as u64 != length {
                return Err(s3_error!(InternalError));
            }
            Ok((bytes, range.start, total, changed.into()))
        };
        let asked_for_part = input.range.is_some();
        let (bytes, start, total, changed) =
            tokio::task::spawn_blocking(read).await.map_err(|_| s3_error!(InternalError))??;
        let length = bytes.len() as u64;
        Ok(S3Response::new(GetObjectOutput {
            content_length: i64::try_from(length).ok(),
            content_range: asked_for_part.then(|| format!("bytes {start}-{}/{total}", start + length - 1)),
            last_modified: Some(changed),
            body: Some(StreamingBlob::from(Body::from(bytes))),
            ..Default::default()
        }))
    }
}

/// Calls that the files' own service answers, after the wait of the slow ones.
macro_rules! handed_on {
    ($($call:ident: $input:ty => $output:ty;)*) => {
        impl S3 for Store {
            fn get_object<'a, 'b>(&'a self, request: S3Request<GetObjectInput>) -> Answer<'b, GetObjectOutput>
            where
                'a: 'b,
                Self: 'b,
            {
                Box::pin(async move {
                    self.slow.wait().await;
                    self.get(request.input).await
                })
            }
            $(fn $call<'a, 'b>(&'a self, request: S3Request<$input>) -> Answer<'b, $output>
            where
                'a: 'b,
                Self: 'b,
            {
                Box::pin(async move {
                    self.slow.wait().await;
                    self.files.$call(request).await
                })
            })*
        }
    };
}

handed_on! {
    put_object: PutObjectInput => PutObjectOutput;
    head_object: HeadObjectInput => HeadObjectOutput;
    delete_object: DeleteObjectInput => DeleteObjectOutput;
    delete_objects: DeleteObjectsInput => DeleteObjectsOutput;
    list_objects: ListObjectsInput => ListObjectsOutput;
    list_objects_v2: ListObjectsV2Input => ListObjectsV2Output;
    head_bucket: HeadBucketInput => HeadBucketOutput;
    create_bucket: CreateBucketInput => CreateBucketOutput;
    get_bucket_location: GetBucketLocationInput => GetBucketLocationOutput;
    create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput;
    upload_part: UploadPartInput => UploadPartOutput;
    complete_multipart_upload: CompleteMultipartUploadInput => CompleteMultipartUploadOutput;
    abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput;
}
