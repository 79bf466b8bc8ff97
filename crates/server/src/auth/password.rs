//! Passwords: what is accepted, and Argon2id as `$argon2id$` text, which GoTrue reads too.
//!
//! **What always holds.** Hashing runs off the threads that serve, and never more at once than the machine has
//! cores. Checking a password costs the same time whether or not the account exists.
//! **Where it is tested.** Below and in `tests/server/auth.rs`.
use super::refused::Refused;
use super::request::random;
use argon2::{Algorithm, Argon2, Params, Version};
use backupengine_api::auth::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::sync::LazyLock;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

/// Shortest password, in characters.
const SHORTEST: usize = 12;
/// Longest password, in bytes: GoTrue's limit, so that users can move there.
const LONGEST: usize = 72;
/// Cost a stored hash may ask for at most: nobody's row may take the machine down.
const MEMORY_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 16;

/// Memory is the scarce thing: as many at once as there are cores.
static PLACES: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from)));

/// Whether a password may be chosen.
pub(super) fn check_strength(password: &Secret) -> Result<(), Refused> {
    let text = &password.0;
    if text.chars().count() < SHORTEST {
        let message = format!("the password has to have at least {SHORTEST} characters");
        return Err(Refused::weak_password(message, &["length"]));
    }
    if text.len() > LONGEST {
        return Err(Refused::invalid(format!("the password cannot be longer than {LONGEST} bytes")));
    }
    Ok(())
}

/// Hashes a password for the database. `cost`: memory in KiB, passes.
pub(super) async fn hash(password: Secret, cost: (u32, u32)) -> Result<String, Refused> {
    let salt = random::<16>()?;
    let out = run(move || argon2id(&password, &salt, cost.0, cost.1, 1)).await?;
    let (salt, out) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(out));
    Ok(format!("$argon2id$v=19$m={},t={},p=1${salt}${out}", cost.0, cost.1))
}

/// Whether the password is the one of this hash. Without a hash it computes one all the same and says no.
pub(super) async fn verify(
    password: Secret,
    hash: Option<String>,
    cost: (u32, u32),
) -> Result<bool, Refused> {
    let Some(hash) = hash else {
        run(move || argon2id(&password, &[0; 16], cost.0, cost.1, 1)).await?;
        return Ok(false);
    };
    let Some(stored) = Stored::read(&hash) else {
        return Err(Refused::fault("a stored password hash does not read"));
    };
    let out = run(move || {
        argon2id(&password, &stored.salt, stored.memory, stored.passes, stored.lanes)
            .map(|out| out.ct_eq(&stored.out).into())
    })
    .await?;
    Ok(out)
}

async fn run<T: Send + 'static>(work: impl FnOnce() -> Option<T> + Send + 'static) -> Result<T, Refused> {
    let _place = PLACES.acquire().await.map_err(|_| Refused::fault("hashing has ended"))?;
    match tokio::task::spawn_blocking(work).await {
        Ok(Some(out)) => Ok(out),
        Ok(None) => Err(Refused::fault("a password could not be hashed: its cost is out of range")),
        Err(_) => Err(Refused::fault("hashing ended early")),
    }
}

fn argon2id(password: &Secret, salt: &[u8], memory: u32, passes: u32, lanes: u32) -> Option<[u8; 32]> {
    let params = Params::new(memory, passes, lanes, Some(32)).ok()?;
    let mut out = [0; 32];
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon.hash_password_into(password.0.as_bytes(), salt, &mut out).ok()?;
    Some(out)
}

/// A stored hash, taken apart.
struct Stored {
    memory: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    out: [u8; 32],
}

impl Stored {
    fn read(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("$argon2id$v=19$")?;
        let mut parts = rest.split('$');
        let (cost, salt, out) = (parts.next()?, parts.next()?, parts.next()?);
        let mut cost = cost.split(',');
        let mut number = |name: &str| cost.next()?.strip_prefix(name)?.parse::<u32>().ok();
        let (memory, passes, lanes) = (number("m=")?, number("t=")?, number("p=")?);
        let out = STANDARD_NO_PAD.decode(out).ok()?.try_into().ok()?;
        let within = memory <= MEMORY_MAX && passes <= PASSES_MAX && lanes <= 16;
        within.then_some(Self { memory, passes, lanes, salt: STANDARD_NO_PAD.decode(salt).ok()?, out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret(text.to_owned())
    }

    fn wait<T>(future: impl Future<Output = Result<T, Refused>>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future).unwrap()
    }

    #[test]
    fn length_is_counted_in_characters_below_and_in_bytes_above() {
        assert_eq!(check_strength(&secret("elevenchars")).unwrap_err().code(), "weak_password");
        assert!(check_strength(&secret("twelve chars")).is_ok());
        assert!(check_strength(&secret("äöüäöüäöüäöü")).is_ok());
        assert!(check_strength(&secret(&"x".repeat(72))).is_ok());
        assert_eq!(check_strength(&secret(&"x".repeat(73))).unwrap_err().code(), "validation_failed");
        assert_eq!(check_strength(&secret(&"ä".repeat(37))).unwrap_err().code(), "validation_failed");
    }

    #[test]
    fn a_hash_verifies_its_password_alone_whatever_the_cost_is_now() {
        let hash = wait(hash(secret("correct horse"), (16, 2)));
        assert!(hash.starts_with("$argon2id$v=19$m=16,t=2,p=1$"), "{hash}");
        assert!(wait(verify(secret("correct horse"), Some(hash.clone()), (8, 1))));
        assert!(!wait(verify(secret("correct horsf"), Some(hash), (8, 1))));
        assert!(!wait(verify(secret("correct horse"), None, (8, 1))));
    }

    #[test]
    fn the_reference_hash_of_argon2_verifies() {
        // echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 32 -e, the vector of the reference implementation.
        let hash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(wait(verify(secret("password"), Some(hash.to_owned()), (8, 1))));
    }

    #[test]
    fn a_hash_that_asks_for_too_much_or_is_another_kind_does_not_read() {
        let hash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(Stored::read(hash).is_some());
        for (old, new) in [
            ("m=65536", "m=99999999"),
            ("t=2", "t=99"),
            ("argon2id", "argon2i"),
            ("v=19", "v=16"),
            ("PPc", ""),
        ] {
            assert!(Stored::read(&hash.replace(old, new)).is_none(), "{new}");
        }
        assert!(Stored::read("$2a$10$abcdefghijklmnopqrstuv").is_none());
    }
}
