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

/// A maintainer whose device was taken over gives everything up: an owner hears of it, and gets it back.
#[test]
fn a_mass_retire_is_told_and_undone() {
    let server = Server::start();
    let (first, second) = (Person::new(), Person::new());
    let (account, _) = Account::with_vault(&server, &first, "a@example.org");
    let ids: Vec<String> = ["1", "2"].iter().map(|content| push(&first, &content.repeat(5000))).collect();
    account.let_in(&first, &second, "reader");
    first.run(["status"]).expect(0);
    let everything = "
        update app.session set retired = int8multirange(int8range(0, packs)) where state = 'committed' and packs > 0;
        update app.vault set gc_epoch = gc_epoch + 1;
        insert into app.gc_log (tenant, vault, epoch, retired)
          select v.tenant, v.id, v.gc_epoch, (select jsonb_agg(jsonb_build_object('session', s.s, 'from', 0, 'count', s.packs))
            from app.session s where s.vault = v.id and s.packs > 0) from app.vault v;
        select app.append_audit(t.id, null, null, null, 'gc-retire', ''::bytea, 'alarm') from app.tenant t";
    server.admin().batch(everything).unwrap();
    let status = first.run(["status", "--json"]).expect(3).json();
    let wrong = status["wrong"][0].as_str().unwrap();
    assert!(wrong.contains("were given up") && wrong.contains("backupengine prune"), "{wrong}");
    assert!(
        !second.run(["status"]).expect(0).stdout.contains("given up"),
        "who cannot do anything is not told"
    );
    let pruned = first.run(["prune", "--json"]).expect(0).json();
    assert!(pruned["packs_revived"].as_u64().unwrap() >= 2 && pruned["packs_retired"] == 0, "{pruned}");
    first.run(["status"]).expect(0);
    for id in &ids {
        first.run(["ls", id]).expect(0);
    }
    first.run(["check", "--read-data"]).expect(0);
}

/// A writer may not hold, and its push does all the same.
#[test]
fn a_writers_push_holds_what_was_before_it() {
    let server = Server::start();
    let (first, second) = (Person::new(), Person::new());
    let (account, _) = Account::with_vault(&server, &first, "a@example.org");
    push(&first, "the owner's");
    account.let_in(&first, &second, "writer");
    let many = |person: &Person, make: &dyn Fn(usize) -> Vec<u8>| {
        (0..20).for_each(|n| person.write(&format!("src/{n}"), make(n)));
        let pushed = person.run(["push", person.at("src").to_str().unwrap(), "--json"]).expect(0);
        pushed.json_lines().pop().unwrap()
    };
    let good = many(&second, &|n| format!("a text, number {n}, ").repeat(60).into_bytes());
    assert_eq!(good["signals"], serde_json::json!([]));
    let bad = many(&second, &|n| backupengine_testkit::oracle::sample::bytes(n as u64 + 1, 2000));
    assert_eq!((&bad["held"], bad["signals"][0]["kind"].as_str()), (&good["snapshot"], Some("unreadable")));
    account.run(&second, ["unhold", good["snapshot"].as_str().unwrap()]).expect(4);
    let held = first.run(["forget", good["snapshot"].as_str().unwrap()]).expect(1);
    assert!(held.stderr.contains("held against removal"), "{}", held.stderr);
    let status = first.run(["status", "--json"]).expect(3).json();
    assert_eq!(status["suspicious"], serde_json::json!([bad["snapshot"]]), "an owner's device says it");
}
