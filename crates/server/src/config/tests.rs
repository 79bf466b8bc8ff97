//! Settings: what is taken, what is refused, and that no refusal shows a secret.
use super::environment::{Environment, SECRETS, SETTINGS};
use super::*;
use std::collections::BTreeMap;

fn good() -> BTreeMap<String, String> {
    [
        ("BACKUPENGINE_PUBLIC_URL", "https://backup.example.org/"),
        ("BACKUPENGINE_TLS_CERT", "/etc/chain.pem"),
        ("BACKUPENGINE_TLS_KEY", "/etc/key.pem"),
        ("BACKUPENGINE_REGION", "eu"),
        ("DATABASE_URL", "postgres://backupengine_front:hunter2@db/postgres"),
        ("BACKUPENGINE_AUTH_DATABASE_URL", "postgres://backupengine_auth:hunter2@db/postgres"),
        ("BACKUPENGINE_S3_ENDPOINT", "https://s3.example.org"),
        ("BACKUPENGINE_S3_REGION", "eu-central-1"),
        ("BACKUPENGINE_S3_BUCKET", "bucket"),
        ("BACKUPENGINE_S3_ACCESS_KEY", "access"),
        ("BACKUPENGINE_S3_SECRET_KEY", "hunter2"),
        ("BACKUPENGINE_JWT_KEY", "hunter2"),
        ("BACKUPENGINE_TOTP_KEY", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

fn read(changes: &[(&str, Option<&str>)]) -> Result<Config, String> {
    let mut variables = good();
    for (name, value) in changes {
        match value {
            Some(value) => variables.insert((*name).to_owned(), (*value).to_owned()),
            None => variables.remove(*name),
        };
    }
    let read = Environment::new(variables).and_then(|environment| environment.config());
    read.map_err(|cause| cause.to_string())
}

#[test]
fn a_full_set_is_read() {
    let config = read(&[
        ("BACKUPENGINE_PROXIES", Some("10.0.0.1, ::1")),
        ("BACKUPENGINE_GRANT_SECONDS", Some("300")),
        ("BACKUPENGINE_GOOGLE_CLIENT_ID", Some("id")),
        ("BACKUPENGINE_GOOGLE_CLIENT_SECRET", Some("secret")),
        ("BACKUPENGINE_REGIONS", Some("us=https://us.example.org,eu=https://backup.example.org")),
    ])
    .unwrap();
    assert_eq!(config.public_url, "https://backup.example.org");
    assert_eq!(config.proxies.len(), 2);
    assert_eq!(config.storage.grant_life, Duration::from_secs(300));
    assert_eq!(config.auth.providers[0].issuer, "https://accounts.google.com");
    assert_eq!(config.directory.regions["us"], "https://us.example.org");
    assert_eq!(read(&[]).unwrap().directory.regions.len(), 1);
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
}

#[test]
fn each_of_these_is_refused_by_its_name_and_without_its_value() {
    for (name, value) in [
        ("BACKUPENGINE_PUBLIC_URL", Some("http://backup.example.org")),
        ("BACKUPENGINE_PUBLIC_URL", Some("https://Backup.example.org")),
        ("BACKUPENGINE_PUBLIC_URL", Some("https://backup.example.org?a")),
        ("BACKUPENGINE_PUBLIC_URL", None),
        ("BACKUPENGINE_TLS_CERT", None),
        ("BACKUPENGINE_TLS_KEY", None),
        ("BACKUPENGINE_LISTEN", Some("8443")),
        ("BACKUPENGINE_REGION", Some("mars")),
        ("BACKUPENGINE_REGIONS", Some("us=https://us.example.org")),
        ("BACKUPENGINE_REGIONS", Some("eu=http://backup.example.org")),
        ("BACKUPENGINE_S3_ENDPOINT", Some("http://s3.example.org")),
        ("BACKUPENGINE_S3_SECRET_KEY", None),
        ("BACKUPENGINE_S3_SECRET_KEY", Some("")),
        ("BACKUPENGINE_S3_LOCK_MODE", Some("hunter2")),
        ("BACKUPENGINE_S3_LOCK_DAYS", Some("hunter2")),
        ("BACKUPENGINE_GRANT_SECONDS", Some("901")),
        ("BACKUPENGINE_GRANT_SECONDS", Some("hunter2")),
        ("BACKUPENGINE_ACCESS_SECONDS", Some("0")),
        ("BACKUPENGINE_TOTP_KEY", Some("hunter2")),
        ("BACKUPENGINE_METRICS_TOKEN", Some("hunter2")),
        ("BACKUPENGINE_PROXIES", Some("10.0.0.0/8")),
        ("DATABASE_URL", None),
        ("BACKUPENGINE_S3_BUKET", Some("hunter2")),
        ("BACKUPENGINE_JWT_KEY_FIEL", Some("hunter2")),
        ("BACKUPENGINE_LISTEN_FILE", Some("hunter2")),
    ] {
        let text = read(&[(name, value)]).map(drop).expect_err(name);
        assert!(
            text.starts_with(&format!("{name}: ")) && !text.contains("hunter2"),
            "{name}={value:?}: {text}"
        );
    }
    let azure = [("BACKUPENGINE_AZURE_CLIENT_ID", Some("id"))];
    assert!(read(&azure).unwrap_err().contains("AZURE_ISSUER"));
}

#[test]
fn a_lock_has_a_mode_and_days() {
    let lock = |mode, days| {
        let said = [("BACKUPENGINE_S3_LOCK_MODE", mode), ("BACKUPENGINE_S3_LOCK_DAYS", days)];
        read(&said).map(|config| config.storage.lock)
    };
    assert_eq!(lock(None, None), Ok(None));
    let kept = Lock { mode: LockMode::Compliance, days: 30 };
    assert_eq!(lock(Some("compliance"), Some("30")), Ok(Some(kept)));
    assert_eq!(lock(Some("governance"), Some("3650")).unwrap().unwrap().mode, LockMode::Governance);
    for (mode, days, setting) in [
        (Some("compliance"), None, "BACKUPENGINE_S3_LOCK_DAYS"),
        (None, Some("30"), "BACKUPENGINE_S3_LOCK_MODE"),
        (Some("compliance"), Some("0"), "BACKUPENGINE_S3_LOCK_DAYS"),
        (Some("compliance"), Some("3651"), "BACKUPENGINE_S3_LOCK_DAYS"),
    ] {
        assert!(lock(mode, days).unwrap_err().starts_with(setting), "{mode:?} {days:?}");
    }
    assert_eq!(kept.until(1_795_953_600), "2026-12-29T12:00:00Z");
    // A profile that was kept before there were locks.
    let older = serde_json::json!({"checksum_sha256": true, "content_md5": false, "if_none_match": true, "sse_header": false});
    assert!(!Profile::from_json(older).unwrap().object_lock);
}

#[test]
fn secrets_come_from_files_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let file = path.to_str().unwrap();
    let by_file = [("BACKUPENGINE_JWT_KEY", None), ("BACKUPENGINE_JWT_KEY_FILE", Some(file))];
    assert!(read(&by_file).unwrap_err().contains("cannot be read"));
    std::fs::write(&path, "\n").unwrap();
    assert!(read(&by_file).unwrap_err().contains("is empty"));
    std::fs::write(&path, "two\nlines\r\n").unwrap();
    assert_eq!(read(&by_file).unwrap().auth.jwt_key.expose(), "two\nlines");
    assert!(read(&by_file[1..]).unwrap_err().contains("which one counts?"));
}

#[test]
fn the_text_lists_every_setting() {
    let text = include_str!("../../API.md");
    for name in SETTINGS.iter().chain(SECRETS) {
        assert!(text.contains(&format!("`{name}`")), "API.md says nothing of {name}");
    }
}
