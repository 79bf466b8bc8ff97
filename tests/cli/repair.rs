//! `repair` with the real program: what it says, what it makes whole, what it leaves, and its exit status.
use crate::program::Person;
use backupengine_testkit::oracle::sample;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn push(person: &Person) -> String {
    let ran = person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    ran.stdout.split_whitespace().last().unwrap().to_owned()
}

/// Two snapshots; the second only has more.
fn two() -> (Person, [String; 2]) {
    let person = Person::with_vault();
    person.write("src/large", sample::bytes(1, 1_500_000));
    person.write("src/note", "a note of some length, ".repeat(20));
    person.write("src/short", "x".repeat(200));
    let first = push(&person);
    person.write("src/second", sample::bytes(2, 100_000));
    let second = push(&person);
    (person, [first, second])
}

fn packs(person: &Person) -> Vec<PathBuf> {
    let sessions = std::fs::read_dir(person.at("vault/p")).unwrap().map(|entry| entry.unwrap().path());
    let mut packs: Vec<PathBuf> =
        sessions.flat_map(|s| std::fs::read_dir(s).unwrap().map(|entry| entry.unwrap().path())).collect();
    packs.sort();
    packs
}

fn repair(person: &Person, more: &[&str], status: i32) -> Value {
    let lines = person.run(["--json", "repair"].iter().chain(more)).expect(status).json_lines();
    let summary = lines.last().unwrap().clone();
    assert_eq!(summary["type"], "summary");
    assert_eq!(lines.len() as u64 - 1, summary["findings"].as_u64().unwrap());
    summary
}

fn assert_restores(person: &Person, snapshot: &str, names: &[&str]) {
    let out = person.at(format!("out-{snapshot}"));
    person.run(["restore", snapshot, "--to", out.to_str().unwrap()]).expect(0);
    for name in names {
        let path = person.at("src").join(name);
        let restored = out.join(path.strip_prefix("/").unwrap());
        assert_eq!(std::fs::read(restored).unwrap(), std::fs::read(&path).unwrap(), "{name}");
    }
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn a_lost_pack_is_healed_from_the_files_it_was_made_of() {
    let (person, [first, second]) = two();
    let sound = person.run(["repair"]).expect(0);
    assert!(sound.stdout.contains("everything that was looked at is whole"), "{sound:?}");
    std::fs::remove_file(&packs(&person)[0]).unwrap();
    let check = person.run(["check"]).expect(3);
    assert!(check.stderr.contains("backupengine repair"), "{check:?}");
    let before = packs(&person);
    let would = repair(&person, &["--dry-run"], 3);
    assert_eq!((would["dry_run"].as_bool(), would["packs_healed"].as_u64()), (Some(true), Some(1)));
    assert_eq!(packs(&person), before, "a dry run changes nothing");
    let done = repair(&person, &[], 0);
    assert_eq!((done["packs_healed"].as_u64(), done["frames_lost"].as_u64()), (Some(1), Some(0)), "{done}");
    assert!(done["frames_from_files"].as_u64().unwrap() > 0 && done["frames_kept"].as_u64().unwrap() > 0);
    person.run(["check", "--read-data"]).expect(0);
    assert_restores(&person, &first, &["large", "note", "short"]);
    assert_restores(&person, &second, &["large", "note", "short", "second"]);
    // Life goes on.
    person.write("src/third", "third");
    push(&person);
    person.run(["prune", "--now"]).expect(0);
    person.run(["check", "--read-data"]).expect(0);
}

#[test]
fn bytes_that_changed_are_found_where_all_are_read() {
    let (person, [first, _]) = two();
    let pack = &packs(&person)[0];
    let mut bytes = std::fs::read(pack).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(pack, bytes).unwrap();
    person.run(["repair"]).expect(0);
    person.run(["check", "--read-data"]).expect(3);
    let said = person.run(["repair", "--read-data"]).expect(0);
    assert!(said.stdout.contains("healed   1 pack: "), "{said:?}");
    person.run(["check", "--read-data"]).expect(0);
    assert_restores(&person, &first, &["large", "note", "short"]);
}

#[test]
fn what_is_gone_for_good_is_named_and_forgotten_on_demand_alone() {
    let (person, [first, second]) = two();
    std::fs::remove_file(&packs(&person)[0]).unwrap();
    let large = person.at("src/large");
    std::fs::rename(&large, person.at("elsewhere")).unwrap();
    let said = person.run(["repair"]).expect(3);
    assert!(said.stdout.contains(&format!("{first}:{}", large.display())), "{said:?}");
    assert!(said.stdout.contains(&format!("{second}:{}", large.display())), "{said:?}");
    assert!(!said.stdout.contains("src/note"), "{said:?}");
    assert!(said.stderr.contains("repair PATH") && said.stderr.contains("--forget-damaged"), "{said:?}");
    assert_eq!(person.run(["--json", "snapshots"]).expect(0).json().as_array().unwrap().len(), 2);
    // A push stores what it still finds: its own snapshot is whole.
    std::fs::write(&large, "another").unwrap();
    let third = push(&person);
    person.run(["hold", &second]).expect(0);
    let done = repair(&person, &["--forget-damaged"], 3);
    assert_eq!(done["forgotten"], serde_json::json!([first]));
    assert_eq!(done["held"], serde_json::json!([second]));
    let listed = person.run(["--json", "snapshots"]).expect(0).json();
    let ids: Vec<&str> = listed.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&*second, &*third]);
    // It is in the trash; and found again, the file makes all of them whole.
    person.run(["forget", "--undo", &first]).expect(0);
    let elsewhere = person.at("elsewhere");
    let done = repair(&person, &[elsewhere.to_str().unwrap()], 0);
    assert!(done["frames_from_files"].as_u64().unwrap() > 0, "{done}");
    person.run(["check", "--read-data"]).expect(0);
    assert_restores(&person, &third, &["large", "note", "short", "second"]);
}

