//! Never wrong bytes: what cannot be verified is an error on exactly its range.

use crate::face::number;
use crate::world::{Mount, World, at, fuse_is_wanted, on_both, on_both_over};
use backupengine_model::{
    ContentReader, DataSpan, DirPage, Node, NodeId, ReadError, ReadFailure, SessionNo, SnapshotInfo, Totals,
    TreeReader, XattrName,
};
use backupengine_testkit::oracle::{Content, Oracle, Tree, sample};
use bytes::Bytes;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn any_range_reads_the_right_bytes() {
    let world = World::of(sample::everyday());
    let whole = sample::bytes(5_000_000, 5_000_000);
    on_both(&world, |face| {
        let file = at("sizes/5000000");
        for (offset, len) in [
            (0, 1),
            (0, 4096),
            (4095, 2),
            (1, 131_072),
            (131_071, 131_074),
            (4_999_999, 1),
            (4_999_000, 5000),
            (5_000_000, 10),
            (6_000_000, 10),
            (1_234_567, 2_000_000),
        ] {
            let end = whole.len().min(offset + len);
            let expected = whole.get(offset..end).unwrap_or_default();
            assert!(face.read(&file, offset as u64, len).unwrap() == expected, "{len} bytes from {offset}");
        }
        assert_eq!(face.read(&at("sizes/0"), 0, 10).unwrap(), b"");
        assert_eq!(face.read(&at("sizes"), 0, 10), Err(Errno::ISDIR));
    });
}

#[test]
fn damage_costs_only_its_own_range() {
    let world = World::of(sample::everyday());
    let file = at("sizes/5000000");
    let whole = sample::bytes(5_000_000, 5_000_000);
    let (from, to) = (2 << 20, (2 << 20) + 65_536);
    world.oracle.fail(world.id("sizes/5000000"), from..to, ReadFailure::Damaged);
    on_both(&world, |face| {
        let range = |offset: u64, len: usize| face.read(&file, offset, len);
        // From the front the way `cat` goes: right up to the damage.
        for offset in (0..from).step_by(1 << 19) {
            let len = 1 << 19;
            assert!(range(offset, len).unwrap() == whole[offset as usize..][..len], "{offset}");
        }
        for offset in (from..to).step_by(4096) {
            assert_eq!(range(offset, 4096), Err(Errno::IO), "{offset}");
        }
        assert_eq!(range(from - 4096, 8192), Err(Errno::IO));
        assert!(range(from - 4096, 4096).unwrap() == whole[from as usize - 4096..][..4096]);
        assert!(range(to, 1 << 20).unwrap() == whole[to as usize..][..1 << 20]);
        let reason = face.xattr(&file, "user.backupengine.error").unwrap();
        let reason = String::from_utf8(reason).unwrap();
        assert!(reason.contains("2097152"), "{reason}");
        // Other files are whole.
        assert!(face.read(&at("sizes/1048577"), 0, 2 << 20).unwrap() == sample::bytes(1_048_577, 1_048_577));
    });
    world.oracle.heal();
    on_both(&world, |face| assert!(face.read(&file, 0, 6_000_000).unwrap() == whole));
}

#[test]
fn a_file_heals_in_the_mount_that_saw_it_damaged() {
    let world = World::of(sample::everyday());
    if !fuse_is_wanted() {
        return;
    }
    let mount = Mount::of(&world.oracle);
    world.oracle.fail(world.id("sizes/131072"), 0..4096, ReadFailure::TimedOut);
    let file = File::open(mount.snapshot().join("sizes/131072")).unwrap();
    let mut out = vec![0; 131_072];
    assert_eq!(number(&file.read_exact_at(&mut out, 0).unwrap_err()), Errno::TIMEDOUT);
    world.oracle.heal();
    file.read_exact_at(&mut out, 0).unwrap();
    assert!(out == sample::bytes(131_072, 131_072));
}

#[test]
fn each_trouble_has_its_own_number() {
    let world = World::of(sample::everyday());
    for (failure, expected) in [
        (ReadFailure::Damaged, Errno::IO),
        (ReadFailure::TimedOut, Errno::TIMEDOUT),
        (ReadFailure::Gone, Errno::STALE),
        (ReadFailure::Denied, Errno::ACCESS),
        (ReadFailure::Interrupted, Errno::INTR),
    ] {
        world.oracle.fail(world.id("sizes/4096"), 0..4096, failure);
        world.oracle.fail(world.id("links/up"), 0..0, failure);
        world.oracle.fail(world.id("order"), 0..0, failure);
        world.oracle.fail(world.id("xattrs/file"), 0..0, failure);
        on_both(&world, |face| {
            assert_eq!(face.read(&at("sizes/4096"), 0, 4096), Err(expected));
            assert_eq!(face.read_link(&at("links/up")), Err(expected));
            assert_eq!(face.list(&at("order")).unwrap_err(), expected);
            assert_eq!(face.lstat(&at("order/a")), Err(expected));
            assert_eq!(face.xattr(&at("xattrs/file"), "user.comment"), Err(expected));
            assert!(face.lstat(&at("order")).is_ok());
            assert!(face.list(&at("sizes")).is_ok());
        });
        world.oracle.heal();
    }
    on_both(&world, |face| assert!(face.lstat(&at("order/a")).is_ok()));
}

