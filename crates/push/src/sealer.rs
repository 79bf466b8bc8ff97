//! Turns plaintext into what a frame seals: codec byte and body, compressed where that pays.
//!
//! May not know where a frame will stand: the seal itself is laid on by the packer, which knows the offset.
//! What always holds: the body is never longer than the plaintext, and a zstd body states its content size.
//! Tested below.
use backupengine_format::limits::DATA_FRAME_MAX;
use backupengine_format::pack::codec;
use backupengine_seal::TAG_LEN;
use std::sync::atomic::{AtomicU32, Ordering};
use zstd::bulk::Compressor;

/// A frame before it is sealed.
#[derive(Debug)]
pub(crate) struct PlainFrame {
    /// Codec and body, with room for the tag.
    pub(crate) bytes: Vec<u8>,
    /// Length of the plaintext.
    pub(crate) plain_len: u32,
}

impl PlainFrame {
    /// Bytes it will take in a pack.
    pub(crate) fn stored_len(&self) -> u64 {
        (self.bytes.len() + TAG_LEN) as u64
    }
}

/// What is known of a file's compressibility, shared by the threads that compress its chunks. After a chunk
/// that did not compress, only every eighth is tried again.
#[derive(Default)]
pub(crate) struct Texture(AtomicU32);

const RETRY_EVERY: u32 = 8;

impl Texture {
    fn try_again(&self) -> bool {
        self.0.load(Ordering::Relaxed).is_multiple_of(RETRY_EVERY)
    }
    fn was_raw(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn was_compressible(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// One thread's compressor.
pub(crate) struct Sealer {
    zstd: Option<Compressor<'static>>,
    scratch: Vec<u8>,
}

/// A frame that shrinks to more than this share of itself is not worth the time of its neighbours.
const WORTH_PERCENT: usize = 97;

impl Sealer {
    /// With this zstd level. Where zstd cannot be set up, frames stay raw.
    pub(crate) fn new(level: i32) -> Self {
        Self { zstd: Compressor::new(level).ok(), scratch: Vec::new() }
    }

    /// One frame, compressed if that makes it smaller.
    pub(crate) fn frame(&mut self, plain: &[u8]) -> PlainFrame {
        match self.compress(plain) {
            Some(len) if len < plain.len() => packed(codec::ZSTD, &self.scratch, plain.len()),
            _ => packed(codec::RAW, plain, plain.len()),
        }
    }

    /// The frames of one chunk. The first frame is the trial for the rest.
    pub(crate) fn chunk(&mut self, plain: &[u8], texture: &Texture) -> Vec<PlainFrame> {
        let mut raw = !texture.try_again();
        let mut frames = Vec::with_capacity(plain.len().div_ceil(DATA_FRAME_MAX));
        for (index, part) in plain.chunks(DATA_FRAME_MAX).enumerate() {
            if raw {
                frames.push(packed(codec::RAW, part, part.len()));
                continue;
            }
            let frame = self.frame(part);
            if index == 0 {
                raw = frame.bytes.len() * 100 > part.len() * WORTH_PERCENT;
            }
            frames.push(frame);
        }
        if raw {
            texture.was_raw()
        } else {
            texture.was_compressible()
        }
        frames
    }

    fn compress(&mut self, plain: &[u8]) -> Option<usize> {
        let zstd = self.zstd.as_mut()?;
        self.scratch.clear();
        self.scratch.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        zstd.compress_to_buffer(plain, &mut self.scratch).ok()
    }
}

fn packed(codec: u8, body: &[u8], plain_len: usize) -> PlainFrame {
    let mut bytes = Vec::with_capacity(1 + body.len() + TAG_LEN);
    bytes.push(codec);
    bytes.extend_from_slice(body);
    PlainFrame { bytes, plain_len: plain_len as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut x = 88172645463325252u64;
        (0..len)
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                x as u8
            })
            .collect()
    }

    #[test]
    fn what_shrinks_is_compressed_and_comes_back() {
        let plain = b"abcdefgh".repeat(10_000);
        let frame = Sealer::new(3).frame(&plain);
        assert_eq!(frame.bytes[0], codec::ZSTD);
        assert!(frame.bytes.len() < plain.len() / 10);
        assert_eq!(zstd::zstd_safe::get_frame_content_size(&frame.bytes[1..]).unwrap(), Some(80_000));
        assert_eq!(zstd::bulk::decompress(&frame.bytes[1..], plain.len()).unwrap(), plain);
    }

    #[test]
    fn what_does_not_shrink_stays_as_it_is() {
        let plain = noise(1000);
        let frame = Sealer::new(3).frame(&plain);
        assert_eq!((frame.bytes[0], &frame.bytes[1..]), (codec::RAW, &plain[..]));
        assert_eq!(frame.stored_len(), 1000 + 17);
    }

    #[test]
    fn incompressible_files_are_tried_only_now_and_then() {
        let texture = Texture::default();
        let mut sealer = Sealer::new(3);
        let frames = sealer.chunk(&noise(DATA_FRAME_MAX + 10), &texture);
        assert_eq!(frames.iter().map(|f| f.plain_len).collect::<Vec<_>>(), [DATA_FRAME_MAX as u32, 10]);
        let text = vec![b'x'; 1000];
        let tried: Vec<bool> =
            (0..8).map(|_| sealer.chunk(&text, &texture)[0].bytes[0] == codec::ZSTD).collect();
        assert_eq!(tried, [false, false, false, false, false, false, false, true]);
        assert_eq!(sealer.chunk(&text, &texture)[0].bytes[0], codec::ZSTD);
    }
}
