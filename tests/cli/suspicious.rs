//! Signs of ransomware, as a person sees them: a warning, a mark, a snapshot that is held, and the way back.
use crate::program::{Person, Ran};
use backupengine_testkit::oracle::sample;
use serde_json::json;

fn text(n: usize) -> String {
    format!("the text number {n}, which can be read, ").repeat(40)
}

fn texts(person: &Person) {
    (0..20).for_each(|n| person.write(&format!("src/{n}.txt"), text(n)));
}

fn encrypt(person: &Person) {
    (0..20).for_each(|n| person.write(&format!("src/{n}.txt"), sample::bytes(n + 1, 2000)));
}

fn push(person: &Person, time: &str, more: &[&str]) -> Ran {
    let src = person.at("src").display().to_string();
    let args = ["push", &src, "--device-name", "pc", "--time", time];
    person.run(args.iter().chain(more).copied())
}

/// The id that a push prints last.
fn id(ran: &Ran) -> String {
    ran.stdout.lines().last().unwrap().trim_start_matches("snapshot ").to_owned()
}

fn tags(person: &Person) -> Vec<serde_json::Value> {
    let listed = person.run(["snapshots", "--json"]).expect(0).json();
    listed.as_array().unwrap().iter().map(|one| one["tags"].clone()).collect()
}

#[test]
fn a_push_that_looks_like_ransomware_is_marked_and_holds_the_one_before() {
    let person = Person::with_vault();
    texts(&person);
    let good = push(&person, "2026-03-01T10:00:00Z", &[]).expect(0);
    assert!(!good.stderr.contains("ransomware"), "{}", good.stderr);
    let good = id(&good);
    encrypt(&person);
    let ran = push(&person, "2026-03-02T10:00:00Z", &["--tag", "t", "--quiet"]).expect(0);
    let marked = id(&ran);
    for said in [
        "WARNING: this looks like the work of ransomware",
        "20 files of 20 that could be read before",
        &format!("The snapshot {marked} was made all the same"),
        &format!("{good}, is held"),
        &format!(
            "hint: if all is well: backupengine tag {marked} --remove suspicious && backupengine unhold {good}"
        ),
    ] {
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    }
    assert_eq!(tags(&person), [json!([]), json!(["suspicious", "t"])]);
    assert!(person.run(["snapshots"]).expect(0).stdout.contains("[suspicious, t]"));
    let status = person.run(["status", "--json"]).expect(3).json();
    assert_eq!(status["suspicious"], json!([marked]));
    assert!(status["wrong"][0].as_str().unwrap().contains(&marked));

    // Nothing removes the good one: it is held, and the marked one does not take its place.
    push(&person, "2026-03-03T10:00:00Z", &[]).expect(0);
    let kept = person.run(["forget", "--keep-last", "1", "--dry-run", "--json"]).expect(0).json();
    let kept: Vec<&str> =
        kept["kept"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert!(kept.contains(&good.as_str()), "{kept:?}");
    person.run(["forget", &good]).expect(1);
    let out = person.at("out").display().to_string();
    let what = format!("{good}:{}", person.at("src").display());
    person.run(["restore", &what, "--to", &out]).expect(0);
    let back = std::fs::read_to_string(person.at("out/src/3.txt"))
        .or_else(|_| std::fs::read_to_string(person.at("out/3.txt")))
        .unwrap();
    assert_eq!(back, text(3));

    // A person looked.
    person.run(["tag", &marked, "--remove", "suspicious"]).expect(0);
    person.run(["unhold", &good]).expect(0);
    assert_eq!(person.run(["status", "--json"]).expect(0).json()["suspicious"], json!([]));
    person.run(["forget", &good]).expect(0);
}

#[test]
fn retention_takes_a_marked_snapshot_for_nobodys_successor() {
    let person = Person::with_vault();
    texts(&person);
    let good = id(&push(&person, "2026-03-01T10:00:00Z", &[]).expect(0));
    encrypt(&person);
    push(&person, "2026-03-02T10:00:00Z", &[]).expect(0);
    person.run(["unhold", &good]).expect(0);
    let judged = person.run(["forget", "--keep-last", "1", "--json"]).expect(0).json();
    assert_eq!(judged["forgotten"], json!([]));
    let refused = person.run(["forget", "--keep-tag", "suspicious"]).expect(2);
    assert!(refused.stderr.contains("would keep none"), "{}", refused.stderr);
}

#[test]
fn canaries_are_watched() {
    let person = Person::with_vault();
    texts(&person);
    person.write("src/a/canary.txt", text(99));
    person.write("elsewhere", "x");
    let canary = person.at("src/a/canary.txt").display().to_string();
    let elsewhere = person.at("elsewhere").display().to_string();
    let ran = push(&person, "2026-03-01T10:00:00Z", &["--canary", &elsewhere]).expect(2);
    assert!(ran.stderr.contains("does not lie in what is pushed"), "{}", ran.stderr);
    assert!(tags(&person).is_empty(), "nothing was stored");
    let never = person.at("src/never").display().to_string();
    let ran = push(&person, "2026-03-01T11:00:00Z", &["--canary", "src/a/canary.txt", "--canary", &never])
        .expect(0);
    assert!(ran.stderr.contains(&format!("the canary {never} is not there")), "{}", ran.stderr);
    assert!(!ran.stderr.contains("ransomware"), "{}", ran.stderr);

    // By the config file, and with its whole folder gone.
    let config = person.at("home/config.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{before}canaries = [{canary:?}, {elsewhere:?}]\n")).unwrap();
    let ran = push(&person, "2026-03-01T12:00:00Z", &[]).expect(0);
    assert!(!ran.stderr.contains("canary"), "{}", ran.stderr);
    std::fs::remove_dir_all(person.at("src/a")).unwrap();
    let ran = push(&person, "2026-03-01T13:00:00Z", &[]).expect(0);
    assert!(ran.stderr.contains(&format!("The canary {canary} is gone.")), "{}", ran.stderr);
    assert_eq!(tags(&person)[2], json!(["suspicious"]));
}

/// The first look at files is no look at what they were.
#[test]
fn a_dry_run_says_nothing() {
    let person = Person::with_vault();
    texts(&person);
    push(&person, "2026-03-01T10:00:00Z", &[]).expect(0);
    encrypt(&person);
    let ran = push(&person, "2026-03-02T10:00:00Z", &["--dry-run", "--json"]).expect(0);
    assert_eq!(ran.json_lines().last().unwrap()["signals"], json!([]));
    assert_eq!(ran.stderr, "");
}
