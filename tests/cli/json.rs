//! `--json`: every field that is printed stands in `crates/cli/JSON.md` with its type, and every one that stands
//! there is printed.
use crate::program::{PASSPHRASE, Person, fuse_is_wanted};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A field's type as the text writes it; `?` at its end where it may be missing.
pub(crate) type Fields = BTreeMap<String, String>;

/// The tables of the text, by heading: `push: summary`.
pub(crate) fn documented() -> BTreeMap<String, Fields> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("crates/cli/JSON.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut all: BTreeMap<String, Fields> = BTreeMap::new();
    let mut heading = String::new();
    for line in text.lines() {
        if let Some(new) = line.strip_prefix("### ") {
            new.replace('`', "").clone_into(&mut heading);
        } else if let Some(row) = line.strip_prefix("| `") {
            let mut cells = row.split('|').map(str::trim);
            let name = cells.next().unwrap().trim_end_matches('`').to_owned();
            let kind = cells.next().unwrap().to_owned();
            all.entry(heading.clone()).or_default().insert(name, kind);
        }
    }
    assert!(all.len() > 12, "{:?}", all.keys());
    all
}

fn has_type(value: &Value, kind: &str) -> bool {
    let kind = kind.trim_end_matches('?');
    if let Some(inner) = kind.strip_suffix(" or null") {
        return value.is_null() || has_type(value, inner);
    }
    if let Some(inner) = kind.strip_prefix("array of ") {
        return value
            .as_array()
            .is_some_and(|all| all.iter().all(|v| has_type(v, inner.trim_end_matches('s'))));
    }
    match kind {
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        other => panic!("JSON.md names the unknown type {other:?}"),
    }
}

/// Holds what was printed against the text, and notes what was seen.
pub(crate) struct Judge {
    pub(crate) documented: BTreeMap<String, Fields>,
    pub(crate) seen: BTreeMap<String, BTreeSet<String>>,
}

impl Judge {
    fn hold(&mut self, heading: &str, object: &Map<String, Value>) {
        let fields = self.documented.get(heading).unwrap_or_else(|| panic!("JSON.md has no {heading:?}"));
        let seen = self.seen.entry(heading.to_owned()).or_default();
        for (name, value) in object {
            let kind = fields.get(name).unwrap_or_else(|| panic!("{heading}: {name} is not in JSON.md"));
            assert!(has_type(value, kind), "{heading}: {name} is {value}, not {kind}");
            seen.insert(name.clone());
        }
        for (name, kind) in fields {
            assert!(kind.ends_with('?') || object.contains_key(name), "{heading}: {name} is missing");
        }
    }

    /// One document.
    pub(crate) fn document(&mut self, heading: &str, value: &Value) {
        self.hold(heading, value.as_object().unwrap());
    }

    /// Objects of a stream, by their `type`.
    fn stream(&mut self, command: &str, lines: &[Value]) -> BTreeSet<String> {
        let kinds = lines.iter().map(|line| {
            let kind = line["type"].as_str().unwrap().to_owned();
            self.hold(&format!("{command}: {kind}"), line.as_object().unwrap());
            kind
        });
        let kinds = kinds.collect();
        assert_eq!(lines.last().unwrap()["type"], "summary", "{command} ends in its summary");
        kinds
    }
}

