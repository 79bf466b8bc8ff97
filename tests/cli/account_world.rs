//! A control plane, and people with accounts there.
use crate::program::{Person, Ran};
use backupengine_tests::account::{PASSWORD, Server};
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Somebody's account, and the key of the second factor.
pub(crate) struct Account<'s> {
    pub(crate) server: &'s Server,
    pub(crate) email: String,
    /// `otpauth://`, as the program handed it to the command that was to make codes of it.
    pub(crate) uri: String,
}

/// Waits for a file and gives what is in it.
pub(crate) fn wait_for(path: &Path) -> String {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if !text.is_empty() => return text,
            _ => assert!(Instant::now() < until, "{} did not come", path.display()),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The code of now. The server takes each once; here it forgets that, so that no test waits for the next.
fn code(server: &Server, uri: &str) -> String {
    if server.is_own() {
        server.admin().execute("update auth.mfa_factors set last_step = null", &[]).unwrap();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    totp_rs::Totp::from_url(uri).unwrap().generate(now / 30 * 30).to_string()
}

/// Runs something that makes a factor: its command hands the address over and waits for the code.
pub(crate) fn with_new_factor(server: &Server, person: &Person, args: &[&str]) -> (Ran, String) {
    with_new_factor_after(server, person, args, |_| ())
}

/// The same, where something has to be done with the running program before it comes that far.
pub(crate) fn with_new_factor_after(
    server: &Server,
    person: &Person,
    args: &[&str],
    before: impl FnOnce(&mut Child),
) -> (Ran, String) {
    let (uri, code_file) = (person.at("uri"), person.at("code"));
    drop(std::fs::remove_file(&uri));
    drop(std::fs::remove_file(&code_file));
    let (u, c) = (uri.display(), code_file.display());
    let command = format!(
        "cat > '{u}.new' && mv '{u}.new' '{u}' && while [ ! -s '{c}' ]; do sleep 0.02; done && cat '{c}'"
    );
    let mut all = args.to_vec();
    all.extend(["--totp-command", &command]);
    let mut started = person.command(&all);
    started.env("BACKUPENGINE_PASSWORD", PASSWORD).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut started = started.spawn().unwrap();
    before(&mut started);
    let told = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait_for(&uri));
        let told = waiting.join();
        told.unwrap_or_default()
    });
    let new = person.at("code.new");
    std::fs::write(&new, code(server, &told)).unwrap();
    std::fs::rename(&new, &code_file).unwrap();
    (Ran::of(started.wait_with_output().unwrap()), told)
}

impl<'s> Account<'s> {
    /// Makes the account by the program, on this person's machine.
    pub(crate) fn sign_up(server: &'s Server, person: &Person, email: &str) -> Self {
        let args = ["signup", "--server", server.base(), "--region", region(server), "--email", email];
        let (ran, uri) = with_new_factor(server, person, &args);
        ran.expect(0);
        Self { server, email: email.to_owned(), uri }
    }

    /// The same with a vault; gives the recovery code.
    pub(crate) fn with_vault(server: &'s Server, person: &Person, email: &str) -> (Self, String) {
        let account = Self::sign_up(server, person, email);
        let made = person.run(["init", "--yes", "--json", "--no-passphrase"]).expect(0);
        (account, made.json()["recovery_code"].as_str().unwrap().to_owned())
    }

    /// Runs the program with password and a code that counts.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, person: &Person, args: impl IntoIterator<Item = S>) -> Ran {
        let mut command = person.command(args);
        command.env("BACKUPENGINE_PASSWORD", PASSWORD).env("BACKUPENGINE_TOTP_CODE", self.code());
        Ran::of(command.output().unwrap())
    }

    /// A code that counts now.
    pub(crate) fn code(&self) -> String {
        code(self.server, &self.uri)
    }

    /// Logs a new machine in: it waits for approval.
    pub(crate) fn log_in_pending(&self, person: &Person) -> Pending {
        let args = ["login", "--server", self.server.base(), "--email", &self.email, "--wait", "0", "--json"];
        let ran = self.run(person, args).expect(4);
        let hints = ran.stderr.lines().last().unwrap().to_owned();
        let words = hints.split("six words are: ").nth(1).unwrap().split('"').next().unwrap();
        let device = hints.split("device approve ").nth(1).unwrap().split(';').next().unwrap();
        Pending { device: device.to_owned(), words: words.to_owned() }
    }

    /// Lets a new machine in, from one that is an owner.
    pub(crate) fn let_in(&self, owner: &Person, new: &Person, role: &str) -> String {
        let pending = self.log_in_pending(new);
        let args =
            ["device", "approve", &pending.device, "--role", role, "--fingerprint", &pending.words, "--json"];
        let approved = self.run(owner, args).expect(0).json();
        let words = approved["vault_fingerprint"].as_str().unwrap();
        self.run(new, ["login", "--server", self.server.base(), "--vault-fingerprint", words]).expect(0);
        pending.device
    }
}

/// What a machine that waits shows.
pub(crate) struct Pending {
    pub(crate) device: String,
    pub(crate) words: String,
}

/// Where the test's server says it is.
pub(crate) fn region(server: &Server) -> &'static str {
    let (status, body) = server.http("GET", "/regions.json", None, None);
    assert_eq!(status, 200);
    let regions = body["regions"].as_object().unwrap();
    ["us", "ca", "eu"].into_iter().find(|region| regions.contains_key(*region)).unwrap()
}
