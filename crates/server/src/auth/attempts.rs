//! Wrong passwords and codes per account, counted in PostgreSQL; and the audit of identity.
//!
//! **What always holds.** A try is counted before it is judged, so that many at once get no more tries than one after
//! the other. What was tried is kept as a digest. An audit row carries no secret and is never changed.
//! **Where it is tested.** `tests/server/auth_limits.rs`.
use super::keys::digest;
use super::refused::Refused;
use super::request::Origin;
use deadpool_postgres::GenericClient;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tried {
    /// By mail address, whether or not it has an account.
    Password,
    /// By user.
    Code,
}

impl Tried {
    /// Its name, wrong tries before a pause, longest pause in seconds. Who guesses codes knows the password: the
    /// pause grows. Anybody can guess passwords of anybody: the pause must not lock the owner out for long.
    const fn rule(self) -> (&'static str, i32, i64) {
        match self {
            Self::Password => ("password", 10, 15 * 60),
            Self::Code => ("code", 5, 24 * 3600),
        }
    }

    fn key(self, subject: &str) -> String {
        digest(&format!("{} {}", self.rule().0, subject.to_lowercase()))
    }
}

/// Counts a try, or refuses it where there were too many wrong ones.
pub(super) async fn begin(client: &impl GenericClient, tried: Tried, subject: &str) -> Result<(), Refused> {
    let (_, limit, longest) = tried.rule();
    let key = tried.key(subject);
    // A day without a try forgets. The pause: 15 minutes, doubled with each further round, up to the longest.
    let counted = client
        .query_opt(
            "insert into auth.attempts as a (subject, failures, since) values ($1, 1, now())
             on conflict (subject) do update set
               since = now(),
               failures = case when a.since < now() - interval '1 day' then 1 else a.failures + 1 end,
               locked_until = case when a.since >= now() - interval '1 day' and (a.failures + 1) % $2 = 0
                 then now() + least($3, 900 * 2 ^ least((a.failures + 1) / $2 - 1, 20)) * interval '1 second' end
             where a.locked_until is null or a.locked_until <= now()
             returning failures",
            &[&key, &limit, &(longest as f64)],
        )
        .await?;
    if counted.is_some() {
        return Ok(());
    }
    let row = client.query_opt("select locked_until from auth.attempts where subject = $1", &[&key]).await?;
    let until = row.and_then(|row| row.get::<_, Option<SystemTime>>(0));
    let wait = until.and_then(|until| until.duration_since(SystemTime::now()).ok()).unwrap_or(Duration::ZERO);
    Err(Refused::too_many("too many wrong tries for this account: wait as long as Retry-After says", wait))
}

/// Forgets the wrong tries: the right one came.
pub(super) async fn succeeded(
    client: &impl GenericClient,
    tried: Tried,
    subject: &str,
) -> Result<(), Refused> {
    client.execute("delete from auth.attempts where subject = $1", &[&tried.key(subject)]).await?;
    Ok(())
}

/// Writes what happened. `action` is one of GoTrue's words where it has one.
pub(super) async fn audit(
    client: &impl GenericClient,
    origin: &Origin,
    action: &str,
    user: Option<&str>,
    traits: Value,
) -> Result<(), Refused> {
    let payload = json!({"action": action, "actor_id": user, "traits": traits});
    client
        .execute(
            "insert into auth.audit_log_entries (payload, ip_address) values ($1, $2)",
            &[&payload, &origin.ip.to_string()],
        )
        .await?;
    Ok(())
}
