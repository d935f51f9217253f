//! Latency of a node: how long batches take, as a histogram that many threads count in.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Upper bounds of the buckets in seconds, inclusive; one more bucket holds what took longer.
pub const BOUNDS: [f64; 15] =
    [0.0001, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// Counts batches by the time they took.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// The counts at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LatencyTotals {
    /// Batches per bucket; not cumulative.
    pub buckets: Vec<u64>,
    /// Sum of all times, in microseconds.
    pub micros: u64,
}

impl Latency {
    /// Counts a batch that took this long.
    pub fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The counts now.
    pub fn totals(&self) -> LatencyTotals {
        let buckets = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        LatencyTotals { buckets, micros: self.micros.load(Relaxed) }
    }
}

impl LatencyTotals {
    /// Number of batches.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The counts since an earlier moment.
    #[must_use]
    pub fn since(&self, before: &LatencyTotals) -> LatencyTotals {
        let old = before.buckets.iter().chain(std::iter::repeat(&0));
        let buckets = self.buckets.iter().zip(old).map(|(now, old)| now.saturating_sub(*old)).collect();
        LatencyTotals { buckets, micros: self.micros.saturating_sub(before.micros) }
    }

    /// The time in seconds within which this share of the batches was done: the upper bound of the bucket. `None`: there were
    /// no batches. Infinite: longer than the last bound.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((count as f64 * share).ceil() as u64).max(1);
        let mut below = 0;
        let bucket = self.buckets.iter().position(|bucket| {
            below += bucket;
            below >= rank
        });
        Some(bucket.and_then(|bucket| BOUNDS.get(bucket)).copied().unwrap_or(f64::INFINITY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_counts_in_the_bucket_of_its_time() {
        let latency = Latency::default();
        for millis in [1, 2, 3, 20, 1_000_000] {
            latency.record(Duration::from_millis(millis));
        }
        let totals = latency.totals();
        assert_eq!(totals.buckets, [0, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((totals.count(), totals.micros), (5, 1_000_026_000));
        assert_eq!([0.2, 0.5, 0.8].map(|share| totals.quantile(share)), [Some(0.001), Some(0.005), Some(0.025)]);
        assert_eq!(totals.quantile(1.0), Some(f64::INFINITY));
        assert_eq!(totals.since(&totals).quantile(0.5), None);
        latency.record(Duration::from_millis(7));
        assert_eq!(latency.totals().since(&totals).quantile(0.99), Some(0.01));
    }
}
