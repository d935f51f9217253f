//! The latest point of each series, and the text that says all of them. Pure: it is told the time.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use weir::event::CodecError;

use crate::codec::{absolute, number_text};
use crate::exposition::{put_metadata, put_series};
use crate::point::{Labels, Measured, Metadata, Point, STALE};

/// What a scraper is able to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Any name, in quotes where it has other characters.
    Quoted,
    /// Only such as Prometheus had before version 3: what is none becomes `_`.
    Plain,
}

#[derive(Debug)]
struct Latest {
    value: f64,
    /// Milliseconds.
    timestamp: Option<i64>,
    /// When it came, by the clock's uptime.
    came: Duration,
}

/// What is held.
#[derive(Debug)]
pub(super) struct Held {
    /// By name and labels.
    series: BTreeMap<(String, Labels), Latest>,
    families: BTreeMap<String, Metadata>,
    max_series: usize,
    keeps: Duration,
    /// Nothing is too old before this.
    swept: Duration,
}

impl Held {
    /// So many series and metrics with metadata at most, each as long as `keeps` after its last point.
    pub fn new(max_series: usize, keeps: Duration) -> Held {
        Held { series: BTreeMap::new(), families: BTreeMap::new(), max_series, keeps, swept: Duration::ZERO }
    }

    /// Takes a point. An older one than is held changes nothing; a stale marker ends its series.
    pub fn put(&mut self, point: Point, now: Duration) -> Result<(), CodecError> {
        absolute(&point, "prometheus_exporter")?;
        if point.measured == Measured::Nothing && !point.metadata.is_empty() && point.exemplars.is_empty() {
            return self.put_metadata(&point.name, point.metadata);
        }
        let value = point.value("prometheus_exporter")?;
        let timestamp = point.timestamp.map(|at| at.timestamp_millis());
        if !point.metadata.is_empty() {
            let family = family_of(&point.name, &point.metadata.kind).to_owned();
            self.put_metadata(&family, point.metadata)?;
        }
        // To Prometheus a label without a text is none.
        let labels = point.labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let key = (point.name, labels);
        if let Some(held) = self.series.get_mut(&key) {
            if held.timestamp > timestamp && timestamp.is_some() {
                return Ok(());
            }
            if value.to_bits() == STALE {
                self.series.remove(&key);
            } else {
                *held = Latest { value, timestamp, came: now };
            }
            return Ok(());
        }
        if value.to_bits() == STALE {
            return Ok(());
        }
        if self.series.len() >= self.max_series {
            self.sweep(now);
        }
        if self.series.len() >= self.max_series {
            let message = format!("{} series are held already; raise max_series", self.max_series);
            return Err(CodecError::new("too_many_series", message));
        }
        self.series.insert(key, Latest { value, timestamp, came: now });
        Ok(())
    }

    fn put_metadata(&mut self, family: &str, metadata: Metadata) -> Result<(), CodecError> {
        if let Some(known) = self.families.get_mut(family) {
            // One event may say the type, and another the help.
            let own = [metadata.kind, metadata.help, metadata.unit];
            for (known, own) in [&mut known.kind, &mut known.help, &mut known.unit].into_iter().zip(own) {
                if !own.is_empty() {
                    *known = own;
                }
            }
            return Ok(());
        }
        if self.families.len() >= self.max_series {
            let message = format!("metadata of {} metrics is held already; raise max_series", self.max_series);
            return Err(CodecError::new("too_many_series", message));
        }
        self.families.insert(family.to_owned(), metadata);
        Ok(())
    }

    /// Forgets series that had no point for too long.
    fn sweep(&mut self, now: Duration) {
        if now < self.swept {
            return;
        }
        self.series.retain(|_, latest| now.saturating_sub(latest.came) <= self.keeps);
        let oldest = self.series.values().map(|latest| latest.came).min().unwrap_or(now);
        self.swept = oldest + self.keeps;
    }

    /// As the text format has it: the lines of a metric together, behind what is known of it.
    pub fn text(&mut self, names: Names, has_timestamps: bool, now: Duration) -> String {
        self.sweep(now);
        let mut lines: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut series: Vec<_> = self.series.iter().collect();
        series.sort_by(|(one, _), (other, _)| in_order(one, other));
        for ((name, labels), latest) in series {
            let family = self.family(name);
            let out = lines.entry(plain(family, names)).or_insert_with(|| {
                let mut head = Vec::new();
                if let Some(metadata) = self.families.get(family) {
                    let said = Metadata { kind: kind(&metadata.kind).to_owned(), ..metadata.clone() };
                    put_metadata(&plain(family, names), &said, &mut head);
                    head.push(b'\n');
                }
                head
            });
            match names {
                Names::Quoted => put_series(name, labels, out),
                Names::Plain => {
                    // Two names may become one; the first stays.
                    let mut all = Labels::new();
                    for (name, value) in labels {
                        all.entry(plain_label(name)).or_insert_with(|| value.clone());
                    }
                    put_series(&plain(name, names), &all, out);
                }
            }
            let mut rest = format!(" {}", number_text(latest.value));
            if let Some(timestamp) = latest.timestamp.filter(|_| has_timestamps) {
                let _ = write!(rest, " {timestamp}");
            }
            rest.push('\n');
            out.extend_from_slice(rest.as_bytes());
        }
        let text: Vec<u8> = lines.into_values().flatten().collect();
        String::from_utf8(text).unwrap_or_default()
    }

