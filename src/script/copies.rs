//! The call that [`guard`](super::guard) puts around a variable or field whose copies add up.

use std::sync::Arc;

use vrl::compiler::function::{ArgumentList, Compiled, Example, FunctionCompileContext, Parameter};
use vrl::compiler::state::{TypeInfo, TypeState};
use vrl::compiler::value::kind;
use vrl::compiler::{Context, Expression, Function, Resolved};
use vrl::parser::ast::Ident;
use vrl::value::Value;

use super::guard::{Leaf, Note, Notes, Operand};
use super::{bounds, ledger};

/// The name of the function; no program can spell it.
pub(super) const NAME: &str = "memory check";

/// Gives its first argument, if there is room for a copy. The second is the number of its note.
#[derive(Debug)]
pub(super) struct MemoryCheck;

impl Function for MemoryCheck {
    fn identifier(&self) -> &'static str {
        NAME
    }

    fn usage(&self) -> &'static str {
        "Checks that there is room for a copy; weir puts it into programs."
    }

    fn category(&self) -> &'static str {
        "Debug"
    }

    fn return_kind(&self) -> u16 {
        kind::ANY
    }

    fn examples(&self) -> &'static [Example] {
        &[]
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("value", kind::ANY, "The value."),
            Parameter::required("note", kind::INTEGER, "Number of the note."),
        ];
        PARAMETERS
    }

    fn compile(&self, state: &TypeState, context: &mut FunctionCompileContext, arguments: ArgumentList) -> Compiled {
        let number = arguments.required_literal("note", state)?;
        let number = number.as_integer().and_then(|number| usize::try_from(number).ok()).unwrap_or(usize::MAX);
        let notes = context.get_external_context::<Notes>();
        let expr = arguments.required_expr("value");
        let leaf = Leaf::of(&expr);
        let note = notes.map(|notes| notes.of_copy(number)).unwrap_or_default();
        let names = notes.map(|notes| notes.names.clone()).unwrap_or_default();
        Ok(Box::new(CopyCheck { expr: Box::new(expr), leaf, note, names }))
    }
}

#[derive(Debug, Clone)]
struct CopyCheck {
    expr: Box<dyn Expression>,
    leaf: Option<Leaf>,
    note: Note,
    names: Arc<[Ident]>,
}

impl Expression for CopyCheck {
    fn resolve(&self, context: &mut Context) -> Resolved {
        if self.note.is_first {
            ledger::begin_statement();
        }
        if let Some(more) = self.note.collects {
            ledger::hold(more, context, &self.names)?;
            ledger::begin_collected();
        }
        let Some(leaf) = &self.leaf else {
            let value = self.expr.resolve(context)?;
            check_made(&value, bounds::check(&value)?, &self.note, context, &self.names)?;
            return Ok(value);
        };
        let Some(value) = leaf.peek(context) else { return Ok(Value::Null) };
        check_made(value, bounds::check(value)?, &self.note, context, &self.names)?;
        Ok(value.clone())
    }

    fn resolve_constant(&self, state: &TypeState) -> Option<Value> {
        self.expr.resolve_constant(state)
    }

    fn type_info(&self, state: &TypeState) -> TypeInfo {
        self.expr.type_info(state)
    }
}

/// Enters a value of so many bytes, and checks what becomes of it at its place.
pub(super) fn check_made(
    value: &Value,
    mut bytes: usize,
    note: &Note,
    context: &Context,
    names: &[Ident],
) -> Result<(), String> {
    for times in &note.times {
        bytes = multiplied(value, bytes, times, context)?;
    }
    if let Some(feed) = &note.feed {
        let others = |name: &str| {
            let operand = feed.others.iter().find(|(other, _)| *other == name)?;
            operand.1.peek(context)
        };
        bounds::check_size((feed.growth.memory)(value, &others))?;
    }
    if bytes > 0 { ledger::hold(bytes, context, names) } else { Ok(()) }
}

/// Bytes of a text that is repeated.
fn multiplied(value: &Value, bytes: usize, times: &Operand, context: &Context) -> Result<usize, String> {
    let by = times.peek(context);
    let count = |number: i64| usize::try_from(number).unwrap_or(0);
    let bytes = match (value, by) {
        (Value::Bytes(_) | Value::String(_), Some(Value::Integer(number))) => bytes.saturating_mul(count(*number)),
        (Value::Integer(number), Some(text @ (Value::Bytes(_) | Value::String(_)))) => {
            text.as_bytes().map_or(0, |text| text.len()).saturating_mul(count(*number))
        }
        (Value::Bytes(_) | Value::String(_), None) if matches!(times, Operand::Unknown) && bytes > 0 => {
            return Err("a text can only be repeated as often as a literal, variable or field says: \
                        assign the number to a variable first"
                .to_owned());
        }
        _ => bytes,
    };
    bounds::check_size(bytes)?;
    Ok(bytes)
}
