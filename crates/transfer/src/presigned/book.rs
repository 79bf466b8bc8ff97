//! Grants to read: which are at hand, which are to be renewed, and one call for all that are wanted at once.
//!
//! **What always holds.** A grant is renewed from two thirds of its life on; wants of three milliseconds become one
//! call of at most 256 blobs, filled up with what follows in the same session; nobody waits for a renewal ahead
//! of need. **Where it is tested.** Below; `tests/server`.
use super::{Core, store_error};
use crate::TransferError;
use backupengine_api::{GRANTS_MAX, GetGrant, Grant, MountedVault, Want, WantUrls, op};
use backupengine_model::SessionNo;
use backupengine_store::{BlobKey, ErrorKind, StoreError};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long wants are gathered.
const GATHER: Duration = Duration::from_millis(3);
/// Grants that are remembered at most: a bound, not a budget.
const REMEMBERED: usize = 65_536;

/// All grants to read.
pub(crate) struct Book {
    state: Mutex<State>,
    /// Whether packs beyond those wanted may be asked for: a writer may not read everything.
    looks_ahead: bool,
    lease: String,
}

#[derive(Default)]
struct State {
    known: HashMap<BlobKey, Known>,
    wanted: BTreeSet<BlobKey>,
    /// Blobs of the call that is under way: who wants one of them waits for its answer.
    asked: BTreeSet<BlobKey>,
    waiting: HashMap<BlobKey, Vec<oneshot::Sender<Result<Grant, StoreError>>>>,
    gathering: bool,
}

#[derive(Clone)]
struct Known {
    grant: Grant,
    received: Instant,
    life: Duration,
}

