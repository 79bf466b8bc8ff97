//! Login by a provider: the program listens on loopback, and the test is the browser that follows what it prints.
//!
//! **What it is.** The built program, a real control plane, and an OpenID provider on loopback.
//! **What it may not do.** Reach into the program: only the printed address and the listener count.
//! **What always holds.** What comes back by another way than the one that was begun logs nobody in.
//! **Where it is tested.** Here; what the server makes of a provider's lies, in `tests/server/auth_proof.rs`.

use crate::account_world::{Account, with_new_factor_after};
use crate::program::{Person, Ran};
use backupengine_tests::account::Server;
use backupengine_tests::provider::{Idp, Signer, person as at_provider};
use std::io::Read;
use std::process::{Child, Stdio};
use tokio::runtime::Runtime;
use url::Url;

/// A control plane that believes a provider.
struct Room {
    server: Server,
    idp: Idp,
    /// The provider's own.
    _runtime: Runtime,
}

impl Room {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let idp = runtime.block_on(Idp::start(Signer::es256("key-1")));
        let provider = idp.settings("google");
        Self { server: Server::with(|config| config.providers.push(provider)), idp, _runtime: runtime }
    }

    fn args(&self) -> [&str; 6] {
        ["login", "--server", self.server.base(), "--provider", "google", "--no-browser"]
    }

    /// Begins a login; `code` is the one-time code for its end.
    fn begin(&self, person: &Person, code: &str) -> (Child, Url) {
        let mut command = person.command(self.args());
        command.env("BACKUPENGINE_TOTP_CODE", code).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let address = printed_address(&mut child);
        (child, address)
    }

    /// One request of the browser: status, where it is sent to, and what it shows.
    fn visit(&self, url: &Url) -> (u16, Option<Url>, String) {
        let request = self.server.client().get(url.clone());
        self.server.wait(async {
            let answer = request.send().await.unwrap();
            let to = answer.headers().get("location").map(|to| to.to_str().unwrap().parse().unwrap());
            (answer.status().as_u16(), to, answer.text().await.unwrap())
        })
    }

    fn sent_on(&self, url: &Url) -> Url {
        let (status, to, text) = self.visit(url);
        assert_eq!(status, 302, "{text}");
        to.unwrap()
    }

    /// To the provider, and as far as it sends the browser back to the server.
    fn to_callback(&self, address: &Url) -> Url {
        self.sent_on(&self.sent_on(address))
    }

    /// All the way to the program.
    fn browse(&self, address: &Url) -> String {
        let (status, _, text) = self.visit(&self.sent_on(&self.to_callback(address)));
        assert_eq!(status, 200, "{text}");
        text
    }
}

/// Reads what the program prints until the address stands there, and no byte further.
fn printed_address(child: &mut Child) -> Url {
    let (mut said, mut byte) = (String::new(), [0]);
    loop {
        let read = child.stderr.as_mut().unwrap().read(&mut byte).unwrap();
        assert_eq!(read, 1, "no address was printed: {said}");
        said.push(char::from(byte[0]));
        if let Some(line) = said.strip_suffix('\n').and_then(|said| said.lines().last())
            && line.trim_start().starts_with("http")
        {
            return line.trim().parse().unwrap();
        }
    }
}

fn ended(child: Child) -> Ran {
    Ran::of(child.wait_with_output().unwrap())
}

fn value(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned()
}

