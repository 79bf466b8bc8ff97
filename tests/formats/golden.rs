//! The vectors of `golden/*/v1` but seal's: each says its verdict, and where it is accepted what it means. They
//! were made from FORMAT.md by another implementation (`golden/formats.py`).
//!
//! Guards: no byte that was ever written becomes unreadable or changes its meaning, and nothing that must be
//! refused begins to pass. A folder nobody reads fails, and so does a file without a verdict.

use crate::say;
use backupengine_format::FormatError;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What a reader of a kind says of bytes: lines as in the vectors, and the bytes it would write itself.
type Judge = fn(&[u8]) -> Result<(Vec<String>, Vec<u8>), FormatError>;

const KINDS: [(&str, Judge); 9] = [
    ("extents", say::extents),
    ("footer", say::footer),
    ("forward", say::forward),
    ("index", say::index),
    ("label", say::label),
    ("leaf", say::leaf),
    ("refset", say::refset),
    ("root", say::root),
    ("trailer", say::trailer),
];

/// Vectors whose bytes hold optional parts of a later version, which a reader does not write back.
const LATER: [&str; 3] = ["unknown-optional-section", "reserved-optional-section", "optional-features"];

struct Vector {
    name: String,
    verdict: String,
    says: Vec<String>,
    bytes: Vec<u8>,
}

impl Vector {
    fn read(path: &Path) -> Self {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (mut verdict, mut says, mut bytes) = (None, Vec::new(), None);
        for line in fs::read_to_string(path).unwrap().lines() {
            match line.split_once(' ') {
                Some(("verdict", text)) => verdict = Some(text.to_owned()),
                Some(("say", text)) => says.push(text.to_owned()),
                Some(("bytes", text)) => bytes = Some(hex(text)),
                Some(("#", _)) => {}
                _ => panic!("{name}: {line:?}"),
            }
        }
        let verdict = verdict.unwrap_or_else(|| panic!("{name} has no verdict"));
        let bytes = bytes.unwrap_or_else(|| panic!("{name} has no bytes"));
        Self { name, verdict, says, bytes }
    }
}

fn hex(digits: &str) -> Vec<u8> {
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn vectors(kind: &str) -> Vec<Vector> {
    let versions = folder().join(kind);
    assert_eq!(names(&versions), ["v1"], "{kind}: a version nobody reads");
    let v1 = versions.join("v1");
    let vectors: Vec<_> = names(&v1).iter().map(|name| Vector::read(&v1.join(name))).collect();
    assert!(!vectors.is_empty(), "{kind}: no vectors");
    vectors
}

/// Judges the vectors of one kind and says what does not fit, with the vector's name.
fn wrong(kind: &str, judge: Judge) -> Vec<String> {
    let mut wrong = Vec::new();
    for Vector { name, verdict, says, bytes } in vectors(kind) {
        let found = match judge(&bytes) {
            Ok((said, again)) => {
                if said != says {
                    wrong.push(format!(
                        "{kind}/{name} means\n  {}\nnot\n  {}",
                        said.join("\n  "),
                        says.join("\n  ")
                    ));
                }
                if (again == bytes) == LATER.contains(&name.as_str()) {
                    wrong.push(format!("{kind}/{name} is not what would be written"));
                }
                "accept"
            }
            Err(FormatError::TooNew { .. }) => "refuse too-new",
            Err(_) => "refuse broken",
        };
        if found != verdict {
            wrong.push(format!("{kind}/{name}: {found}, not {verdict}"));
        }
    }
    wrong
}

#[test]
fn every_vector_gets_its_verdict() {
    let wrong: Vec<_> = KINDS.iter().flat_map(|&(kind, judge)| wrong(kind, judge)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_folder_is_read() {
    let mut expected: Vec<_> = KINDS.iter().map(|&(kind, _)| kind).collect();
    // By `seal.rs`.
    expected.push("seal");
    expected.sort_unstable();
    let found: Vec<_> = names(&folder()).into_iter().filter(|name| folder().join(name).is_dir()).collect();
    assert_eq!(found, expected);
}

#[test]
fn most_vectors_are_refused_and_for_many_reasons() {
    let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
    let mut accepted = 0;
    for (kind, judge) in KINDS {
        for vector in vectors(kind) {
            match judge(&vector.bytes) {
                Ok(_) => accepted += 1,
                Err(FormatError::Broken { rule, .. }) => *rules.entry(rule).or_default() += 1,
                Err(_) => {}
            }
        }
    }
    let refused: usize = rules.values().sum();
    assert!(refused > 4 * accepted, "{refused} refused, {accepted} accepted");
    // A vector that is refused for another reason than the one it was made for shows as a reason too few.
    assert!(rules.len() >= 140, "{} rules: {rules:#?}", rules.len());
}
