//! One golden of all help: what a person reads changes only on purpose.
use crate::program::Person;
use std::path::Path;

/// Set it to write the golden anew, and look at the difference before committing it.
const BLESS: &str = "BACKUPENGINE_BLESS";

#[test]
fn all_help_is_as_written() {
    let person = Person::new();
    let help = |args: &[&str]| {
        let output = person.command(args).env("COLUMNS", "100").env("NO_COLOR", "1").output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let top = help(&["--help"]);
    let commands: Vec<&str> = top
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() >= 12, "{commands:?}");
    let mut all = format!("$ backupengine --help\n{top}");
    for command in commands {
        all.push_str(&format!("\n$ backupengine {command} --help\n{}", help(&[command, "--help"])));
        // Commands with commands of their own.
        let sub: &[&str] = match command {
            "mfa" => &["list", "add", "remove"],
            "device" => &["list", "approve", "revoke", "rename"],
            "cache" => &["info", "clear", "pin", "unpin"],
            _ => &[],
        };
        for sub in sub {
            let text = help(&[command, sub, "--help"]);
            all.push_str(&format!("\n$ backupengine {command} {sub} --help\n{text}"));
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("cli/help.txt");
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(&path, &all).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = golden.lines().zip(all.lines()).enumerate().find(|(_, (old, new))| old != new);
    assert!(
        golden == all,
        "help is not as in tests/cli/help.txt, first at {differs:?}; {BLESS}=1 writes it anew"
    );
}
