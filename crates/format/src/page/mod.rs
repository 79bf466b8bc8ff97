//! Pages of a snapshot's tree (FORMAT.md, *Pages*): leaf, index, extents. Sections of columns.
//!
//! Rows in memory, columns in bytes. What always holds: encoding is deterministic, equal rows give equal
//! bytes, which is how an unchanged page is recognised; and a decoder accepts only what it would encode again
//! to the same bytes. Tested beside each kind, in `tests/golden` and `tests/formats`, and by fuzz targets.

mod extents;
mod index;
mod leaf;
mod packs;
mod runs;
mod section;

pub use extents::{ExtentPage, ExtentRows};
pub use index::{IndexChild, IndexPage, separator};
pub use leaf::{LeafEntry, LeafPage};

use backupengine_model::{FrameRef, TreePath};
use bytes::Bytes;

/// How many bytes two strings begin with in common.
fn shared_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Where the bytes of a node are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// No bytes: directories, devices, empty files.
    None,
    /// In the leaf itself (code 4): files up to 128 bytes, and link targets of any length.
    Inline(Bytes),
    /// `size` bytes from `inner` on in one bundle frame (codes 1 to 3).
    Bundle {
        /// The frame.
        frame: FrameRef,
        /// First byte in its plaintext.
        inner: u32,
    },
    /// Runs in file order (code 5); lengths add up to the size.
    Extents(Vec<Extent>),
    /// Pages of extents in file order (code 6); lengths add up to the size.
    Pages(Vec<ExtentPageRef>),
}

/// A run of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Plain bytes, at least 1; at most 256 KiB where there is a frame, any for a hole.
    pub len: u64,
    /// The frame that holds exactly these bytes; `None` is a hole.
    pub frame: Option<FrameRef>,
}

/// A page of extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentPageRef {
    /// Plain bytes below it.
    pub len: u64,
    /// Where it is.
    pub frame: FrameRef,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Xattr {
    /// Name as the kernel spells it.
    pub name: Vec<u8>,
    /// Value.
    pub value: XattrValue,
}

/// Where an attribute's value is. Large ones are content-addressed, outside the page.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum XattrValue {
    /// In the page: values up to 256 bytes.
    Inline(Vec<u8>),
    /// In a data frame.
    Stored {
        /// The frame.
        frame: FrameRef,
        /// First byte in its plaintext.
        inner: u32,
        /// Length.
        len: u32,
    },
}

/// Whether a file has more than one name in the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HardLink {
    /// Only this one, as far as the snapshot goes.
    None,
    /// This is the first name in key order.
    First,
    /// A later name; this is the path of the first.
    Also(TreePath),
}

#[cfg(test)]
mod tests {
    use backupengine_model::{FrameRef, PackRef, SessionNo};

    pub(super) fn pack(session: u32, number: u32) -> PackRef {
        PackRef { session: SessionNo(session), number, salt: [7; 8], epoch: 1 }
    }
    pub(super) fn frame(session: u32, number: u32, offset: u32, stored_len: u32) -> FrameRef {
        FrameRef { pack: pack(session, number), offset, stored_len }
    }
}
