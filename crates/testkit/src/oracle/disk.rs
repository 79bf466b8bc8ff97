//! Oracle trees on a real disk: write them, follow their changes, compare.
//!
//! Needs a filesystem with extended attributes; owners and devices need root. What always holds:
//! [`bring_to`] touches only what differs between the two trees, so that a push sees unchanged files
//! unchanged. Tested in `oracle::tests`.

use super::compare::Leniency;
use super::content::Content;
use super::tree::{Body, FileNo, Tree, TreeNode};
use backupengine_model::{Attributes, Kind, SpanKind, Timestamp, TreePath, XattrName, allocated_blocks};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, SeekFrom, Timespec, Timestamps, XattrFlags, lgetxattr, llistxattr,
    lremovexattr, lsetxattr, mknodat, utimensat,
};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// Where a tree's name lies below `root`.
pub fn path_below(root: &Path, path: &TreePath) -> PathBuf {
    let mut out = root.to_path_buf();
    out.extend(path.components().map(OsStr::from_bytes));
    out
}

/// Writes a tree into an existing folder; the tree's "/" lends its attributes to that folder.
///
/// # Errors
/// Whatever the disk says.
pub fn write(tree: &Tree, root: &Path) -> io::Result<()> {
    bring_to(&Tree::new(), tree, root)
}

/// Makes a folder that holds `old` hold `new`, touching only what differs.
///
/// # Errors
/// Whatever the disk says.
pub fn bring_to(old: &Tree, new: &Tree, root: &Path) -> io::Result<()> {
    let root_kept = FileNo(0);
    let gone: Vec<&TreePath> =
        old.names().filter(|(path, file)| new.file_no(path) != Some(*file)).map(|(path, _)| path).collect();
    for path in gone.into_iter().rev() {
        let at = path_below(root, path);
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&at)?,
            Ok(_) => fs::remove_file(&at)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let mut there: HashMap<FileNo, PathBuf> = old
        .names()
        .filter(|(path, file)| new.file_no(path) == Some(*file))
        .map(|(path, file)| (file, path_below(root, path)))
        .collect();
    let mut settled = BTreeSet::new();
    for (path, file) in new.names() {
        let Some(node) = new.file(file) else { continue };
        let at = path_below(root, path);
        let kept = file == root_kept || old.file_no(path) == Some(file);
        // A new name of a file that stays: what it holds is what the old tree says.
        let known = kept || there.contains_key(&file);
        if !kept {
            match there.get(&file) {
                Some(existing) => fs::hard_link(existing, &at)?,
                None => create(node, &at)?,
            }
            there.entry(file).or_insert_with(|| at.clone());
        }
        let before = old.file(file).filter(|_| known);
        if before != Some(node) && settled.insert(file) {
            settle(before.map(|b| &**b), node, &at)?;
        }
    }
    // Times last and from the leaves up: everything above moved those of directories.
    let names: Vec<_> = new.names().collect();
    for (path, file) in names.into_iter().rev() {
        let Some(node) = new.file(file) else { continue };
        let at = path_below(root, path);
        if stamp(&fs::symlink_metadata(&at)?) != node.attributes.mtime {
            set_mtime(&at, node.attributes.mtime)?;
        }
    }
    Ok(())
}

fn create(node: &TreeNode, at: &Path) -> io::Result<()> {
    match (&node.body, node.attributes.kind) {
        (Body::Directory, _) => fs::create_dir(at),
        (Body::File(content), _) => fill(&File::create_new(at)?, content),
        (Body::Symlink(target), _) => symlink(OsStr::from_bytes(target), at),
        (Body::Other, kind) => {
            let file_type = match kind {
                Kind::Fifo => FileType::Fifo,
                Kind::Socket => FileType::Socket,
                Kind::BlockDevice => FileType::BlockDevice,
                _ => FileType::CharacterDevice,
            };
            Ok(mknodat(CWD, at, file_type, Mode::RUSR | Mode::WUSR, node.attributes.rdev)?)
        }
    }
}

fn fill(file: &File, content: &Content) -> io::Result<()> {
    file.set_len(content.len())?;
    content.runs().try_for_each(|(at, bytes)| file.write_all_at(bytes, at))
}

/// Brings content, owner, attributes and mode of one file to what `node` says.
fn settle(before: Option<&TreeNode>, node: &TreeNode, at: &Path) -> io::Result<()> {
    if let (Some(before), Body::File(content)) = (before, &node.body)
        && before.body != node.body
    {
        let file = File::options().write(true).truncate(true).open(at)?;
        fill(&file, content)?;
    }
    let a = &node.attributes;
    // Owner first: it takes set-user-id and capabilities away.
    let now = fs::symlink_metadata(at)?;
    if (now.uid(), now.gid()) != (a.uid, a.gid) {
        lchown(at, Some(a.uid), Some(a.gid))?;
    }
    for (name, value) in &node.xattrs {
        lsetxattr(at, OsStr::from_bytes(name), value, XattrFlags::empty())?;
    }
    for name in before.iter().flat_map(|b| b.xattrs.keys()).filter(|name| !node.xattrs.contains_key(*name)) {
        lremovexattr(at, OsStr::from_bytes(name))?;
    }
    if a.kind != Kind::Symlink {
        fs::set_permissions(at, fs::Permissions::from_mode(a.mode))?;
    }
    Ok(())
}

