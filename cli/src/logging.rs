//! Logs to standard error: structured, and rate-limited by place, so that an error in a loop cannot flood.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use tracing::callsite::Identifier;
use tracing::field::Field;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{self, FormatFields};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};
use weir::terminal;

use crate::args::LogFormat;
use crate::print::{err_as_is, errln};
use crate::screen::Screen;

/// Lines one place in the code may write in one window; the next window's first line says how many were not.
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

/// Starts logging; `WEIR_LOG` sets the level (`warn`, `debug`, `weir_kafka=debug`), default `info`.
pub(crate) fn start(format: LogFormat) {
    start_at(format, "info");
}

/// The same for verbs whose output is the thing to read: warnings and worse.
pub(crate) fn start_quiet() {
    start_at(LogFormat::Text, "warn");
}

fn start_at(format: LogFormat, level: &str) {
    let wanted = std::env::var("WEIR_LOG").ok().filter(|wanted| !wanted.is_empty());
    let levels = wanted.as_deref().and_then(|wanted| {
        let levels = check_levels(wanted).and_then(|()| EnvFilter::try_new(wanted).map_err(|error| error.to_string()));
        let help = "write error, warn, info, debug, trace or off, or a module's level such as weir_kafka=debug";
        levels.inspect_err(|why| errln!("WEIR_LOG={wanted}: {why}; {help}; using {level}")).ok()
    });
    let levels = levels.unwrap_or_else(|| EnvFilter::new(level));
    let screen = Screen::err();
    let (is_terminal, coloured) = (screen.is_terminal(), screen.has_colour);
    let writer = move || Line { coloured };
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(coloured).with_target(false);
    // It would be printed to standard error, too, and panic where that is what does not work.
    let lines = lines.log_internal_errors(false);
    let lines = match format {
        LogFormat::Text if is_terminal => lines.with_timer(TimeOfDay).fmt_fields(fields()).boxed(),
        LogFormat::Text => lines.fmt_fields(fields()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let limit = LIMIT.get_or_init(|| RateLimit { format, places: Mutex::default() });
    let registry = tracing_subscriber::registry().with(lines.with_filter(limit)).with(levels);
    // Fails only when a host program has set up logging of its own.
    let _ = registry.try_init();
}

/// Whether each part is a level, or a level of a module of weir or of a library: the filter takes any other word for a module
/// that logs nothing.
fn check_levels(wanted: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    for part in wanted.split(',').map(str::trim) {
        let (module, level) = part.rsplit_once('=').map_or((None, part), |(module, level)| (Some(module), level));
        if !is_level(level) {
            return Err(format!("`{level}` is no level"));
        }
        if module.is_some_and(|module| module.trim().is_empty()) {
            return Err(format!("`{part}` names no module"));
        }
    }
    Ok(())
}

/// On a terminal: the time of day where the person is, without the date.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, writer: &mut format::Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", chrono::Local::now().format("%H:%M:%S%.3f"))
    }
}

/// Says what was withheld last, as when the graph has ended.
pub(crate) fn tell_withheld() {
    let Some(limit) = LIMIT.get() else { return };
    let places = std::mem::take(&mut *limit.places.lock().unwrap_or_else(PoisonError::into_inner));
    for (place, Place { withheld, .. }) in places.into_iter().filter(|(_, place)| place.withheld > 0) {
        errln!("{}", note(limit.format, withheld, place.0.metadata().file().unwrap_or_default()));
    }
}

/// Message and fields as tracing-subscriber writes them, with values in which nothing acts on a terminal. Its own way escapes
/// messages alone.
fn fields() -> impl for<'writer> FormatFields<'writer> + 'static {
    let field = |writer: &mut format::Writer<'_>, field: &Field, value: &dyn std::fmt::Debug| {
        let value = format!("{value:?}");
        let value = terminal::line(&value);
        match field.name() {
            "message" => write!(writer, "{value}"),
            name if writer.has_ansi_escapes() => write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}"),
            name => write!(writer, "{name}={value}"),
        }
    };
    format::debug_fn(field).delimited(" ")
}

/// Writes a log line. Text from peers stays on that line, and its control characters are escaped.
struct Line {
    coloured: bool,
}

