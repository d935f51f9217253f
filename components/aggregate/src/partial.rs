//! What a window and group has come to so far.

use serde::{Deserialize, Serialize};
use vrl::value::Value;

use crate::config::Compute;
use crate::distinct::Distinct;
use crate::number::Number;
use crate::sketch::{Earlier, Sketch};

/// One computed field, so far.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Partial {
    Count(u64),
    /// None yet: the sum of nothing is null, as in SQL.
    Sum(Option<Number>),
    Min(Option<Number>),
    Max(Option<Number>),
    /// Welford's method (1962): count, mean, sum of squared differences from it.
    Moments {
        count: u64,
        mean: f64,
        squares: f64,
    },
    /// A sketch that an earlier version wrote, until a number is added.
    #[serde(rename = "Sketch")]
    EarlierSketch(Box<Earlier>),
    Distinct(Distinct),
    Quantiles(Box<Sketch>),
}

impl Partial {
    pub fn new(compute: &Compute) -> Partial {
        match compute {
            Compute::Count => Partial::Count(0),
            Compute::Sum(_) => Partial::Sum(None),
            Compute::Min(_) => Partial::Min(None),
            Compute::Max(_) => Partial::Max(None),
            Compute::Mean(_) | Compute::Stddev(_) => Partial::Moments { count: 0, mean: 0.0, squares: 0.0 },
            Compute::Quantile(..) => Partial::Quantiles(Box::default()),
            Compute::Distinct(_) => Partial::Distinct(Distinct::default()),
        }
    }

    /// Bytes beside itself, about.
    pub fn heap_size(&self) -> usize {
        match self {
            Partial::Quantiles(sketch) => size_of::<Sketch>() + sketch.heap_size(),
            Partial::EarlierSketch(earlier) => size_of::<Earlier>() + earlier.heap_size(),
            Partial::Distinct(distinct) => distinct.heap_size(),
            Partial::Sum(number) | Partial::Min(number) | Partial::Max(number) => {
                number.as_ref().map_or(0, Number::heap_size)
            }
            Partial::Count(_) | Partial::Moments { .. } => 0,
        }
    }

    /// Takes in the argument of an event; null does not count.
    pub fn add(&mut self, argument: Option<&Value>) {
        if let Partial::Count(count) = self {
            *count += 1;
            return;
        }
        if let (Partial::Distinct(distinct), Some(Value::Integer(hash))) = (&mut *self, argument) {
            return distinct.add(hash.cast_unsigned());
        }
        let Some(number) = argument.and_then(Number::of) else { return };
        if let Partial::EarlierSketch(earlier) = self {
            *self = Partial::Quantiles(Box::new(Sketch::from(&**earlier)));
        }
        match self {
            Partial::Sum(sum) => *sum = Some(sum.as_ref().map_or_else(|| number.clone(), |sum| sum.plus(&number))),
            Partial::Min(min) => {
                if min.as_ref().is_none_or(|min| number.is_below(min)) {
                    *min = Some(number);
                }
            }
            Partial::Max(max) => {
                if max.as_ref().is_none_or(|max| max.is_below(&number)) {
                    *max = Some(number);
                }
            }
            Partial::Moments { count, mean, squares } => {
                *count += 1;
                (*mean, *squares) = with(number.as_f64(), *count as f64, *mean, *squares);
            }
            Partial::Quantiles(sketch) => sketch.add(number.as_f64()),
            Partial::Count(_) | Partial::Distinct(_) | Partial::EarlierSketch(_) => {}
        }
    }

    /// Whether the result would be larger than a float holds if it took this argument in.
    pub fn overflows(&self, compute: &Compute, argument: Option<&Value>) -> bool {
        let Some(number) = argument.and_then(Number::of) else { return false };
        match (self, compute) {
            (Partial::Sum(Some(sum)), _) => !sum.plus(&number).as_f64().is_finite(),
            (Partial::Moments { count, mean, squares }, Compute::Stddev(_)) => {
                !with(number.as_f64(), (*count + 1) as f64, *mean, *squares).1.is_finite()
            }
            _ => false,
        }
    }

    /// The result; `None` where nothing counted.
    pub fn result(&self, compute: &Compute) -> Option<Number> {
        match (self, compute) {
            (Partial::Count(count), _) => Some(whole(*count)),
            (Partial::Sum(number) | Partial::Min(number) | Partial::Max(number), _) => number.clone(),
            (Partial::Moments { count: 0, .. }, _) => None,
            (Partial::Moments { count, squares, .. }, Compute::Stddev(_)) => {
                Some(Number::Float((squares / *count as f64).sqrt()))
            }
            (Partial::Moments { mean, .. }, _) => Some(Number::Float(*mean)),
            (Partial::Quantiles(sketch), Compute::Quantile(_, quantile)) => {
                sketch.quantile(*quantile).map(Number::Float)
            }
            (Partial::EarlierSketch(earlier), Compute::Quantile(_, quantile)) => {
                Sketch::from(&**earlier).quantile(*quantile).map(Number::Float)
            }
            (Partial::Quantiles(_) | Partial::EarlierSketch(_), _) => None,
            (Partial::Distinct(distinct), _) => Some(whole(distinct.count())),
        }
    }
}

