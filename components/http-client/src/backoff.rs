//! How long to wait before the next try.

use std::time::Duration;

use rand::RngExt;

/// The pause after the first failure, at most.
const FIRST: Duration = Duration::from_millis(500);
/// The pause after many failures, at most.
const LONGEST: Duration = Duration::from_secs(30);

/// Pauses that double, each by chance between half of its length and all of it, so that many who wait for one peer do not
/// come back at one moment.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It failed once more: the pause before the next try.
    pub fn pause(&mut self) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(rand::rng().random_range(0.5..1.0))
    }

    /// It worked: the next pause is short again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_begin_anew() {
        let mut backoff = Backoff::default();
        let mut ceiling = FIRST;
        for _ in 0..40 {
            let pause = backoff.pause();
            assert!(ceiling / 2 <= pause && pause <= ceiling, "{pause:?} of {ceiling:?}");
            ceiling = (ceiling * 2).min(LONGEST);
        }
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
    }
}
