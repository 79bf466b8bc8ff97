//! The ends of blobs: the trailer of a pack, a whole root. Kept beside the blocks, so that what this device has of a pack
//! can be opened without asking for its trailer again, or without a network.
//!
//! **What it may not do.** Know what an end says. **What always holds.** An end is kept with the length of its blob, as
//! ``length u64 | bytes``, within one block; what does not read is none.
//! **Where it is tested.** Below, and with a disk in the reader's tests.

use backupengine_store::{BLOCK_LEN, Got};
use bytes::{Bytes, BytesMut};

/// Bytes of a blob's end that are kept at most.
const MOST: usize = BLOCK_LEN - size_of::<u64>();

/// What to keep of an end that came.
pub(crate) fn encode(got: &Got) -> Bytes {
    let kept = &got.bytes[got.bytes.len().saturating_sub(MOST)..];
    let mut out = BytesMut::with_capacity(size_of::<u64>() + kept.len());
    out.extend_from_slice(&got.total.to_le_bytes());
    out.extend_from_slice(kept);
    out.freeze()
}

/// The end that was kept.
pub(crate) fn decode(kept: &Bytes) -> Option<Got> {
    let total = u64::from_le_bytes(*kept.first_chunk()?);
    let bytes = kept.slice(size_of::<u64>()..);
    let offset = total.checked_sub(bytes.len() as u64)?;
    // In a buffer of its own, so that it can be opened in place.
    Some(Got { bytes: Bytes::copy_from_slice(&bytes), offset, total })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn got(total: usize, len: usize) -> Got {
        let blob: Bytes = (0..total).map(|n| n as u8).collect();
        Got { bytes: blob.slice(total - len..), offset: (total - len) as u64, total: total as u64 }
    }

    #[test]
    fn an_end_comes_back_with_its_place() {
        for (total, len) in [(0, 0), (64, 64), (1_000_000, 64), (1_000_000, MOST), (10, 3)] {
            let (whole, found) = (got(total, len), decode(&encode(&got(total, len))).unwrap());
            assert_eq!((found.bytes, found.offset, found.total), (whole.bytes, whole.offset, whole.total));
        }
        let long = got(200_000, 150_000);
        let found = decode(&encode(&long)).unwrap();
        assert_eq!((found.offset, found.total), (200_000 - MOST as u64, 200_000));
        assert_eq!(found.bytes, long.bytes.slice(150_000 - MOST..));
        assert!(encode(&long).len() <= BLOCK_LEN);
    }

    #[test]
    fn what_does_not_read_is_none() {
        assert!(decode(&Bytes::from_static(b"short")).is_none());
        let mut longer_than_its_blob = 3_u64.to_le_bytes().to_vec();
        longer_than_its_blob.extend(b"four");
        assert!(decode(&longer_than_its_blob.into()).is_none());
    }
}
