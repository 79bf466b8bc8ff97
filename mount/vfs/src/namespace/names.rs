//! Names at the top of the mount: times, devices, tags.
//!
//! Pure text. What always holds: names are safe on every filesystem (no `:` and other marks, no hidden or
//! trailing dots), different devices and tags keep different names, at most 180 bytes each.

use backupengine_model::{SnapshotInfo, Timestamp};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Longest part made of a device or tag: with time, id and separators a name stays within 255 bytes.
const PART_MAX: usize = 180;

/// A moment in UTC without marks that file systems refuse: `2026-11-23T14-10-05Z`. Years before 0 and after
/// 9999 are shown as the nearest moment that can be.
pub(crate) fn moment(time: Timestamp) -> String {
    const YEAR_0: i64 = -62_167_219_200;
    const YEAR_10000: i64 = 253_402_300_800;
    let secs = time.secs.clamp(YEAR_0, YEAR_10000 - 1);
    let (days, second) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}-{:02}-{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Year, month and day of the day `days` after 1970-01-01, in the proleptic Gregorian calendar: Howard
/// Hinnant's `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// A device or tag as part of a file name. Letters, digits and `-_+@.,=~` stay, everything else becomes `%XX`
/// byte by byte; a dot at either end too. What is too long is cut and ends in a hash of the whole.
pub(crate) fn part(text: &str) -> String {
    if text.is_empty() {
        return "%unnamed".to_owned();
    }
    let last = text.char_indices().next_back().map_or(0, |(at, _)| at);
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let inner = at != 0 && at != last;
        if c.is_alphanumeric() || "-_+@,=~".contains(c) || (c == '.' && inner) {
            out.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                // Writing into a String cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    if out.len() > PART_MAX {
        let mut cut = PART_MAX - 18;
        while !out.is_char_boundary(cut) {
            cut -= 1;
        }
        out.truncate(cut);
        let _ = write!(out, "%~{:016x}", super::numbers::hash(text.as_bytes()));
    }
    out
}

/// One name for each snapshot: `base`, and where several share it, for all of them the id behind it as far as
/// is needed. For all, so that a bare name never depends on which of them came first.
pub(crate) fn unique(snapshots: &[&SnapshotInfo], base: impl Fn(&SnapshotInfo) -> String) -> Vec<String> {
    let name = |snapshot: &SnapshotInfo, level: usize| {
        let id = snapshot.id.to_string();
        match level {
            0 => base(snapshot),
            1 => format!("{}_{}", base(snapshot), &id[..8]),
            2 => format!("{}_{id}", base(snapshot)),
            _ => format!("{}_{id}_{}", base(snapshot), snapshot.session.0),
        }
    };
    let mut levels = vec![0; snapshots.len()];
    loop {
        let names: Vec<String> = snapshots.iter().zip(&levels).map(|(s, level)| name(s, *level)).collect();
        let mut users: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, name) in names.iter().enumerate() {
            users.entry(name).or_default().push(at);
        }
        // The last level holds the session number and is shared by nobody of the same level.
        let shared: Vec<usize> = users
            .into_values()
            .filter(|users| users.len() > 1)
            .flatten()
            .filter(|&at| levels[at] < 3)
            .collect();
        if shared.is_empty() {
            return names;
        }
        shared.into_iter().for_each(|at| levels[at] += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::{DeviceId, SessionNo, SnapshotId};

    #[test]
    fn moments_are_utc_and_safe() {
        for (secs, text) in [
            (0, "1970-01-01T00-00-00Z"),
            (-1, "1969-12-31T23-59-59Z"),
            (951_782_400, "2000-02-29T00-00-00Z"),
            (1_795_443_005, "2026-11-23T14-10-05Z"),
            (4_107_542_400, "2100-03-01T00-00-00Z"),
            (i64::MIN, "0000-01-01T00-00-00Z"),
            (i64::MAX, "9999-12-31T23-59-59Z"),
        ] {
            assert_eq!(moment(Timestamp { secs, nanos: 999_999_999 }), text);
        }
    }

    #[test]
    fn parts_are_safe_and_stay_different() {
        let table = [
            ("laptop", "laptop"),
            ("Jo's Mac Pro", "Jo%27s%20Mac%20Pro"),
            ("büro-rechner.local", "büro-rechner.local"),
            ("..", "%2E%2E"),
            (".hidden", "%2Ehidden"),
            ("a/b:c\\d", "a%2Fb%3Ac%5Cd"),
            ("100%", "100%25"),
            ("a\nb\0", "a%0Ab%00"),
            ("", "%unnamed"),
            ("%unnamed", "%25unnamed"),
            ("tail.", "tail%2E"),
        ];
        for (from, to) in table {
            assert_eq!(part(from), to);
        }
        let (long, other) = ("x".repeat(300), "x".repeat(301));
        assert!(part(&long).len() == PART_MAX && part(&long) != part(&other));
        assert_eq!(part(&long[..PART_MAX]), long[..PART_MAX], "what just fits stays whole");
        let between = part(&format!("x{}", "ü".repeat(200)));
        assert!(between.starts_with("xüü") && (PART_MAX - 3..=PART_MAX).contains(&between.len()));
        assert!(part(&"ü".repeat(200)).len() <= PART_MAX);
    }

    fn snapshot(session: u32, id: [u8; 8]) -> SnapshotInfo {
        SnapshotInfo {
            session: SessionNo(session),
            id: SnapshotId(id),
            created: Timestamp::default(),
            device: DeviceId([0; 16]),
            device_name: "a".into(),
            tags: Vec::new(),
            sources: Vec::new(),
        }
    }

    #[test]
    fn shared_names_get_as_much_of_the_id_as_is_needed() {
        let list = [
            snapshot(1, [1, 1, 1, 1, 0, 0, 0, 1]),
            snapshot(2, [2, 2, 2, 2, 0, 0, 0, 2]),
            snapshot(3, [2, 2, 2, 2, 0, 0, 0, 3]),
            snapshot(4, [2, 2, 2, 2, 0, 0, 0, 3]),
        ];
        let refs: Vec<_> = list.iter().collect();
        assert_eq!(unique(&refs[..1], |_| "t".into()), ["t"]);
        assert_eq!(unique(&refs[..2], |_| "t".into()), ["t_01010101", "t_02020202"]);
        assert_eq!(
            unique(&refs, |_| "t".into()),
            ["t_01010101", "t_0202020200000002", "t_0202020200000003_3", "t_0202020200000003_4"]
        );
        assert_eq!(unique(&refs[..2], |s| s.session.0.to_string()), ["1", "2"]);
        // No list has a snapshot twice; one that had would not go on for ever.
        assert_eq!(unique(&[refs[0], refs[0]], |_| "t".into()), ["t_0101010100000001_1"; 2]);
    }
}
