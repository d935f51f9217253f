//! A native histogram: what one is, and when its numbers agree.

mod value;

/// A native histogram, as Prometheus's `model/histogram` has it.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// Whole counts, or floats.
    pub counts: Counts,
    /// The sum of all that was observed.
    pub sum: f64,
    /// Which buckets there are: each power of two is divided into 2^schema; -53: those of `custom_values`.
    pub schema: i32,
    /// How far the bucket around zero reaches.
    pub zero_threshold: f64,
    /// What is known of resets.
    pub reset_hint: ResetHint,
    /// The upper bounds of custom buckets.
    pub custom_values: Vec<f64>,
}

/// The counts of a histogram.
#[derive(Debug, Clone)]
pub enum Counts {
    /// Whole counts; those of buckets as differences to the one before.
    Int(Buckets<u64, i64>),
    /// Floats, each for itself.
    Float(Buckets<f64, f64>),
}

impl Default for Counts {
    fn default() -> Counts {
        Counts::Int(Buckets::default())
    }
}

/// Counts of one kind.
#[derive(Debug, Clone, Default)]
pub struct Buckets<C, B> {
    /// Of everything observed.
    pub count: C,
    /// Of the bucket around zero.
    pub zero_count: C,
    /// The buckets below zero.
    pub negative: Side<B>,
    /// The buckets above zero, or the custom ones.
    pub positive: Side<B>,
}

/// The buckets of one side: where they are, and what is in them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Side<B> {
    /// Stretches of buckets that are there.
    pub spans: Vec<Stretch>,
    /// One for each bucket.
    pub buckets: Vec<B>,
}

/// Buckets behind one another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stretch {
    /// How many buckets lie between this one and the one before; where the first one begins.
    pub offset: i32,
    /// How many buckets there are.
    pub length: u32,
}

/// What is known of a counter's reset in front of a histogram.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ResetHint {
    /// Nothing.
    #[default]
    Unknown,
    /// It is the first one after a reset.
    Yes,
    /// There was none.
    No,
    /// It is a gauge, and has no resets.
    Gauge,
}

/// Bit for bit, as what is no number is not equal to itself.
impl PartialEq for Histogram {
    fn eq(&self, other: &Histogram) -> bool {
        let bits = |all: &[f64]| all.iter().map(|value| value.to_bits()).collect::<Vec<u64>>();
        let own = |histogram: &Histogram| {
            let floats = [&[histogram.sum, histogram.zero_threshold], &*histogram.custom_values].concat();
            (histogram.schema, histogram.reset_hint, bits(&floats))
        };
        own(self) == own(other)
            && match (&self.counts, &other.counts) {
                (Counts::Int(one), Counts::Int(other)) => {
                    (one.count, one.zero_count, &one.negative, &one.positive)
                        == (other.count, other.zero_count, &other.negative, &other.positive)
                }
                (Counts::Float(one), Counts::Float(other)) => {
                    let counts = |all: &Buckets<f64, f64>| {
                        let both = [&*all.negative.buckets, &*all.positive.buckets].concat();
                        (bits(&[all.count, all.zero_count]), bits(&both), all.negative.buckets.len())
                    };
                    counts(one) == counts(other)
                        && (&one.negative.spans, &one.positive.spans) == (&other.negative.spans, &other.positive.spans)
                }
                _ => false,
            }
    }
}

/// The schema of custom buckets.
const CUSTOM: i32 = -53;
/// The schemas that have powers of two; Prometheus reserves those that it does not use yet.
const EXPONENTIAL: std::ops::RangeInclusive<i32> = -9..=52;

