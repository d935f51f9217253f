//! The functions a script can call.
//!
//! VRL's standard library without what asks the system or the network. In a deterministic run the clock is the
//! event's time and random numbers follow from the event's id, so that the same input gives the same output.
//! No function returns a value that is too deep or too large. Those that would need too much memory while they work are asked first
//! how much that is ([`growth`]), and those that would need too much stack are our own. (Known rest of what a deterministic run cannot repeat: `parse_syslog`, `parse_klog` and `parse_linux_authorization` guess a missing year from the wall clock.)

pub(super) mod growth;
mod own;

pub(super) use own::check_path;

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use vrl::compiler::expression::{Query, query};
use vrl::compiler::function::{ArgumentList, Compiled, Example, FunctionCompileContext, Parameter, closure};
use vrl::compiler::state::{TypeInfo, TypeState};
use vrl::compiler::{Context, Expression, ExpressionError, Function, Resolved};
use vrl::parser::ast::Ident;
use vrl::path::OwnedTargetPath;
use vrl::prelude::NotNan;
use vrl::value::Value;

use super::copies::{MemoryCheck, check_made};
use super::guard::{Leaf, Note, Notes};
use super::plan::{BY_CHANCE, LEFT_OUT};
use super::{bounds, ledger};
use crate::event::{Event, OriginId};

static DETERMINISTIC: AtomicBool = AtomicBool::new(false);

/// Whether `now` and the random functions follow from the event, in this process. Set before events flow.
pub fn set_deterministic(deterministic: bool) {
    DETERMINISTIC.store(deterministic, Ordering::Relaxed);
}

thread_local! {
    /// The event a program runs over on this thread, when the run is deterministic.
    static CURRENT: Cell<Option<Current>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Current {
    /// Milliseconds since the epoch.
    time: i64,
    /// State of the generator.
    random: u64,
}

/// While it lives, the clock and random numbers are the event's.
#[derive(Debug)]
pub(super) struct Now(());

impl Now {
    /// `None` when the run is not deterministic.
    pub(super) fn of(event: &Event, origin: &OriginId, salt: u64) -> Option<Now> {
        if !DETERMINISTIC.load(Ordering::Relaxed) {
            return None;
        }
        let random = hash([
            salt.to_le_bytes().as_slice(),
            origin.node.as_bytes(),
            origin.log.as_bytes(),
            &origin.partition.to_le_bytes(),
            &event.position.0.to_le_bytes(),
            &event.ordinal.0.to_le_bytes(),
        ]);
        CURRENT.set(Some(Current { time: event.time.0, random }));
        Some(Now(()))
    }
}

impl Drop for Now {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

/// FNV-1a over parts and their lengths: the same in every build, for it decides what a deterministic run writes.
pub fn hash<const N: usize>(parts: [&[u8]; N]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for part in parts {
        // The length keeps "ab", "c" and "a", "bc" apart.
        for byte in (part.len() as u64).to_le_bytes().iter().chain(part) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

/// The functions there are.
pub(super) fn available() -> &'static [Box<dyn Function>] {
    static FUNCTIONS: LazyLock<Vec<Box<dyn Function>>> = LazyLock::new(|| {
        let all = vrl::stdlib::all().into_iter();
        let ours = all.filter(|function| !LEFT_OUT.contains(&function.identifier())).map(|inner| {
            let name = inner.identifier();
            let way = match own::function(name) {
                _ if BY_CHANCE.contains(&name) => Way::ByEvent,
                Some(own) => Way::Own(own),
                None if name == "unnest" => Way::Unnest,
                None => Way::Library,
            };
            Box::new(Bounded { inner, way }) as Box<dyn Function>
        });
        ours.chain([Box::new(MemoryCheck) as Box<dyn Function>]).collect()
    });
    &FUNCTIONS
}

/// Whether a function is our own.
#[cfg(test)]
pub(super) fn is_own(name: &str) -> bool {
    own::function(name).is_some()
}

/// Who finds out what a function returns.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// The library.
    Library,
    /// The library, once it is known that the copies it makes of an event are not too much.
    Unnest,
    /// We, from the event, when there is one.
    ByEvent,
    /// We, as the library has no bounds while it works.
    Own(own::Own),
}

/// A function of the library that returns nothing that is too deep or too large.
struct Bounded {
    inner: Box<dyn Function>,
    way: Way,
}

impl fmt::Debug for Bounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Function for Bounded {
    fn identifier(&self) -> &'static str {
        self.inner.identifier()
    }

    fn summary(&self) -> &'static str {
        self.inner.summary()
    }

    fn usage(&self) -> &'static str {
        self.inner.usage()
    }

    fn category(&self) -> &'static str {
        self.inner.category()
    }

    fn return_kind(&self) -> u16 {
        self.inner.return_kind()
    }

    fn pure(&self) -> bool {
        self.inner.pure()
    }

    fn examples(&self) -> &'static [Example] {
        self.inner.examples()
    }

    fn parameters(&self) -> &'static [Parameter] {
        self.inner.parameters()
    }

    fn closure(&self) -> Option<closure::Definition> {
        self.inner.closure()
    }

    fn compile(&self, state: &TypeState, ctx: &mut FunctionCompileContext, arguments: ArgumentList) -> Compiled {
        let name = self.inner.identifier();
        let way = match self.way {
            // Parsing to a depth is bounded already.
            Way::Own(_) if name == "parse_json" && arguments.optional("max_depth").is_some() => Way::Library,
            way => way,
        };
        let unnested = matches!(way, Way::Unnest).then(|| arguments.required_query("path")).transpose()?;
        let parameters = || self.inner.parameters().iter().map(|parameter| parameter.keyword);
        let given = parameters().map(|name| (name, arguments.optional(name))).collect();
        let notes = ctx.get_external_context::<Notes>();
        let place = Place {
            note: notes.map(|notes| notes.of_call(ctx.span())).unwrap_or_default(),
            names: notes.map(|notes| notes.names.clone()).unwrap_or_default(),
            has_closure: arguments.optional_closure().is_some(),
            growth: growth::of(name).and_then(|growth| Expansion::of(growth, parameters(), &arguments, state)),
        };
        let inner = self.inner.compile(state, ctx, arguments)?;
        Ok(Box::new(BoundedCall { name, way, inner, arguments: given, unnested, place }))
    }
}