#[test]
fn every_field_is_documented_and_printed() {
    let mut judge = Judge { documented: documented(), seen: BTreeMap::new() };
    let person = Person::new();
    let vault = person.at("vault").to_str().unwrap().to_owned();
    let init = person.given(PASSPHRASE, ["init", &vault, "--yes", "--json"]).expect(0).json();
    judge.document("init", &init);
    keys(&mut judge, &person, init["recovery_code"].as_str().unwrap());
    judge.document("version", &person.run(["version", "--json"]).expect(0).json());

    let src = person.at("src");
    std::fs::write(src.join("small"), "small").unwrap();
    std::fs::write(src.join("raw"), "raw").unwrap();
    rename_to_raw(&src.join("raw"));
    std::os::unix::fs::symlink("small", src.join("link")).unwrap();
    // Large enough for a look on the way.
    std::fs::write(src.join("large"), backupengine_testkit::oracle::sample::bytes(1, 256 << 20)).unwrap();
    std::fs::rename(person.at("vault"), src.join("vault")).unwrap();
    let vault = src.join("vault");
    let at = |args: &[&str]| {
        let mut all = vec!["--json", "--vault", vault.to_str().unwrap()];
        all.extend(args);
        all.iter().map(|s| s.to_string()).collect::<Vec<_>>()
    };
    let push = person.run(at(&["push", src.to_str().unwrap(), "--tag", "t"])).expect(0).json_lines();
    let kinds = judge.stream("push", &push);
    assert!(kinds.contains("progress") && kinds.contains("notice"), "{kinds:?}");

    let list = person.run(at(&["snapshots"])).expect(0).json();
    list.as_array().unwrap().iter().for_each(|s| judge.document("snapshots: each", s));
    keeping(&person, &mut judge, &at);
    let what = format!("latest:{}", src.display());
    let ls = person.run(at(&["ls", &what])).expect(0).json();
    judge.document("ls", &ls);
    ls["entries"].as_array().unwrap().iter().for_each(|e| judge.document("ls: each of entries", e));
    let cat = person.run(at(&["cat", &format!("{what}/small")])).expect(0).json_lines();
    judge.stream("cat", &cat);
    assert_eq!(cat[0]["base64"], "c21hbGw=");
    judge.document("status", &person.run(at(&["status"])).expect(0).json());
    suspicion(&person, &mut judge, &at);

    let out = person.at("out");
    let restore = person.run(at(&["restore", &what, "--to", out.to_str().unwrap()])).expect(0).json_lines();
    assert!(judge.stream("restore", &restore).contains("progress"));
    let check = person.run(at(&["check", "--read-data"])).expect(0).json_lines();
    assert!(judge.stream("check", &check).contains("progress"));

    damage_largest(&vault.join("p"));
    let check = person.run(at(&["check", "--read-data"])).expect(3).json_lines();
    judge.stream("check", &check);
    let found = check.iter().find(|line| line["type"] == "finding").unwrap();
    found["affected"].as_array().unwrap().iter().for_each(|a| judge.document("check: each of affected", a));
    let repair = person.run(at(&["repair", "--read-data", "--dry-run"])).expect(3).json_lines();
    judge.stream("repair", &repair);
    let again = person.at("again");
    let restore = person.run(at(&["restore", &what, "--to", again.to_str().unwrap()])).expect(3).json_lines();
    assert!(judge.stream("restore", &restore).contains("failure"));

    let error = person.run(at(&["cat", "latest:/nowhere"])).expect(1);
    judge.document("errors", &serde_json::from_str(&error.stderr).unwrap());
    assert!(error.stdout.is_empty());

    if fuse_is_wanted() {
        let mnt = person.at("mnt").to_str().unwrap().to_owned();
        judge.document("mount", &person.run(at(&["mount", &mnt, "--background"])).expect(0).json());
        judge.document("unmount", &person.run(["unmount", &mnt, "--json"]).expect(0).json());
    } else {
        judge.documented.retain(|heading, _| !heading.ends_with("mount"));
    }

    // `to` needs a page of a tree that cannot be read: too rare to be made here by the program alone.
    let elsewhere = [&crate::account_json::HEADINGS[..], &crate::account_near::HEADINGS].concat();
    judge.documented.retain(|heading, _| !elsewhere.contains(&heading.as_str()));
    let rare = ["to", "to_hex", "current_hex", "mountpoint_hex", "target_hex", "last_seen"];
    for (heading, fields) in &judge.documented {
        let seen = judge.seen.get(heading).unwrap_or_else(|| panic!("{heading} was never printed"));
        for name in fields.keys().filter(|name| !rare.contains(&name.as_str())) {
            let needless = name.ends_with("_hex") && heading != "ls: each of entries";
            assert!(needless || seen.contains(name), "{heading}: {name} is in JSON.md and was never printed");
        }
    }
}

/// What opens the vault, before anything is in it.
fn keys(judge: &mut Judge, person: &Person, code: &str) {
    person.write("code", code);
    person.write("new", "another staple battery horse");
    let (code, new) = (person.at("code"), person.at("new"));
    let (code, new) = (code.to_str().unwrap(), new.to_str().unwrap());
    let listed = person.run(["key", "list", "--json"]).expect(0).json();
    judge.document("key list", &listed);
    listed["ways"].as_array().unwrap().iter().for_each(|way| judge.document("key list: each of ways", way));
    let add = ["key", "add-passphrase", "--new-passphrase-file", new, "--json"];
    judge.document("key add-passphrase", &person.run(add).expect(0).json());
    let rotate = ["key", "rotate", "--yes", "--recovery-code-file", code, "--json"];
    judge.document("key rotate", &person.run(rotate).expect(0).json());
    let recover = ["key", "recover", "--json", "--yes", "--new-recovery-code", "--recovery-code-file", code];
    let recover = [&recover[..], &["--new-passphrase-file", new]].concat();
    judge.document("key recover", &person.run(recover).expect(0).json());
}

