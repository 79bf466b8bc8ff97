//! One blob to object storage: announced with its length and hash, then put with exactly those bytes.
//!
//! **What always holds.** A grant stores the announced bytes and no others; a put whose answer was lost is repeated
//! with the same bytes; a name that is taken is told and not touched. Announcements of three milliseconds become one
//! call of at most 256. **Where it is tested.** `tests/stores`, `tests/server`.
use super::{Core, address, store_error};
use crate::StorageError;
use crate::backoff::pause;
use backupengine_api::{Announced, ChangeEnvelopes, GRANTS_MAX, Opaque, PutEnvelope, PutGrant, WantPuts, op};
use backupengine_store::{BlobKey, EnvelopeId, ErrorKind, Finished, Spool, StoreError};
use reqwest::{Body, RequestBuilder, Response, StatusCode};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

/// How long announcements are gathered.
const GATHER: Duration = Duration::from_millis(3);
/// What the system may take from a body before it is on its way, in bytes: nothing is seen to move until it is sent.
const TAKEN: u64 = 4 << 20;
/// How slowly that may be sent, in bytes a second.
const SLOWEST: u64 = 32 << 10;
/// Bytes of a body that are read at a time: each read goes to another thread and back.
const PIECE: usize = 256 << 10;
/// Largest envelope, in bytes.
const ENVELOPE_MAX: u64 = 64 << 10;

type Waiting = (Announced, oneshot::Sender<Result<PutGrant, StoreError>>);

/// Blobs that are about to be put, by session.
#[derive(Default)]
pub(crate) struct Announcements {
    waiting: Mutex<BTreeMap<u32, Vec<Waiting>>>,
}

impl Announcements {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Vec<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a grant for a blob is got.
enum Ask {
    /// A pack or root of a session.
    Blob(u32, Announced),
    /// A key envelope; true where it may be there already, if it is the same.
    Envelope(PutEnvelope, bool),
    /// The copy of an envelope that a change adds: which of them.
    Copy(ChangeEnvelopes, usize),
}

/// How one try ended.
enum Ended {
    /// Storage does not take the grant (any more).
    Refused(u16),
    /// The name is taken.
    Taken,
    /// It may go well in a moment; it may have happened.
    MayPass(StoreError),
    /// It will not.
    Final(StoreError),
}

impl Core {
    /// Puts a finished spool under its name.
    pub(crate) async fn put_blob(self: &Arc<Self>, key: BlobKey, spool: Spool) -> Result<(), StoreError> {
        let finished = Arc::new(spool.into_finished().map_err(|error| error.about(key))?);
        if let BlobKey::Envelope(id) = key {
            // What an envelope is stands in it; the control plane's words for it are for people.
            let sealed = whole(&finished).map_err(|error| error.about(key))?;
            return self.put_envelope(id, 1, "passphrase".to_owned(), sealed, false).await;
        }
        let (kind, session, number) = match key {
            BlobKey::Pack(session, number) => ("pack", session, number),
            BlobKey::Root(session) => ("root", session, 0),
            BlobKey::Envelope(_) => return Ok(()),
        };
        let hashed = Arc::clone(&finished);
        let sha256 = spawn_blocking(move || hash(&hashed)).await;
        let sha256 = sha256.unwrap_or_else(|_| Err(StoreError::new(ErrorKind::Io, "hashing broke off")));
        let announced = Announced {
            kind: kind.to_owned(),
            number,
            length: finished.len(),
            sha256: Opaque(sha256.map_err(|error| error.about(key))?.to_vec()),
            md5: None,
        };
        self.put_tried(key, &finished, Ask::Blob(session.0, announced)).await
    }

    /// The copy of an envelope that a change adds.
    pub(super) async fn put_copy(
        self: &Arc<Self>,
        request: &ChangeEnvelopes,
        at: usize,
        id: EnvelopeId,
        sealed: &[u8],
    ) -> Result<(), StoreError> {
        let mut spool = self.spools.spool()?;
        std::io::Write::write_all(&mut spool, sealed).map_err(StoreError::from)?;
        let finished = spool.into_finished()?;
        self.put_tried(BlobKey::Envelope(id), &finished, Ask::Copy(request.clone(), at)).await
    }

