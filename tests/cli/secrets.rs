//! No secret, and nothing of what was pushed, shows where it should not.
use crate::program::{PASSPHRASE, Person, fuse_is_wanted};
use std::path::{Path, PathBuf};

/// A text in a file that is pushed, and its name: neither may be found in the vault or the home.
const CONTENT: &str = "the-content-of-a-private-file-0123456789-abcdefghijklmnopqrstuvwxyz";
const NAME: &str = "a-name-that-tells-too-much";

pub(crate) fn all_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            all_files(&entry.path(), files);
        } else {
            files.push(entry.path());
        }
    }
}

pub(crate) fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn no_output_and_no_log_holds_a_secret() {
    let person = Person::new();
    let (vault, src, out) = (person.at("vault"), person.at("src"), person.at("out"));
    let log = person.at("log");
    person.write(&format!("src/{NAME}"), CONTENT);
    let loud = |args: &[&str]| {
        let mut all = vec!["--log-level", "trace", "--log-file", log.to_str().unwrap()];
        all.extend(args);
        all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()
    };
    // What init shows once is its result; everything else it prints is held against the secrets as well.
    let init =
        person.given(PASSPHRASE, loud(&["init", vault.to_str().unwrap(), "--yes", "--json"])).expect(0);
    let code = init.json()["recovery_code"].as_str().unwrap().to_owned();
    assert_eq!(code.split(' ').count(), 24);
    let device = std::fs::read_dir(person.at("home/state")).unwrap().next().unwrap().unwrap();
    let device = std::fs::read_to_string(device.path().join("device")).unwrap();
    let device: serde_json::Value = serde_json::from_str(&device).unwrap();

    let what = format!("latest:{}", src.display());
    let mut printed = init.stderr;
    for (passphrase, args) in [
        (None, vec!["push", src.to_str().unwrap()]),
        (Some(PASSPHRASE), vec!["push", src.to_str().unwrap(), "--json"]),
        (Some(PASSPHRASE), vec!["snapshots"]),
        (Some("quite another passphrase"), vec!["snapshots"]),
        (None, vec!["ls", "-lR", "latest"]),
        (None, vec!["restore", &what, "--to", out.to_str().unwrap()]),
        (Some(PASSPHRASE), vec!["check", "--read-data"]),
        (None, vec!["status", "-v", "-v"]),
        (None, vec!["cat", "latest:/nowhere"]),
    ] {
        let args = loud(&args);
        let ran = match passphrase {
            Some(passphrase) => person.given(passphrase, args),
            None => person.run(args),
        };
        printed.push_str(&ran.everything());
    }
    // Wrong ones must not be repeated either: they are often almost right.
    let secrets = [PASSPHRASE, "quite another passphrase", code.as_str()];
    let keys = ["seed", "secret", "envelope"].map(|name| device[name].as_str().unwrap().to_owned());
    let half_code = code.split(' ').take(6).collect::<Vec<_>>().join(" ");
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(!logged.is_empty(), "nothing was logged: this test looks at nothing");
    for secret in secrets.iter().copied().chain(keys.iter().map(String::as_str)).chain([half_code.as_str()]) {
        assert!(!printed.contains(secret), "{secret:?} was printed");
        assert!(!logged.contains(secret), "{secret:?} was logged");
    }
    assert!(!logged.contains(CONTENT));
}

#[test]
fn nothing_readable_rests_in_the_vault_or_the_home() {
    let person = Person::with_vault();
    person.write(&format!("src/{NAME}"), CONTENT.repeat(200));
    person.run(["push", person.at("src").to_str().unwrap(), "--tag", "a-tag-of-ones-own"]).expect(0);
    person.given(PASSPHRASE, ["check", "--read-data"]).expect(0);
    let mut files = Vec::new();
    all_files(&person.at("vault"), &mut files);
    let in_vault = files.len();
    all_files(&person.at("home"), &mut files);
    assert!(in_vault > 4 && files.len() > in_vault);
    for (at, path) in files.iter().enumerate() {
        let bytes = std::fs::read(path).unwrap();
        assert!(!holds(&bytes, CONTENT), "{} holds content", path.display());
        assert!(!holds(&bytes, PASSPHRASE), "{} holds the passphrase", path.display());
        if at < in_vault {
            for private in [NAME, "a-tag-of-ones-own", "/src"] {
                assert!(!holds(&bytes, private), "{} holds {private:?}", path.display());
            }
        }
    }
}

#[test]
fn a_mount_behind_shows_no_secret_to_who_lists_processes() {
    if !fuse_is_wanted() {
        return;
    }
    let person = Person::with_vault();
    person.write("src/a", "a");
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    let mnt = person.at("mnt");
    person.given(PASSPHRASE, ["mount", mnt.to_str().unwrap(), "--background"]).expect(0);
    let mut looked = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if !holds(&line, mnt.to_str().unwrap()) {
            continue;
        }
        looked += 1;
        assert!(!holds(&line, PASSPHRASE));
        assert!(!holds(&std::fs::read(entry.path().join("environ")).unwrap(), PASSPHRASE));
    }
    assert_eq!(looked, 1, "the process of the mount was looked for by its mountpoint");
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
}
