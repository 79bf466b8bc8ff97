//! The built program behind a server that lies: what a person is told, and what the program remembers of it.
use crate::account_world::Account;
use crate::http_room::changed;
use crate::program::{Person, Ran};
use backupengine_api::{DeviceListed, MountedVault, Opaque};
use backupengine_seal::{RootKey, SealKey};
use backupengine_tests::account::Server;
use backupengine_tests::relay::{Relay, Reply};
use std::sync::{Arc, Mutex};

/// A machine of an account with a vault and one snapshot.
struct Home {
    person: Person,
    control: Relay,
    storage: Option<Relay>,
    server: Server,
}

impl Home {
    fn new() -> Self {
        let (control, storage) = (Relay::start(), Relay::start());
        let server = Server::behind(&control, &storage, |_| {}, |_| {});
        let person = Person::new();
        Account::with_vault(&server, &person, "a@example.org");
        let home = Self { person, control, storage: Some(storage), server };
        home.push("first").expect(0);
        home
    }

    fn push(&self, text: &str) -> Ran {
        self.person.write("src/a", text);
        self.person.run(["push", self.person.at("src").to_str().unwrap()])
    }

    fn snapshots(&self) -> Ran {
        self.person.run(["snapshots", "-q"])
    }

    /// What lies on this device hides what storage does: without it everything is asked for.
    fn forget_cache(&self) {
        std::fs::remove_dir_all(self.person.at("home/cache")).unwrap();
    }

    fn storage(&self) -> &Relay {
        self.storage.as_ref().unwrap()
    }

    /// What it remembers of the newest roots.
    fn floor(&self) -> String {
        let state = self.person.at("home/state");
        let vaults = std::fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path().join("floor"));
        vaults.filter_map(|path| std::fs::read_to_string(path).ok()).collect()
    }
}

#[test]
fn a_rollback_is_told_and_not_forgotten() {
    let home = Home::new();
    let yesterday = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&yesterday);
    home.control.lies(move |asked, pass| {
        let reply = pass();
        if asked.op() == "mount" {
            *keep.lock().unwrap() = Some(reply.clone());
        }
        reply
    });
    assert_eq!(home.snapshots().expect(0).stdout.lines().count(), 1);
    home.control.is_honest();
    home.push("second").expect(0);
    assert_eq!(home.snapshots().expect(0).stdout.lines().count(), 2);
    let floor = home.floor();
    assert!(floor.contains("\"session\":2"), "{floor}");
    let old: Reply = yesterday.lock().unwrap().take().unwrap();
    home.control.lies(move |asked, pass| if asked.op() == "mount" { old.clone() } else { pass() });
    for _ in 0..2 {
        for ran in [home.snapshots(), home.push("third"), home.person.run(["cat", "latest:/a"])] {
            let said = ran.expect(1).everything();
            assert!(said.contains("rollback: device") && said.contains("now ends at session"), "{said}");
            assert!(said.contains("--accept-rollback") && said.contains("do not push into it"), "{said}");
            assert_eq!(home.floor(), floor, "it is not lowered");
        }
    }
    home.control.is_honest();
    assert_eq!(home.snapshots().expect(0).stdout.lines().count(), 2);
    let sessions = home.server.admin().row("select count(*) from app.session", &[]).get::<_, i64>(0);
    assert_eq!(sessions, 2, "nothing was pushed into what is not believed");
}

#[test]
fn an_old_root_in_place_of_the_newest_is_told() {
    let home = Home::new();
    home.push("second").expect(0);
    assert_eq!(home.snapshots().expect(0).stdout.lines().count(), 2);
    let floor = home.floor();
    let bucket = home.server.objects().to_owned();
    home.storage().lies(move |asked, pass| {
        if !asked.path.ends_with("/r/00000002") {
            return pass();
        }
        let old = asked.path.splitn(3, '/').nth(2).unwrap().replace("/r/00000002", "/r/00000001");
        Reply::part(&std::fs::read(bucket.join(old)).unwrap(), asked.header("range"))
    });
    // The root that this device has is the true one, whatever storage says now.
    assert_eq!(home.snapshots().expect(0).stdout.lines().count(), 2);
    home.forget_cache();
    let said = home.snapshots().expect(1).stderr;
    assert!(said.contains("r/00000002") && said.contains("another pack lies under this name"), "{said}");
    assert!(said.contains("hint: `backupengine check`"), "{said}");
    assert_eq!(home.floor(), floor);
    home.storage().is_honest();
    assert_eq!(home.snapshots().expect(0).stdout.lines().count(), 2);
}

