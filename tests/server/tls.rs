//! Guards: TLS 1.3 or nothing, towards clients and towards the database; and the database is who it says.
use crate::postgres::Postgres;
use backupengine_server::app::App;
use backupengine_server::config::{Config, Secret};
use backupengine_server::db;
use backupengine_tests::account::Server;
use backupengine_tests::tls::Authority;
use reqwest::tls::Version;
use std::path::Path;

/// Serves as in production, on the database and the store of a `--dev`.
fn production(
    server: &Server,
    change: impl FnOnce(&mut Config),
    folder: &Path,
    authority: &Authority,
) -> (App, String) {
    let (chain, key) = authority.issue(folder, "localhost");
    let mut config = server.dev().config().clone();
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.tls = Some((chain, key));
    change(&mut config);
    let app = server.wait(App::new(config)).unwrap();
    (app, authority.pem())
}

fn client(authority: &str, newest: Version) -> reqwest::Client {
    let authority = reqwest::Certificate::from_pem(authority.as_bytes()).unwrap();
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([authority]);
    builder.tls_version_max(newest).build().unwrap()
}

#[test]
fn a_peer_of_tls_1_2_is_refused() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let (app, authority) = production(&server, |_| {}, folder.path(), &Authority::new());
    let running = server.wait(async { app.serve().await }).unwrap();
    let url = format!("https://localhost:{}/health", running.address.port());

    let new = client(&authority, Version::TLS_1_3);
    let answer = server.wait(async { new.get(&url).send().await }).unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("strict-transport-security"));

    let old = client(&authority, Version::TLS_1_2);
    let error = server.wait(async { old.get(&url).send().await }).unwrap_err();
    assert!(format!("{error:?}").contains("ProtocolVersion"), "{error:?}");

    let plain = format!("http://localhost:{}/health", running.address.port());
    assert!(server.wait(async { new.get(&plain).send().await }).is_err(), "no plain HTTP");
    server.wait(running.stop());
    assert!(server.wait(async { new.get(&url).send().await }).is_err(), "stopped");
}

#[test]
fn metrics_are_for_who_knows_the_token() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    for (set, shown, status) in [
        (None, "", 404),
        (None, "anything-at-all-16", 404),
        (Some("a-token-of-sixteen"), "", 404),
        (Some("a-token-of-sixteen"), "a-token-of-sixteem", 404),
        (Some("a-token-of-sixteen"), "a-token-of-sixteen", 200),
    ] {
        let token = set.map(|token| Secret::new(token.to_owned()));
        let change = |config: &mut Config| config.metrics_token = token;
        let (app, authority) = production(&server, change, folder.path(), &Authority::new());
        let running = server.wait(async { app.serve().await }).unwrap();
        let url = format!("https://localhost:{}/metrics", running.address.port());
        let request = client(&authority, Version::TLS_1_3).get(url).bearer_auth(shown);
        assert_eq!(server.wait(async { request.send().await }).unwrap().status(), status, "{set:?} {shown}");
        server.wait(running.stop());
    }
}

#[test]
fn settings_of_another_deployment_are_refused() {
    let server = Server::start();
    type Change = fn(&mut Config);
    let changes: [(&str, Change); 2] = [
        ("BACKUPENGINE_REGION: ", |config| config.region = "us".to_owned()),
        ("BACKUPENGINE_S3_BUCKET: ", |config| config.storage.bucket = "other".to_owned()),
    ];
    for (setting, change) in changes {
        let mut config = server.dev().config().clone();
        change(&mut config);
        let error = server.wait(App::new(config)).map(drop).unwrap_err().to_string();
        assert!(error.starts_with(setting) && error.contains("two deployments"), "{error}");
    }
    server.admin().batch("update app.deployment set profile = '{}' where true").unwrap();
    let error = server.wait(App::new(server.dev().config().clone())).map(drop).unwrap_err().to_string();
    assert!(error.contains("check-storage"), "{error}");
}

/// Why there is no connection; `None` where there is one.
fn refusal(postgres: &Postgres, url: &str, authority: &Path) -> Option<String> {
    let url = Secret::new(url.to_owned());
    let connected = postgres.wait(db::connect_once("DATABASE_URL", &url, Some(authority)));
    let text = connected.err().map(|error| error.to_string());
    assert!(!text.as_ref().is_some_and(|text| text.contains(postgres.password())), "{text:?}");
    text
}

#[test]
fn the_database_is_verified_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new(), Authority::new());
    let postgres = Postgres::start(&ours, "localhost");
    let (ours, other) = (ours.write(folder.path(), "ours.pem"), other.write(folder.path(), "other.pem"));

    let (good, by_number) = (postgres.url("localhost", ""), postgres.url("127.0.0.1", ""));
    assert_eq!(refusal(&postgres, &good, &ours), None);
    let explicit = postgres.url("localhost", "?sslmode=verify-full&channel_binding=require");
    assert_eq!(refusal(&postgres, &explicit, &ours), None);

    let text = refusal(&postgres, &by_number, &ours).expect("the certificate is another host's");
    assert!(text.to_lowercase().contains("not valid for name"), "{text}");
    let text = refusal(&postgres, &good, &other).expect("nobody knows its authority");
    assert!(text.to_lowercase().contains("unknownissuer"), "{text}");
    let text = refusal(&postgres, &postgres.url("localhost", "?sslmode=require"), &ours).expect("weaker");
    assert!(text.contains("verify-full"), "{text}");
}

#[test]
fn a_database_that_offers_less_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let postgres = Postgres::start(&authority, "localhost");
    let authority = authority.write(folder.path(), "ca.pem");
    let url = postgres.url("localhost", "");

    postgres.set("ssl_max_protocol_version", "TLSv1.2");
    let text = refusal(&postgres, &url, &authority).expect("TLS 1.2");
    assert!(text.contains("ProtocolVersion"), "{text}");
    postgres.set("ssl_max_protocol_version", "");
    assert_eq!(refusal(&postgres, &url, &authority), None);

    // The password in clear, inside TLS: whoever ended the TLS would have it.
    postgres.ask_for("password");
    let text = refusal(&postgres, &url, &authority).expect("no SCRAM");
    assert!(text.contains("channel binding"), "{text}");
    postgres.ask_for("scram-sha-256");
    assert_eq!(refusal(&postgres, &url, &authority), None);

    postgres.set("ssl", "off");
    let text = refusal(&postgres, &url, &authority).expect("plain text");
    assert!(text.contains("TLS"), "{text}");
}
