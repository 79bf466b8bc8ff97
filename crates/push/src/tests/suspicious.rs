//! What looks like the work of ransomware is marked and holds the snapshot before; what people do every day does not.
use super::broken_off::Breaks;
use super::{Bench, Quiet, assert_shows, noise, random};
use crate::{PushConfig, PushReport, Signal, push};
use backupengine_model::{SUSPICIOUS, SessionNo};
use backupengine_store::Keeper as _;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A home: texts, pictures, documents, each in a folder of its own.
fn home(bench: &Bench) {
    for n in 0..30u64 {
        bench.write(&format!("texts/{n}.txt"), &text(n, 3000));
        bench.write(&format!("pictures/{n}.jpg"), &with_head(b"\xff\xd8\xff\xe0", n, 20_000));
        bench.write(&format!("documents/{n}.docx"), &with_head(b"PK\x03\x04", 100 + n, 90_000));
    }
    bench.write("table.db", &text(7, 5 << 20));
}

fn text(seed: u64, len: usize) -> Vec<u8> {
    let words = noise(seed, len).into_iter().map(|byte| b"abcdefgh ijklmno"[usize::from(byte % 16)]);
    words.collect()
}

fn with_head(head: &[u8], seed: u64, len: usize) -> Vec<u8> {
    [head, &noise(seed, len)].concat()
}

fn report(bench: &Bench, config: PushConfig) -> PushReport {
    bench.try_push(config, &AtomicBool::new(false)).unwrap()
}

/// A push that gives no signal.
fn calm(bench: &Bench, why: &str) -> SessionNo {
    let report = report(bench, bench.config());
    assert_eq!(report.signals, [], "{why}");
    assert_eq!(report.held, None, "{why}");
    let session = report.snapshot.unwrap().0;
    let list = bench.vault().list().unwrap();
    assert!(!list.iter().find(|info| info.session == session).unwrap().is_suspicious(), "{why}");
    session
}

fn held(bench: &Bench) -> Vec<SessionNo> {
    let kept = bench.vault().ask(bench.memory.kept()).unwrap().into_iter();
    kept.filter(|kept| kept.held).map(|kept| kept.snapshot.session).collect()
}

/// A push that is marked, whose tree is what lies there, and which holds `before`.
fn alarm(bench: &Bench, before: SessionNo) -> Vec<Signal> {
    let report = report(bench, bench.config());
    assert!(!report.signals.is_empty());
    assert!(report.notices.is_empty(), "{:?}", report.notices);
    let session = report.snapshot.unwrap().0;
    assert_shows(bench, session);
    let vault = bench.vault();
    let list = vault.list().unwrap();
    let find = |session| list.iter().find(|info| info.session == session).unwrap();
    assert_eq!(find(session).tags, ["a", "b", SUSPICIOUS]);
    assert_eq!(vault.root(session).unwrap().record.tags, ["a", "b", SUSPICIOUS], "the root says it as well");
    assert_eq!((held(bench), report.held), (vec![before], Some(find(before).id)));
    report.signals
}

