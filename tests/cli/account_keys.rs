//! Ways into the vault of an account: rotated for the devices that are left, whatever the server says of them.
use crate::account_world::Account;
use crate::program::{PASSPHRASE, Person, Ran, fuse_is_wanted};
use backupengine_tests::account::Server;
use std::time::{Duration, Instant};

struct Three<'s> {
    account: Account<'s>,
    owner: Person,
    writer: Person,
    reader: Person,
}

fn src(person: &Person) -> String {
    person.at("src").to_str().unwrap().to_owned()
}

/// An owner, a writer and a reader, and one snapshot by the owner; the code lies in the owner's `words`.
fn three(server: &Server) -> Three<'_> {
    let (owner, writer, reader) = (Person::new(), Person::new(), Person::new());
    let (account, code) = Account::with_vault(server, &owner, "a@example.org");
    owner.write("words", code);
    owner.write("src/a", "one");
    owner.run(["push", &src(&owner)]).expect(0);
    account.let_in(&owner, &writer, "writer");
    account.let_in(&owner, &reader, "reader");
    writer.write("src/b", "two");
    Three { account, owner, writer, reader }
}

fn rotate(three: &Three<'_>, more: &[&str]) -> Ran {
    let words = three.owner.at("words");
    let args = ["key", "rotate", "--yes", "--json", "--recovery-code-file", words.to_str().unwrap()];
    three.account.run(&three.owner, args.iter().chain(more))
}

fn epoch(person: &Person) -> u64 {
    person.run(["key", "list", "--json"]).expect(0).json()["epoch"].as_u64().unwrap()
}

fn cat(person: &Person, what: &str) -> Ran {
    person.run(["cat", what])
}

#[test]
fn the_devices_that_are_left_take_the_new_keys_by_themselves() {
    let server = Server::start();
    let three = three(&server);
    three.writer.run(["push", &src(&three.writer)]).expect(0);
    let done = rotate(&three, &[]).expect(0);
    assert_eq!(done.json()["devices"].as_array().unwrap().len(), 3, "{}", done.stdout);
    assert!(done.stderr.contains("is given the new key"), "who is given the keys is said: {}", done.stderr);
    three.owner.write("src/a", "after");
    three.owner.run(["push", &src(&three.owner)]).expect(0);
    // Nobody is asked for anything, and words are compared by nobody.
    let file = three.owner.at("src/a");
    let (new, old) = (format!("latest:{}", file.display()), format!("latest~2:{}", file.display()));
    let seen = cat(&three.reader, &new).expect(0);
    assert_eq!(seen.stdout, "after");
    assert!(seen.stderr.contains("keeps the vault's newer keys now"), "{}", seen.stderr);
    assert_eq!(cat(&three.reader, &old).expect(0).stdout, "one");
    three.writer.write("src/b", "three");
    three.writer.run(["push", &src(&three.writer)]).expect(0);
    let b = format!("latest:{}", three.writer.at("src/b").display());
    assert_eq!(cat(&three.owner, &b).expect(0).stdout, "three");
    for person in [&three.owner, &three.writer, &three.reader] {
        assert_eq!(epoch(person), 2);
    }
    three.owner.run(["check", "--read-data"]).expect(0);
    three.owner.run(["prune"]).expect(0);
    // One that is let in afterwards has the keys of both.
    let later = Person::new();
    three.account.let_in(&three.owner, &later, "reader");
    assert_eq!(cat(&later, &new.replace("latest", "latest~1")).expect(0).stdout, "after");
    assert_eq!(cat(&later, &old.replace("~2", "~3")).expect(0).stdout, "one");
    // Again, for devices that were away meanwhile.
    rotate(&three, &[]).expect(0);
    rotate(&three, &[]).expect(0);
    assert_eq!(epoch(&three.reader), 4);
    assert_eq!(cat(&three.reader, &old.replace("~2", "~3")).expect(0).stdout, "one");
}

