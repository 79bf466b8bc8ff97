//! Turns plaintext into what a frame seals: codec byte and body, compressed where that pays.
//!
//! May not know where a frame will stand: the seal itself is laid on by the packer, which knows the offset.
//! What always holds: the body is never longer than the plaintext, and a zstd body states its content size.
//! Tested below.
use crate::signals::{is_even, places};
use backupengine_format::limits::DATA_FRAME_MAX;
use backupengine_format::pack::codec;
use backupengine_seal::TAG_LEN;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// What is known of a file's noise, shared by the threads that compress its chunks: whether the last frame that
/// looked like noise and was tried all the same stayed as large as it was. Then the next such frames are not
/// tried. Frames that do not look like noise always are: a disk image holds both.
#[derive(Default)]
pub(crate) struct Texture(AtomicBool);

/// Bytes looked at to tell noise: 16 places of 256.
const SAMPLE: usize = 4096;

/// Whether only repetition could make the bytes smaller: compressed or encrypted data.
fn looks_like_noise(plain: &[u8]) -> bool {
    const PLACES: usize = 16;
    plain.len() >= SAMPLE && is_even(places(plain, PLACES, SAMPLE / PLACES))
}

/// One thread's compressor.
pub(crate) struct Sealer {
    zstd: Option<Compressor<'static>>,
    harder: Option<Compressor<'static>>,
    scratch: Vec<u8>,
}

/// Noise that shrinks to more than this share of itself is not worth the time of the next.
const WORTH_PERCENT: usize = 97;

/// Levels that bundles are compressed above all else. Measured on the bench's four sets (first pushes of home folder,
/// small files and image in seconds): levels 3 and 5 store 817.9 MiB in 2.31, 0.89 and 0.82; 4 and 9 813.2 in 2.82,
/// 1.17 and 1.10; 5 and 9 813.1 in 2.90, 1.27 and 1.42; 6 and 8 812.8 in 3.69, 1.43 and 1.94. Opening takes the same.
const HARDER: i32 = 5;

impl Sealer {
    /// With this zstd level. Where zstd cannot be set up, frames stay raw.
    pub(crate) fn new(level: i32) -> Self {
        let (zstd, harder) = (Compressor::new(level).ok(), Compressor::new(level + HARDER).ok());
        Self { zstd, harder, scratch: Vec::new() }
    }

    /// One frame, compressed if that makes it smaller.
    pub(crate) fn frame(&mut self, plain: &[u8]) -> PlainFrame {
        compressed(self.zstd.as_mut(), &mut self.scratch, plain)
    }

    /// The frame of a bundle of small files.
    pub(crate) fn bundle(&mut self, plain: &[u8]) -> PlainFrame {
        compressed(self.harder.as_mut(), &mut self.scratch, plain)
    }

    /// The frames of one chunk. Each is judged for itself; see [`Texture`].
    pub(crate) fn chunk(&mut self, plain: &[u8], texture: &Texture) -> Vec<PlainFrame> {
        plain
            .chunks(DATA_FRAME_MAX)
            .map(|part| {
                let noise = looks_like_noise(part);
                if noise && texture.0.load(Ordering::Relaxed) {
                    return packed(codec::RAW, part, part.len());
                }
                let frame = self.frame(part);
                if noise {
                    let idle = frame.bytes.len() * 100 > part.len() * WORTH_PERCENT;
                    texture.0.store(idle, Ordering::Relaxed);
                }
                frame
            })
            .collect()
    }
}

fn compressed(zstd: Option<&mut Compressor<'static>>, scratch: &mut Vec<u8>, plain: &[u8]) -> PlainFrame {
    scratch.clear();
    scratch.reserve(zstd::zstd_safe::compress_bound(plain.len()));
    match zstd.and_then(|zstd| zstd.compress_to_buffer(plain, scratch).ok()) {
        Some(len) if len < plain.len() => packed(codec::ZSTD, scratch, plain.len()),
        _ => packed(codec::RAW, plain, plain.len()),
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
        assert!(Sealer::new(3).bundle(&plain).bytes.len() <= frame.bytes.len());
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
    fn noise_is_tried_once_and_text_always() {
        let texture = Texture::default();
        let mut sealer = Sealer::new(3);
        let frames = sealer.chunk(&noise(DATA_FRAME_MAX + 10), &texture);
        assert_eq!(frames.iter().map(|f| f.plain_len).collect::<Vec<_>>(), [DATA_FRAME_MAX as u32, 10]);
        assert!(texture.0.load(Ordering::Relaxed), "the next frame of noise is not tried");
        // An image goes on with text after noise: each frame is judged for itself.
        let mixed = [noise(DATA_FRAME_MAX), b"text ".repeat(20_000), noise(DATA_FRAME_MAX)].concat();
        let codecs: Vec<u8> = sealer.chunk(&mixed, &texture).iter().map(|f| f.bytes[0]).collect();
        assert_eq!(codecs, [codec::RAW, codec::ZSTD, codec::RAW]);
    }

    #[test]
    fn noise_that_repeats_is_found_out_by_trying() {
        let texture = Texture::default();
        let again = noise(DATA_FRAME_MAX / 4).repeat(8);
        let frames = Sealer::new(3).chunk(&again, &texture);
        assert!(frames.iter().all(|f| f.bytes[0] == codec::ZSTD), "half of each frame repeats the other");
    }

    #[test]
    fn only_even_bytes_look_like_noise() {
        assert!(looks_like_noise(&noise(DATA_FRAME_MAX)));
        assert!(looks_like_noise(&noise(SAMPLE)));
        assert!(!looks_like_noise(&b"some words of a text, ".repeat(1000)));
        assert!(!looks_like_noise(&noise(SAMPLE - 1)), "too short to tell");
        assert!(!looks_like_noise(&[]));
    }
}
