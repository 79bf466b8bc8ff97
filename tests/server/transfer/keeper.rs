//! Tokens in a file, for processes that share a login.
use backupengine_api::auth::Secret;
use backupengine_transfer::{Keeper, Tokens, TransferError};
use std::any::Any;
use std::fs::File;
use std::path::{Path, PathBuf};

/// In a folder of its own: `tokens`, and `lock` beside it.
pub(crate) struct FileKeeper {
    folder: PathBuf,
}

impl FileKeeper {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub(crate) fn write(&self, access: &str, expires_at: i64, refresh: &str) {
        let new = self.folder.join(format!("new-{}", std::process::id()));
        std::fs::write(&new, format!("{access} {expires_at} {refresh}")).unwrap();
        std::fs::rename(new, self.folder.join("tokens")).unwrap();
    }
}

impl Keeper for FileKeeper {
    fn load(&self) -> Result<Option<Tokens>, TransferError> {
        let text = std::fs::read_to_string(self.folder.join("tokens")).unwrap();
        let [access, expires, refresh] = text.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let (access, refresh) = (Secret(access.to_owned()), Secret(refresh.to_owned()));
        Ok(Some(Tokens { access, expires_at: expires.parse().unwrap(), refresh }))
    }

    fn save(&self, tokens: &Tokens) -> Result<(), TransferError> {
        self.write(&tokens.access.0, tokens.expires_at, &tokens.refresh.0);
        Ok(())
    }

    fn clear(&self) -> Result<(), TransferError> {
        std::fs::remove_file(self.folder.join("tokens")).unwrap();
        Ok(())
    }

    fn lock(&self) -> Result<Box<dyn Any + Send>, TransferError> {
        let file = File::options().create(true).append(true).open(self.folder.join("lock")).unwrap();
        file.lock().unwrap();
        Ok(Box::new(file))
    }
}
