//! Finds a PostgreSQL that is installed on this machine. Downloads nothing.
use crate::ServerError;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Oldest that will do.
const OLDEST: u32 = 15;

/// Where programs usually lie when they are not on PATH; `*` stands for one name.
const PLACES: &[&str] = &[
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/lib64/pgsql/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
    "/opt/local/lib/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/// One line for each system, as a person would type it.
const INSTALL: &str = "  Debian, Ubuntu:  sudo apt-get install postgresql
  Fedora:          sudo dnf install postgresql-server
  Arch:            sudo pacman -S postgresql
  macOS:           brew install postgresql@17
  Windows:         use WSL and the line for Debian, or run the server on another machine";

/// The programs of one PostgreSQL.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    folder: PathBuf,
    pub(super) major: u32,
}

impl Programs {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The first on PATH, else the newest. A cluster can only be opened by the major version that made it: `wanted`.
pub(super) fn find(wanted: Option<u32>) -> Result<Programs, ServerError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<_> = std::env::split_paths(&path).filter_map(look).collect();
    let mut usual: Vec<_> = PLACES.iter().flat_map(|place| expand(place)).filter_map(look).collect();
    usual.sort_by_key(|programs| std::cmp::Reverse(programs.major));
    choose(on_path.into_iter().chain(usual).collect(), wanted)
}

fn choose(all: Vec<Programs>, wanted: Option<u32>) -> Result<Programs, ServerError> {
    let found: Vec<_> = all.iter().map(|programs| programs.major.to_string()).collect();
    let fits = |programs: &Programs| wanted.map_or(programs.major >= OLDEST, |major| programs.major == major);
    all.into_iter().find(fits).ok_or_else(|| {
        let what = wanted.map_or_else(|| format!("{OLDEST} or newer"), |major| major.to_string());
        let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
        ServerError::Postgres(format!(
            "--dev needs PostgreSQL {what} on this machine (found: {found}). Install it and start again:\n{INSTALL}"
        ))
    })
}

fn look(folder: PathBuf) -> Option<Programs> {
    let program = folder.join("postgres");
    if !program.is_file() || !folder.join("initdb").is_file() || !folder.join("pg_ctl").is_file() {
        return None;
    }
    let output = Command::new(program).arg("--version").output().ok()?;
    Some(Programs { folder, major: major(&String::from_utf8_lossy(&output.stdout))? })
}

fn major(version: &str) -> Option<u32> {
    let number = version.strip_prefix("postgres (PostgreSQL) ")?;
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().ok()
}

fn expand(place: &str) -> Vec<PathBuf> {
    let Some((before, after)) = place.split_once('*') else { return vec![PathBuf::from(place)] };
    let (folder, start) = before.rsplit_once('/').unwrap_or((".", before));
    let after = after.trim_start_matches('/');
    let Ok(entries) = std::fs::read_dir(Path::new(folder)) else { return Vec::new() };
    let names = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(start));
    names.map(|entry| entry.path().join(after)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(majors: &[u32]) -> Vec<Programs> {
        majors.iter().map(|&major| Programs { folder: PathBuf::new(), major }).collect()
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major("postgres (EnterpriseDB) 15\n"), None);
    }

    #[test]
    fn an_old_one_will_not_do_and_a_cluster_wants_its_own() {
        assert_eq!(choose(programs(&[14, 16, 17]), None).unwrap().major, 16);
        assert_eq!(choose(programs(&[17, 15]), Some(15)).unwrap().major, 15);
        let text = choose(programs(&[14]), None).unwrap_err().to_string();
        assert!(text.contains("found: 14") && text.contains("apt-get install postgresql"), "{text}");
        let text = choose(programs(&[17]), Some(15)).unwrap_err().to_string();
        assert!(text.contains("needs PostgreSQL 15 on"), "{text}");
        assert!(choose(Vec::new(), None).unwrap_err().to_string().contains("found: none"));
    }

    #[test]
    fn places_are_expanded() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["pg-15", "pg-17", "other"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let mut found = expand(&format!("{}/pg-*/bin", folder.path().display()));
        found.sort();
        assert_eq!(found, [folder.path().join("pg-15/bin"), folder.path().join("pg-17/bin")]);
    }
}
