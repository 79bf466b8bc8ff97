//! Keys that were rotated, and what else goes on in the vault: retention, giving space back, checks, pushes that are open,
//! mounts that are held; and what old keys and old envelopes still open.
use crate::keys::{NEW, by_code, elsewhere, given, made, newest, push, rotate, snapshots};
use crate::program::{PASSPHRASE, Person, fuse_is_wanted, shell};
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes that do not compress and share nothing.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    })
    .take(len)
    .collect()
}

/// The key epoch that a blob's trailer names.
fn epoch_of(blob: &Path) -> u16 {
    let bytes = std::fs::read(blob).unwrap();
    let trailer = bytes.last_chunk::<64>().unwrap();
    u16::from_le_bytes([trailer[10], trailer[11]])
}

/// Epochs of all packs, by their names below `p`.
fn packs(person: &Person) -> Vec<(String, u16)> {
    let mut found = Vec::new();
    for session in std::fs::read_dir(person.at("vault/p")).unwrap() {
        for pack in std::fs::read_dir(session.unwrap().path()).unwrap() {
            let path = pack.unwrap().path();
            let name = path.strip_prefix(person.at("vault/p")).unwrap().display().to_string();
            found.push((name, epoch_of(&path)));
        }
    }
    found.sort();
    found
}

/// A snapshot of the first epoch, and one of the second that needs little of the first one's pack.
fn little_is_left() -> Person {
    let person = made();
    person.write("src/little", noise(1, 200_000));
    person.write("src/much", noise(2, 3 << 20));
    push(&person).expect(0);
    rotate(&person).expect(0);
    std::fs::remove_file(person.at("src/much")).unwrap();
    push(&person).expect(0);
    person
}

fn forget_all_but_the_last(person: &Person) {
    person.run(["forget", "--keep-last", "1", "-q"]).expect(0);
}

#[test]
fn prune_rewrites_packs_of_an_older_epoch_under_the_newest() {
    let person = little_is_left();
    forget_all_but_the_last(&person);
    let before = packs(&person);
    let old: Vec<_> = before.iter().filter(|(_, epoch)| *epoch == 1).map(|(name, _)| name.clone()).collect();
    assert!(!old.is_empty(), "{before:?}");
    let report = person.run(["prune", "--now", "--json"]).expect(0).json();
    assert!(report["packs_moved"].as_u64().unwrap() > 0, "{report}");
    let after = packs(&person);
    assert!(
        after.iter().all(|(name, epoch)| *epoch == 2 && !old.contains(name)),
        "{before:?}, then {after:?}"
    );
    assert!(after.iter().any(|known| !before.contains(known)), "nothing was copied: {after:?}");
    // By this device, and by the passphrase alone.
    let what = format!("latest:{}", person.at("src/little").display());
    let other = elsewhere(&person);
    for who in [&person, &other] {
        let to = who.at("out");
        given(PASSPHRASE, who, &["restore", &what, "--to", to.to_str().unwrap(), "-q"]).expect(0);
        let restored = shell(&to, "find . -name little -exec cat {} + | cksum");
        assert_eq!(restored, shell(person.path(), "cksum < src/little"));
    }
    person.run(["check", "--read-data"]).expect(0);
    given(PASSPHRASE, &other, &["check", "--read-data"]).expect(0);
    // Pushes go on, on all of it.
    person.write("src/more", noise(4, 200_000));
    push(&person).expect(0);
    given(PASSPHRASE, &other, &["check", "--read-data"]).expect(0);
}

