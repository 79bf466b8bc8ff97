//! What the bytes of a file look like from outside: readable, packed, or noise.
//!
//! Pure. May not look at more than a few KiB of a file. What always holds: encrypted bytes are [`Look::Noise`] but for one
//! file in thousands, text and tables never are. Tested below.

/// Bytes of the head that are looked at, and as many again from all over the rest.
const SAMPLE: usize = 1024;
/// Places these lie at.
const PLACES: usize = 16;

/// See the module header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Look {
    /// Too short to tell, or never looked at.
    #[default]
    Unknown = 0,
    /// Text, tables, programs: bytes of some kinds are more frequent than others.
    Plain = 1,
    /// It says at its head what it is: a picture, an archive, a document.
    Known = 2,
    /// Bytes as if drawn by lot, and nothing that says what they are.
    Noise = 3,
}

impl Look {
    /// Of the first bytes of a file, all of them where it is not large.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        if (bytes.len() as u64) < super::WITNESS_MIN {
            return Self::Unknown;
        }
        if says_what_it_is(bytes) {
            return Self::Known;
        }
        let (head, rest) = bytes.split_at(bytes.len().min(SAMPLE));
        let noise = is_even(std::iter::once(head))
            || (rest.len() >= 2 * SAMPLE && is_even(places(rest, PLACES, SAMPLE / PLACES)));
        if noise { Self::Noise } else { Self::Plain }
    }

    /// Of its two bits.
    pub(crate) fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            1 => Self::Plain,
            2 => Self::Known,
            3 => Self::Noise,
            _ => Self::Unknown,
        }
    }
}

/// So many places of so many bytes, evenly over all of it: at least as long as they are together.
pub(crate) fn places(bytes: &[u8], count: usize, len: usize) -> impl Iterator<Item = &[u8]> {
    let step = bytes.len() / count.max(1);
    (0..count).filter_map(move |place| bytes.get(place * step..place * step + len))
}

/// Whether the bytes of a sample are spread so evenly that only repetition could make them smaller: compressed or
/// encrypted data. By the sum of squared counts, which for `n` even bytes is `n + n * n / 256` and grows quickly with any
/// skew; a tenth more is let pass.
pub(crate) fn is_even<'b>(sample: impl Iterator<Item = &'b [u8]>) -> bool {
    let mut counts = [0u64; 256];
    let mut n = 0;
    for part in sample {
        n += part.len() as u64;
        for &byte in part {
            counts[usize::from(byte)] += 1;
        }
    }
    counts.iter().map(|count| count * count).sum::<u64>() * 10 < (n + n * n / 256) * 11
}

/// Heads of formats whose bytes look like noise: packed, or encrypted by their own program.
const HEADS: &[&[u8]] = &[
    // Archives and streams.
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x1f\x8b\x08",
    b"BZh",
    b"\xfd7zXZ\0",
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"\x78\x01",
    b"\x78\x5e",
    b"\x78\x9c",
    b"\x78\xda",
    b"LZIP",
    b"MSCF",
    b"xar!",
    b"!<arch>\n",
    b"hsqs",
    // Pictures, sound, film.
    b"\xff\xd8\xff",
    b"\x89PNG\r\n",
    b"GIF8",
    b"RIFF",
    b"II*\0",
    b"MM\0*",
    b"8BPS",
    b"\xff\x0a",
    b"\0\0\0\x0cJXL ",
    b"\0\0\0\x0cjP  ",
    b"ID3",
    b"\xff\xfb",
    b"\xff\xf3",
    b"\xff\xf1",
    b"\xff\xf9",
    b"OggS",
    b"fLaC",
    b"FORM",
    b"FLV\x01",
    b"\x1a\x45\xdf\xa3",
    b"\x30\x26\xb2\x75",
    b"\0\0\x01\xba",
    b"\0\0\x01\xb3",
    // Documents, fonts, programs, data.
    b"%PDF-",
    b"\xd0\xcf\x11\xe0",
    b"wOFF",
    b"wOF2",
    b"SQLite format 3\0",
    b"\x7fELF",
    b"MZ",
    b"\xca\xfe\xba\xbe",
    b"\xcf\xfa\xed\xfe",
    b"PACK",
    b"DIRC",
    b"\xfftOc",
    b"PAR1",
    b"\x89HDF\r\n",
    b"Obj\x01",
    b"KDMV",
    b"QFI\xfb",
    b"!BDN",
    // Encrypted on purpose, by its owner.
    b"-----BEGIN ",
    b"age-encryption.org/",
    b"Salted__",
    b"LUKS\xba\xbe",
    b"\0GITCRYPT\0",
    b"\x03\xd9\xa2\x9a",
    b"BORG_KEY",
    b"RCLONE\0\0",
];

