//! The built program: what it says, how it ends, and that no log of it holds a secret.
use backupengine_tests::account::{PASSWORD, Server};
use backupengine_tests::program::server as program;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// `--dev`, running. Killed on drop.
struct Running {
    child: Child,
    said: String,
    folder: TempDir,
}

impl Running {
    fn start(level: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("be-test-").tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        Self::start_in(folder, level)
    }

    fn start_in(folder: TempDir, level: &str) -> Self {
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut child = Command::new(program())
            .args(["--dev", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.path().join("data"))
            .env("BACKUPENGINE_LOG", level)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains("Ctrl-C") {
            let read = out.read_line(&mut said).unwrap();
            assert_ne!(read, 0, "{}", std::fs::read_to_string(folder.path().join("log")).unwrap());
        }
        Self { child, said, folder }
    }

    fn base(&self) -> &str {
        let at = self.said.find("http://").unwrap();
        self.said[at..].split_whitespace().next().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Its database's number.
    fn postmaster(&self) -> i32 {
        let text = std::fs::read_to_string(self.folder.path().join("data/postgres/postmaster.pid")).unwrap();
        text.lines().next().unwrap().parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if let Ok(text) = std::fs::read_to_string(self.folder.path().join("data/postgres/postmaster.pid")) {
            let pid: i32 = text.lines().next().unwrap().parse().unwrap();
            wait_for("PostgreSQL to end", || !alive(pid));
        }
    }
}

/// Whether it runs. One that ended and was not asked for by its parent does not: an orphan's may not care.
fn alive(pid: i32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < Duration::from_secs(30), "waiting for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(program()).args(arguments).env_clear().envs(variables.iter().copied()).output().unwrap()
}

#[test]
fn it_says_what_to_type_next_and_ends_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut running = Running::start("info");
        let next = format!("backupengine signup --server {}", running.base());
        assert!(running.said.contains(&next), "{}", running.said);
        let pid = running.postmaster();
        running.signal(signal);
        let status = running.child.wait().unwrap();
        assert!(status.success(), "{signal:?}: {status}");
        assert!(!alive(pid), "PostgreSQL ends with it");
        assert!(!running.folder.path().join("data/postgres/postmaster.pid").exists(), "in good order");
    }
}

#[test]
fn a_killed_one_leaves_no_database_running() {
    let mut running = Running::start("info");
    let pid = running.postmaster();
    running.signal(Signal::KILL);
    running.child.wait().unwrap();
    wait_for("PostgreSQL to end", || !alive(pid));
}

#[test]
fn a_database_that_outlived_its_server_is_taken_over() {
    let mut running = Running::start("info");
    let base = running.base().to_owned();
    Server::attach(&base).user("a@example.org");
    let pid = running.postmaster();
    // Whoever would end it is killed first, all at once: the keeper, and its watch on us.
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let keeper: i32 = status.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap();
    let watch =
        children.split_whitespace().map(|child| child.parse::<i32>().unwrap()).find(|child| *child != pid);
    for victim in [watch.unwrap(), keeper] {
        kill_process(Pid::from_raw(victim).unwrap(), Signal::KILL).unwrap();
    }
    running.signal(Signal::KILL);
    running.child.wait().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(alive(pid), "the case does not occur");
    let text = std::fs::read_to_string(running.folder.path().join("data/postgres/postmaster.pid")).unwrap();
    let socket = PathBuf::from(text.lines().nth(4).unwrap());
    assert!(socket.exists());

    let folder = std::mem::replace(&mut running.folder, tempfile::tempdir().unwrap());
    let again = Running::start_in(folder, "info");
    assert!(!socket.exists(), "its folder is gone");
    assert!(!alive(pid) && again.postmaster() != pid);
    assert!(again.log().contains("still running"), "{}", again.log());
    let login = json!({"email": "a@example.org", "password": PASSWORD});
    let server = Server::attach(again.base());
    assert_eq!(server.http("POST", "/auth/v1/token?grant_type=password", None, Some(&login)).0, 200);
}

