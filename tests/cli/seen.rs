//! All that a folder shows to ordinary tools, to be held against what it showed before.
//!
//! **What it may not do.** Follow a link, or open what is no ordinary file: reading a device is no look at a tree.
//! **What always holds.** Every name below is in it, with what `lstat` says, its extended attributes, and its bytes.
//! **Where it is tested.** `account_rebuilt.rs`: other bytes of one file are another picture.

use backupengine_model::{Attributes, Kind, SpanKind, XattrName};
use backupengine_testkit::oracle::disk;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One name.
#[derive(Debug, PartialEq)]
struct Seen {
    attributes: Attributes,
    inode: u64,
    blocks: u64,
    xattrs: BTreeMap<XattrName, Vec<u8>>,
    target: Option<PathBuf>,
    /// Runs of data and holes, and the hash of all bytes.
    content: Option<(Vec<(SpanKind, u64)>, blake3::Hash)>,
}

/// A folder and everything below.
#[derive(Debug)]
pub(crate) struct Picture(BTreeMap<PathBuf, Seen>);

impl Picture {
    /// Looks at all of it.
    pub(crate) fn of(folder: &Path) -> Self {
        let mut picture = Self(BTreeMap::new());
        picture.look(folder, Path::new(""));
        picture
    }

    fn look(&mut self, folder: &Path, at: &Path) {
        let path = if at.as_os_str().is_empty() { folder.to_owned() } else { folder.join(at) };
        let found = path.symlink_metadata().unwrap();
        let attributes = disk::attributes_of(&found);
        let kind = attributes.kind;
        let seen = Seen {
            attributes,
            inode: found.ino(),
            blocks: found.blocks(),
            xattrs: disk::xattrs_of(&path).unwrap(),
            target: (kind == Kind::Symlink).then(|| path.read_link().unwrap()),
            content: (kind == Kind::File).then(|| content(&path)),
        };
        self.0.insert(at.to_owned(), seen);
        if kind == Kind::Directory {
            for entry in path.read_dir().unwrap() {
                self.look(folder, &at.join(entry.unwrap().file_name()));
            }
        }
    }

    /// How many names it has.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Every name that is not the same in both, in a line each.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let differ = names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name));
        differ.map(|name| format!("{name:?}: {:?} / {:?}", self.0.get(name), other.0.get(name))).collect()
    }
}

fn content(path: &Path) -> (Vec<(SpanKind, u64)>, blake3::Hash) {
    let mut file = File::open(path).unwrap();
    let spans = disk::spans_of(&file).unwrap();
    // Where the last run ends is where the file was left.
    std::io::Seek::rewind(&mut file).unwrap();
    let mut hash = blake3::Hasher::new();
    std::io::copy(&mut file, &mut hash).unwrap();
    (spans, hash.finalize())
}
