//! Where this program keeps what, and the config file.
//!
//! **What it may not do.** Hold secrets: the config file says where the vault is and what this device is called.
//! **What always holds.** `BACKUPENGINE_HOME` moves all of it below one folder; otherwise the platform's places.
//! **Where it is tested.** Below; `tests/cli` runs everything with a home of its own.

use crate::error::{Failure, Kind};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The folders of this user.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The config file.
    pub(crate) config: PathBuf,
    /// What must be kept: device key, floor.
    pub(crate) state: PathBuf,
    /// What may be deleted at any time: side files of push, blocks that were fetched.
    pub(crate) cache: PathBuf,
}

impl Places {
    /// From the environment.
    ///
    /// # Errors
    /// When neither `BACKUPENGINE_HOME` nor `HOME` says where.
    pub(crate) fn find() -> Result<Self, Failure> {
        Self::from_variables(|name| std::env::var_os(name).map(PathBuf::from))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, Failure> {
        let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
        if let Some(home) = variable("BACKUPENGINE_HOME") {
            let home = std::path::absolute(&home).map_err(|e| Failure::io("resolve", &home, e))?;
            return Ok(Self {
                config: home.join("config.toml"),
                state: home.join("state"),
                cache: home.join("cache"),
            });
        }
        let home = absolute("HOME").ok_or_else(|| {
            Failure::new(Kind::Failed, "there is no HOME to keep state in".to_owned())
                .hint("set HOME, or BACKUPENGINE_HOME to a folder of its own")
        })?;
        let place =
            |xdg: &str, below: &str| absolute(xdg).unwrap_or_else(|| home.join(below)).join("backupengine");
        Ok(Self {
            config: place("XDG_CONFIG_HOME", ".config").join("config.toml"),
            state: place("XDG_STATE_HOME", ".local/state"),
            cache: place("XDG_CACHE_HOME", ".cache"),
        })
    }
}

/// The config file.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The default vault: a folder, or the address of the account's server.
    pub(crate) vault: Option<PathBuf>,
    /// What this device is called.
    pub(crate) device_name: Option<String>,
    /// Files nobody is to touch, absolute: a push looks at those that lie in what it pushes.
    #[serde(default)]
    pub(crate) canaries: Vec<PathBuf>,
}

impl Config {
    /// Reads the file; a missing one is an empty one.
    ///
    /// # Errors
    /// When it cannot be read or says something unknown.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::io("read", path, error)),
        };
        toml::from_str(&text).map_err(|error| {
            let text = error.message().lines().next().unwrap_or_default().to_owned();
            Failure::new(Kind::Usage, format!("the config file {} does not read: {text}", path.display()))
                .hint("it may hold: vault = \"/path\", device_name = \"name\" and canaries = [\"/path\"]")
        })
    }

    /// Sets the default vault, where there is none. Says whether it did.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn set_default_vault(path: &Path, vault: &Path) -> Result<bool, Failure> {
        let Some(text) = vault.to_str() else { return Ok(false) };
        if Self::load(path)?.vault.is_some() {
            return Ok(false);
        }
        let old = fs::read_to_string(path).unwrap_or_default();
        let line = toml::Value::String(text.to_owned());
        write_private(path, format!("vault = {line}\n{old}").as_bytes())?;
        Ok(true)
    }
}

/// Makes a folder that only this user may look into, parents included.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn create_private_dir(path: &Path) -> Result<(), Failure> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|e| Failure::io("create", path, e))
}

/// Writes a file that only this user may read, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let fail = |e| Failure::io("write", path, e);
    if let Some(folder) = path.parent() {
        create_private_dir(folder)?;
    }
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{}.new", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed)));
    let new = path.with_file_name(name);
    // Left by a process of this number that was killed.
    drop(fs::remove_file(&new));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&new).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let done = written.and_then(|()| fs::rename(&new, path));
    if let Err(error) = done {
        drop(fs::remove_file(&new));
        return Err(fail(error));
    }
    if let Some(folder) = path.parent().and_then(|p| fs::File::open(p).ok()) {
        folder.sync_all().map_err(fail)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &str)]) -> Places {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| PathBuf::from(v));
        Places::from_variables(find).unwrap()
    }

    #[test]
    fn one_variable_moves_everything() {
        let places = places(&[("BACKUPENGINE_HOME", "/x"), ("HOME", "/home/me")]);
        assert_eq!(places.config, Path::new("/x/config.toml"));
        assert_eq!(places.state, Path::new("/x/state"));
        assert_eq!(places.cache, Path::new("/x/cache"));
    }

    #[test]
    fn otherwise_the_places_of_the_platform() {
        let places =
            places(&[("HOME", "/home/me"), ("XDG_CACHE_HOME", "/c"), ("XDG_STATE_HOME", "relative")]);
        assert_eq!(places.config, Path::new("/home/me/.config/backupengine/config.toml"));
        assert_eq!(places.state, Path::new("/home/me/.local/state/backupengine"));
        assert_eq!(places.cache, Path::new("/c/backupengine"));
        assert!(Places::from_variables(|_| None).is_err());
    }

    #[test]
    fn the_default_vault_is_set_once_and_other_lines_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/config.toml");
        assert!(Config::set_default_vault(&path, Path::new("/v \"1\"")).unwrap());
        assert!(!Config::set_default_vault(&path, Path::new("/v2")).unwrap());
        assert_eq!(Config::load(&path).unwrap().vault.as_deref(), Some(Path::new("/v \"1\"")));
        fs::write(&path, "device_name = \"box\"\n").unwrap();
        assert!(Config::set_default_vault(&path, Path::new("/v3")).unwrap());
        let config = Config::load(&path).unwrap();
        assert_eq!(
            (config.vault.as_deref(), config.device_name.as_deref()),
            (Some(Path::new("/v3")), Some("box"))
        );
    }

    #[test]
    fn a_wrong_config_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "vualt = \"/v\"\n").unwrap();
        let failure = Config::load(&path).unwrap_err();
        assert_eq!(failure.kind, Kind::Usage);
        assert!(failure.message().contains("vualt"), "{}", failure.message());
    }
}
