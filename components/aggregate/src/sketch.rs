//! Quantiles of any finite numbers, in bounded memory.
//!
//! DDSketch (Masson et al. 2019) with bins that are held only where values lie. Bin `i` of a sign counts the values from
//! `GAMMA^(i-1)` to `GAMMA^i`. Where there are more than [`MOST_BINS`], each two neighbours become one, everywhere (Epicoco et
//! al. 2020, "UDDSketch"): the error doubles for all values instead of being without bound for the smallest.

use serde::{Deserialize, Serialize};

/// The logarithm of the bins' base, for a relative error of 1 %.
const GAMMA_LN: f64 = 0.020_000_666_706_669_525;
/// Bins of both signs at most, of 16 bytes each. All floats together need 142,000, so the error is 16 % at most.
const MOST_BINS: usize = if cfg!(test) { 4096 } else { 16_384 };

/// The values so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sketch {
    positive: Bins,
    negative: Bins,
    zeros: u64,
    min: f64,
    max: f64,
    /// How often neighbours became one.
    halvings: u8,
}

impl Default for Sketch {
    fn default() -> Self {
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        Sketch { positive: Bins::default(), negative: Bins::default(), zeros: 0, min, max, halvings: 0 }
    }
}

/// The bins of one sign that count something, in order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Bins(Vec<(i32, u64)>);

impl Bins {
    fn add(&mut self, bin: i32, count: u64) {
        match self.0.binary_search_by_key(&bin, |(bin, _)| *bin) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(count),
            Err(at) => self.0.insert(at, (bin, count)),
        }
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The bin of the value that so many smaller ones come before.
    fn at_rank(&self, rank: u64) -> Option<i32> {
        let mut counted = 0;
        let found = self.0.iter().find(|(_, count)| {
            counted += count;
            counted > rank
        });
        found.or(self.0.last()).map(|(bin, _)| *bin)
    }

    fn halve(&mut self) {
        for (bin, _) in &mut self.0 {
            *bin = bin.saturating_add(1).div_euclid(2);
        }
        self.0.dedup_by(|(bin, count), (before, sum)| {
            let is_same = bin == before;
            *sum += if is_same { *count } else { 0 };
            is_same
        });
    }
}

impl Sketch {
    pub fn add(&mut self, value: f64) {
        (self.min, self.max) = (self.min.min(value), self.max.max(value));
        if value == 0.0 {
            self.zeros += 1;
            return;
        }
        let bin = (value.abs().ln() / self.width()).ceil() as i32;
        if value > 0.0 { &mut self.positive } else { &mut self.negative }.add(bin, 1);
        while self.positive.0.len() + self.negative.0.len() > MOST_BINS {
            self.positive.halve();
            self.negative.halve();
            self.halvings += 1;
        }
    }

    /// The width of a bin, as a logarithm.
    fn width(&self) -> f64 {
        GAMMA_LN * f64::from(1u32 << self.halvings.min(20))
    }

    /// The value in a bin that is off by the same factor from both of its ends.
    fn value(&self, bin: i32) -> f64 {
        let width = self.width();
        // 2 / (1 + gamma), as a logarithm: gamma^bin alone may be more than a float holds.
        (f64::from(bin) * width - ((1.0 + width.exp()) / 2.0).ln()).exp()
    }

    /// The value at the rank `quantile * (n - 1)`, rounded down; `None` of no values.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let (negative, positive) = (self.negative.count(), self.positive.count());
        let last = (negative + self.zeros + positive).checked_sub(1)?;
        let rank = (quantile * last as f64) as u64;
        let estimate = if quantile <= 0.0 {
            self.min
        } else if quantile >= 1.0 {
            self.max
        } else if rank < negative {
            -self.value(self.negative.at_rank(negative - rank - 1)?)
        } else if rank < negative + self.zeros {
            0.0
        } else {
            self.value(self.positive.at_rank(rank - negative - self.zeros)?)
        };
        // It may lie beyond everything that came.
        Some(estimate.max(self.min).min(self.max))
    }

    /// Bytes beside itself.
    pub fn heap_size(&self) -> usize {
        (self.positive.0.capacity() + self.negative.0.capacity()) * size_of::<(i32, u64)>()
    }
}

/// A sketch of an earlier version, which had all bins between the first and the last of the same width.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Earlier {
    config: (u32, f64, f64, f64, i32),
    positive: EarlierBins,
    negative: EarlierBins,
    min: f64,
    max: f64,
    sum: f64,
    zeros: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct EarlierBins {
    bins: Vec<u64>,
    count: u64,
    least: i32,
    greatest: i32,
    offset: i32,
    limit: u64,
    is_collapsed: bool,
}

impl EarlierBins {
    fn bins(&self) -> Bins {
        let bins = (self.offset..).zip(&self.bins).filter(|(_, count)| **count > 0);
        Bins(bins.map(|(bin, count)| (bin, *count)).collect())
    }
}