/// An argument that can be looked at without a copy.
#[derive(Debug, Clone)]
enum Seen {
    Constant(Value),
    Leaf(Leaf),
}

impl Seen {
    fn peek<'a>(&'a self, context: &'a Context) -> Option<&'a Value> {
        match self {
            Seen::Constant(value) => Some(value),
            Seen::Leaf(leaf) => leaf.peek(context),
        }
    }
}

/// A function that may make much of little, with what can be seen of its arguments.
#[derive(Debug, Clone)]
struct Expansion {
    growth: growth::Growth,
    of: Seen,
    others: Vec<(&'static str, Seen)>,
}

impl Expansion {
    /// `None` where what it expands is computed: then whoever computes it checks it.
    fn of(
        growth: growth::Growth,
        parameters: impl Iterator<Item = &'static str>,
        arguments: &ArgumentList,
        state: &TypeState,
    ) -> Option<Expansion> {
        let seen = |name| {
            let expr = arguments.optional(name).map(|_| arguments.required_expr(name))?;
            let constant = || expr.resolve_constant(state).map(Seen::Constant);
            Leaf::of(&expr).map(Seen::Leaf).or_else(constant)
        };
        let of = seen(growth.parameter)?;
        let others = parameters.filter(|name| *name != growth.parameter);
        let others = others.filter_map(|name| Some((name, seen(name)?))).collect();
        Some(Expansion { growth, of, others })
    }

    /// Fails where it would make too much.
    fn check(&self, context: &Context) -> Result<(), String> {
        let Some(value) = self.of.peek(context) else { return Ok(()) };
        let others = |name: &str| self.others.iter().find(|(other, _)| *other == name)?.1.peek(context);
        bounds::check_size((self.growth.memory)(value, &others))
    }
}

/// The place of a call in its program.
#[derive(Debug, Clone)]
struct Place {
    note: Note,
    /// The program's variables.
    names: Arc<[Ident]>,
    has_closure: bool,
    growth: Option<Expansion>,
}

#[derive(Debug, Clone)]
struct BoundedCall {
    name: &'static str,
    way: Way,
    /// The library's call.
    inner: Box<dyn Expression>,
    /// By their names.
    arguments: Vec<(&'static str, Option<Box<dyn Expression>>)>,
    /// What `unnest` takes apart.
    unnested: Option<Query>,
    place: Place,
}

impl BoundedCall {
    fn argument(&self, number: usize, context: &mut Context) -> Result<Option<Value>, ExpressionError> {
        self.arguments.get(number).and_then(|(_, expr)| expr.as_ref()).map(|expr| expr.resolve(context)).transpose()
    }