/// What decides which snapshots stay. A snapshot more is pushed, and is in the trash in the end.
fn keeping(person: &Person, judge: &mut Judge, at: &impl Fn(&[&str]) -> Vec<String>) {
    let run = |args: &[&str]| person.run(at(args)).expect(0).json();
    person.write("other/f", "f");
    let other = person.at("other");
    person.run(at(&["push", other.to_str().unwrap(), "--time", "2020-01-01T00:00:00Z"])).expect(0);
    let each = |judge: &mut Judge, heading: &str, list: &Value| {
        assert!(!list.as_array().unwrap().is_empty(), "{heading}");
        list.as_array().unwrap().iter().for_each(|one| judge.document(heading, one));
    };
    judge.document("tag", &run(&["tag", "latest", "--add", "u"]));
    each(judge, "hold: each", &run(&["hold", "latest", "latest~1"]));
    each(judge, "hold: each", &run(&["unhold", "latest~1"]));
    let judged = run(&["forget", "--keep-last", "1", "--dry-run"]);
    judge.document("forget", &judged);
    each(judge, "forget: each of kept", &judged["kept"]);
    assert_eq!(judged["kept"][1]["reasons"], serde_json::json!(["held", "last"]));
    let forgotten = run(&["forget", "latest~1"]);
    judge.document("forget", &forgotten);
    judge.document("prune", &run(&["prune", "--dry-run"]));
    each(judge, "forget: each of forgotten", &forgotten["forgotten"]);
    each(judge, "snapshots: each", &run(&["snapshots", "--trash"]));
    judge.document("forget: undo", &run(&["forget", "--undo", "latest"]));
    each(judge, "forget: each of forgotten", &run(&["forget", "latest~1"])["forgotten"]);
}

/// Every kind of signal but a canary that is gone: by one push, which is marked.
fn suspicion(person: &Person, judge: &mut Judge, at: &impl Fn(&[&str]) -> Vec<String>) {
    let canary = person.at("marked/canary").display().to_string();
    let push = |time: &str| {
        let marked = person.at("marked").display().to_string();
        let ran = person.run(at(&["push", &marked, "--canary", &canary, "--time", time])).expect(0);
        ran.json_lines().pop().unwrap()
    };
    let text = "a text that can be read, ".repeat(40);
    (0..12).for_each(|n| person.write(&format!("marked/a{n}"), &text));
    (0..20).for_each(|n| person.write(&format!("marked/b{n}"), &text));
    person.write("marked/canary", &text);
    assert_eq!(push("2020-01-02T00:00:00Z")["signals"], serde_json::json!([]));
    for n in 0..32 {
        let (old, new) = if n < 12 {
            (format!("a{n}"), format!("a{n}.locky"))
        } else {
            (format!("b{}", n - 12), format!("x{n}"))
        };
        std::fs::remove_file(person.at("marked").join(old)).unwrap();
        person.write(&format!("marked/{new}"), backupengine_testkit::oracle::sample::bytes(n + 1, 2000));
    }
    person.write("marked/canary", "touched");
    let summary = push("2020-01-03T00:00:00Z");
    let signals = summary["signals"].as_array().unwrap();
    signals.iter().for_each(|signal| judge.document("push: each of signals", signal));
    let kinds: Vec<&str> = signals.iter().map(|signal| signal["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["unreadable", "replaced", "canary_changed", "extension"]);
    judge.stream("push", &[summary]);
}

fn rename_to_raw(path: &Path) {
    use std::os::unix::ffi::OsStrExt;
    let raw = path.with_file_name(std::ffi::OsStr::from_bytes(b"raw\xff"));
    std::fs::rename(path, raw).unwrap();
}

/// Flips bytes in the middle of the largest file below.
fn damage_largest(folder: &Path) {
    let files =
        std::fs::read_dir(folder).unwrap().flat_map(|s| std::fs::read_dir(s.unwrap().path()).unwrap());
    let largest = files.map(|f| f.unwrap().path()).max_by_key(|p| p.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8].iter_mut().for_each(|b| *b ^= 0x55);
    std::fs::write(&largest, bytes).unwrap();
}
