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
use zstd::zstd_safe::{CParameter, Strategy};

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

/// What is known of a file, shared by the threads that compress its chunks.
pub(crate) struct Texture {
    /// The last frame that looked like noise and was tried all the same stayed as large as it was. Then the next such
    /// frames are not tried. Frames that do not look like noise always are: a disk image holds both.
    idle: AtomicBool,
    /// It has holes, or part of it shrank; see [`RAW_MAX`].
    mixed: AtomicBool,
}

impl Texture {
    /// Of a file of which nothing is known but whether it has holes.
    pub(crate) fn new(sparse: bool) -> Self {
        Self { idle: AtomicBool::new(false), mixed: AtomicBool::new(sparse) }
    }
}

/// Bytes looked at to tell noise: 16 places of 256.
const SAMPLE: usize = 4096;

/// Whether only repetition could make the bytes smaller: compressed or encrypted data.
fn looks_like_noise(plain: &[u8]) -> bool {
    const PLACES: usize = 16;
    plain.len() >= SAMPLE && is_even(places(plain, PLACES, SAMPLE / PLACES))
}

/// How zstd looks for repetition (its `ZSTD_compressionParameters`, without the window, which is the frame).
struct Search {
    strategy: Strategy,
    chain_log: u32,
    hash_log: u32,
    search_log: u32,
    min_match: u32,
    target: u32,
}

/// Frames of larger files: nearly what zstd does with inputs of more than 256 KiB at its level 3. Frames end right there, where
/// its tables change over to what suits small inputs, which takes twice the time. Which shortest match is best depends on
/// what the file holds, so both are tried now and then. Measured in seconds of one core and MB, for 198 MB of the bench's
/// home folder, 202 MB of its image, 174 MB of programs, libraries and sources:
/// - level 4 as it comes: 1.62 and 68.8, 0.72 and 28.6, 0.99 and 52.0
/// - level 3 as it comes: 0.90 and 70.8, 0.39 and 29.6, 0.53 and 53.0
/// - `NEAR`: 0.92 and 70.9, 0.41 and 29.6, 0.56 and 52.8
/// - `FAR`: 0.81 and 68.7, 0.37 and 28.6, 0.48 and 54.6
const NEAR: Search = Search {
    strategy: Strategy::ZSTD_dfast,
    chain_log: 16,
    hash_log: 17,
    search_log: 0,
    min_match: 4,
    target: 0,
};
const FAR: Search = Search { min_match: 6, ..NEAR };
/// One frame in so many is compressed in both ways; the one that made it smaller is taken until the next. Where that is
/// the same one as before, twice as many go by until it is tried again, up to the larger number.
const TRIED: [u32; 2] = [4, 16];

/// Bundles of small files, which have little to repeat and are much of what a home folder holds: level 8, with a hash table
/// that stays in the processor's cache. 51 MB of the bench's small files, and 55 MB of sources and documentation: 0.51 s and
/// 30.87 MB, 0.56 s and 19.74 MB; level 9 0.66 and 30.87, 0.71 and 19.60; level 4 0.31 and 31.0, 0.34 and 20.38. Opening
/// takes the same.
const BUNDLE: Search = Search {
    strategy: Strategy::ZSTD_lazy2,
    chain_log: 18,
    hash_log: 18,
    search_log: 3,
    min_match: 4,
    target: 8,
};

/// Noise that shrinks to more than this share of itself is not worth the time of the next.
const WORTH_PERCENT: usize = 97;

/// Longest frame of bytes that stay as they are, in a file that has holes or of which other parts shrink: a disk image, a
/// database, which programs read here and there. Whoever wants 4 KiB then reads, opens and keeps an eighth of a full frame:
/// 4 KiB here and there of the bench's image come 1.12 times as fast from a local disk (1.04 with 64 KiB), the whole of it
/// front to back 0.90 times (0.95). What is noise throughout (films, archives) is read front to back, and keeps full frames.
pub(crate) const RAW_MAX: usize = 32 << 10;

/// Metadata pages: they have been made small by their encoding.
const PAGE_LEVEL: i32 = 4;

fn compressor(search: &Search) -> Option<Compressor<'static>> {
    let mut made = Compressor::new(0).ok()?;
    for parameter in [
        CParameter::Strategy(search.strategy),
        CParameter::ChainLog(search.chain_log),
        CParameter::HashLog(search.hash_log),
        CParameter::SearchLog(search.search_log),
        CParameter::MinMatch(search.min_match),
        CParameter::TargetLength(search.target),
    ] {
        made.set_parameter(parameter).ok()?;
    }
    Some(made)
}

