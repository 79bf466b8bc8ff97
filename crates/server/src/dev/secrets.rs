//! What `--dev` makes up once and keeps in its data folder, readable by its user alone.
use super::io;
use crate::ServerError;
use crate::auth::Keys;
use crate::config::Secret;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

const NAME: &str = "secrets.json";

/// Keys and passwords of one data folder.
#[derive(Clone)]
pub(super) struct Secrets {
    pub(super) jwt_key: Secret,
    pub(super) totp_key: Secret,
    pub(super) storage_key: Secret,
    pub(super) passwords: Passwords,
}

/// Of roles of the database.
#[derive(Clone)]
pub(super) struct Passwords {
    pub(super) admin: Secret,
    pub(super) front: Secret,
    pub(super) auth: Secret,
}

/// The same as text.
#[derive(Serialize, Deserialize)]
struct File {
    jwt_key: String,
    totp_key: String,
    storage_key: String,
    admin_password: String,
    front_password: String,
    auth_password: String,
}

impl Secrets {
    /// Reads them, or makes them; with the passwords of a cluster that is copied, where one is.
    pub(super) fn load_or_make(folder: &Path, copied: Option<&Path>) -> Result<Self, ServerError> {
        if let Some(secrets) = Self::load(folder)? {
            return Ok(secrets);
        }
        let mut secrets = Self::make()?;
        if let Some(template) = copied {
            let none =
                || ServerError::Other(format!("{} is no template: it holds no {NAME}", template.display()));
            secrets.passwords = Self::load(template)?.ok_or_else(none)?.passwords;
        }
        secrets.store(folder)?;
        Ok(secrets)
    }

    fn load(folder: &Path) -> Result<Option<Self>, ServerError> {
        let path = folder.join(NAME);
        let about = match path.metadata() {
            Ok(about) => about,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io(format!("looking at {}", path.display()))(source)),
        };
        if about.permissions().mode() & 0o077 != 0 {
            return Err(ServerError::Other(format!(
                "{} can be read by others: chmod 600 it, and if others use this machine, remove the folder and start \
                 anew",
                path.display()
            )));
        }
        let text = std::fs::read_to_string(&path).map_err(io(format!("reading {}", path.display())))?;
        // What the reader of JSON says could quote a secret.
        let file: File = serde_json::from_str(&text).map_err(|_| {
            ServerError::Other(format!("{} does not read: restore it from a copy", path.display()))
        })?;
        Ok(Some(Self {
            jwt_key: Secret::new(file.jwt_key),
            totp_key: Secret::new(file.totp_key),
            storage_key: Secret::new(file.storage_key),
            passwords: Passwords {
                admin: Secret::new(file.admin_password),
                front: Secret::new(file.front_password),
                auth: Secret::new(file.auth_password),
            },
        }))
    }

    fn make() -> Result<Self, ServerError> {
        let passwords = Passwords { admin: random()?, front: random()?, auth: random()? };
        Ok(Self { jwt_key: Keys::generate()?, totp_key: random()?, storage_key: random()?, passwords })
    }

    fn store(&self, folder: &Path) -> Result<(), ServerError> {
        let text = |secret: &Secret| secret.expose().to_owned();
        let file = File {
            jwt_key: text(&self.jwt_key),
            totp_key: text(&self.totp_key),
            storage_key: text(&self.storage_key),
            admin_password: text(&self.passwords.admin),
            front_password: text(&self.passwords.front),
            auth_password: text(&self.passwords.auth),
        };
        let text = serde_json::to_vec_pretty(&file).map_err(|cause| ServerError::Other(cause.to_string()))?;
        let (path, new) = (folder.join(NAME), folder.join(format!("{NAME}.new")));
        let write = || {
            drop(std::fs::remove_file(&new));
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&new, &path)
        };
        write().map_err(io(format!("writing {}", path.display())))
    }
}

/// 32 bytes, hexadecimal.
pub(super) fn random() -> Result<Secret, ServerError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|cause| ServerError::Other(format!("no randomness: {cause}")))?;
    Ok(Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}
