//! Random histories against a model that is simple enough to be believed: names of periods as text, a map from each to
//! its newest snapshot, and the first N of them.
use super::*;
use backupengine_model::{SUSPICIOUS, SessionNo, SnapshotId};
use jiff::{Span, ToSpan};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// UTC; an hour forth and back; a change just after midnight; one of half an hour.
const ZONES: &[&str] = &[
    "UTC0",
    "CET-1CEST,M3.5.0,M10.5.0/3",
    "NST3:30NDT,M3.2.0/0:01,M11.1.0/0:01",
    "LHST-10:30LHDT-11,M10.1.0,M4.1.0",
];

fn zones() -> impl Strategy<Value = TimeZone> {
    prop::sample::select(ZONES).prop_map(|text| TimeZone::posix(text).unwrap())
}

/// Times of some years, and some that lie close together around a change of the clock.
fn times() -> impl Strategy<Value = i64> {
    prop_oneof![
        2 => 1_700_000_000..1_830_000_000_i64,
        1 => 1_792_880_000..1_792_900_000_i64,
        1 => (0..40_i64).prop_map(|hours| 1_792_800_000 + 3600 * hours),
        1 => (0..40_i64).prop_map(|days| 1_798_000_000 + 86_400 * days),
    ]
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (times(), 0..2_u8, 0..2_u8, 0..4_u8, prop::bool::weighted(0.1));
    vec(one, 0..60).prop_map(|all| {
        let one = |(session, (secs, device, source, tag, held)): (u32, (i64, u8, u8, u8, bool))| Candidate {
            snapshot: SnapshotInfo {
                session: SessionNo(session),
                id: SnapshotId([session as u8; 8]),
                created: Timestamp { secs, nanos: 0 },
                device: DeviceId([device; 16]),
                device_name: format!("pc{device}"),
                tags: match tag {
                    0 => vec!["good".to_owned()],
                    3 => vec![SUSPICIOUS.to_owned()],
                    _ => Vec::new(),
                },
                sources: vec![vec![b'/', b'a' + source]],
            },
            held,
        };
        (1..).zip(all).map(one).collect()
    })
}

fn count() -> impl Strategy<Value = Count> {
    prop_oneof![3 => Just(Count::Last(0)), 4 => (1..12_u32).prop_map(Count::Last), 1 => Just(Count::Unlimited)]
}

fn policies() -> impl Strategy<Value = Policy> {
    let span = (0..3_i64, 0..40_i64).prop_map(|(months, days)| months.months().days(days));
    let within = prop_oneof![2 => Just(None::<Span>), 1 => span.prop_map(Some)];
    let tags = prop_oneof![3 => Just(Vec::new()), 1 => Just(vec!["good".to_owned()])];
    (count(), count(), count(), count(), count(), count(), within, tags).prop_map(
        |(last, hourly, daily, weekly, monthly, yearly, within, tags)| Policy {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            within,
            tags,
        },
    )
}

const NOW: Timestamp = Timestamp { secs: 1_795_000_000, nanos: 0 };

/// Sessions that stay of one group: of the good ones as if there were no others, of the marked ones among all.
fn model(group: &[&Candidate], policy: &Policy, zone: &TimeZone) -> BTreeSet<u32> {
    let good: Vec<&Candidate> = group.iter().copied().filter(|one| !one.snapshot.is_suspicious()).collect();
    let marked = group.iter().filter(|one| one.snapshot.is_suspicious()).map(|one| one.snapshot.session.0);
    let among_all = simple(group, policy, zone);
    let mut stays: BTreeSet<u32> = marked.filter(|session| among_all.contains(session)).collect();
    if !good.is_empty() {
        let kept = simple(&good, policy, zone);
        if kept.is_empty() {
            return kept;
        }
        stays.extend(kept);
    }
    stays
}

