//! What rests in the table beside the slots: one record of 32 bytes a slot, and one at its head.
//!
//! ```text
//! head  0 "BKEBLK01" | 8 vault 16 B | 24 slot length u32 | 28 crc32c of 0..28
//! slot  0 "BKSL" | 4 session u32 | 8 number u32 | 12 block u32, top bit: root | 16 length u32
//!       | 20 crc32c of the bytes u32 | 24 stamp u32 | 28 crc32c of 0..28             little-endian
//! ```
//! May not do I/O. What always holds: a record that does not read means an empty slot; an envelope has no name
//! here, so none rests in a cache. Tested below.

use crate::{BLOCK_LEN, BlobKey};
use backupengine_model::{SessionNo, VaultId};

/// Length of a record.
pub(super) const RECORD: usize = 32;

const HEAD_MAGIC: &[u8; 8] = b"BKEBLK01";
const SLOT_MAGIC: &[u8; 4] = b"BKSL";
/// The bit of a block's number that tells the root of a session from its packs.
const ROOT: u32 = 1 << 31;

/// Name of a block, 12 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name {
    pub(super) session: u32,
    pub(super) number: u32,
    pub(super) block: u32,
}

impl Name {
    /// `None` for what no cache holds: envelopes, because the passphrase of an old one may be known, and blocks
    /// beyond any blob.
    pub(super) fn new(key: BlobKey, block: u32) -> Option<Self> {
        if block >= ROOT {
            return None;
        }
        match key {
            BlobKey::Pack(SessionNo(session), number) => Some(Self { session, number, block }),
            BlobKey::Root(SessionNo(session)) => Some(Self { session, number: 0, block: block | ROOT }),
            BlobKey::Envelope(_) => None,
        }
    }
}

/// What the table says of a slot that holds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) name: Name,
    /// Bytes in the slot, 1 to [`BLOCK_LEN`].
    pub(super) len: u32,
    /// crc32c of these bytes.
    pub(super) sum: u32,
    /// Grows with every use that is noted, so that the order of use outlives the process.
    pub(super) stamp: u32,
}

impl Record {
    /// Whether both speak of the same bytes.
    pub(super) fn same_bytes(&self, other: &Self) -> bool {
        (self.name, self.len, self.sum) == (other.name, other.len, other.sum)
    }

    pub(super) fn encode(&self) -> [u8; RECORD] {
        let mut out = [0; RECORD];
        out[..4].copy_from_slice(SLOT_MAGIC);
        let Name { session, number, block } = self.name;
        let numbers = [session, number, block, self.len, self.sum, self.stamp];
        for (at, number) in out[4..28].chunks_exact_mut(4).zip(numbers) {
            at.copy_from_slice(&number.to_le_bytes());
        }
        sealed_by_sum(out)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != RECORD || &bytes[..4] != SLOT_MAGIC || !sum_holds(bytes) {
            return None;
        }
        let name = Name { session: number(bytes, 4), number: number(bytes, 8), block: number(bytes, 12) };
        let record = Self { name, len: number(bytes, 16), sum: number(bytes, 20), stamp: number(bytes, 24) };
        (1..=BLOCK_LEN as u32).contains(&record.len).then_some(record)
    }
}

/// The head of the table of a vault.
pub(super) fn head(vault: VaultId) -> [u8; RECORD] {
    let mut out = [0; RECORD];
    out[..8].copy_from_slice(HEAD_MAGIC);
    out[8..24].copy_from_slice(&vault.0);
    out[24..28].copy_from_slice(&(BLOCK_LEN as u32).to_le_bytes());
    sealed_by_sum(out)
}

fn sealed_by_sum(mut out: [u8; RECORD]) -> [u8; RECORD] {
    let sum = crc32c::crc32c(&out[..28]);
    out[28..].copy_from_slice(&sum.to_le_bytes());
    out
}

fn sum_holds(bytes: &[u8]) -> bool {
    number(bytes, 28) == crc32c::crc32c(&bytes[..28])
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EnvelopeId;

    fn record() -> Record {
        let name = Name::new(BlobKey::Pack(SessionNo(7), 9), 3).unwrap();
        Record { name, len: 65536, sum: 0xdead_beef, stamp: 5 }
    }

    #[test]
    fn a_record_comes_back_and_no_damaged_one_does() {
        let bytes = record().encode();
        assert_eq!(Record::decode(&bytes), Some(record()));
        for at in 0..RECORD {
            for bit in 0..8 {
                let mut bad = bytes;
                bad[at] ^= 1 << bit;
                assert_eq!(Record::decode(&bad), None, "byte {at} bit {bit}");
            }
        }
        assert_eq!(Record::decode(&[0; RECORD]), None);
        assert_eq!(Record::decode(&bytes[..31]), None);
        for len in [0, 65537] {
            assert_eq!(Record::decode(&Record { len, ..record() }.encode()), None);
        }
    }

    #[test]
    fn roots_packs_and_blocks_have_names_of_their_own_and_envelopes_none() {
        let session = SessionNo(7);
        let names = [
            Name::new(BlobKey::Root(session), 0),
            Name::new(BlobKey::Root(session), 1),
            Name::new(BlobKey::Pack(session, 0), 0),
            Name::new(BlobKey::Pack(session, 0), 1),
            Name::new(BlobKey::Pack(session, u32::MAX), 0),
            Name::new(BlobKey::Pack(SessionNo(8), 0), 0),
        ];
        for (at, name) in names.iter().enumerate() {
            assert!(name.is_some() && !names[..at].contains(name), "{name:?}");
        }
        assert_eq!(Name::new(BlobKey::Envelope(EnvelopeId([1; 8])), 0), None);
        assert_eq!(Name::new(BlobKey::Pack(session, 0), ROOT), None);
    }

    #[test]
    fn a_head_is_one_vaults() {
        assert_ne!(head(VaultId([1; 16])), head(VaultId([2; 16])));
    }
}
