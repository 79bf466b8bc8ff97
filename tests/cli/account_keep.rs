//! Forgetting, holding and tagging in an account: an owner's matter, some of it with a fresh one-time code.
use crate::account_world::Account;
use crate::program::{Person, shell};
use backupengine_tests::account::Server;

/// Lets the one-time code of every login be eleven minutes old: by its row, and by having the token renewed.
fn make_stale(server: &Server, person: &Person) {
    let earlier = "update auth.mfa_amr_claims set created_at = created_at - interval '11 minutes',
                   updated_at = updated_at - interval '11 minutes'";
    assert!(server.admin().execute(earlier, &[]).unwrap() > 0);
    let tokens = shell(person.path(), "find home -name tokens");
    let path = person.at(tokens.trim());
    let mut kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    kept["expires_at"] = 0.into();
    std::fs::write(&path, kept.to_string()).unwrap();
}

fn push(person: &Person, content: &str) -> String {
    person.write("src/f", content);
    let pushed = person.run(["push", person.at("src").to_str().unwrap(), "--json"]).expect(0);
    pushed.json_lines().last().unwrap()["snapshot"].as_str().unwrap().to_owned()
}

fn count(person: &Person) -> usize {
    person.run(["snapshots", "-q"]).expect(0).stdout.lines().count()
}

#[test]
fn snapshots_of_an_account_go_into_the_trash_and_come_back() {
    let server = Server::start();
    let (first, second) = (Person::new(), Person::new());
    let (account, _) = Account::with_vault(&server, &first, "a@example.org");
    let ids: Vec<String> = ["1", "2", "3"].iter().map(|content| push(&first, content)).collect();
    account.let_in(&first, &second, "reader");
    assert_eq!(count(&second), 3);

    // A code is asked for where the last one is old, and only then.
    make_stale(&server, &first);
    let unasked = first.run(["forget", "latest"]).expect(2);
    assert!(unasked.stderr.contains("one-time code is needed"), "{}", unasked.stderr);
    assert_eq!(count(&first), 3);
    let forgotten = account.run(&first, ["forget", "latest", "--json"]).expect(0);
    assert!(forgotten.stderr.contains("needs a fresh one-time code"), "{}", forgotten.stderr);
    let gone = &forgotten.json()["forgotten"][0];
    assert_eq!(gone["id"], ids[2].as_str());
    let long =
        "select purge_after > now() + interval '13 days 23 hours' from app.snapshot where state = 'trashed'";
    assert!(server.admin().row(long, &[]).get::<_, bool>(0));
    assert!(gone["purge_after"].is_string(), "{gone}");

    // Who saw the newest believes its end.
    assert_eq!((count(&first), count(&second)), (2, 2));
    let cat = format!("latest:{}/f", first.at("src").display());
    assert_eq!(second.run(["cat", &cat]).expect(0).stdout, "2");
    let trash = first.run(["snapshots", "--trash", "--json"]).expect(0).json();
    assert_eq!((trash.as_array().unwrap().len(), &trash[0]["id"]), (1, &ids[2].clone().into()));

    // Holds and tags, without a code: the last one is fresh.
    first.run(["hold", &ids[0]]).expect(0);
    let held = first.run(["forget", &ids[0]]).expect(1);
    assert!(held.stderr.contains("held against removal"), "{}", held.stderr);
    let judged = first.run(["forget", "--keep-last", "1", "--dry-run", "--json"]).expect(0).json();
    assert_eq!(judged["kept"][0]["reasons"], serde_json::json!(["held"]));
    first.run(["unhold", &ids[0]]).expect(0);
    first.run(["tag", &ids[0], "--add", "first"]).expect(0);
    let tagged = second.run(["snapshots", "--tag", "first", "--json"]).expect(0).json();
    assert_eq!(tagged[0]["id"], ids[0].as_str());

    // By rules, and all of it back.
    let judged = first.run(["forget", "--keep-last", "1", "--json"]).expect(0).json();
    assert_eq!((judged["kept"][0]["id"].clone(), count(&second)), (ids[1].clone().into(), 1));
    first.run(["forget", "--undo", &ids[0], &ids[2]]).expect(0);
    assert_eq!((count(&first), count(&second)), (3, 3));
    assert_eq!(second.run(["cat", &cat]).expect(0).stdout, "3");
    first.run(["check", "--read-data"]).expect(0);

    // Only an owner decides.
    for args in [vec!["forget", "latest"], vec!["hold", "latest"], vec!["tag", "latest", "--add", "t"]] {
        let refused = account.run(&second, &args).expect(4);
        assert!(refused.stderr.contains("role"), "{args:?}: {}", refused.stderr);
    }
    assert_eq!(count(&second), 3);
}
