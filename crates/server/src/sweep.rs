//! Deletes from the bucket what was given up for good, with a key of its own that may do nothing else.
//!
//! **What it may not do.** Decide what goes: `app.doomed` says it. Delete under a name that is none of a pack or root of
//! the vault the entry is of. **What always holds.** Nothing is deleted before it is due: by then the last grant for it has
//! died. Roots go before packs. An entry is crossed out after its objects are gone, so that what was broken off is done
//! again; doing it twice, or in two servers at once, is harmless. One vault's trouble keeps no other waiting. What the
//! store keeps locked stays, and is tried again when its lock ends; it keeps nothing else waiting. Packs are
//! looked up in the bucket and not counted through: a session may claim any number of them. **Where it is tested.**
//! Below; `tests/server/sweep.rs`, with a real bucket.
use crate::ServerError;
use crate::app::App;
use crate::config::Config;
use crate::grants::{self, Grants, is_blob_name};
use crate::metrics::Metrics;
use deadpool_postgres::Pool;
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};

/// Entries of one call to the database.
const ENTRIES: i32 = 64;
/// Such calls of one pass: the next pass goes on.
const ROUNDS: usize = 64;
/// Deletions under way at once.
const AT_ONCE: usize = 16;

/// What deletes.
pub struct Sweep {
    front: Pool,
    http: reqwest::Client,
    metrics: Arc<Metrics>,
    /// Lists, as whoever signs grants.
    looks: Grants,
    /// Deletes.
    deletes: Grants,
    every: Duration,
}

/// What one pass came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Objects deleted.
    pub objects: u64,
    /// Vaults whose objects could not be: the next pass tries again.
    pub failed: usize,
    /// Objects that are locked: tried again when that ends.
    pub locked: u64,
}

/// What became of one entry.
#[derive(Default)]
struct Cleared {
    objects: u64,
    locked: u64,
    /// When the last lock ends, in seconds since 1970.
    until: i64,
}

impl Cleared {
    fn note(&mut self, one: One) {
        match one {
            One::Gone => self.objects += 1,
            One::Locked(until) => {
                self.locked += 1;
                self.until = self.until.max(until);
            }
        }
    }
}

/// What became of one object.
enum One {
    Gone,
    /// Until when, in seconds since 1970.
    Locked(i64),
}

/// An entry of `app.doomed`.
#[derive(Debug, Deserialize)]
struct Due {
    vault: String,
    session: u32,
    due: String,
    prefix: String,
    bucket: String,
    root: bool,
    /// First number, and the one after the last.
    packs: Vec<(u64, u64)>,
}

impl Due {
    /// Whether an object of the bucket is one of its packs.
    fn has_pack(&self, key: &str) -> bool {
        let Some(name) = key.strip_prefix(&self.prefix).filter(|name| is_blob_name(name)) else {
            return false;
        };
        let of_session = name.strip_prefix(&format!("p/{:08x}/", self.session));
        let number = of_session.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        number.is_some_and(|number| self.packs.iter().any(|(from, until)| (*from..*until).contains(&number)))
    }
}

/// A sweep that goes on until it is dropped.
pub(crate) struct Sweeping(JoinHandle<()>);

impl Drop for Sweeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sweeps from time to time, where there is a key for it.
pub(crate) fn start(app: &App) -> Result<Option<Sweeping>, ServerError> {
    let Some(sweep) = Sweep::new(app)? else {
        tracing::warn!(
            "nothing is deleted from the bucket, whatever is given up: BACKUPENGINE_S3_SWEEP_ACCESS_KEY is not set"
        );
        return Ok(None);
    };
    Ok(Some(Sweeping(tokio::spawn(async move {
        loop {
            tokio::time::sleep(sweep.every).await;
            if let Err(cause) = sweep.pass().await {
                tracing::warn!(%cause, "what was given up could not be asked for");
            }
        }
    }))))
}