/// Encrypts every file of a folder, under names of `name`'s making.
fn encrypt(bench: &Bench, folder: &str, name: impl Fn(&str) -> String) {
    let names =
        fs::read_dir(bench.src(folder)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    for (n, old) in names.collect::<Vec<_>>().into_iter().enumerate() {
        let len = fs::metadata(bench.src(&format!("{folder}/{old}"))).unwrap().len();
        fs::remove_file(bench.src(&format!("{folder}/{old}"))).unwrap();
        bench.write(&format!("{folder}/{}", name(&old)), &noise(9000 + n as u64, len as usize + 40));
    }
}

#[test]
fn files_that_become_unreadable_are_a_signal() {
    let bench = Bench::new();
    home(&bench);
    let first = calm(&bench, "a first push");
    encrypt(&bench, "documents", str::to_owned);
    assert_eq!(alarm(&bench, first), [Signal::Unreadable { files: 30, of: 91 }]);
    // Nothing more changes: nothing more is marked, and the good one stays held.
    let third = calm(&bench, "nothing changed");
    assert_eq!(held(&bench), [first]);
    // The attack goes on: the last without a mark is held as well.
    encrypt(&bench, "texts", str::to_owned);
    let report = report(&bench, bench.config());
    assert_eq!(report.signals, [Signal::Unreadable { files: 30, of: 91 }]);
    assert_eq!(held(&bench), [first, third]);
}

#[test]
fn names_that_grow_are_known_for_what_they_replace() {
    let bench = Bench::new();
    home(&bench);
    let first = calm(&bench, "a first push");
    encrypt(&bench, "pictures", |old| format!("{old}.id-7.locky"));
    let signals = alarm(&bench, first);
    let extension = Signal::Extension { files: 30, extension: "locky".to_owned() };
    assert_eq!(signals, [Signal::Unreadable { files: 30, of: 91 }, extension]);
}

#[test]
fn names_that_say_nothing_count_where_half_of_all_is_gone() {
    let bench = Bench::new();
    home(&bench);
    let first = calm(&bench, "a first push");
    for folder in ["documents", "texts"] {
        encrypt(&bench, folder, |old| format!("{:x}", old.bytes().fold(7u64, |h, b| h * 31 + u64::from(b))));
    }
    assert_eq!(alarm(&bench, first), [Signal::Replaced { files: 60, gone: 60, of: 91 }]);
}

/// A large file is streamed: it counts as any other.
#[test]
fn large_files_count_as_well() {
    let bench = Bench::new();
    (0..10).for_each(|n| bench.write(&format!("tables/{n}"), &text(n, 5 << 20)));
    let first = calm(&bench, "a first push");
    encrypt(&bench, "tables", str::to_owned);
    assert_eq!(alarm(&bench, first), [Signal::Unreadable { files: 10, of: 10 }]);
}

/// Ransomware encrypts the state of this program like any other file.
#[test]
fn a_destroyed_memory_hides_nothing() {
    let bench = Bench::new();
    home(&bench);
    let first = calm(&bench, "a first push");
    fs::remove_dir_all(bench.dir.path().join("state")).unwrap();
    encrypt(&bench, "texts", str::to_owned);
    assert_eq!(alarm(&bench, first), [Signal::Unreadable { files: 30, of: 91 }]);
}

/// What a push that broke off stored already is no reason to believe it.
#[test]
fn a_push_that_breaks_off_hides_nothing() {
    let mut calls = 1;
    loop {
        let bench = Bench::new();
        home(&bench);
        let first = calm(&bench, "a first push");
        for folder in ["documents", "texts"] {
            encrypt(&bench, folder, |old| {
                format!("{:x}", old.bytes().fold(7u64, |h, b| h * 31 + u64::from(b)))
            });
        }
        let store = Arc::new(Breaks::new(bench.memory.clone(), calls, 1));
        let (vault, config) = (bench.vault(), bench.config());
        let broken = push(&vault, store, &bench.device, config, &random, &AtomicBool::new(false), &Quiet);
        if broken.is_ok() {
            assert!(calls >= 4, "a session, a pack, a root, a commit");
            return;
        }
        // The next push says it, or ends the one that lacked nothing but its commit.
        let report = report(&bench, bench.config());
        let list = bench.vault().list().unwrap();
        let marked = list.iter().filter(|info| info.is_suspicious()).count();
        assert_eq!((marked, held(&bench)), (1, vec![first]), "after {calls} calls: {:?}", report.signals);
        calls += 1;
    }
}

#[test]
fn what_people_do_is_no_signal() {
    let bench = Bench::new();
    home(&bench);
    // Noise from the beginning on: an encrypted container in pieces.
    (0..40).for_each(|n| bench.write(&format!("container/{n}"), &noise(500 + n, 8000)));
    calm(&bench, "a first push");
    (0..40).for_each(|n| bench.write(&format!("container/{n}"), &noise(600 + n, 8000)));
    calm(&bench, "what was noise before may change");
    fs::rename(bench.src("documents"), bench.src("archive")).unwrap();
    fs::rename(bench.src("container"), bench.src("box")).unwrap();
    calm(&bench, "a folder got another name");
    (0..30).for_each(|n| {
        fs::rename(bench.src(&format!("archive/{n}.docx")), bench.src(&format!("archive/{n}.docx.old")))
            .unwrap();
    });
    calm(&bench, "so did every file in it");
    (0..30).for_each(|n| bench.write(&format!("texts/{n}.txt"), &text(800 + n, 3500)));
    calm(&bench, "a checkout of another branch");
    fs::remove_dir_all(bench.src("texts")).unwrap();
    (0..30).for_each(|n| bench.write(&format!("sources/{n}.rs"), &text(900 + n, 3500)));
    calm(&bench, "of one that shares nothing with it");
    for n in 0..200 {
        bench.write(&format!("unpacked/{n}.bin"), &noise(1000 + n, 4000));
        bench.write(&format!("unpacked/{n}.txt"), &text(1000 + n, 4000));
    }
    calm(&bench, "an archive was unpacked");
    (0..30).for_each(|n| {
        bench.write(&format!("pictures/{n}.jpg"), &with_head(b"\xff\xd8\xff\xe0", 2000 + n, 21_000))
    });
    calm(&bench, "pictures were edited");
    for n in 0..200 {
        fs::remove_file(bench.src(&format!("unpacked/{n}.txt"))).unwrap();
        bench.write(&format!("unpacked/{n}.txt.gz"), &with_head(b"\x1f\x8b\x08", 3000 + n, 2000));
    }
    calm(&bench, "texts were packed");
    (0..8).for_each(|n| bench.write(&format!("sources/{n}.rs"), &noise(4000 + n, 3000)));
    calm(&bench, "a few files were encrypted by hand");
    fs::remove_dir_all(bench.dir.path().join("state")).unwrap();
    calm(&bench, "this device lost its memory");
    fs::remove_dir_all(bench.src("")).unwrap();
    fs::create_dir(bench.src("")).unwrap();
    calm(&bench, "everything was deleted");
    assert_eq!(held(&bench), []);
}

/// Other sources, and another device: there is nothing to hold it against.
#[test]
fn only_ones_own_past_counts() {
    let mut bench = Bench::new();
    home(&bench);
    calm(&bench, "a first push");
    encrypt(&bench, "documents", |old| format!("{old}.locky"));
    let mut config = bench.config();
    config.walk.roots = vec![bench.src("documents")];
    assert_eq!(report(&bench, config).signals, [], "a first push of these sources");
    bench.other_device();
    assert_eq!(report(&bench, bench.config()).signals, [], "a first push of this device");
    assert_eq!(held(&bench), []);
}

#[test]
fn a_canary_that_is_touched_is_a_signal() {
    let watched = |bench: &Bench| {
        let mut config = bench.config();
        config.canaries = vec![bench.src("a/canary.docx"), bench.src("a/short"), bench.src("never there")];
        report(bench, config)
    };
    let bench = Bench::new();
    home(&bench);
    bench.write("a/canary.docx", &text(1, 2000));
    bench.write("a/short", b"short");
    assert_eq!(watched(&bench).signals, []);
    assert_eq!(watched(&bench).signals, []);
    let mode = |mode| {
        let path = bench.src("a/canary.docx");
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(0o600);
    assert_eq!(watched(&bench).signals, [], "nobody wrote to it");
    fs::remove_dir_all(bench.dir.path().join("state")).unwrap();
    assert_eq!(watched(&bench).signals, [], "this device's memory is no part of it");
    // Written to, and its time put back.
    let path = bench.src("a/canary.docx");
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    bench.write("a/canary.docx", &text(2, 2000));
    fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    assert_eq!(watched(&bench).signals, [Signal::CanaryChanged { path: path.clone() }]);
    bench.write("a/short", b"shorx");
    fs::remove_file(&path).unwrap();
    let both = [Signal::CanaryMissing { path }, Signal::CanaryChanged { path: bench.src("a/short") }];
    assert_eq!(watched(&bench).signals, both);
    assert_eq!(watched(&bench).signals, [], "what is gone is said once");
}
