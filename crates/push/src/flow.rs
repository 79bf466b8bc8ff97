//! What travels between the stages: from the walk to the readers, and from both to the assembler.
//!
//! **What it is.** The assembler receives [`Event`]s in the order of the walk. What has to be read is read by
//! other threads meanwhile; its result waits behind a [`Ticket`] at its place in that order.
//! **What it may not do.** Hold logic.
//! **What always holds.** Values move forward; nothing calls back.
use crate::budget::Share;
use crate::dedup::Seen;
use crate::sealer::{PlainFrame, Texture};
use crate::signals::{Look, Past};
use backupengine_format::page::{Content, Xattr};
use backupengine_model::{Attributes, Class, ContentId, FrameRef, NodeFlags, TreePath};
use backupengine_source::{Identity, Notice};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// An answer that is on its way.
pub(crate) type Ticket<T> = Receiver<T>;

/// Makes a ticket and what answers it.
pub(crate) fn ticket<T>() -> (Sender<T>, Ticket<T>) {
    crossbeam_channel::bounded(1)
}

/// A node as the walk saw it, with what is known of its content.
pub(crate) struct Draft {
    pub(crate) parent: Arc<TreePath>,
    pub(crate) name: Vec<u8>,
    pub(crate) real: Arc<PathBuf>,
    pub(crate) attributes: Attributes,
    pub(crate) identity: Identity,
    pub(crate) xattrs: XattrDraft,
    pub(crate) content: ContentDraft,
    pub(crate) link: LinkDraft,
    /// Keyed hash of its key where it is known already.
    pub(crate) key_hash: Option<u64>,
    /// What its bytes look like, once that is known.
    pub(crate) look: Look,
    /// What is known of its past.
    pub(crate) past: Past,
}

impl Draft {
    pub(crate) fn class(&self) -> Class {
        match self.attributes.kind {
            backupengine_model::Kind::Directory => Class::Directory,
            _ => Class::Other,
        }
    }

    /// Where it is on this system.
    pub(crate) fn real_path(&self) -> PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        self.real.join(std::ffi::OsStr::from_bytes(&self.name))
    }
}

/// Extended attributes of a draft.
pub(crate) enum XattrDraft {
    /// Taken over from the parent.
    Ready(Arc<[Xattr]>),
    /// As the source gave them; large values are yet to be stored.
    Raw(Arc<[(Vec<u8>, Vec<u8>)]>),
}

/// Content of a draft.
pub(crate) enum ContentDraft {
    /// Nothing to read.
    Ready(Content),
    /// The next result of the group it is in.
    Read,
    /// That of the first name of a hard-linked file.
    Linked,
}

/// Hard links of a draft.
pub(crate) enum LinkDraft {
    /// One name.
    None,
    /// The first name: tells the others.
    First(Arc<LinkCell>),
    /// A later one, with the path of the first.
    Also(Arc<LinkCell>, TreePath),
}

/// What the first name of a hard-linked file turned out to be; set once it is in its page.
pub(crate) type LinkCell = OnceLock<Linked>;

/// See [`LinkCell`].
#[derive(Clone)]
pub(crate) struct Linked {
    pub(crate) content: Content,
    pub(crate) attributes: Attributes,
}

/// What the walk sends on, in order.
pub(crate) enum Event {
    /// The parent's next leaf: one of the new leaves may turn out equal.
    ParentLeaf { class: Class, first_key: Vec<u8>, frame: FrameRef, encoded: Bytes },
    /// Nodes, and the results for those of them that are read.
    Group { drafts: Vec<Draft>, reads: Option<Ticket<Vec<FileRead>>>, share: Vec<Share> },
    /// A large file begins: its runs follow, then its end.
    StreamBegin(Box<Draft>),
    /// A hole of the large file.
    StreamHole(u64),
    /// A chunk of it.
    StreamChunk(Ticket<ChunkOut>, Share),
    /// It changed meanwhile and is read again from the start.
    StreamRestart,
    /// It is complete, or not to be had.
    StreamEnd(Result<StreamEnd, Notice>),
    /// The walk is complete. Without this event nothing is committed.
    End,
}

/// How a large file ended.
pub(crate) struct StreamEnd {
    pub(crate) attributes: Attributes,
    pub(crate) identity: Identity,
    pub(crate) flags: NodeFlags,
    pub(crate) look: Look,
}

/// What a reader made of one file.
pub(crate) type FileRead = Result<ReadFile, Notice>;

/// A file that was read.
pub(crate) struct ReadFile {
    pub(crate) body: Body,
    /// As the file showed them when it was read; size is what was read.
    pub(crate) attributes: Attributes,
    pub(crate) identity: Identity,
    pub(crate) look: Look,
}

/// The bytes of a file that was read whole.
pub(crate) enum Body {
    /// None.
    Empty,
    /// So few that they stay in the page.
    Inline(Vec<u8>),
    /// To be bundled.
    Piece(PieceOut),
    /// Chunks and holes.
    Runs(Vec<Run>),
}

/// Bytes for a bundle.
pub(crate) struct PieceOut {
    pub(crate) id: ContentId,
    /// Whether it is long enough to be looked up.
    pub(crate) named: bool,
    /// Where it is already, as far as the reader could see.
    pub(crate) seen: Seen,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
}

/// A run of a file.
pub(crate) enum Run {
    Hole(u64),
    Chunk(ChunkOut),
}

/// A chunk, hashed and, where it is new, compressed.
pub(crate) struct ChunkOut {
    pub(crate) id: ContentId,
    pub(crate) len: u64,
    /// Where it is already, as far as the reader could see.
    pub(crate) seen: Seen,
    /// Its frames where that is not known.
    pub(crate) frames: Vec<PlainFrame>,
}

/// A file to be read whole.
pub(crate) struct ReadTask {
    pub(crate) path: PathBuf,
    /// As the walk saw it.
    pub(crate) identity: Identity,
}

/// Work for the readers.
pub(crate) enum Job {
    /// Read files.
    Read { tasks: Vec<ReadTask>, answer: Sender<Vec<FileRead>> },
    /// Hash, look up and compress a chunk of a large file.
    Chunk { bytes: Vec<u8>, texture: Arc<Texture>, answer: Sender<ChunkOut> },
    /// Compress a bundle.
    Bundle { plain: Vec<u8>, answer: Sender<PlainFrame> },
}