/// Sets the modification time (and, for want of a better one, that of access) of a name itself.
///
/// # Errors
/// Whatever the disk says.
pub fn set_mtime(at: &Path, mtime: Timestamp) -> io::Result<()> {
    let time = Timespec { tv_sec: mtime.secs, tv_nsec: i64::from(mtime.nanos) };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, at, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn stamp(found: &fs::Metadata) -> Timestamp {
    Timestamp { secs: found.mtime(), nanos: found.mtime_nsec() as u32 }
}

/// What `lstat` says, as a node would keep it. `allocated` is left out: it is compared by its holes.
pub fn attributes_of(found: &fs::Metadata) -> Attributes {
    let file_type = found.file_type();
    let kind = if file_type.is_dir() {
        Kind::Directory
    } else if file_type.is_symlink() {
        Kind::Symlink
    } else if file_type.is_fifo() {
        Kind::Fifo
    } else if file_type.is_socket() {
        Kind::Socket
    } else if file_type.is_char_device() {
        Kind::CharDevice
    } else if file_type.is_block_device() {
        Kind::BlockDevice
    } else {
        Kind::File
    };
    let device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    Attributes {
        kind,
        mode: found.mode() & 0o7777,
        uid: found.uid(),
        gid: found.gid(),
        size: found.size(),
        mtime: stamp(found),
        rdev: if device { found.rdev() } else { 0 },
        nlink: found.nlink() as u32,
        allocated: None,
        flags: Default::default(),
    }
}

/// All extended attributes of a name itself.
///
/// # Errors
/// Whatever the disk says; none where it has no extended attributes at all.
pub fn xattrs_of(at: &Path) -> io::Result<BTreeMap<XattrName, Vec<u8>>> {
    let mut names = vec![0; 65536];
    let len = match llistxattr(at, &mut names[..]) {
        Ok(len) => len,
        Err(Errno::NOTSUP) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut out = BTreeMap::new();
    for name in names[..len].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65536];
        let len = lgetxattr(at, OsStr::from_bytes(name), &mut value[..])?;
        value.truncate(len);
        out.insert(name.to_vec(), value);
    }
    Ok(out)
}

/// Runs of data and hole of an open file, as `SEEK_DATA` and `SEEK_HOLE` tell them: kind and end.
///
/// # Errors
/// Whatever the disk says.
pub fn spans_of(file: &File) -> io::Result<Vec<(SpanKind, u64)>> {
    let size = file.metadata()?.len();
    let mut out = Vec::new();
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => size,
            Err(error) => return Err(error.into()),
        };
        if data > at {
            out.push((SpanKind::Hole, data));
        }
        if data < size {
            let hole = rustix::fs::seek(file, SeekFrom::Hole(data))?;
            out.push((SpanKind::Data, hole));
            at = hole;
        } else {
            at = size;
        }
    }
    Ok(out)
}

/// Everything in which the folder `at` differs from what lies below `from` in the tree.
pub fn differences(tree: &Tree, from: &TreePath, at: &Path, leniency: Leniency) -> Vec<String> {
    let mut run = Run { tree, leniency, inodes: Default::default(), found: Vec::new() };
    run.node(from, at);
    run.found
}

struct Run<'a> {
    tree: &'a Tree,
    leniency: Leniency,
    inodes: (HashMap<FileNo, u64>, HashMap<u64, FileNo>),
    found: Vec<String>,
}

