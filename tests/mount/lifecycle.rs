//! Stable: mounting and unmounting, in use, after a crash, and what a person is told.

use crate::world::{FOLDER, Mount, World, core, fuse_is_wanted};
use backupengine_fuse::{
    MountError, ServeConfig, UnmountError, UnmountHow, check_mountpoint, mount, unmount, who_holds,
};
use backupengine_testkit::oracle::sample;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn is_mounted(path: &Path) -> bool {
    fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&format!(" {} ", path.display()))
}

#[test]
fn unmounting_ends_serving_and_leaves_the_folder() {
    if !fuse_is_wanted() {
        return;
    }
    let world = World::of(sample::everyday());
    let (mounted, folder) = Mount::of(&world.oracle).into_parts();
    assert!(folder.path().join("latest/sizes").is_dir());
    let path = mounted.mountpoint().to_owned();
    let server = std::thread::spawn(move || mounted.wait());
    unmount(&path, UnmountHow::UnlessBusy).unwrap();
    server.join().unwrap().unwrap();
    assert!(!is_mounted(&path));
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    assert!(matches!(unmount(&path, UnmountHow::UnlessBusy), Err(UnmountError::NotMounted(_))));
    // The same folder can be used again.
    let again = mount(core(&world.oracle), &ServeConfig::new(&path)).unwrap();
    assert!(path.join(FOLDER).is_dir());
    drop(again);
    assert!(!is_mounted(&path));
}

/// A process that holds something of the mount until it is killed.
struct Holding(Child);

impl Holding {
    fn new(script: &str, path: &Path) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", &format!("{script}; echo ready; exec sleep 60")])
            .arg(path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        // It says so a moment before it becomes `sleep`.
        let holding = Self(child);
        let name = format!("/proc/{}/comm", holding.0.id());
        for _ in 0..1000 {
            if fs::read_to_string(&name).unwrap() == "sleep\n" {
                return holding;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the shell did not become sleep");
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_busy_mount_says_who_holds_it() {
    if !fuse_is_wanted() {
        return;
    }
    let world = World::of(sample::everyday());
    for script in ["cd \"$0\"/latest/sizes", "exec 7<\"$0\"/latest/sizes/1"] {
        let (mounted, folder) = Mount::of(&world.oracle).into_parts();
        let holding = Holding::new(script, folder.path());
        let refused = unmount(folder.path(), UnmountHow::UnlessBusy).unwrap_err();
        let said = refused.to_string();
        let UnmountError::Busy { holders, .. } = refused else { panic!("{said}") };
        assert_eq!(holders.len(), 1, "{said}");
        assert_eq!(holders[0].pid, holding.0.id());
        assert!(said.contains("sleep"), "{said}");
        assert!(holders[0].path.starts_with(folder.path().join(FOLDER)), "{:?}", holders[0].path);
        assert_eq!(who_holds(folder.path()), holders);
        // Refusing changed nothing.
        assert!(folder.path().join("latest/sizes/1").is_file());
        drop(holding);
        unmount(folder.path(), UnmountHow::UnlessBusy).unwrap();
        mounted.wait().unwrap();
    }
}

/// A file in a message nobody has read is open, and no process has it.
fn held_unseen(file: File) -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    let files = [file.as_fd()];
    assert!(message.push(SendAncillaryMessage::ScmRights(&files)));
    sendmsg(&ours, &[IoSlice::new(b"a file")], &mut message, SendFlags::empty()).unwrap();
    (ours, theirs)
}

#[test]
fn a_mount_that_nobody_is_seen_to_use_is_waited_for() {
    if !fuse_is_wanted() {
        return;
    }
    let world = World::of(sample::everyday());
    let (mounted, folder) = Mount::of(&world.oracle).into_parts();
    let held = held_unseen(File::open(folder.path().join("latest/sizes/1")).unwrap());
    let refused = unmount(folder.path(), UnmountHow::UnlessBusy).unwrap_err();
    let said = refused.to_string();
    assert!(matches!(refused, UnmountError::Busy { holders, .. } if holders.is_empty()), "{said}");
    assert!(said.contains("cannot be seen"), "{said}");
    // Let go while it is waited for.
    let going = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(250));
        drop(held);
    });
    unmount(folder.path(), UnmountHow::UnlessBusy).unwrap();
    going.join().unwrap();
    mounted.wait().unwrap();
}

#[test]
fn a_detached_mount_is_gone_at_once_and_open_files_stay_readable() {
    if !fuse_is_wanted() {
        return;
    }
    let world = World::of(sample::everyday());
    let (mounted, folder) = Mount::of(&world.oracle).into_parts();
    let mut file = File::open(folder.path().join("latest/sizes/5000000")).unwrap();
    unmount(folder.path(), UnmountHow::Detach).unwrap();
    assert!(!is_mounted(folder.path()));
    let server = std::thread::spawn(move || mounted.wait());
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert!(bytes == sample::bytes(5_000_000, 5_000_000));
    drop(file);
    server.join().unwrap().unwrap();
}

const SERVE: &str = "BACKUPENGINE_TEST_SERVE_AT";

