//! One blob, or a part of it, from object storage.
//!
//! What always holds: what comes back has exactly the length that storage announced and the range asked for; a body
//! that is shorter, longer or of another place is an error, never bytes. Tested in `tests/server`.
use super::{Core, address};
use crate::StorageError;
use crate::backoff::pause;
use backupengine_api::Grant;
use backupengine_store::{BlobKey, ErrorKind, Got, Range, StoreError};
use bytes::{Bytes, BytesMut};
use reqwest::{Response, StatusCode};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::timeout;

/// Largest part that is read at once, in bytes: as large as a pack may be.
const LONGEST: u64 = 256 << 20;

/// How one try ended.
pub(super) enum Ended {
    /// Storage does not take the grant (any more).
    Refused(u16),
    /// It may go well in a moment.
    MayPass(StoreError),
    /// It will not.
    Final(StoreError),
}

impl Core {
    /// Fetches a part of a pack or root.
    pub(crate) async fn get_blob(self: &Arc<Self>, key: BlobKey, range: Range) -> Result<Got, StoreError> {
        if matches!(range, Range::At { len: 0, .. } | Range::Suffix(0)) {
            return Err(StoreError::new(ErrorKind::BadRange, "a range of no bytes").about(key));
        }
        let (mut renewed, mut tries) = (false, 0);
        loop {
            let grant = self.grant(key).await?;
            self.gets.fetch_add(1, Ordering::Relaxed);
            let ended = self.get_once(key, range, &grant).await;
            self.reach.learn(!matches!(ended, Err(Ended::MayPass(_))));
            match ended {
                Ok(got) => return Ok(got),
                Err(Ended::Refused(_)) if !renewed => {
                    renewed = true;
                    self.book.drop_grant(key, &grant);
                }
                Err(Ended::Refused(status)) => {
                    return Err(StorageError::Refused(status).told().about(key));
                }
                Err(Ended::Final(error)) => return Err(error.about(key)),
                Err(Ended::MayPass(error)) => {
                    tries += 1;
                    if tries >= self.config.tries {
                        return Err(error.about(key));
                    }
                    tokio::time::sleep(pause(tries, None)).await;
                }
            }
        }
    }

    pub(super) async fn get_once(&self, key: BlobKey, range: Range, grant: &Grant) -> Result<Got, Ended> {
        let mut request = self.http.get(address(grant).map_err(Ended::Final)?);
        match range {
            Range::Whole => {}
            // Some stores do not read numbers of more than 63 bits; no blob comes near.
            Range::At { offset, .. } if offset >= LONGEST => return Err(Ended::Final(outside())),
            Range::At { offset, len } => {
                let last = offset + len.min(LONGEST) - 1;
                request = request.header("range", format!("bytes={offset}-{last}"));
            }
            Range::Suffix(len) => request = request.header("range", format!("bytes=-{}", len.min(LONGEST))),
        }
        let limit = self.config.timeout;
        let answer =
            timeout(limit, request.send()).await.map_err(|_| may_pass(StorageError::Silent(limit)))?;
        let mut answer = answer.map_err(|error| may_pass(error.into()))?;
        let (offset, len, total) = placed(&answer, range)?;
        if len > LONGEST {
            return Err(Ended::Final(StoreError::new(
                ErrorKind::Io,
                format!("{len} bytes are too many for {key}"),
            )));
        }
        let mut body = BytesMut::with_capacity(usize::try_from(len).unwrap_or_default());
        loop {
            let part =
                timeout(limit, answer.chunk()).await.map_err(|_| may_pass(StorageError::Silent(limit)))?;
            match part.map_err(|error| may_pass(error.into()))? {
                Some(part) if body.len() as u64 + part.len() as u64 <= len => body.extend_from_slice(&part),
                Some(_) => return Err(wrong_length()),
                None if body.len() as u64 == len => break,
                None => return Err(wrong_length()),
            }
        }
        cut(body.freeze(), offset, total, range)
    }
}

/// Where the bytes that come lie in the blob: first, number, length of the blob.
fn placed(answer: &Response, range: Range) -> Result<(u64, u64, u64), Ended> {
    let status = answer.status();
    let length = answer.content_length();
    let no_length = || may_pass(StorageError::Untrue("it does not say how long the blob is"));
    match status {
        StatusCode::OK => length.map(|len| (0, len, len)).ok_or_else(no_length),
        StatusCode::PARTIAL_CONTENT => {
            let header = answer.headers().get("content-range").and_then(|value| value.to_str().ok());
            let (first, count, total) = header.and_then(content_range).ok_or_else(no_length)?;
            if range.resolve(total) == Some((first, count)) {
                Ok((first, count, total))
            } else {
                Err(may_pass(StorageError::Untrue("it sent another part than was asked for")))
            }
        }
        StatusCode::NOT_FOUND => {
            Err(Ended::Final(StoreError::new(ErrorKind::NotFound, "it is not in object storage")))
        }
        StatusCode::RANGE_NOT_SATISFIABLE => Err(Ended::Final(outside())),
        // Some stores call an expired grant a bad request.
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST => {
            Err(Ended::Refused(status.as_u16()))
        }
        other if other.is_server_error() || other == StatusCode::TOO_MANY_REQUESTS => {
            Err(may_pass(StorageError::Status(other.as_u16())))
        }
        other => Err(Ended::Final(StorageError::Status(other.as_u16()).told())),
    }
}

/// A store that sent the whole blob although a part was asked for.
fn cut(body: Bytes, offset: u64, total: u64, range: Range) -> Result<Got, Ended> {
    let bad = || Ended::Final(outside());
    let (first, count) = range.resolve(total).ok_or_else(bad)?;
    if (first, count) == (offset, body.len() as u64) {
        return Ok(Got { bytes: body, offset, total });
    }
    let from = usize::try_from(first - offset).map_err(|_| bad())?;
    let to = from + usize::try_from(count).map_err(|_| bad())?;
    if to > body.len() {
        return Err(wrong_length());
    }
    Ok(Got { bytes: body.slice(from..to), offset: first, total })
}

/// First, number and total of `bytes a-b/total`.
fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total): (u64, u64, u64) =
        (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first <= last && last < total).then(|| (first, last - first + 1, total))
}

fn may_pass(error: StorageError) -> Ended {
    Ended::MayPass(error.told())
}

fn outside() -> StoreError {
    StoreError::new(ErrorKind::BadRange, "the range lies outside the blob")
}

fn wrong_length() -> Ended {
    may_pass(StorageError::Untrue("it sent another length than it announced"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_parts_are_read() {
        assert_eq!(content_range("bytes 0-9/10"), Some((0, 10, 10)));
        assert_eq!(content_range("bytes 4-4/10"), Some((4, 1, 10)));
        for bad in [
            "bytes 0-10/10",
            "bytes 5-4/10",
            "bytes */10",
            "0-9/10",
            "bytes 0-9/*",
            "bytes 0-18446744073709551615/1",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_whole_blob_is_cut_to_the_part() {
        let whole = || Bytes::from_static(b"0123456789");
        let cut =
            |range| cut(whole(), 0, 10, range).ok().map(|got| (got.offset, got.bytes.to_vec(), got.total));
        assert_eq!(cut(Range::At { offset: 2, len: 3 }), Some((2, b"234".to_vec(), 10)));
        assert_eq!(cut(Range::Suffix(4)), Some((6, b"6789".to_vec(), 10)));
        assert_eq!(cut(Range::Whole), Some((0, b"0123456789".to_vec(), 10)));
        assert_eq!(cut(Range::At { offset: 10, len: 1 }), None);
    }
}
