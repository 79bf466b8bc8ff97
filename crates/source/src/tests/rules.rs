//! Roots and everything that leaves something out.

use super::{Ground, Walked};
use crate::{NoticeKind, WalkConfig, Walker};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

fn patterns(patterns: &[&str]) -> Vec<String> {
    patterns.iter().map(|&p| p.to_owned()).collect()
}

#[test]
fn only_what_leads_to_the_roots_is_shown_above_them() {
    let ground = Ground::new();
    ground.plant(&["a/one/f", "a/two/f", "a/file", "b/f", "c/x/y/f"]);
    symlink("a", ground.at("link")).unwrap();
    let roots =
        ["a/two", "a/file", "c/x/y", "c/x/y/f", "c/../c/x", "link", "link/two"].map(|name| ground.at(name));
    let walked = Walked::of(WalkConfig { roots: roots.to_vec(), ..WalkConfig::default() });
    assert_eq!(
        walked.names(&ground.base),
        ["a", "a/file", "a/two", "a/two/f", "c", "c/x", "c/x/y", "c/x/y/f", "link"]
    );
    assert!(walked.notices.is_empty());
    // What is above the ground: its parents and nothing beside them.
    assert_eq!(
        walked.entries.keys().filter(|path| !path.starts_with(&ground.base)).count(),
        ground.base.ancestors().count() - 1
    );
    let seen = fs::metadata(ground.base.parent().unwrap()).unwrap();
    assert_eq!(walked.get(ground.base.parent().unwrap()).attributes.mode, seen.mode() & 0o7777);
}

#[test]
fn patterns_leave_out_whole_subtrees() {
    let ground = Ground::new();
    ground.plant(&["a/x.o", "a/x.c", "a/target/f", "b/target", "tmp/f", "b/tmp/f", "keep/x.o"]);
    let tmp = ground.at("tmp");
    let excludes = patterns(&["*.o", "target/", tmp.to_str().unwrap(), "!keep/*.o"]);
    let walked = Walked::of(WalkConfig { excludes, ..ground.config() });
    assert_eq!(
        walked.names(&ground.base),
        ["a", "a/x.c", "b", "b/target", "b/tmp", "b/tmp/f", "keep", "keep/x.o"]
    );
    assert_eq!(walked.noticed(NoticeKind::Excluded), [tmp, ground.at("a/target"), ground.at("a/x.o")]);
}

#[test]
fn a_named_root_is_stronger_than_a_pattern() {
    let ground = Ground::new();
    ground.plant(&["a/out/in/f", "a/out/g", "a/f"]);
    let roots = vec![ground.base.clone(), ground.at("a/out/in")];
    let walked =
        Walked::of(WalkConfig { roots, excludes: patterns(&["out", "in"]), ..WalkConfig::default() });
    assert_eq!(walked.names(&ground.base), ["a", "a/f", "a/out", "a/out/in", "a/out/in/f"]);
}

