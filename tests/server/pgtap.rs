//! The SQL tests of `crates/server/supabase/tests` against the migrated database: policies, rights, every operation.
//!
//! The same files run under `pg_prove` and `supabase test db`.
use backupengine_tests::account::Server;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/server/supabase/tests");
const INSTALL: &str = "sudo apt-get install postgresql-15-pgtap postgresql-client (or scripts/setup --tests)";

#[test]
fn every_sql_test_passes() {
    let server = Server::start();
    let known =
        server.admin().query("select 1 from pg_available_extensions where name = 'pgtap'", &[]).unwrap();
    assert!(!known.is_empty(), "the PostgreSQL here has no pgTAP: {INSTALL}");
    let files = files();
    assert!(files.len() >= 6, "{files:?}");
    let bad: Vec<String> = files.iter().filter_map(|file| run(&server, file).err()).collect();
    assert!(bad.is_empty(), "\n{}", bad.join("\n"));
    // Each undid what it did.
    let left = server.admin().row("select count(*) from app.tenant", &[]);
    assert_eq!(left.get::<_, i64>(0), 0);
}

#[test]
fn an_output_that_proves_nothing_is_no_success() {
    assert_eq!(judge("ok 1 - a\nok 2\n1..2\n"), Ok(2));
    for bad in ["", "ok 1\n", "1..0\n", "ok 1\n1..2\n", "ok 1\nnot ok 2 - b\n1..2\n", "ok 1\nok 1\n1..2\n"] {
        assert!(judge(bad).is_err(), "{bad}");
    }
}

fn files() -> Vec<PathBuf> {
    let found = std::fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = found.filter(|path| path.extension().is_some_and(|end| end == "sql")).collect();
    found.sort();
    found
}

/// One file, as a superuser: it takes the front's role itself where it calls.
fn run(server: &Server, file: &Path) -> Result<usize, String> {
    let url = url::Url::parse(&server.dev().admin_database_url).unwrap();
    let host = url.host_str().unwrap().replace("%2F", "/").replace("%2f", "/");
    let ran = Command::new("psql")
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(file)
        .env("PGHOST", host)
        .env("PGPORT", url.port().unwrap().to_string())
        .env("PGUSER", url.username())
        .env("PGPASSWORD", url.password().unwrap())
        .env("PGDATABASE", url.path().trim_start_matches('/'))
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("psql does not run ({error}): {INSTALL}"));
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    if !ran.status.success() {
        return Err(format!("{name} broke off: {err}"));
    }
    judge(&out).map_err(|why| format!("{name}: {why}"))
}

/// How many tests an output in TAP reports, all of them good and as many as planned.
fn judge(out: &str) -> Result<usize, String> {
    let bad: Vec<&str> =
        out.lines().filter(|line| line.starts_with("not ok") || line.starts_with('#')).collect();
    if out.lines().any(|line| line.starts_with("not ok")) {
        return Err(bad.join("\n"));
    }
    let numbers =
        out.lines().filter_map(|line| line.strip_prefix("ok ")?.split(' ').next()?.parse::<usize>().ok());
    let numbers: BTreeSet<usize> = numbers.collect();
    let plan = out.lines().find_map(|line| line.strip_prefix("1..")?.trim().parse::<usize>().ok());
    match plan {
        Some(plan) if plan > 0 && numbers.len() == plan => Ok(plan),
        _ => Err(format!("{} tests of {plan:?} planned", numbers.len())),
    }
}
