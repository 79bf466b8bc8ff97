//! `mfa`: second factors of the account. One is needed at every login; a spare is good to have.
use crate::account::{CodeSource, Online, show_factor};
use crate::args::Mfa;
use crate::error::{Failure, Outcome};
use crate::output;
use crate::wire::Wire;
use backupengine_api::auth::Factor;
use serde_json::{Value, json};

/// Lists, adds or removes.
///
/// # Errors
/// A wrong code; no such factor; the last one; what the server says.
pub(crate) fn run(wire: &Wire, args: &Mfa) -> Result<Outcome, Failure> {
    let mut online = Online::open(wire.account()?)?;
    match args {
        Mfa::List => list(wire, &online)?,
        Mfa::Add { name, codes } => {
            let codes = CodeSource::new(wire, codes.totp_command.as_deref());
            codes.must_give()?;
            let access = online.access()?;
            let factor = online.identity().enroll_factor(&access, name)?;
            show_factor(&factor);
            let session = codes.verify(&online.identity(), &access, &factor.id, Some(&factor.totp.uri))?;
            online.keep(&session)?;
            done(wire, "added", &factor.id, name)?;
        }
        Mfa::Remove { factor, codes } => {
            let found = find(&factors(&online)?, factor)?;
            let codes = CodeSource::new(wire, codes.totp_command.as_deref());
            let access = online.access()?;
            match online.identity().remove_factor(&access, &found.id) {
                Err(backupengine_transfer::TransferError::Refused(refusal))
                    if refusal.code == "insufficient_aal" =>
                {
                    online.verify_again(&codes)?;
                    online.identity().remove_factor(&online.access()?, &found.id)?;
                }
                other => other?,
            }
            done(wire, "removed", &found.id, found.friendly_name.as_deref().unwrap_or_default())?;
        }
    }
    Ok(Outcome::Done)
}

fn factors(online: &Online) -> Result<Vec<Factor>, Failure> {
    Ok(online.identity().user(&online.access()?)?.factors)
}

fn list(wire: &Wire, online: &Online) -> Result<(), Failure> {
    let factors = factors(online)?;
    if wire.global.json {
        let all: Vec<Value> = factors
            .iter()
            .map(|factor| {
                json!({
                    "id": factor.id,
                    "name": factor.friendly_name,
                    "kind": factor.factor_type,
                    "status": factor.status,
                    "created": factor.created_at,
                })
            })
            .collect();
        return output::json(&all.into());
    }
    for factor in &factors {
        let name = factor.friendly_name.as_deref().unwrap_or("-");
        output::line(format!("{}  {:10}  {}", factor.id, factor.status, output::shown(name.as_bytes())))?;
    }
    Ok(())
}

/// By name, id, or the beginning of an id.
fn find(factors: &[Factor], what: &str) -> Result<Factor, Failure> {
    let fits = |f: &&Factor| {
        f.friendly_name.as_deref() == Some(what) || (!what.is_empty() && f.id.starts_with(what))
    };
    let mut fitting = factors.iter().filter(fits);
    let found = match (fitting.next(), fitting.next()) {
        (Some(one), None) => one.clone(),
        (None, _) => {
            return Err(Failure::usage(format!("no second factor is called {what:?}"))
                .hint("`backupengine mfa list` lists them"));
        }
        _ => {
            return Err(
                Failure::usage(format!("several second factors fit {what:?}")).hint("give more of the id")
            );
        }
    };
    let verified = factors.iter().filter(|f| f.status == "verified").count();
    if found.status == "verified" && verified == 1 {
        return Err(Failure::usage("it is the only second factor, and one is needed")
            .hint("add another first: backupengine mfa add"));
    }
    Ok(found)
}

fn done(wire: &Wire, what: &str, id: &str, name: &str) -> Result<(), Failure> {
    if wire.global.json {
        return output::json(&json!({"id": id, "name": name, "done": what}));
    }
    output::line(format!(
        "{} the second factor {}.",
        if what == "added" { "Added" } else { "Removed" },
        output::shown(name.as_bytes())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factor(id: &str, name: &str, status: &str) -> Factor {
        Factor {
            id: id.to_owned(),
            friendly_name: Some(name.to_owned()),
            factor_type: "totp".to_owned(),
            status: status.to_owned(),
            created_at: String::new(),
            updated_at: String::new(),
        }
    }

    #[test]
    fn the_last_factor_stays() {
        let two = [factor("aa1", "phone", "verified"), factor("aa2", "spare", "verified")];
        assert_eq!(find(&two, "spare").unwrap().id, "aa2");
        assert_eq!(find(&two, "aa1").unwrap().id, "aa1");
        for bad in ["aa", "", "other"] {
            assert!(find(&two, bad).is_err(), "{bad:?}");
        }
        let one = [factor("aa1", "phone", "verified"), factor("aa2", "spare", "unverified")];
        assert!(find(&one, "phone").is_err());
        assert!(find(&one, "spare").is_ok());
    }
}
