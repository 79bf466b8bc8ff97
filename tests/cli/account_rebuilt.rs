//! The database is expendable: all of it goes, the bucket stays, and the mount shows the same tree.
//!
//! **What it is.** What an operator and a person do after such a loss, with the built programs, step by step as
//! `crates/server/API.md` tells it.
//! **What it may not do.** Keep anything of the old database, its roles included.
//! **What always holds.** Nobody is logged in afterwards who has not signed up anew.
//! **Where it is tested.** Here; which blobs come back how, in `tests/server/rebuild.rs`.

use crate::account_world::Account;
use crate::program::{Person, Ran, fuse_is_wanted};
use crate::seen::Picture;
use backupengine_testkit::oracle::disk;
use backupengine_testkit::oracle::sample::{oddities, path};
use backupengine_tests::account::{PASSWORD, Server};
use backupengine_tests::program;
use backupengine_tests::tls::{self, Authority};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

const EMAIL: &str = "a@example.org";

/// Whoever runs the server: `backupengine-server` with the settings of this deployment, its bucket behind TLS.
struct Operator<'s> {
    server: &'s Server,
    endpoint: String,
    authority: PathBuf,
    _folder: TempDir,
}

impl<'s> Operator<'s> {
    fn of(server: &'s Server) -> Self {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
        let plain = server.dev().storage.endpoint.strip_prefix("http://").unwrap().parse().unwrap();
        let endpoint = tls::before(server, plain, &authority, folder.path());
        let authority = authority.write(folder.path(), "authority.pem");
        Self { server, endpoint, authority, _folder: folder }
    }

    fn run(&self, args: &[&str]) -> Ran {
        let (dev, mut command) = (self.server.dev(), Command::new(program::server()));
        command.args(args).env_clear().env("SSL_CERT_FILE", &self.authority);
        command.envs([
            ("BACKUPENGINE_ADMIN_DATABASE_URL", dev.admin_database_url.as_str()),
            ("BACKUPENGINE_REGION", region_of(self.server)),
            ("BACKUPENGINE_S3_ENDPOINT", &self.endpoint),
            ("BACKUPENGINE_S3_REGION", &dev.storage.region),
            ("BACKUPENGINE_S3_BUCKET", &dev.storage.bucket),
            ("BACKUPENGINE_S3_ACCESS_KEY", &dev.storage.access_key),
            ("BACKUPENGINE_S3_SECRET_KEY", dev.storage.secret_key.expose()),
        ]);
        Ran::of(command.output().unwrap())
    }
}

fn region_of(server: &Server) -> &str {
    &server.dev().config().region
}

/// Drops the database and every role that is not PostgreSQL's own, and makes an empty one.
fn lose_the_database(server: &Server) {
    let beside = server.dev().admin_database_url.strip_suffix("/postgres").unwrap();
    let beside = server.sql(&format!("{beside}/template1"));
    beside.batch("drop database postgres with (force)").unwrap();
    let roles = beside.query("select rolname::text from pg_roles where oid >= 16384", &[]).unwrap();
    assert!(roles.len() >= 3, "the migrations make roles");
    for role in roles {
        beside.batch(&format!("drop role \"{}\"", role.get::<_, String>(0))).unwrap();
    }
    beside.batch("create database postgres template template0").unwrap();
}

/// `\password` of both roles: the deployment's settings stay what they are.
fn give_the_roles_their_passwords(server: &Server) {
    let front = server.dev().front_database_url.as_str();
    for url in [front, server.dev().config().auth_database_url.expose()] {
        let (role, password) = url["postgres://".len()..].split('@').next().unwrap().split_once(':').unwrap();
        server.admin().batch(&format!("alter role {role} password '{password}'")).unwrap();
    }
}

fn pushed_twice(person: &Person) {
    let mut tree = oddities();
    tree.remove(&path("sparse/three terabytes")).unwrap();
    let src = person.at("src");
    disk::write(&tree, &src).unwrap();
    person.run(["push", src.to_str().unwrap(), "--tag", "first"]).expect(0);
    person.write("src/sizes/4096", "changed");
    person.write("src/later", "came later");
    person.run(["push", src.to_str().unwrap(), "--device-name", "renamed"]).expect(0);
}

/// Mounts, looks at everything, unmounts.
fn picture(person: &Person) -> Picture {
    let mnt = person.mount(&[]);
    let seen = Picture::of(&mnt);
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
    seen
}

