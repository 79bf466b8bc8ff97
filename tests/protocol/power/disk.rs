//! A disk whose power can be cut: a filesystem in memory, mounted by FUSE, that knows what of it was brought to the disk.
//!
//! What it is. Files and folders have two states, as programs see them and as they were synced last: a file's bytes by
//! fsync of the file, the names in a folder by fsync of the folder, and nothing by anything else. That is less than any
//! filesystem of today keeps, and what POSIX promises.
//!
//! What it may not do. Lose what was synced. What always holds: before and after each sync the whole state is kept
//! ([`Disk::moments`]), so that the power can be cut there afterwards, any number of times and in different ways.

use backupengine_testkit::Seeded;
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, Session, TimeOrNow,
    WriteFlags,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, mem};
use tempfile::TempDir;

/// Nobody else changes anything.
const LIFETIME: Duration = Duration::from_secs(3600);
const GENERATION: Generation = Generation(0);
const TOP: u64 = 1;

type Names = BTreeMap<OsString, u64>;

#[derive(Clone)]
struct Node {
    folder: bool,
    mode: u16,
    modified: SystemTime,
    bytes: Arc<Vec<u8>>,
    names: Names,
    /// As they were synced last.
    kept_bytes: Arc<Vec<u8>>,
    kept_names: Names,
}

impl Node {
    fn new(folder: bool, mode: u32) -> Self {
        Self {
            folder,
            mode: (mode & 0o7777) as u16,
            modified: SystemTime::now(),
            bytes: Arc::default(),
            names: Names::new(),
            kept_bytes: Arc::default(),
            kept_names: Names::new(),
        }
    }

    fn attr(&self, ino: u64) -> FileAttr {
        let size = self.bytes.len() as u64;
        FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: self.modified,
            ctime: self.modified,
            crtime: UNIX_EPOCH,
            kind: if self.folder { FileType::Directory } else { FileType::RegularFile },
            perm: self.mode,
            nlink: 1 + u32::from(self.folder),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

/// All of the disk at one moment; a copy shares the bytes.
#[derive(Clone)]
struct State {
    nodes: BTreeMap<u64, Arc<Node>>,
    next: u64,
}

impl State {
    fn node(&self, ino: u64) -> Result<&Node, Errno> {
        self.nodes.get(&ino).map(|node| &**node).ok_or(Errno::ENOENT)
    }

    fn node_mut(&mut self, ino: u64) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&ino).map(Arc::make_mut).ok_or(Errno::ENOENT)
    }

    fn find(&self, parent: u64, name: &OsStr) -> Result<u64, Errno> {
        self.node(parent)?.names.get(name).copied().ok_or(Errno::ENOENT)
    }

    fn make(&mut self, parent: u64, name: &OsStr, folder: bool, mode: u32) -> Result<(u64, FileAttr), Errno> {
        if self.find(parent, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let ino = self.next;
        self.next += 1;
        let node = Node::new(folder, mode);
        let attr = node.attr(ino);
        self.nodes.insert(ino, Arc::new(node));
        self.node_mut(parent)?.names.insert(name.to_owned(), ino);
        Ok((ino, attr))
    }
}

/// What becomes of that which was not synced.
pub(crate) enum Cut<'a> {
    /// All of it is gone.
    Nothing,
    /// All of it is there: as after a kill.
    Everything,
    /// Of each name and each file for itself: it, or not, or the beginning of it with zeros behind.
    Some(&'a Seeded),
}

/// A moment at which the power may be cut.
pub(crate) struct Moment {
    state: State,
    /// How many things had been done by then: what was given to [`Disk::done`] last.
    pub(crate) done: usize,
}

impl Moment {
    /// What lies on the disk when the power is back, written to an empty folder.
    pub(crate) fn write_to(&self, cut: &Cut<'_>, folder: &Path) {
        self.write_folder(TOP, cut, folder, &mut BTreeMap::new());
    }