    fn by_event(&self, current: Current, context: &mut Context) -> Resolved {
        let now = || chrono::DateTime::from_timestamp_millis(current.time).unwrap_or_default();
        match self.name {
            "now" => Ok(Value::Timestamp(now())),
            "random_bool" => Ok(Value::Boolean(random() >> 63 == 1)),
            "random_int" => match (self.argument(0, context)?, self.argument(1, context)?) {
                (Some(Value::Integer(min)), Some(Value::Integer(max))) if min < max => {
                    let width = max.abs_diff(min);
                    Ok(Value::Integer(min.wrapping_add_unsigned(random() % width)))
                }
                _ => Err("max must be greater than min".into()),
            },
            "random_float" => match (self.argument(0, context)?, self.argument(1, context)?) {
                (Some(Value::Float(min)), Some(Value::Float(max))) if min < max => {
                    let (min, max) = (min.into_inner(), max.into_inner());
                    let number = min + (max - min) * unit();
                    NotNan::new(number).map(Value::Float).map_err(|_| "the range is too wide".into())
                }
                _ => Err("max must be greater than min".into()),
            },
            "random_bytes" => match self.argument(0, context)? {
                Some(Value::Integer(length @ 0..=65_536)) => {
                    let bytes: Vec<u8> = (0..length).map(|_| (random() >> 56) as u8).collect();
                    Ok(Value::Bytes(bytes.into()))
                }
                _ => Err("length must be from 0 to 65536".into()),
            },
            "uuid_v4" => Ok(uuid(4, u128::from(random()) << 64 | u128::from(random()))),
            "uuid_v7" => {
                let time = match self.argument(0, context)? {
                    Some(Value::Timestamp(time)) => time,
                    _ => now(),
                };
                let millis = time.timestamp_millis() as u128 & 0xffff_ffff_ffff;
                Ok(uuid(7, millis << 80 | u128::from(random() & 0xffff) << 64 | u128::from(random())))
            }
            _ => self.inner.resolve(context),
        }
    }

    /// Fails where `unnest` would make too much of the event.
    fn check_unnested(&self, context: &Context) -> Result<(), ExpressionError> {
        let Some(query) = &self.unnested else { return Ok(()) };
        let root = match query.target() {
            query::Target::External(prefix) => {
                context.target().target_get(&OwnedTargetPath::root(*prefix)).ok().flatten()
            }
            query::Target::Internal(variable) => context.state().variable(variable.ident()),
            _ => None,
        };
        if let Some(root) = root
            && let Some(Value::Array(items)) = root.get(query.path())
        {
            bounds::check_copies(root, items.len())?;
        }
        Ok(())
    }
}

impl BoundedCall {
    fn value(&self, context: &mut Context) -> Resolved {
        match self.way {
            Way::Library => self.inner.resolve(context),
            Way::Unnest => {
                self.check_unnested(context)?;
                self.inner.resolve(context)
            }
            Way::ByEvent => match CURRENT.get() {
                Some(current) => self.by_event(current, context),
                None => self.inner.resolve(context),
            },
            Way::Own(own) => {
                let given = self.arguments.iter().filter_map(|(name, expr)| Some((*name, expr.as_ref()?)));
                let given = given.map(|(name, expr)| Ok((name, expr.resolve(context)?)));
                own(own::Arguments(given.collect::<Result<_, ExpressionError>>()?))
            }
        }
    }
}

impl Expression for BoundedCall {
    fn resolve(&self, context: &mut Context) -> Resolved {
        let Place { note, names, has_closure, growth } = &self.place;
        if note.is_first {
            ledger::begin_statement();
        }
        if let Some(growth) = growth {
            growth.check(context)?;
        }
        let mark = ledger::begin_call(*has_closure);
        let value = self.value(context);
        ledger::end_call(mark);
        let value = value?;
        check_made(&value, bounds::check(&value)?, note, context, names)?;
        Ok(value)
    }

    fn resolve_constant(&self, state: &TypeState) -> Option<Value> {
        self.inner.resolve_constant(state)
    }

    fn type_info(&self, state: &TypeState) -> TypeInfo {
        self.inner.type_info(state)
    }
}

/// The next number of the event's sequence (splitmix64).
fn random() -> u64 {
    let Some(mut current) = CURRENT.get() else { return 0 };
    current.random = current.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    CURRENT.set(Some(current));
    let mut number = current.random;
    number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// From 0 up to, not including, 1.
fn unit() -> f64 {
    (random() >> 11) as f64 / (1u64 << 53) as f64
}

fn uuid(version: u128, bits: u128) -> Value {
    let bits = bits & !(0xf << 76) & !(0b11 << 62) | version << 76 | 0b10 << 62;
    let hex = format!("{bits:032x}");
    Value::from(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}
