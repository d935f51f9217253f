//! VRL on events: conditions, scripts and templates.
//!
//! Source text comes in and is compiled once, with every problem and its place; then events come in by reference.
//! A raw JSON event is not taken apart for a script that names the fields it wants: `plan` finds them in the
//! syntax tree, [`json::scan`](crate::event::json::scan) finds them in the bytes, and what the script
//! changed is put back between the bytes it did not. What a script sees and what it leaves is the same as if VRL
//! had run over the whole parsed event; the tests hold it to that for every function there is.
//!
//! Nothing here does I/O: functions that would are not available. A program never keeps anything from one event
//! to the next.

mod advice;
mod bounds;
mod condition;
mod copies;
mod digits;
mod functions;
mod guard;
mod ledger;
mod lens;
mod native;
mod nesting;
mod plan;
mod template;
mod types;

#[cfg(test)]
mod tests;

use std::ops::Range;

use vrl::compiler::state::{RuntimeState, TypeState};
use vrl::compiler::unused_expression_checker::check_for_unused_results;
use vrl::compiler::{CompileConfig, Compiler, Context, ExpressionError, Program, Target, TimeZone};
use vrl::diagnostic::{Diagnostic, DiagnosticList};
use vrl::value::Value;

use crate::component::{Problems, Severity};
use crate::event::CodecError;
use crate::event::json::Numbers;
use crate::event::{Body, Event, OriginId, Verdict};
pub use bounds::set_max_value;
pub(crate) use bounds::{DEFAULT_MAX_VALUE, begin_batch, end_batch, take_grown};
pub use condition::{Condition, Conditions};
pub use functions::{hash, set_deterministic};
use lens::{Changes, Lens, ReadView, WriteView, body_with};
use native::Plain;
use plan::Plan;
pub use template::Template;

/// A compiled program with its warnings, or what is wrong with its source.
pub type Compiled<T> = Result<(T, Vec<Problem>), Vec<Problem>>;

/// Something to tell the author of a script, and where in its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Bytes of the source.
    pub span: Range<usize>,
    /// Whether it stops the script from being used.
    pub severity: Severity,
    /// A stable code: `E...` are VRL's own, described in its documentation.
    pub code: String,
    /// The text for people.
    pub message: String,
    /// What else helps: hints, examples.
    pub notes: Vec<String>,
}

impl Problem {
    /// The program, if there is one; what is to be said of it is reported as a problem of the option at `path`.
    pub fn report<T>(compiled: Compiled<T>, path: &str, code: &str, problems: &mut Problems) -> Option<T> {
        let (program, all) = match compiled {
            Ok((program, warnings)) => (Some(program), warnings),
            Err(errors) => (None, errors),
        };
        for problem in all {
            let help = match problem.notes.is_empty() {
                true => "see the VRL reference for what an expression can say".to_owned(),
                false => joined(&problem.notes),
            };
            problems.push(crate::component::Problem {
                path: path.split('.').map(str::to_owned).collect(),
                severity: problem.severity,
                code: code.to_owned(),
                message: problem.message,
                help: Some(help),
                span: Some(problem.span),
            });
        }
        program
    }

    /// What is wrong and what helps, for where there is no source to point at.
    pub fn text(&self) -> String {
        match self.notes.is_empty() {
            true => self.message.clone(),
            false => format!("{}; {}", self.message, joined(&self.notes)),
        }
    }

    fn error(code: &str, span: Range<usize>, message: impl Into<String>) -> Problem {
        Problem { span, severity: Severity::Error, code: code.to_owned(), message: message.into(), notes: Vec::new() }
    }

    fn from_vrl(diagnostic: Diagnostic, source: &str, access: Access) -> Problem {
        let severity = if diagnostic.is_problem() { Severity::Error } else { Severity::Warning };
        let mut message = diagnostic.message;
        let mut span = 0..0;
        let mut notes = Vec::new();
        for (number, label) in diagnostic.labels.iter().enumerate() {
            if number == 0 {
                span = label.span.range();
                if !message.contains(&label.message) {
                    message = format!("{message}: {}", label.message);
                }
            } else if !label.message.is_empty() {
                notes.push(label.message.clone());
            }
        }
        // Links to VRL's own pages say less than the text does, and lead away from the file.
        let says_something = |note: &String| !note.trim().is_empty() && !note.starts_with("see ");
        notes.extend(diagnostic.notes.iter().map(|note| note.to_string().replace("\n", " ")).filter(says_something));
        match diagnostic.code {
            UNDEFINED_VARIABLE if source.get(span.clone()).is_some_and(|name| !name.is_empty()) => {
                notes = vec![advice::for_variable(&source[span.clone()])];
            }
            UNHANDLED_ERROR if access == Access::Read && !source.contains('\n') => {
                let default = if source.contains(['<', '>', '=', '&', '|', '!']) { "false" } else { "null" };
                let source = source.trim();
                notes = vec![format!("say what it is for events where it fails: `({source}) ?? {default}`")];
            }
            // VRL's own notes assign to the event, which an expression may not.
            INVALID_ARGUMENT if access == Access::Read => {
                let expected = notes.first().and_then(|label| label.rsplit(' ').next()).and_then(fallback);
                if let (Some((function, default)), Some(argument)) = (expected, source.get(span.clone())) {
                    let typed = format!("({function}({argument}) ?? {default})");
                    notes.truncate(1);
                    notes.push(format!("write `{typed}` in its place, with the value for events where it is another"));
                }
            }
            _ => {}
        }
        let mut problem = Problem { span, severity, code: format!("E{:03}", diagnostic.code), message, notes };
        advice::rephrase(&mut problem, source, access);
        problem
    }

