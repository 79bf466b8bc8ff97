//! Layout of a pack: `frame* ‖ filler ‖ footer ‖ head? ‖ trailer`, padded so that its length says little.
//!
//! May not draw the filler's random bytes: only says how many. What always holds: what [`lay_out`] plans,
//! [`find_end`] finds. Tested below.

use crate::FormatError;
use crate::limits::{HEAD_MAX, PACK_MAX};
use crate::trailer::{TRAILER_LEN, Trailer};
use crate::varint::Cursor;

/// Smallest Padmé length that is not below `len` (at most 12 % more, mostly far less).
///
/// Padmé (Nikitin, Barman, Lueks, Underwood, Hubaux, Ford: "Reducing Metadata Leakage from Encrypted Files and
/// Communication with PURBs", PoPETs 2019, section 4): a length keeps only as many leading bits of its
/// mantissa as its exponent has bits, so it gives away O(log log) of them.
pub const fn padme(len: u64) -> u64 {
    if len < 2 {
        return len;
    }
    let exponent = len.ilog2();
    let kept = if exponent == 0 { 1 } else { exponent.ilog2() + 1 };
    let mask = (1u64 << exponent.saturating_sub(kept)) - 1;
    len.saturating_add(mask) & !mask
}

/// Where the parts behind the frames lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Random bytes between the last frame and the footer.
    pub filler: u64,
    /// Where the footer begins.
    pub footer_at: u64,
    /// Where the head begins (also when it is empty).
    pub head_at: u64,
    /// Length of the whole pack.
    pub total: u64,
}

/// Lays out the end of a pack whose frames take `frames` bytes. The whole is `target` bytes long if it fits
/// into that, else padded by [`padme`].
pub fn lay_out(frames: u64, footer_len: u32, head_len: u32, target: Option<u64>) -> End {
    let end = u64::from(footer_len) + u64::from(head_len) + TRAILER_LEN as u64;
    let least = frames + end;
    let total = target.filter(|&target| least <= target).unwrap_or_else(|| padme(least));
    let footer_at = total - end;
    End { filler: footer_at - frames, footer_at, head_at: footer_at + u64::from(footer_len), total }
}

/// Where the footer and the head lie in a pack of `total` bytes with this trailer: (footer offset, head offset).
///
/// # Errors
/// [`FormatError`] where the lengths do not fit, or the pack or its head is larger than the limit.
pub fn find_end(trailer: &Trailer, total: u64) -> Result<(u64, u64), FormatError> {
    let cursor = Cursor::new(&[], "pack");
    cursor.require(total <= PACK_MAX, "is larger than 256 MiB")?;
    // A sealed head is a little longer than what it holds: codec and tag.
    cursor.require(u64::from(trailer.head_len) <= HEAD_MAX as u64 + 64, "the head is larger than 16 MiB")?;
    let head_at = total.checked_sub(TRAILER_LEN as u64 + u64::from(trailer.head_len));
    let footer_at = head_at.and_then(|at| at.checked_sub(u64::from(trailer.footer_len)));
    match (footer_at, head_at) {
        (Some(footer_at), Some(head_at)) => Ok((footer_at, head_at)),
        _ => Err(cursor.broken("is shorter than its footer and head")),
    }
}

/// A frame's plaintext starts with its codec: 0 raw, 1 zstd.
pub mod codec {
    /// Body as it is.
    pub const RAW: u8 = 0;
    /// Body is one zstd frame with its content size, window at most 1 MiB, no dictionary.
    pub const ZSTD: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::{PackRef, SessionNo};

    #[test]
    fn padme_as_in_the_paper() {
        for (len, padded) in
            [(0, 0), (1, 1), (2, 2), (8, 8), (9, 10), (10, 10), (11, 12), (100, 104), (1000, 1024)]
        {
            assert_eq!(padme(len), padded, "{len}");
        }
        assert_eq!(padme(PACK_MAX), PACK_MAX);
        assert_eq!(padme(u64::MAX), u64::MAX - ((1 << 57) - 1));
    }

    #[test]
    fn padme_grows_little_and_settles() {
        for len in (1..200_000).chain((0..28).flat_map(|bit| [1 << bit, (1 << bit) + 1, (2 << bit) - 1])) {
            let padded = padme(len);
            assert!(padded >= len && (padded - len) * 100 <= len * 12, "{len} {padded}");
            assert_eq!(padme(padded), padded);
        }
    }

    #[test]
    fn a_head_may_be_as_long_as_its_limit_and_its_seal() {
        let pack = PackRef { session: SessionNo(1), number: 0, salt: [0; 8], epoch: 1 };
        let find = |head_len| {
            find_end(&Trailer { pack, footer_len: 1, head_len, commitment: [0; 16] }, PACK_MAX).is_ok()
        };
        assert!(find(HEAD_MAX as u32 + 64) && !find(HEAD_MAX as u32 + 65));
    }

    #[test]
    fn what_is_laid_out_is_found() {
        for (frames, footer_len, head_len, target) in [
            (0, 40, 0, None),
            (5000, 77, 0, Some(1 << 20)),
            (1 << 20, 77, 900, Some(1 << 20)),
            (12345, 1, 1, None),
        ] {
            let end = lay_out(frames, footer_len, head_len, target);
            let pack = PackRef { session: SessionNo(1), number: 0, salt: [0; 8], epoch: 1 };
            let trailer = Trailer { pack, footer_len, head_len, commitment: [0; 16] };
            assert_eq!(find_end(&trailer, end.total), Ok((end.footer_at, end.head_at)));
            assert_eq!(frames + end.filler, end.footer_at);
            assert_eq!(end.head_at + u64::from(head_len) + 64, end.total);
            assert!(end.total == padme(end.total) || Some(end.total) == target);
            assert!(find_end(&trailer, 64).is_err() && find_end(&trailer, PACK_MAX + 1).is_err());
        }
    }
}
