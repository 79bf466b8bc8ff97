//! `/factors`: one-time codes (TOTP: SHA-1, 6 digits, 30 s, one step of skew).
//!
//! **What always holds.** A code counts once: no step at or before the last accepted one is accepted again. Challenge
//! and code come from the same address. Once an account has a verified factor, only a login confirmed with one adds,
//! confirms or removes another. Secrets lie sealed in the database.
//! **Where it is tested.** `tests/server/auth_factors.rs`, `auth_limits.rs`.
use super::attempts::{self, Tried, audit};
use super::refused::Refused;
use super::request::{Body, Caller, Origin, random, uuid};
use super::{limit, session};
use crate::app::{App, Limit};
use axum::Json;
use axum::extract::{Path, State};
use backupengine_api::auth::{Challenge, EnrollFactor, EnrolledFactor, Secret, Totp, VerifyFactor};
use deadpool_postgres::GenericClient;
use serde_json::{Value, json};
use std::net::IpAddr;
use zeroize::Zeroizing;

/// Most factors of one account.
const FACTORS_MAX: i64 = 10;
/// Seconds that an unverified factor, and a challenge, live.
const LIFE: i64 = 300;
/// Seconds of a step, steps a clock may be off.
const STEP: u64 = 30;
const SKEW: u64 = 1;
/// Most characters of a name.
const NAME_MAX: usize = 64;

/// `POST /factors`.
pub(super) async fn enroll(
    State(app): State<App>,
    origin: Origin,
    caller: Caller,
    Body(asked): Body<EnrollFactor>,
) -> Result<Json<Value>, Refused> {
    limit(&app, Limit::Challenge, &origin)?;
    if asked.factor_type != "totp" {
        return Err(Refused::invalid("factor_type has to be totp"));
    }
    let name = asked.friendly_name.unwrap_or_default();
    let issuer =
        asked.issuer.filter(|issuer| !issuer.is_empty()).unwrap_or_else(|| host(&app.config.public_url));
    for text in [&name, &issuer] {
        if text.chars().count() > NAME_MAX || text.chars().any(|c| c.is_control() || c == ':') {
            return Err(Refused::invalid(format!(
                "friendly_name and issuer can have at most {NAME_MAX} characters, no colon among them"
            )));
        }
    }
    let mut client = app.db.auth.get().await?;
    let tx = client.transaction().await?;
    // One at a time per account: what is counted below stands still.
    tx.query_one("select 1 from auth.users where id = $1::text::uuid for update", &[&caller.user]).await?;
    tx.execute(
        "delete from auth.mfa_factors where user_id = $1::text::uuid and status = 'unverified'
           and created_at < now() - make_interval(secs => $2)",
        &[&caller.user, &(LIFE as f64)],
    )
    .await?;
    let row = tx
        .query_one(
            "select count(*), count(*) filter (where status = 'verified'),
                    count(*) filter (where friendly_name = $2 and trim(friendly_name) <> '')
             from auth.mfa_factors where user_id = $1::text::uuid",
            &[&caller.user, &name],
        )
        .await?;
    let (all, verified, named): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    if verified > 0 && !caller.aal2 {
        let message = "another factor needs a login confirmed with the one-time code of the first";
        return Err(Refused::forbidden("insufficient_aal", message));
    }
    if named > 0 {
        let message = "this account has a factor of this name: choose another friendly_name";
        return Err(Refused::unprocessable("mfa_factor_name_conflict", message));
    }
    if all >= FACTORS_MAX {
        let message = format!("an account can have {FACTORS_MAX} factors: remove one first");
        return Err(Refused::unprocessable("too_many_enrolled_mfa_factors", message));
    }
    let secret = Zeroizing::new(random::<20>()?);
    let id: String = tx.query_one("select gen_random_uuid()::text", &[]).await?.get(0);
    let sealed =
        app.keys.seal_totp(&id, &*secret).ok_or_else(|| Refused::fault("a factor could not be sealed"))?;
    tx.execute(
        "insert into auth.mfa_factors (id, user_id, friendly_name, factor_type, status, secret)
         values ($1::text::uuid, $2::text::uuid, $3, 'totp', 'unverified', $4)",
        &[&id, &caller.user, &name, &sealed],
    )
    .await?;
    audit(&tx, &origin, "factor_in_progress", Some(&caller.user), json!({"factor_id": id})).await?;
    tx.commit().await?;
    let account = caller.email.as_deref().unwrap_or("account").replace(':', "_");
    let totp =
        shown(&*secret, &issuer, &account).ok_or_else(|| Refused::fault("a factor could not be shown"))?;
    let answer = EnrolledFactor { id, factor_type: "totp".into(), totp };
    let mut answer =
        serde_json::to_value(answer).map_err(|_| Refused::fault("a factor could not be shown"))?;
    answer["friendly_name"] = json!(name);
    Ok(Json(answer))
}