    fn with_note(mut self, note: &str) -> Problem {
        self.notes.push(note.to_owned());
        self
    }

    fn moved(mut self, by: usize) -> Problem {
        self.span = self.span.start + by..self.span.end + by;
        self
    }
}

/// VRL's numbers of what we can say more of.
const UNHANDLED_ERROR: usize = 100;
const INVALID_ARGUMENT: usize = 110;
const UNDEFINED_VARIABLE: usize = 701;

/// The function that takes a value of this type and no other, and a value for where there is none.
fn fallback(kind: &str) -> Option<(&'static str, &'static str)> {
    Some(match kind {
        "string" => ("string", "\"\""),
        "integer" => ("int", "0"),
        "float" => ("float", "0.0"),
        "boolean" => ("bool", "false"),
        "array" => ("array", "[]"),
        "object" => ("object", "{}"),
        _ => return None,
    })
}

/// Notes as one line. VRL gives code in notes of its own, after one that ends with a colon or set in from the left.
fn joined(notes: &[String]) -> String {
    let mut text = String::new();
    for (at, note) in notes.iter().enumerate() {
        let is_code = note.starts_with(' ');
        let was_code = at > 0 && notes[at - 1].starts_with(' ');
        text += match (at, is_code, was_code) {
            (0, ..) => "",
            _ if text.ends_with(':') => " ",
            (_, true, false) => ": ",
            _ => "; ",
        };
        text += note.trim();
    }
    text
}

/// Why a program could not handle an event. The event is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// `invalid_json`, `invalid_utf8`, `vrl_error` or `template_error`.
    pub code: &'static str,
    /// The text for people.
    pub message: String,
}

impl Failure {
    /// Longest text shown, in bytes.
    const SHOWN: usize = 200;

    fn new(code: &'static str, mut message: String) -> Failure {
        if message.len() > Self::SHOWN {
            message.truncate(message.floor_char_boundary(Self::SHOWN));
            message.push_str("...");
        }
        Failure { code, message }
    }

    fn vrl(error: &ExpressionError) -> Failure {
        Failure::new("vrl_error", error.to_string())
    }
}

impl From<Failure> for Verdict {
    fn from(Failure { code, message }: Failure) -> Verdict {
        Verdict::Reject { code, message }
    }
}

/// What becomes of an event behind a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It goes on.
    Keep,
    /// The script said `abort`: the event ends here, as intended, and counts as filtered.
    Drop,
}

/// A compiled program with what it needs at run time.
#[derive(Debug)]
struct Engine {
    program: Program,
    state: RuntimeState,
    timezone: TimeZone,
    /// Tells random numbers of different programs on one event apart.
    salt: u64,
}

impl Clone for Engine {
    /// The same program with nothing remembered.
    fn clone(&self) -> Engine {
        let state = RuntimeState::default();
        Engine { program: self.program.clone(), state, timezone: self.timezone, salt: self.salt }
    }
}

/// How a run of a program ended.
enum Ended {
    With(Value),
    Aborted,
}

impl Engine {
    /// Runs over an event with these numbers; those that the program reads are added.
    fn run(&mut self, target: &mut dyn Target, numbers: &mut Numbers) -> Result<Ended, Failure> {
        if !self.state.is_empty() {
            self.state.clear();
        }
        ledger::clear();
        // Not `Runtime::resolve`, which first asks for the whole event.
        let mut context = Context::new(target, &mut self.state, &self.timezone);
        let result = digits::during(numbers, || self.program.resolve(&mut context));
        // What a large event left in them is not kept until the next one comes.
        self.state.clear();
        match result {
            Ok(value) | Err(ExpressionError::Return { value, .. }) => Ok(Ended::With(value)),
            Err(ExpressionError::Abort { .. }) => Ok(Ended::Aborted),
            Err(error) => Err(Failure::vrl(&error)),
        }
    }
}

