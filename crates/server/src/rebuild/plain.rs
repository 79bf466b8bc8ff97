//! The few plain bytes of blobs that a rebuild reads: the trailer of a root pack (format.md 5.3) and the head of an
//! envelope. Written here once more because this program links nothing that reads a vault.
//!
//! May not trust a byte of it: whoever can write the bucket chose them. Tested below.

/// Length of a trailer.
pub(super) const TRAILER_LEN: usize = 64;
/// How deep lists in the head of an envelope may lie in each other.
const DEPTH_MAX: u8 = 4;

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Salt of a root pack, which is the snapshot's id, and the length of its head.
pub(super) fn root_trailer(bytes: &[u8], session: u32) -> Result<([u8; 8], u32), String> {
    let no_root = |why: &str| Err(format!("not a root: {why}"));
    let Ok(trailer) = <&[u8; TRAILER_LEN]>::try_from(bytes) else { return no_root("it is too short") };
    let number =
        |at: usize| u32::from_le_bytes([trailer[at], trailer[at + 1], trailer[at + 2], trailer[at + 3]]);
    if trailer[..8] != *b"BKEPACK1" {
        return no_root("it does not end in the trailer of a pack");
    }
    if number(60) != crc32c(&trailer[..60]) {
        return no_root("its trailer is damaged");
    }
    if trailer[8] != 1 || trailer[9] != 0 {
        return no_root("it was written by a newer program");
    }
    if number(12) != session || number(16) != u32::MAX {
        return no_root("it was written under another name");
    }
    let mut salt = [0; 8];
    salt.copy_from_slice(&trailer[20..28]);
    Ok((salt, number(32)))
}

/// Castagnoli's CRC, as trailers have it. Bit by bit: 60 bytes a root.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg()))
    })
}

/// Kind and epoch of an envelope that a passphrase or a recovery code opens: keys 4 and 3 of its map.
pub(super) fn envelope_head(bytes: &[u8], vault: &str) -> Result<(&'static str, u32), String> {
    let read = read_head(bytes).ok_or("not an envelope")?;
    if read.vault.map(hex).as_deref() != Some(vault) {
        return Err("an envelope of another vault".to_owned());
    }
    let epoch = read.epoch.and_then(|epoch| epoch.try_into().ok()).ok_or("an envelope without an epoch")?;
    match read.kind {
        Some(1) => Ok(("passphrase", epoch)),
        Some(2) => Ok(("recovery", epoch)),
        Some(3) => Err("an envelope for one device, which has to be approved anew".to_owned()),
        _ => Err("an envelope of a kind that this server does not know".to_owned()),
    }
}

#[derive(Default)]
struct Head<'a> {
    vault: Option<&'a [u8]>,
    epoch: Option<u64>,
    kind: Option<u64>,
}

fn read_head(bytes: &[u8]) -> Option<Head<'_>> {
    let mut rest = bytes;
    let (5, count) = start(&mut rest)? else { return None };
    let mut head = Head::default();
    for _ in 0..count {
        let (0, key) = start(&mut rest)? else { return None };
        let mut value = rest;
        skip(&mut rest, DEPTH_MAX)?;
        match (key, start(&mut value)?) {
            (2, (2, length)) => head.vault = value.get(..usize::try_from(length).ok()?),
            (3, (0, epoch)) => head.epoch = Some(epoch),
            (4, (0, kind)) => head.kind = Some(kind),
            _ => {}
        }
    }
    rest.is_empty().then_some(head)
}

/// Major type and argument of a CBOR item; no indefinite lengths.
fn start(rest: &mut &[u8]) -> Option<(u8, u64)> {
    let (&first, after) = rest.split_first()?;
    let (major, low) = (first >> 5, first & 31);
    let length = match low {
        0..=23 => 0,
        24..=27 => 1_usize << (low - 24),
        _ => return None,
    };
    let argument = after.get(..length)?;
    *rest = after.get(length..)?;
    let argument = match length {
        0 => u64::from(low),
        _ => argument.iter().fold(0, |sum, &byte| (sum << 8) | u64::from(byte)),
    };
    Some((major, argument))
}

