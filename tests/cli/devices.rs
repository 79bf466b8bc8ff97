//! More than one device, and a vault that shows another past than was seen.
use crate::program::{PASSPHRASE, Person, shell};

/// Another home on the same vault: a second machine. Its recovery code is the vault's.
fn made_vault() -> (Person, String) {
    let person = Person::new();
    let vault = person.at("vault");
    let init = person.given(PASSPHRASE, ["init", vault.to_str().unwrap(), "--yes", "--json"]).expect(0);
    person.write("src/a", "a");
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    (person, init.json()["recovery_code"].as_str().unwrap().to_owned())
}

#[test]
fn a_new_device_reads_by_passphrase_and_pushes_by_recovery_code() {
    let (first, code) = made_vault();
    let second = Person::new();
    let vault = first.at("vault");
    let at = |args: &[&str]| {
        let mut all = vec!["--vault", vault.to_str().unwrap()];
        all.extend(args);
        all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()
    };
    second.write("src/b", "b");
    let src = second.at("src").to_str().unwrap().to_owned();
    second.given(PASSPHRASE, at(&["snapshots"])).expect(0);
    let refused = second.given(PASSPHRASE, at(&["push", &src])).expect(4);
    assert!(refused.stderr.contains("not one of the vault's yet"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("hint: its first push needs the recovery code once"),
        "{}",
        refused.stderr
    );

    second.write("code", &code);
    second.write("typo", code.replacen(|c: char| c.is_ascii_lowercase(), "x", 3));
    let typo = second.at("typo");
    let wrong = ["--recovery-code-file", typo.to_str().unwrap(), "push", &src];
    let refused = second.given(PASSPHRASE, at(&wrong)).expect(4);
    assert!(refused.stderr.contains("this is not a recovery code"), "{}", refused.stderr);

    let file = second.at("code");
    let right = ["--recovery-code-file", file.to_str().unwrap(), "push", &src, "--device-name", "second"];
    let done = second.given(PASSPHRASE, at(&right)).expect(0);
    assert!(done.stderr.contains("This device is now one of the vault's"), "{}", done.stderr);
    // From now on it needs neither, and the first device sees what it pushed.
    second.run(at(&["push", &src])).expect(0);
    let list = first.run(["snapshots", "--device", "second", "-q"]).expect(0);
    assert_eq!(list.stdout.lines().count(), 1);
    first.run(["check"]).expect(0);

    // The code opens the vault by itself as well.
    let third = Person::new();
    let output = third.command(at(&["snapshots"])).env("BACKUPENGINE_RECOVERY_CODE", &code).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_device_file_that_others_may_read_is_refused() {
    let (person, _) = made_vault();
    shell(person.path(), "chmod 644 home/state/*/device");
    let refused = person.run(["snapshots"]).expect(4);
    assert!(refused.stderr.contains("open to other users"), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: close it: chmod 600"), "{}", refused.stderr);
    shell(person.path(), "chmod 600 home/state/*/device");
    person.run(["snapshots"]).expect(0);
}

#[test]
fn an_older_copy_of_a_vault_is_refused_until_accepted() {
    let (person, _) = made_vault();
    let src = person.at("src").to_str().unwrap().to_owned();
    shell(person.path(), "cp -a vault older");
    person.write("src/a", "changed");
    person.run(["push", &src]).expect(0);
    shell(person.path(), "mv vault newer && mv older vault");
    for args in [vec!["snapshots"], vec!["push", &src], vec!["status"], vec!["check"]] {
        let refused = person.run(&args).expect(1);
        assert!(refused.stderr.contains("rollback: device"), "{}", refused.stderr);
        assert!(refused.stderr.contains("hint: if you know why, go on with --accept-rollback"), "{args:?}");
    }
    person.run(["snapshots", "--accept-rollback"]).expect(0);
    let pushed = person.run(["push", &src]).expect(0);
    assert!(pushed.stdout.contains("snapshot "), "{}", pushed.stdout);
    person.run(["check", "--read-data"]).expect(0);
    // Now the copy that was newer shows another past.
    shell(person.path(), "mv vault other && mv newer vault");
    let refused = person.run(["snapshots"]).expect(1);
    assert!(refused.stderr.contains("fork") || refused.stderr.contains("rollback"), "{}", refused.stderr);
}

#[test]
fn a_damaged_memory_is_told_and_not_passed_over() {
    let (person, _) = made_vault();
    shell(person.path(), "for f in home/state/*/floor; do echo garbage > $f; done");
    let refused = person.run(["snapshots"]).expect(1);
    assert!(refused.stderr.contains("memory of seen snapshots"), "{}", refused.stderr);
}
