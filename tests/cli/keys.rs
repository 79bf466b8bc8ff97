//! Ways into a vault in a folder: listed, added, rotated, recovered; and what must hold whoever else works meanwhile.
use crate::program::{PASSPHRASE, Person, Ran, fuse_is_wanted, shell};
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) const NEW: &str = "another staple battery horse";

/// A person with a vault, its recovery code in `code`, the passphrase in `pass`, and one snapshot.
pub(crate) fn made() -> Person {
    let person = Person::new();
    let vault = person.at("vault");
    let init = person.given(PASSPHRASE, ["init", vault.to_str().unwrap(), "--yes", "--json"]).expect(0);
    person.write("code", init.json()["recovery_code"].as_str().unwrap());
    person.write("pass", PASSPHRASE);
    person.write("new", NEW);
    person.write("src/a", "one");
    push(&person).expect(0);
    person
}

pub(crate) fn push(person: &Person) -> Ran {
    person.run(["push", person.at("src").to_str().unwrap(), "--quiet"])
}

/// With both secrets typed.
pub(crate) fn rotate(person: &Person) -> Ran {
    let (pass, code) = (person.at("pass"), person.at("code"));
    let files = ["--passphrase-file", pass.to_str().unwrap(), "--recovery-code-file", code.to_str().unwrap()];
    person.run(["key", "rotate", "--yes", "--json"].iter().chain(&files))
}

pub(crate) fn given(passphrase: &str, person: &Person, args: &[&str]) -> Ran {
    person.given(passphrase, args)
}

/// Without the file that this device keeps, as a machine that was never here.
pub(crate) fn elsewhere(person: &Person) -> Person {
    let mut other = Person::new();
    other.set("BACKUPENGINE_VAULT", person.at("vault").to_str().unwrap());
    other.write("src/b", "two");
    other
}

pub(crate) fn by_code(person: &Person, other: &Person, args: &[&str]) -> Ran {
    let code = person.at("code");
    let all = ["--recovery-code-file", code.to_str().unwrap()];
    other.run(all.iter().chain(args))
}

fn envelopes(person: &Person) -> usize {
    std::fs::read_dir(person.at("vault/k")).unwrap().count()
}

/// Epochs of the vault's envelopes, by kind.
fn epochs(person: &Person) -> Vec<(String, u64)> {
    let listed = person.run(["key", "list", "--json"]).expect(0).json();
    let ways = listed["ways"].as_array().unwrap().iter();
    let mut all: Vec<_> =
        ways.map(|w| (w["kind"].as_str().unwrap().to_owned(), w["epoch"].as_u64().unwrap())).collect();
    all.sort();
    all
}

pub(crate) fn snapshots(ran: Ran) -> usize {
    ran.expect(0).stdout.lines().count()
}

#[test]
fn what_opens_a_vault_is_listed_without_a_secret() {
    let person = made();
    let listed = person.run(["key", "list"]).expect(0);
    for text in ["passphrase", "recovery code", "device", "(this one)", "key epochs     1"] {
        assert!(listed.stdout.contains(text), "{text}: {}", listed.stdout);
    }
    let json = person.run(["key", "list", "--json"]).expect(0);
    assert!(
        json.json()["ways"].as_array().unwrap().iter().all(|way| way["made"].is_string()),
        "{}",
        json.stdout
    );
    assert_eq!(epochs(&person), [("passphrase".into(), 1), ("recovery_code".into(), 1)]);
}