fn skip(rest: &mut &[u8], depth: u8) -> Option<()> {
    match start(rest)? {
        (0 | 1 | 7, _) => Some(()),
        (2 | 3, length) => {
            *rest = rest.get(usize::try_from(length).ok()?..)?;
            Some(())
        }
        // Every item takes a byte at least, so a lie about the count ends with the bytes.
        (4, count) if depth > 0 => (0..count).try_for_each(|_| skip(rest, depth - 1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailer(change: impl FnOnce(&mut [u8; 64])) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..8].copy_from_slice(b"BKEPACK1");
        bytes[8] = 1;
        bytes[12] = 7;
        bytes[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        bytes[20..28].copy_from_slice(&[9; 8]);
        bytes[28] = 100;
        bytes[32] = 200;
        change(&mut bytes);
        let sum = crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    #[test]
    fn the_sum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_root_says_its_id() {
        let good = trailer(|_| ());
        assert_eq!(root_trailer(&good, 7), Ok(([9; 8], 200)));
        assert!(root_trailer(&good, 8).unwrap_err().contains("another name"));
        assert!(root_trailer(&trailer(|bytes| bytes[8] = 2), 7).unwrap_err().contains("newer"));
        assert!(root_trailer(&trailer(|bytes| bytes[16] = 0), 7).unwrap_err().contains("another name"));
        assert!(root_trailer(&good[1..], 7).is_err());
        assert!(root_trailer(&[], 7).is_err());
        for bit in 0..64 * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(root_trailer(&bad, 7).is_err(), "bit {bit}");
        }
    }

    /// {1: 1, 2: vault, 3: 258, 4: kind, 5: [131072, 3, 4], 9: h'aabb'}
    fn envelope(kind: u8) -> Vec<u8> {
        let mut bytes = vec![0xa6, 1, 1, 2, 0x50];
        bytes.extend([0x5a; 16]);
        bytes.extend([3, 0x19, 1, 2, 4, kind, 5, 0x83, 0x1a, 0, 2, 0, 0, 3, 4, 9, 0x42, 0xaa, 0xbb]);
        bytes
    }

    #[test]
    fn an_envelope_says_kind_and_epoch() {
        let vault = "5a".repeat(16);
        assert_eq!(envelope_head(&envelope(1), &vault), Ok(("passphrase", 258)));
        assert_eq!(envelope_head(&envelope(2), &vault), Ok(("recovery", 258)));
        assert!(envelope_head(&envelope(3), &vault).unwrap_err().contains("one device"));
        assert!(envelope_head(&envelope(4), &vault).unwrap_err().contains("does not know"));
        assert!(envelope_head(&envelope(1), &"5b".repeat(16)).unwrap_err().contains("another vault"));
    }

    #[test]
    fn broken_heads_are_no_envelopes() {
        let (vault, good) = ("5a".repeat(16), envelope(1));
        for length in 0..good.len() {
            assert!(envelope_head(&good[..length], &vault).is_err(), "{length}");
        }
        assert!(envelope_head(&[good.as_slice(), &[0]].concat(), &vault).is_err());
        // Lists without end, lengths beyond memory, counts that lie.
        for bad in [&[0xa1, 1, 0x9f][..], &[0xbb, 255, 255, 255, 255, 255, 255, 255, 255], &[0xa1; 4096]] {
            assert!(envelope_head(bad, &vault).is_err());
        }
        let deep = [&[0xa1, 1][..], &[0x81; 4096]].concat();
        assert!(envelope_head(&deep, &vault).is_err());
        let long = [0xa1, 1, 0x5b, 255, 255, 255, 255, 255, 255, 255, 255];
        assert!(envelope_head(&long, &vault).is_err());
        let many = [0xa1, 1, 0x9b, 255, 255, 255, 255, 255, 255, 255, 255, 0];
        assert!(envelope_head(&many, &vault).is_err());
    }
}
