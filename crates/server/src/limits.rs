//! Rate limits of this process, per address and per device. GoTrue's figures for identity; logins and one-time codes
//! are counted in PostgreSQL as well, per account.
use governor::clock::Clock;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What is counted on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Logins and refreshes: 150 in 5 minutes.
    Token,
    /// Codes from providers: 30 in 5 minutes.
    Verify,
    /// 30 in 5 minutes.
    Signup,
    /// 30 in 5 minutes.
    UserUpdate,
    /// Challenges of second factors: 15 a minute.
    Challenge,
    /// One-time codes: 15 a minute.
    FactorVerify,
    /// Logins by providers: 30 in 5 minutes.
    Authorize,
    /// Operations: 50 a second.
    Call,
}

/// All limits.
pub struct Limits {
    on: bool,
    by_address: [DefaultKeyedRateLimiter<IpAddr>; 8],
    by_device: DefaultKeyedRateLimiter<[u8; 32]>,
    checks: AtomicU32,
}

/// GoTrue's.
const BURST: u32 = 30;
/// So many checks until what is idle is dropped from memory.
const SWEEP: u32 = 10_000;

impl Limits {
    /// Counting nothing where `on` is false.
    pub fn new(on: bool) -> Self {
        let minutes = Duration::from_secs;
        let every = [
            (minutes(2), BURST),
            (minutes(10), BURST),
            (minutes(10), BURST),
            (minutes(10), BURST),
            (minutes(4), BURST),
            (minutes(4), BURST),
            (minutes(10), BURST),
            (Duration::from_millis(20), 500),
        ];
        let by_address = every.map(|(every, burst)| limiter(every, burst));
        Self { on, by_address, by_device: limiter(Duration::from_millis(50), 200), checks: AtomicU32::new(0) }
    }

    /// Counts a call from this address.
    ///
    /// # Errors
    /// How long to wait.
    pub fn check(&self, limit: Limit, address: IpAddr) -> Result<(), Duration> {
        self.count(&self.by_address[limit as usize], &subscriber(address))
    }

    /// Counts a call of the device with this key (its SHA-256).
    ///
    /// # Errors
    /// How long to wait.
    pub fn check_device(&self, key: &[u8; 32]) -> Result<(), Duration> {
        self.count(&self.by_device, key)
    }

    fn count<K: Hash + Eq + Clone>(
        &self,
        limiter: &DefaultKeyedRateLimiter<K>,
        key: &K,
    ) -> Result<(), Duration> {
        if !self.on {
            return Ok(());
        }
        if self.checks.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            self.by_address.iter().for_each(RateLimiter::retain_recent);
            self.by_device.retain_recent();
        }
        limiter.check_key(key).map_err(|refused| refused.wait_time_from(limiter.clock().now()))
    }
}

fn limiter<K: Hash + Eq + Clone>(every: Duration, burst: u32) -> DefaultKeyedRateLimiter<K> {
    let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::with_period(every).unwrap_or(Quota::per_second(burst));
    RateLimiter::keyed(quota.allow_burst(burst))
}

/// One IPv6 customer has 2^64 addresses.
fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn the_burst_passes_and_no_more() {
        let limits = Limits::new(true);
        for n in 0..BURST {
            assert_eq!(limits.check(Limit::Signup, ADDRESS), Ok(()), "{n}");
        }
        let wait = limits.check(Limit::Signup, ADDRESS).unwrap_err();
        assert!(wait > Duration::from_secs(8) && wait <= Duration::from_secs(10), "{wait:?}");
        assert_eq!(limits.check(Limit::Token, ADDRESS), Ok(()), "each limit counts on its own");
        assert_eq!(limits.check(Limit::Signup, "192.0.2.2".parse().unwrap()), Ok(()));
    }

    #[test]
    fn a_subscriber_of_ipv6_is_one() {
        let limits = Limits::new(true);
        let refused = (0..100u16).filter(|&n| {
            limits.check(Limit::Signup, IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, n))).is_err()
        });
        assert_eq!(refused.count(), 70);
        assert!(limits.check(Limit::Signup, "2001:db8:0:2::1".parse().unwrap()).is_ok());
    }

    #[test]
    fn devices_are_counted_and_off_is_off() {
        let refused = |limits: Limits| (0..1000).filter(|_| limits.check_device(&[7; 32]).is_err()).count();
        let count = refused(Limits::new(true));
        assert!((700..=800).contains(&count), "{count}");
        assert_eq!(refused(Limits::new(false)), 0);
    }
}
