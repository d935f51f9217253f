//! A history of alerts as Prometheus writes them, and the changes that were told of it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// Alerts of the history.
pub const ALERTS: usize = 120;
/// How long they are watched, in minutes.
const MINUTES: usize = 4000;

/// Alerts that are pending, fire, and end, by a marker, by silence, or by going back to pending; each at its own times. Lines
/// as Vector writes them, in order of time.
pub fn history() -> String {
    let mut lines = String::new();
    for minute in 0..MINUTES {
        let (day, hour, rest) = (1 + minute / 1440, minute / 60 % 24, minute % 60);
        for alert in 0..ALERTS {
            let (state, value) = match ((minute + alert * 7) % 40, alert % 3) {
                (0..5, _) => ("pending", "1"),
                (5..18, _) => ("firing", "1"),
                (18, 0) => ("firing", "NaN"),
                (18, 1) => ("pending", "1"),
                _ => continue,
            };
            let labels = format!(
                r#"alertname="A{}",alertstate="{state}",cluster="c{}",why="disk almost full""#,
                alert / 4,
                alert % 4
            );
            writeln!(lines, "2026-03-{day:02}T{hour:02}:{rest:02}:00Z ALERTS{{{labels}}} = {value}").unwrap();
        }
    }
    lines
}

/// The changes that a file has of it in order, of each the first time; and how many came again.
///
/// # Panics
/// When there is no such file.
pub fn changes(file: &Path) -> (Vec<String>, usize) {
    let text = std::fs::read_to_string(file).unwrap();
    let mut seen = BTreeSet::new();
    let all: Vec<&str> = text.lines().collect();
    let first: Vec<String> = all.iter().filter(|line| seen.insert(**line)).map(|line| (*line).to_owned()).collect();
    let repeats = all.len() - first.len();
    (first, repeats)
}
