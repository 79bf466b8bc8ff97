//! Instants on a calendar: which hour, day, week, month and year one lies in, and what lies some time before it.
//!
//! May not ask for the time or the system's zone. What always holds: every instant has its place; what lies outside of
//! the calendar (years before -9999 or after 9999) counts as its first or last instant. Tested in `tests.rs`.

use backupengine_model::{SessionNo, Timestamp};
use jiff::tz::TimeZone;
use jiff::{Span, ZonedDateTime};

/// A period of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Period {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

/// One such period, or a snapshot alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Bucket {
    Single(SessionNo),
    /// Year, month, day, hour, and the offset from UTC in seconds: an hour that the clock shows twice is two.
    Hour(i16, i8, i8, i8, i32),
    Day(i16, i8, i8),
    /// Year of the week, which is not always that of the day, and week.
    Week(i16, i8),
    Month(i16, i8),
    Year(i16),
}

impl Bucket {
    pub(super) fn of(period: Period, at: &ZonedDateTime) -> Self {
        match period {
            Period::Hour => Self::Hour(at.year(), at.month(), at.day(), at.hour(), at.offset().seconds()),
            Period::Day => Self::Day(at.year(), at.month(), at.day()),
            Period::Week => {
                let week = at.date().iso_week_date();
                Self::Week(week.year(), week.week())
            }
            Period::Month => Self::Month(at.year(), at.month()),
            Period::Year => Self::Year(at.year()),
        }
    }
}

/// An instant in a zone.
pub(super) fn zoned(time: Timestamp, zone: &TimeZone) -> ZonedDateTime {
    let nanos = i32::try_from(time.nanos).unwrap_or_default();
    let end = if time.secs < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    jiff::Timestamp::new(time.secs, nanos).unwrap_or(end).to_zoned_datetime(zone.clone())
}

/// The instant that lies a span of the calendar before another; `None` before the calendar begins.
pub(super) fn back(from: Timestamp, span: Span, zone: &TimeZone) -> Option<Timestamp> {
    let at = zoned(from, zone).checked_sub(span.abs()).ok()?.timestamp();
    let (mut secs, mut nanos) = (at.as_second(), at.subsec_nanosecond());
    if nanos < 0 {
        (secs, nanos) = (secs - 1, nanos + 1_000_000_000);
    }
    Some(Timestamp { secs, nanos: nanos.unsigned_abs() })
}