impl Run<'_> {
    fn say<T: std::fmt::Debug>(&mut self, path: &TreePath, what: &str, expected: T, actual: T) {
        if self.found.len() < 50 {
            self.found.push(format!("{path}: {what}: expected {expected:?}, got {actual:?}"));
        }
    }

    fn node(&mut self, path: &TreePath, at: &Path) {
        let (Some(node), Some(file)) = (self.tree.get(path).cloned(), self.tree.file_no(path)) else {
            return self.say(path, "name", "nothing", "something");
        };
        let found = match fs::symlink_metadata(at) {
            Ok(found) => found,
            Err(error) => return self.say(path, "lstat", "success".to_owned(), error.to_string()),
        };
        let mut expected = node.attributes.clone();
        let actual = attributes_of(&found);
        expected.allocated = None;
        expected.flags = Default::default();
        if expected.kind == Kind::Directory && self.leniency.directories {
            (expected.size, expected.mtime, expected.nlink) = (actual.size, actual.mtime, actual.nlink);
        }
        if expected != actual {
            self.say(path, "attributes", expected, actual);
        }
        if !self.leniency.blocks {
            let blocks = allocated_blocks(&node.attributes);
            if blocks != found.blocks() {
                self.say(path, "st_blocks", blocks, found.blocks());
            }
        }
        let there = *self.inodes.0.entry(file).or_insert(found.ino());
        let back = *self.inodes.1.entry(found.ino()).or_insert(file);
        if (there, back) != (found.ino(), file) {
            self.say(path, "inode", (file, there), (back, found.ino()));
        }
        let expected: BTreeMap<XattrName, Vec<u8>> =
            node.xattrs.iter().map(|(name, value)| (name.clone(), value.to_vec())).collect();
        match xattrs_of(at) {
            Ok(actual) if actual == expected => {}
            Ok(actual) => self.say(path, "xattrs", expected, actual),
            Err(error) => self.say(path, "xattrs", "success".to_owned(), error.to_string()),
        }
        match &node.body {
            Body::Directory => self.directory(path, at),
            Body::File(content) => {
                if let Err(error) = self.file(path, content, at) {
                    self.say(path, "content", "success".to_owned(), error.to_string());
                }
            }
            Body::Symlink(target) => match fs::read_link(at) {
                Ok(actual) if actual.as_os_str().as_bytes() == target => {}
                actual => self.say(path, "target", format!("{target:?}"), format!("{actual:?}")),
            },
            Body::Other => {}
        }
    }

    fn directory(&mut self, path: &TreePath, at: &Path) {
        let expected: BTreeSet<Vec<u8>> = self
            .tree
            .below(path)
            .iter()
            .filter_map(|below| {
                below.split_last().filter(|(parent, _)| parent == path).map(|(_, n)| n.to_vec())
            })
            .collect();
        let actual: io::Result<BTreeSet<Vec<u8>>> =
            fs::read_dir(at).and_then(|list| list.map(|entry| Ok(entry?.file_name().into_vec())).collect());
        match actual {
            Ok(actual) if actual == expected => {
                for name in expected {
                    self.node(&path.child(&name), &at.join(OsStr::from_bytes(&name)));
                }
            }
            Ok(actual) => {
                let missing: Vec<_> = expected.difference(&actual).collect();
                let extra: Vec<_> = actual.difference(&expected).collect();
                self.say(path, "names (missing, extra)", (vec![], vec![]), (missing, extra));
            }
            Err(error) => self.say(path, "listing", "success".to_owned(), error.to_string()),
        }
    }

    fn file(&mut self, path: &TreePath, content: &Content, at: &Path) -> io::Result<()> {
        let file = File::open(at)?;
        let mut expected = Vec::new();
        let mut offset = 0;
        while let Some(span) = content.span(offset) {
            offset += span.len;
            expected.push((span.kind, offset));
        }
        if !self.leniency.holes {
            let actual = spans_of(&file)?;
            if actual != expected {
                self.say(path, "spans", &expected, &actual);
            }
        }
        let mut start = 0;
        for (kind, end) in expected {
            // Of a hole its ends are enough, or a large one takes for ever.
            let step = if kind == SpanKind::Hole && end - start > 2 << 20 {
                end - start - (1 << 20)
            } else {
                1 << 20
            };
            while start < end {
                let len = (end - start).min(1 << 20) as usize;
                let (mut e, mut a) = (vec![0; len], vec![1; len]);
                content.read_at(start, &mut e);
                file.read_exact_at(&mut a, start)?;
                if let Some(i) = (0..len).find(|&i| e[i] != a[i]) {
                    self.say(path, &format!("byte {}", start + i as u64), e[i], a[i]);
                    return Ok(());
                }
                start += if len < 1 << 20 { len as u64 } else { step.min(end - start) };
            }
        }
        Ok(())
    }
}

/// Whether this process may give files away, which owners and devices in a tree need.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What `work` gives once nobody else changed a folder above `source` meanwhile: a snapshot holds those too, and the
/// system's temporary folder is everybody's. `work` makes itself a state to start from; it may run often.
///
/// # Panics
/// Where those folders do not come to rest.
pub fn undisturbed<T>(source: &Path, mut work: impl FnMut() -> T) -> T {
    let above = || -> Vec<_> {
        let changed = |folder: &Path| {
            let meta = std::fs::metadata(folder).expect("the folder is there");
            meta.modified().expect("folders have a time")
        };
        source.ancestors().map(changed).collect()
    };
    for _ in 0..200 {
        let before = above();
        let done = work();
        if above() == before {
            return done;
        }
    }
    panic!("the folders above {} are changed all the time", source.display());
}
