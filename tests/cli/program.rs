//! The built program, and a home of its own to run it in.
pub(crate) use backupengine_tests::fuse_is_wanted;
pub(crate) use backupengine_tests::program::client as program;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// The passphrase of every vault made here.
pub(crate) const PASSPHRASE: &str = "correct horse battery staple";

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same, after making sure of the exit status.
    pub(crate) fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Lines of stdout as JSON.
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// All of stdout as one JSON document.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }

    /// Everything that was printed.
    pub(crate) fn everything(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// A folder with a home, where one person works; `vault`, `src` and `mnt` lie in it.
pub(crate) struct Person {
    folder: TempDir,
    /// Who runs the program, where that is not who runs the test.
    user: Option<u32>,
    /// Beyond what every person has in the environment.
    more: Vec<(String, String)>,
}

impl Person {
    pub(crate) fn new() -> Self {
        // The program's own paths must be real: what it says is compared with them.
        let base = std::env::temp_dir().canonicalize().unwrap();
        let folder = tempfile::Builder::new().prefix("backupengine-cli-").tempdir_in(base).unwrap();
        for name in ["src", "mnt"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder, user: None, more: Vec::new() }
    }

    /// One with a vault, where `init` was run.
    pub(crate) fn with_vault() -> Self {
        let person = Self::new();
        person.given(PASSPHRASE, ["init", person.at("vault").to_str().unwrap(), "--yes"]).expect(0);
        person
    }

    /// Runs everything from now on as a user without any right beyond their own folder.
    pub(crate) fn become_nobody(&mut self) {
        const NOBODY: u32 = 65534;
        assert!(rustix::process::geteuid().is_root(), "this test becomes another user: run it as root");
        let program = self.at("backupengine");
        if !program.exists() {
            std::fs::copy(self::program(), &program).unwrap();
        }
        for path in [self.path().to_owned(), self.at("home"), self.at("src"), self.at("mnt")] {
            std::fs::create_dir_all(&path).unwrap();
            std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        self.user = Some(NOBODY);
    }

    /// Has this in the environment from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.more.retain(|(known, _)| known != name);
        self.more.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file below the folder, its parents included.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// The program, to be run here.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let copy = self.at("backupengine");
        let mut command = Command::new(if self.user.is_some() { &copy } else { program() });
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("BACKUPENGINE_") || name.starts_with("XDG_") {
                command.env_remove(&*name);
            }
        }
        command.env("BACKUPENGINE_HOME", self.at("home")).env("TZ", "UTC");
        // Not the key store of whoever runs the tests.
        command.env("BACKUPENGINE_KEYCHAIN", "file");
        command.envs(self.more.iter().map(|(name, value)| (name, value)));
        if let Some(user) = self.user {
            std::os::unix::process::CommandExt::uid(&mut command, user);
            std::os::unix::process::CommandExt::gid(&mut command, user);
        }
        command
    }

    /// Runs the program.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Runs it with a passphrase in the environment.
    pub(crate) fn given<S: AsRef<OsStr>>(&self, passphrase: &str, args: impl IntoIterator<Item = S>) -> Ran {
        Ran::of(self.command(args).env("BACKUPENGINE_PASSPHRASE", passphrase).output().unwrap())
    }

    /// Starts it and does not wait.
    pub(crate) fn start<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Mounts `mnt` behind; it is unmounted when the person goes.
    pub(crate) fn mount(&self, more: &[&str]) -> PathBuf {
        let mnt = self.at("mnt");
        let args = ["mount", mnt.to_str().unwrap(), "--background"];
        self.run(args.iter().chain(more)).expect(0);
        mnt
    }

    /// Files below a folder of this person's, `home` apart.
    pub(crate) fn files_below(&self, name: &str) -> usize {
        fn count(path: &Path) -> usize {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|e| if e.path().is_dir() { count(&e.path()) } else { 1 }).sum()
        }
        count(&self.at(name))
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        // Whatever a failed test left mounted, nested ones first.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below: Vec<&str> = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|at| Path::new(at).starts_with(self.path()))
            .collect();
        for at in below.into_iter().rev() {
            if let Err(error) = rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH) {
                eprintln!("{at} is still mounted: {error}");
            }
        }
    }
}

/// Runs a shell command and gives what it printed; fails where it does.
pub(crate) fn shell(folder: &Path, line: &str) -> String {
    let output = Command::new("sh").args(["-ec", line]).current_dir(folder).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line}: {said}");
    said
}
