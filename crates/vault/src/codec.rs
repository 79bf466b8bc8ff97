//! The codec of a frame's plaintext (format.md 5.4): one byte, then the body, raw or one zstd frame.
//!
//! **What it may not do.** Authenticate: what comes here was opened already. **What always holds.** No more is
//! allocated than the reference allows; the decoded length is exactly the one stated; buffers that held opened
//! bytes are overwritten when dropped, at the latest once the thread has answered. **Where it is tested.** Below.

use backupengine_format::limits;
use backupengine_format::pack::codec;
use backupengine_model::FrameKind;
use bytes::{Bytes, BytesMut};
use std::cell::RefCell;
use std::mem;
use zstd::bulk::Decompressor;
use zstd::zstd_safe::{find_frame_compressed_size, get_frame_content_size};

/// Largest window a writer may use, in bytes.
const WINDOW_MAX: u64 = 1 << 20;
/// What a sealed frame may be longer than its largest plaintext: codec, tag, and what zstd adds at worst.
pub(crate) const SEALED_SLACK: usize = 128 << 10;

/// Bytes that are overwritten when dropped; on a thread that answers somebody ([`answering`]) once the answer is out.
pub(crate) struct Wiped<B: Buffer>(pub(crate) B);

/// What opened bytes lie in.
pub(crate) trait Buffer: AsRef<[u8]> + AsMut<[u8]> + Default + Into<Dead> {}
impl Buffer for Vec<u8> {}
impl Buffer for BytesMut {}

impl<B: Buffer> AsRef<[u8]> for Wiped<B> {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl<B: Buffer> Drop for Wiped<B> {
    fn drop(&mut self) {
        let dead: Dead = mem::take(&mut self.0).into();
        // On a thread that is ending there is no such list, and it is wiped where it is dropped.
        let _ = WAITING.try_with(|waiting| match waiting.try_borrow_mut() {
            Ok(mut waiting) if waiting.is_on && waiting.dead.len() < DEAD_MAX => waiting.dead.push(dead),
            _ => drop(dead),
        });
    }
}

/// Bytes that nobody holds any more; overwritten when dropped.
///
/// A plain fill that the compiler may not remove: `zeroize` writes byte by byte, which would cost a third as
/// much as opening the frame did.
pub(crate) enum Dead {
    Vec(Vec<u8>),
    Bytes(BytesMut),
}

impl From<Vec<u8>> for Dead {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Vec(bytes)
    }
}

impl From<BytesMut> for Dead {
    fn from(bytes: BytesMut) -> Self {
        Self::Bytes(bytes)
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        let bytes: &mut [u8] = match self {
            Self::Vec(bytes) => bytes,
            Self::Bytes(bytes) => bytes,
        };
        bytes.fill(0);
        std::hint::black_box(&*bytes);
    }
}

/// Buffers that wait at most, for one thread: a read lets go of what it decoded from, and of a frame that has to make
/// place for the new one, seldom of more.
const DEAD_MAX: usize = 4;

/// What one thread wipes once its answer is out.
struct Waiting {
    is_on: bool,
    dead: Vec<Dead>,
}

thread_local! {
    static WAITING: RefCell<Waiting> = const { RefCell::new(Waiting { is_on: false, dead: Vec::new() }) };
}

/// From here on this thread's work is waited for: wiping is left for [`answered`].
pub(crate) fn answering() {
    WAITING.with_borrow_mut(|waiting| waiting.is_on = true);
}

/// The answer is out: wipes what waits for that.
pub(crate) fn answered() {
    WAITING.with_borrow_mut(|waiting| {
        waiting.is_on = false;
        waiting.dead.clear();
    });
}

/// Largest plaintext body of a frame of this kind, in bytes.
pub(crate) const fn plain_max(kind: FrameKind) -> usize {
    match kind {
        FrameKind::Data => limits::DATA_FRAME_MAX,
        FrameKind::Leaf | FrameKind::Index | FrameKind::Extents => limits::PAGE_MAX,
        FrameKind::ReferenceSet
        | FrameKind::Root
        | FrameKind::Footer
        | FrameKind::Forwarding
        | FrameKind::Dedup => limits::HEAD_MAX,
    }
}

/// Decodes an opened frame; `plain_len` is what its reference implies, where that says it exactly.
///
/// # Errors
/// The rule that is broken.
pub(crate) fn decode(
    kind: FrameKind,
    opened: Wiped<BytesMut>,
    plain_len: Option<usize>,
) -> Result<Bytes, &'static str> {
    let Some((&code, body)) = opened.0.split_first() else { return Err("the frame is empty") };
    let decoded = match code {
        codec::RAW => {
            let len = opened.0.len();
            if len - 1 > plain_max(kind) {
                return Err("the frame is larger than its kind allows");
            }
            Bytes::from_owner(opened).slice(1..len)
        }
        codec::ZSTD => unpack(body, plain_len, plain_max(kind))?,
        _ => return Err("the frame's codec is unknown"),
    };
    if plain_len.is_some_and(|len| len != decoded.len()) {
        return Err("the frame is not as long as its reference says");
    }
    Ok(decoded)
}

thread_local! {
    /// One context per thread: setting one up costs more than a small frame.
    static CONTEXT: RefCell<Decompressor<'static>> = RefCell::new(Decompressor::default());
}