/// One thread's compressors. Where zstd cannot be set up, frames stay raw.
pub(crate) struct Sealer {
    near: Option<Compressor<'static>>,
    far: Option<Compressor<'static>>,
    bundles: Option<Compressor<'static>>,
    pages: Option<Compressor<'static>>,
    /// Whether `far` made the last frame smaller that was tried both ways.
    is_far: bool,
    /// Frames until the next trial, and from that to the one after it.
    left: u32,
    between: u32,
    scratch: Vec<u8>,
}

impl Sealer {
    /// Frames are compressed as the constants above say.
    pub(crate) fn new() -> Self {
        let [near, far, bundles] = [NEAR, FAR, BUNDLE].map(|search| compressor(&search));
        let pages = Compressor::new(PAGE_LEVEL).ok();
        Self { near, far, bundles, pages, is_far: false, left: 0, between: TRIED[0], scratch: Vec::new() }
    }

    /// The frame of a page, compressed if that makes it smaller.
    pub(crate) fn page(&mut self, plain: &[u8]) -> PlainFrame {
        compressed(self.pages.as_mut(), &mut self.scratch, plain)
    }

    /// The frame of a bundle of small files.
    pub(crate) fn bundle(&mut self, plain: &[u8]) -> PlainFrame {
        compressed(self.bundles.as_mut(), &mut self.scratch, plain)
    }

    /// A frame of a larger file.
    pub(crate) fn part(&mut self, plain: &[u8]) -> PlainFrame {
        let before = self.is_far;
        let is_tried = self.left == 0;
        let both = if is_tried { &[true, false][..] } else { &[before][..] };
        let mut best: Option<PlainFrame> = None;
        for is_far in both {
            let way = if *is_far { &mut self.far } else { &mut self.near };
            let frame = compressed(way.as_mut(), &mut self.scratch, plain);
            if best.as_ref().is_none_or(|best| frame.bytes.len() < best.bytes.len()) {
                (best, self.is_far) = (Some(frame), *is_far);
            }
        }
        if is_tried {
            self.between = if self.is_far == before { (self.between * 2).min(TRIED[1]) } else { TRIED[0] };
            self.left = self.between;
        }
        self.left -= 1;
        best.unwrap_or_else(|| packed(codec::RAW, plain, plain.len()))
    }

    /// The frames of one chunk. Each part is judged for itself; see [`Texture`].
    pub(crate) fn chunk(&mut self, plain: &[u8], texture: &Texture) -> Vec<PlainFrame> {
        let mut frames = Vec::with_capacity(plain.len().div_ceil(DATA_FRAME_MAX));
        for part in plain.chunks(DATA_FRAME_MAX) {
            let noise = looks_like_noise(part);
            let is_tried = !noise || !texture.idle.load(Ordering::Relaxed);
            let frame = is_tried.then(|| self.part(part));
            if noise && let Some(frame) = &frame {
                let idle = frame.bytes.len() * 100 > part.len() * WORTH_PERCENT;
                texture.idle.store(idle, Ordering::Relaxed);
            }
            if let Some(frame) = frame.filter(|frame| frame.bytes[0] == codec::ZSTD) {
                texture.mixed.store(true, Ordering::Relaxed);
                frames.push(frame);
                continue;
            }
            let len = if texture.mixed.load(Ordering::Relaxed) { RAW_MAX } else { DATA_FRAME_MAX };
            frames.extend(part.chunks(len).map(|part| packed(codec::RAW, part, part.len())));
        }
        frames
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
        let frame = Sealer::new().page(&plain);
        assert!(Sealer::new().bundle(&plain).bytes.len() <= frame.bytes.len());
        assert_eq!(frame.bytes[0], codec::ZSTD);
        assert!(frame.bytes.len() < plain.len() / 10);
        assert_eq!(zstd::zstd_safe::get_frame_content_size(&frame.bytes[1..]).unwrap(), Some(80_000));
        assert_eq!(zstd::bulk::decompress(&frame.bytes[1..], plain.len()).unwrap(), plain);
    }

    /// One of each kind: the first is smaller by `NEAR`, the second by `FAR`; with the smaller frame of each.
    fn kinds() -> [(Vec<u8>, Vec<u8>); 2] {
        let close: Vec<u8> = noise(60_000).iter().flat_map(|byte| [byte & 15, b'<', b'a', b'>']).collect();
        let lines: Vec<String> = noise(40_000).chunks(4).map(|b| format!("{:x?} said so; ", b)).collect();
        [(close, false), (lines.concat().into_bytes(), true)].map(|(plain, is_far)| {
            let alone = |way: &Search| compressed(compressor(way).as_mut(), &mut Vec::new(), &plain).bytes;
            let (near, far) = (alone(&NEAR), alone(&FAR));
            assert_eq!(far.len() < near.len(), is_far, "each way has its turn");
            (plain, if is_far { far } else { near })
        })
    }

