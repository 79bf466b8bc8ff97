//! The key store of a Linux desktop: a real gnome-keyring on a session bus of its own, as the Secret Service.
//!
//! **What it is.** The built program with `BACKUPENGINE_KEYCHAIN=os`, from the first minutes to a desktop that is gone.
//! **What it may not do.** Reach the bus or the keyrings of whoever runs the tests.
//! **What always holds.** Nothing of a desktop runs on when its test ends.
//! **Where it is tested.** Here; files instead of a key store, in `account_first.rs` and `account_secrets.rs`.

use crate::account_world::{Account, region, with_new_factor};
use crate::program::{Person, shell};
use crate::secrets::{all_files, holds};
use backupengine_tests::account::{PASSWORD, Server};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const INSTALL: &str = "sudo apt-get install gnome-keyring dbus (or scripts/setup --tests)";

/// Unlocks the login keyring, which the first start makes, tells the bus and waits until nobody listens any more.
const SESSION: &str = r#"
printf 'a password of the desktop' | gnome-keyring-daemon --foreground --unlock --components=secrets >/dev/null 2>&1 &
daemon=$!
asked=0
until dbus-send --print-reply=literal --dest=org.freedesktop.DBus / org.freedesktop.DBus.NameHasOwner \
    string:org.freedesktop.secrets | grep -q true; do
  asked=$((asked + 1)); [ $asked -lt 600 ] || exit 1; sleep 0.05
done
echo "$DBUS_SESSION_BUS_ADDRESS"
cat >/dev/null
kill $daemon; wait $daemon
"#;

/// Somebody's desktop, unlocked. Ends on drop; its keyrings stay in the folder.
struct Desktop {
    session: Child,
    bus: String,
}

impl Desktop {
    fn start(folder: &Path) -> Self {
        for program in ["dbus-run-session", "dbus-send", "gnome-keyring-daemon"] {
            let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
            assert!(found.status.success(), "{program} is not here: {INSTALL}");
        }
        shell(folder, "mkdir -p -m 700 desktop desktop/run");
        let home = folder.join("desktop");
        let mut session = Command::new("dbus-run-session")
            .args(["--", "sh", "-c", SESSION])
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", &home)
            .env("XDG_DATA_HOME", home.join("data"))
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .current_dir(&home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut bus = String::new();
        BufReader::new(session.stdout.as_mut().unwrap()).read_line(&mut bus).unwrap();
        assert!(bus.starts_with("unix:"), "the desktop does not start: {bus:?}");
        Self { session, bus: bus.trim_end().to_owned() }
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        // Its end of the pipe is what the session waits for.
        drop(self.session.stdin.take());
        drop(self.session.wait());
    }
}

#[test]
fn the_secret_service_keeps_what_is_secret_and_files_keep_nothing_of_it() {
    let server = Server::start();
    let mut person = Person::new();
    let desktop = Desktop::start(person.path());
    person.set("BACKUPENGINE_KEYCHAIN", "os");
    person.set("DBUS_SESSION_BUS_ADDRESS", &desktop.bus);
    let args = ["signup", "--server", server.base(), "--region", region(&server), "--email", "a@example.org"];
    let (signed_up, uri) = with_new_factor(&server, &person, &args);
    let signed_up = signed_up.expect(0);
    assert!(signed_up.stderr.contains("the Secret Service of this desktop"), "{}", signed_up.stderr);
    let made = person.run(["init", "--yes", "--json", "--no-passphrase"]).expect(0).json();
    person.write("src/a", "a");
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    // Each of these is a process of its own: nothing is remembered but by the key store.
    assert_eq!(person.run(["snapshots", "-q"]).expect(0).stdout.lines().count(), 1);
    let status = person.run(["status"]).expect(0);
    assert!(status.stdout.contains("keys       in the Secret Service of this desktop"), "{}", status.stdout);
    assert_eq!(person.run(["whoami", "--json"]).expect(0).json()["keychain"], "os");

    // No file that would hold a secret, and in those that are there nothing that only a secret begins like.
    let words = made["recovery_code"].as_str().unwrap();
    let totp = uri.split("secret=").nth(1).unwrap().split('&').next().unwrap();
    let mut files = Vec::new();
    all_files(&person.at("home"), &mut files);
    all_files(&person.at("desktop/data"), &mut files);
    assert!(files.len() >= 4, "{files:?}");
    for path in &files {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(!["tokens", "signing-key", "data-keys"].contains(&name), "{} is a file", path.display());
        let bytes = std::fs::read(path).unwrap();
        for secret in [PASSWORD, words, totp, "eyJ", "refresh_token"] {
            assert!(!holds(&bytes, secret), "{} holds a secret", path.display());
        }
    }

    // The desktop is gone: nothing opens, and it is said what to do.
    drop(desktop);
    let refused = person.run(["snapshots"]).expect(1);
    assert!(refused.stderr.contains("the key store of the system does not help"), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: unlock it"), "{}", refused.stderr);

    // It is there again, on another bus, as after the next login to the desktop.
    let desktop = Desktop::start(person.path());
    person.set("DBUS_SESSION_BUS_ADDRESS", &desktop.bus);
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    let account = Account { server: &server, email: "a@example.org".to_owned(), uri };
    person.run(["logout"]).expect(0);
    person.run(["snapshots"]).expect(4);
    account.run(&person, ["login"]).expect(0);
    assert_eq!(person.run(["snapshots", "-q"]).expect(0).stdout.lines().count(), 2);
    // What is forgotten leaves the key store as well: the device that comes next has to be let in.
    person.run(["logout", "--forget-device"]).expect(0);
    account.log_in_pending(&person);
}

#[test]
fn the_desktop_s_key_store_is_taken_where_there_is_one_and_nothing_was_said() {
    let server = Server::start();
    let (mut with, mut without) = (Person::new(), Person::new());
    let desktop = Desktop::start(with.path());
    with.set("DBUS_SESSION_BUS_ADDRESS", &desktop.bus);
    // A bus that nobody listens on: a session without a desktop.
    without.set("DBUS_SESSION_BUS_ADDRESS", &format!("unix:path={}", without.at("nowhere").display()));
    for (person, email, kept) in [(&mut with, "a@example.org", "os"), (&mut without, "b@example.org", "file")]
    {
        person.set("BACKUPENGINE_KEYCHAIN", "auto");
        Account::with_vault(&server, person, email);
        assert_eq!(person.run(["whoami", "--json"]).expect(0).json()["keychain"], kept);
    }
    // Said, and not there: nothing is made that could not be kept as it was asked for.
    let mut asked = Person::new();
    asked.set("BACKUPENGINE_KEYCHAIN", "os");
    asked.set("DBUS_SESSION_BUS_ADDRESS", &format!("unix:path={}", asked.at("nowhere").display()));
    let args = ["signup", "--server", server.base(), "--region", region(&server), "--email", "c@example.org"];
    let mut command = asked.command(args);
    command.env("BACKUPENGINE_PASSWORD", PASSWORD).env("BACKUPENGINE_TOTP_CODE", "000000");
    let refused = crate::program::Ran::of(command.output().unwrap()).expect(1);
    assert!(refused.stderr.contains("the key store of the system does not help"), "{}", refused.stderr);
    let users = "select count(*) from auth.users where email = 'c@example.org'";
    assert_eq!(server.admin().row(users, &[]).get::<_, i64>(0), 0);
}
