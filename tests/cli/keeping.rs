//! Forgotten snapshots: what a mount shows, and what other homes that know the vault believe. The commands themselves are a
//! story (`cases/keeping.case`).
use crate::program::{PASSPHRASE, Person, fuse_is_wanted};
use std::path::Path;
use std::time::{Duration, Instant};

fn push(person: &Person, content: &str, time: &str) -> String {
    person.write("src/f", content);
    let src = person.at("src");
    let pushed = person.run(["push", src.to_str().unwrap(), "--time", time, "--json"]).expect(0);
    pushed.json_lines().last().unwrap()["snapshot"].as_str().unwrap().to_owned()
}

fn names(mnt: &Path) -> Vec<String> {
    let entries =
        std::fs::read_dir(mnt).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name.starts_with("2026")).collect();
    names.sort();
    names
}

/// Waits for what has to come, as long as a new snapshot may take by far.
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_mount_shows_a_forgotten_snapshot_no_more() {
    if !fuse_is_wanted() {
        return;
    }
    let person = Person::with_vault();
    push(&person, "old", "2026-03-01T10:00:00Z");
    let newest = push(&person, "new", "2026-03-02T10:00:00Z");
    let mnt = person.mount(&[]);
    let file = mnt.join("latest").join(person.at("src").strip_prefix("/").unwrap()).join("f");
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!((names(&mnt).len(), read().as_str()), (2, "new"));
    person.run(["forget", "latest"]).expect(0);
    wait_until("the end of what was forgotten", || names(&mnt).len() == 1);
    wait_until("the older content", || read() == "old");
    assert!(names(&mnt)[0].starts_with("2026-03-01"), "{:?}", names(&mnt));
    person.run(["forget", "--undo", &newest]).expect(0);
    wait_until("what was brought back", || names(&mnt).len() == 2 && read() == "new");
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
    // A mount that begins now sees the same.
    person.run(["forget", "latest"]).expect(0);
    let mnt = person.mount(&[]);
    assert_eq!((names(&mnt).len(), read().as_str()), (1, "old"));
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
}

#[test]
fn who_saw_what_was_forgotten_believes_the_list_and_no_shorter_one() {
    let person = Person::with_vault();
    let vault = person.at("vault");
    let vault = vault.to_str().unwrap();
    push(&person, "1", "2026-03-01T10:00:00Z");
    push(&person, "2", "2026-03-02T10:00:00Z");
    let before_last = person.at("before-last");
    crate::program::shell(person.path(), "cp -a vault before-last");
    push(&person, "3", "2026-03-03T10:00:00Z");
    crate::program::shell(person.path(), "cp -a vault whole");
    // Somebody else looks in, and remembers the newest.
    let other = Person::new();
    let look = |more: &[&str]| {
        let args = ["snapshots", "-q", "--vault", vault];
        other.given(PASSPHRASE, args.iter().chain(more))
    };
    assert_eq!(look(&[]).expect(0).stdout.lines().count(), 3);
    person.run(["forget", "latest"]).expect(0);
    assert_eq!(look(&[]).expect(0).stdout.lines().count(), 2);
    // The list of the time before the last push is not what was decided.
    let ledger = |of: &Path| std::fs::read(of.join("ledger")).unwrap();
    let decided = ledger(Path::new(vault));
    std::fs::write(Path::new(vault).join("ledger"), ledger(&before_last)).unwrap();
    let refused = look(&[]).expect(1);
    assert!(
        refused.stderr.contains("rollback") && refused.stderr.contains("--accept-rollback"),
        "{}",
        refused.stderr
    );
    std::fs::write(Path::new(vault).join("ledger"), decided).unwrap();
    // The next newest goes as well, and everybody goes on.
    person.run(["forget", "latest"]).expect(0);
    assert_eq!(look(&[]).expect(0).stdout.lines().count(), 1);
    push(&person, "4", "2026-03-04T10:00:00Z");
    assert_eq!(look(&[]).expect(0).stdout.lines().count(), 2);
    person.run(["check", "--read-data"]).expect(0);
}
