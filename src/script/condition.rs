//! Conditions: one, or several that look at an event together, once.

use std::ops::ControlFlow;

use vrl::value::Value;

use super::lens::{Lens, ReadView};
use super::native::{Native, Plain};
use super::plan::Plan;
use super::{Access, Built, Compiled, Ended, Engine, Failure, Problem, compile, ledger};
use crate::event::json::Numbers;
use crate::event::{Event, OriginId};

/// A VRL expression that yields a boolean, such as `.level == "error"`.
#[derive(Debug, Clone)]
pub struct Condition(Conditions);

impl Condition {
    /// Compiles a condition; on success with the warnings. It must yield a boolean and change nothing.
    pub fn compile(source: &str) -> Compiled<Condition> {
        let Built { engine, plan, plain, warnings } = compile(source, Access::Read)?;
        let result = engine.program.final_type_info().result;
        let kind = result.kind().clone().union(result.returns().clone());
        if !kind.is_boolean() {
            let shown = if kind.is_any() { "any type of value".to_owned() } else { kind.to_string() };
            let text = format!("a condition must be true or false, and this gives {shown}");
            let source = source.trim();
            let help = match source.starts_with('.') && !source.contains(char::is_whitespace) {
                true => format!(
                    "compare it, as in `{source} == \"error\"` or `exists({source})`; of a field that holds true or false: `{source} == true`"
                ),
                false => "compare it with `==`, `<` or `>`, or use a function that gives true or false".to_owned(),
            };
            return Err(vec![Problem::error("condition_type", 0..source.len(), text).with_note(&help)]);
        }
        let part = Part { engine, plain, native: None };
        Ok((Condition(Conditions::new(vec![part], plan)), warnings))
    }

    /// Whether the condition holds for an event. A condition that says `abort` does not hold.
    pub fn holds(&mut self, event: &Event, origin: &OriginId) -> Result<bool, Failure> {
        let mut holds = false;
        self.0.each(event, origin, |_| {
            holds = true;
            ControlFlow::Break(())
        })?;
        Ok(holds)
    }

    /// What it takes out of an event, for `weir explain`.
    pub fn explain(&self) -> String {
        self.0.explain()
    }

    /// The same, decided by VRL even where the bytes would do; for tests.
    #[cfg(test)]
    pub(super) fn by_vrl(mut self) -> Condition {
        self.0.parts.iter_mut().for_each(|part| part.native = None);
        self
    }

    #[cfg(test)]
    pub(super) fn is_native(&self) -> bool {
        self.0.parts.iter().all(|part| part.native.is_some())
    }
}

/// Several conditions over one look at an event: its bytes are scanned once for all fields that any of them names.
#[derive(Debug, Clone)]
pub struct Conditions {
    parts: Vec<Part>,
    lens: Lens,
}

#[derive(Debug, Clone)]
struct Part {
    engine: Engine,
    plain: Option<Plain<String>>,
    /// The plain condition, for the fields of the plan in use.
    native: Option<Native>,
}

impl Conditions {
    /// These conditions, in this order.
    pub fn of(conditions: Vec<Condition>) -> Conditions {
        let mut plan = Plan::default();
        let mut parts = Vec::new();
        for Condition(Conditions { parts: own, lens }) in conditions {
            plan.join(lens.plan().clone());
            parts.extend(own);
        }
        Conditions::new(parts, plan)
    }

    fn new(mut parts: Vec<Part>, plan: Plan) -> Conditions {
        for part in &mut parts {
            part.native = part.plain.as_ref().and_then(|plain| plain.bind(&plan));
        }
        Conditions { parts, lens: Lens::new(plan) }
    }

    /// Tells `each` the number of every condition that holds for an event, in order, until it breaks off. One that says
    /// `abort` does not hold.
    pub fn each(
        &mut self,
        event: &Event,
        origin: &OriginId,
        each: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        let _run = ledger::begin();
        let result = self.each_over(event, origin, each);
        self.lens.forget();
        result
    }

    fn each_over(
        &mut self,
        event: &Event,
        origin: &OriginId,
        mut each: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        let Conditions { parts, lens } = self;
        let doc = lens.scannable(event);
        if let Some(doc) = doc {
            lens.scan(doc)?;
        }
        let metadata = lens.metadata(event, origin);
        let mut is_apart = false;
        for (number, Part { engine, native, .. }) in parts.iter_mut().enumerate() {
            let holds = match (native, doc) {
                (Some(native), Some(doc)) => native.holds(doc, lens.found()),
                _ => {
                    if !is_apart {
                        lens.take_apart(event)?;
                        is_apart = true;
                    }
                    let _now = lens.enter(event, origin, engine.salt);
                    let (value, numbers) = lens.seen(event);
                    holds(engine, &mut ReadView { value, metadata: &metadata }, numbers)?
                }
            };
            if holds && each(number).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// What they take out of an event, for `weir explain`.
    pub fn explain(&self) -> String {
        self.lens.plan().explain()
    }
}

fn holds(engine: &mut Engine, view: &mut ReadView<'_>, numbers: &mut Numbers) -> Result<bool, Failure> {
    match engine.run(view, numbers)? {
        Ended::With(Value::Boolean(holds)) => Ok(holds),
        Ended::With(value) => {
            Err(Failure::new("vrl_error", format!("the condition gave {} and not a boolean", value.kind_str())))
        }
        Ended::Aborted => Ok(false),
    }
}
