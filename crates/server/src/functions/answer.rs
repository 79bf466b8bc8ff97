//! From what SQL answers to what the client is told: grants are signed where SQL says so, lists are fetched.
//!
//! May not sign anything but a blob of the vault that was asked for, whatever SQL says: a second look, for the day
//! SQL is wrong. Tested below and in `tests/server`.

use super::Refused;
use crate::app::App;
use crate::grants::{self, Announced, Grants};
use backupengine_api::{Code, Opaque, StoredBlob};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

/// A grant that SQL asks for.
#[derive(Deserialize)]
struct Presign {
    /// JSON pointer into the answer.
    at: String,
    method: String,
    bucket: String,
    prefix: String,
    key: String,
    length: Option<u64>,
    sha256: Option<Opaque>,
    md5: Option<Opaque>,
}

/// A list that SQL asks for.
#[derive(Deserialize)]
struct List {
    at: String,
    bucket: String,
    prefix: String,
    under: String,
    #[serde(default)]
    hidden: Vec<u32>,
    cursor: Option<String>,
}

/// Does what the answer asks for and takes those words out of it.
pub(super) async fn finish(
    app: &App,
    grants: &Grants,
    operation: &str,
    args: &Value,
    mut answer: Value,
) -> Result<Value, Refused> {
    let prefix = vault_prefix(args, &answer);
    let (presign, list) = match &mut answer {
        Value::Object(fields) => {
            fields.remove("grant_seconds");
            (fields.remove("presign"), fields.remove("list"))
        }
        _ => (None, None),
    };
    if let Some(presign) = presign {
        let wanted: Vec<Presign> =
            serde_json::from_value(presign).map_err(|_| wrong(operation, "presign"))?;
        app.metrics.grants(wanted.len() as u64);
        for one in wanted {
            let (at, grant) = signed(grants, prefix.as_deref(), one)
                .map_err(|code| code.unwrap_or_else(|| wrong(operation, "a grant")))?;
            *answer.pointer_mut(&at).ok_or_else(|| wrong(operation, "the place of a grant"))? = grant;
        }
    }
    if let Some(list) = list {
        let list: List = serde_json::from_value(list).map_err(|_| wrong(operation, "list"))?;
        if list.bucket != grants.bucket() || Some(&list.prefix) != prefix.as_ref() {
            return Err(wrong(operation, "the place of a list"));
        }
        fill(app, grants, operation, list, &mut answer).await?;
    }
    if let (Value::Object(fields), "mount" | "urls") = (&mut answer, operation) {
        fields.insert("grant_seconds".to_owned(), grants.seconds().into());
    }
    Ok(answer)
}

/// Prefix of the vault a call is about.
pub(super) fn vault_prefix(args: &Value, answer: &Value) -> Option<String> {
    let named = args.get("vault").or_else(|| answer.pointer("/vault/vault")).and_then(Value::as_str)?;
    let digits = named.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    (named.len() == 32 && digits).then(|| format!("{named}/"))
}

fn wrong(operation: &str, what: &str) -> Refused {
    tracing::error!(operation, what, "SQL asked for what the front does not do");
    Refused::of(Code::Internal)
}

/// A grant and where it goes. `Err(None)` for what must never be signed.
fn signed(grants: &Grants, prefix: Option<&str>, one: Presign) -> Result<(String, Value), Option<Refused>> {
    let ours = one.bucket == grants.bucket() && Some(one.prefix.as_str()) == prefix;
    if !ours || !grants::is_blob_name(&one.key) {
        return Err(None);
    }
    let key = format!("{}{}", one.prefix, one.key);
    let grant = match one.method.as_str() {
        "GET" => json!(grants.get(&key)),
        "PUT" => {
            let (Some(length), Some(sha256)) = (one.length, one.sha256) else { return Err(None) };
            let bytes = |value: &Opaque, length| (value.0.len() == length).then(|| STANDARD.encode(&value.0));
            let sha256 = bytes(&sha256, 32).ok_or(None)?;
            let md5 = one.md5.as_ref().map(|md5| bytes(md5, 16).ok_or(None)).transpose()?;
            let announced = Announced { length, sha256: &sha256, md5: md5.as_deref() };
            let grant = grants.put(&key, &announced).ok_or_else(|| {
                Some(Refused::new(
                    Code::BadRequest,
                    "This server's store needs the MD5 of every blob as well.",
                ))
            })?;
            json!(grant)
        }
        _ => return Err(None),
    };
    Ok((one.at, grant))
}