impl Sweep {
    /// `None` where there is no key for it.
    ///
    /// # Errors
    /// [`ServerError::Setting`].
    pub fn new(app: &App) -> Result<Option<Self>, ServerError> {
        let Config { storage, sweep, .. } = &*app.config;
        let Some(sweep) = sweep else { return Ok(None) };
        let mut own = storage.clone();
        sweep.access_key.clone_into(&mut own.access_key);
        own.secret_key = sweep.secret_key.clone();
        Ok(Some(Self {
            front: app.db.front.clone(),
            http: app.http.clone(),
            metrics: Arc::clone(&app.metrics),
            looks: Grants::new(storage)?,
            deletes: Grants::new(&own)?,
            every: sweep.every,
        }))
    }

    /// Everything that is due, as far as one pass goes.
    ///
    /// # Errors
    /// [`ServerError`] where the database does not say what is; trouble with the bucket is counted and logged.
    pub async fn pass(&self) -> Result<Swept, ServerError> {
        let mut swept = Swept::default();
        let mut without: Vec<String> = Vec::new();
        let mut put_off: HashSet<(String, u32)> = HashSet::new();
        for _ in 0..ROUNDS {
            let due = self.due(&without).await?;
            if due.is_empty() {
                break;
            }
            for entry in due {
                // Its roots come first: where one is left, its packs stay as well.
                if without.contains(&entry.vault) || put_off.contains(&(entry.vault.clone(), entry.session)) {
                    continue;
                }
                match self.clear(&entry).await {
                    Ok(Cleared { objects, locked, until }) => {
                        swept.objects += objects;
                        swept.locked += locked;
                        self.metrics.swept(objects);
                        if locked == 0 {
                            self.done(&entry).await?;
                            continue;
                        }
                        let (vault, session) = (&entry.vault, entry.session);
                        tracing::info!(
                            vault,
                            session,
                            locked,
                            until,
                            "what was given up is locked by the store"
                        );
                        self.metrics.locked(locked);
                        self.later(&entry, until).await?;
                        put_off.insert((entry.vault, entry.session));
                    }
                    Err(cause) => {
                        tracing::warn!(%cause, vault = entry.vault, "what was given up could not be deleted");
                        self.metrics.unswept();
                        without.push(entry.vault);
                    }
                }
            }
        }
        swept.failed = without.len();
        Ok(swept)
    }

    async fn due(&self, without: &[String]) -> Result<Vec<Due>, ServerError> {
        let client = self.front.get().await.map_err(|cause| ServerError::Pool(cause.to_string()))?;
        let row = client.query_one("select api.sweep_due($1, $2)", &[&ENTRIES, &without]).await?;
        let told: serde_json::Value = row.try_get(0)?;
        serde_json::from_value(told)
            .map_err(|cause| ServerError::Other(format!("what is due does not read: {cause}")))
    }

    async fn done(&self, entry: &Due) -> Result<(), ServerError> {
        let client = self.front.get().await.map_err(|cause| ServerError::Pool(cause.to_string()))?;
        let statement = "select api.sweep_done($1, $2, $3::text::timestamptz)";
        client.execute(statement, &[&entry.vault, &i64::from(entry.session), &entry.due]).await?;
        Ok(())
    }

    /// Puts off what is due of a session, all of it: where its root stays, its packs do.
    async fn later(&self, entry: &Due, until: i64) -> Result<(), ServerError> {
        let client = self.front.get().await.map_err(|cause| ServerError::Pool(cause.to_string()))?;
        let statement = "select api.sweep_later($1, $2, $3)";
        client.execute(statement, &[&entry.vault, &i64::from(entry.session), &until]).await?;
        Ok(())
    }

