//! `repair` of an account's vault: what the bucket lost is healed by the device that pushed it, for every device.
use crate::account_world::Account;
use crate::program::Person;
use backupengine_testkit::oracle::sample;
use backupengine_tests::account::Server;
use std::path::{Path, PathBuf};

fn push(person: &Person) {
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
}

/// The file an object lies in.
fn object(folder: &Path, name: &str) -> PathBuf {
    fn below(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
            match entry.file_type().unwrap().is_dir() {
                true => below(&entry.path(), into),
                false => into.push(entry.path()),
            }
        }
    }
    let mut all = Vec::new();
    below(folder, &mut all);
    all.into_iter().find(|path| path.ends_with(name)).unwrap_or_else(|| panic!("{name} is not stored"))
}

#[test]
fn an_object_that_the_bucket_lost_is_healed_for_every_device() {
    let server = Server::start();
    let (first, second) = (Person::new(), Person::new());
    let (account, _) = Account::with_vault(&server, &first, "a@example.org");
    first.write("src/large", sample::bytes(1, 1_500_000));
    first.write("src/note", "a note, ".repeat(100));
    push(&first);
    first.write("src/more", sample::bytes(2, 90_000));
    push(&first);
    account.let_in(&first, &second, "reader");
    std::fs::remove_file(object(server.objects(), "p/00000001/00000000")).unwrap();
    let found = first.run(["check"]).expect(3);
    assert!(found.stdout.contains("missing: p/00000001/00000000"), "{found:?}");
    let lines = account.run(&first, ["repair", "--json"]).expect(0).json_lines();
    let done = lines.last().unwrap();
    assert_eq!((done["packs_healed"].as_u64(), done["frames_lost"].as_u64()), (Some(1), Some(0)), "{done}");
    assert_eq!(done["ledger_lost"], false);
    first.run(["check", "--read-data"]).expect(0);
    for snapshot in ["latest", "latest~1"] {
        let what = format!("{snapshot}:{}/note", first.at("src").display());
        assert_eq!(second.run(["cat", &what]).expect(0).stdout, "a note, ".repeat(100));
    }
    // A reader may not repair, and is told so.
    std::fs::remove_file(object(server.objects(), "p/00000002/00000000")).unwrap();
    let refused = account.run(&second, ["repair"]);
    assert!([3, 4].contains(&refused.status), "{refused:?}");
    account.run(&first, ["repair"]).expect(0);
    push(&first);
    first.run(["check", "--read-data"]).expect(0);
}