    /// Row and copy of a key envelope; it may be there `again`, if it is the same.
    pub(crate) async fn put_envelope(
        self: &Arc<Self>,
        id: EnvelopeId,
        epoch: u32,
        kind: String,
        sealed: Vec<u8>,
        again: bool,
    ) -> Result<(), StoreError> {
        let key = BlobKey::Envelope(id);
        let mut spool = self.spools.spool()?;
        std::io::Write::write_all(&mut spool, &sealed).map_err(StoreError::from)?;
        let finished = spool.into_finished()?;
        let digest: [u8; 32] = Sha256::digest(&sealed).into();
        let name = key.to_string();
        let request = PutEnvelope {
            vault: self.vault,
            id: name.trim_start_matches("k/").to_owned(),
            epoch,
            kind,
            sealed: Opaque(sealed),
            sha256: Opaque(digest.to_vec()),
            // The same envelope again is the same call; the same bytes under another id are another one.
            idem: Sha256::digest([&digest[..], &id.0].concat()).iter().map(|b| format!("{b:02x}")).collect(),
        };
        let done = self.put_tried(key, &finished, Ask::Envelope(request, again)).await;
        self.answers.forget();
        done
    }

    async fn put_grant(self: &Arc<Self>, key: BlobKey, ask: &Ask) -> Result<PutGrant, StoreError> {
        let granted = match ask {
            Ask::Blob(session, announced) => self.announce(*session, announced.clone()).await,
            Ask::Envelope(request, _) => {
                self.account.ask::<op::EnvelopePut>(request).await.map_err(store_error)
            }
            Ask::Copy(request, at) => {
                let answer = self.account.ask::<op::EnvelopeChange>(request).await.map_err(store_error);
                answer.and_then(|answer| answer.grants.into_iter().nth(*at).ok_or_else(no_grant))
            }
        };
        granted.map_err(|error| error.about(key))
    }

    async fn put_tried(
        self: &Arc<Self>,
        key: BlobKey,
        finished: &Finished,
        ask: Ask,
    ) -> Result<(), StoreError> {
        let (mut renewed, mut lost, mut tries) = (false, false, 0);
        let mut granted = self.put_grant(key, &ask).await?;
        loop {
            self.puts.fetch_add(1, Ordering::Relaxed);
            let ended = match self.put_once(&granted, finished).await {
                Ok(()) => return Ok(()),
                Err(ended) => ended,
            };
            match ended {
                // A grant is for the announced bytes alone: those are the ones that are there. Either the answer to
                // our own was lost, or an envelope is put again.
                Ended::Taken if lost || matches!(ask, Ask::Envelope(_, true) | Ask::Copy(..)) => {
                    return Ok(());
                }
                Ended::Taken => {
                    return Err(StoreError::new(ErrorKind::AlreadyExists, "it is stored already").about(key));
                }
                Ended::Refused(_) if !renewed => {
                    renewed = true;
                    granted = self.put_grant(key, &ask).await?;
                }
                Ended::Refused(status) => {
                    return Err(StorageError::Refused(status).told().about(key));
                }
                Ended::Final(error) => return Err(error.about(key)),
                Ended::MayPass(error) => {
                    (lost, tries) = (true, tries + 1);
                    if tries >= self.config.tries {
                        return Err(error.about(key));
                    }
                    tokio::time::sleep(pause(tries, None)).await;
                }
            }
        }
    }

