//! More than one device of an account: approval, roles, recovery, revocation.
use crate::account_world::Account;
use crate::program::{Person, Ran, shell};
use backupengine_tests::account::{PASSWORD, Server};

#[test]
fn a_second_device_is_let_in_pushes_and_is_ended() {
    let server = Server::start();
    let (first, second) = (Person::new(), Person::new());
    let (account, _) = Account::with_vault(&server, &first, "a@example.org");
    first.write("src/a", "a");
    first.run(["push", first.at("src").to_str().unwrap()]).expect(0);

    let pending = account.log_in_pending(&second);
    for args in
        [vec!["push", "src"], vec!["snapshots"], vec!["init", "--yes"], vec!["mount", "mnt"], vec!["status"]]
    {
        let mut all = vec!["--vault", server.base()];
        all.extend(&args);
        let refused = second.run(&all).expect(4);
        assert!(refused.stderr.contains("device approve"), "{args:?}: {}", refused.stderr);
    }
    let listed = first.run(["device", "list", "--json"]).expect(0).json();
    let waiting = listed.as_array().unwrap().iter().find(|d| d["status"] == "pending").unwrap();
    assert_eq!(waiting["fingerprint"], pending.words.as_str());

    // Other words, or none where nobody can look: it stays outside.
    let wrong = "abandon ability able about above absent";
    let approve = |words: &[&str]| {
        let mut args = vec!["device", "approve", &pending.device, "--role", "writer"];
        args.extend(words);
        account.run(&first, args)
    };
    let refused = approve(&["--fingerprint", wrong]).expect(4);
    assert!(refused.stderr.contains("the six words differ"), "{}", refused.stderr);
    assert!(!refused.everything().contains(&pending.words));
    approve(&[]).expect(2);
    let approved = approve(&["--fingerprint", &pending.words]).expect(0);
    let words = approved.stdout.lines().nth(3).unwrap().trim().to_owned();
    assert_eq!(words.split(' ').count(), 6, "{}", approved.stdout);

    // The new device takes nothing over before the vault's words were compared.
    let login = |words: &[&str]| {
        let mut args = vec!["login", "--server", server.base()];
        args.extend(words);
        account.run(&second, args)
    };
    login(&[]).expect(2);
    assert!(login(&["--vault-fingerprint", wrong]).expect(4).stderr.contains("the six words differ"));
    let early = second.run(["--vault", server.base(), "push", "src"]).expect(4);
    assert!(early.stderr.contains("does not have the vault's keys yet"), "{}", early.stderr);
    login(&["--vault-fingerprint", &words]).expect(0);

    second.write("src/b", "b");
    second.run(["push", second.at("src").to_str().unwrap(), "--device-name", "second"]).expect(0);
    assert_eq!(first.run(["snapshots", "-q"]).expect(0).stdout.lines().count(), 2);
    let b = format!("latest:{}/b", second.at("src").display());
    assert_eq!(first.run(["cat", &b]).expect(0).stdout, "b");
    first.run(["check", "--read-data"]).expect(0);
    // A writer writes; it does not let in, and is given no file of others.
    let own = second.run(["whoami", "--json"]).expect(0).json();
    assert_eq!(own["role"], "writer");
    let a = format!("latest~1:{}/a", first.at("src").display());
    assert_ne!(second.run(["cat", &a]).status, 0);
    let denied = account.run(&second, ["device", "approve", own["device"].as_str().unwrap()]);
    assert!(denied.expect(4).stderr.contains("no owner of the vault"));

    first.run(["device", "rename", &pending.device[..8], "the second one"]).expect(0);
    assert!(first.run(["device", "list"]).expect(0).stdout.contains("the second one"));
    let ended = account.run(&first, ["device", "revoke", "the second one", "--yes"]).expect(0);
    assert!(ended.stderr.contains("its keys open what was pushed until now"), "{}", ended.stderr);
    let refused = second.run(["push", second.at("src").to_str().unwrap()]).expect(4);
    assert!(refused.stderr.contains("hint:"), "{}", refused.stderr);
    first.run(["push", first.at("src").to_str().unwrap()]).expect(0);
    // It comes back with new keys only, and waits again.
    let again = account.log_in_pending(&second);
    assert_ne!(again.device, pending.device);
}

#[test]
fn a_device_gets_another_role() {
    let server = Server::start();
    let (first, second) = (Person::new(), Person::new());
    let (account, _) = Account::with_vault(&server, &first, "a@example.org");
    first.write("src/a", "a");
    first.run(["push", first.at("src").to_str().unwrap()]).expect(0);
    let device = account.let_in(&first, &second, "reader");
    let a = format!("latest:{}/a", first.at("src").display());
    assert_eq!(second.run(["cat", &a]).expect(0).stdout, "a");
    second.write("src/b", "b");
    let src = second.at("src").to_str().unwrap().to_owned();
    second.run(["push", &src]).expect(4);
    let listed = first.run(["device", "list", "--json"]).expect(0).json();
    let words = listed.as_array().unwrap().iter().find(|d| d["id"] == device.as_str()).unwrap();
    let words = words["fingerprint"].as_str().unwrap();
    account.run(&first, ["device", "approve", &device, "--role", "owner", "--fingerprint", words]).expect(0);
    second.run(["push", &src]).expect(0);
    first.run(["check"]).expect(0);
    // Now it lets others in: a chain of two.
    let third = Person::new();
    account.let_in(&second, &third, "owner");
    third.write("src/c", "c");
    third.run(["push", third.at("src").to_str().unwrap()]).expect(0);
    assert_eq!(first.run(["snapshots", "-q"]).expect(0).stdout.lines().count(), 3);
    first.run(["check", "--read-data"]).expect(0);
}

#[test]
fn the_recovery_code_lets_a_device_in_when_none_is_left() {
    let server = Server::start();
    let (first, second) = (Person::new(), Person::new());
    let (account, code) = Account::with_vault(&server, &first, "a@example.org");
    first.write("src/a", "a");
    first.run(["push", first.at("src").to_str().unwrap()]).expect(0);
    shell(first.path(), "rm -r home");

    let login = |code: &str| {
        let mut command = second.command(["login", "--server", server.base(), "--email", &account.email]);
        command.env("BACKUPENGINE_PASSWORD", PASSWORD).env("BACKUPENGINE_TOTP_CODE", account.code());
        Ran::of(command.env("BACKUPENGINE_RECOVERY_CODE", code).output().unwrap())
    };
    let other = "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth \
                 useful legal winner thank year wave sausage worth title";
    assert!(login(other).expect(4).stderr.contains("does not open this vault"));
    login("legal winner").expect(4);
    let done = login(&code).expect(0);
    assert!(done.stderr.contains("from the recovery code alone"), "{}", done.stderr);
    second.write("src/b", "b");
    second.run(["push", second.at("src").to_str().unwrap()]).expect(0);
    let a = format!("latest~1:{}/a", first.at("src").display());
    assert_eq!(second.run(["cat", &a]).expect(0).stdout, "a");
    assert_eq!(second.run(["whoami", "--json"]).expect(0).json()["role"], "owner");
    // It may end the lost one.
    let listed = second.run(["device", "list", "--json"]).expect(0).json();
    let lost = listed.as_array().unwrap().iter().find(|d| d["current"] == false).unwrap();
    account.run(&second, ["device", "revoke", lost["id"].as_str().unwrap(), "--yes"]).expect(0);
}
