//! A signal ends what runs, and leaves a vault that opens and a push that can go on.
use crate::program::Person;
use backupengine_testkit::oracle::sample::bytes;
use std::io::{BufRead, BufReader, Read};
use std::process::Command;

#[test]
fn an_interrupted_push_goes_on() {
    for name in ["INT", "TERM"] {
        let person = Person::with_vault();
        let src = person.at("src");
        for part in 0..8 {
            person.write(&format!("src/{part}"), bytes(part, 40 << 20));
        }
        let mut child = person.start(["push", src.to_str().unwrap(), "--json"]);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert!(line.contains("\"progress\""), "{line}");
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
        let (mut rest, mut said) = (String::new(), String::new());
        out.read_to_string(&mut rest).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{name}: {rest}{said}");
        assert!(said.contains("\"kind\":\"interrupted\""), "{said}");
        assert!(said.contains("run the same push again"), "{said}");

        assert_eq!(person.run(["snapshots", "-q"]).expect(0).stdout, "");
        person.run(["push", src.to_str().unwrap()]).expect(0);
        person.run(["check"]).expect(0);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let person = Person::with_vault();
    for number in 0..2000 {
        person.write(&format!("src/{number:0>200}"), "");
    }
    person.run(["push", person.at("src").to_str().unwrap()]).expect(0);
    let mut child = person.start(["ls", "-lR"]);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}
