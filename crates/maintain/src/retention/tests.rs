//! Tables of cases: what stays, and why.
use super::*;
use backupengine_model::{SUSPICIOUS, SessionNo, SnapshotId};
use jiff::{Span, ToSpan};

/// Middle Europe, written out so that no file of the system is needed.
const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

fn zone(text: &str) -> TimeZone {
    TimeZone::posix(text).unwrap()
}

fn at(text: &str) -> Timestamp {
    let time: jiff::Timestamp = text.parse().unwrap();
    Timestamp { secs: time.as_second(), nanos: time.subsec_nanosecond().unsigned_abs() }
}

fn candidate(session: u32, created: Timestamp, device: &str, sources: &[&str]) -> Candidate {
    let snapshot = SnapshotInfo {
        session: SessionNo(session),
        id: SnapshotId([session as u8; 8]),
        created,
        device: DeviceId([7; 16]),
        device_name: device.into(),
        tags: Vec::new(),
        sources: sources.iter().map(|source| source.as_bytes().to_vec()).collect(),
    };
    Candidate { snapshot, held: false }
}

/// One device and folder, sessions counted from 1 in the order of the text.
fn history(times: &[&str]) -> Vec<Candidate> {
    (1..).zip(times).map(|(session, time)| candidate(session, at(time), "pc", &["/home"])).collect()
}

/// Session and reasons of all that stays, in the order of the groups.
fn kept(list: &[Candidate], policy: &Policy, now: &str, zone: &TimeZone) -> Vec<(u32, String)> {
    let groups = apply(list, policy, at(now), zone).unwrap();
    let verdicts = groups.into_iter().flat_map(|group| group.verdicts).filter(Verdict::stays);
    let text = |reasons: &[Reason]| reasons.iter().map(Reason::to_string).collect::<Vec<_>>().join(", ");
    verdicts.map(|verdict| (verdict.snapshot.session.0, text(&verdict.reasons))).collect()
}

fn sessions(list: &[Candidate], policy: &Policy, zone: &TimeZone) -> Vec<u32> {
    kept(list, policy, "2030-01-01T00:00:00Z", zone).into_iter().map(|(session, _)| session).collect()
}

fn last(count: u32) -> Policy {
    Policy { last: Count::Last(count), ..Policy::default() }
}

fn hourly(count: u32) -> Policy {
    Policy { hourly: Count::Last(count), ..Policy::default() }
}

fn daily(count: u32) -> Policy {
    Policy { daily: Count::Last(count), ..Policy::default() }
}

fn weekly(count: u32) -> Policy {
    Policy { weekly: Count::Last(count), ..Policy::default() }
}

fn monthly(count: u32) -> Policy {
    Policy { monthly: Count::Last(count), ..Policy::default() }
}

fn yearly(count: u32) -> Policy {
    Policy { yearly: Count::Last(count), ..Policy::default() }
}

fn within(span: Span) -> Policy {
    Policy { within: Some(span), ..Policy::default() }
}

#[test]
fn the_newest_of_each_period_stays_and_says_why() {
    let list = history(&[
        "2026-01-31T12:00:00Z",
        "2026-02-27T12:00:00Z",
        "2026-03-01T09:00:00Z",
        "2026-03-01T10:00:00Z",
        "2026-03-01T10:30:00Z",
    ]);
    let policy = Policy { last: Count::Last(1), hourly: Count::Last(2), daily: Count::Last(2), ..monthly(3) };
    assert_eq!(
        kept(&list, &policy, "2026-03-02T00:00:00Z", &TimeZone::UTC),
        [
            (1, "monthly".into()),
            (2, "daily, monthly".into()),
            (3, "hourly".into()),
            (5, "last, hourly, daily, monthly".into()),
        ]
    );
}

#[test]
fn periods_without_a_snapshot_do_not_count() {
    let list = history(&["2020-05-05T00:00:00Z", "2023-05-05T00:00:00Z", "2026-05-05T00:00:00Z"]);
    for policy in [last(2), hourly(2), daily(2), weekly(2), monthly(2), yearly(2)] {
        assert_eq!(sessions(&list, &policy, &TimeZone::UTC), [2, 3], "{policy:?}");
    }
}

