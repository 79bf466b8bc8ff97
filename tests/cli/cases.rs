//! Cases as data: each file below `cases/` is a story of commands and what they must say.
//!
//! ```text
//! # a remark
//! ! sh command, run in the person's folder; has to succeed
//! $ arguments of backupengine; 'quotes' keep spaces, {src} {vault} {mnt} {home} are folders, {id} is the snapshot
//!   pushed last
//! $ [wrong] arguments          the same with a wrong passphrase given
//! $ [given] arguments          with the right one
//! = 3                          exit status of the command above; 0 where none is written
//! out text                     stdout holds it        out! text   it does not      out .   stdout is empty
//! err text                     stderr holds it        err! text   it does not      err .   stderr is empty
//! ```
//! A story begins with no vault; `init` is told the passphrase by `[given]`.
use crate::program::{PASSPHRASE, Person, Ran, shell};
use std::path::Path;

/// Reads the words of a line; single quotes keep what stands between them.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn run_command(person: &Person, line: &str) -> Ran {
    let (passphrase, line) = match line.split_once("] ") {
        Some(("[wrong", rest)) => (Some("not the right passphrase"), rest),
        Some(("[given", rest)) => (Some(PASSPHRASE), rest),
        _ => (None, line),
    };
    match passphrase {
        Some(passphrase) => person.given(passphrase, words(line)),
        None => person.run(words(line)),
    }
}

fn check(ran: &Ran, status: i32, expectations: &[(&str, String)]) -> Result<(), String> {
    let told = || format!("\n  status {}\n  stdout {}\n  stderr {}", ran.status, ran.stdout, ran.stderr);
    if ran.status != status {
        return Err(format!("exit status {status} was expected{}", told()));
    }
    for (kind, text) in expectations {
        let stream = if kind.starts_with("out") { &ran.stdout } else { &ran.stderr };
        let holds = if text == "." && !kind.ends_with('!') {
            stream.is_empty()
        } else {
            stream.contains(text) != kind.ends_with('!')
        };
        if !holds {
            return Err(format!("{kind} {text:?} does not hold{}", told()));
        }
    }
    // Whatever went wrong says what to do next.
    let wrong = ran.status != 0 && ran.status != 3;
    if wrong
        && !["hint:", "For more information", "Usage:", "\"hints\":[\""]
            .iter()
            .any(|h| ran.stderr.contains(h))
    {
        return Err(format!("the failure says not what to do{}", told()));
    }
    Ok(())
}

fn play(path: &Path) -> Result<usize, String> {
    let person = Person::new();
    let text = std::fs::read_to_string(path).unwrap();
    let mut id = String::new();
    let mut commands = 0;
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let fill = |text: &str| {
            let mut text = text.replace("{id}", &id);
            for name in ["src", "vault", "mnt", "home"] {
                text = text.replace(&format!("{{{name}}}"), person.at(name).to_str().unwrap());
            }
            text
        };
        let line = line.trim_end();
        if let Some(command) = line.strip_prefix("! ") {
            shell(person.path(), &fill(command));
        } else if let Some(command) = line.strip_prefix('$') {
            let command = command.trim_start();
            commands += 1;
            let (mut status, mut expectations) = (0, Vec::new());
            while let Some((_, next)) = lines.peek() {
                let Some((kind, rest)) = next.split_once(' ') else { break };
                match kind {
                    "=" => status = rest.parse().unwrap(),
                    "out" | "out!" | "err" | "err!" => expectations.push((kind, fill(rest))),
                    _ => break,
                }
                lines.next();
            }
            let ran = run_command(&person, &fill(command));
            check(&ran, status, &expectations).map_err(|e| format!("line {}: {command}: {e}", number + 1))?;
            if let Some(new) = ran.stdout.lines().last().and_then(|l| l.strip_prefix("snapshot ")) {
                new.clone_into(&mut id);
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            return Err(format!("line {}: not understood: {line}", number + 1));
        }
    }
    Ok(commands)
}

#[test]
fn every_story_ends_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cli/cases");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let mut commands = 0;
    let mut failures = Vec::new();
    for path in &paths {
        match play(path) {
            Ok(count) => commands += count,
            Err(failure) => {
                failures.push(format!("{}: {failure}", path.file_name().unwrap().to_string_lossy()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(paths.len() >= 8 && commands > 60, "only {commands} commands in {} stories", paths.len());
}
