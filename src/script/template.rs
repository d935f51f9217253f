//! Texts with VRL inside: `{{ .service }}-%Y.%m.%d`.

use chrono::format::{Item, StrftimeItems};
use vrl::value::Value;

use super::lens::{Lens, ReadView};
use super::plan::Plan;
use super::{Access, Built, Compiled, Ended, Engine, Failure, Problem, compile, functions, ledger};
use crate::event::json::Numbers;
use crate::event::{Event, OriginId, rfc3339};

/// A text made for each event: VRL expressions in `{{ }}` and, if compiled [with time](Template::compile_with_time), strftime
/// specifiers outside of them.
#[derive(Debug, Clone)]
pub struct Template {
    pieces: Vec<Piece>,
    lens: Lens,
    /// Tells its random numbers from those of other programs on the same event.
    salt: u64,
    /// The text, when every event gives the same.
    constant: Option<String>,
}

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    /// A strftime format.
    Time(String),
    Expression {
        engine: Box<Engine>,
        source: String,
    },
}

impl Template {
    /// Compiles a template with expressions alone, in which a percent sign is a percent sign; on success with the warnings.
    pub fn compile(source: &str) -> Compiled<Template> {
        Template::compile_texts(source, |text, _, _| Some(Piece::Text(text.to_owned())))
    }

    /// Compiles a template in which strftime specifiers stand for the event's time in UTC, and `%%` for a percent sign; on
    /// success with the warnings. Only for options whose documentation says so: texts such as URLs hold percent signs.
    pub fn compile_with_time(source: &str) -> Compiled<Template> {
        Template::compile_texts(source, time_piece)
    }

    /// Compiles a template; `text_piece` makes a piece of the text outside of expressions that begins at an offset.
    fn compile_texts(
        source: &str,
        text_piece: impl Fn(&str, usize, &mut Vec<Problem>) -> Option<Piece>,
    ) -> Compiled<Template> {
        let mut pieces = Vec::new();
        let mut plan = Plan::default();
        let (mut warnings, mut problems) = (Vec::new(), Vec::new());
        let mut at = 0;
        while let Some(open) = source[at..].find("{{").map(|open| at + open) {
            if open > at {
                pieces.extend(text_piece(&source[at..open], at, &mut problems));
            }
            let Some(close) = end_of_expression(source, open + 2) else {
                let text = "{{ has no }} behind it";
                problems.push(Problem::error("template", open..source.len(), text));
                at = source.len();
                break;
            };
            let inner = &source[open + 2..close];
            match compile(inner, Access::Read) {
                Ok(Built { engine, plan: part, warnings: more, .. }) => {
                    plan.join(part);
                    warnings.extend(more.into_iter().map(|problem| problem.moved(open + 2)));
                    let source = inner.trim().to_owned();
                    pieces.push(Piece::Expression { engine: Box::new(engine), source });
                }
                Err(more) => problems.extend(more.into_iter().map(|problem| problem.moved(open + 2))),
            }
            at = close + 2;
        }
        if source.len() > at {
            pieces.extend(text_piece(&source[at..], at, &mut problems));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let constant = match &pieces[..] {
            [] => Some(String::new()),
            [Piece::Text(text)] => Some(text.clone()),
            _ => None,
        };
        let salt = functions::hash([source.as_bytes()]);
        Ok((Template { pieces, lens: Lens::new(plan), salt, constant }, warnings))
    }

    /// The text, when it is the same for every event.
    pub fn is_constant(&self) -> Option<&str> {
        self.constant.as_deref()
    }

    /// The text for one event. An expression that gives null, an object or an array is a failure that names it.
    pub fn render(&mut self, event: &Event, origin: &OriginId) -> Result<String, Failure> {
        if let Some(text) = &self.constant {
            return Ok(text.clone());
        }
        let _run = ledger::begin();
        let text = self.render_over(event, origin);
        self.lens.forget();
        text
    }

    fn render_over(&mut self, event: &Event, origin: &OriginId) -> Result<String, Failure> {
        let mut out = String::new();
        let _now = self.lens.enter(event, origin, self.salt);
        let metadata = self.lens.metadata(event, origin);
        let expressions = self.pieces.iter().any(|piece| matches!(piece, Piece::Expression { .. }));
        if expressions {
            self.lens.look(event)?;
        }
        for piece in &mut self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Time(format) => {
                    let Some(time) = chrono::DateTime::from_timestamp_millis(event.time.0) else {
                        return Err(Failure::new("template_error", "the event's time is out of range".to_owned()));
                    };
                    out.push_str(&time.format(format).to_string());
                }
                Piece::Expression { engine, source } => {
                    let (value, numbers) = self.lens.seen(event);
                    match engine.run(&mut ReadView { value, metadata: &metadata }, numbers)? {
                        Ended::With(value) => append(&mut out, &value, numbers, source)?,
                        Ended::Aborted => {
                            let text = format!("template expression {source} aborted");
                            return Err(Failure::new("template_error", text));
                        }
                    }
                }
            }
        }
        Ok(out)
    }
}

fn append(out: &mut String, value: &Value, numbers: &Numbers, source: &str) -> Result<(), Failure> {
    let text = match value {
        Value::Float(number) if let Some(digits) = numbers.digits(number.into_inner()) => digits.into(),
        Value::Bytes(_) | Value::String(_) => match value.as_bytes().map(|bytes| std::str::from_utf8(bytes)) {
            Some(Ok(text)) => text.into(),
            _ => {
                let text = format!("template expression {source} gave bytes that are not utf-8");
                return Err(Failure::new("invalid_utf8", text));
            }
        },
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => value.to_string_lossy(),
        Value::Timestamp(time) => match rfc3339(time) {
            Ok(text) => text.into(),
            Err(error) => {
                return Err(Failure::new("template_error", format!("template expression {source}: {error}")));
            }
        },
        Value::Null | Value::Object(_) | Value::Array(_) | Value::Regex(_) => {
            let text = format!("template expression {source} gave {}", value.kind_str());
            return Err(Failure::new("template_error", text));
        }
    };
    out.push_str(&text);
    Ok(())
}

/// Closing braces in an expression that are tried as its end.
const MOST_BRACES: usize = 256;

/// Where the expression that begins at `start` has its `}}`: the first one that leaves valid VRL, for an expression
/// may hold braces of its own.
fn end_of_expression(source: &str, start: usize) -> Option<usize> {
    let mut first = None;
    let mut from = start;
    for _ in 0..MOST_BRACES {
        let Some(close) = source[from..].find("}}").map(|close| from + close) else { break };
        first = first.or(Some(close));
        let inner = &source[start..close];
        if !inner.trim().is_empty() && super::is_program(inner) {
            return Some(close);
        }
        from = close + 1;
    }
    first
}

/// A text with strftime specifiers, which begins at an offset.
fn time_piece(text: &str, start: usize, problems: &mut Vec<Problem>) -> Option<Piece> {
    let items: Vec<Item<'_>> = StrftimeItems::new(text).collect();
    if items.contains(&Item::Error) {
        let message = format!("{text:?} has a % that is no strftime specifier; write %% for a percent sign");
        problems.push(Problem::error("template", start..start + text.len(), message));
        return None;
    }
    let literal: Option<String> = items
        .iter()
        .map(|item| match item {
            Item::Literal(text) | Item::Space(text) => Some(*text),
            _ => None,
        })
        .collect();
    Some(match literal {
        Some(text) => Piece::Text(text),
        None => Piece::Time(text.to_owned()),
    })
}
