//! What scenarios run in: an oracle with snapshots, mounted or not.

use crate::face::{CoreFace, Face, KernelFace};
use backupengine_fuse::{Mounted, NAMES, Requests, ServeConfig, mount};
use backupengine_model::{ContentReader, NodeId, SessionNo, Timestamp, TreePath, TreeReader};
use backupengine_testkit::oracle::{Oracle, Tree, sample};
pub(crate) use backupengine_tests::fuse_is_wanted;
use backupengine_vfs::{Config, Owner, ReadOnlyFs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// 2026-11-23 14:10:05 UTC.
pub(crate) const CREATED: Timestamp = Timestamp { secs: 1_795_443_005, nanos: 0 };
/// The folder of the first snapshot in [`World::of`].
pub(crate) const FOLDER: &str = "2026-11-23T14-10-05Z_laptop";

/// An oracle with one snapshot, and the tree it is of.
pub(crate) struct World {
    pub(crate) tree: Tree,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) session: SessionNo,
}

impl World {
    pub(crate) fn of(tree: Tree) -> Self {
        let oracle = Arc::new(Oracle::new());
        let session = oracle.push(&tree, "laptop", CREATED, &["keep"]);
        Self { tree, oracle, session }
    }

    /// A tree with every oddity this user can make on a disk, to compare with.
    pub(crate) fn of_oddities() -> Self {
        Self::of(sample::for_this_user())
    }

    /// The node at a path of the snapshot.
    pub(crate) fn id(&self, path: &str) -> NodeId {
        self.oracle.at(self.session, &sample::path(path)).unwrap_or_else(|| panic!("{path} is there")).id
    }
}

pub(crate) fn config() -> Config {
    Config { owner: Owner::Stored, mounter: backupengine_fuse::mounter(), names: NAMES }
}

pub(crate) fn core<R: TreeReader + ContentReader + 'static>(reader: &Arc<R>) -> ReadOnlyFs<Arc<R>, Arc<R>> {
    ReadOnlyFs::all(reader.clone(), reader.clone(), config()).unwrap()
}

/// A mount in a folder of its own; gone with the value.
pub(crate) struct Mount {
    mounted: Option<Mounted>,
    folder: Option<tempfile::TempDir>,
}

impl Mount {
    pub(crate) fn of<R: TreeReader + ContentReader + 'static>(reader: &Arc<R>) -> Self {
        Self::with(core(reader), |_| {})
    }

    pub(crate) fn with<T: TreeReader + 'static, C: ContentReader + 'static>(
        core: ReadOnlyFs<T, C>,
        adjust: impl FnOnce(&mut ServeConfig),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut serve = ServeConfig::new(folder.path());
        serve.poll = Duration::from_millis(100);
        adjust(&mut serve);
        let mounted = mount(core, &serve).unwrap_or_else(|error| panic!("{error}: {error:?}"));
        Self { mounted: Some(mounted), folder: Some(folder) }
    }

    pub(crate) fn path(&self) -> &Path {
        self.mounted.as_ref().map(Mounted::mountpoint).unwrap()
    }

    pub(crate) fn requests(&self) -> Requests {
        self.mounted.as_ref().map(Mounted::requests).unwrap()
    }

    /// Below the first snapshot.
    pub(crate) fn snapshot(&self) -> PathBuf {
        self.path().join(FOLDER)
    }

    /// Gives the mount away, with the folder it is on.
    pub(crate) fn into_parts(mut self) -> (Mounted, tempfile::TempDir) {
        (self.mounted.take().unwrap(), self.folder.take().unwrap())
    }
}

/// Runs a scenario on the core and on FUSE.
pub(crate) fn on_both(world: &World, scenario: impl Fn(&dyn Face)) {
    on_both_over(&world.oracle, scenario);
}

/// The same for any reader.
pub(crate) fn on_both_over<R: TreeReader + ContentReader + 'static>(
    reader: &Arc<R>,
    scenario: impl Fn(&dyn Face),
) {
    eprintln!("on the core");
    scenario(&CoreFace::new(core(reader)));
    if fuse_is_wanted() {
        eprintln!("on FUSE");
        let mount = Mount::of(reader);
        scenario(&KernelFace::new(mount.path()));
    }
}

/// `FOLDER` and a path below it, from the root of the mount.
pub(crate) fn shown(path: &TreePath) -> TreePath {
    let mut out = sample::path(FOLDER);
    path.components().for_each(|part| out.push(part));
    out
}

/// The same for a path written out.
pub(crate) fn at(path: &str) -> TreePath {
    shown(&sample::path(path))
}