    fn write_folder(&self, ino: u64, cut: &Cut<'_>, to: &Path, contents: &mut BTreeMap<u64, Vec<u8>>) {
        let node = &self.state.nodes[&ino];
        for (name, ino) in names_after(node, cut) {
            let (node, path) = (&self.state.nodes[&ino], to.join(name));
            if node.folder {
                fs::create_dir(&path).unwrap();
                self.write_folder(ino, cut, &path, contents);
            } else {
                // Two names of one file show the same.
                let bytes = contents.entry(ino).or_insert_with(|| bytes_after(node, cut));
                fs::write(&path, bytes).unwrap();
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(node.mode.into())).unwrap();
        }
    }
}

fn names_after(node: &Node, cut: &Cut<'_>) -> Names {
    match cut {
        Cut::Nothing => node.kept_names.clone(),
        Cut::Everything => node.names.clone(),
        Cut::Some(random) => {
            let all: BTreeSet<&OsString> = node.names.keys().chain(node.kept_names.keys()).collect();
            let chosen = all.into_iter().filter_map(|name| {
                let (now, kept) = (node.names.get(name), node.kept_names.get(name));
                let ino = if random.below(2) == 0 { now } else { kept };
                ino.map(|ino| (name.clone(), *ino))
            });
            chosen.collect()
        }
    }
}

fn bytes_after(node: &Node, cut: &Cut<'_>) -> Vec<u8> {
    match cut {
        Cut::Nothing => node.kept_bytes.to_vec(),
        Cut::Everything => node.bytes.to_vec(),
        Cut::Some(_) if node.bytes == node.kept_bytes => node.bytes.to_vec(),
        Cut::Some(random) => match random.below(4) {
            0 => node.kept_bytes.to_vec(),
            1 => node.bytes.to_vec(),
            way => {
                let from = random.below(node.bytes.len() as u64 + 1) as usize;
                let mut bytes = node.bytes.to_vec();
                if way == 2 {
                    bytes.truncate(from);
                } else {
                    bytes[from..].fill(0);
                }
                bytes
            }
        },
    }
}

struct Shared {
    state: State,
    moments: Vec<Moment>,
    done: usize,
}

impl Shared {
    fn remember(&mut self) {
        self.moments.push(Moment { state: self.state.clone(), done: self.done });
    }
}

/// See the module header.
pub(crate) struct Disk {
    shared: Arc<Mutex<Shared>>,
    // Before its folder.
    _mounted: BackgroundSession,
    folder: TempDir,
}

impl Disk {
    /// Empty, and mounted.
    pub(crate) fn new() -> Self {
        let state = State { nodes: [(TOP, Arc::new(Node::new(true, 0o755)))].into(), next: TOP + 1 };
        let shared = Arc::new(Mutex::new(Shared { state, moments: Vec::new(), done: 0 }));
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("cut".to_owned()), MountOption::DefaultPermissions];
        config.n_threads = Some(2);
        let session = Session::new(Served(Arc::clone(&shared)), folder.path(), &config).unwrap();
        Self { shared, _mounted: session.spawn().unwrap(), folder }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// So many things are done: their outcome was told, and has to outlive whatever comes.
    pub(crate) fn done(&self, count: usize) {
        let mut shared = self.shared.lock().unwrap();
        shared.done = count;
        shared.remember();
    }

