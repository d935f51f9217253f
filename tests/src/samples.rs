//! Samples: those a Prometheus says it has, and those that came out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The labels of a series, that of the name among them.
pub type Series = BTreeMap<String, String>;

/// By series, the time of each sample in milliseconds and the bits of its value. All that is no number is the same here, as
/// `promtool` prints one word for it.
#[derive(Debug, Default)]
pub struct Samples(BTreeMap<Series, BTreeSet<(i64, u64)>>);

impl Samples {
    /// One more; what is there stays there once.
    pub fn insert(&mut self, series: Series, millis: i64, value: f64) {
        let bits = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
        self.0.entry(series).or_default().insert((millis, bits));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The series of a metric, with the last time of each.
    pub fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Series, i64)> {
        let ends = self.0.iter().filter_map(|(series, all)| Some((series, all.last()?.0)));
        ends.filter(move |(series, _)| series.get("__name__").is_some_and(|is| is == name))
    }

    /// Those up to a time that others do not have.
    pub fn missing_in<'a>(
        &'a self,
        others: &'a Samples,
        until: i64,
    ) -> impl Iterator<Item = (&'a Series, i64, f64)> + 'a {
        let missing = move |(series, all): (&'a Series, &'a BTreeSet<(i64, u64)>)| {
            let theirs = others.0.get(series);
            let is_missing = move |one: &&(i64, u64)| one.0 <= until && !theirs.is_some_and(|all| all.contains(one));
            all.iter().filter(is_missing).map(move |(at, bits)| (series, *at, f64::from_bits(*bits)))
        };
        self.0.iter().flat_map(missing)
    }
}

/// The points in a file of `points_json`, which is read on as it grows.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    read: u64,
    /// The samples so far.
    pub samples: Samples,
    /// The lines so far; a sample may have come twice.
    pub lines: usize,
    /// How many of them end a series.
    pub stale: usize,
}

impl Output {
    /// What is in a file now; none is as one that is empty.
    pub fn of(path: &Path) -> Output {
        let mut output = Output { path: path.to_owned(), read: 0, samples: Samples::default(), lines: 0, stale: 0 };
        output.read_on();
        output
    }

    /// Takes the lines that have come since. Nobody may have cut the file in between, as a sink does that starts after a crash.
    pub fn read_on(&mut self) {
        let Ok(mut file) = File::open(&self.path) else { return };
        let mut text = String::new();
        file.seek(SeekFrom::Start(self.read)).unwrap();
        file.read_to_string(&mut text).unwrap();
        // A line that is being written is not looked at.
        let end = text.rfind('\n').map_or(0, |at| at + 1);
        self.read += end as u64;
        text[..end].lines().for_each(|line| self.take(line));
    }

    fn take(&mut self, line: &str) {
        let point: Value = serde_json::from_str(line).unwrap();
        let mut series: Series = serde_json::from_value(point["labels"].clone()).unwrap();
        series.insert("__name__".to_owned(), point["name"].as_str().unwrap().to_owned());
        // Not as a number of JSON, which may be read with a bit less.
        let (_, value) = line.rsplit_once("\"value\":").unwrap();
        let value = match value.trim_end_matches('}').trim_matches('"') {
            "stale" => {
                self.stale += 1;
                f64::NAN
            }
            text if text.starts_with("NaN") => f64::NAN,
            text => text.parse().unwrap(),
        };
        self.lines += 1;
        self.samples.insert(series, point["timestamp"].as_i64().unwrap(), value);
    }

    /// The latest time up to which every one of these jobs was scraped.
    pub fn reaches(&self, jobs: &[&str]) -> i64 {
        let ups: Vec<(&Series, i64)> = self.samples.of("up").collect();
        let end = |job: &&str| ups.iter().filter(|(series, _)| series["job"] == *job).map(|(_, end)| *end).max();
        jobs.iter().map(|job| end(job).unwrap_or(0)).min().unwrap_or(0)
    }
}

/// Holds that these are, up to a time, the samples that a Prometheus has.
///
/// # Panics
/// When one is missing, or there is one that it has not.
pub fn assert_same(output: &Samples, expected: &Samples, until: i64) {
    let missing: Vec<_> = expected.missing_in(output, until).collect();
    assert!(missing.is_empty(), "{} are missing, such as {:?}", missing.len(), missing[0]);
    let more: Vec<_> = output.missing_in(expected, until).collect();
    assert!(more.is_empty(), "{} that Prometheus has not, such as {:?}", more.len(), more[0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str) -> Series {
        Series::from([("__name__".to_owned(), name.to_owned())])
    }

    #[test]
    fn what_is_missing_is_told_and_no_number_is_as_any_other() {
        let (mut one, mut other) = (Samples::default(), Samples::default());
        one.insert(series("a"), 1, f64::from_bits(0x7ff0_0000_0000_0002));
        one.insert(series("a"), 1, f64::NAN);
        one.insert(series("a"), 2, 0.0);
        other.insert(series("a"), 1, f64::NAN);
        other.insert(series("a"), 2, -0.0);
        assert_eq!((one.len(), one.of("a").count(), one.of("b").count()), (2, 1, 0));
        assert_eq!(one.missing_in(&other, 2).map(|(_, at, _)| at).collect::<Vec<_>>(), [2], "-0 is another value");
        assert_same(&one, &other, 1);
    }

    #[test]
    fn lines_are_read_once_they_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.ndjson");
        let mut output = Output::of(&path);
        assert_eq!(output.lines, 0);
        let line = r#"{"labels":{"job":"a"},"name":"up","timestamp":5,"value":"stale"}"#;
        std::fs::write(&path, format!("{line}\n{}", &line[..9])).unwrap();
        output.read_on();
        assert_eq!((output.lines, output.stale, output.reaches(&["a"]), output.reaches(&["a", "b"])), (1, 1, 5, 0));
        std::fs::write(&path, format!("{line}\n{line}\n")).unwrap();
        output.read_on();
        assert_eq!((output.lines, output.samples.len()), (2, 1));
    }
}
