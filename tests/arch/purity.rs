//! What pure crates may not name, and where a system may be asked for.
use crate::tree::{code, root, rust_files};

const PURE: &[(&str, &str)] = &[
    ("model", "crates/model"),
    ("chunk", "crates/chunk"),
    ("seal", "crates/seal"),
    ("format", "crates/format"),
    ("api", "crates/api"),
    ("vfs", "mount/vfs"),
];

/// What each pure crate's clippy.toml bans, and what is searched for besides: a ban that is not looked for is
/// only as good as the lint run.
const BANNED: &[&str] =
    &["std::fs", "std::net", "std::env", "SystemTime::now", "Instant::now", "thread::spawn"];

/// Where code may ask which system it is built for.
const SYSTEM_PLACES: &[&str] = &[
    "mount/fuse/",
    "mount/winfsp/",
    "crates/source/src/meta",
    "crates/restore/src/meta",
    "crates/store/src/folder",
    "crates/cli/",
    "crates/server/src/command",
    "crates/server/src/dev/",
    // The development server exists on Unix only; the deadline of a dead connection on Linux.
    "crates/server/src/lib.rs",
    "crates/transfer/src/http.rs",
    "tests/",
    "crates/testkit/",
];

#[test]
fn pure_crates_ban_what_is_not_pure() {
    for (name, folder) in PURE {
        let path = root().join(folder).join("clippy.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let flat: String = text.split_whitespace().collect();
        for banned in BANNED {
            let words: Vec<&str> = banned.split("::").collect();
            assert!(words.iter().all(|w| flat.contains(w)), "{folder}/clippy.toml does not ban {banned}");
        }
        assert!(flat.contains("allow-unwrap-in-tests=true"), "{name}: tests may unwrap");
    }
}

#[test]
fn pure_crates_do_no_io() {
    let mut looked = 0;
    for file in rust_files() {
        if !PURE.iter().any(|(_, folder)| file.path.starts_with(&format!("{folder}/src/"))) {
            continue;
        }
        looked += 1;
        for (number, line) in file.text.lines().enumerate() {
            let line = code(line);
            let used = BANNED.iter().find(|banned| line.contains(**banned));
            assert!(used.is_none(), "{}:{} uses {}", file.path, number + 1, used.unwrap_or(&""));
        }
    }
    assert!(looked > 20, "only {looked} files of pure crates were looked at");
}

#[test]
fn the_system_is_asked_for_in_few_places() {
    let marks =
        ["cfg(unix", "cfg(windows", "cfg(target_os", "cfg(not(unix", "cfg(not(windows", "cfg(not(target_os"];
    for file in rust_files() {
        if SYSTEM_PLACES.iter().any(|place| file.path.starts_with(place)) {
            continue;
        }
        for (number, line) in file.text.lines().enumerate() {
            let line: String = code(line).split_whitespace().collect();
            let mark = marks.iter().find(|m| line.contains(**m));
            assert!(mark.is_none(), "{}:{} asks for the system", file.path, number + 1);
        }
    }
}