fn host(url: &str) -> String {
    let host = url::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.unwrap_or_default().replace(':', ".")
}

fn totp(secret: &[u8]) -> totp_rs::Builder {
    totp_rs::Builder::new().with_secret(secret)
}

fn shown(secret: &[u8], issuer: &str, account: &str) -> Option<Totp> {
    let issuer = (!issuer.is_empty()).then_some(issuer);
    let totp = totp(secret).with_issuer(issuer).with_account_name(account).build().ok()?;
    let uri = totp.to_url().ok()?;
    let code = qrcode::QrCode::new(uri.as_bytes()).ok()?;
    let qr_code = code.render::<qrcode::render::svg::Color<'_>>().min_dimensions(200, 200).build();
    Some(Totp { qr_code: Secret(qr_code), secret: Secret(totp.secret().to_base32()), uri: Secret(uri) })
}

/// The step whose code this is: one after `last`, and near `now`.
fn step_of(secret: &[u8], code: &str, now: u64, last: Option<i64>) -> Option<i64> {
    let totp = totp(secret).build().ok()?;
    let current = now / STEP;
    let accepted = |step: &u64| {
        use subtle::ConstantTimeEq;
        let expected = totp.generate(step * STEP).to_string();
        bool::from(expected.as_bytes().ct_eq(code.as_bytes()))
    };
    let mut steps = current.saturating_sub(SKEW)..=current + SKEW;
    steps.find(accepted).map(|step| step as i64).filter(|step| last.is_none_or(|last| *step > last))
}

/// A factor of the caller.
struct Stored {
    id: String,
    verified: bool,
    secret: String,
    last_step: Option<i64>,
}

async fn find(client: &impl GenericClient, caller: &Caller, id: &str) -> Result<Stored, Refused> {
    let unknown = || Refused::not_found("mfa_factor_not_found", "this account has no such factor");
    let id = uuid(id).ok_or_else(unknown)?;
    let row = client
        .query_opt(
            "select status = 'verified', secret, last_step from auth.mfa_factors
             where id = $1::text::uuid and user_id = $2::text::uuid
               and (status = 'verified' or created_at >= now() - make_interval(secs => $3)) for update",
            &[&id, &caller.user, &(LIFE as f64)],
        )
        .await?
        .ok_or_else(unknown)?;
    Ok(Stored { id, verified: row.get(0), secret: row.get(1), last_step: row.get(2) })
}

/// `POST /factors/{id}/challenge`.
pub(super) async fn challenge(
    State(app): State<App>,
    Path(id): Path<String>,
    origin: Origin,
    caller: Caller,
) -> Result<Json<Value>, Refused> {
    limit(&app, Limit::Challenge, &origin)?;
    let mut client = app.db.auth.get().await?;
    let tx = client.transaction().await?;
    let factor = find(&tx, &caller, &id).await?;
    tx.execute(
        "delete from auth.mfa_challenges where factor_id = $1::text::uuid
           and created_at < now() - make_interval(secs => $2)",
        &[&factor.id, &(LIFE as f64)],
    )
    .await?;
    let row = tx
        .query_one(
            "insert into auth.mfa_challenges (factor_id, ip_address) values ($1::text::uuid, $2)
             returning id::text, floor(extract(epoch from created_at))::bigint + $3",
            &[&factor.id, &origin.ip, &LIFE],
        )
        .await?;
    tx.execute(
        "update auth.mfa_factors set last_challenged_at = now() where id = $1::text::uuid",
        &[&factor.id],
    )
    .await?;
    tx.commit().await?;
    let answer = Challenge { id: row.get(0), expires_at: row.get(1) };
    let mut answer =
        serde_json::to_value(answer).map_err(|_| Refused::fault("a challenge could not be shown"))?;
    answer["type"] = json!("totp");
    Ok(Json(answer))
}