#[test]
fn the_most_verbose_log_holds_no_secret() {
    let running = Running::start("trace");
    let server = Server::attach(running.base());
    let user = server.user("a@example.org");
    let code = user.code();
    let device = user.device_of(1, &user.session);
    device.enroll();
    let request = device.sign("vault-list", &json!({}));
    assert_eq!(device.send(&request).status, 200);
    device.refused("snapshot-list", &json!({"nonsense": PASSWORD}));
    let vault = device.make_vault();
    let open = json!({"vault": vault, "kind": "push", "idem": "a"});
    drop(device.call("session-open", &open));
    let wrong = json!({"email": "a@example.org", "password": "not-the-password-at-all"});
    assert_ne!(server.http("POST", "/auth/v1/token?grant_type=password", None, Some(&wrong)).0, 200);
    let query =
        format!("/auth/v1/user?access_token={}&X-Amz-Signature=abcdef0123456789", user.session.access);
    server.http("GET", &query, Some("not.a.token"), None);

    let mut secrets = vec![
        ("password", PASSWORD.to_owned()),
        ("wrong password", "not-the-password-at-all".to_owned()),
        ("access token", user.session.access.clone()),
        ("signature of the access token", user.session.access.rsplit('.').next().unwrap().to_owned()),
        ("refresh token", user.session.refresh.clone()),
        ("bad token", "not.a.token".to_owned()),
        ("secret of one-time codes", user.totp_secret()),
        ("device signature", request.headers.signature.clone()),
        ("presigned query", "X-Amz-".to_owned()),
        ("authorization", "Bearer".to_owned()),
        ("authorization header", "authorization".to_owned()),
    ];
    let kept = std::fs::read_to_string(running.folder.path().join("data/secrets.json")).unwrap();
    let kept: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&kept).unwrap();
    for value in kept.values() {
        // A key in PEM is many lines.
        secrets.extend(value.as_str().unwrap().lines().map(|line| ("secret of the server", line.to_owned())));
    }
    let log = running.log();
    assert!(log.lines().count() > 10 && log.contains("vault-list"), "nothing is logged:\n{log}");
    for (what, secret) in secrets {
        assert!(!log.to_lowercase().contains(&secret.to_lowercase()), "the log holds: {what}");
    }
    assert!(!log.contains(&format!("\"{code}\"")), "the log holds: a one-time code");
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    }
    let postgres = std::fs::read_to_string(running.folder.path().join("data/postgres.log")).unwrap();
    assert!(!postgres.contains(PASSWORD) && !postgres.to_lowercase().contains("statement:"), "{postgres}");
}

#[test]
fn settings_that_are_wrong_end_it_with_words() {
    for (variables, expected) in [
        (vec![], "BACKUPENGINE_PUBLIC_URL: it is not set"),
        (vec![("BACKUPENGINE_S3_BUKET", "hunter2")], "BACKUPENGINE_S3_BUKET: there is no such setting"),
        (vec![("BACKUPENGINE_LOG", "hunter2")], "BACKUPENGINE_LOG: it has to be"),
    ] {
        let output = run(&[], &variables);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected) && !said.contains("hunter2"), "{said}");
        assert!(output.stdout.is_empty());
    }
    for command in ["migrate", "check-storage"] {
        let output = run(&[command], &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("BACKUPENGINE_ADMIN_DATABASE_URL: it is not set"), "{command}: {said}");
    }
    for arguments in
        [&["--data", "x"][..], &["--dev", "version"], &["--dev", "--listen", "nowhere"], &["serve"]]
    {
        assert_eq!(run(arguments, &[]).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_machine_without_postgresql_is_told_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    // As if it lay nowhere: a cluster of a version that is not here can only be opened by that version.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let postgres = folder.path().join("data/postgres");
    std::fs::create_dir_all(&postgres).unwrap();
    std::fs::write(postgres.join("PG_VERSION"), "9\n").unwrap();
    let data = folder.path().join("data");
    let output = run(&["--dev", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()], &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("needs PostgreSQL 9") && said.contains("brew install postgresql"), "{said}");
}

#[test]
fn the_contract_and_the_version_are_printed() {
    let output = run(&["openapi"], &[]);
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(read["paths"].as_object().unwrap().len() >= 30);
    assert_eq!(run(&["version"], &[]).stdout, concat!(env!("CARGO_PKG_VERSION"), "\n").as_bytes());
}