/// What it had not read yet lies in a pack of a key that it was not given when it was mounted.
#[test]
fn a_mount_reads_on_in_packs_that_were_rewritten_under_newer_keys() {
    if !fuse_is_wanted() {
        return;
    }
    let person = made();
    person.write("src/little", noise(1, 200_000));
    person.write("src/much", noise(2, 3 << 20));
    push(&person).expect(0);
    std::fs::remove_file(person.at("src/much")).unwrap();
    push(&person).expect(0);
    let mnt = person.mount(&[]);
    assert_eq!(newest(&mnt, &person.at("src/a")).unwrap(), "one");
    rotate(&person).expect(0);
    forget_all_but_the_last(&person);
    let report = person.run(["prune", "--now", "--json"]).expect(0).json();
    assert!(report["packs_moved"].as_u64().unwrap() > 0, "{report}");
    assert!(packs(&person).iter().any(|(_, epoch)| *epoch == 2), "{:?}", packs(&person));
    let shown = mnt.join("latest").join(person.at("src/little").strip_prefix("/").unwrap());
    assert!(std::fs::read(shown).unwrap() == noise(1, 200_000));
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
}

#[test]
fn a_device_with_older_keys_reads_what_is_old_and_decides_nothing() {
    let person = made();
    let other = elsewhere(&person);
    let src = other.at("src").to_str().unwrap().to_owned();
    by_code(&person, &other, &["push", &src]).expect(0);
    rotate(&person).expect(0);
    person.write("src/a", "after the rotation");
    push(&person).expect(0);
    let (ledger, stored) = (std::fs::read(person.at("vault/ledger")).unwrap(), packs(&person));
    for args in [
        &["prune"][..],
        &["prune", "--now"],
        &["forget", "latest"],
        &["forget", "--keep-last", "1"],
        &["tag", "latest~1", "--add", "t"],
    ] {
        let refused = other.run(args).expect(4);
        assert!(
            refused.stderr.contains("nothing is written with older keys"),
            "{args:?}: {}",
            refused.stderr
        );
        assert!(refused.stderr.contains("hint: give the vault's passphrase"), "{args:?}: {}", refused.stderr);
    }
    let refused = other.run(["check"]).expect(4);
    assert!(refused.stderr.contains("nothing is checked with older keys"), "{}", refused.stderr);
    assert_eq!((std::fs::read(person.at("vault/ledger")).unwrap(), packs(&person)), (ledger, stored));
    // The keys it has go on opening what they opened, and nothing newer: as those of a device that was revoked would.
    let file = person.at("src/a");
    let closed = other.run(["cat", &format!("latest:{}", file.display())]).expect(4);
    assert!(closed.stderr.contains("key epoch 2") && closed.stdout.is_empty(), "{}", closed.everything());
    let old = other.run(["cat", &format!("latest~2:{}", file.display())]).expect(0);
    assert_eq!(old.stdout, "one");
    given(PASSPHRASE, &other, &["check"]).expect(0);
    other.run(["tag", "latest", "--add", "t"]).expect(0);
    other.run(["prune"]).expect(0);
}

/// What was forgotten is said under the newest key: without it a snapshot that is gone cannot be told from one withheld.
#[test]
fn what_was_forgotten_after_a_rotation_is_told_by_the_newer_keys() {
    let person = made();
    let other = elsewhere(&person);
    by_code(&person, &other, &["push", other.at("src").to_str().unwrap()]).expect(0);
    let id = other.run(["snapshots", "--json"]).expect(0).json()[1]["id"].as_str().unwrap().to_owned();
    rotate(&person).expect(0);
    push(&person).expect(0);
    person.run(["forget", &id]).expect(0);
    assert_eq!(snapshots(person.run(["snapshots", "-q"])), 2);
    let alarmed = other.run(["snapshots", "-q"]).expect(1);
    assert!(
        alarmed.stderr.contains("keys were rotated, and these older ones do not show"),
        "{}",
        alarmed.stderr
    );
    assert_eq!(snapshots(given(PASSPHRASE, &other, &["snapshots", "-q"])), 2);
    assert_eq!(snapshots(other.run(["snapshots", "-q"])), 2, "it keeps the newer keys");
    // An owner who accepts it all the same sees what the older keys open.
    let third = elsewhere(&person);
    assert_eq!(snapshots(given(PASSPHRASE, &third, &["snapshots", "-q", "--accept-rollback"])), 2);
}

