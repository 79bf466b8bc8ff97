//! What several test binaries share; the tests are the binaries beside this.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to stop")]

pub mod account;
pub mod program;
pub mod provider;
pub mod regions;
pub mod relay;
pub mod tls;

/// Whether mounts are to be tested: `BACKUPENGINE_SKIP_FUSE=1` leaves them out, and says so.
///
/// # Panics
/// Where they are wanted and there is no /dev/fuse.
pub fn fuse_is_wanted() -> bool {
    if std::env::var_os("BACKUPENGINE_SKIP_FUSE").is_some_and(|value| value == "1") {
        eprintln!("left out: BACKUPENGINE_SKIP_FUSE is set");
        return false;
    }
    assert!(
        std::path::Path::new("/dev/fuse").exists(),
        "/dev/fuse is missing; BACKUPENGINE_SKIP_FUSE=1 leaves this out"
    );
    true
}
