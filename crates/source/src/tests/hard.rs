//! What must not end a walk: depth, missing rights, things that vanish.

use super::{Ground, Walked, is_root};
use crate::{NoticeKind, SourceFile, WalkConfig, Walker};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Removes a tree that is deeper than what std can remove with few file handles.
struct Deep(PathBuf);

impl Drop for Deep {
    fn drop(&mut self) {
        drop(Command::new("rm").arg("-rf").arg(&self.0).status());
    }
}

#[test]
fn a_thousand_levels_of_long_names() {
    let ground = Ground::new();
    let top = Deep(ground.at("top"));
    fs::create_dir(&top.0).unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = openat(CWD, &top.0, flags, Mode::empty()).unwrap();
    let name = "n".repeat(255);
    for _ in 0..1000 {
        mkdirat(&at, &name, Mode::RWXU).unwrap();
        at = openat(&at, &name, flags, Mode::empty()).unwrap();
    }
    let file = openat(&at, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR | Mode::WUSR).unwrap();
    rustix::fs::fsetxattr(&file, "user.deep", b"down here", rustix::fs::XattrFlags::empty()).unwrap();
    fs::File::from(file).write_all(b"bottom").unwrap();
    let (mut levels, mut found) = (0, None);
    for batch in Walker::start(ground.config()).unwrap() {
        assert!(batch.notices.is_empty(), "{:?}", batch.notices);
        levels += batch.directories.iter().filter(|entry| entry.name == name.as_bytes()).count();
        found = found.or(batch.others.first().map(|entry| (batch.real.join("file"), entry.clone())));
    }
    assert_eq!(levels, 1000);
    let (path, entry) = found.unwrap();
    assert!(entry.xattrs.contains(&(b"user.deep".to_vec(), b"down here".to_vec())));
    let mut out = [0; 10];
    assert_eq!(SourceFile::open_file(&path).unwrap().read_at(0, &mut out).unwrap(), 6);
    assert_eq!(&out[..6], b"bottom");
}

#[test]
fn what_vanishes_is_said_and_costs_nothing_else() {
    // On a busy machine the last folder may be listed before it is taken away: then nothing was tried.
    assert!((0..20).any(|_| something_vanishes()), "the folder was always listed ahead");
}

fn something_vanishes() -> bool {
    let ground = Ground::new();
    // Enough that the last folder is not listed ahead while the first batches are taken.
    ground.plant(&["a/f", "z/f"]);
    let target = "t/".repeat(2000);
    for link in 0..4000 {
        fs::create_dir_all(ground.at(&format!("m/{}", link / 40))).unwrap();
        std::os::unix::fs::symlink(&target, ground.at(&format!("m/{}/{link}", link / 40))).unwrap();
    }
    let mut walker = Walker::start(ground.config()).unwrap();
    let mut out = Walked { entries: Default::default(), notices: Vec::new() };
    for batch in walker.by_ref() {
        let here = *batch.real == ground.base;
        out.take(batch);
        if here {
            break;
        }
    }
    fs::remove_dir_all(ground.at("z")).unwrap();
    fs::write(ground.at("z"), b"a file now").unwrap();
    walker.for_each(|batch| out.take(batch));
    assert!(out.entries.contains_key(&ground.at("a/f")));
    if out.entries.contains_key(&ground.at("z/f")) {
        return false;
    }
    assert_eq!(out.noticed(NoticeKind::Vanished), [ground.at("z")]);
    true
}

#[test]
fn a_root_that_vanishes_is_an_error() {
    let ground = Ground::new();
    ground.plant(&["a/f", "b/f"]);
    let roots = vec![ground.at("a"), ground.at("b/f")];
    let lead = crate::roots::Lead::new(&roots).unwrap();
    fs::remove_dir_all(ground.at("b")).unwrap();
    let walked = Walked::of_lead(WalkConfig { roots: vec![ground.at("a")], ..ground.config() }, lead);
    assert_eq!(walked.noticed(NoticeKind::Unreadable), [ground.at("b")]);
    assert!(walked.entries.contains_key(&ground.at("a/f")));
}

/// Root may read everything, so this test runs itself again as somebody else.
#[test]
fn what_may_not_be_read_is_said() {
    const ENV: &str = "BACKUPENGINE_TEST_UNREADABLE";
    const NAME: &str = "tests::hard::what_may_not_be_read_is_said";
    let Some(base) = std::env::var_os(ENV).map(PathBuf::from) else {
        let ground = Ground::new();
        ground.plant(&["open/f", "shut/f", "unlisted/root/f"]);
        for (name, mode) in [("", 0o755), ("shut", 0o0), ("unlisted", 0o711)] {
            fs::set_permissions(ground.at(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        // The test binary may lie where only root gets to.
        let copy = Ground::new();
        fs::set_permissions(&copy.base, fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(std::env::current_exe().unwrap(), copy.at("test")).unwrap();
        let mut child = Command::new(copy.at("test"));
        child.args(["--exact", NAME, "--nocapture"]).env(ENV, &ground.base).current_dir("/");
        if is_root() {
            child.uid(65_534).gid(65_534);
        }
        let output = child.output().unwrap();
        fs::set_permissions(ground.at("shut"), fs::Permissions::from_mode(0o755)).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    };
    let config = WalkConfig { roots: vec![base.clone()], threads: 2, ..WalkConfig::default() };
    let walked = Walked::of(config.clone());
    let expected: Vec<PathBuf> = if is_root() {
        panic!("this part of the test may not run as root");
    } else if fs::metadata(&base).is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0) {
        vec![base.join("shut"), base.join("unlisted")]
    } else {
        vec![base.join("shut")]
    };
    assert_eq!(walked.noticed(NoticeKind::Unreadable), expected);
    assert!(walked.entries.contains_key(&base.join("open/f")));
    assert!(walked.entries.contains_key(&base.join("shut")), "the folder itself is shown");
    // A folder that may be passed but not listed leads to a root all the same.
    let walked = Walked::of(WalkConfig { roots: vec![base.join("unlisted/root")], ..config });
    assert!(walked.notices.is_empty(), "{:?}", walked.notices);
    assert!(walked.entries.contains_key(&base.join("unlisted/root/f")));
}
