//! What the cases begin with: a vault with some history, the server in the middle, and what a client may say.
use crate::liar::Liar;
use backupengine_format::footer::Footer;
use backupengine_format::pack::find_end;
use backupengine_format::trailer::{TRAILER_LEN, Trailer};
use backupengine_model::{FrameKind, FrameRef, ReadFailure, SessionNo};
use backupengine_store::{MemoryStore, Readable};
use backupengine_testkit::build::{Pusher, TestVault, VAULT};
use backupengine_testkit::shown::{self, Shown};
use backupengine_vault::{Vault, VaultError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything a snapshot shows.
pub(crate) type Tree = BTreeMap<Vec<u8>, Shown>;

/// A vault, a folder that is pushed, and the server.
pub(crate) struct World {
    pub(crate) vault: TestVault,
    /// The same store, as an owner decides in it.
    pub(crate) keeper: Arc<MemoryStore>,
    pub(crate) liar: Liar,
    pub(crate) device: Pusher,
    folder: tempfile::TempDir,
}

impl World {
    /// With one device and nothing pushed.
    pub(crate) fn new() -> Self {
        let keeper = Arc::new(MemoryStore::new(VAULT));
        let vault = TestVault::around(keeper.clone());
        let liar = Liar::around(Arc::clone(&vault.store));
        let device = vault.pusher("laptop");
        Self { vault, keeper, liar, device, folder: tempfile::tempdir().unwrap() }
    }

    /// With `pushes` snapshots: small files, one large one, a folder, and something new each time.
    pub(crate) fn with(pushes: u32) -> (Self, Vec<SessionNo>) {
        let world = Self::new();
        std::fs::create_dir(world.source().join("folder")).unwrap();
        world.write("folder/large", &noise(1, 300_000));
        let sessions = (0..pushes).map(|n| world.grow(n)).collect();
        (world, sessions)
    }

    pub(crate) fn source(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.source().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A new file, pushed.
    pub(crate) fn grow(&self, n: u32) -> SessionNo {
        self.write(&format!("file {n}"), format!("the text of file {n}").as_bytes());
        self.device.push(self.source())
    }

    /// A client that has only the server's word.
    pub(crate) fn client(&self) -> Vault {
        self.vault.reader_on(Arc::new(self.liar.clone()) as Arc<dyn Readable>)
    }

    /// What a snapshot really shows.
    pub(crate) fn truth(&self, session: SessionNo) -> Tree {
        shown::everything(&self.vault.reader(), session).unwrap()
    }

    /// Reads a snapshot through the server, to the last byte: the truth or an error, never anything else.
    pub(crate) fn reads(&self, session: SessionNo, truth: &Tree) -> Result<(), ReadFailure> {
        match shown::everything(&self.client(), session) {
            Ok(tree) => {
                assert!(tree == *truth, "other bytes were shown than were pushed");
                Ok(())
            }
            Err(error) => Err(error.failure),
        }
    }
}

/// What the client says of a root that it does not believe.
pub(crate) fn refusal(vault: &Vault, session: SessionNo) -> VaultError {
    vault.root(session).map(|_| ()).expect_err("the client believed it")
}

/// Bytes that do not compress.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
    std::iter::from_fn(|| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        Some(x as u8)
    })
    .take(len)
    .collect()
}

/// Which kinds of frames a pack holds, by its footer.
pub(crate) fn kinds_of(vault: &Vault, pack: &[u8]) -> Vec<FrameKind> {
    let trailer = Trailer::decode(&pack[pack.len() - TRAILER_LEN..]).unwrap();
    let (at, _) = find_end(&trailer, pack.len() as u64).unwrap();
    let frame = FrameRef { pack: trailer.pack, offset: at as u32, stored_len: trailer.footer_len };
    let plain = vault.frame(FrameKind::Footer, &frame, None).unwrap();
    Footer::decode(&plain).unwrap().frames.iter().map(|frame| frame.kind).collect()
}
