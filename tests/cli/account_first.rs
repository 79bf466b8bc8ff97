//! The first machine of an account: signup, init, push, and everything back out again, through presigned URLs.
use crate::account_world::{Account, region, with_new_factor};
use crate::program::{Person, Ran, fuse_is_wanted, shell};
use backupengine_testkit::oracle::sample::{oddities, path};
use backupengine_testkit::oracle::{Leniency, disk};
use backupengine_tests::account::{PASSWORD, Server};

#[test]
fn the_first_minutes_of_an_account() {
    let server = Server::start();
    let person = Person::new();
    let signup =
        ["signup", "--server", server.base(), "--region", region(&server), "--email", "a@example.org"];
    let (signed_up, _) = with_new_factor(&server, &person, &signup);
    let signed_up = signed_up.expect(0);
    assert!(
        signed_up.stdout.contains("The account of a@example.org lives in region"),
        "{}",
        signed_up.stdout
    );
    assert!(signed_up.stderr.contains('\u{2588}'), "the QR code is shown");
    let early = person.run(["push", person.at("src").to_str().unwrap()]).expect(1);
    assert!(
        early.stderr.contains("has no vault yet") && early.stderr.contains("backupengine init"),
        "{early:?}"
    );

    let made = person.run(["init", "--yes"]).expect(0);
    assert!(made.stdout.contains("Recovery code.") && made.stdout.contains("is ready."), "{}", made.stdout);
    let again = person.run(["init", "--yes"]).expect(6);
    assert!(again.stderr.contains("has its vault already"), "{}", again.stderr);

    person.write("src/a", "as it was");
    person.write("src/b/c", "c");
    let src = person.at("src").to_str().unwrap().to_owned();
    person.run(["push", &src]).expect(0);
    person.write("src/a", "changed");
    let second = person.run(["push", &src, "--json", "--tag", "t"]).expect(0).json_lines();
    let summary = second.last().unwrap();
    assert_eq!((&summary["files_changed"], &summary["files_unmodified"]), (&1.into(), &1.into()));
    assert_eq!(person.run(["snapshots", "-q"]).expect(0).stdout.lines().count(), 2);
    assert!(person.run(["ls", &format!("latest:{src}")]).expect(0).stdout.contains("b"));
    assert_eq!(person.run(["cat", &format!("latest~1:{src}/a")]).expect(0).stdout, "as it was");
    assert_eq!(person.run(["cat", &format!("latest:{src}/a")]).expect(0).stdout, "changed");
    let out = person.at("out").to_str().unwrap().to_owned();
    person.run(["restore", &format!("latest:{src}"), "--to", &out, "--verify"]).expect(0);
    shell(person.path(), "diff -r src out/src");
    let checked = person.run(["check", "--read-data"]).expect(0);
    assert!(checked.stdout.contains("no damage found"), "{}", checked.stdout);
    let status = person.run(["status"]).expect(0);
    for line in ["account    a@example.org", "this device is owner", "keys       in files of this user alone"]
    {
        assert!(status.stdout.contains(line), "{line}: {}", status.stdout);
    }
    let who = person.run(["whoami", "--json"]).expect(0).json();
    assert_eq!(
        (&who["role"], &who["status"], &who["keychain"]),
        (&"owner".into(), &"active".into(), &"file".into())
    );
    // Modes of what is kept.
    shell(person.path(), "test -z \"$(find home/state/accounts -type f -perm /077)\"");
    shell(person.path(), "test -z \"$(find home/state/accounts -type d -perm /077)\"");
}

