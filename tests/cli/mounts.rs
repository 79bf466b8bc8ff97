//! Mounts as a person meets them: in front and behind, busy, dead, watched while snapshots come.
use crate::program::{PASSPHRASE, Person, fuse_is_wanted, shell};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

fn pushed() -> Person {
    let person = Person::with_vault();
    person.write("src/a", "one");
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    person
}

fn is_mounted(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(1) == path.to_str())
}

/// Starts a mount in front and waits for its word.
fn in_front(person: &Person) -> Child {
    let mnt = person.at("mnt");
    let mut child = person.start(["mount", mnt.to_str().unwrap()]);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, format!("mounted on {}\n", mnt.display()));
    child
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

/// Waits for what comes within seconds or not at all.
fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_mount_in_front_ends_by_signal_or_unmount() {
    if !fuse_is_wanted() {
        return;
    }
    let person = pushed();
    let mnt = person.at("mnt");
    for end in ["INT", "TERM", "unmount"] {
        let mut child = in_front(&person);
        let file = mnt.join("latest").join(person.at("src/a").strip_prefix("/").unwrap());
        assert_eq!(std::fs::read_to_string(file).unwrap(), "one");
        match end {
            "unmount" => drop(person.run(["unmount", mnt.to_str().unwrap()]).expect(0)),
            name => signal(&child, name),
        }
        assert!(child.wait().unwrap().success(), "{end}");
        assert!(!is_mounted(&mnt), "{end}");
    }
}

#[test]
fn a_busy_mount_says_who_holds_it() {
    if !fuse_is_wanted() {
        return;
    }
    let person = pushed();
    let mnt = person.mount(&[]);
    let mut holder = Command::new("sleep").arg("1000").current_dir(mnt.join("latest")).spawn().unwrap();
    let busy = person.run(["unmount", mnt.to_str().unwrap()]).expect(6);
    assert!(busy.stderr.contains(&format!("sleep (process {})", holder.id())), "{}", busy.stderr);
    assert!(busy.stderr.contains("hint: end it"), "{}", busy.stderr);
    assert!(is_mounted(&mnt));
    holder.kill().unwrap();
    holder.wait().unwrap();
    // From a shell that stands in it, the shell is what is named.
    let line = format!(
        "cd {0} && exec env BACKUPENGINE_HOME={1} {2} unmount {0}",
        mnt.display(),
        person.at("home").display(),
        crate::program::program().display()
    );
    shell(person.path(), &line);
    assert!(!is_mounted(&mnt));
}

#[test]
fn ctrl_c_on_a_busy_mount_asks_and_then_detaches() {
    if !fuse_is_wanted() {
        return;
    }
    let person = pushed();
    let mnt = person.at("mnt");
    let mut child = in_front(&person);
    let mut holder = Command::new("sleep").arg("1000").current_dir(mnt.join("latest")).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    signal(&child, "INT");
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("in use by sleep"), "{line}");
    assert!(is_mounted(&mnt));
    signal(&child, "INT");
    soon("the end of the mountpoint", || !is_mounted(&mnt));
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_dead_mount_is_told_and_mounted_over() {
    if !fuse_is_wanted() {
        return;
    }
    let person = pushed();
    let mnt = person.at("mnt");
    let mut child = in_front(&person);
    signal(&child, "KILL");
    child.wait().unwrap();
    assert!(is_mounted(&mnt));
    let status = person.run(["status"]).expect(3);
    assert!(status.stdout.contains("does not answer"), "{}", status.stdout);
    person.mount(&[]);
    assert!(mnt.join("latest").exists());
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
    assert!(!is_mounted(&mnt));
}

#[test]
fn new_snapshots_appear_while_mounted() {
    if !fuse_is_wanted() {
        return;
    }
    let person = pushed();
    let mnt = person.mount(&[]);
    let latest = std::fs::read_link(mnt.join("latest")).unwrap();
    person.write("src/a", "two");
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    soon("the new snapshot", || std::fs::read_link(mnt.join("latest")).unwrap() != latest);
    let file = mnt.join("latest").join(person.at("src/a").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read_to_string(file).unwrap(), "two");
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
}