/// Whether a program may change the event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

struct Built {
    engine: Engine,
    plan: Plan,
    /// Its plain condition, if it is one.
    plain: Option<Plain<String>>,
    warnings: Vec<Problem>,
}

/// The syntax tree of a program.
fn parse(source: &str, access: Access) -> Result<vrl::parser::Program, Vec<Problem>> {
    vrl::parser::parse(source).map_err(|error| {
        DiagnosticList::from(vec![Box::new(error) as Box<dyn vrl::diagnostic::DiagnosticMessage>])
            .into_iter()
            .map(|problem| Problem::from_vrl(problem, source, access))
            .collect()
    })
}

/// Whether a text is a program, as far as its syntax goes.
fn is_program(source: &str) -> bool {
    nesting::with_stack(source, || parse(source, Access::Read).map(drop)).is_ok()
}

fn compile(source: &str, access: Access) -> Result<Built, Vec<Problem>> {
    nesting::with_stack(source, || {
        if let Some(problem) =
            nesting::check(parse(source, access)?).or_else(|| types::check(parse(source, access).ok()?))
        {
            return Err(vec![problem]);
        }
        build(source, access)
    })
}

/// Code of the problem for a program whose memory cannot be watched.
const UNGUARDED: &str = "program_unguarded";
const UNGUARDED_TEXT: &str =
    "the memory of this program cannot be limited: assign the arguments of its functions to variables first";

/// Compiles a program that is not nested too deep.
fn build(source: &str, access: Access) -> Result<Built, Vec<Problem>> {
    let tree = parse(source, access)?;
    let plain = native::recognise(&tree, source);
    let unused = check_for_unused_results(&tree);
    let (plan, mut problems) = plan::plan(tree.clone(), access);

    let state = TypeState::default();
    let (guarded, notes) = guard::guarded(tree.clone());
    let mut config = CompileConfig::default();
    config.set_custom(notes);
    let compiled = match Compiler::compile(functions::available(), guarded, &state, config) {
        Ok(compiled) => Ok(compiled),
        // What is wrong with the program as it was written.
        Err(_) => match Compiler::compile(functions::available(), tree, &state, CompileConfig::default()) {
            Ok(_) => return Err(vec![Problem::error(UNGUARDED, 0..source.len(), UNGUARDED_TEXT)]),
            Err(diagnostics) => Err(diagnostics),
        },
    };
    match compiled {
        Ok(compiled) if problems.is_empty() => {
            let timezone = TimeZone::parse("UTC").unwrap_or_default();
            let salt = hash([source.as_bytes()]);
            let warnings = compiled.warnings.into_iter().chain(unused);
            let warnings = warnings.map(|warning| Problem::from_vrl(warning, source, access)).collect();
            let engine = Engine { program: compiled.program, state: RuntimeState::default(), timezone, salt };
            Ok(Built { engine, plan, plain, warnings })
        }
        Ok(_) => Err(problems),
        Err(diagnostics) => {
            for problem in diagnostics.into_iter().map(|problem| Problem::from_vrl(problem, source, access)) {
                // VRL calls a function undefined that we have already said is not available.
                let said = |ours: &Problem| ours.code == plan::UNAVAILABLE && ours.span.start == problem.span.start;
                if !problems.iter().any(said) {
                    problems.push(problem);
                }
            }
            Err(problems)
        }
    }
}

/// A VRL expression that yields any value and changes nothing.
#[derive(Debug, Clone)]
pub struct Expression {
    engine: Engine,
    lens: Lens,
}

impl Expression {
    /// Compiles an expression such as `.metadata.uid`.
    pub fn compile(source: &str) -> Compiled<Expression> {
        let Built { engine, plan, warnings, .. } = compile(source, Access::Read)?;
        Ok((Expression { engine, lens: Lens::new(plan) }, warnings))
    }

    /// Its value for an event. An expression that says `abort` has none, and gives null.
    pub fn value(&mut self, event: &Event, origin: &OriginId) -> Result<Value, Failure> {
        let _run = ledger::begin();
        let value = self.value_over(event, origin);
        self.lens.forget();
        value
    }

    fn value_over(&mut self, event: &Event, origin: &OriginId) -> Result<Value, Failure> {
        let _now = self.lens.enter(event, origin, self.engine.salt);
        let metadata = self.lens.metadata(event, origin);
        self.lens.look(event)?;
        let (value, numbers) = self.lens.seen(event);
        match self.engine.run(&mut ReadView { value, metadata: &metadata }, numbers)? {
            Ended::With(value) => Ok(value),
            Ended::Aborted => Ok(Value::Null),
        }
    }