fn unpack(body: &[u8], plain_len: Option<usize>, max: usize) -> Result<Bytes, &'static str> {
    let size = match get_frame_content_size(body) {
        Ok(Some(size)) => usize::try_from(size).unwrap_or(usize::MAX),
        Ok(None) => return Err("the compressed frame does not state its size"),
        Err(_) => return Err("the compressed frame has no valid header"),
    };
    if size > max || plain_len.is_some_and(|len| len != size) {
        return Err("the frame is not as long as its reference says");
    }
    check_header(body)?;
    if find_frame_compressed_size(body) != Ok(body.len()) {
        return Err("something follows the compressed frame");
    }
    let mut plain = Vec::with_capacity(size);
    let written = CONTEXT.with_borrow_mut(|context| context.decompress_to_buffer(body, &mut plain));
    let plain = Wiped(plain);
    match written {
        Ok(len) if len == size => Ok(Bytes::from_owner(plain)),
        _ => Err("the compressed frame does not decode"),
    }
}

/// No dictionary, and a window within the limit (RFC 8878, 3.1.1.1).
fn check_header(body: &[u8]) -> Result<(), &'static str> {
    let (Some(&descriptor), Some(&window)) = (body.get(4), body.get(5)) else {
        return Err("the compressed frame has no valid header");
    };
    if descriptor & 0b11 != 0 {
        return Err("the compressed frame wants a dictionary");
    }
    let single_segment = descriptor & 0x20 != 0;
    if !single_segment {
        let base = 1_u64 << (10 + (window >> 3));
        if base + base / 8 * u64::from(window & 7) > WINDOW_MAX {
            return Err("the compressed frame's window is too large");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(code: u8, body: &[u8]) -> Wiped<BytesMut> {
        let mut bytes = BytesMut::from(&[code][..]);
        bytes.extend_from_slice(body);
        Wiped(bytes)
    }

    fn data(code: u8, body: &[u8], len: Option<usize>) -> Result<Bytes, &'static str> {
        decode(FrameKind::Data, frame(code, body), len)
    }

    fn waiting() -> usize {
        WAITING.with_borrow(|waiting| waiting.dead.len())
    }

    #[test]
    fn wiping_waits_for_the_answer_and_no_longer() {
        drop(frame(0, b"abc"));
        assert_eq!(waiting(), 0, "nobody waits for this thread");
        answering();
        drop(data(0, b"abc", None).unwrap());
        drop(data(1, &zstd::bulk::compress(&[7; 9000], 3).unwrap(), None).unwrap());
        assert_eq!(waiting(), 3, "one raw, one that was decoded from, one that was decoded into");
        (0..10).for_each(|_| drop(frame(0, b"abc")));
        assert_eq!(waiting(), DEAD_MAX);
        answered();
        drop(frame(0, b"abc"));
        assert_eq!(waiting(), 0);
    }

    #[test]
    fn both_codecs_give_the_plain_bytes() {
        let plain = b"abcabcabc".repeat(1000);
        let packed = zstd::bulk::compress(&plain, 3).unwrap();
        assert_eq!(data(0, &plain, Some(9000)).unwrap(), plain);
        assert_eq!(data(1, &packed, Some(9000)).unwrap(), plain);
        assert_eq!(data(1, &packed, None).unwrap(), plain);
        assert!(data(0, b"", Some(0)).unwrap().is_empty());
    }

    #[test]
    fn other_lengths_are_refused() {
        let plain = vec![7; 9000];
        let packed = zstd::bulk::compress(&plain, 3).unwrap();
        for wrong in [0, 8999, 9001] {
            assert!(data(0, &plain, Some(wrong)).is_err());
            assert!(data(1, &packed, Some(wrong)).is_err());
        }
        let large = vec![0; limits::DATA_FRAME_MAX + 1];
        assert!(data(0, &large, None).is_err());
        assert!(data(1, &zstd::bulk::compress(&large, 3).unwrap(), None).is_err());
    }

    #[test]
    fn what_is_no_single_whole_frame_is_refused() {
        let packed = zstd::bulk::compress(&[7; 9000], 3).unwrap();
        let twice = [packed.as_slice(), &zstd::bulk::compress(b"", 3).unwrap()].concat();
        assert!(data(1, &twice, Some(9000)).is_err());
        assert!(data(1, &packed[..packed.len() - 1], Some(9000)).is_err());
        assert!(data(1, b"", None).is_err());
        assert!(data(2, &packed, None).is_err());
        assert!(decode(FrameKind::Data, Wiped(BytesMut::new()), None).is_err());
        let mut broken = packed.clone();
        broken[6] ^= 0xff;
        assert!(data(1, &broken, Some(9000)).is_err());
    }

    #[test]
    fn windows_and_dictionaries_beyond_the_format_are_refused() {
        // Streamed with a stated size and a long window: not a single segment.
        let plain = vec![1; 200_000];
        let streamed = |log: u32| {
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
            encoder.window_log(log).unwrap();
            encoder.set_pledged_src_size(Some(plain.len() as u64)).unwrap();
            std::io::Write::write_all(&mut encoder, &plain).unwrap();
            encoder.finish().unwrap()
        };
        assert!(data(1, &streamed(16), Some(plain.len())).is_ok());
        let mut wide = streamed(16);
        assert_eq!(wide[4] & 0x20, 0, "this encoder states a window");
        wide[5] = 11 << 3;
        assert_eq!(data(1, &wide, Some(plain.len())), Err("the compressed frame's window is too large"));
        let mut with_dictionary = streamed(16);
        with_dictionary[4] |= 1;
        assert!(data(1, &with_dictionary, Some(plain.len())).is_err());
    }
}
