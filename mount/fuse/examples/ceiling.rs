//! How fast a mount can be at all on this machine: a folder, read into memory whole, then shown by FUSE with the
//! kernel settings of our own mount. `scripts/bench --ceiling` measures it beside the tools.
//!
//! What it may not do: fetch, open, decompress, look anything up by more than an index, or copy a byte. So what
//! is slower than this is ours, and what is not is the kernel's way through user space. Not part of the product.
//!
//!     ceiling FOLDER MOUNTPOINT        serves until it is unmounted

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyXattr, Request, Session,
};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The same as in our mount (`shell.rs`, `serve.rs`).
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
const GENERATION: Generation = Generation(0);
const BACKGROUND: u16 = 64;
const THREADS: usize = 8;
const READ_AHEAD_KIB: &str = "1024";

struct Node {
    attr: FileAttr,
    parent: usize,
    /// Of a file its bytes, of a link its target.
    bytes: Vec<u8>,
    children: Vec<(OsString, usize)>,
    by_name: HashMap<OsString, usize>,
}

/// The tree; the inode number of a node is its place here and one more.
struct Tree(Vec<Node>);

impl Tree {
    fn of(folder: &Path) -> io::Result<Self> {
        let mut tree = Tree(Vec::new());
        tree.add(folder, 0)?;
        Ok(tree)
    }

    fn add(&mut self, path: &Path, parent: usize) -> io::Result<usize> {
        let meta = fs::symlink_metadata(path)?;
        let place = self.0.len();
        let kind = kind(&meta);
        let bytes = match kind {
            FileType::RegularFile => fs::read(path)?,
            FileType::Symlink => fs::read_link(path)?.as_os_str().as_bytes().to_vec(),
            _ => Vec::new(),
        };
        let attr = attr(place, kind, &meta);
        self.0.push(Node { attr, parent, bytes, children: Vec::new(), by_name: HashMap::new() });
        if kind == FileType::Directory {
            let mut names: Vec<_> =
                fs::read_dir(path)?.map(|entry| entry.map(|e| e.file_name())).collect::<Result<_, _>>()?;
            names.sort();
            for name in names {
                let child = self.add(&path.join(&name), place)?;
                self.0[place].children.push((name.clone(), child));
                self.0[place].by_name.insert(name, child);
            }
        }
        Ok(place)
    }

    fn node(&self, ino: INodeNo) -> Option<&Node> {
        self.0.get(usize::try_from(ino.0).ok()?.checked_sub(1)?)
    }

    /// What a listing shows: itself, its parent, its children; with the place to go on from.
    fn listed(&self, ino: INodeNo, from: u64) -> impl Iterator<Item = (u64, &OsStr, &FileAttr)> {
        let node = self.node(ino);
        let dots = node
            .into_iter()
            .flat_map(|node| [(OsStr::new("."), &node.attr), (OsStr::new(".."), &self.0[node.parent].attr)]);
        let children = node.into_iter().flat_map(|node| &node.children);
        let children = children.map(|(name, place)| (name.as_os_str(), &self.0[*place].attr));
        let all = dots.chain(children).enumerate();
        all.skip(from as usize).map(|(n, (name, attr))| (n as u64 + 1, name, attr))
    }
}

fn kind(meta: &Metadata) -> FileType {
    match meta.file_type() {
        kind if kind.is_dir() => FileType::Directory,
        kind if kind.is_symlink() => FileType::Symlink,
        _ => FileType::RegularFile,
    }
}

fn attr(place: usize, kind: FileType, meta: &Metadata) -> FileAttr {
    let time: SystemTime = meta.modified().unwrap_or(UNIX_EPOCH);
    FileAttr {
        ino: INodeNo(place as u64 + 1),
        size: meta.size(),
        blocks: meta.blocks(),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm: (meta.mode() & 0o7777) as u16,
        nlink: meta.nlink() as u32,
        uid: meta.uid(),
        gid: meta.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Tree {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_MAX_PAGES
            | InitFlags::FUSE_NO_OPEN_SUPPORT
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        let offered = config.capabilities();
        config.add_capabilities(wanted & offered).map_err(|_| io::ErrorKind::Unsupported)?;
        config.set_max_background(BACKGROUND).map_err(|_| io::ErrorKind::Unsupported)?;
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.node(parent).and_then(|node| node.by_name.get(name)) {
            Some(&place) => reply.entry(&FOREVER, &self.0[place].attr, GENERATION),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.node(ino) {
            Some(node) => reply.attr(&FOREVER, &node.attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.node(ino) {
            Some(node) => reply.data(&node.bytes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(node) = self.node(ino) else { return reply.error(Errno::ENOENT) };
        let from = node.bytes.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
        let to = node.bytes.len().min(from + size as usize);
        reply.data(&node.bytes[from..to]);
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        for (next, name, attr) in self.listed(ino, offset) {
            if reply.add(attr.ino, next, attr.kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        for (next, name, attr) in self.listed(ino, offset) {
            if reply.add(attr.ino, next, name, &FOREVER, attr, GENERATION) {
                break;
            }
        }
        reply.ok();
    }

    fn listxattr(&self, _req: &Request, _ino: INodeNo, size: u32, reply: ReplyXattr) {
        if size == 0 { reply.size(0) } else { reply.data(&[]) }
    }

    fn getxattr(&self, _req: &Request, _ino: INodeNo, _name: &OsStr, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENODATA);
    }
}

fn main() -> io::Result<()> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [folder, mountpoint] = words.as_slice() else {
        eprintln!("ceiling: a folder and a mountpoint are wanted");
        std::process::exit(2);
    };
    let tree = Tree::of(Path::new(folder))?;
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::DefaultPermissions,
        MountOption::FSName("ceiling".to_owned()),
    ];
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    let served = Session::new(tree, Path::new(mountpoint), &config)?.spawn()?;
    let device = fs::metadata(mountpoint)?.dev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    fs::write(format!("/sys/class/bdi/{device}/read_ahead_kb"), READ_AHEAD_KIB)?;
    served.join()
}