/// `POST /factors/{id}/verify`: the session rises to aal2 and gets new tokens; the user's others below it end.
pub(super) async fn verify(
    State(app): State<App>,
    Path(id): Path<String>,
    origin: Origin,
    caller: Caller,
    Body(asked): Body<VerifyFactor>,
) -> Result<Json<Value>, Refused> {
    limit(&app, Limit::FactorVerify, &origin)?;
    let mut client = app.db.auth.get().await?;
    let tx = client.transaction().await?;
    let judged = judge(&app, &tx, &caller, &id, &asked, &origin).await;
    let (factor, step) = match judged {
        Ok(judged) => judged,
        Err(refused) => {
            // The try counts, and a challenge that is over is gone, whatever the answer.
            tx.commit().await?;
            let traits = json!({"factor_id": uuid(&id), "reason": refused.code()});
            audit(&client, &origin, "verification_refused", Some(&caller.user), traits).await?;
            return Err(refused);
        }
    };
    tx.execute(
        "update auth.mfa_factors set status = 'verified', last_step = $2, updated_at = now()
         where id = $1::text::uuid",
        &[&factor.id, &step],
    )
    .await?;
    // One that somebody else began at aal1 must not be confirmed now, by whoever knows its secret.
    tx.execute(
        "delete from auth.mfa_factors where user_id = $1::text::uuid and status = 'unverified'",
        &[&caller.user],
    )
    .await?;
    tx.execute("delete from auth.mfa_challenges where factor_id = $1::text::uuid", &[&factor.id]).await?;
    let was: String = tx
        .query_opt(
            "select aal::text from auth.sessions where id = $1::text::uuid for update",
            &[&caller.session],
        )
        .await?
        .ok_or_else(|| {
            Refused::forbidden("session_not_found", "the login behind this token has ended: log in again")
        })?
        .get(0);
    tx.execute(
        "update auth.sessions set aal = 'aal2', factor_id = $2::text::uuid, updated_at = now()
         where id = $1::text::uuid",
        &[&caller.session, &factor.id],
    )
    .await?;
    session::claim(&tx, &caller.session, "totp").await?;
    tx.execute("delete from auth.sessions where user_id = $1::text::uuid and aal = 'aal1'", &[&caller.user])
        .await?;
    let action = if factor.verified { "challenge_verified" } else { "factor_verified" };
    audit(&tx, &origin, action, Some(&caller.user), json!({"factor_id": factor.id})).await?;
    attempts::succeeded(&tx, Tried::Code, &caller.user).await?;
    let answer = session::renew(&app, &tx, &caller.user, &caller.session, was == "aal1").await?;
    tx.commit().await?;
    Ok(Json(answer))
}

/// Whether the code holds; the factor and the step it is of.
async fn judge(
    app: &App,
    tx: &deadpool_postgres::Transaction<'_>,
    caller: &Caller,
    id: &str,
    asked: &VerifyFactor,
    origin: &Origin,
) -> Result<(Stored, i64), Refused> {
    // One at a time per account: whether it has a factor stands still.
    let row = tx
        .query_one(
            "select exists (select from auth.mfa_factors f where f.user_id = u.id and f.status = 'verified')
             from auth.users u where u.id = $1::text::uuid for update",
            &[&caller.user],
        )
        .await?;
    let factor = find(tx, caller, id).await?;
    if !factor.verified && row.get::<_, bool>(0) && !caller.aal2 {
        let message = "another factor needs a login confirmed with the one-time code of the first";
        return Err(Refused::forbidden("insufficient_aal", message));
    }
    let unknown =
        || Refused::not_found("mfa_factor_not_found", "this factor has no such challenge: ask for one");
    let challenge = uuid(&asked.challenge_id).ok_or_else(unknown)?;
    let row = tx
        .query_opt(
            "select ip_address, created_at < now() - make_interval(secs => $3) from auth.mfa_challenges
             where id = $1::text::uuid and factor_id = $2::text::uuid and verified_at is null",
            &[&challenge, &factor.id, &(LIFE as f64)],
        )
        .await?
        .ok_or_else(unknown)?;
    if row.get::<_, IpAddr>(0) != origin.ip {
        let message = "challenge and code came from different addresses: repeat both steps";
        return Err(Refused::unprocessable("mfa_ip_address_mismatch", message));
    }
    if row.get(1) {
        tx.execute("delete from auth.mfa_challenges where id = $1::text::uuid", &[&challenge]).await?;
        let message = "this challenge has expired: ask for another";
        return Err(Refused::unprocessable("mfa_challenge_expired", message));
    }
    let secret = app.keys.open_totp(&factor.id, &factor.secret).ok_or_else(|| {
        Refused::fault("the secret of a factor does not open: totp_key is not the one it was sealed with")
    })?;
    // Only from here on anything is learned about the code.
    attempts::begin(tx, Tried::Code, &caller.user).await?;
    let now = session::now().unsigned_abs();
    match step_of(&secret, &asked.code.0, now, factor.last_step) {
        Some(step) => Ok((factor, step)),
        None => {
            let message = "this code is wrong or was used before: wait for the next one";
            Err(Refused::unprocessable("mfa_verification_failed", message))
        }
    }
}

