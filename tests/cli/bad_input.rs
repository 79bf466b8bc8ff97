//! What a disk, other users and other mounts can refuse: a clear word, the right exit status, nothing lost and
//! nothing left behind.
use crate::program::{PASSPHRASE, Person, fuse_is_wanted, shell};
use backupengine_testkit::oracle::sample::bytes;
use backupengine_testkit::system::Tmpfs;

#[test]
fn a_vault_without_room_keeps_what_it_has() {
    let person = Person::new();
    let disk = Tmpfs::new("size=1m");
    let vault = disk.path().join("vault");
    person.given(PASSPHRASE, ["init", vault.to_str().unwrap(), "--yes"]).expect(0);
    let src = person.at("src");
    person.write("src/small", "small");
    person.run(["push", src.to_str().unwrap()]).expect(0);
    let before = shell(&vault, "find . -type f | sort");
    person.write("src/large", bytes(1, 4 << 20));
    let full = person.run(["push", src.to_str().unwrap()]).expect(1);
    assert!(full.stderr.contains("no room") && full.stderr.contains("hint: make room"), "{}", full.stderr);
    assert_eq!(shell(&vault, "ls tmp"), "", "spools are left behind");
    let list = person.run(["snapshots", "-q"]).expect(0);
    assert_eq!(list.stdout.lines().count(), 1);
    person.run(["check", "--read-data"]).expect(0);
    // With room again the same push ends, on the same vault.
    std::fs::write(src.join("large"), bytes(1, 300_000)).unwrap();
    person.run(["push", src.to_str().unwrap()]).expect(0);
    person.run(["check", "--read-data"]).expect(0);
    assert!(shell(&vault, "find . -type f | sort").len() > before.len());
}

#[test]
fn init_without_room_leaves_nothing() {
    let person = Person::new();
    let disk = Tmpfs::new("size=1m");
    std::fs::write(disk.path().join("filler"), vec![1; (1 << 20) - 8192]).unwrap();
    let vault = disk.path().join("vault");
    let full = person.given(PASSPHRASE, ["init", vault.to_str().unwrap(), "--yes"]).expect(1);
    assert!(full.stderr.contains("no vault was made in") && full.stderr.contains("hint:"), "{}", full.stderr);
    assert!(!vault.exists());
    assert!(!person.at("home/config.toml").exists());
    assert_eq!(shell(person.path(), "find . -name device | wc -l").trim(), "0");
}

#[test]
fn a_folder_that_is_full_of_inodes_is_told() {
    let person = Person::new();
    let disk = Tmpfs::new("size=8m,nr_inodes=4");
    let vault = disk.path().join("vault");
    let full = person.given(PASSPHRASE, ["init", vault.to_str().unwrap(), "--yes"]).expect(1);
    assert!(full.stderr.contains("hint:"), "{}", full.stderr);
    assert!(!vault.exists());
}

#[test]
fn a_vault_that_may_not_be_read_or_written_is_told() {
    let mut person = Person::with_vault();
    person.write("src/a", "a");
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    // Another user: the vault is root's and closed.
    shell(person.path(), "chmod 700 vault && rm -r home");
    person.become_nobody();
    let vault = person.at("vault");
    let at = |args: &[&str]| {
        let mut all = vec!["--vault", vault.to_str().unwrap()];
        all.extend(args);
        all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()
    };
    let denied = person.given(PASSPHRASE, at(&["snapshots"])).expect(4);
    assert!(denied.stderr.contains("not allowed to") && denied.stderr.contains("hint:"), "{}", denied.stderr);
    // Readable, but not writable: reading works, a push is refused and leaves nothing.
    shell(person.path(), "chmod -R a+rX vault");
    person.given(PASSPHRASE, at(&["snapshots"])).expect(0);
    let before = person.files_below("vault");
    let denied = person.given(PASSPHRASE, at(&["push", person.at("src").to_str().unwrap()])).expect(4);
    assert!(denied.stderr.contains("hint:"), "{}", denied.stderr);
    assert_eq!(person.files_below("vault"), before);
    let denied = person.given(PASSPHRASE, ["init", "/usr/no-place-for-a-vault", "--yes"]).expect(4);
    assert!(denied.stderr.contains("no vault was made in"), "{}", denied.stderr);
}

#[test]
fn unreadable_files_are_listed_and_the_rest_is_pushed() {
    let mut person = Person::new();
    person.become_nobody();
    person.given(PASSPHRASE, ["init", person.at("vault").to_str().unwrap(), "--yes"]).expect(0);
    person.write("src/open", "open");
    person.write("src/closed", "closed");
    person.write("src/folder/below", "below");
    shell(person.path(), "chmod 000 src/closed src/folder && chmod 755 src");
    let src = person.at("src");
    let partial = person.run(["push", src.to_str().unwrap()]).expect(3);
    for name in ["closed", "folder"] {
        let listed = format!("unreadable: {}", src.join(name).display());
        assert!(partial.stderr.contains(&listed), "{listed}: {}", partial.stderr);
    }
    assert!(partial.stderr.contains("could not be read"), "{}", partial.stderr);
    assert!(partial.stdout.lines().last().unwrap().starts_with("snapshot "));
    let cat = person.run(["cat", &format!("latest:{}/open", src.display())]).expect(0);
    assert_eq!(cat.stdout, "open");
    let mnt = person.at("theirs");
    std::fs::create_dir(&mnt).unwrap();
    let denied = person.run(["mount", mnt.to_str().unwrap()]).expect(4);
    assert!(denied.stderr.contains("hint:"), "{}", denied.stderr);
}

#[test]
fn a_mount_inside_what_is_pushed_is_skipped() {
    if !fuse_is_wanted() {
        return;
    }
    let person = Person::with_vault();
    let src = person.at("src");
    person.write("src/a", "a");
    std::fs::create_dir(src.join("snapshots")).unwrap();
    person.run(["push", src.to_str().unwrap()]).expect(0);
    let mnt = src.join("snapshots");
    person.run(["mount", mnt.to_str().unwrap(), "--background"]).expect(0);
    let again = person.run(["mount", mnt.to_str().unwrap()]).expect(6);
    assert!(again.stderr.contains("already mounted") && again.stderr.contains("hint:"), "{}", again.stderr);
    let push = person.run(["push", src.to_str().unwrap()]).expect(0);
    assert!(push.stderr.contains(&format!("skipped: {}", mnt.display())), "{}", push.stderr);
    let ls = person.run(["ls", "-R", &format!("latest:{}", src.display())]).expect(0);
    assert!(!ls.stdout.contains("latest"), "{}", ls.stdout);
    let inside = person.run(["push", mnt.join("latest").to_str().unwrap()]).expect(2);
    assert!(inside.stderr.contains("lies in a mounted vault"), "{}", inside.stderr);
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
}