    async fn put_once(&self, granted: &PutGrant, finished: &Finished) -> Result<(), Ended> {
        let file = finished.open_file().map_err(Ended::Final)?;
        // Shares its place with the file that is sent.
        let place = file.try_clone().map_err(|error| Ended::Final(error.into()))?;
        let body = Body::wrap_stream(ReaderStream::with_capacity(tokio::fs::File::from_std(file), PIECE));
        let url = address(&granted.url).map_err(Ended::Final)?;
        let mut request = self.http.put(url).header("content-length", finished.len()).body(body);
        for (name, value) in &granted.headers {
            request = request.header(name, value);
        }
        let limit = patience(self.config.timeout, finished.len());
        let status = moving(request, &place, limit).await?.status();
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::PRECONDITION_FAILED => Err(Ended::Taken),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST => {
                Err(Ended::Refused(status.as_u16()))
            }
            // A conflict: somebody puts the same name this moment, perhaps our own try that was cut off.
            status
                if status.is_server_error()
                    || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::CONFLICT) =>
            {
                Err(may_pass(StorageError::Status(status.as_u16())))
            }
            status => Err(Ended::Final(StorageError::Status(status.as_u16()).told())),
        }
    }

    /// A grant for one announced blob, with others that are announced now.
    async fn announce(self: &Arc<Self>, session: u32, announced: Announced) -> Result<PutGrant, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let first = {
            let mut waiting = self.announcements.lock();
            let of_session = waiting.entry(session).or_default();
            of_session.push((announced, sender));
            of_session.len() == 1
        };
        if first {
            self.runtime.spawn(Arc::clone(self).gather_puts(session));
        }
        receiver.await.unwrap_or_else(|_| {
            Err(StoreError::new(ErrorKind::Unavailable, "the call for a grant broke off"))
        })
    }

    async fn gather_puts(self: Arc<Self>, session: u32) {
        tokio::time::sleep(GATHER).await;
        let mut all = self.announcements.lock().remove(&session).unwrap_or_default();
        while !all.is_empty() {
            let rest = all.split_off(all.len().min(GRANTS_MAX as usize));
            let (blobs, waiting): (Vec<_>, Vec<_>) = std::mem::replace(&mut all, rest).into_iter().unzip();
            // One that is refused must not take the others with it.
            if blobs.len() == 1 {
                let answer = self.grants_for(session, blobs).await.map(|mut grants| grants.pop());
                for sender in waiting {
                    drop(sender.send(answer.clone().and_then(|grant| grant.ok_or_else(no_grant))));
                }
                continue;
            }
            match self.grants_for(session, blobs.clone()).await {
                Ok(grants) if grants.len() == waiting.len() => {
                    for (grant, sender) in grants.into_iter().zip(waiting) {
                        drop(sender.send(Ok(grant)));
                    }
                }
                _ => {
                    for (blob, sender) in blobs.into_iter().zip(waiting) {
                        let answer = self.grants_for(session, vec![blob]).await;
                        drop(sender.send(answer.and_then(|mut grants| grants.pop().ok_or_else(no_grant))));
                    }
                }
            }
        }
    }

    async fn grants_for(&self, session: u32, blobs: Vec<Announced>) -> Result<Vec<PutGrant>, StoreError> {
        let request = WantPuts { vault: self.vault, session, blobs };
        self.account.ask::<op::SessionUrls>(&request).await.map(|answer| answer.grants).map_err(store_error)
    }
}

/// How long nothing may be seen to move.
fn patience(limit: Duration, len: u64) -> Duration {
    limit + Duration::from_secs(len.min(TAKEN) / SLOWEST)
}

/// Sends for as long as bytes of the body are taken at all.
async fn moving(request: RequestBuilder, mut place: &File, limit: Duration) -> Result<Response, Ended> {
    let mut sending = pin!(request.send());
    let mut before = 0;
    loop {
        if let Ok(answer) = timeout(limit, &mut sending).await {
            return answer.map_err(|error| may_pass(error.into()));
        }
        let now = place.stream_position().map_err(|error| Ended::Final(error.into()))?;
        if now == before {
            return Err(may_pass(StorageError::Silent(limit)));
        }
        before = now;
    }
}

fn may_pass(error: StorageError) -> Ended {
    Ended::MayPass(error.told())
}

fn no_grant() -> StoreError {
    StoreError::new(ErrorKind::Io, "the control plane answered without a grant")
}

fn hash(finished: &Finished) -> Result<[u8; 32], StoreError> {
    let mut file = finished.open_file()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = file.read(&mut buffer).map_err(StoreError::from)?;
        if read == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(&buffer[..read]);
    }
}

fn whole(finished: &Finished) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    finished.open_file()?.take(ENVELOPE_MAX + 1).read_to_end(&mut bytes).map_err(StoreError::from)?;
    if bytes.len() as u64 > ENVELOPE_MAX {
        return Err(StoreError::new(ErrorKind::Io, "a key envelope is at most 64 KiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_with_what_the_system_takes_and_no_further() {
        let of = |len| patience(Duration::from_secs(30), len).as_secs();
        assert_eq!((of(12), of(64 << 10), of(1 << 20)), (30, 32, 62));
        assert_eq!((of(4 << 20), of(32 << 20), of(256 << 20)), (158, 158, 158));
    }
}