    /// The metric that a series belongs to: of a histogram and a summary, what stands before the suffix.
    fn family<'a>(&self, name: &'a str) -> &'a str {
        let suffixes = ["_bucket", "_sum", "_count"];
        let bases = suffixes.iter().filter_map(|suffix| name.strip_suffix(suffix));
        let is_one =
            |base: &&str| self.families.get(*base).is_some_and(|metadata| family_of(name, &metadata.kind) == *base);
        bases.into_iter().find(is_one).unwrap_or(name)
    }
}

/// The labels whose values are numbers: bounds of buckets, and quantiles.
const BOUNDS: [&str; 2] = ["le", "quantile"];

/// The order of lines: the buckets of one histogram stand together, by the numbers of their bounds, and `+Inf` last.
fn in_order((name, labels): &(String, Labels), (other_name, others): &(String, Labels)) -> Ordering {
    fn rest(labels: &Labels) -> impl Iterator<Item = (&String, &String)> {
        labels.iter().filter(|(name, _)| !BOUNDS.contains(&name.as_str()))
    }
    fn bounds(labels: &Labels) -> [f64; 2] {
        BOUNDS.map(|name| labels.get(name).map_or(f64::NEG_INFINITY, |bound| bound.parse().unwrap_or(f64::INFINITY)))
    }
    let by_bounds = || {
        let all = bounds(labels).into_iter().zip(bounds(others));
        all.fold(Ordering::Equal, |order, (one, other)| order.then(one.total_cmp(&other)))
    };
    let by_name = name.cmp(other_name).then_with(|| rest(labels).cmp(rest(others)));
    by_name.then_with(by_bounds).then_with(|| labels.cmp(others))
}

