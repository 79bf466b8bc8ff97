//! Where the passphrase and the recovery code come from: the terminal, a file, a command, the environment.
//!
//! **What it may not do.** Take a secret as an argument, or echo one.
//! **What always holds.** What was given explicitly is used, never passed over for something else.
//! **Where it is tested.** Below; `tests/cli` (sources, secrets absent from every output).

use crate::args::{Global, NewPassphrase};
use crate::error::{Failure, Kind};
use backupengine_api::auth::Secret;
use backupengine_seal::{Passphrase, RecoveryCode};
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a passphrase file that are read at most.
const LONGEST: u64 = 64 * 1024;

/// The passphrase that was given without being asked for, if any.
///
/// # Errors
/// When its source cannot be read.
pub(crate) fn given_passphrase(global: &Global) -> Result<Option<Zeroizing<String>>, Failure> {
    if let Some(path) = &global.passphrase_file {
        return read_file(path, "passphrase").map(Some);
    }
    if let Some(command) = &global.passphrase_command {
        return run(command, "passphrase", None).map(Some);
    }
    Ok(std::env::var("BACKUPENGINE_PASSPHRASE").ok().map(Zeroizing::new))
}

/// The recovery code that was given without being asked for, if any.
///
/// # Errors
/// When its source cannot be read or it is no recovery code.
pub(crate) fn given_recovery_code(global: &Global) -> Result<Option<RecoveryCode>, Failure> {
    let text = if let Some(path) = &global.recovery_code_file {
        Some(read_file(path, "recovery code")?)
    } else {
        std::env::var("BACKUPENGINE_RECOVERY_CODE").ok().map(Zeroizing::new)
    };
    text.map(|text| parse_code(&text)).transpose()
}

/// Reads 24 words, wherever they were typed.
///
/// # Errors
/// When they are no recovery code.
pub(crate) fn parse_code(text: &str) -> Result<RecoveryCode, Failure> {
    RecoveryCode::parse(text).map_err(|error| {
        Failure::new(Kind::Denied, error).hint("the recovery code is the 24 words that `init` showed once")
    })
}

/// Whether somebody is there to be asked.
pub(crate) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks without echo.
///
/// # Errors
/// `Interrupted` on Ctrl-C; `otherwise` where nobody can be asked.
pub(crate) fn ask(prompt: &str, otherwise: impl FnOnce() -> Failure) -> Result<Zeroizing<String>, Failure> {
    if !can_ask() {
        return Err(otherwise());
    }
    match rpassword::prompt_password(prompt) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Err(Failure::interrupted()),
        Err(error) => Err(Failure::io("read", Path::new("the terminal"), error)),
    }
}

/// Asks for the passphrase of an existing vault.
///
/// # Errors
/// See [`ask`].
pub(crate) fn ask_passphrase() -> Result<Passphrase, Failure> {
    let mut text = ask("Passphrase: ", nobody_to_ask)?;
    Ok(Passphrase::new(std::mem::take(&mut text)))
}

/// What to say where a passphrase is needed and cannot be asked for.
pub(crate) fn nobody_to_ask() -> Failure {
    Failure::new(Kind::Denied, "the vault needs its passphrase, and nobody is there to type it".to_owned())
        .hint("give it by --passphrase-file, --passphrase-command or BACKUPENGINE_PASSPHRASE")
}

/// A passphrase for a new vault: given, or asked for twice. Refused where it can be guessed, unless `weak`.
///
/// # Errors
/// Bad usage where it is too weak or differs the second time.
pub(crate) fn new_passphrase(global: &Global, weak: bool) -> Result<Passphrase, Failure> {
    if let Some(mut text) = given_passphrase(global)? {
        refuse_weak(&text, weak)?;
        return Ok(Passphrase::new(std::mem::take(&mut text)));
    }
    ask_new(weak, || {
        Failure::usage("a new vault needs a passphrase, and nobody is there to type one")
            .hint("give it by --passphrase-file, --passphrase-command or BACKUPENGINE_PASSPHRASE")
    })
}