/// A copy of the old key files and the passphrase that opened them, and all that was stored since.
#[test]
fn old_envelopes_open_nothing_that_was_pushed_after_a_rotation() {
    let person = made();
    shell(person.path(), "cp -a vault/k stolen");
    let (new, code) = (person.at("new"), person.at("code"));
    let args =
        ["key", "rotate", "--yes", "--new-passphrase-file", new.to_str().unwrap(), "--recovery-code-file"];
    person.run(args.iter().chain(&[code.to_str().unwrap()])).expect(0);
    person.write("src/a", "said after the rotation");
    push(&person).expect(0);
    // In the vault as it is they do not count.
    shell(person.path(), "cp -a vault thiefs; rm thiefs/k/*; cp -a stolen/* thiefs/k/");
    let mut thief = Person::new();
    thief.set("BACKUPENGINE_VAULT", person.at("thiefs").to_str().unwrap());
    let refused = given(PASSPHRASE, &thief, &["snapshots"]).expect(4);
    assert!(refused.stderr.contains("no key envelope for a passphrase"), "{}", refused.stderr);
    // Whoever may write makes all of them count: what is older opens, and nothing else.
    std::fs::write(person.at("thiefs/ledger"), "spoilt").unwrap();
    let listed = given(PASSPHRASE, &thief, &["snapshots", "-q"]);
    assert_eq!(snapshots(listed), 1);
    let file = person.at("src/a");
    let latest = given(PASSPHRASE, &thief, &["cat", &format!("latest:{}", file.display())]).expect(0);
    assert_eq!(latest.stdout, "one");
    let id = person.run(["snapshots", "-q"]).expect(0).stdout;
    for id in id.lines() {
        let ran = given(PASSPHRASE, &thief, &["cat", &format!("{id}:{}", file.display())]);
        assert!(!ran.everything().contains("said after"), "{}", ran.everything());
    }
    let other = elsewhere(&person);
    let shown = given(NEW, &other, &["cat", &format!("latest:{}", file.display())]).expect(0);
    assert_eq!(shown.stdout, "said after the rotation", "the vault's own passphrase opens it");
}

/// It ends as it began; the next one takes the new key.
#[test]
fn a_push_that_is_open_while_the_keys_rotate_ends_well() {
    let person = made();
    person.write("src/large", noise(3, 120 << 20));
    let src = person.at("src").to_str().unwrap().to_owned();
    let mut child = person.start(["push", &src, "-q"]);
    let begun = Instant::now();
    while person.files_below("vault/p/00000002") == 0 {
        assert!(
            child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(120),
            "no pack came"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    // Held where it is, so that the keys rotate while it runs.
    let signal = |name: &str| shell(person.path(), &format!("kill -{name} {}", child.id()));
    signal("STOP");
    let said = rotate(&person).expect(0);
    signal("CONT");
    assert!(said.stderr.contains("1 push is open"), "{}", said.stderr);
    assert!(child.wait().unwrap().success());
    assert_eq!(epoch_of(&person.at("vault/r/00000002")), 1);
    person.write("src/a", "next");
    push(&person).expect(0);
    assert_eq!(epoch_of(&person.at("vault/r/00000003")), 2);
    let other = elsewhere(&person);
    assert_eq!(snapshots(given(PASSPHRASE, &other, &["snapshots", "-q"])), 3);
    for (snapshot, text) in [("latest", "next"), ("latest~1", "one")] {
        let what = format!("{snapshot}:{}", person.at("src/a").display());
        assert_eq!(other.run(["cat", &what, "-q"]).status, 4, "it has no key of its own");
        assert_eq!(given(PASSPHRASE, &other, &["cat", &what]).expect(0).stdout, text);
    }
    person.run(["check", "--read-data"]).expect(0);
}
