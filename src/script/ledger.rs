//! Memory that a running program holds together: its variables, and the values that its expressions have made and not used yet.
//!
//! A value has a limit of its own; many of them have this one. VRL copies a value wherever a variable or a field is read, so
//! `[x, x, x]` and variables that are assigned in a loop grow without any function. [`guard`](super::guard) finds the places where
//! that may happen and puts a call there, which enters the copy here. What a statement has made is struck out where the next one
//! begins; what of it is kept in variables is measured when the sum seems to be too much, and not before.

use std::cell::{Cell, RefCell};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vrl::compiler::Context;
use vrl::parser::ast::Ident;

use super::bounds;

/// Values of the largest size that a program may hold together.
const MOST: usize = 2;
/// A program that holds more takes turns with all others of the process, so that few of them are large at the same time.
const LARGE: usize = 8 << 20;

#[derive(Debug, Clone, Copy, Default)]
struct Ledger {
    /// By expressions of the current statements: of this one, and of those whose closures it stands in.
    held: usize,
    /// By those around the closure that is running.
    base: usize,
    /// The closure has not run yet.
    is_fresh: bool,
    /// By variables, when they were measured last.
    variables: usize,
    /// Made by statements since then; some of it may be in variables.
    since: usize,
}

thread_local! {
    static LEDGER: Cell<Ledger> = const {
        Cell::new(Ledger { held: 0, base: 0, is_fresh: false, variables: 0, since: 0 })
    };
    static HAS_TURN: Cell<bool> = const { Cell::new(false) };
    static TURN: RefCell<Option<MutexGuard<'static, ()>>> = const { RefCell::new(None) };
}

static TURNS: Mutex<()> = Mutex::new(());

/// While it lives, a large program keeps its turn.
pub(super) struct Run(());

/// Begins a run, of one program over an event or of several.
pub(super) fn begin() -> Run {
    Run(())
}

/// Begins a program: it holds nothing.
pub(super) fn clear() {
    LEDGER.set(Ledger::default());
}

impl Drop for Run {
    fn drop(&mut self) {
        if HAS_TURN.replace(false) {
            TURN.take();
        }
    }
}

/// Begins the next statement: what the one before has made is in variables, in the event, or gone.
pub(super) fn begin_statement() {
    let mut ledger = LEDGER.get();
    if ledger.is_fresh {
        ledger.is_fresh = false;
        ledger.base = ledger.held;
    } else {
        ledger.since = ledger.since.saturating_add(ledger.held.saturating_sub(ledger.base));
        ledger.held = ledger.base;
    }
    LEDGER.set(ledger);
}

/// Begins the next run of a closure whose values are collected: what is held now, with the last one's value, is kept.
pub(super) fn begin_collected() {
    let ledger = LEDGER.get();
    LEDGER.set(Ledger { is_fresh: false, base: ledger.held, ..ledger });
}

/// Where a call began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    held: usize,
    base: usize,
    is_fresh: bool,
}

/// Begins a call; with a closure, what is held then is held while the closure runs.
pub(super) fn begin_call(has_closure: bool) -> Mark {
    let ledger = LEDGER.get();
    if has_closure {
        LEDGER.set(Ledger { is_fresh: true, ..ledger });
    }
    Mark { held: ledger.held, base: ledger.base, is_fresh: ledger.is_fresh }
}

/// Ends a call: what its arguments and closure have made is gone.
pub(super) fn end_call(mark: Mark) {
    let ledger = LEDGER.get();
    LEDGER.set(Ledger { held: mark.held, base: mark.base, is_fresh: mark.is_fresh, ..ledger });
}

/// Enters a value of so many bytes, if there is room for it.
pub(super) fn hold(bytes: usize, context: &Context, names: &[Ident]) -> Result<(), String> {
    let mut ledger = LEDGER.get();
    ledger.held = ledger.held.saturating_add(bytes);
    let most = bounds::max_value().saturating_mul(MOST);
    let all = |ledger: &Ledger| ledger.held.saturating_add(ledger.variables).saturating_add(ledger.since);
    if all(&ledger) > LARGE.min(most) {
        take_turn();
    }
    if all(&ledger) > most {
        ledger.since = 0;
        let values = names.iter().filter_map(|name| context.state().variable(name));
        ledger.variables = values.map(|value| bounds::check(value).unwrap_or(most)).fold(0, usize::saturating_add);
        if all(&ledger) > most {
            let why = "the program holds values of more than";
            return Err(format!("{why} {most} bytes in memory together (twice the `max_value` of the graph)"));
        }
    }
    LEDGER.set(ledger);
    Ok(())
}

/// Waits until no other program of the process is large. It waits for nothing but a computation.
pub(super) fn take_turn() {
    HAS_TURN.set(true);
    TURN.with_borrow_mut(|turn| {
        if turn.is_none() {
            *turn = Some(TURNS.lock().unwrap_or_else(PoisonError::into_inner));
        }
    });
}