impl Histogram {
    /// Whether its numbers agree, by the rules of Prometheus: bounds that rise, a count for each bucket, none below zero, and
    /// as many in all as the count says.
    pub fn check(&self) -> Result<(), String> {
        let (negative_spans, negative, positive_spans, positive) = match &self.counts {
            Counts::Int(all) => {
                (&all.negative.spans, all.negative.buckets.len(), &all.positive.spans, all.positive.buckets.len())
            }
            Counts::Float(all) => {
                (&all.negative.spans, all.negative.buckets.len(), &all.positive.spans, all.positive.buckets.len())
            }
        };
        if self.schema == CUSTOM {
            self.check_custom(negative_spans.len() + negative, positive_spans, positive)?;
        } else if EXPONENTIAL.contains(&self.schema) {
            if !self.custom_values.is_empty() {
                return Err(format!("schema {} has no custom bounds", self.schema));
            }
            check_spans(negative_spans, negative, i32::MIN).map_err(|error| format!("negative buckets: {error}"))?;
            check_spans(positive_spans, positive, i32::MIN).map_err(|error| format!("positive buckets: {error}"))?;
        } else {
            return Err(format!("there is no schema {}", self.schema));
        }
        match &self.counts {
            Counts::Int(all) => self.check_whole(all),
            Counts::Float(all) => {
                let mut counts = all.negative.buckets.iter().chain(&all.positive.buckets);
                let is_negative = |count: &f64| *count < 0.0;
                if is_negative(&all.count) || is_negative(&all.zero_count) || counts.any(is_negative) {
                    return Err("a count is below zero".to_owned());
                }
                Ok(())
            }
        }
    }

    fn check_custom(&self, negative: usize, spans: &[Stretch], buckets: usize) -> Result<(), String> {
        let rises = self.custom_values.windows(2).all(|pair| pair[0] < pair[1]);
        if !rises || self.custom_values.iter().any(|bound| bound.is_nan() || *bound == f64::INFINITY) {
            return Err("custom bounds have to rise, and +Inf is not one of them".to_owned());
        }
        let has_zero = match &self.counts {
            Counts::Int(all) => all.zero_count != 0,
            Counts::Float(all) => all.zero_count != 0.0,
        };
        if negative > 0 || has_zero || self.zero_threshold != 0.0 {
            return Err("with custom bounds there are no negative buckets and none around zero".to_owned());
        }
        let reach = check_spans(spans, buckets, 0)?;
        // The last one is that up to +Inf.
        if reach > self.custom_values.len() as u64 + 1 {
            return Err("it has more buckets than custom bounds".to_owned());
        }
        Ok(())
    }

    fn check_whole(&self, all: &Buckets<u64, i64>) -> Result<(), String> {
        let sums = [whole_sum(&all.negative.buckets)?, whole_sum(&all.positive.buckets)?];
        let sum = u128::from(all.zero_count) + sums.iter().sum::<u128>();
        // What is no number is counted, but in no bucket.
        let agrees = if self.sum.is_nan() { sum <= u128::from(all.count) } else { sum == u128::from(all.count) };
        if agrees { Ok(()) } else { Err(format!("its buckets hold {sum}, and its count is {}", all.count)) }
    }
}

/// Up to where the spans reach, seen from the first one's beginning.
fn check_spans(spans: &[Stretch], buckets: usize, least_first: i32) -> Result<u64, String> {
    let mut length = 0_u64;
    let mut reach = 0_i64;
    for (at, span) in spans.iter().enumerate() {
        if span.offset < if at == 0 { least_first } else { 0 } {
            return Err("a span begins before the end of the one before".to_owned());
        }
        length += u64::from(span.length);
        reach += i64::from(span.offset) + i64::from(span.length);
    }
    if length != buckets as u64 {
        return Err(format!("its spans have {length} buckets, and {buckets} counts are given"));
    }
    Ok(u64::try_from(reach).unwrap_or(0))
}

fn whole_sum(deltas: &[i64]) -> Result<u128, String> {
    let mut count = 0_i64;
    let mut sum = 0_u128;
    for delta in deltas {
        let next = count.checked_add(*delta).and_then(|count| Some((count, u128::try_from(count).ok()?)));
        let Some((next, whole)) = next else { return Err("a bucket's count is below zero".to_owned()) };
        count = next;
        sum += whole;
    }
    Ok(sum)
}