    #[test]
    fn the_way_that_made_a_frame_smaller_is_taken_until_the_next_trial() {
        for (plain, best) in kinds() {
            let mut sealer = Sealer::new();
            for number in 0..=2 * TRIED[1] {
                assert_eq!(sealer.part(&plain).bytes, best, "frame {number}");
            }
        }
    }

    #[test]
    fn what_stays_the_same_is_tried_less_often_and_what_changed_more() {
        let kinds = kinds();
        let mut sealer = Sealer::new();
        // How many frames of a kind go by until it has the way that suits it.
        let mut late = |kind: usize, frames| {
            let (plain, best) = &kinds[kind];
            let is_best: Vec<bool> = (0..frames).map(|_| sealer.part(plain).bytes == *best).collect();
            let first = is_best.iter().position(|best| *best).unwrap();
            assert!(is_best[first..].iter().all(|best| *best), "once found it is kept");
            first as u32
        };
        assert_eq!(late(0, 1), 0, "the first frame is tried");
        // Eight, then sixteen, then sixteen: just after a trial the way of the kind before is kept for as long.
        assert_eq!(late(0, 8 + 16), 0);
        assert_eq!(late(1, TRIED[1]), TRIED[1] - 1);
        assert_eq!(late(0, TRIED[0]), TRIED[0] - 1, "after a change it is tried again soon");
    }

    #[test]
    fn what_does_not_shrink_stays_as_it_is() {
        let plain = noise(1000);
        let frame = Sealer::new().page(&plain);
        assert_eq!((frame.bytes[0], &frame.bytes[1..]), (codec::RAW, &plain[..]));
        assert_eq!(frame.stored_len(), 1000 + 17);
    }

    #[test]
    fn noise_is_tried_once_and_text_always() {
        let texture = Texture::new(false);
        let mut sealer = Sealer::new();
        let frames = sealer.chunk(&noise(DATA_FRAME_MAX + 10), &texture);
        assert_eq!(frames.iter().map(|f| f.plain_len).collect::<Vec<_>>(), [DATA_FRAME_MAX as u32, 10]);
        assert!(texture.idle.load(Ordering::Relaxed), "the next frame of noise is not tried");
        // An image goes on with text after noise: each frame is judged for itself.
        let text: Vec<u8> = b"text ".iter().copied().cycle().take(DATA_FRAME_MAX).collect();
        let mixed = [noise(DATA_FRAME_MAX), text, noise(DATA_FRAME_MAX + 7)].concat();
        let kinds =
            |frames: Vec<PlainFrame>| frames.iter().map(|f| (f.bytes[0], f.plain_len)).collect::<Vec<_>>();
        let (full, short) = (DATA_FRAME_MAX as u32, RAW_MAX as u32);
        let frames = sealer.chunk(&mixed, &texture);
        let bytes: Vec<u8> = frames.iter().flat_map(opened).collect();
        assert!(bytes == mixed, "nothing is lost where frames are short");
        // Once part of the file shrank, what does not is kept in short frames.
        let shorts = [(codec::RAW, short); DATA_FRAME_MAX / RAW_MAX];
        assert_eq!(
            kinds(frames),
            [&[(codec::RAW, full), (codec::ZSTD, full)][..], &shorts, &[(codec::RAW, 7)]].concat()
        );
        assert_eq!(kinds(sealer.chunk(&mixed[..DATA_FRAME_MAX], &texture)), shorts);
        // Of another file nothing is known.
        assert_eq!(kinds(sealer.chunk(&mixed[..DATA_FRAME_MAX], &Texture::new(false))), [(codec::RAW, full)]);
        assert_eq!(kinds(sealer.chunk(&mixed[..DATA_FRAME_MAX], &Texture::new(true))), shorts);
    }

    fn opened(frame: &PlainFrame) -> Vec<u8> {
        match frame.bytes[0] {
            codec::RAW => frame.bytes[1..].to_vec(),
            _ => zstd::bulk::decompress(&frame.bytes[1..], frame.plain_len as usize).unwrap(),
        }
    }

    #[test]
    fn noise_that_repeats_is_found_out_by_trying() {
        let texture = Texture::new(false);
        let again = noise(DATA_FRAME_MAX / 4).repeat(8);
        let frames = Sealer::new().chunk(&again, &texture);
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