#[test]
fn a_revoked_device_is_sealed_nothing() {
    let server = Server::start();
    let three = three(&server);
    let id = three.writer.run(["whoami", "--json"]).expect(0).json()["device"].as_str().unwrap().to_owned();
    three.account.run(&three.owner, ["device", "revoke", &id, "--yes"]).expect(0);
    let done = rotate(&three, &[]).expect(0).json();
    let sealed: Vec<&str> = done["devices"].as_array().unwrap().iter().map(|d| d.as_str().unwrap()).collect();
    assert_eq!(sealed.len(), 2);
    assert!(!sealed.contains(&id.as_str()), "{done}");
    let held: Vec<Option<Vec<u8>>> = server
        .admin()
        .query("select envelope from app.access where encode(device, 'hex') = $1", &[&id])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    // What it was given when it was let in, of epoch 1: `{1: 1, 2: vault, 3: epoch`.
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].as_ref().unwrap()[22], 1);
}

/// The server names keys of its own: they are no device's word, and nothing is sealed to them.
#[test]
fn a_key_that_its_device_did_not_sign_is_left_out() {
    let server = Server::start();
    let three = three(&server);
    let ids: Vec<String> = [&three.writer, &three.reader]
        .iter()
        .map(|p| p.run(["whoami", "--json"]).expect(0).json()["device"].as_str().unwrap().to_owned())
        .collect();
    let other =
        "update app.device set seal_public = decode(repeat('09', 32), 'hex') where encode(id, 'hex') = $1";
    server.admin().execute(other, &[&ids[0]]).unwrap();
    let none = "update app.device set seal_signature = null where encode(id, 'hex') = $1";
    server.admin().execute(none, &[&ids[1]]).unwrap();
    let done = rotate(&three, &[]).expect(0);
    assert_eq!(done.json()["devices_left_out"].as_array().unwrap().len(), 2, "{}", done.stdout);
    assert!(done.stderr.contains("the server names a key that is not its own"), "{}", done.stderr);
    assert!(done.stderr.contains("does not vouch for its key yet"), "{}", done.stderr);
    // What is left out says so, and does not push with what it has.
    let refused = three.writer.run(["push", &src(&three.writer)]).expect(4);
    assert!(refused.stderr.contains("nothing is written with older keys"), "{}", refused.stderr);
    assert_eq!(
        cat(&three.reader, &format!("latest:{}", three.owner.at("src/a").display())).expect(0).stdout,
        "one"
    );
}

/// Keys that no owner of the vault signed are the server's own: an approval's form, and the envelope of another vault.
#[test]
fn newer_keys_of_the_servers_own_are_not_taken() {
    let server = Server::start();
    let three = three(&server);
    let other = Person::new();
    let (second, code) = Account::with_vault(&server, &other, "b@example.org");
    other.write("words", code);
    let words = other.at("words");
    second.run(&other, ["key", "rotate", "--yes", "--recovery-code-file", words.to_str().unwrap()]).expect(0);
    let id = three.reader.run(["whoami", "--json"]).expect(0).json()["device"].as_str().unwrap().to_owned();
    let swap =
        "update app.access set envelope = (select a.envelope from app.access a where a.envelope is not null
                  and a.vault <> app.access.vault limit 1) where encode(device, 'hex') = $1";
    assert_eq!(server.admin().execute(swap, &[&id]).unwrap(), 1);
    let file = format!("latest:{}", three.owner.at("src/a").display());
    assert_eq!(cat(&three.reader, &file).expect(0).stdout, "one");
    assert_eq!(epoch(&three.reader), 1);
}