#[test]
fn somebody_logs_in_by_a_provider_and_comes_back() {
    let (room, person) = (Room::new(), Person::new());
    let mut shown = String::new();
    let (first, uri) = with_new_factor_after(&room.server, &person, &room.args(), |child| {
        let address = printed_address(child);
        assert_eq!(value(&address, "code_challenge_method").to_lowercase(), "s256");
        assert!(value(&address, "redirect_to").starts_with("http://127.0.0.1:"), "{address}");
        shown = room.browse(&address);
    });
    first.expect(0);
    assert!(shown.contains("You are logged in"), "{shown}");
    let who = person.run(["whoami", "--json"]).expect(0).json();
    assert_eq!((&who["email"], &who["role"]), (&"ada@example.org".into(), &"owner".into()));
    person.run(["init", "--yes", "--no-passphrase"]).expect(0);
    person.write("src/a", "a");
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);

    // Again: the same device, and the one-time code as with a password.
    let account = Account { server: &room.server, email: "ada@example.org".to_owned(), uri };
    person.run(["logout"]).expect(0);
    let (child, address) = room.begin(&person, "000000");
    room.browse(&address);
    assert!(ended(child).expect(4).stderr.contains("each code counts once"));
    let (child, address) = room.begin(&person, &account.code());
    room.browse(&address);
    ended(child).expect(0);
    assert_eq!(person.run(["snapshots", "-q"]).expect(0).stdout.lines().count(), 1);

    // Somebody else at the same provider is somebody else here: refused before a second factor is made.
    room.idp.change(|habits| habits.person = at_provider("subject-2", "other@example.org"));
    let (child, address) = room.begin(&person, "000000");
    room.browse(&address);
    let other = ended(child).expect(2);
    assert!(other.stderr.contains("this device is one of another account"), "{}", other.stderr);
    let factors: i64 = room.server.admin().row("select count(*) from auth.mfa_factors", &[]).get(0);
    assert_eq!(factors, 1);
    assert_eq!(person.run(["whoami", "--json"]).expect(0).json()["email"], "ada@example.org");
}

#[test]
fn who_says_no_at_the_provider_is_not_logged_in() {
    let (room, person) = (Room::new(), Person::new());
    room.idp.change(|habits| habits.refuses = true);
    let (child, address) = room.begin(&person, "000000");
    let text = room.browse(&address);
    assert!(text.contains("did not work"), "{text}");
    let refused = ended(child).expect(4);
    assert!(refused.stderr.contains("the login was refused at the provider"), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: run it again"), "{}", refused.stderr);
    assert!(!person.at("home/state/accounts").exists(), "nothing is kept of it");
    let users: i64 = room.server.admin().row("select count(*) from auth.users", &[]).get(0);
    assert_eq!(users, 0);
}

#[test]
fn only_the_login_that_was_begun_is_finished() {
    let (room, person) = (Room::new(), Person::new());
    let (child, address) = room.begin(&person, "000000");
    let back: Url = value(&address, "redirect_to").parse().unwrap();
    // Another state at the server: it sends nobody on.
    let callback = room.to_callback(&address);
    let mut forged = callback.clone();
    forged.set_query(Some(&format!("code={}&state=forged", value(&callback, "code"))));
    let (status, to, _) = room.visit(&forged);
    assert_eq!((status, to), (400, None));
    // Another path at the listener, or none of what it waits for: it goes on waiting.
    let mut other = back.clone();
    other.set_path("/somewhere");
    other.set_query(Some("code=x"));
    assert_eq!(room.visit(&other).0, 404);
    assert_eq!(room.visit(&back).0, 404);
    // A code that belongs to another login, as somebody who wants us in their account would slip in.
    let theirs = Person::new();
    let (attacker, begun) = room.begin(&theirs, "000000");
    let slipped = room.sent_on(&room.to_callback(&begun));
    let mut at_ours = back.clone();
    at_ours.set_query(slipped.query());
    assert_eq!(room.visit(&at_ours).0, 200);
    let refused = ended(child).expect(4);
    assert!(refused.stderr.contains("hint: begin the login again"), "{}", refused.stderr);
    assert!(!person.at("home/state/accounts").exists(), "nothing is kept of it");

    // One that nobody ever gave out.
    let mut made_up: Url = value(&begun, "redirect_to").parse().unwrap();
    made_up.set_query(Some("code=00000000-0000-4000-8000-000000000000"));
    assert_eq!(room.visit(&made_up).0, 200);
    let refused = ended(attacker).expect(4);
    assert!(refused.stderr.contains("hint: begin the login again"), "{}", refused.stderr);
}

#[test]
fn a_provider_that_the_server_does_not_offer_is_told_at_once() {
    let (room, person) = (Room::new(), Person::new());
    let args = ["login", "--server", room.server.base(), "--provider", "apple"];
    let refused = Ran::of(person.command(args).env("BACKUPENGINE_TOTP_CODE", "000000").output().unwrap());
    let refused = refused.expect(2);
    assert!(refused.stderr.contains("offers no login by apple"), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: log in by e-mail"), "{}", refused.stderr);
}

#[test]
fn waiting_for_the_browser_can_be_broken_off() {
    let (room, person) = (Room::new(), Person::new());
    let (child, _) = room.begin(&person, "000000");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    ended(child).expect(130);
}