/// A new passphrase for a vault that there is, beside or in the place of the one that opens it: given, or asked for
/// twice. Refused where it can be guessed, unless that is allowed.
///
/// # Errors
/// See [`new_passphrase`].
pub(crate) fn another_passphrase(args: &NewPassphrase) -> Result<Passphrase, Failure> {
    let given = match &args.new_passphrase_file {
        Some(path) => Some(read_file(path, "new passphrase")?),
        None => std::env::var("BACKUPENGINE_NEW_PASSPHRASE").ok().map(Zeroizing::new),
    };
    if let Some(mut text) = given {
        refuse_weak(&text, args.allow_weak_passphrase)?;
        return Ok(Passphrase::new(std::mem::take(&mut text)));
    }
    ask_new(args.allow_weak_passphrase, || {
        Failure::usage("a new passphrase is needed, and nobody is there to type one")
            .hint("give it by --new-passphrase-file or BACKUPENGINE_NEW_PASSPHRASE")
    })
}

fn refuse_weak(text: &str, weak: bool) -> Result<(), Failure> {
    match weakness(text) {
        Some(why) if !weak => Err(Failure::usage(format!("the passphrase {why}"))
            .hint("several random words make a good one; --allow-weak-passphrase takes this one")),
        _ => Ok(()),
    }
}

fn ask_new(weak: bool, nobody: impl Fn() -> Failure) -> Result<Passphrase, Failure> {
    let mut first = ask("New passphrase (at least 12 characters): ", &nobody)?;
    refuse_weak(&first, weak)?;
    let second = ask("The same again: ", &nobody)?;
    if *first != *second {
        return Err(Failure::usage("the two passphrases differ").hint("nothing was made; start again"));
    }
    Ok(Passphrase::new(std::mem::take(&mut first)))
}

/// What somebody types without echo, where somebody is there and types anything.
///
/// # Errors
/// See [`ask`].
pub(crate) fn ask_or_leave_out(prompt: &str) -> Result<Option<Zeroizing<String>>, Failure> {
    if !can_ask() {
        return Ok(None);
    }
    let text = ask(prompt, nobody_to_ask)?;
    Ok((!text.is_empty()).then_some(text))
}

/// A passphrase for a vault that opens without one too: given, or asked for twice where somebody is there and wants
/// one.
///
/// # Errors
/// See [`new_passphrase`].
pub(crate) fn optional_passphrase(global: &Global, weak: bool) -> Result<Option<Passphrase>, Failure> {
    if given_passphrase(global)?.is_some() {
        return new_passphrase(global, weak).map(Some);
    }
    if !can_ask()
        || !ask_yes(
            "Shall a passphrase open the vault too, beside your devices and the recovery code? (yes or no) ",
        )?
    {
        return Ok(None);
    }
    new_passphrase(global, weak).map(Some)
}

/// The password of an account: from the environment, or asked for.
///
/// # Errors
/// See [`ask`].
pub(crate) fn account_password() -> Result<Secret, Failure> {
    match account_password_variable() {
        Some(password) => Ok(password),
        None => ask("Password: ", nobody_to_log_in).map(|mut text| Secret(std::mem::take(&mut text))),
    }
}

/// A password for a new account: from the environment, or asked for twice.
///
/// # Errors
/// Bad usage where the two differ or it is too short.
pub(crate) fn new_account_password() -> Result<Secret, Failure> {
    let long_enough = |text: &str| match text.chars().count() {
        12..=72 => Ok(()),
        _ => Err(Failure::usage("the password has to have 12 to 72 characters")
            .hint("several random words make a good one; it only logs in, it never opens data")),
    };
    if let Some(password) = account_password_variable() {
        long_enough(&password.0)?;
        return Ok(password);
    }
    let mut first = ask("New password (12 to 72 characters): ", nobody_to_log_in)?;
    long_enough(&first)?;
    if *first != *ask("The same again: ", nobody_to_log_in)? {
        return Err(Failure::usage("the two passwords differ").hint("nothing was made; start again"));
    }
    Ok(Secret(std::mem::take(&mut first)))
}

fn account_password_variable() -> Option<Secret> {
    std::env::var("BACKUPENGINE_PASSWORD").ok().filter(|text| !text.is_empty()).map(Secret)
}