    /// Deletes the objects of one entry, the root first. Where that is locked, its packs are left.
    async fn clear(&self, entry: &Due) -> Result<Cleared, ServerError> {
        let own = entry.prefix.strip_suffix('/') == Some(&entry.vault) && entry.vault.len() == 32;
        if !own || entry.bucket != self.deletes.bucket() {
            return Err(ServerError::Other(format!(
                "{}{} is not where vaults of this deployment lie",
                entry.bucket, entry.prefix
            )));
        }
        let mut cleared = Cleared::default();
        if entry.root {
            let root = format!("{}r/{:08x}", entry.prefix, entry.session);
            cleared.note(delete(&self.deletes, &self.looks, &self.http, &root).await?);
        }
        if entry.packs.is_empty() || cleared.locked > 0 {
            return Ok(cleared);
        }
        let under = format!("{}p/{:08x}/", entry.prefix, entry.session);
        let mut after: Option<String> = None;
        loop {
            let (page, more) = self.looks.list(&self.http, &under, after.as_deref()).await?;
            let last = page.last().map(|last| last.key.clone());
            let goes = page.into_iter().map(|found| found.key).filter(|key| entry.has_pack(key)).collect();
            self.delete_all(goes, &mut cleared).await?;
            if !more {
                return Ok(cleared);
            }
            // A store that does not go on would keep us here for ever.
            if last <= after {
                return Err(ServerError::Storage("a LIST does not go on where it was asked to".to_owned()));
            }
            after = last;
        }
    }

    async fn delete_all(&self, keys: Vec<String>, cleared: &mut Cleared) -> Result<(), ServerError> {
        let mut under_way = JoinSet::new();
        for key in keys {
            if under_way.len() >= AT_ONCE {
                finished(under_way.join_next().await, cleared)?;
            }
            let (deletes, looks, http) = (self.deletes.clone(), self.looks.clone(), self.http.clone());
            under_way.spawn(async move { delete(&deletes, &looks, &http, &key).await });
        }
        while !under_way.is_empty() {
            finished(under_way.join_next().await, cleared)?;
        }
        Ok(())
    }
}

/// Deletes one object. Where that is refused, and the object says that it is locked, that is the reason.
async fn delete(
    deletes: &Grants,
    looks: &Grants,
    http: &reqwest::Client,
    key: &str,
) -> Result<One, ServerError> {
    let Err(refused) = deletes.delete(http, key).await else { return Ok(One::Gone) };
    match looks.locked_until(http, key).await {
        Ok(Some(until)) if until > grants::now() => Ok(One::Locked(until)),
        _ => Err(refused),
    }
}

fn finished(
    one: Option<Result<Result<One, ServerError>, tokio::task::JoinError>>,
    cleared: &mut Cleared,
) -> Result<(), ServerError> {
    let broke_off =
        |cause: tokio::task::JoinError| ServerError::Other(format!("a deletion broke off: {cause}"));
    if let Some(one) = one {
        cleared.note(one.map_err(broke_off)??);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_packs_of_an_entry_are_its_own() {
        let vault = "0123456789abcdef0123456789abcdef";
        let entry = Due {
            vault: vault.to_owned(),
            session: 10,
            due: String::new(),
            prefix: format!("{vault}/"),
            bucket: "bucket".to_owned(),
            root: false,
            packs: vec![(0, 2), (16, 17)],
        };
        for own in ["p/0000000a/00000000", "p/0000000a/00000001", "p/0000000a/00000010"] {
            assert!(entry.has_pack(&format!("{vault}/{own}")), "{own}");
        }
        for other in [
            "p/0000000a/00000002",
            "p/0000000a/0000000f",
            "p/0000000a/00000011",
            "p/0000000b/00000000",
            "p/0000000a/+0000001",
            "p/0000000a/00000001/x",
            "r/0000000a",
            "k/0000000000000000",
            "root",
        ] {
            assert!(!entry.has_pack(&format!("{vault}/{other}")), "{other}");
        }
        assert!(!entry.has_pack("p/0000000a/00000000"));
        assert!(!entry.has_pack(&format!("x{vault}/p/0000000a/00000000")));
    }
}
