//! `--json` of the account's commands, held against `crates/cli/JSON.md` as the others are.
use crate::account_world::{Account, region, with_new_factor};
use crate::json::{Judge, documented};
use crate::program::Person;
use backupengine_tests::account::Server;
use std::collections::BTreeMap;

/// What is judged here; the rest is judged without a server.
pub(crate) const HEADINGS: [&str; 17] = [
    "init: account",
    "status: account",
    "signup",
    "login",
    "logout",
    "whoami",
    "mfa list: each",
    "mfa: change",
    "device list: each",
    "device approve",
    "device revoke",
    "device rename",
    "cache info",
    "cache clear",
    "cache pin",
    "cache unpin",
    "cache info: each of pins",
];

#[test]
fn every_field_of_an_account_is_documented_and_printed() {
    let mut judge = Judge { documented: documented(), seen: BTreeMap::new() };
    let server = Server::start();
    let (person, second) = (Person::new(), Person::new());
    let email = "a@example.org";
    let args = ["signup", "--server", server.base(), "--region", region(&server), "--email", email, "--json"];
    let (ran, uri) = with_new_factor(&server, &person, &args);
    judge.document("signup", &ran.expect(0).json());
    let account = Account { server: &server, email: email.to_owned(), uri };
    judge.document(
        "init: account",
        &person.run(["init", "--yes", "--json", "--no-passphrase"]).expect(0).json(),
    );
    person.write("src/a", "a");
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    judge.document("status: account", &person.run(["status", "--json"]).expect(0).json());
    let what = format!("latest:{}", person.at("src").display());
    judge.document("cache pin", &person.run(["cache", "pin", &what, "--json"]).expect(0).json());
    let info = person.run(["cache", "info", "--json"]).expect(0).json();
    judge.document("cache info: each of pins", &info["pins"][0]);
    judge.document("cache unpin", &person.run(["cache", "unpin", &what, "--json"]).expect(0).json());
    judge.document("cache info", &person.run(["cache", "info", "--json"]).expect(0).json());
    judge.document("cache clear", &person.run(["cache", "clear", "--json"]).expect(0).json());
    judge.document("whoami", &person.run(["whoami", "--json"]).expect(0).json());

    let pending = account.log_in_pending(&second);
    let approve = ["device", "approve", &pending.device, "--fingerprint", &pending.words, "--json"];
    let approved = account.run(&person, approve).expect(0).json();
    judge.document("device approve", &approved);
    let words = approved["vault_fingerprint"].as_str().unwrap();
    let login = ["login", "--server", server.base(), "--vault-fingerprint", words, "--json"];
    judge.document("login", &account.run(&second, login).expect(0).json());
    let rename = ["device", "rename", &pending.device, "other", "--json"];
    judge.document("device rename", &person.run(rename).expect(0).json());
    let listed = person.run(["device", "list", "--json"]).expect(0).json();
    listed.as_array().unwrap().iter().for_each(|d| judge.document("device list: each", d));
    let revoke = ["device", "revoke", "other", "--yes", "--json"];
    judge.document("device revoke", &account.run(&person, revoke).expect(0).json());

    let (added, _) = with_new_factor(&server, &person, &["mfa", "add", "--name", "drawer", "--json"]);
    judge.document("mfa: change", &added.expect(0).json());
    let factors = person.run(["mfa", "list", "--json"]).expect(0).json();
    factors.as_array().unwrap().iter().for_each(|f| judge.document("mfa list: each", f));
    let removed = account.run(&person, ["mfa", "remove", "drawer", "--json"]).expect(0);
    judge.document("mfa: change", &removed.json());
    judge.document("logout", &person.run(["logout", "--json"]).expect(0).json());

    for heading in HEADINGS {
        let seen = judge.seen.get(heading).unwrap_or_else(|| panic!("{heading} was never printed"));
        for name in judge.documented[heading].keys().filter(|name| *name != "path_hex") {
            assert!(seen.contains(name), "{heading}: {name} is in JSON.md and was never printed");
        }
    }
}
