//! The server as a thing that runs: starts, listens, stops, and leaves nothing behind.
use backupengine_tests::account::Server;

#[test]
fn a_whole_control_plane_starts_and_leaves_nothing() {
    let server = Server::start();
    let (status, body) = server.http("GET", "/health", None, None);
    assert_eq!((status, body["status"].as_str()), (200, Some("ok")));
    let data = server.data();
    assert!(data.join("postgres/PG_VERSION").exists());
    let pid = std::fs::read_to_string(data.join("postgres/postmaster.pid")).unwrap();
    let pid = pid.lines().next().unwrap().to_owned();
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    drop(server);
    assert!(!data.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_person_signs_up_and_enrols_a_device() {
    let server = Server::start();
    let user = server.user("a@example.org");
    let device = user.stranger(1);
    assert_eq!(device.refused("vault-list", &serde_json::json!({})), "unknown_device");
    let answer = device.enroll();
    assert_eq!((answer["status"].as_str(), answer["role"].as_str()), (Some("active"), Some("owner")));
    assert_eq!(user.device(2).enroll()["status"], "pending");
}
