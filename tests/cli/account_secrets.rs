//! No token, no key of a factor, no code and no presigned URL shows where it should not.
use crate::account_world::{Account, region, with_new_factor};
use crate::program::{Person, fuse_is_wanted};
use backupengine_tests::account::{PASSWORD, Server};

#[test]
fn no_output_and_no_log_holds_a_secret_of_an_account() {
    let server = Server::start();
    let (person, second) = (Person::new(), Person::new());
    let log = person.at("log");
    let loud = ["--log-level", "trace", "--log-file", log.to_str().unwrap()];
    let with = |args: &[&str]| loud.iter().chain(args).map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let signup =
        ["signup", "--server", server.base(), "--region", region(&server), "--email", "a@example.org"];
    let args = with(&signup);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (ran, uri) = with_new_factor(&server, &person, &args);
    let signed_up = ran.expect(0);
    let account = Account { server: &server, email: "a@example.org".to_owned(), uri };
    let mut printed = signed_up.stdout;
    let made = person.run(with(&["init", "--yes", "--json", "--no-passphrase"])).expect(0);
    let words = made.json()["recovery_code"].as_str().unwrap().to_owned();
    printed.push_str(&made.stderr);

    let folder = person.at("home/state/accounts").read_dir().unwrap().next().unwrap().unwrap().path();
    let mut secrets = vec![PASSWORD.to_owned(), words];
    let mut remember = || {
        let tokens: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join("tokens")).unwrap()).unwrap();
        let mut found = vec![];
        for name in ["access", "refresh"] {
            found.push(tokens[name].as_str().unwrap().to_owned());
        }
        for name in ["signing-key", "data-keys"] {
            found.push(std::fs::read_to_string(folder.join(name)).unwrap());
        }
        secrets.extend(found);
    };
    remember();
    person.write("src/a", "x".repeat(100_000));
    let src = person.at("src").to_str().unwrap().to_owned();
    let out = person.at("out").to_str().unwrap().to_owned();
    let what = format!("latest:{src}");
    let pending = account.log_in_pending(&second);
    for args in [
        vec!["push", &src],
        vec!["push", &src, "--json"],
        vec!["ls", "-lR"],
        vec!["restore", &what, "--to", &out],
        vec!["check", "--read-data"],
        vec!["status", "-v", "-v"],
        vec!["whoami"],
        vec!["device", "list"],
        vec!["mfa", "list"],
        vec!["device", "approve", &pending.device, "--fingerprint", "a b c d e f"],
        vec!["device", "approve", &pending.device, "--fingerprint", &pending.words],
        vec!["device", "revoke", &pending.device, "--yes"],
        vec!["login"],
        vec!["cat", "latest:/nowhere"],
    ] {
        printed.push_str(&account.run(&person, with(&args)).everything());
    }
    remember();
    printed.push_str(&account.run(&person, with(&["logout"])).everything());
    let totp = account.uri.split("secret=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    secrets.push(totp.clone());
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(logged.len() > 10_000, "hardly anything was logged: this test looks at nothing");
    for secret in &secrets {
        assert!(!secret.is_empty());
        assert!(!printed.contains(secret), "a secret was printed");
        assert!(!logged.contains(secret), "a secret was logged");
    }
    // The key of the factor is shown once, to whoever sits there; never on stdout, never in the log.
    assert!(signed_up.stderr.replace(' ', "").contains(&totp));
    for part in
        ["X-Amz-Signature", "x-amz-signature", "X-Amz-Credential", "Bearer ", "otpauth:", "code_verifier"]
    {
        assert!(!printed.contains(part) && !logged.contains(part), "{part} shows");
    }
    let vault = person.path().join("home");
    let mut files = Vec::new();
    crate::secrets::all_files(&vault, &mut files);
    for path in files {
        let bytes = std::fs::read(&path).unwrap();
        for secret in [PASSWORD, totp.as_str()] {
            assert!(!crate::secrets::holds(&bytes, secret), "{} holds a secret", path.display());
        }
    }
}

#[test]
fn a_mount_behind_is_started_without_any_secret_in_sight() {
    if !fuse_is_wanted() {
        return;
    }
    let server = Server::start();
    let person = Person::new();
    let account = Account::with_vault(&server, &person, "a@example.org").0;
    person.write("src/a", "a");
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    let mnt = person.at("mnt");
    account.run(&person, ["mount", mnt.to_str().unwrap(), "--background"]).expect(0);
    let mut looked = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if !crate::secrets::holds(&line, mnt.to_str().unwrap()) {
            continue;
        }
        looked += 1;
        let environment = std::fs::read(entry.path().join("environ")).unwrap();
        assert!(!crate::secrets::holds(&line, PASSWORD) && !crate::secrets::holds(&environment, PASSWORD));
    }
    assert_eq!(looked, 1, "the process of the mount was looked for by its mountpoint");
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
}