#[test]
fn a_second_passphrase_opens_it_too_until_it_alone_does() {
    let person = made();
    let new = person.at("new");
    let new = new.to_str().unwrap();
    person.write("weak", "short");
    let weak =
        person.run(["key", "add-passphrase", "--new-passphrase-file", person.at("weak").to_str().unwrap()]);
    assert!(weak.expect(2).stderr.contains("shorter than 12 characters"));
    let nobody = person.run(["key", "add-passphrase"]).expect(2);
    assert!(nobody.stderr.contains("hint: give it by --new-passphrase-file"), "{}", nobody.stderr);
    person.run(["key", "add-passphrase", "--new-passphrase-file", new]).expect(0);
    let other = elsewhere(&person);
    for text in [PASSPHRASE, NEW] {
        assert_eq!(snapshots(given(text, &other, &["snapshots", "-q"])), 1);
    }
    let again = person.run(["key", "add-passphrase", "--new-passphrase-file", new]).expect(2);
    assert!(again.stderr.contains("opens the vault already"), "{}", again.stderr);
    let done = person.run(["key", "add-passphrase", "--replace", "--new-passphrase-file", new]).expect(0);
    assert!(done.stderr.contains("backupengine key rotate"), "what it does not do is said: {}", done.stderr);
    given(PASSPHRASE, &other, &["snapshots"]).expect(4);
    assert_eq!(snapshots(given(NEW, &other, &["snapshots", "-q"])), 1);
    assert_eq!(envelopes(&person), 2);
    person.run(["check"]).expect(0);
}

#[test]
fn after_a_rotation_old_and_new_snapshots_open_and_dedup_goes_on() {
    let person = made();
    person.write(
        "src/large",
        vec![7; 3_000_000].iter().enumerate().map(|(i, b)| b ^ ((i * i) >> 7) as u8).collect::<Vec<u8>>(),
    );
    push(&person).expect(0);
    let done = rotate(&person).expect(0).json();
    assert_eq!((done["epoch"].as_u64(), done["passphrase"].as_bool()), (Some(2), Some(true)), "{done}");
    assert_eq!(epochs(&person), [("passphrase".into(), 2), ("recovery_code".into(), 2)]);
    assert_eq!(envelopes(&person), 2, "the old envelopes are gone");
    // A copy under another name: its bytes are in an old pack, and are not stored again.
    shell(person.path(), "cp src/large src/copy; echo new > src/a");
    let pushed = person.run(["push", person.at("src").to_str().unwrap(), "--json"]).expect(0);
    let summary = pushed.json_lines().pop().unwrap();
    assert_eq!(summary["chunks_new"].as_u64().unwrap_or(9), 0, "{summary}");
    assert!(summary["bytes_stored"].as_u64().unwrap() < 200_000, "{summary}");
    // By this device, by the passphrase, by the code.
    let other = elsewhere(&person);
    for ran in [
        person.run(["snapshots", "-q"]),
        given(PASSPHRASE, &other, &["snapshots", "-q"]),
        by_code(&person, &other, &["snapshots", "-q"]),
    ] {
        assert_eq!(snapshots(ran), 3);
    }
    let file = person.at("src/a");
    for (snapshot, text) in [("latest", "new\n"), ("latest~1", "one"), ("latest~2", "one")] {
        let what = format!("{snapshot}:{}", file.display());
        assert_eq!(given(PASSPHRASE, &other, &["cat", &what]).expect(0).stdout, text);
    }
    person.run(["check", "--read-data"]).expect(0);
    let packs = std::fs::read(person.at("vault/r/00000003")).unwrap();
    assert_eq!(packs[packs.len() - 54..packs.len() - 52], [2, 0], "the new root is of epoch 2");
}

