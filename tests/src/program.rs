//! The two programs as people run them, built from this tree.
//!
//! **What it may not do.** Run one: who starts it chooses its home and its surroundings.
//! **What always holds.** Cargo is asked once a process, for everything at once, so that no two tests build different
//! features over each other; a tree that does not build stops the test.
//! **Where it is tested.** `tests/cli`, `tests/server`.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// `backupengine`.
pub fn client() -> &'static Path {
    &built().client
}

/// `backupengine-server`.
pub fn server() -> &'static Path {
    &built().server
}

struct Built {
    client: PathBuf,
    server: PathBuf,
}

fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--workspace", "--all-targets", "--message-format=json", "--quiet"])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(built.status.success(), "the programs do not build");
        let lines = built.stdout.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        let messages: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
        Built {
            client: executable(&messages, "backupengine"),
            server: executable(&messages, "backupengine-server"),
        }
    })
}

fn executable(messages: &[Value], name: &str) -> PathBuf {
    let mut of_it = messages.iter().filter(|m| m["target"]["name"] == name && m["profile"]["test"] == false);
    let path = of_it.find_map(|m| m["executable"].as_str());
    path.unwrap_or_else(|| panic!("cargo does not name what it built of {name}")).into()
}
