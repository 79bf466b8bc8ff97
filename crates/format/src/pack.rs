//! Layout of a pack: `frame* ‖ filler ‖ footer ‖ head? ‖ trailer`, padded to a Padmé length.
use crate::FormatError;
use crate::trailer::Trailer;
/// Smallest Padmé length that is not below `len` (at most 12 % more).
pub const fn padme(_len: u64) -> u64 {
    todo!()
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
pub fn lay_out(_frames: u64, _footer_len: u32, _head_len: u32, _target: Option<u64>) -> End {
    todo!()
}
/// Where the footer and the head lie in a pack of `total` bytes with this trailer: (footer offset, head offset).
///
/// # Errors
/// [`FormatError`] where the lengths do not fit.
pub fn find_end(_trailer: &Trailer, _total: u64) -> Result<(u64, u64), FormatError> {
    todo!()
}
/// A frame's plaintext starts with its codec: 0 raw, 1 zstd.
pub mod codec {
    /// Body as it is.
    pub const RAW: u8 = 0;
    /// Body is one zstd frame with its content size, window at most 1 MiB, no dictionary.
    pub const ZSTD: u8 = 1;
}