#[track_caller]
fn assert_same(before: &Picture, after: &Picture) {
    let differences = before.differences(after);
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn after_the_database_was_dropped_a_rebuild_gives_everything_back() {
    if !fuse_is_wanted() {
        return;
    }
    let mut server = Server::start();
    let (person, second, new) = (Person::new(), Person::new(), Person::new());
    let (account, recovery_code) = Account::with_vault(&server, &person, EMAIL);
    account.let_in(&person, &second, "writer");
    pushed_twice(&person);
    let vault = person.run(["status", "--json"]).expect(0).json()["vault"].as_str().unwrap().to_owned();
    let list = person.run(["snapshots", "--json"]).expect(0).json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    let before = picture(&person);
    assert!(before.len() > 300, "{} names: this test looks at nothing", before.len());

    lose_the_database(&server);
    let gone = person.run(["snapshots"]).expect(5);
    assert!(gone.stderr.contains("hint:"), "{}", gone.stderr);

    // Whoever runs the server.
    let operator = Operator::of(&server);
    operator.run(&["migrate"]).expect(0);
    give_the_roles_their_passwords(&server);
    operator.run(&["check-storage"]).expect(0);
    let early = operator.run(&["rebuild", &vault, EMAIL]).expect(1);
    assert!(early.stderr.contains("sign up first"), "{}", early.stderr);
    drop(operator);
    server.restart();

    // Whoever has the account. The old login is of nobody any more.
    let refused = person.run(["snapshots"]).expect(4);
    assert!(refused.stderr.contains("backupengine login"), "{}", refused.stderr);
    let login = ["login", "--server", server.base(), "--email", EMAIL];
    let given = |person: &Person, args: &[&str], code: &str, name: &str, value: &str| {
        let mut command = person.command(args);
        command.env("BACKUPENGINE_PASSWORD", PASSWORD).env("BACKUPENGINE_TOTP_CODE", code);
        Ran::of(command.env(name, value).output().unwrap())
    };
    given(&person, &login, "000000", "LANG", "C").expect(4);
    let account = Account::sign_up(&server, &person, EMAIL);
    // It has the keys of a vault that the server does not know: nothing is made beside it.
    for args in [vec!["snapshots"], vec!["push", "src"], vec!["init", "--yes"]] {
        let waits = person.run(&args).expect(1);
        assert!(waits.stderr.contains(&format!("rebuild {vault} {EMAIL}")), "{args:?}: {}", waits.stderr);
    }
    let operator = Operator::of(&server);
    let rebuilt = operator.run(&["rebuild", &vault, EMAIL]).expect(0);
    assert_eq!(rebuilt.stdout, "registered: 2 sessions, 2 snapshots\n");
    let again = operator.run(&["rebuild", &vault, EMAIL]).expect(1);
    assert!(again.stderr.contains("nothing to rebuild"), "{}", again.stderr);

    assert_eq!(person.run(["snapshots", "--json"]).expect(0).json(), list);
    assert_same(&before, &picture(&person));
    person.run(["check", "--read-data"]).expect(0);
    // A machine that is new, which has nothing but the login and the recovery code.
    let login = ["login", "--server", server.base(), "--email", EMAIL];
    let come = given(&new, &login, &account.code(), "BACKUPENGINE_RECOVERY_CODE", &recovery_code);
    come.expect(0);
    assert_same(&before, &picture(&new));
    // One that was a device before: it is let in once more, with the keys it has.
    let known = second.run(["whoami", "--json"]).status;
    assert_eq!(known, 4, "its login is of nobody any more");
    account.let_in(&person, &second, "owner");
    assert_same(&before, &picture(&second));

    // And it goes on: what was stored is known, and both see what is new.
    let src = person.at("src");
    person.write("src/later", "changed");
    let more = person.run(["push", src.to_str().unwrap(), "--json"]).expect(0).json_lines();
    let summary = more.last().unwrap();
    assert_eq!((&summary["files_new"], &summary["files_changed"]), (&0.into(), &1.into()));
    for other in [&new, &second] {
        other.run(["push", other.at("src").to_str().unwrap()]).expect(0);
    }
    assert_eq!(person.run(["snapshots", "-q"]).expect(0).stdout.lines().count(), 5);
    person.run(["check", "--read-data"]).expect(0);
    assert!(!before.differences(&picture(&person)).is_empty(), "a picture shows what is new");
}