#[test]
fn a_lost_ledger_is_rebuilt_and_a_lost_root_restored() {
    let (person, [first, second]) = two();
    person.run(["tag", &first, "--add", "later"]).expect(0);
    std::fs::remove_file(person.at("vault/ledger")).unwrap();
    let push_fails = person.run(["push", person.at("src").to_str().unwrap()]);
    assert_ne!(push_fails.status, 0);
    assert!(push_fails.stderr.contains("backupengine repair"), "{push_fails:?}");
    let said = person.run(["repair"]).expect(0);
    assert!(said.stdout.contains("rebuilt from what is stored: 2 snapshots"), "{said:?}");
    assert!(said.stdout.contains("trash"), "what is lost with it is said: {said:?}");
    person.run(["check", "--read-data"]).expect(0);
    let third = push(&person);
    for id in [&first, &second, &third] {
        assert_restores(&person, id, &["large", "note", "short"]);
    }
    let roots = std::fs::read_dir(person.at("vault/r")).unwrap().map(|entry| entry.unwrap().path());
    let root = roots.min().unwrap();
    std::fs::write(&root, b"spoilt").unwrap();
    person.run(["restore", &first, "--to", person.at("no").to_str().unwrap(), "--accept-rollback"]).expect(1);
    let done = repair(&person, &[], 0);
    assert_eq!(done["roots_restored"].as_u64(), Some(1), "{done}");
    assert_restores(&person, &first, &["large", "note", "short"]);
    assert_eq!(std::fs::read(with_end(&root)).unwrap(), b"spoilt", "it is put aside");
}

fn with_end(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

#[test]
fn folders_that_cannot_be_searched_are_bad_usage() {
    let (person, _) = two();
    person.run(["repair", person.at("vault/p").to_str().unwrap()]).expect(2);
    person.run(["repair", person.at("nowhere").to_str().unwrap()]).expect(1);
    person.run(["repair", "--read-data=0"]).expect(2);
}