/// What is odd about a reader.
enum Odd {
    /// Gives half of what it is asked for, as if the rest of each file were missing.
    Half,
    /// While this is set it waits, before it reads or lists.
    Waits(Arc<AtomicBool>),
}

/// An oracle with something odd about it.
struct OddReader(Arc<Oracle>, Odd);

impl OddReader {
    fn wait(&self) {
        if let Odd::Waits(closed) = &self.1 {
            while closed.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl TreeReader for OddReader {
    fn snapshots(&self) -> Result<Arc<Vec<SnapshotInfo>>, ReadError> {
        self.0.snapshots()
    }
    fn version(&self) -> Result<u64, ReadError> {
        self.0.version()
    }
    fn totals(&self, session: SessionNo) -> Result<Totals, ReadError> {
        self.0.totals(session)
    }
    fn node(&self, id: NodeId) -> Result<Node, ReadError> {
        self.0.node(id)
    }
    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<Node>, ReadError> {
        self.0.lookup(dir, name)
    }
    fn parent(&self, id: NodeId) -> Result<NodeId, ReadError> {
        self.0.parent(id)
    }
    fn list(&self, dir: NodeId, from: u64, max: usize) -> Result<DirPage, ReadError> {
        self.wait();
        self.0.list(dir, from, max)
    }
    fn read_link(&self, id: NodeId) -> Result<Bytes, ReadError> {
        self.0.read_link(id)
    }
    fn xattrs(&self, id: NodeId) -> Result<Vec<(XattrName, Bytes)>, ReadError> {
        self.0.xattrs(id)
    }
    fn vault_size(&self) -> Result<u64, ReadError> {
        self.0.vault_size()
    }
}

impl ContentReader for OddReader {
    fn read_at(&self, id: NodeId, offset: u64, out: &mut [u8]) -> Result<usize, ReadError> {
        self.wait();
        let len = if matches!(self.1, Odd::Half) { out.len().div_ceil(2) } else { out.len() };
        self.0.read_at(id, offset, &mut out[..len])
    }
    fn span(&self, id: NodeId, offset: u64) -> Result<Option<DataSpan>, ReadError> {
        self.0.span(id, offset)
    }
}

#[test]
fn a_short_answer_is_an_error_and_never_zeros() {
    let world = World::of(sample::everyday());
    let reader = Arc::new(OddReader(world.oracle.clone(), Odd::Half));
    on_both_over(&reader, |face| {
        assert_eq!(face.read(&at("sizes/131072"), 0, 131_072), Err(Errno::IO));
        assert_eq!(face.read(&at("sizes/4096"), 0, 4096), Err(Errno::IO));
    });
}

#[test]
fn who_waits_and_is_told_to_end_ends() {
    if !fuse_is_wanted() {
        return;
    }
    let world = World::of(sample::everyday());
    let closed = Arc::new(AtomicBool::new(false));
    let reader = Arc::new(OddReader(world.oracle.clone(), Odd::Waits(Arc::clone(&closed))));
    let mount = Mount::of(&reader);
    let requests = mount.requests();
    let waits_for = |what: &str| {
        while !requests.now().iter().any(|pending| pending.what == what) {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    // Others each time: what was read or listed once is the kernel's.
    let turns =
        [(Signal::KILL, 131_072, "order"), (Signal::INT, 4096, "links"), (Signal::TERM, 4097, "xattrs")];
    for (signal, len, folder) in turns {
        let (file, folder) = (mount.snapshot().join(format!("sizes/{len}")), mount.snapshot().join(folder));
        assert!(file.exists() && folder.exists());
        for (program, path, what) in [("cat", &file, "read"), ("ls", &folder, "list")] {
            closed.store(true, Ordering::SeqCst);
            let mut child =
                Command::new(program).arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            waits_for(what);
            kill_process(Pid::from_child(&child), signal).unwrap();
            let begun = Instant::now();
            while child.try_wait().unwrap().is_none() {
                assert!(begun.elapsed() < Duration::from_secs(20), "{program} waits on after {signal:?}");
                std::thread::sleep(Duration::from_millis(5));
            }
            // The mount is there for everybody else, and once there is an answer, for the same file.
            assert!(std::fs::symlink_metadata(mount.snapshot().join("sizes/1")).is_ok());
            closed.store(false, Ordering::SeqCst);
            assert!(std::fs::read(&file).unwrap() == sample::bytes(len, len as usize));
        }
        assert!(std::fs::read_dir(&folder).unwrap().count() > 0);
    }
}

#[test]
fn many_readers_at_once_get_the_right_bytes() {
    let mut tree = Tree::new();
    for number in 0..40_u64 {
        let len = 50_000 + number as usize * 7_001;
        tree.create_file(&sample::path(number.to_string()), Content::dense(sample::bytes(number, len)))
            .unwrap();
    }
    let world = World::of(tree);
    if !fuse_is_wanted() {
        return;
    }
    let mount = Mount::of(&world.oracle);
    std::thread::scope(|scope| {
        for reader in 0..12_u64 {
            let folder = mount.snapshot();
            scope.spawn(move || {
                for step in 0..120 {
                    let number = (reader * 31 + step * 17) % 40;
                    let len = 50_000 + number as usize * 7_001;
                    let expected = sample::bytes(number, len);
                    let file = File::open(folder.join(number.to_string())).unwrap();
                    let offset = (reader * 7919 + step * 104_729) as usize % len;
                    let mut out = vec![0; (len - offset).min(40_000)];
                    file.read_exact_at(&mut out, offset as u64).unwrap();
                    assert!(out == expected[offset..][..out.len()], "file {number} from {offset}");
                }
            });
        }
    });
}

#[test]
fn a_second_reading_asks_for_nothing() {
    let world = World::of(sample::everyday());
    if !fuse_is_wanted() {
        return;
    }
    use std::sync::atomic::Ordering::Relaxed;
    let mount = Mount::of(&world.oracle);
    let path = mount.snapshot().join("sizes/1048577");
    let read = || std::fs::read(&path).unwrap();
    let first = read();
    let calls = world.oracle.calls();
    let count = || calls.read.load(Relaxed) + calls.node.load(Relaxed) + calls.lookup.load(Relaxed);
    let before = count();
    assert!(read() == first);
    assert_eq!(count(), before, "the kernel keeps bytes, names and attributes");
    let listed = || std::fs::read_dir(mount.snapshot().join("order")).unwrap().count();
    assert_eq!(listed(), 6);
    let lists = calls.list.load(Relaxed);
    assert_eq!(listed(), 6);
    assert_eq!(calls.list.load(Relaxed), lists, "the kernel keeps listings");
}

#[test]
fn a_mapped_file_shows_the_right_bytes() {
    let world = World::of(sample::everyday());
    if !fuse_is_wanted() {
        return;
    }
    let mount = Mount::of(&world.oracle);
    let script = "import mmap,sys,hashlib\n\
                  f=open(sys.argv[1],'rb')\n\
                  m=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ)\n\
                  print(m[4999990:].hex(), m[:10].hex(), len(m))";
    let output = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(mount.snapshot().join("sizes/5000000"))
        .output()
        .unwrap();
    let whole = sample::bytes(5_000_000, 5_000_000);
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let expected = format!("{} {} 5000000\n", hex(&whole[4_999_990..]), hex(&whole[..10]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn files_read_in_order_are_announced_ahead() {
    let mut tree = Tree::new();
    for number in 0..200 {
        let name = sample::path(format!("{number:03}"));
        tree.create_file(&name, Content::dense(sample::bytes(number, 100))).unwrap();
    }
    let world = World::of(tree);
    use std::sync::atomic::Ordering::Relaxed;
    let announced = || world.oracle.calls().announced.load(Relaxed);
    on_both(&world, |face| {
        let read = |number: u64| {
            let expected = sample::bytes(number, 100);
            assert!(face.read(&at(&format!("{number:03}")), 0, 200).unwrap() == expected);
        };
        let before = announced();
        (0..90).for_each(|step| read(step * 73 % 200));
        assert_eq!(announced(), before, "a reader that jumps about costs nothing");
        // What the jumping left alone, so that the kernel has to ask.
        let left: Vec<u64> = (0..200).filter(|n| !(0..90).any(|step| step * 73 % 200 == *n)).collect();
        left.iter().for_each(|&number| read(number));
        assert!(announced() > before + 50, "{}", announced() - before);
    });
}