/// The database is put back to before the rotation: whoever has the new keys does not push.
#[test]
fn envelopes_from_before_a_rotation_make_nobody_push() {
    let server = Server::start();
    let three = three(&server);
    let sql = |text: &str| assert!(server.admin().execute(text, &[]).is_ok(), "{text}");
    sql("create table public.older as table app.envelope");
    sql("create table public.given as table app.access");
    rotate(&three, &[]).expect(0);
    three.writer.run(["snapshots"]).expect(0);
    sql("delete from app.envelope");
    sql("insert into app.envelope select * from public.older");
    sql(
        "update app.access a set envelope = g.envelope from public.given g where g.vault = a.vault and g.device = a.device",
    );
    for person in [&three.owner, &three.writer] {
        let refused = person.run(["push", &src(person)]).expect(1);
        assert!(
            refused.stderr.contains("rollback: the vault shows key envelopes of epoch 1"),
            "{}",
            refused.stderr
        );
    }
    assert_eq!(three.owner.run(["snapshots", "-q"]).expect(0).stdout.lines().count(), 1);
    rotate(&three, &[]).expect(0);
    three.owner.run(["push", &src(&three.owner)]).expect(0);
    three.writer.run(["push", &src(&three.writer)]).expect(0);
}

#[test]
fn only_an_owner_rotates_and_of_two_one_comes_through() {
    let server = Server::start();
    let three = three(&server);
    let words = std::fs::read_to_string(three.owner.at("words")).unwrap();
    three.writer.write("words", &words);
    let file = three.writer.at("words");
    let args = ["key", "rotate", "--yes", "--recovery-code-file", file.to_str().unwrap()];
    let refused = three.account.run(&three.writer, args).expect(4);
    assert!(refused.stderr.contains("no owner of the vault"), "{}", refused.stderr);
    // The first may make its choice and be overtaken before it commits.
    let words = three.owner.at("words");
    let start = || {
        let args = ["key", "rotate", "--yes", "--recovery-code-file", words.to_str().unwrap()];
        three.owner.start(args)
    };
    let running: Vec<_> = (0..3).map(|_| start()).collect();
    let ended: Vec<Ran> = running.into_iter().map(|c| Ran::of(c.wait_with_output().unwrap())).collect();
    let through = ended.iter().filter(|ran| ran.status == 0).count() as u64;
    assert!(through >= 1 && ended.iter().all(|ran| matches!(ran.status, 0 | 4 | 6)), "{ended:?}");
    assert_eq!(epoch(&three.owner), through + 1);
    three.owner.run(["push", &src(&three.owner)]).expect(0);
    three.writer.run(["push", &src(&three.writer)]).expect(0);
    let b = format!("latest:{}", three.writer.at("src/b").display());
    assert_eq!(cat(&three.owner, &b).expect(0).stdout, "two");
}