fn nobody_to_log_in() -> Failure {
    Failure::usage("the account's password is needed, and nobody is there to type it")
        .hint("give it by BACKUPENGINE_PASSWORD")
}

/// Asks a question that `yes` alone answers with yes. Somebody has to be there.
///
/// # Errors
/// When the terminal cannot be read.
pub(crate) fn ask_yes(question: &str) -> Result<bool, Failure> {
    Ok(matches!(ask_line(question)?.to_lowercase().as_str(), "yes" | "y"))
}

/// Asks for a line that is no secret.
///
/// # Errors
/// When the terminal cannot be read; `Interrupted` at its end.
pub(crate) fn ask_line(question: &str) -> Result<String, Failure> {
    let failed = |e| Failure::io("read", Path::new("the terminal"), e);
    let mut errors = std::io::stderr().lock();
    errors.write_all(question.as_bytes()).and_then(|()| errors.flush()).map_err(failed)?;
    drop(errors);
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line).map_err(failed)? {
        0 => Err(Failure::interrupted()),
        _ => Ok(line.trim().to_owned()),
    }
}

/// Why a passphrase is too easy to guess, if it is. Trivial on purpose: length does most of it.
fn weakness(text: &str) -> Option<&'static str> {
    let mut characters: Vec<char> = text.chars().collect();
    if characters.len() < 12 {
        return Some("is shorter than 12 characters");
    }
    characters.sort_unstable();
    characters.dedup();
    let few = characters.len() < 6;
    characters.zeroize();
    few.then_some("repeats a few characters only")
}

fn read_file(path: &Path, what: &str) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = if path == Path::new("-") {
        std::io::stdin().take(LONGEST).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text))
    };
    read.map_err(|e| Failure::io("read", path, e).while_doing(format!("the {what} was not read")))?;
    cut_line_end(&mut text);
    Ok(text)
}

/// What a command of the user's prints, which is a secret; `input` goes to its standard input.
///
/// # Errors
/// When it fails.
pub(crate) fn run(command: &str, what: &str, input: Option<&str>) -> Result<Zeroizing<String>, Failure> {
    let shell = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let fail = |error: std::io::Error| {
        Failure::new(Kind::Failed, error).while_doing(format!("the {what} command failed"))
    };
    let mut child = Command::new(shell.0)
        .args([shell.1, command])
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::inherit() })
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(fail)?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        // Whoever does not read it need not.
        drop(pipe.write_all(input.as_bytes()));
    }
    let done = child.wait_with_output().map_err(fail)?;
    let output = Zeroizing::new(done.stdout);
    if !done.status.success() {
        return Err(Failure::new(Kind::Failed, format!("the {what} command ended with {}", done.status))
            .hint(format!("it has to print the {what} and exit with 0")));
    }
    let text = std::str::from_utf8(&output).map_err(|_| {
        Failure::new(Kind::Failed, format!("the {what} command printed something that is no text"))
    })?;
    let mut text = Zeroizing::new(text.to_owned());
    cut_line_end(&mut text);
    Ok(text)
}

/// A line end belongs to the file, not to the passphrase.
fn cut_line_end(text: &mut String) {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_passphrases_are_known() {
        assert!(weakness("short").is_some());
        assert!(weakness("aaaaaaaaaaaaaaaaaaaa").is_some());
        assert!(weakness("ababababababab").is_some());
        assert_eq!(weakness("correct horse battery"), None);
        assert_eq!(weakness("ünïcödé wörds"), None);
    }

    #[test]
    fn one_line_end_is_cut() {
        for (given, kept) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a ", "a "), ("", "")] {
            let mut text = given.to_owned();
            cut_line_end(&mut text);
            assert_eq!(text, kept);
        }
    }

    #[test]
    fn a_command_gives_the_passphrase() {
        assert_eq!(*run("printf 'a b c\\n'", "passphrase", None).unwrap(), "a b c");
        assert_eq!(*run("cat; echo x", "code", Some("in ")).unwrap(), "in x");
        assert_eq!(*run("echo x", "code", Some("unread")).unwrap(), "x");
        assert_eq!(run("exit 3", "passphrase", None).unwrap_err().kind, Kind::Failed);
    }
}