/// Another process that serves; nothing of it is left when this is gone.
struct Server {
    child: Child,
    at: PathBuf,
}

impl Server {
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if is_mounted(&self.at) {
            unmount(&self.at, UnmountHow::Detach).unwrap();
        }
    }
}

/// Runs this test once more in another process, as the server at `path`.
fn serve_in_another_process(path: &Path) -> Server {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lifecycle::a_killed_server_leaves_a_mountpoint_that_mounts_again", "--nocapture"])
        .env(SERVE, path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let ready = lines.by_ref().map(Result::unwrap).any(|line| line == "serving");
    assert!(ready, "the other process serves");
    Server { child, at: path.to_owned() }
}

#[test]
fn a_killed_server_leaves_a_mountpoint_that_mounts_again() {
    let world = World::of(sample::everyday());
    if let Some(path) = std::env::var_os(SERVE) {
        let mounted = mount(core(&world.oracle), &ServeConfig::new(path)).unwrap();
        eprintln!("serving");
        mounted.wait().unwrap();
        return;
    }
    if !fuse_is_wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut server = serve_in_another_process(folder.path());
        // While it lives, the folder is taken.
        let taken = check_mountpoint(folder.path()).unwrap_err();
        assert!(matches!(taken, MountError::AlreadyMounted(_)), "{taken}");
        let mut held = File::open(folder.path().join("latest/sizes/5000000")).unwrap();
        server.kill();
        // Of what the kernel knows it still tells; what it would have to ask for is gone.
        assert_eq!(rustix::fs::statfs(folder.path()).unwrap_err(), rustix::io::Errno::NOTCONN);
        // What was open ends in an error, not in a hang or in zeros.
        assert!(held.read_to_end(&mut Vec::new()).is_err());

        let again = mount(core(&world.oracle), &ServeConfig::new(folder.path())).unwrap();
        assert_eq!(fs::read(folder.path().join("latest/sizes/1")).unwrap(), sample::bytes(1, 1));
        drop(again);
        assert!(!is_mounted(folder.path()), "nothing is left below either");
    }
    // A dead mount can also just be ended.
    let mut server = serve_in_another_process(folder.path());
    server.kill();
    unmount(folder.path(), UnmountHow::UnlessBusy).unwrap();
    assert!(!is_mounted(folder.path()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_mount_is_ended_from_another_process() {
    if !fuse_is_wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut server = serve_in_another_process(folder.path());
    unmount(folder.path(), UnmountHow::UnlessBusy).unwrap();
    assert!(server.child.wait().unwrap().success(), "the server ends by itself");
}

#[test]
fn what_cannot_be_mounted_on_is_said_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("full")).unwrap();
    fs::write(at("full/file"), "x").unwrap();
    fs::write(at("file"), "x").unwrap();
    fs::create_dir(at("empty")).unwrap();
    std::os::unix::fs::symlink("empty", at("link")).unwrap();
    for (name, expected) in [
        ("missing", "does not exist"),
        ("missing/below", "does not exist"),
        ("file", "not a folder"),
        ("file/below", "not a folder"),
        ("full", "not empty"),
    ] {
        let said = check_mountpoint(&at(name)).unwrap_err().to_string();
        assert!(said.contains(expected), "{name}: {said}");
    }
    let empty = fs::canonicalize(at("empty")).unwrap();
    assert_eq!(check_mountpoint(&at("empty")).unwrap(), empty);
    assert_eq!(check_mountpoint(&at("link")).unwrap(), empty);
    assert!(matches!(unmount(&at("empty"), UnmountHow::Detach), Err(UnmountError::NotMounted(_))));
    assert!(matches!(unmount(Path::new("/proc"), UnmountHow::UnlessBusy), Err(UnmountError::NotMounted(_))));
    if !fuse_is_wanted() {
        return;
    }
    let world = World::of(sample::everyday());
    let mounted = mount(core(&world.oracle), &ServeConfig::new(at("link"))).unwrap();
    for name in ["empty", "link"] {
        let said = mount(core(&world.oracle), &ServeConfig::new(at(name))).err().unwrap().to_string();
        assert!(said.contains("already mounted"), "{said}");
    }
    drop(mounted);
    let mut config = ServeConfig::new(at("empty"));
    config.options = vec!["no_such_option".to_owned()];
    assert!(mount(core(&world.oracle), &config).is_err());
    assert!(!is_mounted(&empty), "a mount that failed leaves nothing");
}

#[test]
fn mountpoints_with_odd_names_work() {
    if !fuse_is_wanted() {
        return;
    }
    let world = World::of(sample::everyday());
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("with space, comma\\and\ttab");
    fs::create_dir(&odd).unwrap();
    let mounted = mount(core(&world.oracle), &ServeConfig::new(&odd)).unwrap();
    assert!(odd.join("latest").is_dir());
    assert!(matches!(check_mountpoint(&odd), Err(MountError::AlreadyMounted(_))));
    unmount(&odd, UnmountHow::UnlessBusy).unwrap();
    mounted.wait().unwrap();
}
