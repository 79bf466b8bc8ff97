//! Promises in texts: each names a test, and the test exists.
use crate::tree::{root, rust_files};
use std::collections::BTreeSet;

/// Texts that make promises, and how few would mean that this check reads them wrongly.
const TEXTS: &[(&str, usize)] = &[("mount/SEMANTICS.md", 10), ("tests/FAULTS.md", 100)];

fn tests_of_the_workspace() -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    for file in rust_files() {
        let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate() {
            let is_test = line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            if !is_test {
                continue;
            }
            let function = lines[at..]
                .iter()
                .take(6)
                .find_map(|l| l.trim_start_matches("async ").strip_prefix("fn ")?.split('(').next());
            names.extend(function);
        }
    }
    names
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let known = tests_of_the_workspace();
    assert!(known.len() > 50, "only {} tests were found", known.len());
    for (path, least) in TEXTS {
        let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut promises = 0;
        for (number, line) in text.lines().enumerate() {
            // A row of the table of promises: | promise | `test`, `test` |
            let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
            let [.., tests] = cells.as_slice() else { continue };
            if !line.trim_start().starts_with('|') || !tests.contains('`') {
                continue;
            }
            promises += 1;
            for name in tests.split('`').skip(1).step_by(2) {
                let name = name.rsplit("::").next().unwrap_or(name);
                assert!(known.contains(name), "{path}:{}: there is no test {name:?}", number + 1);
            }
        }
        assert!(promises >= *least, "{path}: {promises} promises with a test were found");
    }
}