#[test]
fn a_passphrase_is_added_and_a_code_replaced() {
    let server = Server::start();
    let person = Person::new();
    let (account, code) = Account::with_vault(&server, &person, "a@example.org");
    person.write("words", &code);
    person.write("new", PASSPHRASE);
    person.write("src/a", "one");
    person.run(["push", &src(&person)]).expect(0);
    let (words, new) = (person.at("words"), person.at("new"));
    let (words, new) = (words.to_str().unwrap().to_owned(), new.to_str().unwrap().to_owned());
    account.run(&person, ["key", "add-passphrase", "--new-passphrase-file", &new]).expect(0);
    let listed = person.run(["key", "list", "--json"]).expect(0).json();
    let kinds: Vec<&str> =
        listed["ways"].as_array().unwrap().iter().map(|w| w["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.len(), 2, "{listed}");
    assert!(kinds.contains(&"passphrase") && kinds.contains(&"recovery_code"));
    assert!(listed["ways"].as_array().unwrap().iter().all(|way| way["made"].is_string()), "{listed}");
    let file = format!("latest:{}", person.at("src/a").display());
    assert_eq!(person.given(PASSPHRASE, ["cat", &file]).expect(0).stdout, "one");
    // Another code in the place of the one that is typed.
    let args = ["key", "recover", "--new-recovery-code", "--yes", "--json", "--recovery-code-file", &words];
    let made = account.run(&person, args).expect(0).json();
    let fresh = made["recovery_code"].as_str().unwrap().to_owned();
    let by = |code: &str| {
        let mut command = person.command(["cat", &file]);
        Ran::of(command.env("BACKUPENGINE_RECOVERY_CODE", code).output().unwrap())
    };
    by(&code).expect(4);
    assert_eq!(by(&fresh).expect(0).stdout, "one");
    // With neither of them given a rotation is refused; with one it is not.
    let refused = account.run(&person, ["key", "rotate", "--yes"]).expect(2);
    assert!(refused.stderr.contains("neither a passphrase nor the recovery code"), "{}", refused.stderr);
    account.run(&person, ["key", "rotate", "--yes", "--passphrase-file", &new]).expect(0);
    assert_eq!(person.given(PASSPHRASE, ["cat", &file]).expect(0).stdout, "one");
}

/// A device that was left out, or has lost its keys, is let in by the code.
#[test]
fn a_device_that_was_left_out_recovers() {
    let server = Server::start();
    let three = three(&server);
    server.admin().execute("update app.device set seal_signature = null where role = 'writer'", &[]).unwrap();
    rotate(&three, &[]).expect(0);
    three.writer.run(["push", &src(&three.writer)]).expect(4);
    let words = std::fs::read_to_string(three.owner.at("words")).unwrap();
    three.writer.write("words", &words);
    let file = three.writer.at("words");
    let args = ["key", "recover", "--recovery-code-file", file.to_str().unwrap()];
    three.account.run(&three.writer, args).expect(0);
    three.writer.run(["push", &src(&three.writer)]).expect(0);
    assert_eq!(epoch(&three.writer), 2);
    // The other way: an owner approves it again, and the words of the vault are compared.
    server.admin().execute("update app.device set seal_signature = null where role = 'reader'", &[]).unwrap();
    rotate(&three, &[]).expect(0);
    assert_eq!(three.reader.run(["key", "list"]).expect(0).stderr.matches("keys were rotated").count(), 1);
    let listed = three.owner.run(["device", "list", "--json"]).expect(0).json();
    let one = listed.as_array().unwrap().iter().find(|d| d["role"] == "reader").unwrap();
    let (id, words) = (one["id"].as_str().unwrap(), one["fingerprint"].as_str().unwrap());
    let approve = ["device", "approve", id, "--role", "reader", "--fingerprint", words, "--json"];
    let approved = three.account.run(&three.owner, approve).expect(0).json();
    let words = approved["vault_fingerprint"].as_str().unwrap();
    three.account.run(&three.reader, ["login", "--vault-fingerprint", words]).expect(0);
    assert_eq!(epoch(&three.reader), 3);
    // With the login it vouched for its key: the next rotation reaches it.
    let done = rotate(&three, &[]).expect(0).json();
    assert!(done["devices"].as_array().unwrap().iter().any(|device| device == id), "{done}");
    assert!(three.reader.run(["key", "list"]).expect(0).stdout.contains("takes 4"));
}

#[test]
fn a_mount_of_an_account_goes_on_over_a_rotation() {
    if !fuse_is_wanted() {
        return;
    }
    let server = Server::start();
    let three = three(&server);
    let mnt = three.reader.mount(&[]);
    let file = three.owner.at("src/a");
    let at = mnt.join("latest").join(file.strip_prefix("/").unwrap());
    assert_eq!(std::fs::read_to_string(&at).unwrap(), "one");
    rotate(&three, &[]).expect(0);
    three.owner.write("src/a", "after");
    three.owner.run(["push", &src(&three.owner)]).expect(0);
    let begun = Instant::now();
    while std::fs::read_to_string(&at).unwrap_or_default() != "after" {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", std::fs::read_to_string(&at));
        std::thread::sleep(Duration::from_millis(50));
    }
    three.reader.run(["unmount", mnt.to_str().unwrap()]).expect(0);
}
