//! The workspace as these checks see it: its packages and its files. Reads only.
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The folder of the workspace.
pub(crate) fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").into()
    })
}

/// Manifests of the members; dependencies outside the workspace are not resolved, so no network is needed.
pub(crate) fn metadata() -> &'static Metadata {
    static METADATA: OnceLock<Metadata> = OnceLock::new();
    METADATA.get_or_init(|| {
        MetadataCommand::new()
            .manifest_path(root().join("Cargo.toml"))
            .no_deps()
            .exec()
            .expect("cargo metadata answers")
    })
}

/// Names without the prefix that all share; the binary's own package is `cli`.
pub(crate) fn short(package: &str) -> &str {
    if package == "backupengine" { "cli" } else { package.trim_start_matches("backupengine-") }
}

/// For each package the packages it links, by short name. `dev` adds what only its tests use.
pub(crate) fn edges(dev: bool) -> BTreeMap<String, BTreeSet<String>> {
    let ours: BTreeSet<&str> = metadata().packages.iter().map(|p| p.name.as_str()).collect();
    let of = |package: &cargo_metadata::Package| {
        let linked = package
            .dependencies
            .iter()
            .filter(|d| dev || d.kind != DependencyKind::Development)
            .filter(|d| ours.contains(d.name.as_str()));
        linked.map(|d| short(&d.name).to_owned()).collect()
    };
    metadata().packages.iter().map(|p| (short(&p.name).to_owned(), of(p))).collect()
}

/// Everything `from` links, directly or through others, itself left out.
pub(crate) fn reach(edges: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&str> = vec![from];
    while let Some(package) = next.pop() {
        for to in &edges[package] {
            if seen.insert(to.clone()) {
                next.push(to);
            }
        }
    }
    seen
}

/// A text file of the tree.
pub(crate) struct Source {
    /// Path below the root, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// All Rust files of the workspace; build results and hidden folders are left out.
pub(crate) fn rust_files() -> &'static [Source] {
    static FILES: OnceLock<Vec<Source>> = OnceLock::new();
    FILES.get_or_init(|| {
        let mut files = Vec::new();
        for top in ["crates", "mount", "tests", "scripts"] {
            collect(&root().join(top), &mut files);
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(files.len() > 30, "only {} Rust files were found: is the search broken?", files.len());
        files
    })
}

fn collect(folder: &Path, files: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the workspace can be listed") {
        let entry = entry.expect("a folder of the workspace can be listed");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if entry.file_type().expect("a name of the workspace has a type").is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, files);
            }
        } else if name.ends_with(".rs") {
            let below = path.strip_prefix(root()).expect("found below the root");
            files.push(Source {
                path: below.to_string_lossy().into_owned(),
                text: std::fs::read_to_string(&path).expect("source is text"),
            });
        }
    }
}

/// The line without a `//` comment; good enough for the patterns searched here, which hold no slashes.
pub(crate) fn code(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}