impl Earlier {
    /// Bytes beside itself.
    pub fn heap_size(&self) -> usize {
        (self.positive.bins.capacity() + self.negative.bins.capacity()) * size_of::<u64>()
    }
}

impl From<&Earlier> for Sketch {
    fn from(earlier: &Earlier) -> Sketch {
        let Earlier { positive, negative, min, max, zeros, .. } = earlier;
        let (positive, negative) = (positive.bins(), negative.bins());
        Sketch { positive, negative, zeros: *zeros, min: *min, max: *max, halvings: 0 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Numbers from 0 to 1 that only look random.
    fn numbers() -> impl Iterator<Item = f64> {
        (1u64..).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// Any magnitude from 1e-300 to 1e300 alike, either sign, and every tenth a zero.
    fn wide(count: usize) -> Vec<f64> {
        let mut rest = numbers();
        let mut next = || rest.next().unwrap();
        let one = |at: usize| match at % 10 {
            0 => 0.0,
            _ => {
                (next() * 600.0 - 300.0).exp2().powf(std::f64::consts::LOG2_10) * if next() < 0.5 { -1.0 } else { 1.0 }
            }
        };
        (0..count).map(one).collect()
    }

    /// The largest relative error over many quantiles.
    fn error_of(values: &[f64]) -> (f64, Sketch) {
        let mut sketch = Sketch::default();
        values.iter().for_each(|value| sketch.add(*value));
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let mut worst: f64 = 0.0;
        for step in 0..=1000 {
            let quantile = f64::from(step) / 1000.0;
            let exact = sorted[(quantile * (sorted.len() - 1) as f64) as usize];
            let found = sketch.quantile(quantile).unwrap();
            let error = if exact == 0.0 { found.abs() } else { ((found - exact) / exact).abs() };
            worst = worst.max(error);
        }
        (worst, sketch)
    }

    #[test]
    fn quantiles_are_within_one_percent_over_all_magnitudes() {
        let powers: Vec<f64> = (-300..=300).map(|power| 10f64.powi(power)).collect();
        let both: Vec<f64> = powers.iter().flat_map(|value| [*value, -*value]).chain([0.0; 100]).collect();
        let narrow: Vec<f64> = numbers().take(20_000).map(|number| 100.0 + number * 1e4).collect();
        let large = vec![1.7e308, 1.6e308, -1.7e308, 2.3e-308];
        for values in [powers, both, narrow, wide(3000), large, vec![-3.5], vec![0.0, 0.0]] {
            let (error, sketch) = error_of(&values);
            assert!(error < 0.010_001, "{error} of {} values", values.len());
            assert_eq!(sketch.halvings, 0);
        }
        assert_eq!(Sketch::default().quantile(0.5), None);
    }

    #[test]
    fn more_bins_than_fit_double_the_error_everywhere_and_no_more() {
        let (error, sketch) = error_of(&wide(100_000));
        assert!(sketch.halvings > 0 && sketch.positive.0.len() + sketch.negative.0.len() <= MOST_BINS);
        assert!(sketch.heap_size() <= 4 * MOST_BINS * 16, "{}", sketch.heap_size());
        let documented = (sketch.width() / 2.0).tanh();
        assert!(error <= documented * 1.000_1, "{error} of at most {documented}");
        let each: u64 = sketch.positive.count() + sketch.negative.count() + sketch.zeros;
        assert_eq!(each, 100_000);
    }

    #[test]
    fn a_sketch_of_an_earlier_version_goes_on() {
        // 1, 2 and 100, as sketches-ddsketch 0.3 wrote them: configuration, bins of both signs, least, greatest, sum, zeros.
        let bin = |value: f64| (value.ln() / GAMMA_LN).ceil() as i32;
        let mut bins = vec![0u64; usize::try_from(bin(100.0)).unwrap() + 1];
        [1.0, 2.0, 100.0].into_iter().for_each(|value| bins[usize::try_from(bin(value)).unwrap()] += 1);
        let none = EarlierBins {
            bins: vec![],
            count: 0,
            least: i32::MAX,
            greatest: i32::MIN,
            offset: 0,
            limit: 2048,
            is_collapsed: false,
        };
        let positive = EarlierBins { bins, count: 3, least: 0, greatest: bin(100.0), offset: 0, ..none.clone() };
        let config = (2048, 1.02, GAMMA_LN, 1e-9, 1037);
        let earlier = Earlier { config, positive, negative: none, min: 1.0, max: 100.0, sum: 103.0, zeros: 1 };
        let mut sketch = Sketch::from(&earlier);
        sketch.add(-5.0);
        let found = [0.0, 0.3, 0.5, 0.8, 1.0].map(|quantile| sketch.quantile(quantile).unwrap());
        for (found, expected) in found.into_iter().zip([-5.0, 0.0, 1.0, 2.0, 100.0f64]) {
            assert!((found - expected).abs() <= 0.0101 * expected.abs(), "{found} instead of {expected}");
        }
    }
}