#[test]
fn what_is_left_out_is_said_before_and_ends() {
    let person = made();
    let (pass, code) = (person.at("pass"), person.at("code"));
    let (pass, code) = (pass.to_str().unwrap().to_owned(), code.to_str().unwrap().to_owned());
    // Neither: nothing would open what is pushed then.
    let none = person.run(["key", "rotate", "--yes"]).expect(2);
    assert!(none.stderr.contains("neither a passphrase nor the recovery code"), "{}", none.stderr);
    let nobody = person.run(["key", "rotate", "--passphrase-file", &pass]).expect(2);
    assert!(nobody.stderr.contains("nobody is there to be asked"), "{}", nobody.stderr);
    assert!(nobody.stderr.contains("Left out: the recovery code"), "{}", nobody.stderr);
    assert_eq!(epochs(&person), [("passphrase".into(), 1), ("recovery_code".into(), 1)]);
    let wrong = given("quite another passphrase", &person, &["key", "rotate", "--yes"]).expect(4);
    assert!(wrong.stderr.contains("does not open"), "{}", wrong.stderr);
    // Without the code, it opens what was pushed until now.
    let done = person.run(["key", "rotate", "--yes", "--passphrase-file", &pass]).expect(0);
    assert!(done.stderr.contains("Whoever has the old key"), "{}", done.stderr);
    assert_eq!(epochs(&person), [("passphrase".into(), 2), ("recovery_code".into(), 1)]);
    person.write("src/a", "two");
    push(&person).expect(0);
    let other = elsewhere(&person);
    let seen = by_code(&person, &other, &["snapshots"]).expect(0);
    assert!(seen.stderr.contains("The vault's keys were rotated"), "{}", seen.stderr);
    let file = person.at("src/a");
    let old = by_code(&person, &other, &["cat", &format!("latest~1:{}", file.display())]).expect(0);
    assert_eq!(old.stdout, "one");
    let new = by_code(&person, &other, &["cat", &format!("latest:{}", file.display())]).expect(4);
    assert!(new.stderr.contains("key epoch 2"), "{}", new.stderr);
    let refused = by_code(&person, &other, &["push", other.at("src").to_str().unwrap()]).expect(4);
    assert!(refused.stderr.contains("nothing is written with older keys"), "{}", refused.stderr);
    // With the code alone, the passphrase ends.
    let done = person.run(["key", "rotate", "--yes", "--recovery-code-file", &code]).expect(0);
    assert!(done.stderr.contains("Left out: 1 passphrase"), "{}", done.stderr);
    given(PASSPHRASE, &other, &["snapshots"]).expect(4);
    assert_eq!(epochs(&person), [("recovery_code".into(), 3)]);
    assert_eq!(snapshots(by_code(&person, &other, &["snapshots", "-q"])), 2);
    // And a new one can be set with the next.
    let new = person.at("new");
    let args = [
        "key",
        "rotate",
        "--yes",
        "--new-passphrase-file",
        new.to_str().unwrap(),
        "--recovery-code-file",
        &code,
    ];
    person.run(args).expect(0);
    assert_eq!(snapshots(given(NEW, &other, &["snapshots", "-q"])), 2);
}

