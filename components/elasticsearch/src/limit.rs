//! How many requests run at once; pure.
//!
//! With a number found out: one more for every round of requests that all went well while there was no room for more, and a
//! third fewer when the server pushes back, once a round (additive increase, multiplicative decrease).

use std::time::Duration;

/// What is left when the server pushes back.
const BACK_OFF: f64 = 0.66;
/// Where a number that is found out begins.
const FIRST: f64 = 2.0;

/// Concurrent requests.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    now: f64,
    least: f64,
    most: f64,
    /// When it was cut last.
    cut: Option<Duration>,
}

impl Limit {
    /// Always so many.
    pub fn fixed(number: usize) -> Limit {
        let number = number.max(1) as f64;
        Limit { now: number, least: number, most: number, cut: None }
    }

    /// As many as the server takes, from 1 to `max`.
    pub fn adaptive(max: usize) -> Limit {
        let most = max.max(1) as f64;
        Limit { now: FIRST.min(most), least: 1.0, most, cut: None }
    }

    /// Requests that may run now.
    pub fn allowed(&self) -> usize {
        self.now as usize
    }

    /// A request went well; `was_full`: no more could have run beside it.
    pub fn went_well(&mut self, was_full: bool) {
        if was_full {
            self.now = (self.now + 1.0 / self.now).min(self.most);
        }
    }

    /// The server could not take a request that was sent at `sent`. Those that were on their way when the number was cut
    /// say the same once more, and do not count.
    pub fn pushed_back(&mut self, sent: Duration, now: Duration) {
        if self.cut.is_none_or(|cut| sent >= cut) {
            self.now = (self.now * BACK_OFF).max(self.least);
            self.cut = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_grows_by_one_a_round_and_falls_by_a_third_once_a_round() {
        let mut limit = Limit::adaptive(8);
        assert_eq!(limit.allowed(), 2);
        for expected in 3..=8 {
            // one round
            for _ in 0..limit.allowed() + 1 {
                limit.went_well(true);
            }
            assert_eq!(limit.allowed(), expected);
        }
        limit.went_well(true);
        assert_eq!(limit.allowed(), 8, "no more than the most");
        for _ in 0..8 {
            limit.pushed_back(at(1), at(2));
        }
        assert_eq!(limit.allowed(), 5, "eight that were sent together count once");
        limit.pushed_back(at(3), at(4));
        assert_eq!(limit.allowed(), 3);
        for now in 5..20 {
            limit.pushed_back(at(now), at(now));
        }
        assert_eq!(limit.allowed(), 1, "one may always run");
    }

    #[test]
    fn it_does_not_grow_while_nobody_waits_for_it_and_a_number_stays() {
        let mut limit = Limit::adaptive(8);
        (0..100).for_each(|_| limit.went_well(false));
        assert_eq!(limit.allowed(), 2);
        let mut limit = Limit::fixed(5);
        limit.pushed_back(at(1), at(2));
        limit.went_well(true);
        assert_eq!(limit.allowed(), 5);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(max in 1usize..300, steps in prop::collection::vec((any::<bool>(), any::<bool>()), 0..500)) {
            let mut limit = Limit::adaptive(max);
            for (now, (is_well, was_full)) in steps.into_iter().enumerate() {
                match is_well {
                    true => limit.went_well(was_full),
                    false => limit.pushed_back(at(now as u64), at(now as u64)),
                }
                prop_assert!((1..=max).contains(&limit.allowed()));
            }
        }
    }
}