/// The metric that a series of this type belongs to.
fn family_of<'a>(name: &'a str, kind: &str) -> &'a str {
    let suffixes: &[&str] = match kind {
        "histogram" | "gaugehistogram" => &["_bucket", "_sum", "_count"],
        "summary" => &["_sum", "_count"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// A type as the text format knows it.
fn kind(kind: &str) -> &str {
    match kind {
        "counter" | "gauge" | "histogram" | "summary" => kind,
        "gaugehistogram" => "histogram",
        "info" | "stateset" => "gauge",
        "" => "",
        _ => "untyped",
    }
}

fn plain(name: &str, names: Names) -> String {
    match names {
        Names::Quoted => name.to_owned(),
        Names::Plain => with_letters(name, |character| character == ':'),
    }
}

fn plain_label(name: &str) -> String {
    with_letters(name, |_| false)
}

fn with_letters(name: &str, also: impl Fn(char) -> bool) -> String {
    let fits = |character: char| character.is_ascii_alphanumeric() || character == '_' || also(character);
    let text: String = name.chars().map(|character| if fits(character) { character } else { '_' }).collect();
    if text.starts_with(|first: char| first.is_ascii_digit()) { format!("_{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn point(name: &str, label: &str, value: f64, millis: i64) -> Point {
        let labels = Labels::from([("a".to_owned(), label.to_owned())]);
        Point::new(name.to_owned(), labels, DateTime::from_timestamp_millis(millis), value)
    }

    fn about(name: &str, kind: &str) -> Point {
        let metadata = Metadata { kind: kind.to_owned(), ..Metadata::default() };
        Point { name: name.to_owned(), metadata, ..Point::default() }
    }

    #[test]
    fn the_newest_point_of_each_series_is_told_until_its_series_ends() {
        let mut held = Held::new(10, 60 * SECOND);
        held.put(point("up", "1", 1.0, 2000), SECOND).unwrap();
        held.put(point("up", "1", 0.0, 1000), SECOND).unwrap();
        held.put(point("up", "2", f64::INFINITY, 1000), 2 * SECOND).unwrap();
        held.put(point("up", "", 3.0, 1000), 2 * SECOND).unwrap();
        let all = "up 3 1000\nup{a=\"1\"} 1 2000\nup{a=\"2\"} +Inf 1000\n";
        assert_eq!(held.text(Names::Quoted, true, 2 * SECOND), all);
        held.put(point("up", "1", f64::from_bits(STALE), 2500), 3 * SECOND).unwrap();
        assert_eq!(held.text(Names::Quoted, false, 3 * SECOND), "up 3\nup{a=\"2\"} +Inf\n");
        held.put(point("up", "2", 1.0, 1000), 30 * SECOND).unwrap();
        assert_eq!(held.text(Names::Quoted, false, 63 * SECOND), "up{a=\"2\"} 1\n", "the other is too old");
        assert_eq!(held.text(Names::Quoted, false, 91 * SECOND), "");
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut held = Held::new(2, 60 * SECOND);
        held.put(point("up", "1", 1.0, 0), SECOND).unwrap();
        held.put(point("up", "2", 1.0, 0), 30 * SECOND).unwrap();
        assert_eq!(held.put(point("up", "3", 1.0, 0), 60 * SECOND).unwrap_err().code, "too_many_series");
        held.put(point("up", "2", 2.0, 0), 60 * SECOND).unwrap();
        held.put(point("up", "3", 1.0, 0), 62 * SECOND).unwrap();
        assert_eq!(held.text(Names::Quoted, false, 62 * SECOND), "up{a=\"2\"} 2\nup{a=\"3\"} 1\n");
        for name in ["a", "b"] {
            held.put(about(name, "gauge"), SECOND).unwrap();
        }
        assert_eq!(held.put(about("c", "gauge"), SECOND).unwrap_err().code, "too_many_series");
    }

    #[test]
    fn lines_of_a_metric_stand_together_behind_what_is_known_of_it() {
        let mut held = Held::new(10, 60 * SECOND);
        for name in ["rpc_sum", "rpc_bucket", "rpc_b", "rpc_count", "go_info"] {
            held.put(point(name, "", 1.0, 0), SECOND).unwrap();
        }
        held.put(about("rpc", "histogram"), SECOND).unwrap();
        let mut more = about("rpc", "");
        more.metadata.help = "All of\nthem.".to_owned();
        held.put(more, SECOND).unwrap();
        let kinds = Point { metadata: about("", "info").metadata, ..point("go_info", "", 1.0, 0) };
        held.put(kinds, SECOND).unwrap();
        let text = "# TYPE go_info gauge\ngo_info 1\n\
                    # HELP rpc All of\\nthem.\n# TYPE rpc histogram\nrpc_bucket 1\nrpc_count 1\nrpc_sum 1\nrpc_b 1\n";
        assert_eq!(held.text(Names::Plain, false, SECOND), text);
    }

    #[test]
    fn buckets_and_quantiles_stand_in_the_order_of_their_numbers() {
        let mut held = Held::new(100, 60 * SECOND);
        let mut put = |name: &str, labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            held.put(Point::new(name.to_owned(), labels, None, 1.0), SECOND).unwrap();
        };
        for pod in ["b", "a"] {
            for bound in ["+Inf", "0.5", "1000", "125", "1e3", "-1", "2.50"] {
                put("h_bucket", &[("le", bound), ("pod", pod), ("a", "x")]);
            }
            for quantile in ["0.99", "1", "0.5", "0.999"] {
                put("s", &[("quantile", quantile), ("z", pod)]);
            }
        }
        put("h_bucket", &[("le", "odd"), ("pod", "a"), ("a", "x")]);
        let text = held.text(Names::Quoted, false, SECOND);
        let of = |name: &str, label: &str| -> Vec<&str> {
            let lines = text.lines().filter(|line| line.starts_with(name));
            let values = lines.filter_map(|line| line.split_once(&format!("{label}=\"")));
            values.filter_map(|(_, rest)| rest.split('"').next()).collect()
        };
        let bounds = ["-1", "0.5", "2.50", "125", "1000", "1e3", "+Inf"];
        assert_eq!(of("h_bucket", "le"), [&bounds[..], &["odd"], &bounds].concat());
        assert_eq!(of("h_bucket", "pod"), [["a"; 8].as_slice(), &["b"; 7]].concat());
        assert_eq!(of("s{", "quantile"), ["0.5", "0.99", "0.999", "1"].repeat(2));
    }

    #[test]
    fn names_are_plain_for_those_who_know_no_others() {
        let mut held = Held::new(10, 60 * SECOND);
        let mut dotted = point("9.a:b", "1", 1.0, 0);
        dotted.labels.insert("x.y".to_owned(), "2".to_owned());
        held.put(dotted, SECOND).unwrap();
        assert_eq!(held.text(Names::Quoted, false, SECOND), "{\"9.a:b\",a=\"1\",\"x.y\"=\"2\"} 1\n");
        assert_eq!(held.text(Names::Plain, false, SECOND), "_9_a:b{a=\"1\",x_y=\"2\"} 1\n");
    }

    #[test]
    fn what_the_format_has_no_way_to_say_is_refused() {
        let mut held = Held::new(10, 60 * SECOND);
        let added = Point { is_incremental: true, ..point("up", "", 1.0, 0) };
        let histogram = Point { measured: Measured::Histogram(Box::default()), ..point("up", "", 1.0, 0) };
        let exemplars = Point { measured: Measured::Nothing, exemplars: vec![Default::default()], ..about("up", "") };
        for point in [added, histogram, exemplars] {
            assert_eq!(held.put(point, SECOND).unwrap_err().code, "unsupported_value");
        }
    }
}
