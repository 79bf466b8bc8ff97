//! Who PostgreSQL runs as: whoever started us, or a service user where that is root, whom PostgreSQL refuses.
use super::io;
use crate::ServerError;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The user that the database's files belong to.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    /// Name, uid and gid; `None`: we ourselves.
    service: Option<(String, u32, u32)>,
}

impl Owner {
    pub(super) fn find() -> Result<Self, ServerError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { service: None });
        }
        let text = std::fs::read_to_string("/etc/passwd").map_err(io("reading /etc/passwd"))?;
        let service = ["postgres", "nobody"].iter().find_map(|name| lookup(&text, name));
        let none = "PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as: \
                    start the server as an ordinary user";
        service
            .map(|service| Self { service: Some(service) })
            .ok_or_else(|| ServerError::Postgres(none.into()))
    }

    /// Mode of a folder that this user must be able to go through.
    pub(super) fn passage(&self) -> u32 {
        if self.service.is_some() { 0o711 } else { 0o700 }
    }

    /// Whether every folder above `path` lets this user through; else says which does not.
    pub(super) fn check_reach(&self, path: &Path) -> Result<(), ServerError> {
        let Some((name, uid, gid)) = &self.service else { return Ok(()) };
        for folder in path.ancestors().skip(1) {
            let about = folder.metadata().map_err(io(format!("looking at {}", folder.display())))?;
            let mode = about.permissions().mode();
            let open = (about.uid() == *uid && mode & 0o100 != 0)
                || (about.gid() == *gid && mode & 0o010 != 0)
                || mode & 0o001 != 0;
            if !open {
                return Err(ServerError::Postgres(format!(
                    "PostgreSQL runs as user {name} here (it refuses root), and {name} cannot go through {}: \
                     choose another folder with --data, or start the server as an ordinary user",
                    folder.display()
                )));
            }
        }
        Ok(())
    }

    /// Gives one file or folder to this user.
    pub(super) fn give(&self, path: &Path) -> Result<(), ServerError> {
        let Some((_, uid, gid)) = &self.service else { return Ok(()) };
        std::os::unix::fs::chown(path, Some(*uid), Some(*gid))
            .map_err(io(format!("giving away {}", path.display())))
    }

    /// A program as this user, without our environment.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").env("PATH", "/usr/bin:/bin").current_dir("/");
        if let Some((_, uid, gid)) = &self.service {
            // The standard library drops the other groups of root with this.
            command.gid(*gid).uid(*uid);
        }
        command
    }
}

fn lookup(passwd: &str, wanted: &str) -> Option<(String, u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| *name == wanted)?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        (uid != 0).then(|| (name.to_owned(), uid, gid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_users_is_read() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbad\npostgres:x:101:104:,,,:/var/lib/postgresql:/bin/bash\nnobody:x:0:1::/:/bin/sh\n";
        assert_eq!(lookup(passwd, "postgres"), Some(("postgres".into(), 101, 104)));
        assert_eq!(lookup(passwd, "bad"), None);
        assert_eq!(lookup(passwd, "nobody"), None, "never root under another name");
    }

    #[test]
    fn a_folder_closed_to_the_service_user_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let owner = Owner { service: Some(("stranger".into(), 65_000, 65_000)) };
        let text = owner.check_reach(&folder.path().join("data")).unwrap_err().to_string();
        assert!(text.contains(&folder.path().display().to_string()), "{text}");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        owner.check_reach(&folder.path().join("data")).unwrap();
    }
}
