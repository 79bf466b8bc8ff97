//! One-time codes: where they come from, and what is shown once to make them.
//!
//! **What it may not do.** Take a code or a secret as an argument; log either.
//! **What always holds.** A code that was refused is asked for again at a terminal, fetched once more from a command,
//! and never tried twice.
//! **Where it is tested.** Below; `tests/cli`.

use crate::error::{Failure, Kind};
use crate::output::{shown as printable, tell};
use crate::secret;
use crate::wire::Wire;
use backupengine_api::auth::{EnrolledFactor, Secret, Session};
use backupengine_transfer::{Identity, TransferError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often somebody may type a code.
const TRIES: u32 = 3;
/// Seconds a code is shown for.
const STEP: u64 = 30;

/// Where one-time codes come from.
#[derive(Clone, Copy)]
pub(crate) struct CodeSource<'a> {
    wire: &'a Wire,
    command: Option<&'a str>,
}

impl<'a> CodeSource<'a> {
    /// A command, the environment, or somebody at the terminal.
    pub(crate) fn new(wire: &'a Wire, command: Option<&'a str>) -> Self {
        Self { wire, command }
    }

    /// Makes sure that a code can be had, before anything is begun that needs one.
    ///
    /// # Errors
    /// Bad usage.
    pub(crate) fn must_give(&self) -> Result<(), Failure> {
        if self.command.is_some() || variable().is_some() || secret::can_ask() {
            Ok(())
        } else {
            Err(nobody())
        }
    }

    /// Confirms a login by a code of this factor. `uri` goes to the command's standard input, where the factor is
    /// new.
    ///
    /// # Errors
    /// `Denied` where the code is wrong; where the server is not reached.
    pub(crate) fn verify(
        &self,
        identity: &Identity,
        access: &Secret,
        factor: &str,
        uri: Option<&Secret>,
    ) -> Result<Session, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            let code = self.code(uri)?;
            match identity.verify(access, factor, &code) {
                Err(TransferError::Refused(refusal)) if refusal.code == "mfa_verification_failed" => {
                    if self.command.is_some() && tries == 1 {
                        tracing::debug!("the one-time code was refused: waiting for the next one");
                        self.wait_for_the_next()?;
                    } else if self.command.is_some() || variable().is_some() || tries == TRIES {
                        return Err(TransferError::Refused(refusal).into());
                    } else {
                        tell("That code does not count. Each counts once: wait for the next one.");
                    }
                }
                other => return Ok(other?),
            }
        }
    }

    fn code(&self, uri: Option<&Secret>) -> Result<Secret, Failure> {
        let text = if let Some(command) = self.command {
            secret::run(command, "one-time code", Some(uri.map_or("", |uri| uri.0.as_str())))?
        } else if let Some(code) = variable() {
            code
        } else {
            secret::ask("One-time code (6 digits): ", nobody)?
        };
        let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        if digits.len() == 6 && digits.bytes().all(|c| c.is_ascii_digit()) {
            return Ok(Secret(digits));
        }
        Err(Failure::new(Kind::Denied, "a one-time code is six digits, and this is not".to_owned())
            .hint("it is what the authenticator shows for this account"))
    }

    fn wait_for_the_next(&self) -> Result<(), Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.wire.sleep(Duration::from_secs(STEP - now % STEP + 1))
    }
}

fn variable() -> Option<zeroize::Zeroizing<String>> {
    std::env::var("BACKUPENGINE_TOTP_CODE").ok().filter(|code| !code.is_empty()).map(zeroize::Zeroizing::new)
}

fn nobody() -> Failure {
    Failure::usage("a one-time code is needed, and nobody is there to type it")
        .hint("give it by --totp-command or BACKUPENGINE_TOTP_CODE")
}

/// Shows a new factor once, for an authenticator: as a QR code and as text. On the terminal, never on stdout.
pub(crate) fn show_factor(factor: &EnrolledFactor) {
    tell("Scan this with an authenticator, or type the key into it. It is shown only now.\n");
    if let Some(code) = qr(&factor.totp.uri.0) {
        tell(code);
    }
    tell(format!("\n    {}\n", printable(grouped(&factor.totp.secret.0).as_bytes())));
}

/// Half blocks, dark on light: with a rim, and light where the terminal is dark.
fn qr(text: &str) -> Option<String> {
    use qrcode::render::unicode::Dense1x2;
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::L).ok()?;
    // Most terminals are dark, and cameras want the dark squares dark.
    let shown = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    Some(shown)
}

/// Four characters at a time.
fn grouped(secret: &str) -> String {
    let characters: Vec<char> = secret.chars().collect();
    characters.chunks(4).map(|four| four.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_drawn_in_half_blocks() {
        let code = qr("otpauth://totp/b:a@example.org?secret=JBSWY3DPEHPK3PXP&issuer=b").unwrap();
        assert!(code.lines().count() > 15);
        let width = code.lines().next().unwrap().chars().count();
        assert!(code.lines().all(|line| line.chars().count() == width && width < 80), "{code}");
        assert!(code.chars().all(|c| " \u{2580}\u{2584}\u{2588}\n".contains(c)));
        // A light rim of four squares: two lines full of blocks.
        assert!(code.lines().take(2).all(|line| line.chars().all(|c| c == '\u{2588}')), "{code}");
    }

    #[test]
    fn a_key_is_read_four_by_four() {
        assert_eq!(grouped("JBSWY3DPEHP"), "JBSW Y3DP EHP");
    }
}
