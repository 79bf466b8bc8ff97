//! The server's clock as this device knows it. The system's clock is never set.
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Local time and what is to be added to it.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    offset: AtomicI64,
}

impl Clock {
    /// Seconds since 1970 by the server's clock.
    pub(crate) fn now(&self) -> i64 {
        local().saturating_add(self.offset.load(Ordering::Relaxed))
    }

    /// Takes in what the server says. `date` is the value of a `Date` header; false where it does not read.
    pub(crate) fn learn(&self, date: &str) -> bool {
        let Some(server) = parse(date) else { return false };
        let offset = server.saturating_sub(local());
        tracing::info!(seconds = offset, "the server's clock differs from this device's");
        self.offset.store(offset, Ordering::Relaxed);
        true
    }
}

fn local() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs().try_into().unwrap_or(i64::MAX)
}

/// `Tue, 24 Nov 2026 09:42:35 GMT` (RFC 9110, 5.6.7, the one form that is sent).
fn parse(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = date.split_once(", ")?;
    let mut parts = rest.strip_suffix(" GMT")?.split([' ', ':']);
    let mut number = |max: i64| parts.next()?.parse::<i64>().ok().filter(|n| (0..=max).contains(n));
    let day = number(31)?;
    let month = rest.get(3..6).and_then(|name| MONTHS.iter().position(|known| *known == name))? as i64 + 1;
    let _name_of_month = parts.next();
    let mut number = |max: i64| parts.next()?.parse::<i64>().ok().filter(|n| (0..=max).contains(n));
    let (year, hour, minute, second) = (number(9999)?, number(23)?, number(59)?, number(60)?);
    // Days from civil: years begin in March, so that the leap day is the last.
    let (shifted, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read() {
        assert_eq!(parse("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        for bad in [
            "",
            "yesterday",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 25:00:00 GMT",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_offset_is_learned() {
        let clock = Clock::default();
        assert!(clock.learn("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert!((clock.now() - 784_111_777).abs() < 5);
        assert!(!clock.learn("rubbish"));
    }
}