impl Book {
    /// With the grants that the opening call brought.
    pub(crate) fn new(opened: &MountedVault) -> Self {
        let mut state = State::default();
        let life = Duration::from_secs(opened.grant_seconds.into());
        for found in &opened.grants {
            state.note(found, life);
        }
        let looks_ahead = opened.role != "writer";
        Self { state: Mutex::new(state), looks_ahead, lease: opened.lease.id.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a grant that storage did not take.
    pub(crate) fn drop_grant(&self, key: BlobKey, refused: &Grant) {
        let mut state = self.lock();
        if state.known.get(&key).is_some_and(|known| known.grant == *refused) {
            state.known.remove(&key);
        }
    }
}

impl State {
    /// Puts a blob among those that are wanted, unless it is being asked for; whether gathering is to begin.
    fn want(&mut self, key: BlobKey) -> bool {
        !self.asked.contains(&key) && self.wanted.insert(key) && !std::mem::replace(&mut self.gathering, true)
    }

    fn note(&mut self, found: &GetGrant, life: Duration) {
        let (Some(key), Some(grant)) = (key_of(found), &found.url) else { return };
        if self.known.len() >= REMEMBERED {
            self.known.retain(|_, known| known.received.elapsed() < known.life);
        }
        if self.known.len() < REMEMBERED {
            self.known.insert(key, Known { grant: grant.clone(), received: Instant::now(), life });
        }
    }
}

impl Core {
    /// A grant for this blob that is good for now.
    pub(crate) async fn grant(self: &Arc<Self>, key: BlobKey) -> Result<Grant, StoreError> {
        let (known, waiting) = {
            let mut state = self.book.lock();
            let known = state.known.get(&key).filter(|known| known.received.elapsed() < known.life).cloned();
            let renew = known.as_ref().is_none_or(|known| known.received.elapsed() * 3 >= known.life * 2);
            let waiting = known.is_none().then(|| {
                let (sender, receiver) = oneshot::channel();
                state.waiting.entry(key).or_default().push(sender);
                receiver
            });
            if renew && state.want(key) {
                self.runtime.spawn(Arc::clone(self).gather());
            }
            (known, waiting)
        };
        match (known, waiting) {
            (Some(known), _) => Ok(known.grant),
            (None, Some(waiting)) => waiting.await.unwrap_or_else(|_| {
                Err(StoreError::new(ErrorKind::Unavailable, "the call for a grant broke off").about(key))
            }),
            (None, None) => Err(StoreError::new(ErrorKind::Io, "no grant").about(key)),
        }
    }

    /// Has grants asked for that are likely to be needed, and connections made; nobody waits for them.
    pub(crate) fn expect(self: &Arc<Self>, keys: &[BlobKey]) {
        if !self.book.looks_ahead {
            return;
        }
        let keys: Vec<BlobKey> =
            keys.iter().filter(|key| !matches!(key, BlobKey::Envelope(_))).copied().collect();
        {
            let mut state = self.book.lock();
            let mut begin = false;
            for key in &keys {
                let good =
                    state.known.get(key).is_some_and(|known| known.received.elapsed() * 3 < known.life * 2);
                begin |= !good && state.want(*key);
            }
            if begin {
                self.runtime.spawn(Arc::clone(self).gather());
            }
        }
        self.warm(&keys);
    }

    /// One call for everything that is wanted now; again while more is.
    async fn gather(self: Arc<Self>) {
        loop {
            tokio::time::sleep(GATHER).await;
            let batch: Vec<BlobKey> = {
                let mut state = self.book.lock();
                if state.wanted.is_empty() {
                    state.gathering = false;
                    return;
                }
                let mut batch = std::mem::take(&mut state.wanted);
                if let Some(&rest) = batch.iter().nth(GRANTS_MAX as usize) {
                    state.wanted = batch.split_off(&rest);
                }
                state.asked.clone_from(&batch);
                batch.into_iter().collect()
            };
            if !self.ask_for(&batch).await {
                // To a writer one blob that it may not read is a reason to refuse the whole call.
                for key in batch {
                    self.ask_for(&[key]).await;
                }
            }
            self.book.lock().asked.clear();
        }
    }

    /// Renews the lease with all of these in it. What asks for no grants does not renew it; and the control plane forgets
    /// one that nobody renewed for days, with what was in it.
    pub(crate) async fn renew_lease(&self, opened: &[SessionNo]) -> Result<(), TransferError> {
        let roots: Vec<BlobKey> = opened.iter().map(|session| BlobKey::Root(*session)).collect();
        for part in roots.chunks(GRANTS_MAX as usize) {
            let lease = Some(self.book.lease.clone());
            let request = WantUrls { vault: self.vault, want: plan(part, false), lease };
            self.account.ask::<op::Urls>(&request).await?;
        }
        Ok(())
    }

    /// One call, and its answer to all who wait; false where it is to be asked for one by one.
    async fn ask_for(&self, batch: &[BlobKey]) -> bool {
        let asked = Instant::now();
        let want = plan(batch, self.book.looks_ahead);
        let request = WantUrls { vault: self.vault, want, lease: Some(self.book.lease.clone()) };
        let answer = self.account.ask::<op::Urls>(&request).await.map_err(store_error);
        let denied = matches!(&answer, Err(error) if error.kind == ErrorKind::Denied);
        if denied && batch.len() > 1 && !self.book.looks_ahead {
            return false;
        }
        let mut state = self.book.lock();
        let mut verdicts = HashMap::new();
        if let Ok(urls) = &answer {
            // Counted from before the call: a grant never lives longer than is believed here.
            let life = Duration::from_secs(urls.grant_seconds.into()).saturating_sub(asked.elapsed());
            for found in &urls.grants {
                state.note(found, life);
                if let Some(key) = key_of(found) {
                    verdicts.insert(key, verdict(key, found));
                }
            }
        }
        for &key in batch {
            state.asked.remove(&key);
            let found = match &answer {
                Ok(_) => verdicts.remove(&key).unwrap_or_else(|| Err(not_there(key))),
                Err(error) => Err(error.clone().about(key)),
            };
            for waiting in state.waiting.remove(&key).into_iter().flatten() {
                // Whoever does not wait any more needs no answer.
                drop(waiting.send(found.clone()));
            }
        }
        true
    }
}

fn verdict(key: BlobKey, found: &GetGrant) -> Result<Grant, StoreError> {
    match &found.url {
        Some(grant) => Ok(grant.clone()),
        None => Err(not_there(key)),
    }
}

fn not_there(key: BlobKey) -> StoreError {
    StoreError::new(ErrorKind::NotFound, "the control plane knows no such blob").about(key)
}

fn key_of(found: &GetGrant) -> Option<BlobKey> {
    match found.kind.as_str() {
        "pack" => Some(BlobKey::Pack(SessionNo(found.session), found.number)),
        "root" => Some(BlobKey::Root(SessionNo(found.session))),
        _ => None,
    }
}

/// Wants for these blobs (sorted), with their neighbours as far as the call goes where that is allowed.
fn plan(keys: &[BlobKey], look_ahead: bool) -> Vec<Want> {
    let mut wants: Vec<Want> = Vec::new();
    for key in keys {
        match *key {
            BlobKey::Pack(session, number) => match wants.last_mut() {
                Some(run)
                    if run.kind == "pack" && run.session == session.0 && run.from + run.count == number =>
                {
                    run.count += 1;
                }
                _ => wants.push(Want { kind: "pack".to_owned(), session: session.0, from: number, count: 1 }),
            },
            BlobKey::Root(session) => {
                wants.push(Want { kind: "root".to_owned(), session: session.0, from: 0, count: 1 });
            }
            BlobKey::Envelope(_) => {}
        }
    }
    if look_ahead {
        fill(&mut wants);
    }
    wants
}

/// Draws runs out to what lies between them in the same session, and the last one to the end of the call.
fn fill(wants: &mut Vec<Want>) {
    let mut left = GRANTS_MAX.saturating_sub(wants.iter().map(|want| want.count).sum());
    let mut filled: Vec<Want> = Vec::with_capacity(wants.len());
    for want in wants.drain(..) {
        match filled.last_mut() {
            Some(run) if run.kind == "pack" && want.kind == "pack" && run.session == want.session => {
                let gap = want.from - (run.from + run.count);
                if gap <= left {
                    left -= gap;
                    run.count += gap + want.count;
                } else {
                    filled.push(want);
                }
            }
            _ => filled.push(want),
        }
    }
    if let Some(last) = filled.iter_mut().rfind(|want| want.kind == "pack") {
        last.count += left.min(u32::MAX - last.from - last.count);
    }
    *wants = filled;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(session: u32, number: u32) -> BlobKey {
        BlobKey::Pack(SessionNo(session), number)
    }

    #[test]
    fn neighbours_are_one_run_and_the_call_is_filled() {
        let keys = [pack(1, 4), pack(1, 5), pack(1, 9), pack(2, 0), BlobKey::Root(SessionNo(3))];
        let runs = |ahead| -> Vec<(String, u32, u32, u32)> {
            plan(&keys, ahead).into_iter().map(|w| (w.kind, w.session, w.from, w.count)).collect()
        };
        let run = |kind: &str, session, from, count| (kind.to_owned(), session, from, count);
        let (a, b) = (run("pack", 1, 4, 2), run("pack", 1, 9, 1));
        let root = run("root", 3, 0, 1);
        assert_eq!(runs(false), [a.clone(), b.clone(), run("pack", 2, 0, 1), root.clone()]);
        assert_eq!(runs(true), [run("pack", 1, 4, 6), run("pack", 2, 0, 1 + 248), root]);
        let last = plan(&[pack(1, u32::MAX - 1)], true);
        assert_eq!((last[0].from, last[0].count), (u32::MAX - 1, 1));
        assert_eq!(plan(&[BlobKey::Root(SessionNo(3))], true).len(), 1);
    }
}
