//! What a check finds: which object, what about it, and what it costs.
//!
//! **What always holds.** One finding per object and problem, however many snapshots share the object; names
//! and paths are bytes.

use backupengine_model::{SessionNo, SnapshotId};
use backupengine_store::{BlobKey, EnvelopeId};
use std::fmt;

/// Most entries of [`Finding::affected`]; the rest is only counted.
pub const AFFECTED_MAX: usize = 10_000;

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it was found at.
    pub object: Object,
    /// What kind of trouble.
    pub problem: Problem,
    /// What happened, for a person, causes included; one line, without the object's name.
    pub detail: String,
    /// What cannot be read, or not be trusted, because of it; at most [`AFFECTED_MAX`] entries, in order of
    /// snapshots and paths. Empty where no file is harmed.
    pub affected: Vec<Affected>,
    /// Nodes affected, over all snapshots, counted also beyond [`AFFECTED_MAX`].
    pub affected_nodes: u64,
}

/// What something was found at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// The ledger.
    Ledger,
    /// All key envelopes together.
    Envelopes,
    /// One key envelope.
    Envelope(EnvelopeId),
    /// The root of the snapshot made by this session.
    Root(SessionNo),
    /// A snapshot whose parts are whole but do not fit together.
    Snapshot(SessionNo),
    /// A pack as a whole.
    Pack(SessionNo, u32),
    /// The list of a pack's frames. Files can be read without it.
    Footer(SessionNo, u32),
    /// A frame.
    Frame {
        /// The pack's session.
        session: SessionNo,
        /// The pack's number; `PackRef::ROOT` for the session's root.
        number: u32,
        /// First byte in the pack.
        offset: u32,
    },
}

impl Object {
    /// A stable name for its kind, for programs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Envelopes | Self::Envelope(_) => "envelope",
            Self::Root(_) => "root",
            Self::Snapshot(_) => "snapshot",
            Self::Pack(..) => "pack",
            Self::Footer(..) => "footer",
            Self::Frame { .. } => "frame",
        }
    }
}

/// The blob of a pack or root.
pub(crate) fn blob_of(session: SessionNo, number: u32) -> BlobKey {
    if number == backupengine_model::PackRef::ROOT {
        BlobKey::Root(session)
    } else {
        BlobKey::Pack(session, number)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Ledger => f.write_str("the ledger"),
            Self::Envelopes => f.write_str("the key envelopes"),
            Self::Envelope(id) => BlobKey::Envelope(id).fmt(f),
            Self::Root(session) => BlobKey::Root(session).fmt(f),
            Self::Snapshot(session) => write!(f, "the snapshot of session {session}"),
            Self::Pack(session, number) => blob_of(session, number).fmt(f),
            Self::Footer(session, number) => write!(f, "the footer of {}", blob_of(session, number)),
            Self::Frame { session, number, offset } => {
                write!(f, "{} at byte {offset}", blob_of(session, number))
            }
        }
    }
}

/// Kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Problem {
    /// It is not there.
    Missing,
    /// It is there and could not be read: rights, or the disk.
    Unreadable,
    /// Its bytes changed: tag, commitment, checksum or form fail.
    Damaged,
    /// Its bytes are those of something else.
    Misplaced,
    /// Not signed by a device of this vault.
    Untrusted,
    /// Whole in itself, but not what others say of it.
    Inconsistent,
}

impl Problem {
    /// A stable name, for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::Damaged => "damaged",
            Self::Misplaced => "misplaced",
            Self::Untrusted => "untrusted",
            Self::Inconsistent => "inconsistent",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Nodes of one snapshot that a finding concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affected {
    /// The snapshot's session.
    pub session: SessionNo,
    /// Its id.
    pub snapshot: SnapshotId,
    /// The node, with slashes; where `to` is given, the first that may be concerned.
    pub path: Vec<u8>,
    /// For a run of nodes whose names cannot be read: what comes after the last of them, empty where nothing
    /// does. `None` for one node.
    pub to: Option<Vec<u8>>,
    /// How many nodes; 0 where that is unknown.
    pub nodes: u64,
    /// Directories are among them: what lies below these cannot be reached by its path either, and is not
    /// counted in `nodes`.
    pub below: bool,
}

impl fmt::Display for Affected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, nodes) = (String::from_utf8_lossy(&self.path), self.nodes);
        let below = if self.below { ", and what is below them" } else { "" };
        match &self.to {
            None => write!(f, "{}:{path}", self.snapshot),
            Some(_) if nodes == 0 => write!(f, "{}: all of it", self.snapshot),
            Some(to) if to.is_empty() => write!(f, "{}: {nodes} names from {path} on{below}", self.snapshot),
            Some(to) => {
                let to = String::from_utf8_lossy(to);
                write!(f, "{}: {nodes} names between {path} and {to}{below}", self.snapshot)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::PackRef;

    #[test]
    fn findings_print_what_a_person_looks_for() {
        assert_eq!(Object::Pack(SessionNo(7), 2).to_string(), "p/00000007/00000002");
        let frame = Object::Frame { session: SessionNo(7), number: PackRef::ROOT, offset: 64 };
        assert_eq!(frame.to_string(), "r/00000007 at byte 64");
        let affected = |to: Option<&[u8]>| Affected {
            session: SessionNo(7),
            snapshot: SnapshotId([0xab; 8]),
            path: b"/a\xff".to_vec(),
            to: to.map(<[u8]>::to_vec),
            nodes: 3,
            below: true,
        };
        assert_eq!(affected(None).to_string(), "abababababababab:/a\u{fffd}");
        let run = affected(Some(b"/b")).to_string();
        assert_eq!(run, "abababababababab: 3 names between /a\u{fffd} and /b, and what is below them");
        assert!(affected(Some(b"")).to_string().ends_with(" on, and what is below them"));
        let all = Affected { nodes: 0, ..affected(Some(b"")) };
        assert_eq!(all.to_string(), "abababababababab: all of it");
    }
}