impl Line {
    fn safe(&self, line: &[u8]) -> String {
        let line = String::from_utf8_lossy(line);
        let line = line.strip_suffix('\n').unwrap_or(&line);
        // Values have been escaped: what is left of ESC are the colours of tracing-subscriber.
        let safe = if self.coloured { terminal::coloured_line(line) } else { terminal::line(line) };
        format!("{safe}\n")
    }
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        err_as_is(&self.safe(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// That of the process.
static LIMIT: OnceLock<RateLimit> = OnceLock::new();

#[derive(Debug)]
struct Place {
    since: Instant,
    written: u32,
    withheld: u64,
}

/// Lets each place in the code write a bounded number of lines a window.
#[derive(Debug)]
struct RateLimit {
    format: LogFormat,
    places: Mutex<HashMap<Identifier, Place>>,
}

impl RateLimit {
    /// Whether the place may write now, and how many lines of its last window were withheld.
    fn admit(&self, place: Identifier, now: Instant) -> (bool, u64) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(place).or_insert(Place { since: now, written: 0, withheld: 0 });
        let mut withheld = 0;
        if now.duration_since(place.since) >= WINDOW {
            withheld = place.withheld;
            *place = Place { since: now, written: 0, withheld: 0 };
        }
        if place.written < LINES {
            place.written += 1;
            return (true, withheld);
        }
        place.withheld += 1;
        (false, 0)
    }
}

impl<S: Subscriber> Filter<S> for &'static RateLimit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let (admitted, withheld) = self.admit(event.metadata().callsite(), Instant::now());
        if withheld > 0 {
            let place = event.metadata().file().unwrap_or_default();
            errln!("{}", note(self.format, withheld, place));
        }
        admitted
    }
}

/// The line that stands for those that were withheld; a program that reads the log can read it, too.
fn note(format: LogFormat, withheld: u64, place: &str) -> String {
    match format {
        LogFormat::Text => format!("({withheld} more lines from {place} were withheld)"),
        LogFormat::Json => {
            #[expect(clippy::disallowed_methods, reason = "a line of the log has the time of the world")]
            let now = DateTime::<Utc>::from(SystemTime::now());
            let timestamp = now.to_rfc3339_opts(SecondsFormat::Micros, true);
            let message = "lines withheld";
            serde_json::json!({ "timestamp": timestamp, "level": "WARN", "message": message, "lines": withheld, "place": place })
                .to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::callsite::Callsite;

    use super::*;

    struct Here;
    impl Callsite for Here {
        fn set_interest(&self, _: tracing::subscriber::Interest) {}
        fn metadata(&self) -> &Metadata<'_> {
            unreachable!("only its identity is used")
        }
    }

    #[test]
    fn a_loop_writes_ten_lines_a_window_and_then_says_how_many_it_did_not() {
        let (limit, start) = (RateLimit { format: LogFormat::Text, places: Mutex::default() }, Instant::now());
        let place = || Identifier(&Here);
        let admitted = (0..100).filter(|_| limit.admit(place(), start).0).count();
        assert_eq!(admitted, 10);
        assert_eq!(limit.admit(place(), start + WINDOW), (true, 90));
    }

    #[test]
    fn a_line_of_the_log_does_nothing_to_a_terminal_and_stays_one_line() {
        let log = |format: LogFormat, coloured: bool| {
            let written = std::sync::Arc::new(Mutex::new(Vec::new()));
            let to = written.clone();
            let writer = move || Lines(to.clone());
            let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(coloured);
            let lines = match format {
                LogFormat::Text => lines.fmt_fields(fields()).boxed(),
                LogFormat::Json => lines.json().flatten_event(true).boxed(),
            };
            tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
                let error = terminal::HOSTILE;
                tracing::warn!(%error, text = error, list = ?[error], "it says {error}");
            });
            let line = written.lock().unwrap().clone();
            Line { coloured }.safe(&line)
        };
        for (format, coloured) in [(LogFormat::Text, false), (LogFormat::Text, true), (LogFormat::Json, false)] {
            let line = log(format, coloured);
            let left = terminal::hostile_in(&line);
            let left = if coloured { left.replace('\u{1b}', "") } else { left };
            assert_eq!((left.as_str(), line.lines().count()), ("", 1), "{line:?}");
            // The values' own sequences are not among the colours.
            assert!(!line.contains("\u{1b}]0") && !line.contains("\u{1b}[2J") && line.contains("forged"), "{line:?}");
            if format == LogFormat::Json {
                let fields: serde_json::Value = serde_json::from_str(&line).unwrap();
                assert_eq!(fields["error"], terminal::HOSTILE);
            }
        }
    }

    struct Lines(std::sync::Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_note_on_withheld_lines_has_the_format_of_the_log() {
        assert_eq!(note(LogFormat::Text, 3, "a.rs"), "(3 more lines from a.rs were withheld)");
        let json: serde_json::Value = serde_json::from_str(&note(LogFormat::Json, 3, "a.rs")).unwrap();
        assert_eq!((&json["lines"], &json["place"]), (&3.into(), &"a.rs".into()));
    }
}