#[test]
fn marks_leave_out_the_folder_that_holds_them() {
    let ground = Ground::new();
    ground.plant(&["a/.nobackup", "a/f", "b/f", "cache/CACHEDIR.TAG", "cache/f", "liar/CACHEDIR.TAG"]);
    fs::write(ground.at("cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n# more")
        .unwrap();
    let walked = Walked::of(ground.config());
    assert!(!walked.entries.contains_key(&ground.at("a")));
    assert!(walked.entries.contains_key(&ground.at("cache/f")));
    let walked = Walked::of(WalkConfig { exclude_caches: true, ..ground.config() });
    assert_eq!(walked.names(&ground.base), ["b", "b/f", "liar", "liar/CACHEDIR.TAG"]);
    // A tag that is a pipe may not hang the walk.
    fs::remove_file(ground.at("cache/CACHEDIR.TAG")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, ground.at("cache/CACHEDIR.TAG"), rustix::fs::Mode::RUSR).unwrap();
    let walked = Walked::of(WalkConfig { exclude_caches: true, ..ground.config() });
    assert!(walked.entries.contains_key(&ground.at("cache/f")));
    // A root with a mark is left out and said; a root below a marked folder is not.
    let walked = Walked::of(WalkConfig { roots: vec![ground.at("a"), ground.at("b")], ..ground.config() });
    assert_eq!(walked.names(&ground.base), ["b", "b/f"]);
    assert_eq!(walked.noticed(NoticeKind::Skipped), [ground.at("a")]);
    let walked = Walked::of(WalkConfig { roots: vec![ground.at("a/f")], ..ground.config() });
    assert_eq!(walked.names(&ground.base), ["a", "a/f"]);
}

#[test]
fn gitignore_files_nest() {
    let ground = Ground::new();
    ground.plant(&[
        "repo/.git/HEAD",
        "repo/a.o",
        "repo/build/x",
        "repo/sub/build/x",
        "repo/sub/keep.o",
        "repo/sub/a.o",
        "repo/sub/deep/local",
        "repo/inner/.git/HEAD",
        "repo/inner/a.o",
        "loose/a.tmp",
        "loose/a.o",
    ]);
    fs::write(ground.at("repo/.gitignore"), "*.o\n/build\n").unwrap();
    fs::write(ground.at("repo/sub/.gitignore"), "!keep.o\ndeep/local\n").unwrap();
    fs::write(ground.at("loose/.gitignore"), "*.tmp\n").unwrap();
    let kept = |walked: Walked| {
        let names = walked.names(&ground.base).into_iter();
        names.filter(|n| ground.at(n).is_file() && !n.contains(".git")).collect::<Vec<_>>()
    };
    assert_eq!(kept(Walked::of(ground.config())).len(), 9);
    let config = WalkConfig { gitignore: true, ..ground.config() };
    assert_eq!(
        kept(Walked::of(config.clone())),
        ["loose/a.o", "repo/inner/a.o", "repo/sub/build/x", "repo/sub/keep.o"]
    );
    // Rules above a root count inside one repository.
    let below = WalkConfig { roots: vec![ground.at("repo/sub"), ground.at("repo/inner")], ..config };
    assert_eq!(kept(Walked::of(below)), ["repo/inner/a.o", "repo/sub/build/x", "repo/sub/keep.o"]);
}

#[test]
fn skipped_folders_are_known_by_any_path() {
    let ground = Ground::new();
    ground.plant(&["vault/p/blob", "docs/f"]);
    symlink("vault", ground.at("way")).unwrap();
    let skip = vec![ground.at("way"), ground.at("does not exist")];
    let walked = Walked::of(WalkConfig { skip, ..ground.config() });
    assert_eq!(walked.names(&ground.base), ["docs", "docs/f", "way"]);
    assert_eq!(walked.noticed(NoticeKind::Skipped), [ground.at("vault")]);
}

#[test]
fn other_filesystems_end_the_walk_where_asked() {
    // /proc is a filesystem of its own on every Linux.
    let proc = Path::new("/proc");
    let device = fs::metadata(proc).unwrap().dev();
    assert_ne!(device, fs::metadata("/").unwrap().dev());
    let config = WalkConfig {
        roots: vec!["/".into()],
        excludes: patterns(&["/*", "!/proc"]),
        one_file_system: true,
        ..WalkConfig::default()
    };
    let walked = Walked::of(config.clone());
    assert!(walked.entries.contains_key(proc), "a mount point is kept");
    assert!(walked.names(proc).is_empty());
    // A root on another filesystem is walked all the same, and only it.
    let roots = vec!["/".into(), "/proc/sys/kernel/random".into()];
    let walked = Walked::of(WalkConfig { roots, ..config.clone() });
    assert!(walked.entries.contains_key(Path::new("/proc/sys/kernel/random/boot_id")));
    assert!(!walked.entries.contains_key(Path::new("/proc/self")));
    // A filesystem to skip is skipped with a notice.
    let walked = Walked::of(WalkConfig { skip_devices: vec![device], one_file_system: false, ..config });
    assert!(!walked.entries.contains_key(proc));
    assert_eq!(walked.noticed(NoticeKind::Skipped), [proc]);
}

#[test]
fn a_walk_that_cannot_start_says_why() {
    let ground = Ground::new();
    let missing = WalkConfig { roots: vec![ground.at("none")], ..WalkConfig::default() };
    let error = Walker::start(missing).unwrap_err().to_string();
    assert!(error.contains("none") && error.contains("No such file"), "{error}");
    assert!(Walker::start(WalkConfig::default()).is_err());
    assert!(Walker::start(WalkConfig { excludes: patterns(&["{"]), ..ground.config() }).is_err());
}