/// One page of names, without those of sessions the caller may not see.
async fn fill(
    app: &App,
    grants: &Grants,
    operation: &str,
    list: List,
    answer: &mut Value,
) -> Result<(), Refused> {
    let List { at, prefix, under, hidden, cursor, .. } = list;
    let whole = format!("{prefix}{under}");
    // The cursor is the last name of the page before: nothing of the store's own goes out or comes in.
    if cursor.as_ref().is_some_and(|name| !grants::is_blob_name(name) || !name.starts_with(&under)) {
        return Err(Refused::new(Code::BadRequest, "The cursor is not one of this list."));
    }
    let after = cursor.map(|name| format!("{prefix}{name}"));
    let page = grants.list(&app.http, &whole, after.as_deref()).await;
    let (page, more) = page.map_err(Refused::server)?;
    let name = |key: &str| key.strip_prefix(&prefix).map(str::to_owned);
    let next = page.last().filter(|_| more).and_then(|last| name(&last.key));
    let seen = page.iter().filter_map(|found| {
        let name = name(&found.key).filter(|name| grants::is_blob_name(name))?;
        let session = session_of(&name);
        let hidden = session.is_some_and(|session| hidden.contains(&session));
        (!hidden).then_some(StoredBlob { name, size: found.size })
    });
    let blobs = json!(seen.collect::<Vec<_>>());
    *answer.pointer_mut(&at).ok_or_else(|| wrong(operation, "the place of a list"))? = blobs;
    if let Value::Object(fields) = answer {
        match next {
            Some(next) => fields.insert("cursor".to_owned(), next.into()),
            None => fields.remove("cursor"),
        };
    }
    Ok(())
}

/// The session a pack or root is of.
fn session_of(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("p/").or_else(|| name.strip_prefix("r/"))?;
    u32::from_str_radix(rest.get(..8)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Profile, Secret, Storage};
    use std::time::Duration;

    fn grants() -> Grants {
        let profile = Profile { checksum_sha256: true, if_none_match: true, ..Profile::NONE };
        Grants::new(&Storage {
            endpoint: "https://s3.example.org".to_owned(),
            seen_at: None,
            region: "eu".to_owned(),
            bucket: "bucket".to_owned(),
            access_key: "key".to_owned(),
            secret_key: Secret::new("secret".to_owned()),
            grant_life: Duration::from_secs(900),
            profile,
            lock: None,
        })
        .unwrap()
    }

    fn try_sign(change: impl FnOnce(&mut Value)) -> Result<(String, Value), Option<Refused>> {
        let mut one = json!({"at": "/grants/0", "method": "PUT", "bucket": "bucket", "prefix": "aa/",
            "key": "p/0000000a/00000001", "length": 5, "sha256": STANDARD.encode([1; 32])});
        change(&mut one);
        signed(&grants(), Some("aa/"), serde_json::from_value(one).unwrap())
    }

    #[test]
    fn nothing_but_blobs_of_the_vault_asked_for_is_signed() {
        assert!(try_sign(|_| ()).is_ok());
        assert!(try_sign(|one| one["method"] = "GET".into()).is_ok());
        for (field, value) in [
            ("bucket", json!("other")),
            ("prefix", json!("bb/")),
            ("prefix", json!("")),
            ("key", json!("../bb/r/0000000a")),
            ("key", json!("v/root")),
            ("key", json!("")),
            ("method", json!("DELETE")),
            ("length", json!(null)),
            ("sha256", json!(null)),
            ("sha256", json!("AAAA")),
            ("md5", json!("AAAA")),
        ] {
            let refused = try_sign(|one| one[field] = value.clone());
            assert_eq!(refused.unwrap_err(), None, "{field} {value}");
        }
    }

    #[test]
    fn the_vault_is_the_one_asked_for() {
        let vault = "0a".repeat(16);
        let prefix = Some(format!("{vault}/"));
        assert_eq!(vault_prefix(&json!({"vault": vault}), &json!({})), prefix);
        assert_eq!(vault_prefix(&json!({}), &json!({"vault": {"vault": vault}})), prefix);
        let other = json!({"vault": {"vault": "0b".repeat(16)}});
        assert_eq!(vault_prefix(&json!({"vault": vault}), &other), prefix);
        for bad in ["", "0a", "../../../../../../../../../../..", &"0A".repeat(16)] {
            assert_eq!(vault_prefix(&json!({"vault": bad}), &json!({})), None, "{bad}");
        }
    }

    #[test]
    fn sessions_are_read_off_names() {
        assert_eq!(session_of("p/0000000a/00000001"), Some(10));
        assert_eq!(session_of("r/000000ff"), Some(255));
        assert_eq!(session_of("k/0123456789abcdef"), None);
    }
}