fn simple(group: &[&Candidate], policy: &Policy, zone: &TimeZone) -> BTreeSet<u32> {
    let at = |one: &Candidate| {
        jiff::Timestamp::from_second(one.snapshot.created.secs).unwrap().to_zoned_datetime(zone.clone())
    };
    let order = |one: &Candidate| (one.snapshot.created.secs, one.snapshot.session.0);
    let mut stays: BTreeSet<u32> =
        group.iter().filter(|one| one.held).map(|one| one.snapshot.session.0).collect();
    stays.extend(
        group
            .iter()
            .filter(|one| one.snapshot.tags.iter().any(|tag| policy.tags.contains(tag)))
            .map(|one| one.snapshot.session.0),
    );
    if let Some(span) = policy.within {
        let newest = group.iter().map(|one| one.snapshot.created.secs).max().unwrap().min(NOW.secs);
        let edge = jiff::Timestamp::from_second(newest).unwrap().to_zoned_datetime(zone.clone()) - span;
        stays.extend(group.iter().filter(|one| at(one) >= edge).map(|one| one.snapshot.session.0));
    }
    let rules = [
        (policy.last, "session"),
        (policy.hourly, "%Y-%m-%d %H %z"),
        (policy.daily, "%Y-%m-%d"),
        (policy.weekly, "%G-%V"),
        (policy.monthly, "%Y-%m"),
        (policy.yearly, "%Y"),
    ];
    for (count, pattern) in rules {
        let mut newest: BTreeMap<String, (i64, u32)> = BTreeMap::new();
        for one in group {
            let name = match pattern {
                "session" => one.snapshot.session.0.to_string(),
                pattern => at(one).strftime(pattern).to_string(),
            };
            let known = newest.entry(name).or_insert(order(one));
            *known = (*known).max(order(one));
        }
        let mut newest: Vec<(i64, u32)> = newest.into_values().collect();
        newest.sort_unstable_by(|a, b| b.cmp(a));
        let most = match count {
            Count::Last(most) => most as usize,
            Count::Unlimited => usize::MAX,
        };
        stays.extend(newest.into_iter().take(most).map(|(_, session)| session));
    }
    stays
}

fn staying(groups: &[Group]) -> BTreeSet<u32> {
    let verdicts = groups.iter().flat_map(|group| &group.verdicts).filter(|verdict| verdict.stays());
    verdicts.map(|verdict| verdict.snapshot.session.0).collect()
}

proptest! {
    #[test]
    fn what_stays_is_what_the_model_says(list in candidates(), policy in policies(), zone in zones()) {
        let mut groups: BTreeMap<(DeviceId, Vec<Vec<u8>>), Vec<&Candidate>> = BTreeMap::new();
        for one in &list {
            groups.entry((one.snapshot.device, one.snapshot.sources.clone())).or_default().push(one);
        }
        let expected: Vec<BTreeSet<u32>> =
            groups.values().map(|group| model(group, &policy, &zone)).collect();
        match apply(&list, &policy, NOW, &zone) {
            Err(RetentionError::NoRule) => prop_assert!(policy.is_empty()),
            Err(RetentionError::KeepsNothing { .. }) => prop_assert!(expected.iter().any(BTreeSet::is_empty)),
            Ok(judged) => {
                prop_assert!(!expected.iter().any(BTreeSet::is_empty));
                prop_assert_eq!(staying(&judged), expected.into_iter().flatten().collect::<BTreeSet<_>>());
                // Everything was judged once, oldest first.
                prop_assert_eq!(judged.iter().map(|group| group.verdicts.len()).sum::<usize>(), list.len());
                for group in &judged {
                    let order = |v: &Verdict| (v.snapshot.created, v.snapshot.session);
                    prop_assert!(group.verdicts.is_sorted_by(|a, b| order(a) < order(b)));
                }
            }
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(
        list in candidates(), policy in policies(), zone in zones(), turn in 0..60_usize,
    ) {
        let mut turned = list.clone();
        turned.reverse();
        turned.rotate_left(turn.min(list.len()));
        prop_assert_eq!(apply(&list, &policy, NOW, &zone), apply(&turned, &policy, NOW, &zone));
    }

    #[test]
    fn a_larger_number_lets_nothing_go(list in candidates(), policy in policies(), zone in zones(), more in 1..9_u32) {
        let grown = |count| match count {
            Count::Last(most) => Count::Last(most + more),
            Count::Unlimited => Count::Unlimited,
        };
        let larger = Policy {
            last: grown(policy.last),
            daily: grown(policy.daily),
            weekly: grown(policy.weekly),
            yearly: grown(policy.yearly),
            ..policy.clone()
        };
        let larger = apply(&list, &larger, NOW, &zone).unwrap();
        if let Ok(smaller) = apply(&list, &policy, NOW, &zone) {
            prop_assert!(staying(&smaller).is_subset(&staying(&larger)));
        }
    }

    #[test]
    fn done_again_it_lets_nothing_more_go(list in candidates(), policy in policies(), zone in zones()) {
        let Ok(first) = apply(&list, &policy, NOW, &zone) else { return Ok(()) };
        let stays = staying(&first);
        let left: Vec<Candidate> =
            list.iter().filter(|one| stays.contains(&one.snapshot.session.0)).cloned().collect();
        let again = apply(&left, &policy, NOW, &zone).unwrap();
        prop_assert_eq!(staying(&again), stays);
    }
}
