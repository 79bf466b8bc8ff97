//! The clock, and how times are written and read. The only place that asks what time it is.
//!
//! **What it may not do.** Choose snapshots: it gives an instant.
//! **What always holds.** A day alone means its end: `@2026-03-01` is the vault as it was when that day was over.
//! **Where it is tested.** Below.

use crate::error::Failure;
use backupengine_model::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan, ZonedDateTime as Zoned};

/// Now, by the system's clock, whatever that says.
pub(crate) fn now() -> Timestamp {
    stamp(jiff::Timestamp::now())
}

fn stamp(time: jiff::Timestamp) -> Timestamp {
    let (mut secs, mut nanos) = (time.as_second(), time.subsec_nanosecond());
    if nanos < 0 {
        secs -= 1;
        nanos += 1_000_000_000;
    }
    Timestamp { secs, nanos: nanos.unsigned_abs() }
}

fn of(time: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(time.secs, i32::try_from(time.nanos).ok()?).ok()
}

/// RFC 3339 in UTC, whole seconds; what lies outside the calendar is shown as seconds since 1970.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    of(Timestamp { nanos: 0, ..time }).map_or_else(|| format!("@{}s", time.secs), |t| t.to_string())
}

/// Day and time of day of this system's time zone, for people.
pub(crate) fn local(time: Timestamp) -> String {
    of(time).map_or_else(
        || format!("@{}s", time.secs),
        |t| t.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// Reads `--time`: RFC 3339, with or without a zone (then this system's), or a day.
///
/// # Errors
/// Bad usage for any other text.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, Failure> {
    instant(text, &Zoned::now(), false).ok_or_else(|| {
        Failure::usage(format!("{text:?} is no time")).hint("write it like 2026-03-01T14:30:00Z")
    })
}

/// The instant behind what follows the `@` of a selector: a time, a day, `yesterday`, `today` or `-3d`.
pub(crate) fn parse_at(text: &str) -> Option<Timestamp> {
    instant(text, &Zoned::now(), true)
}

fn instant(text: &str, now: &Zoned, end_of_day: bool) -> Option<Timestamp> {
    let zone = now.time_zone().clone();
    let day = |date: Date| {
        let start = date.to_zoned_datetime(zone.clone()).ok()?;
        let at = if end_of_day {
            start.checked_add(1.day()).ok()?.checked_sub(1.nanosecond()).ok()?
        } else {
            start
        };
        Some(stamp(at.timestamp()))
    };
    match text {
        "today" => return day(now.date()),
        "yesterday" => return day(now.date().yesterday().ok()?),
        _ => {}
    }
    if let Some(back) = text.strip_prefix('-') {
        return Some(stamp(now.checked_sub(span(back)?).ok()?.timestamp()));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(stamp(time));
    }
    if text.len() == 10 {
        return day(text.parse().ok()?);
    }
    let time: jiff::civil::DateTime = text.parse().ok()?;
    Some(stamp(time.to_zoned_datetime(zone).ok()?.timestamp()))
}

/// This system's time zone.
pub(crate) fn zone() -> TimeZone {
    TimeZone::system()
}

/// A duration such as `36h`, `30d` or `1y6mo`, larger units first. `m` alone is refused: it means minutes to some and months
/// to others, and what is kept for six minutes is soon gone.
pub(crate) fn duration(text: &str) -> Option<Span> {
    const UNITS: [&str; 7] = ["y", "mo", "w", "d", "h", "min", "s"];
    let (mut rest, mut units, mut all) = (text, UNITS.iter(), Span::new());
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let letters = rest[digits..].find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        units.find(|known| **known == unit)?;
        let number: i64 = number.parse().ok().filter(|n| (0..=1_000_000).contains(n))?;
        all = match unit {
            "y" => all.try_years(number),
            "mo" => all.try_months(number),
            "w" => all.try_weeks(number),
            "d" => all.try_days(number),
            "h" => all.try_hours(number),
            "min" => all.try_minutes(number),
            _ => all.try_seconds(number),
        }
        .ok()?;
        rest = &rest[digits + letters..];
    }
    Some(all)
}

/// `3d`, `12h`, `2w`, `1mo`, `1y`, `30m`, `90s`.
fn span(text: &str) -> Option<Span> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let number: i64 = text[..end].parse().ok().filter(|n| (0..=1_000_000).contains(n))?;
    let span = Span::new();
    match &text[end..] {
        "s" => span.try_seconds(number),
        "m" | "min" => span.try_minutes(number),
        "h" => span.try_hours(number),
        "d" => span.try_days(number),
        "w" => span.try_weeks(number),
        "mo" => span.try_months(number),
        "y" => span.try_years(number),
        _ => return None,
    }
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-03-10T12:00:00+01:00[+01:00]".parse().unwrap()
    }

    fn shown(text: &str) -> Option<String> {
        instant(text, &now(), true).map(rfc3339)
    }

    #[test]
    fn a_day_means_its_end() {
        assert_eq!(shown("2026-03-01").as_deref(), Some("2026-03-01T22:59:59Z"));
        assert_eq!(shown("yesterday").as_deref(), Some("2026-03-09T22:59:59Z"));
        assert_eq!(shown("today").as_deref(), Some("2026-03-10T22:59:59Z"));
        assert_eq!(
            instant("2026-03-01", &now(), false).map(rfc3339).as_deref(),
            Some("2026-02-28T23:00:00Z")
        );
    }

    #[test]
    fn times_and_distances() {
        assert_eq!(shown("2026-03-01T10:00:00Z").as_deref(), Some("2026-03-01T10:00:00Z"));
        assert_eq!(shown("2026-03-01T10:00").as_deref(), Some("2026-03-01T09:00:00Z"));
        assert_eq!(shown("-3d").as_deref(), Some("2026-03-07T11:00:00Z"));
        assert_eq!(shown("-90m").as_deref(), Some("2026-03-10T09:30:00Z"));
        assert_eq!(shown("-1mo").as_deref(), Some("2026-02-10T11:00:00Z"));
        for bad in ["", "-", "-3", "-3x", "-99999999999999999999d", "tomorrowish", "2026-13-01", "2026-3-1"] {
            assert_eq!(shown(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn durations_say_what_they_mean() {
        let shown = |text| duration(text).map(|span| span.to_string());
        assert_eq!(shown("36h").as_deref(), Some("PT36H"));
        assert_eq!(shown("1y6mo").as_deref(), Some("P1Y6M"));
        assert_eq!(shown("2w3d12h30min5s").as_deref(), Some("P2W3DT12H30M5S"));
        assert_eq!(shown("0d").as_deref(), Some("PT0S"));
        for bad in ["", "6m", "d", "3", "3x", "-3d", "1d1y", "1d1d", "3 d", "99999999d", "1é"] {
            assert_eq!(shown(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn any_stored_time_can_be_shown() {
        assert_eq!(rfc3339(Timestamp { secs: -1, nanos: 999_999_999 }), "1969-12-31T23:59:59Z");
        assert_eq!(rfc3339(Timestamp { secs: i64::MAX, nanos: 0 }), format!("@{}s", i64::MAX));
        assert_eq!(
            stamp(jiff::Timestamp::new(-1, -500_000_000).unwrap()),
            Timestamp { secs: -2, nanos: 500_000_000 }
        );
    }
}