#[test]
fn another_device_takes_the_new_keys_with_the_passphrase_once() {
    let person = made();
    let other = elsewhere(&person);
    let src = other.at("src").to_str().unwrap().to_owned();
    by_code(&person, &other, &["push", &src]).expect(0);
    let said = rotate(&person).expect(0);
    assert!(said.stderr.contains("is asked once for the passphrase"), "{}", said.stderr);
    // Its own keys are of epoch 1: it does not push with them, and says what to do.
    let refused = other.run(["push", &src]).expect(4);
    assert!(refused.stderr.contains("nothing is written with older keys"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("hint: give the vault's passphrase or recovery code once"),
        "{}",
        refused.stderr
    );
    assert_eq!(snapshots(other.run(["snapshots", "-q"])), 2);
    let taken = given(PASSPHRASE, &other, &["push", &src]).expect(0);
    assert!(taken.stderr.contains("keeps the vault's newer keys now"), "{}", taken.stderr);
    other.run(["push", &src]).expect(0);
    assert_eq!(snapshots(person.run(["snapshots", "-q"])), 4);
    person.run(["check"]).expect(0);
}

/// The store puts the envelopes from before a rotation back, as far as it can: nobody pushes under the old epoch.
#[test]
fn an_older_envelope_shown_again_makes_nobody_push_under_old_keys() {
    let person = made();
    let other = elsewhere(&person);
    let src = other.at("src").to_str().unwrap().to_owned();
    by_code(&person, &other, &["push", &src]).expect(0);
    shell(person.path(), "cp -a vault/k older; cp vault/ledger ledger.older");
    rotate(&person).expect(0);
    given(PASSPHRASE, &other, &["snapshots"]).expect(0);
    // Envelopes and the ledger's word of them, the list of snapshots as it is.
    shell(person.path(), "rm vault/k/*; cp -a older/* vault/k/; cp ledger.older vault/ledger");
    let own = push(&person).expect(1);
    assert!(own.stderr.contains("rollback: the vault shows key envelopes of epoch 1"), "{}", own.stderr);
    assert!(own.stderr.contains("hint:"), "{}", own.stderr);
    // The other one opens the old envelope with the right passphrase, and remembers that there were newer keys.
    shell(other.path(), "rm home/state/*/device");
    let refused = given(PASSPHRASE, &other, &["push", &src]).expect(4);
    assert!(refused.stderr.contains("nothing is written with older keys"), "{}", refused.stderr);
    assert_eq!(snapshots(person.run(["snapshots", "-q"])), 2, "nothing was pushed");
    // Whoever knows why makes new envelopes.
    rotate(&person).expect(0);
    push(&person).expect(0);
    assert_eq!(epochs(&person), [("passphrase".into(), 3), ("recovery_code".into(), 3)]);
}

#[test]
fn of_two_rotations_at_once_one_comes_through_and_the_vault_opens() {
    let person = made();
    let args = || {
        let (pass, code) = (person.at("pass"), person.at("code"));
        let all = [
            "key",
            "rotate",
            "--yes",
            "--passphrase-file",
            pass.to_str().unwrap(),
            "--recovery-code-file",
            code.to_str().unwrap(),
        ];
        person.start(all)
    };
    let running: Vec<_> = (0..4).map(|_| args()).collect();
    let ended: Vec<i32> =
        running.into_iter().map(|child| Ran::of(child.wait_with_output().unwrap()).status).collect();
    let through = ended.iter().filter(|status| **status == 0).count();
    assert!(through >= 1, "{ended:?}");
    assert!(ended.iter().all(|status| matches!(status, 0 | 4 | 6)), "{ended:?}");
    let epoch = through as u64 + 1;
    assert_eq!(epochs(&person), [("passphrase".into(), epoch), ("recovery_code".into(), epoch)]);
    push(&person).expect(0);
    let other = elsewhere(&person);
    assert_eq!(snapshots(given(PASSPHRASE, &other, &["snapshots", "-q"])), 2);
    assert_eq!(snapshots(by_code(&person, &other, &["snapshots", "-q"])), 2);
    let file = format!("latest:{}", person.at("src/a").display());
    assert_eq!(given(PASSPHRASE, &other, &["cat", &file]).expect(0).stdout, "one");
}

/// Killed as it works, at one moment after the other.
#[test]
fn a_rotation_that_is_killed_leaves_a_vault_that_opens() {
    let person = made();
    let (pass, code) = (person.at("pass"), person.at("code"));
    let all = [
        "key",
        "rotate",
        "--yes",
        "--passphrase-file",
        pass.to_str().unwrap(),
        "--recovery-code-file",
        code.to_str().unwrap(),
    ];
    let whole = Instant::now();
    person.run(all).expect(0);
    let whole = whole.elapsed();
    let mut snapshots_there = 1;
    for part in 1..8_u32 {
        let mut child = person.start(all);
        std::thread::sleep(whole * part / 7);
        drop(child.kill());
        child.wait().unwrap();
        person.given(PASSPHRASE, ["push", person.at("src").to_str().unwrap(), "-q"]).expect(0);
        snapshots_there += 1;
        let other = elsewhere(&person);
        assert_eq!(snapshots(given(PASSPHRASE, &other, &["snapshots", "-q"])), snapshots_there);
        assert_eq!(snapshots(by_code(&person, &other, &["snapshots", "-q"])), snapshots_there);
        let file = format!("latest:{}", person.at("src/a").display());
        assert_eq!(by_code(&person, &other, &["cat", &file]).expect(0).stdout, "one", "part {part}");
    }
    person.run(["check", "--read-data"]).expect(0);
}

#[test]
fn a_push_that_was_broken_off_before_a_rotation_goes_on_after_it() {
    let person = made();
    let mut noise = 1_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (noise >> 33) as u8
    })
    .take(90 << 20)
    .collect();
    person.write("src/large", &bytes);
    let src = person.at("src").to_str().unwrap().to_owned();
    let mut child = person.start(["push", &src]);
    let begun = Instant::now();
    // Killed once the first pack of its session is stored.
    while person.files_below("vault/p/00000002") == 0 {
        assert!(
            child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(120),
            "no pack came"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    rotate(&person).expect(0);
    let done = person.run(["push", &src, "--json"]).expect(0).json_lines().pop().unwrap();
    assert!(done["chunks_reused"].as_u64().unwrap() > 0, "what was stored under the old key is used: {done}");
    let out = person.at("out");
    let what = format!("latest:{src}");
    person.run(["restore", &what, "--to", out.to_str().unwrap(), "-q"]).expect(0);
    shell(person.path(), "find out -name large -exec cmp {} src/large \\;");
    person.run(["check", "--read-data"]).expect(0);
    let other = elsewhere(&person);
    let file = format!("latest:{}", person.at("src/a").display());
    assert_eq!(given(PASSPHRASE, &other, &["cat", &file]).expect(0).stdout, "one");
}

/// Reads what a mount shows of a file in the newest snapshot, by the folder of snapshots.
pub(crate) fn newest(mnt: &Path, file: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(mnt.join("latest").join(file.strip_prefix("/").unwrap()))
}

#[test]
fn a_mount_that_is_held_open_goes_on_over_a_rotation() {
    if !fuse_is_wanted() {
        return;
    }
    let person = made();
    let mnt = person.mount(&[]);
    let file = person.at("src/a");
    assert_eq!(newest(&mnt, &file).unwrap(), "one");
    let old = std::fs::canonicalize(mnt.join("latest")).unwrap();
    rotate(&person).expect(0);
    assert_eq!(newest(&mnt, &file).unwrap(), "one");
    person.write("src/a", "after the rotation");
    // Two snapshots of one second would have the folder of the first be named anew.
    std::thread::sleep(Duration::from_secs(1));
    push(&person).expect(0);
    let begun = Instant::now();
    while newest(&mnt, &file).unwrap_or_default() != "after the rotation" {
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", newest(&mnt, &file));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(std::fs::read_to_string(old.join(file.strip_prefix("/").unwrap())).unwrap(), "one");
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
}

/// Its passphrase was typed, and is gone: it shows what it can, and says of the rest what is wrong.
#[test]
fn a_mount_without_its_secret_shows_the_older_snapshots() {
    if !fuse_is_wanted() {
        return;
    }
    let person = made();
    let mut other = elsewhere(&person);
    other.set("BACKUPENGINE_VAULT", person.at("vault").to_str().unwrap());
    let mnt = other.at("mnt");
    other.given(PASSPHRASE, ["mount", mnt.to_str().unwrap(), "--background"]).expect(0);
    let file = person.at("src/a");
    assert_eq!(newest(&mnt, &file).unwrap(), "one");
    let old = std::fs::canonicalize(mnt.join("latest")).unwrap();
    rotate(&person).expect(0);
    person.write("src/a", "after");
    push(&person).expect(0);
    let begun = Instant::now();
    while newest(&mnt, &file).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the newest stays the old one");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(newest(&mnt, &file).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(std::fs::read_to_string(old.join(file.strip_prefix("/").unwrap())).unwrap(), "one");
    other.run(["unmount", mnt.to_str().unwrap()]).expect(0);
}

#[test]
fn a_lost_passphrase_is_replaced_by_the_recovery_code() {
    let person = made();
    let other = elsewhere(&person);
    let new = person.at("new");
    let new = new.to_str().unwrap();
    let nobody = other.run(["key", "recover"]).expect(4);
    assert!(nobody.stderr.contains("hint: give it by --recovery-code-file"), "{}", nobody.stderr);
    other.write("typo", "abandon ".repeat(23) + "art");
    let typo = other.at("typo");
    let wrong =
        ["--recovery-code-file", typo.to_str().unwrap(), "key", "recover", "--new-passphrase-file", new];
    let wrong = other.run(wrong).expect(4);
    assert!(wrong.stderr.contains("the recovery code does not open this vault"), "{}", wrong.stderr);
    let done = by_code(&person, &other, &["key", "recover", "--new-passphrase-file", new]).expect(0);
    assert!(done.stdout.contains("This device is one of the vault's now"), "{}", done.stdout);
    other.run(["push", other.at("src").to_str().unwrap()]).expect(0);
    let third = elsewhere(&person);
    given(PASSPHRASE, &third, &["snapshots"]).expect(4);
    assert_eq!(snapshots(given(NEW, &third, &["snapshots", "-q"])), 2);
    // The code stays good until it is replaced.
    let args = ["key", "recover", "--keep-passphrase", "--new-recovery-code", "--yes", "--json"];
    let made = by_code(&person, &other, &args).expect(0).json();
    let words = made["recovery_code"].as_str().unwrap();
    assert_eq!(words.split(' ').count(), 24);
    by_code(&person, &third, &["snapshots"]).expect(4);
    person.write("code", words);
    assert_eq!(snapshots(by_code(&person, &third, &["snapshots", "-q"])), 2);
    assert_eq!(snapshots(given(NEW, &third, &["snapshots", "-q"])), 2);
    // It still certifies devices: the root key went along.
    by_code(&person, &third, &["push", third.at("src").to_str().unwrap()]).expect(0);
    person.run(["check"]).expect(0);
}

#[test]
fn a_new_code_has_to_be_typed_back() {
    let person = made();
    let new = person.at("new");
    let args = ["key", "recover", "--new-recovery-code", "--new-passphrase-file", new.to_str().unwrap()];
    let refused = by_code(&person, &person, &args).expect(2);
    assert!(
        refused.stderr.contains("nobody is there to type the new recovery code back"),
        "{}",
        refused.stderr
    );
    assert_eq!(
        snapshots(given(PASSPHRASE, &elsewhere(&person), &["snapshots", "-q"])),
        1,
        "nothing was changed"
    );
}

#[test]
fn no_output_of_the_key_commands_holds_a_secret() {
    let person = made();
    let code = std::fs::read_to_string(person.at("code")).unwrap();
    let half = code.split(' ').take(6).collect::<Vec<_>>().join(" ");
    let log = person.at("log");
    let (pass, file, new) = (person.at("pass"), person.at("code"), person.at("new"));
    let (pass, file, new) = (pass.to_str().unwrap(), file.to_str().unwrap(), new.to_str().unwrap());
    let loud = ["--log-level", "trace", "--log-file", log.to_str().unwrap()];
    let mut printed = String::new();
    for args in [
        vec!["key", "list", "-v", "-v"],
        vec!["key", "add-passphrase", "--new-passphrase-file", new],
        vec!["key", "rotate", "--yes", "--passphrase-file", pass, "--recovery-code-file", file],
        vec!["key", "recover", "--recovery-code-file", file, "--new-passphrase-file", new],
        vec!["key", "rotate", "--yes", "--new-passphrase-file", pass],
    ] {
        let ran = person.run(loud.iter().chain(&args)).expect(0);
        printed.push_str(&ran.everything());
    }
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(logged.contains("unlocking"), "nothing was logged: this test looks at nothing");
    for secret in [PASSPHRASE, NEW, &half] {
        assert!(!printed.contains(secret) && !logged.contains(secret), "{secret:?} shows");
    }
}