    /// What was kept so far; they begin anew.
    pub(crate) fn moments(&self) -> Vec<Moment> {
        mem::take(&mut self.shared.lock().unwrap().moments)
    }
}

struct Served(Arc<Mutex<Shared>>);

impl Served {
    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.0.lock().unwrap().state)
    }

    fn synced(&self, ino: u64, sync: impl FnOnce(&mut Node), reply: ReplyEmpty) {
        let mut shared = self.0.lock().unwrap();
        // The most that is not synced yet, and then the least.
        shared.remember();
        match shared.state.node_mut(ino) {
            Ok(node) => sync(node),
            Err(error) => return reply.error(error),
        }
        shared.remember();
        reply.ok();
    }

    fn removed(&self, parent: INodeNo, name: &OsStr, folder: bool, reply: ReplyEmpty) {
        let removed = self.with(|state| {
            let node = state.node(state.find(parent.0, name)?)?;
            match (node.folder, folder) {
                (true, false) => Err(Errno::EISDIR),
                (false, true) => Err(Errno::ENOTDIR),
                (true, true) if !node.names.is_empty() => Err(Errno::ENOTEMPTY),
                _ => state.node_mut(parent.0).map(|parent| parent.names.remove(name)),
            }
        });
        // The node stays: somebody may have it open, and a cut may bring its name back.
        match removed {
            Ok(_) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.with(|state| state.find(parent.0, name).and_then(|ino| Ok(state.node(ino)?.attr(ino)))) {
            Ok(attr) => reply.entry(&LIFETIME, &attr, GENERATION),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.with(|state| state.node(ino.0).map(|node| node.attr(ino.0))) {
            Ok(attr) => reply.attr(&LIFETIME, &attr),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let done = self.with(|state| {
            let node = state.node_mut(ino.0)?;
            if let Some(mode) = mode {
                node.mode = (mode & 0o7777) as u16;
            }
            if let Some(size) = size {
                Arc::make_mut(&mut node.bytes).resize(size as usize, 0);
            }
            match modified {
                Some(TimeOrNow::SpecificTime(time)) => node.modified = time,
                Some(TimeOrNow::Now) => node.modified = SystemTime::now(),
                None => {}
            }
            Ok(node.attr(ino.0))
        });
        match done {
            Ok(attr) => reply.attr(&LIFETIME, &attr),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        match self.with(|state| state.make(parent.0, name, true, mode & !umask)) {
            Ok((_, attr)) => reply.entry(&LIFETIME, &attr, GENERATION),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.with(|state| state.make(parent.0, name, false, mode & !umask)) {
            Ok((_, attr)) => {
                reply.created(&LIFETIME, &attr, GENERATION, FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.with(|state| state.node(ino.0).map(|node| Arc::clone(&node.bytes))) {
            Ok(bytes) => {
                let from = bytes.len().min(offset as usize);
                reply.data(&bytes[from..bytes.len().min(from + size as usize)]);
            }
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.with(|state| {
            let node = state.node_mut(ino.0)?;
            let (from, to) = (offset as usize, offset as usize + data.len());
            let bytes = Arc::make_mut(&mut node.bytes);
            bytes.resize(bytes.len().max(to), 0);
            bytes[from..to].copy_from_slice(data);
            node.modified = SystemTime::now();
            Ok(())
        });
        match written {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.synced(ino.0, |node| node.kept_bytes = Arc::clone(&node.bytes), reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.synced(ino.0, |node| node.kept_names.clone_from(&node.names), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.removed(parent, name, false, reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.removed(parent, name, true, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let done = self.with(|state| {
            let ino = state.find(parent.0, name)?;
            if flags.contains(RenameFlags::RENAME_NOREPLACE) && state.find(to.0, to_name).is_ok() {
                return Err(Errno::EEXIST);
            }
            if let Ok(old) = state.find(to.0, to_name)
                && !state.node(old)?.names.is_empty()
            {
                return Err(Errno::ENOTEMPTY);
            }
            state.node_mut(parent.0)?.names.remove(name);
            state.node_mut(to.0)?.names.insert(to_name.to_owned(), ino);
            Ok(())
        });
        match done {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn link(&self, _: &Request, ino: INodeNo, to: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let done = self.with(|state| {
            if state.find(to.0, name).is_ok() {
                return Err(Errno::EEXIST);
            }
            state.node_mut(to.0)?.names.insert(name.to_owned(), ino.0);
            Ok(state.node(ino.0)?.attr(ino.0))
        });
        match done {
            Ok(attr) => reply.entry(&LIFETIME, &attr, GENERATION),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.with(|state| {
            let names = &state.node(ino.0)?.names;
            // The kernel takes number and kind alone; nobody here looks at the numbers of these two.
            let dots = [(".", ino.0), ("..", ino.0)].map(|(name, ino)| (OsString::from(name), ino, true));
            let rest = names.iter().map(|(name, ino)| (name.clone(), *ino, state.nodes[ino].folder));
            Ok(dots.into_iter().chain(rest).collect::<Vec<_>>())
        });
        match listed {
            Ok(entries) => {
                for (at, (name, ino, folder)) in entries.into_iter().enumerate().skip(offset as usize) {
                    let kind = if folder { FileType::Directory } else { FileType::RegularFile };
                    if reply.add(INodeNo(ino), at as u64 + 1, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 4096, 255, 4096);
    }
}
