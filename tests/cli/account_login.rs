//! Logging in and out, and what keeps somebody out.
use crate::account_world::{Account, with_new_factor};
use crate::program::{Person, Ran, fuse_is_wanted};
use backupengine_tests::account::{PASSWORD, Server};

fn login(account: &Account<'_>, person: &Person, password: &str, code: &str) -> Ran {
    let mut command = person.command(["login", "--server", account.server.base(), "--email", &account.email]);
    Ran::of(
        command.env("BACKUPENGINE_PASSWORD", password).env("BACKUPENGINE_TOTP_CODE", code).output().unwrap(),
    )
}

#[test]
fn a_wrong_password_or_code_is_denied_and_logging_in_again_goes_on() {
    let server = Server::start();
    let person = Person::new();
    let (account, _) = Account::with_vault(&server, &person, "a@example.org");
    let wrong = login(&account, &person, "quite another password", &account.code()).expect(4);
    assert!(wrong.stderr.contains("check e-mail and password"), "{}", wrong.stderr);
    let right = account.code();
    let other = format!("{:06}", (right.parse::<u32>().unwrap() + 1) % 1_000_000);
    let wrong = login(&account, &person, PASSWORD, &other).expect(4);
    assert!(wrong.stderr.contains("each code counts once"), "{}", wrong.stderr);
    login(&account, &person, PASSWORD, "12345").expect(4);
    login(&account, &person, PASSWORD, &account.code()).expect(0);
    person.run(["snapshots"]).expect(0);

    let out = person.run(["logout", "--json"]).expect(0).json();
    assert_eq!((&out["ended"], &out["forgotten"]), (&true.into(), &false.into()));
    let refused = person.run(["snapshots"]).expect(4);
    assert!(refused.stderr.contains("backupengine login"), "{}", refused.stderr);
    // The same device comes back without any approval.
    account.run(&person, ["login"]).expect(0);
    person.run(["snapshots"]).expect(0);
    // Not so where its keys were taken away.
    person.run(["logout", "--forget-device"]).expect(0);
    account.log_in_pending(&person);
}

#[test]
fn an_ended_login_is_told_and_a_short_one_is_renewed() {
    let server = Server::with(|config| config.access_life = std::time::Duration::from_secs(4));
    let person = Person::new();
    let (account, _) = Account::with_vault(&server, &person, "a@example.org");
    person.write("src/a", "a");
    let tokens =
        person.at("home/state/accounts").read_dir().unwrap().next().unwrap().unwrap().path().join("tokens");
    let before = std::fs::read_to_string(&tokens).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(4));
    for args in [["status"], ["snapshots"]] {
        person.run(args).expect(0);
    }
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    // Not compared by assert_ne: it would print tokens.
    assert!(std::fs::read_to_string(&tokens).unwrap() != before, "the login was renewed");
    server.admin().execute("delete from auth.sessions", &[]).unwrap();
    let src = person.at("src");
    for args in [vec!["push", src.to_str().unwrap()], vec!["status"], vec!["snapshots"]] {
        let refused = person.run(&args).expect(4);
        assert!(refused.stderr.contains("backupengine login"), "{args:?}: {}", refused.stderr);
    }
    account.run(&person, ["login"]).expect(0);
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
}

#[test]
fn a_server_that_is_away_is_another_thing_than_a_no() {
    let server = Server::start();
    let person = Person::new();
    Account::with_vault(&server, &person, "a@example.org");
    let base = server.base().to_owned();
    drop(server);
    for args in [vec!["snapshots"], vec!["push", "src"], vec!["status"], vec!["whoami"], vec!["mount", "mnt"]]
    {
        let away = person.run(&args).expect(5);
        assert!(away.stderr.contains("cannot be reached"), "{args:?}: {}", away.stderr);
        assert!(away.stderr.contains(base.trim_start_matches("http://")), "{args:?}: {}", away.stderr);
    }
    let out = person.run(["logout"]).expect(0);
    assert!(out.stderr.contains("The server was not told"), "{}", out.stderr);
}

#[test]
fn factors_are_added_and_removed() {
    let server = Server::start();
    let person = Person::new();
    let account = Account::sign_up(&server, &person, "a@example.org");
    let refused = account.run(&person, ["mfa", "remove", "authenticator"]).expect(2);
    assert!(refused.stderr.contains("the only second factor"), "{}", refused.stderr);
    let (added, _) = with_new_factor(&server, &person, &["mfa", "add", "--name", "drawer"]);
    added.expect(0);
    let listed = person.run(["mfa", "list", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert!(listed.as_array().unwrap().iter().all(|f| f["status"] == "verified"));
    account.run(&person, ["mfa", "remove", "drawer"]).expect(0);
    assert_eq!(person.run(["mfa", "list"]).expect(0).stdout.lines().count(), 1);
}

#[test]
fn a_mount_behind_goes_on_when_the_server_was_started_anew() {
    if !fuse_is_wanted() {
        return;
    }
    let mut server = Server::with(|config| config.access_life = std::time::Duration::from_secs(62));
    let person = Person::new();
    Account::with_vault(&server, &person, "a@example.org");
    person.write("src/a", "a".repeat(300_000));
    person.write("src/b", "b".repeat(300_000));
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    let mnt = person.mount(&[]);
    let seen = mnt.join("latest").join(person.at("src").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read(seen.join("a")).unwrap().len(), 300_000);
    server.restart();
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(std::fs::read(seen.join("b")).unwrap(), "b".repeat(300_000).as_bytes());
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
}