#[test]
fn a_tree_of_oddities_goes_through_presigned_urls_and_back() {
    if !fuse_is_wanted() {
        return;
    }
    let server = Server::start();
    let person = Person::new();
    Account::with_vault(&server, &person, "a@example.org");
    let mut tree = oddities();
    tree.remove(&path("sparse/three terabytes")).unwrap();
    let src = person.at("src");
    disk::write(&tree, &src).unwrap();
    person.run(["push", src.to_str().unwrap()]).expect(0);
    let mnt = person.mount(&[]);
    let seen = mnt.join("latest").join(src.strip_prefix("/").unwrap());
    let rsync = "rsync -aHAXS --checksum -n --delete -i";
    for (from, to) in [(&src, &seen), (&seen, &src)] {
        let differences = shell(person.path(), &format!("{rsync} '{}/' '{}/'", from.display(), to.display()));
        assert_eq!(differences, "");
    }
    let diff = "diff -r --no-dereference -x kinds -x devices -x owners src";
    assert_eq!(shell(person.path(), &format!("{diff} '{}'", seen.display())), "");
    // The mount goes on over a restart of nothing but the poll: a new snapshot appears.
    person.write("src/new in the mount", "x");
    person.run(["push", src.to_str().unwrap()]).expect(0);
    let new = seen.join("new in the mount");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !new.exists() {
        assert!(std::time::Instant::now() < until, "the new snapshot does not appear in the mount");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
    let out = person.at("out");
    let what = format!("latest~1:{}", src.display());
    person.run(["restore", &what, "--to", out.to_str().unwrap(), "--verify"]).expect(0);
    let strict = Leniency { directories: true, holes: true, blocks: true };
    // The root folder's own time moved with the new name.
    assert_eq!(disk::differences(&tree, &path(""), &out.join("src"), strict), Vec::<String>::new());
}

#[test]
fn a_passphrase_and_the_recovery_code_open_the_vault_of_an_account() {
    let server = Server::start();
    let person = Person::new();
    Account::sign_up(&server, &person, "a@example.org");
    let made = person.given("correct horse battery staple", ["init", "--yes", "--json"]).expect(0).json();
    let code = made["recovery_code"].as_str().unwrap().to_owned();
    person.run(["snapshots"]).expect(0);
    person.given("correct horse battery staple", ["snapshots"]).expect(0);
    person.given("quite another passphrase", ["snapshots"]).expect(4);
    let by_code = person.command(["snapshots"]).env("BACKUPENGINE_RECOVERY_CODE", &code).output().unwrap();
    Ran::of(by_code).expect(0);
}

#[test]
fn what_is_asked_for_wrongly_makes_nothing() {
    let server = Server::start();
    let person = Person::new();
    let given = |args: &[&str]| {
        let mut command = person.command(args);
        command.env("BACKUPENGINE_PASSWORD", PASSWORD).env("BACKUPENGINE_TOTP_CODE", "000000");
        Ran::of(command.output().unwrap())
    };
    let base = server.base();
    let other = ["us", "ca", "eu"].into_iter().find(|r| *r != region(&server)).unwrap();
    let refused =
        given(&["signup", "--server", base, "--region", other, "--email", "a@example.org"]).expect(2);
    assert!(refused.stderr.contains("serves no region"), "{}", refused.stderr);
    given(&["signup", "--server", "http://backup.example.org", "--region", "eu"]).expect(2);
    given(&["signup", "--server", "nowhere", "--region", "eu"]).expect(2);
    let nobody =
        person.run(["signup", "--server", base, "--region", region(&server), "--email", "a@example.org"]);
    assert!(nobody.expect(2).stderr.contains("--totp-command"));
    let away =
        given(&["signup", "--server", "http://127.0.0.1:1", "--region", "eu", "--email", "a@example.org"]);
    assert!(away.expect(5).stderr.contains("cannot be reached"));
    let wrong = given(&["signup", "--server", base, "--region", region(&server), "--email", "a@example.org"])
        .expect(4);
    assert!(wrong.stderr.contains("each code counts once"), "{}", wrong.stderr);
    let refused = person.run(["push", person.at("src").to_str().unwrap()]).expect(2);
    assert!(refused.stderr.contains("no vault is known"), "{}", refused.stderr);
    for args in [vec!["whoami"], vec!["device", "list"], vec!["logout"], vec!["mfa", "list"]] {
        let refused = person.run(&args).expect(4);
        assert!(refused.stderr.contains("hint: log in"), "{args:?}: {}", refused.stderr);
    }
}
