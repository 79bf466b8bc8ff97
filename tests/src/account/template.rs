//! A cluster with all migrations, made once per machine and set of migrations, beside the test binaries.
use backupengine_server::dev;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

/// Where it lies; made first if need be. Processes that want it at once wait for the one that makes it.
pub(super) fn path() -> PathBuf {
    let folder = beside_the_binaries();
    std::fs::create_dir_all(&folder).unwrap();
    let key = dev::template_key().unwrap_or_else(|error| panic!("{error}"));
    let path = folder.join(format!("cluster-{key}"));
    if path.exists() {
        return path;
    }
    let lock = File::options().create(true).append(true).open(folder.join("cluster.lock")).unwrap();
    lock.lock().unwrap();
    if path.exists() {
        return path;
    }
    for entry in std::fs::read_dir(&folder).unwrap().flatten() {
        // Of older migrations, or broken off.
        if entry.file_name().to_string_lossy().starts_with("cluster-") {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
    // PostgreSQL may not be able to go to where we build.
    let made = tempfile::Builder::new().prefix("be-template-").tempdir().unwrap();
    std::fs::set_permissions(made.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let data = made.path().join("data");
    // Made and dropped on a thread of its own: the test may have a runtime around it.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(dev::make_template(&data)).unwrap_or_else(|error| panic!("{error}"));
        });
    });
    let new = folder.join("cluster-new");
    assert!(
        Command::new("cp").arg("-a").arg(&data).arg(&new).status().unwrap().success(),
        "copying the template"
    );
    std::fs::rename(&new, &path).unwrap();
    path
}

fn beside_the_binaries() -> PathBuf {
    let binary = std::env::current_exe().unwrap();
    // target/PROFILE/deps/NAME
    let target = binary.ancestors().nth(3).unwrap();
    target.join("tmp/backupengine-tests")
}
