//! The graph: what the manifests link against what `edges.txt` allows, and the three sentences that follow.
use crate::tree::{edges, metadata, reach, root, short};
use std::collections::{BTreeMap, BTreeSet};

/// Crates from outside that have one home.
const HOMES: &[(&str, &[&str])] = &[
    ("aws-lc-rs", &["seal", "tests"]),
    // The server's own: secrets of one-time codes under a server key, hashes of account passwords, and verifying
    // what devices sign. None of them opens a seal: it links neither seal nor format.
    ("aes-gcm", &["seal", "server"]),
    ("argon2", &["seal", "server"]),
    ("ed25519-dalek", &["seal", "server", "tests"]),
    ("hkdf", &["seal"]),
    ("hpke", &["seal"]),
    ("bip39", &["seal"]),
    ("fastcdc", &["chunk"]),
    ("fuser", &["fuse", "tests"]),
    ("clap", &["cli", "server"]),
    ("tracing-subscriber", &["cli", "server"]),
    ("indicatif", &["cli"]),
    ("rpassword", &["cli"]),
    ("tokio", &["vault", "transfer", "server", "tests"]),
    ("reqwest", &["transfer", "server", "tests"]),
    ("axum", &["server", "tests"]),
    ("tokio-postgres", &["server", "tests"]),
    ("rusty-s3", &["server", "tests"]),
    ("s3s", &["server", "tests"]),
    ("keyring", &["cli"]),
    ("qrcode", &["cli", "server"]),
];

fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(root().join("tests/arch/edges.txt")).expect("the table can be read");
    let lines = text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty());
    lines
        .map(|line| {
            let (from, to) = line.split_once(':').expect("package: packages");
            (from.trim().to_owned(), to.split_whitespace().map(str::to_owned).collect())
        })
        .collect()
}

#[test]
fn every_edge_is_in_the_table() {
    let allowed = allowed();
    let linked = edges(false);
    let names = |map: &BTreeMap<String, BTreeSet<String>>| map.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&linked), names(&allowed), "packages of the workspace and of edges.txt");
    for (from, to) in &linked {
        let extra: Vec<_> = to.difference(&allowed[from]).collect();
        assert!(extra.is_empty(), "{from} links {extra:?}, which tests/arch/edges.txt does not allow");
    }
}

#[test]
fn unit_tests_use_their_own_crate() {
    for (from, to) in edges(true) {
        let normal = &edges(false)[&from];
        let extra: Vec<_> = to.difference(normal).collect();
        assert!(
            from == "tests" || extra.is_empty(),
            "{from} has dev-dependencies on {extra:?}: what crosses crates belongs into tests/"
        );
    }
}

#[test]
fn the_table_goes_downwards() {
    // The order of the lines is the order of the layers, so a table in order has no cycle.
    let text = std::fs::read_to_string(root().join("tests/arch/edges.txt")).unwrap();
    let mut above: BTreeSet<&str> = BTreeSet::new();
    for line in text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()) {
        let (from, to) = line.split_once(':').unwrap();
        for to in to.split_whitespace() {
            assert!(above.contains(to), "{from} names {to}, which stands no lower");
        }
        above.insert(from.trim());
    }
}

#[test]
fn the_mount_cannot_write() {
    let edges = edges(false);
    for reader in ["vfs", "fuse", "vault"] {
        let reached = reach(&edges, reader);
        for writer in ["push", "maintain", "source", "restore"] {
            assert!(!reached.contains(writer), "{reader} reaches {writer}");
        }
    }
}

#[test]
fn the_core_does_not_know_its_system() {
    assert_eq!(reach(&edges(false), "vfs"), BTreeSet::from(["model".to_owned()]));
}

#[test]
fn the_server_cannot_read_a_backup() {
    let reached = reach(&edges(false), "server");
    let allowed = BTreeSet::from(["api".to_owned(), "model".to_owned()]);
    assert!(reached.is_subset(&allowed), "the server reaches {reached:?}");
    // What it would need for reading has one home, whoever else joins the workspace.
    for (outside, homes) in HOMES {
        let users: BTreeSet<&str> = metadata()
            .packages
            .iter()
            .filter(|p| p.dependencies.iter().any(|d| d.name == *outside))
            .map(|p| short(&p.name))
            .collect();
        let homes: BTreeSet<&str> = homes.iter().copied().collect();
        let strays: Vec<_> = users.difference(&homes).collect();
        assert!(strays.is_empty(), "{outside} is used by {strays:?}; its home is {homes:?}");
    }
}

#[test]
fn testkit_is_linked_by_nothing() {
    for (from, to) in edges(false) {
        assert!(!to.contains("testkit") && !to.contains("tests"), "{from} links the tests");
    }
}

#[test]
fn the_list_of_members_is_in_layer_order() {
    let text = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members: Vec<&str> = text
        .lines()
        .skip_while(|l| !l.starts_with("members"))
        .take_while(|l| !l.starts_with(']'))
        .filter_map(|l| l.trim().strip_prefix('"')?.strip_suffix("\","))
        .map(|path| path.rsplit('/').next().expect("a path has a last part"))
        .collect();
    assert!(members.len() >= 15, "the list of members could not be read: {members:?}");
    let edges = edges(false);
    for (at, package) in members.iter().enumerate() {
        for below in &edges[*package] {
            let place = members.iter().position(|m| m == below);
            assert!(place.is_some_and(|p| p < at), "{package} is listed before {below}, which it links");
        }
    }
}