    /// The digits of a number that it had for the last event, where these are more than a 64-bit integer or float holds.
    pub fn spelling(&self, value: &Value) -> Option<&str> {
        match value {
            Value::Float(float) => self.lens.numbers().spelling(float.into_inner()),
            _ => None,
        }
    }

    /// Appends a value that it had for the last event, or a part of one, as JSON. Numbers that neither a 64-bit integer nor a
    /// 64-bit float holds have the digits of the event: what tells things apart, such as a key, is made of this text.
    pub fn write(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), CodecError> {
        self.lens.numbers().write(value, out)
    }
}

/// Memory that a body takes.
fn memory(body: &Body) -> usize {
    match body {
        Body::Raw(bytes, _) => bytes.len(),
        Body::Parsed(value) => bounds::check(value).unwrap_or(bounds::max_value()),
    }
}

/// A VRL program that changes events.
#[derive(Debug, Clone)]
pub struct Script {
    engine: Engine,
    lens: Lens,
}

impl Script {
    /// Compiles a script; on success with the warnings.
    pub fn compile(source: &str) -> Compiled<Script> {
        let Built { engine, plan, warnings, .. } = compile(source, Access::Write)?;
        Ok((Script { engine, lens: Lens::new(plan) }, warnings))
    }

    /// Runs over one event. On a failure, and when the script says `abort`, the event is as it was.
    ///
    /// A raw JSON event of which only named top-level fields changed stays raw, with all else byte for byte; a
    /// script that looks at the whole event, or leaves what JSON cannot hold (a timestamp), makes it parsed.
    /// An event that is nothing but `null` afterwards is a tombstone.
    pub fn run(&mut self, event: &mut Event, origin: &OriginId) -> Result<Flow, Failure> {
        if !bounds::grow(0) {
            return Err(Failure::new("vrl_error", bounds::too_large()));
        }
        let _run = ledger::begin();
        let mut grown = 0;
        let flow = self.run_over(event, origin, &mut grown);
        self.lens.forget();
        // What an event has grown by is in memory until its batch is settled.
        if flow.is_ok() && grown > 0 && !bounds::grow(grown) {
            return Err(Failure::new("vrl_error", bounds::too_large()));
        }
        flow
    }

    /// `grown`: memory that the event takes in addition.
    fn run_over(&mut self, event: &mut Event, origin: &OriginId, grown: &mut usize) -> Result<Flow, Failure> {
        let _now = self.lens.enter(event, origin, self.engine.salt);
        let metadata = self.lens.metadata(event, origin);

        if let Body::Parsed(value) = &mut event.body {
            let mut numbers = Numbers::default();
            let mut changes = Changes::begin(value, self.lens.plan());
            let mut view = WriteView::new(changes.value(), &metadata);
            let ended = self.engine.run(&mut view, &mut numbers);
            let ended = view.ended(ended)?;
            *grown = view.inserted();
            view.finish()?;
            if matches!(ended, Ended::Aborted) {
                return Ok(Flow::Drop);
            }
            let exact = body_with(changes.value(), &numbers)?;
            changes.keep();
            if let Some(body) = exact {
                event.body = body;
            }
            return Ok(Flow::Keep);
        }

        if let Some(doc) = event.body.document()
            && !self.lens.plan().whole
            && self.lens.load(doc)?
        {
            let (object, numbers) = self.lens.loaded();
            let mut view = WriteView::new(object, &metadata);
            let ended = self.engine.run(&mut view, numbers);
            let ended = view.ended(ended)?;
            let written = view.finish()?;
            if matches!(ended, Ended::Aborted) {
                return Ok(Flow::Drop);
            }
            if written && let Some(body) = self.lens.put_back(doc)? {
                *grown = memory(&body).saturating_sub(doc.len());
                event.body = body;
            }
            return Ok(Flow::Keep);
        }

        self.lens.look(event)?;
        let (mut value, numbers) = self.lens.taken(event);
        let mut view = WriteView::new(&mut value, &metadata);
        let ended = self.engine.run(&mut view, numbers);
        let ended = view.ended(ended)?;
        let written = view.finish()?;
        if matches!(ended, Ended::Aborted) {
            return Ok(Flow::Drop);
        }
        if written && !self.lens.looks_like(event, &value)? {
            let body = body_with(&value, self.lens.numbers())?.unwrap_or(Body::Parsed(value));
            *grown = memory(&body).saturating_sub(event.body.size());
            event.body = body;
        }
        Ok(Flow::Keep)
    }

    /// Whether it looks at an event as a whole, and not at named fields alone.
    pub fn is_whole(&self) -> bool {
        self.lens.plan().whole
    }

    /// What it takes out of an event and puts back, for `weir explain`.
    pub fn explain(&self) -> String {
        self.lens.plan().explain()
    }
}