/// Nobody mounts anew: what was lost when it was mounted, and failed to read, is there once it is healed.
#[test]
fn a_mount_that_is_open_reads_what_was_healed() {
    if !fuse_is_wanted() {
        return;
    }
    let person = pushed();
    let sessions = std::fs::read_dir(person.at("vault/p")).unwrap().map(|entry| entry.unwrap().path());
    std::fs::remove_dir_all(sessions.min().unwrap()).unwrap();
    let mnt = person.mount(&[]);
    let file = mnt.join("latest").join(person.at("src/a").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read(&file).unwrap_err().raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    person.run(["repair"]).expect(0);
    let own = std::fs::read(person.at("src/a")).unwrap();
    soon("the file that was healed", || std::fs::read(&file).is_ok_and(|bytes| bytes == own));
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
}

#[test]
fn one_folder_of_one_snapshot_can_be_mounted_as_ones_own() {
    if !fuse_is_wanted() {
        return;
    }
    use std::os::unix::fs::MetadataExt;
    let person = pushed();
    std::os::unix::fs::chown(person.at("src/a"), Some(1234), Some(1234)).unwrap();
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    let what = format!("latest:{}", person.at("src").display());
    let mnt = person.mount(&["--snapshot", &what, "--owner", "me", "--memory", "64MiB"]);
    assert_eq!(std::fs::metadata(mnt.join("a")).unwrap().uid(), rustix::process::getuid().as_raw());
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
    let mnt = person.mount(&["--snapshot", &what]);
    assert_eq!(std::fs::metadata(mnt.join("a")).unwrap().uid(), 1234);
    person.run(["unmount", mnt.to_str().unwrap()]).expect(0);
}

#[test]
fn a_mount_behind_tells_what_keeps_it_from_mounting() {
    let person = pushed();
    let mnt = person.at("mnt");
    let wrong = person.given("not the right passphrase", ["mount", mnt.to_str().unwrap(), "--background"]);
    let wrong = wrong.expect(4);
    assert!(wrong.stderr.contains("the secret does not open this vault"), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("hint:"), "{}", wrong.stderr);
    assert!(!is_mounted(&mnt));
}

/// On a device that all may open, as systems have it; some containers keep it closed, so the test brings its own
/// in a mount namespace of its own.
#[test]
fn an_ordinary_user_mounts_through_the_helper() {
    if !fuse_is_wanted() {
        return;
    }
    let mut person = Person::new();
    person.become_nobody();
    person.given(PASSPHRASE, ["init", person.at("vault").to_str().unwrap(), "--yes"]).expect(0);
    person.write("src/a", "one");
    let src = person.at("src");
    person.run(["push", src.to_str().unwrap()]).expect(0);
    let script = format!(
        "mknod -m 666 device c 10 229
         mount --bind device /dev/fuse
         nobody='setpriv --reuid 65534 --regid 65534 --clear-groups env BACKUPENGINE_HOME={home}'
         $nobody ./backupengine mount mnt --background
         $nobody cat mnt/latest{src}/a
         ls mnt 2>&1 && exit 1
         $nobody sh -c 'cd mnt && exec sleep 1000' & sleep 1
         $nobody ./backupengine unmount mnt && exit 2
         kill $!; wait $! || true
         $nobody ./backupengine unmount mnt
         $nobody ls -A mnt",
        home = person.at("home").display(),
        src = src.display(),
    );
    person.write("script", script);
    let said = shell(person.path(), "unshare --mount sh -eu script 2>&1");
    assert!(said.starts_with("mounted on ") && said.contains("\nonels: "), "{said}");
    assert!(said.contains("'mnt': Permission denied"), "whoever did not mount looked in: {said}");
    assert!(said.contains("in use by sleep"), "{said}");
    assert!(said.ends_with(&format!("unmounted {}\n", person.at("mnt").display())), "{said}");
}