#[test]
fn nothing_is_no_policy() {
    let list = history(&["2026-01-01T00:00:00Z"]);
    for policy in [Policy::default(), last(0), Policy { yearly: Count::Last(0), ..hourly(0) }] {
        let refused = apply(&list, &policy, at("2026-01-01T00:00:00Z"), &TimeZone::UTC);
        assert_eq!(refused, Err(RetentionError::NoRule));
        // Whatever the list holds.
        assert_eq!(apply(&[], &policy, Timestamp::default(), &TimeZone::UTC), Err(RetentionError::NoRule));
    }
    assert_eq!(apply(&[], &last(1), Timestamp::default(), &TimeZone::UTC), Ok(Vec::new()));
}

#[test]
fn a_zero_beside_another_rule_is_no_rule() {
    let list = history(&["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]);
    let policy = Policy { daily: Count::Last(0), ..last(1) };
    assert_eq!(kept(&list, &policy, "2026-01-04T00:00:00Z", &TimeZone::UTC), [(3, "last".into())]);
}

#[test]
fn unlimited_keeps_one_of_each_period_for_good() {
    let list = history(&["1980-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-02T05:00:00Z"]);
    let of = |policy: Policy| sessions(&list, &policy, &TimeZone::UTC);
    assert_eq!(of(Policy { last: Count::Unlimited, ..Policy::default() }), [1, 2, 3]);
    assert_eq!(of(Policy { daily: Count::Unlimited, ..Policy::default() }), [1, 3]);
    assert_eq!(of(Policy { yearly: Count::Unlimited, ..last(2) }), [1, 2, 3]);
}

#[test]
fn a_policy_that_would_empty_a_group_is_refused() {
    let mut list = history(&["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]);
    list[0].snapshot.tags = vec!["good".into()];
    let other = candidate(9, at("2026-01-03T00:00:00Z"), "pc", &["/srv"]);
    let tags = Policy { tags: vec!["good".into()], ..Policy::default() };
    assert_eq!(kept(&list, &tags, "2026-02-01T00:00:00Z", &TimeZone::UTC), [(1, "tag good".into())]);
    list.push(other);
    let refused = apply(&list, &tags, at("2026-02-01T00:00:00Z"), &TimeZone::UTC).unwrap_err();
    let RetentionError::KeepsNothing { device_name, sources, snapshots } = &refused else {
        panic!("{refused}")
    };
    assert_eq!((device_name.as_str(), sources.as_slice(), *snapshots), ("pc", &[b"/srv".to_vec()][..], 1));
    assert!(refused.to_string().contains("/srv"), "{refused}");
    // What is held is something.
    list[2].held = true;
    let stays = kept(&list, &tags, "2026-02-01T00:00:00Z", &TimeZone::UTC);
    assert_eq!(stays, [(1, "tag good".into()), (9, "held".into())]);
}

#[test]
fn any_of_several_tags_will_do() {
    let mut list = history(&["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]);
    list[0].snapshot.tags = vec!["a".into(), "b".into()];
    list[1].snapshot.tags = vec!["b".into()];
    let policy = Policy { tags: vec!["b".into(), "a".into()], ..Policy::default() };
    let stays = kept(&list, &policy, "2026-02-01T00:00:00Z", &TimeZone::UTC);
    assert_eq!(stays, [(1, "tag b, tag a".into()), (2, "tag b".into())]);
}

#[test]
fn what_is_held_stays_and_takes_its_place() {
    let mut list = history(&["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]);
    list[0].held = true;
    list[2].held = true;
    let stays = kept(&list, &last(2), "2026-02-01T00:00:00Z", &TimeZone::UTC);
    assert_eq!(stays, [(1, "held".into()), (2, "last".into()), (3, "held, last".into())]);
}

#[test]
fn groups_are_devices_and_sets_of_sources() {
    let time = |day: u32| at(&format!("2026-01-0{day}T00:00:00Z"));
    let mut list = vec![
        candidate(1, time(1), "pc", &["/a", "/b"]),
        candidate(2, time(2), "pc", &["/b", "/a", "/b"]),
        candidate(3, time(3), "pc", &["/a"]),
        candidate(4, time(4), "laptop", &["/a"]),
        candidate(5, time(5), "pc", &["/a"]),
    ];
    let groups = apply(&list, &last(1), time(9), &TimeZone::UTC).unwrap();
    let shown: Vec<_> = groups
        .iter()
        .map(|group| (group.device_name.as_str(), group.sources.len(), group.verdicts.len()))
        .collect();
    assert_eq!(shown, [("laptop", 1, 1), ("pc", 1, 2), ("pc", 2, 2)]);
    assert_eq!(sessions(&list, &last(1), &TimeZone::UTC), [4, 5, 2]);
    // Another device that says it is this one has a group of its own.
    list[4].snapshot.device = DeviceId([8; 16]);
    assert_eq!(sessions(&list, &last(1), &TimeZone::UTC), [4, 3, 2, 5]);
}

#[test]
fn of_equal_times_the_larger_session_is_newer() {
    let mut list = history(&["2026-01-01T00:00:00Z"; 3]);
    list.swap(0, 2);
    assert_eq!(sessions(&list, &last(1), &TimeZone::UTC), [3]);
    assert_eq!(sessions(&list, &last(2), &TimeZone::UTC), [2, 3]);
    assert_eq!(sessions(&list, &hourly(5), &TimeZone::UTC), [3]);
    assert_eq!(sessions(&list, &within(0.hours()), &TimeZone::UTC), [1, 2, 3]);
}

#[test]
fn days_begin_at_local_midnight() {
    // Half past eleven in the evening and half past midnight in Berlin are one day in UTC.
    let list = history(&["2026-01-10T22:30:00Z", "2026-01-10T23:30:00Z"]);
    assert_eq!(sessions(&list, &daily(5), &TimeZone::UTC), [2]);
    assert_eq!(sessions(&list, &daily(5), &zone(BERLIN)), [1, 2]);
    // And so for months and years.
    let list = history(&["2025-12-31T22:30:00Z", "2025-12-31T23:30:00Z"]);
    for policy in [monthly(5), yearly(5)] {
        assert_eq!(sessions(&list, &policy, &TimeZone::UTC), [2]);
        assert_eq!(sessions(&list, &policy, &zone(BERLIN)), [1, 2]);
    }
}

#[test]
fn an_hour_that_comes_twice_is_two_hours() {
    // 25 October 2026: 02:00 to 03:00 summer time, then again in winter time.
    let list = history(&[
        "2026-10-25T00:10:00Z",
        "2026-10-25T00:50:00Z",
        "2026-10-25T01:10:00Z",
        "2026-10-25T01:50:00Z",
        "2026-10-25T02:10:00Z",
    ]);
    assert_eq!(sessions(&list, &hourly(9), &zone(BERLIN)), [2, 4, 5]);
    assert_eq!(sessions(&list, &hourly(2), &zone(BERLIN)), [4, 5]);
    // The day of 25 hours is one day.
    assert_eq!(sessions(&list, &daily(9), &zone(BERLIN)), [5]);
}

#[test]
fn an_hour_that_never_comes_is_not_missed() {
    // 29 March 2026: after 01:59 comes 03:00.
    let list = history(&[
        "2026-03-29T00:30:00Z",
        "2026-03-29T01:30:00Z",
        "2026-03-29T21:59:00Z",
        "2026-03-29T22:00:00Z",
    ]);
    assert_eq!(sessions(&list, &hourly(9), &zone(BERLIN)), [1, 2, 3, 4]);
    // A day of 23 hours: it ends at 22:00 UTC.
    assert_eq!(sessions(&list, &daily(9), &zone(BERLIN)), [3, 4]);
}

#[test]
fn a_day_that_begins_twice_is_one_day() {
    // A zone whose clock goes back from 00:01 to 23:01 of the day before.
    let newfoundland = zone("NST3:30NDT,M3.2.0/0:01,M11.1.0/0:01");
    let list = history(&[
        "2026-11-01T02:29:00Z", // 31 October, 23:59
        "2026-11-01T02:30:30Z", // 1 November, 00:00:30
        "2026-11-01T02:40:00Z", // 31 October, 23:10
        "2026-11-01T03:40:00Z", // 1 November, 00:10
    ]);
    assert_eq!(sessions(&list, &daily(1), &newfoundland), [4]);
    assert_eq!(sessions(&list, &daily(9), &newfoundland), [3, 4]);
}

#[test]
fn weeks_are_iso_weeks() {
    let list = history(&[
        "2026-12-27T12:00:00Z", // Sunday, week 52
        "2026-12-28T12:00:00Z", // Monday, week 53
        "2027-01-03T12:00:00Z", // Sunday, still week 53 of 2026
        "2027-01-04T12:00:00Z", // Monday, week 1
    ]);
    assert_eq!(sessions(&list, &weekly(9), &TimeZone::UTC), [1, 3, 4]);
    // Week 1 of 2025 begins in 2024: it is not the week 1 of that year.
    let list = history(&["2024-01-02T12:00:00Z", "2024-12-30T12:00:00Z", "2025-01-01T12:00:00Z"]);
    assert_eq!(sessions(&list, &weekly(9), &TimeZone::UTC), [1, 3]);
    assert_eq!(sessions(&list, &yearly(9), &TimeZone::UTC), [2, 3]);
}

#[test]
fn a_window_counts_back_from_the_newest() {
    let list = history(&["2020-01-01T00:00:00Z", "2020-03-01T12:00:00Z", "2020-03-31T12:00:00Z"]);
    let of = |span| sessions(&list, &within(span), &zone(BERLIN));
    assert_eq!(of(0.hours()), [3]);
    assert_eq!(
        of(30.days()),
        [3],
        "one of these days has 23 hours, and noon UTC is an hour later by the clock"
    );
    assert_eq!(of(31.days()), [2, 3]);
    assert_eq!(of(1.month()), [2, 3], "a month before 31 March is 29 February");
    assert_eq!(of(1.year().months(6)), [1, 2, 3]);
    assert_eq!(of(-31.days()), [2, 3]);
    assert_eq!(of(19_998.years()), [1, 2, 3]);
}

#[test]
fn a_window_includes_its_edge() {
    let list = history(&["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]);
    assert_eq!(sessions(&list, &within(24.hours()), &TimeZone::UTC), [1, 2]);
    assert_eq!(sessions(&list, &within(86_399.seconds()), &TimeZone::UTC), [2]);
}

#[test]
fn a_snapshot_from_the_future_is_the_newest_and_moves_no_window() {
    let list = history(&["2026-01-01T00:00:00Z", "2026-01-20T00:00:00Z", "2099-01-01T00:00:00Z"]);
    let now = "2026-01-21T00:00:00Z";
    assert_eq!(kept(&list, &last(1), now, &TimeZone::UTC), [(3, "last".into())]);
    assert_eq!(
        kept(&list, &within(7.days()), now, &TimeZone::UTC),
        [(2, "within".into()), (3, "within".into())]
    );
}

#[test]
fn times_outside_of_the_calendar_have_their_place() {
    let mut list = history(&["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]);
    list[0].snapshot.created = Timestamp { secs: i64::MIN, nanos: 999_999_999 };
    list[1].snapshot.created = Timestamp { secs: i64::MAX, nanos: u32::MAX };
    for policy in [last(2), hourly(2), daily(2), weekly(2), monthly(2), yearly(2)] {
        assert_eq!(sessions(&list, &policy, &zone(BERLIN)), [1, 2]);
    }
    assert_eq!(sessions(&list, &within(1.day()), &zone(BERLIN)), [2]);
}

/// Days 1 to 6, of which these are marked.
fn days(marked: &[u32]) -> Vec<Candidate> {
    let mut list = history(&[
        "2026-03-01T12:00:00Z",
        "2026-03-02T12:00:00Z",
        "2026-03-03T12:00:00Z",
        "2026-03-04T12:00:00Z",
        "2026-03-05T12:00:00Z",
        "2026-03-06T12:00:00Z",
    ]);
    for one in list.iter_mut().filter(|one| marked.contains(&one.snapshot.session.0)) {
        one.snapshot.tags = vec![SUSPICIOUS.to_owned()];
    }
    list
}

#[test]
fn a_marked_snapshot_takes_no_others_place() {
    let utc = zone("UTC0");
    assert_eq!(sessions(&days(&[]), &last(2), &utc), [5, 6]);
    assert_eq!(
        sessions(&days(&[5, 6]), &last(2), &utc),
        [3, 4, 5, 6],
        "the good ones as if they were not there"
    );
    assert_eq!(sessions(&days(&[6]), &daily(1), &utc), [5, 6]);
    assert_eq!(sessions(&days(&[2]), &last(2), &utc), [5, 6], "and it goes in its time");
    // Counted back from the newest good one; from the newest of all for those that are marked.
    let two_days = within(2.days());
    assert_eq!(sessions(&days(&[4, 5, 6]), &two_days, &utc), [1, 2, 3, 4, 5, 6]);
    assert_eq!(sessions(&days(&[2, 6]), &two_days, &utc), [3, 4, 5, 6]);
}

#[test]
fn a_marked_snapshot_is_not_all_that_stays() {
    let tagged = Policy { tags: vec![SUSPICIOUS.to_owned()], ..Policy::default() };
    let refused = |list: &[Candidate]| apply(list, &tagged, at("2026-04-01T00:00:00Z"), &zone("UTC0"));
    assert!(matches!(refused(&days(&[6])), Err(RetentionError::KeepsNothing { snapshots: 6, .. })));
    let all = refused(&days(&[1, 2, 3, 4, 5, 6])).unwrap();
    assert!(all[0].verdicts.iter().all(Verdict::stays), "there is nothing better");
}