/// Between the two screens the server exchanges a key of the new device for its own, to be given the vault's keys.
#[test]
fn keys_of_the_servers_own_are_not_let_in() {
    let home = Home::new();
    let account = Account { server: &home.server, email: "a@example.org".to_owned(), uri: uri(&home.person) };
    let second = Person::new();
    let pending = account.log_in_pending(&second);
    let waiting = pending.device.clone();
    home.control.lies(move |asked, pass| {
        let mut reply = pass();
        if asked.op() == "device-list" {
            changed::<DeviceListed>(&mut reply, |answer| {
                for device in answer.devices.iter_mut().filter(|one| one.device.to_string() == waiting) {
                    device.seal_public = Opaque(SealKey::from_seed([0x72; 32]).public().to_vec());
                }
            });
        }
        reply
    });
    let approve = ["device", "approve", &pending.device, "--role", "owner", "--fingerprint", &pending.words];
    let said = account.run(&home.person, approve).expect(4).stderr;
    assert!(said.contains("the six words differ"), "{said}");
    let let_in = "select count(*) from app.access where envelope is not null";
    assert_eq!(home.server.admin().row(let_in, &[]).get::<_, i64>(0), 0, "nothing was sealed to anybody");
    home.control.is_honest();
    account.run(&home.person, approve).expect(0);
}

#[test]
fn a_certificate_of_the_servers_own_changes_nothing() {
    let home = Home::new();
    home.control.lies(|asked, pass| {
        let mut reply = pass();
        if asked.op() == "mount" {
            changed::<MountedVault>(&mut reply, |answer| {
                let own =
                    backupengine_seal::Certificate::decode(&answer.certificate.as_ref().unwrap().0).unwrap();
                let root = RootKey::from_seed([0x52; 32]);
                let role = backupengine_seal::Role::Owner;
                let forged = root.certify(own.vault, own.device_public, role, own.issued_secs + 60);
                answer.certificate = Some(Opaque(forged.encode()));
            });
        }
        reply
    });
    // It goes on with the one it has, which the vault's root key signed: so others believe what it pushes.
    home.push("second").expect(0);
    home.control.is_honest();
    assert_eq!(home.snapshots().expect(0).stdout.lines().count(), 2);
    let checked = home.person.run(["check", "--read-data"]).expect(0);
    assert!(checked.stdout.contains("no damage found"), "{}", checked.stdout);
}

/// What only a server can do something about is not said to be a matter of this machine's files.
#[test]
fn storage_that_refuses_is_told_from_a_folder_and_from_the_server() {
    let mut home = Home::new();
    let told = |ran: Ran, status: i32, cause: &str, hint: &str| {
        let said = ran.expect(status).stderr;
        assert!(said.contains(cause) && said.contains(hint), "{said}");
        assert!(!said.contains("owner and permissions") && !said.contains("X-Amz"), "{said}");
    };
    home.forget_cache();
    home.storage().lies(|_, _| Reply::status(403));
    let cause = "object storage refused it: status 403, with a new grant as well";
    told(home.snapshots(), 4, cause, "backupengine-server check-storage");
    home.storage().lies(|asked, pass| if asked.method == "PUT" { Reply::status(403) } else { pass() });
    told(home.push("second"), 4, cause, "check this machine's clock");
    home.storage().lies(|asked, pass| if asked.method == "PUT" { Reply::status(503) } else { pass() });
    let cause = "object storage did not do it: it answered with status 503";
    told(home.push("second"), 5, cause, "object storage is in trouble, not this machine");
    home.storage().is_honest();
    home.push("second").expect(0);
    assert_eq!(home.snapshots().expect(0).stdout.lines().count(), 2);
    // Nobody listens there any more.
    home.storage = None;
    home.forget_cache();
    told(
        home.snapshots(),
        5,
        "object storage could not be reached",
        "the server is there, but not its object",
    );
    told(
        home.push("third"),
        5,
        "object storage could not be reached",
        "the server is there, but not its object",
    );
}

/// The account's second factor, as its owner has it.
fn uri(person: &Person) -> String {
    std::fs::read_to_string(person.at("uri")).unwrap()
}
