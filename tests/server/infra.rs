//! The server as a thing that runs: starts, stops, starts again on what it left, and shares its folder with nobody.
use backupengine_tests::account::{Dev, DevConfig, Server};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn alive(pid: &str) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_whole_control_plane_starts_and_leaves_nothing() {
    let server = Server::start();
    let (status, body) = server.http("GET", "/health", None, None);
    assert_eq!((status, body["status"].as_str()), (200, Some("ok")));
    let data = server.data();
    let text = std::fs::read_to_string(data.join("postgres/postmaster.pid")).unwrap();
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let (pid, socket) = (&lines[0], &lines[4]);
    assert!(alive(pid) && Path::new(socket).exists());
    assert_eq!(Path::new(socket).metadata().unwrap().permissions().mode() & 0o777, 0o700, "closed to others");
    assert_eq!(lines[5].trim(), "", "PostgreSQL listens on no network");
    drop(server);
    assert!(!alive(pid) && !Path::new(socket).exists() && !data.exists());
}

#[test]
fn it_ends_when_a_test_panics() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let panicked = std::thread::spawn(move || {
        let server = Server::start();
        sender.send(server.data()).unwrap();
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    assert!(!receiver.recv().unwrap().exists());
}

#[test]
fn a_person_signs_up_and_enrols_a_device() {
    let server = Server::start();
    let user = server.user("a@example.org");
    let device = user.stranger(1);
    assert_eq!(device.refused("vault-list", &json!({})), "unknown_device");
    let answer = device.enroll();
    assert_eq!((answer["status"].as_str(), answer["role"].as_str()), (Some("active"), Some("owner")));
    assert_eq!(user.stranger(2).enroll()["status"], "pending");
}

#[test]
fn only_loopback_is_listened_on() {
    let folder = tempfile::tempdir().unwrap();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let config =
            DevConfig { listen: address.parse().unwrap(), ..DevConfig::new(folder.path().join("data")) };
        let text = refusal(config);
        assert!(text.starts_with("--listen: ") && text.contains("loopback"), "{text}");
    }
    assert!(!folder.path().join("data").exists(), "refused before anything is made");
}

#[test]
fn a_second_server_is_kept_out_of_the_folder() {
    let server = Server::start();
    let listen = "127.0.0.1:0".parse().unwrap();
    let text = refusal(DevConfig { listen, ..DevConfig::new(server.data()) });
    assert!(text.contains("another server uses") && text.contains("--data"), "{text}");
    assert_eq!(server.http("GET", "/health", None, None).0, 200, "the first one is not disturbed");
}

#[test]
fn what_was_stored_is_there_after_a_restart() {
    let mut server = Server::start();
    let token = server.user("a@example.org").session.access;
    let device_keys = {
        let user = server.user("b@example.org");
        user.device(1).keys
    };
    let base = server.base().to_owned();
    server.restart();
    assert_eq!(server.base(), base, "on the same port");
    assert_eq!(server.http("GET", "/auth/v1/user", Some(&token), None).0, 200, "logins outlive it");
    assert_eq!(device_keys.device().to_string().len(), 32);

    // The whole of it anew, database and all.
    server.start_again();
    let login = json!({"email": "b@example.org", "password": backupengine_tests::account::PASSWORD});
    assert_eq!(server.http("POST", "/auth/v1/token?grant_type=password", None, Some(&login)).0, 200);
    let devices = server.admin().row("select count(*) from app.device", &[]).get::<_, i64>(0);
    assert_eq!(devices, 1);
}

#[test]
fn a_number_that_is_another_processs_by_now_is_no_obstacle() {
    let mut server = Server::start();
    server.stop();
    let file = server.data().join("postgres/postmaster.pid");
    assert!(!file.exists());
    // As after a crash of the whole machine: the number in the file is given anew, here to this very process.
    let text = format!("{}\n{}\n1\n5432\n/tmp/be-gone\n\n", std::process::id(), server.data().display());
    std::fs::write(&file, text).unwrap();
    server.start_again();
    assert_eq!(server.http("GET", "/health", None, None).0, 200);
}

#[test]
fn secrets_that_others_can_read_are_refused() {
    let mut server = Server::start();
    let data = server.data();
    server.stop();
    let secrets = data.join("secrets.json");
    assert_eq!(secrets.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o644)).unwrap();
    let listen = "127.0.0.1:0".parse().unwrap();
    let text = refusal(DevConfig { listen, ..DevConfig::new(data.clone()) });
    assert!(text.contains("can be read by others"), "{text}");

    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&secrets, "{\"jwt_key\": \"hunter2").unwrap();
    let text = refusal(DevConfig { listen, ..DevConfig::new(data) });
    assert!(text.contains("does not read") && !text.contains("hunter2"), "{text}");
}

#[test]
fn another_region_than_the_accounts_is_refused() {
    let mut server = Server::start();
    server.user("a@example.org").device(1);
    let data = server.data();
    server.stop();
    let listen = "127.0.0.1:0".parse().unwrap();
    let text = refusal(DevConfig { listen, region: "us".to_owned(), ..DevConfig::new(data) });
    assert!(text.contains("accounts of another region"), "{text}");
}

/// Why it does not start.
fn refusal(config: DevConfig) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(Dev::start(config)) {
        Ok(_) => panic!("it was to be refused"),
        Err(error) => error.to_string(),
    }
}
