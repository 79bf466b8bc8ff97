//! Counters, as text for Prometheus. No label holds anything that a client could choose.
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds in milliseconds; one more bucket holds the rest.
const BOUNDS: [u64; 11] = [2, 5, 10, 25, 50, 100, 250, 500, 1000, 5000, 30_000];

/// All counters.
#[derive(Default)]
pub struct Metrics {
    calls: Mutex<BTreeMap<Cow<'static, str>, Calls>>,
    grants: AtomicU64,
    swept: AtomicU64,
    unswept: AtomicU64,
    locked: AtomicU64,
}

#[derive(Default)]
struct Calls {
    by_status: BTreeMap<u16, u64>,
    buckets: [u64; BOUNDS.len() + 1],
    total: Duration,
}

impl Metrics {
    /// A call that was answered.
    pub fn call(&self, op: Cow<'static, str>, status: u16, took: Duration) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = calls.entry(op).or_default();
        *calls.by_status.entry(status).or_default() += 1;
        let bucket =
            BOUNDS.iter().position(|&bound| took <= Duration::from_millis(bound)).unwrap_or(BOUNDS.len());
        calls.buckets[bucket] += 1;
        calls.total += took;
    }

    /// Grants that were signed.
    pub fn grants(&self, count: u64) {
        self.grants.fetch_add(count, Ordering::Relaxed);
    }

    /// Objects that were deleted from the bucket.
    pub fn swept(&self, objects: u64) {
        self.swept.fetch_add(objects, Ordering::Relaxed);
    }

    /// Objects of a vault could not be deleted.
    pub fn unswept(&self) {
        self.unswept.fetch_add(1, Ordering::Relaxed);
    }

    /// Objects that were given up and are locked by the store.
    pub fn locked(&self, objects: u64) {
        self.locked.fetch_add(objects, Ordering::Relaxed);
    }

    /// For Prometheus.
    pub fn text(&self) -> String {
        let mut text = String::from("# TYPE backupengine_calls_total counter\n");
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        for (op, calls) in calls.iter() {
            for (status, count) in &calls.by_status {
                let _ = writeln!(text, "backupengine_calls_total{{op=\"{op}\",status=\"{status}\"}} {count}");
            }
        }
        text.push_str("# TYPE backupengine_call_seconds histogram\n");
        for (op, calls) in calls.iter() {
            let mut sum = 0;
            for (at, count) in calls.buckets.iter().enumerate() {
                sum += count;
                let bound = BOUNDS
                    .get(at)
                    .map_or("+Inf".to_owned(), |ms| Duration::from_millis(*ms).as_secs_f64().to_string());
                let _ =
                    writeln!(text, "backupengine_call_seconds_bucket{{op=\"{op}\",le=\"{bound}\"}} {sum}");
            }
            let _ =
                writeln!(text, "backupengine_call_seconds_sum{{op=\"{op}\"}} {}", calls.total.as_secs_f64());
            let _ = writeln!(text, "backupengine_call_seconds_count{{op=\"{op}\"}} {sum}");
        }
        for (name, count) in [
            ("grants_signed", &self.grants),
            ("objects_deleted", &self.swept),
            ("deletions_failed", &self.unswept),
            ("deletions_locked", &self.locked),
        ] {
            let count = count.load(Ordering::Relaxed);
            let _ =
                write!(text, "# TYPE backupengine_{name}_total counter\nbackupengine_{name}_total {count}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up() {
        let metrics = Metrics::default();
        for ms in [1, 3, 300, 60_000] {
            metrics.call("mount".into(), 200, Duration::from_millis(ms));
        }
        metrics.call("mount".into(), 403, Duration::ZERO);
        metrics.grants(256);
        metrics.swept(7);
        metrics.unswept();
        let text = metrics.text();
        for line in [
            "backupengine_calls_total{op=\"mount\",status=\"200\"} 4",
            "backupengine_calls_total{op=\"mount\",status=\"403\"} 1",
            "backupengine_call_seconds_bucket{op=\"mount\",le=\"0.002\"} 2",
            "backupengine_call_seconds_bucket{op=\"mount\",le=\"0.5\"} 4",
            "backupengine_call_seconds_bucket{op=\"mount\",le=\"+Inf\"} 5",
            "backupengine_call_seconds_count{op=\"mount\"} 5",
            "backupengine_grants_signed_total 256",
            "backupengine_objects_deleted_total 7",
            "backupengine_deletions_failed_total 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
