//! The last 64 bytes of a pack: all that stands outside the seals (FORMAT.md, *Pack*).
//!
//! May not be trusted: everything in it is bound into the seals of the frames by their additional data, so a
//! changed one opens nothing. Tested below, in `tests/golden/trailer`, and by its fuzz target.

use crate::FormatError;
use crate::varint::Cursor;
use backupengine_model::{PackRef, SessionNo};

/// Length of a trailer.
pub const TRAILER_LEN: usize = 64;

const WHAT: &str = "pack trailer";
const MAGIC: [u8; 8] = *b"BKEPACK1";
const VERSION: u8 = 1;

/// A pack's trailer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Which pack this is.
    pub pack: PackRef,
    /// Bytes of the sealed footer.
    pub footer_len: u32,
    /// Bytes of the sealed head between footer and trailer; 0 where there is none.
    pub head_len: u32,
    /// Key commitment.
    pub commitment: [u8; 16],
}

impl Trailer {
    /// The 64 bytes.
    pub fn encode(&self) -> [u8; TRAILER_LEN] {
        let mut out = [0; TRAILER_LEN];
        out[0..8].copy_from_slice(&MAGIC);
        out[8] = VERSION;
        out[10..12].copy_from_slice(&self.pack.epoch.to_le_bytes());
        out[12..16].copy_from_slice(&self.pack.session.0.to_le_bytes());
        out[16..20].copy_from_slice(&self.pack.number.to_le_bytes());
        out[20..28].copy_from_slice(&self.pack.salt);
        out[28..32].copy_from_slice(&self.footer_len.to_le_bytes());
        out[32..36].copy_from_slice(&self.head_len.to_le_bytes());
        out[36..52].copy_from_slice(&self.commitment);
        let sum = crc32c::crc32c(&out[..60]);
        out[60..64].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads exactly [`TRAILER_LEN`] bytes.
    ///
    /// # Errors
    /// [`FormatError`] for a wrong magic, version, checksum, session 0, no footer, or non-zero spare bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(bytes, WHAT);
        cursor.require(bytes.len() == TRAILER_LEN, "is not 64 bytes long")?;
        let magic: [u8; 8] = cursor.array()?;
        cursor.require(magic == MAGIC, "does not begin with the magic of a pack")?;
        let (version, flags) = (cursor.u8()?, cursor.u8()?);
        let epoch = u16::from_le_bytes(cursor.array()?);
        let session = SessionNo(u32::from_le_bytes(cursor.array()?));
        let number = u32::from_le_bytes(cursor.array()?);
        let pack = PackRef { session, number, salt: cursor.array()?, epoch };
        let footer_len = u32::from_le_bytes(cursor.array()?);
        let head_len = u32::from_le_bytes(cursor.array()?);
        let commitment = cursor.array()?;
        let spare: [u8; 8] = cursor.array()?;
        let sum = u32::from_le_bytes(cursor.array()?);
        // The checksum first: a damaged version byte is damage, not a newer version.
        cursor.require(sum == crc32c::crc32c(&bytes[..60]), "the checksum is wrong")?;
        if version != VERSION {
            return Err(FormatError::TooNew { what: WHAT, feature: format!("container version {version}") });
        }
        if flags != 0 {
            return Err(FormatError::TooNew { what: WHAT, feature: format!("container flags {flags:#04x}") });
        }
        cursor.require(spare == [0; 8], "spare bytes are not zero")?;
        cursor.require(session.0 != 0, "session 0 does not exist")?;
        cursor.require(footer_len != 0, "there is no footer")?;
        Ok(Self { pack, footer_len, head_len, commitment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Trailer {
        Trailer {
            pack: PackRef { session: SessionNo(7), number: 3, salt: [9; 8], epoch: 1 },
            footer_len: 100,
            head_len: 0,
            commitment: [5; 16],
        }
    }

    #[test]
    fn every_bit_is_covered() {
        let bytes = example().encode();
        assert_eq!(Trailer::decode(&bytes), Ok(example()));
        for bit in 0..TRAILER_LEN * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Trailer::decode(&damaged).is_err(), "bit {bit}");
        }
        assert!(Trailer::decode(&bytes[1..]).is_err());
    }

    #[test]
    fn a_newer_container_is_told_from_damage() {
        let mut bytes = example().encode();
        bytes[8] = 2;
        assert!(matches!(Trailer::decode(&bytes), Err(FormatError::Broken { .. })));
        let sum = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&sum.to_le_bytes());
        assert!(matches!(Trailer::decode(&bytes), Err(FormatError::TooNew { .. })));
    }
}
