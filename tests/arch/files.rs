//! Files: none too long, each with its header, none outside a target, every crate on the map.
use crate::tree::{metadata, root, rust_files, short};
use std::collections::BTreeSet;

/// Lines above which a file has more than one idea in it.
const LONGEST: usize = 700;

#[test]
fn no_file_is_too_long() {
    for file in rust_files() {
        let lines = file.text.lines().count();
        assert!(lines <= LONGEST, "{} has {lines} lines: split it", file.path);
    }
}

#[test]
fn every_file_says_what_it_is() {
    for file in rust_files() {
        let first = file.text.lines().next().unwrap_or("");
        // A proc-macro or fuzz target may begin with an attribute of the whole file.
        let first =
            if first.starts_with("#![no_main]") { file.text.lines().nth(1).unwrap_or("") } else { first };
        assert!(first.starts_with("//!"), "{} does not begin with a header", file.path);
    }
}

#[test]
fn every_crate_says_what_always_holds() {
    for package in &metadata().packages {
        let name = short(&package.name);
        if name == "tests" {
            continue;
        }
        let folder = package.manifest_path.parent().expect("a manifest lies in a folder");
        let lib = [folder.join("src/lib.rs"), folder.join("src/main.rs")];
        let path = lib.iter().find(|p| p.exists()).unwrap_or_else(|| panic!("{name} has no lib.rs"));
        let text = std::fs::read_to_string(path).unwrap();
        let header: String = text.lines().take_while(|l| l.starts_with("//!")).collect();
        for part in ["may not", "always holds", "tested"] {
            assert!(header.contains(part), "the header of {name} lacks its part: {part:?}");
        }
        let rule = if name == "cli" { "#![deny(unsafe_code)]" } else { "#![forbid(unsafe_code)]" };
        assert!(text.contains(rule), "{name} lacks {rule}");
    }
}

#[test]
fn unsafe_code_stands_in_one_file() {
    let files = rust_files();
    let found = files
        .iter()
        .filter(|file| file.text.contains("(unsafe_code)]") && file.path != "tests/arch/files.rs");
    let found = found.filter(|file| !file.text.contains("#![forbid(unsafe_code)]"));
    let found: Vec<&str> = found.map(|file| file.path.as_str()).collect();
    assert_eq!(found, ["crates/cli/src/allocator.rs", "crates/cli/src/main.rs"]);
}

#[test]
fn every_test_file_is_run() {
    let manifest = std::fs::read_to_string(root().join("tests/Cargo.toml")).unwrap();
    let text = std::fs::read_to_string(root().join("tests/arch/main.rs")).unwrap();
    assert!(text.contains("mod files;"));
    let folders: BTreeSet<String> = std::fs::read_dir(root().join("tests"))
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.file_type().unwrap().is_dir())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| !["src", "fuzz", "golden"].contains(&n.as_str()))
        .collect();
    for folder in &folders {
        assert!(
            manifest.contains(&format!("path = \"{folder}/main.rs\"")),
            "tests/{folder} is no target of tests/Cargo.toml"
        );
    }
    assert!(folders.len() >= 8, "{folders:?}");
    // Every file below is a module of its main.rs, directly or through another module.
    for file in rust_files().iter().filter(|f| f.path.starts_with("tests/") && !f.path.ends_with("/main.rs"))
    {
        let parts: Vec<&str> = file.path.split('/').collect();
        if !folders.contains(parts[1]) {
            continue;
        }
        let stem = parts.last().unwrap().trim_end_matches(".rs");
        let (module, parent) = if stem == "mod" {
            (parts[parts.len() - 2], parts[..parts.len() - 2].join("/"))
        } else {
            (stem, parts[..parts.len() - 1].join("/"))
        };
        let owners = [format!("{parent}/main.rs"), format!("{parent}/mod.rs"), format!("{parent}.rs")];
        let named = rust_files().iter().filter(|f| owners.contains(&f.path)).any(|f| {
            f.text.lines().any(|l| {
                l.trim_start_matches("pub(crate) ").trim_start_matches("pub ").trim()
                    == format!("mod {module};")
            })
        });
        assert!(named, "{} is in no module tree: its tests never run", file.path);
    }
}

#[test]
fn no_test_is_switched_off() {
    for file in rust_files() {
        for (number, line) in file.text.lines().enumerate() {
            let off = line.trim_start().starts_with("#[ignore");
            assert!(!off, "{}:{} switches a test off", file.path, number + 1);
        }
    }
}

#[test]
fn every_crate_is_on_the_map() {
    let map = std::fs::read_to_string(root().join("crates/README.md")).unwrap();
    for package in &metadata().packages {
        let folder = package.manifest_path.parent().expect("a manifest lies in a folder");
        let folder = folder.strip_prefix(root()).expect("members lie below the root");
        assert!(map.contains(&format!("`{folder}`")), "{folder} is not in crates/README.md");
    }
}