/// `DELETE /factors/{id}`: other sessions that it confirmed end, the caller's goes back to aal1.
pub(super) async fn remove(
    State(app): State<App>,
    Path(id): Path<String>,
    origin: Origin,
    caller: Caller,
) -> Result<Json<Value>, Refused> {
    limit(&app, Limit::Challenge, &origin)?;
    let mut client = app.db.auth.get().await?;
    let tx = client.transaction().await?;
    let factor = find(&tx, &caller, &id).await?;
    if factor.verified && !caller.aal2 {
        let message = "removing a verified factor needs a login confirmed with a one-time code";
        return Err(Refused::unprocessable("insufficient_aal", message));
    }
    tx.execute("delete from auth.mfa_factors where id = $1::text::uuid", &[&factor.id]).await?;
    tx.execute(
        "delete from auth.sessions where factor_id = $1::text::uuid and id <> $2::text::uuid",
        &[&factor.id, &caller.session],
    )
    .await?;
    let lowered = tx
        .execute(
            "update auth.sessions set aal = 'aal1', factor_id = null, updated_at = now()
             where id = $1::text::uuid and factor_id = $2::text::uuid",
            &[&caller.session, &factor.id],
        )
        .await?;
    if lowered > 0 {
        tx.execute(
            "delete from auth.mfa_amr_claims where session_id = $1::text::uuid and authentication_method = 'totp'",
            &[&caller.session],
        )
        .await?;
    }
    audit(&tx, &origin, "factor_deleted", Some(&caller.user), json!({"factor_id": factor.id})).await?;
    tx.commit().await?;
    Ok(Json(json!({"id": factor.id})))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B; 6 digits.
    const SECRET: &[u8] = b"12345678901234567890";

    #[test]
    fn the_vectors_of_rfc_6238_hold() {
        for (time, code) in [(59, "287082"), (1_111_111_109, "081804"), (2_000_000_000, "279037")] {
            assert_eq!(step_of(SECRET, code, time, None), Some(time as i64 / 30));
        }
    }

    #[test]
    fn one_step_of_skew_is_accepted_and_none_twice() {
        let (code, step) = ("081804", 1_111_111_109 / 30);
        for (off, ok) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let now = (step + off) as u64 * 30;
            assert_eq!(step_of(SECRET, code, now, None).is_some(), ok, "{off}");
            assert_eq!(step_of(SECRET, code, now, Some(step - 1)).is_some(), ok, "{off}");
            assert_eq!(step_of(SECRET, code, now, Some(step)), None);
            assert_eq!(step_of(SECRET, code, now, Some(step + 1)), None);
        }
    }

    #[test]
    fn a_code_is_six_digits_exactly() {
        for code in ["", "81804", " 081804", "081804 ", "0818040", "081805", "０８１８０４"] {
            assert_eq!(step_of(SECRET, code, 1_111_111_109, None), None, "{code}");
        }
    }

    #[test]
    fn what_is_shown_reads_in_an_authenticator() {
        let shown = shown(SECRET, "backup.example", "ada@example.org").unwrap();
        let read = totp_rs::Totp::from_url(&shown.uri.0).unwrap();
        assert_eq!(read.secret().as_bytes(), SECRET);
        assert_eq!((read.issuer(), read.account_name()), (Some("backup.example"), "ada@example.org"));
        assert_eq!((read.digits(), read.step()), (6, 30));
        assert_eq!(shown.secret.0, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert!(shown.qr_code.0.contains("<svg"));
    }
}