/// Mean and sum of squares with one more number, the `count`-th.
fn with(number: f64, count: f64, mean: f64, squares: f64) -> (f64, f64) {
    let difference = number - mean;
    // Between large numbers of both signs the difference is too large, and the mean is not.
    let step = if difference.is_finite() { difference / count } else { number / count - mean / count };
    let mean = mean + step;
    (mean, squares + difference * (number - mean))
}

fn whole(count: u64) -> Number {
    Number::Whole(i64::try_from(count).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(compute: Compute, values: &[Value]) -> Option<Number> {
        let mut partial = Partial::new(&compute);
        values.iter().for_each(|value| partial.add(Some(value)));
        partial.result(&compute)
    }

    #[test]
    fn each_is_what_its_name_says() {
        let values: Vec<Value> = [2i64, 4, 4, 4, 5, 5, 7, 9].into_iter().map(Value::from).collect();
        let arg = || ".x".to_owned();
        assert_eq!(of(Compute::Count, &values), Some(Number::Whole(8)));
        assert_eq!(of(Compute::Sum(arg()), &values), Some(Number::Whole(40)));
        assert_eq!(of(Compute::Min(arg()), &values), Some(Number::Whole(2)));
        assert_eq!(of(Compute::Max(arg()), &values), Some(Number::Whole(9)));
        assert_eq!(of(Compute::Mean(arg()), &values), Some(Number::Float(5.0)));
        assert_eq!(of(Compute::Stddev(arg()), &values), Some(Number::Float(2.0)));
        let Some(Number::Float(median)) = of(Compute::Quantile(arg(), 0.5), &values) else { panic!("no median") };
        assert!((median - 4.0).abs() <= 0.05, "{median}");
        for compute in [Compute::Sum(arg()), Compute::Min(arg()), Compute::Mean(arg()), Compute::Quantile(arg(), 0.5)] {
            assert_eq!(of(compute, &[Value::Null]), None, "of nothing there is nothing");
        }
    }

    #[test]
    fn a_quantile_lies_between_the_least_and_the_greatest() {
        for values in [vec![1000.0], vec![-7.3, -7.3], vec![0.1, 1e9], vec![1e308, 1.7e308], vec![-1e-12, 0.0, 5.0]] {
            let numbers: Vec<Value> = values.iter().map(|value| Value::from_f64_or_zero(*value)).collect();
            for quantile in [0.0, 0.01, 0.5, 0.99, 1.0] {
                let Some(Number::Float(found)) = of(Compute::Quantile(".x".to_owned(), quantile), &numbers) else {
                    panic!("no quantile of {values:?}")
                };
                assert!((values[0]..=values[values.len() - 1]).contains(&found), "{quantile} of {values:?}: {found}");
            }
        }
    }

    #[test]
    fn what_a_float_cannot_hold_is_known_before_it_is_taken_in() {
        let (large, arg) = (Value::from_f64_or_zero(1.7e308), || ".x".to_owned());
        let minus = Value::from_f64_or_zero(-1.7e308);
        let after = |compute: &Compute, first: &Value, next: &Value| {
            let mut partial = Partial::new(compute);
            partial.add(Some(first));
            (partial.overflows(compute, Some(next)), {
                partial.add(Some(next));
                partial.result(compute)
            })
        };
        assert!(after(&Compute::Sum(arg()), &large, &large).0);
        assert!(!after(&Compute::Sum(arg()), &large, &minus).0);
        assert!(!after(&Compute::Sum(arg()), &i64::MAX.into(), &i64::MAX.into()).0);
        assert_eq!(after(&Compute::Mean(arg()), &large, &minus), (false, Some(Number::Float(0.0))));
        assert!(after(&Compute::Stddev(arg()), &large, &minus).0);
        assert!(!after(&Compute::Stddev(arg()), &large, &large).0);
        assert_eq!(Number::of(&Value::from_f64_or_zero(f64::INFINITY)), None, "no number to compute with");
    }

    #[test]
    fn the_least_and_the_greatest_keep_all_their_digits() {
        let digits = ["18446744073709551614", "18446744073709551615", "18446744073709551613"];
        let values: Vec<Value> = digits.into_iter().map(Value::from).collect();
        let spelled = |digits: &str| Some(Number::Spelled(digits.into()));
        assert_eq!(of(Compute::Min(".x".to_owned()), &values), spelled(digits[2]));
        assert_eq!(of(Compute::Max(".x".to_owned()), &values), spelled(digits[1]));
        assert_eq!(of(Compute::Sum(".x".to_owned()), &values[..1]), spelled(digits[0]));
        assert_eq!(of(Compute::Sum(".x".to_owned()), &values[..2]), Some(Number::Float(2f64.powi(65))));
    }

    #[test]
    fn a_sum_stays_whole_while_it_fits() {
        let sum = |values: &[Value]| of(Compute::Sum(".x".to_owned()), values);
        assert_eq!(sum(&[1i64.into(), 2i64.into()]), Some(Number::Whole(3)));
        assert_eq!(sum(&[1i64.into(), Value::from_f64_or_zero(0.5)]), Some(Number::Float(1.5)));
        assert_eq!(sum(&[i64::MAX.into(), i64::MAX.into()]), Some(Number::Float(i64::MAX as f64 * 2.0)));
    }
}
