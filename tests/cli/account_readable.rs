//! Nothing that the control plane or the store keeps or logs can be read: no name, no content, no plain hash of it.
use crate::account_world::with_new_factor;
use crate::program::Person;
use backupengine_tests::account::Server;
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

const NAME: &str = "markername-5d1fa0";
const CONTENT: &str = "markercontent-93be77: nobody but its owner reads this line";

/// What must be found nowhere.
fn needles() -> Vec<Vec<u8>> {
    let hash: [u8; 32] = Sha256::digest(CONTENT).into();
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let base64 = backupengine_tests::account::base64(&hash);
    [NAME.as_bytes(), b"markercontent-93be77", hex.as_bytes(), base64.as_bytes(), &hash]
        .map(<[u8]>::to_vec)
        .to_vec()
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// Signs up, makes a vault, pushes the marked file and reads it back; everything at trace level into one log.
fn push_marked(server: &Server, person: &Person, region: &str) -> Vec<u8> {
    let log = person.at("client.log");
    let log = log.to_str().unwrap();
    let traced = ["--log-level", "trace", "--log-file", log];
    let signup = ["signup", "--server", server.base(), "--region", region, "--email", "a@example.org"];
    let (ran, _) = with_new_factor(server, person, &[&signup[..], &traced].concat());
    ran.expect(0);
    person.run([&["init", "--yes", "--no-passphrase"][..], &traced].concat()).expect(0);
    person.write(&format!("src/{NAME}"), CONTENT);
    let src = person.at("src").to_str().unwrap().to_owned();
    person.run([&["push", &src][..], &traced].concat()).expect(0);
    let file = format!("latest:{src}/{NAME}");
    assert_eq!(person.run(["cat", &file]).expect(0).stdout, CONTENT);
    std::fs::read(log).unwrap()
}

/// Every file below a folder that holds a needle; and how many were looked at.
fn search(folder: &Path, needles: &[Vec<u8>]) -> (Vec<String>, usize) {
    let (mut found, mut looked) = (Vec::new(), 0);
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            let (more, below) = search(&path, needles);
            found.extend(more);
            looked += below;
        } else if let Ok(bytes) = std::fs::read(&path) {
            looked += 1;
            if needles.iter().any(|needle| holds(&bytes, needle)) {
                found.push(path.display().to_string());
            }
        }
    }
    (found, looked)
}

#[test]
fn neither_the_database_nor_the_bucket_holds_a_name_or_content() {
    let server = Server::start();
    let person = Person::new();
    let region = crate::account_world::region(&server).to_owned();
    let _log = push_marked(&server, &person, &region);
    let admin = server.admin();
    let tables = admin
        .query(
            "select format('%I.%I', schemaname, tablename) from pg_tables
               where schemaname not in ('pg_catalog', 'information_schema')",
            &[],
        )
        .unwrap();
    let mut rows = 0;
    for table in tables {
        let table: String = table.get(0);
        for row in admin.query(&format!("select t::text from {table} t"), &[]).unwrap() {
            let text: String = row.get(0);
            rows += 1;
            for needle in needles() {
                assert!(!holds(text.as_bytes(), &needle), "{table} holds it");
            }
        }
    }
    assert!(rows > 50, "only {rows} rows were looked at");
    // The files of the database, its write-ahead log among them, and the objects.
    admin.batch("checkpoint").unwrap();
    let (found, looked) = search(&server.data(), &needles());
    assert_eq!((found, looked > 500), (Vec::<String>::new(), true), "{looked} files");
    // The search finds what is there: an address that the server has to know.
    let known = search(&server.data(), &[b"a@example.org".to_vec()]).0;
    assert!(!known.is_empty(), "the search finds nothing at all");
}

#[test]
fn no_log_holds_a_name_or_content_at_any_level() {
    let folder = tempfile::Builder::new().prefix("be-test-").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let log = folder.path().join("server.log");
    let mut child = Command::new(backupengine_tests::program::server())
        .args(["--dev", "--listen", "127.0.0.1:0", "--region", "eu", "--data"])
        .arg(folder.path().join("data"))
        .env("BACKUPENGINE_LOG", "trace")
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    while !said.contains("Ctrl-C") && out.read_line(&mut said).unwrap() > 0 {}
    let base =
        said.split_whitespace().find(|word| word.starts_with("http://")).unwrap_or_default().to_owned();
    let person = Person::new();
    let client_log = std::panic::catch_unwind(|| push_marked(&Server::attach(&base), &person, "eu"));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    child.wait().unwrap();
    let client_log = client_log.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let server_log = std::fs::read(&log).unwrap();
    for (what, text) in [("the server's", &server_log), ("the client's", &client_log)] {
        assert!(text.len() > 1000, "{what} log is {} bytes short", text.len());
        for needle in needles() {
            // The client may name the files of its own user; their content it may not.
            let own_name = what == "the client's" && needle == NAME.as_bytes();
            assert!(own_name || !holds(text, &needle), "{what} log holds it");
        }
    }
    assert!(holds(&server_log, b"session-commit"), "the server's log tells what was called");
}
