//! Names of blobs (format.md 5.1). Big-endian hex digits: names sort as numbers do.
use backupengine_model::SessionNo;
use std::fmt;
/// Number of a key envelope: 8 random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvelopeId(pub [u8; 8]);
/// Name of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobKey {
    /// `p/SSSSSSSS/NNNNNNNN`
    Pack(SessionNo, u32),
    /// `r/SSSSSSSS`
    Root(SessionNo),
    /// `k/<16 hex digits>`
    Envelope(EnvelopeId),
}
/// Families of blobs, for listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobKind {
    /// All packs of one session.
    PacksOf(SessionNo),
    /// All packs.
    Packs,
    /// All roots.
    Roots,
    /// All key envelopes.
    Envelopes,
}
impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pack(session, number) => write!(f, "p/{session}/{number:08x}"),
            Self::Root(session) => write!(f, "r/{session}"),
            Self::Envelope(id) => {
                f.write_str("k/")?;
                id.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }
    }
}
