//! Which region, and making this machine a device of the account.
//!
//! **What it may not do.** Make new keys where the old ones still count.
//! **What always holds.** Keys are durable before the server knows them: a device it knows and nobody holds would be
//! lost, and the first of an account is its owner.
//! **Where it is tested.** Below; `tests/cli`.

use crate::account::{Account, Keys, Online, idem};
use crate::error::{Failure, Kind};
use crate::place::parse_server;
use backupengine_api::auth::Session;
use backupengine_api::{Code, Directory, EnrollDevice, EnrolledDevice, Opaque, op};
use backupengine_transfer::{Signer, TransferError, fetch_directory};
use std::sync::Arc;

/// Region and address, by what the server says of both.
///
/// # Errors
/// A region that is not served; none said where several are.
pub(crate) fn region_of(base: &str, wanted: Option<&str>) -> Result<(String, String), Failure> {
    choose(&fetch_directory(base)?, base, wanted)
}

fn choose(directory: &Directory, base: &str, wanted: Option<&str>) -> Result<(String, String), Failure> {
    let served = directory.regions.keys().cloned().collect::<Vec<_>>().join(", ");
    if let Some(wanted) = wanted {
        let Some(address) = directory.regions.get(wanted) else {
            return Err(Failure::usage(format!("{base} serves no region {wanted}"))
                .hint(format!("it serves {}", crate::output::shown(served.as_bytes()))));
        };
        return Ok((wanted.to_owned(), parse_server(address)?));
    }
    let here = directory.regions.iter().find(|(_, address)| {
        parse_server(address).is_ok_and(|address| address == base) || directory.regions.len() == 1
    });
    match here {
        Some((region, address)) => Ok((region.clone(), parse_server(address)?)),
        None => Err(Failure::usage(format!("{base} serves several regions")).hint(format!(
            "say which is the account's: --region, one of {}",
            crate::output::shown(served.as_bytes())
        ))),
    }
}

/// Keeps the login and makes this machine a device of its account, with the keys it has or with new ones.
///
/// # Errors
/// What the server says; when something cannot be kept.
pub(crate) fn enrol(account: Account, session: &Session) -> Result<(Online, EnrolledDevice), Failure> {
    account.save()?;
    let keys = match Keys::load(&account.secrets)? {
        Some(keys) => keys,
        None => new_keys(&account)?,
    };
    let mut online = Online::with(account, Arc::new(keys))?;
    online.keep(session)?;
    let enrolled = match register(&online) {
        Err(TransferError::Refused(refusal))
            if matches!(refusal.known(), Some(Code::DeviceRevoked | Code::AlreadyExists)) =>
        {
            crate::output::tell("The keys of this device do not count any more; new ones are made.");
            online.account.forget_keys()?;
            let keys = Arc::new(new_keys(&online.account)?);
            online = Online::with(online.account, keys)?;
            register(&online)?
        }
        other => other?,
    };
    if enrolled.device != online.keys.device() {
        return Err(Failure::new(
            Kind::Failed,
            "the server enrolled another device than this one".to_owned(),
        )
        .hint("try again; if it stays so, do not trust this server"));
    }
    Ok((online, enrolled))
}

fn new_keys(account: &Account) -> Result<Keys, Failure> {
    let keys = Keys::create()?;
    keys.save(&account.secrets)?;
    Ok(keys)
}

fn register(online: &Online) -> Result<EnrolledDevice, TransferError> {
    let keys = &online.keys;
    let idem = idem().map_err(|failure| TransferError::System(failure.message()))?;
    online.call::<op::DeviceEnroll>(&EnrollDevice {
        sign_public: Opaque(keys.sign_public().to_vec()),
        seal_public: Opaque(keys.seal_public().to_vec()),
        seal_signature: Some(Opaque(keys.seal_signature().to_vec())),
        device: keys.device(),
        region: online.account.profile.region.clone(),
        idem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(regions: &[(&str, &str)]) -> Directory {
        Directory { regions: regions.iter().map(|(r, a)| ((*r).to_owned(), (*a).to_owned())).collect() }
    }

    #[test]
    fn the_region_is_said_or_known_by_the_address() {
        let two = directory(&[("ca", "https://ca.example"), ("eu", "https://eu.example/")]);
        let chosen = |base, wanted| choose(&two, base, wanted);
        assert_eq!(
            chosen("https://ca.example", Some("eu")).unwrap(),
            ("eu".into(), "https://eu.example".into())
        );
        assert_eq!(chosen("https://eu.example", None).unwrap().0, "eu");
        assert_eq!(chosen("https://eu.example", Some("us")).unwrap_err().kind, Kind::Usage);
        assert_eq!(chosen("https://other.example", None).unwrap_err().kind, Kind::Usage);
        let one = directory(&[("eu", "https://eu.example")]);
        assert_eq!(choose(&one, "https://front.example", None).unwrap().1, "https://eu.example");
        let plain = directory(&[("eu", "http://eu.example")]);
        assert!(choose(&plain, "https://front.example", Some("eu")).is_err());
    }
}