fn says_what_it_is(bytes: &[u8]) -> bool {
    let at = |offset: usize, what: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(what));
    HEADS.iter().any(|head| bytes.starts_with(head))
        || at(4, b"ftyp")
        || at(4, b"moov")
        || at(257, b"ustar")
        // Packets of a transport stream.
        || [0, 188, 376].iter().all(|offset| at(*offset, b"G"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::noise;
    use proptest::prelude::*;

    #[test]
    fn only_encrypted_bytes_are_noise() {
        assert_eq!(Look::of(&noise(1, 100_000)), Look::Noise);
        assert_eq!(Look::of(&noise(1, 512)), Look::Noise);
        assert_eq!(Look::of(&noise(1, 511)), Look::Unknown);
        assert_eq!(Look::of(&b"some words of a text, ".repeat(100)), Look::Plain);
        assert_eq!(Look::of(&vec![0; 100_000]), Look::Plain);
        let hex: Vec<u8> = noise(2, 5000).iter().flat_map(|b| format!("{b:02x}").into_bytes()).collect();
        assert_eq!(Look::of(&hex), Look::Plain);
    }

    #[test]
    fn what_says_what_it_is_is_not_taken_for_noise() {
        for head in HEADS {
            assert_eq!(Look::of(&[head, &noise(3, 5000)[..]].concat()), Look::Known, "{head:?}");
        }
        let film = [b"\0\0\0\x20ftypisom", &noise(4, 5000)[..]].concat();
        assert_eq!(Look::of(&film), Look::Known);
        let zipped = zstd::bulk::compress(&b"a text that is packed ".repeat(10_000), 3).unwrap();
        let long = [&zipped[..], &noise(5, 1000)[..]].concat();
        assert_eq!(Look::of(&long), Look::Known);
    }

    /// Some encrypt the beginning alone, others leave it as it is.
    #[test]
    fn a_part_that_is_encrypted_shows() {
        let text = b"some words of a text, ".repeat(1000);
        let head = [noise(6, 4096), text.clone()].concat();
        assert_eq!(Look::of(&head), Look::Noise);
        let body = [&text[..256], &noise(7, 40_000)[..]].concat();
        assert_eq!(Look::of(&body), Look::Noise);
    }

    #[test]
    fn bits_go_both_ways() {
        for look in [Look::Unknown, Look::Plain, Look::Known, Look::Noise] {
            assert_eq!(Look::from_bits(look as u32), look);
        }
    }

    proptest! {
        #[test]
        fn noise_is_noise_whatever_its_length(seed in 1..u64::MAX, len in 1024..20_000_usize) {
            let bytes = noise(seed, len);
            prop_assert!(Look::of(&bytes) == Look::Noise || says_what_it_is(&bytes));
        }

        /// Letters, digits, whatever their order: 64 values of 256 are not even.
        #[test]
        fn text_never_is(text in proptest::collection::vec(b'0'..b'p', 512..6000)) {
            prop_assert_ne!(Look::of(&text), Look::Noise);
        }
    }
}
