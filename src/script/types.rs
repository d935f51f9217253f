//! How large the static types of a program become.
//!
//! VRL knows the type of every variable down to each field and item, and copies all of it for each expression. So
//! `x = [x, x, x, x]`, written thirty times, asks for more memory than there is, before the program has run. The sizes of the types are
//! estimated over the syntax tree, from above, and a program whose types are too large is refused.

use std::collections::HashMap;

use vrl::compiler::value::kind;
use vrl::parser::ast::{
    Assignment, AssignmentOp, AssignmentTarget, Container, Expr, FunctionCall, IfStatement, Literal, Node, Op, Opcode,
    Predicate, Program, Query, QueryTarget, RootExpr, Unary,
};
use vrl::path::{OwnedSegment, OwnedValuePath, PathPrefix};

use super::{Problem, functions};

/// Fields and items that all variables and the event have together, as far as the program names them.
const MAX_TYPES: usize = 12_000;
/// The same, summed up over all expressions: each has a copy.
const MAX_WORK: usize = 60_000_000;
/// The same, for each expression inside another: their copies are there at the same time.
const MAX_COPIES: usize = 120_000;
/// Fields in the type of an object or list that a function gives, about: of a log line, say.
const RESULT: usize = 24;

/// Code of the problem.
const TOO_LARGE: &str = "program_too_large";

/// What is too large in a program that is not nested too deep.
pub(super) fn check(tree: Program) -> Option<Problem> {
    let mut sizes = Sizes { state: State::default(), work: 0, depth: 0, found: None };
    for root in tree {
        if let RootExpr::Expr(expr) = root.into_inner() {
            sizes.expr(expr);
        }
    }
    sizes.found
}

/// The size of a type: of fields that were assigned one by one, and of all else.
#[derive(Debug, Clone)]
struct Type {
    rest: usize,
    fields: HashMap<String, Type>,
}

impl Type {
    fn of(size: usize) -> Type {
        Type { rest: size, fields: HashMap::new() }
    }

    fn all(&self) -> usize {
        self.fields.values().map(Type::all).fold(self.rest, usize::saturating_add)
    }

    /// The size of what is at a path, at most.
    fn at(&self, path: &OwnedValuePath) -> usize {
        let mut at = self;
        for segment in &path.segments {
            let OwnedSegment::Field(name) = segment else { break };
            match at.fields.get(name.as_str()) {
                Some(field) => at = field,
                None => return at.rest,
            }
        }
        at.all()
    }

    fn set(&mut self, path: &OwnedValuePath, size: usize) {
        let mut at = self;
        for segment in &path.segments {
            match segment {
                OwnedSegment::Field(name) => {
                    at = at.fields.entry(name.as_str().to_owned()).or_insert_with(|| Type::of(1));
                }
                // The compiler makes an entry for each item below it. Which item it is cannot always be known.
                OwnedSegment::Index(index) => {
                    let items = index.unsigned_abs().saturating_add(1);
                    at.rest = at.rest.saturating_add(items).saturating_add(size).saturating_add(path.segments.len());
                    return;
                }
            }
        }
        *at = Type::of(size);
    }

    /// What holds where one of two branches ran: what there was before, and what each has added.
    fn join(&mut self, other: Type, before: Option<&Type>) {
        if self.rest != other.rest {
            let was = before.map_or(0, |before| before.rest).min(self.rest);
            self.rest = self.rest.saturating_add(other.rest.saturating_sub(was).max(1));
        }
        for (name, there) in other.fields {
            let before = before.and_then(|before| before.fields.get(&name));
            match self.fields.get_mut(&name) {
                Some(here) => here.join(there, before),
                None => {
                    self.fields.insert(name, there);
                }
            }
        }
    }
}

#[derive(Debug, Clone)]
struct State {
    event: Type,
    variables: HashMap<String, Type>,
    /// The size of all.
    all: usize,
}

impl Default for State {
    fn default() -> State {
        State { event: Type::of(1), variables: HashMap::new(), all: 1 }
    }
}

impl State {
    fn variable(&self, name: &str, path: &OwnedValuePath) -> usize {
        self.variables.get(name).map_or(1, |variable| variable.at(path))
    }

    fn set(&mut self, name: Option<&str>, path: &OwnedValuePath, size: usize) {
        let changed = match name {
            Some(name) => self.variables.entry(name.to_owned()).or_insert_with(|| Type::of(0)),
            None => &mut self.event,
        };
        let before = changed.all();
        changed.set(path, size);
        self.all = self.all.saturating_sub(before).saturating_add(changed.all());
    }

    fn join(&mut self, before: &State, other: State) {
        self.event.join(other.event, Some(&before.event));
        for (name, there) in other.variables {
            let before = before.variables.get(&name);
            match self.variables.get_mut(&name) {
                Some(here) => here.join(there, before),
                None => {
                    self.variables.insert(name, there);
                }
            }
        }
        self.all = self.variables.values().map(Type::all).fold(self.event.all(), usize::saturating_add);
    }
}

struct Sizes {
    state: State,
    work: usize,
    /// Expressions around, and this one.
    depth: usize,
    found: Option<Problem>,
}

impl Sizes {
    /// The size of an expression's type.
    fn expr(&mut self, expr: Node<Expr>) -> usize {
        if self.found.is_some() {
            return 1;
        }
        let span = expr.span().range();
        self.depth += 1;
        let size = self.size(expr.into_inner());
        let copies = self.depth.saturating_mul(self.state.all);
        self.depth -= 1;
        self.work = self.work.saturating_add(self.state.all).saturating_add(size);
        if size.max(self.state.all) > MAX_TYPES || self.work > MAX_WORK || copies > MAX_COPIES {
            let message = format!(
                "the values of this program have too many fields and items that it names: more than {MAX_TYPES}, or too many \
                 expressions that see them"
            );
            let help = "copy values into one another less often, or make them in a loop (`for_each`, `map_values`)";
            self.found.get_or_insert_with(|| Problem::error(TOO_LARGE, span, message).with_note(help));
        }
        size
    }

    fn sum(&mut self, exprs: impl IntoIterator<Item = Node<Expr>>) -> usize {
        exprs.into_iter().map(|expr| self.expr(expr)).fold(1, usize::saturating_add)
    }

    /// The last expression is the value.
    fn block(&mut self, exprs: impl IntoIterator<Item = Node<Expr>>) -> usize {
        exprs.into_iter().fold(1, |_, expr| self.expr(expr))
    }

    fn size(&mut self, expr: Expr) -> usize {
        match expr {
            // A text with variables in it is compiled as a sum of them.
            Expr::Literal(literal) => match literal.into_inner() {
                Literal::String(text) => {
                    self.work = self.work.saturating_add(text.0.len().saturating_mul(self.state.all));
                    1
                }
                _ => 1,
            },
            Expr::Container(container) => self.container(container.into_inner()),
            Expr::IfStatement(statement) => self.if_statement(statement.into_inner()),
            Expr::Op(op) => {
                let Op(left, code, right) = op.into_inner();
                let (left, right) = (self.expr(*left), self.expr(*right));
                match code.inner() {
                    Opcode::Err | Opcode::Or | Opcode::Merge => left.saturating_add(right),
                    _ => 1,
                }
            }
            Expr::Assignment(assignment) => match assignment.into_inner() {
                Assignment::Single { target, op, expr } => {
                    let size = self.expr(*expr).saturating_add(self.merged(target.inner(), op));
                    self.assign(target.inner(), size);
                    size
                }
                Assignment::Infallible { ok, err, op, expr } => {
                    let size = self.expr(*expr).saturating_add(self.merged(ok.inner(), op));
                    self.assign(ok.inner(), size.saturating_add(1));
                    self.assign(err.inner(), 2);
                    size.saturating_add(1)
                }
            },
            Expr::Query(query) => self.query(query.into_inner()),
            Expr::FunctionCall(call) => self.call(call.into_inner()),
            Expr::Variable(name) => self.state.variable(name.inner().as_ref(), &OwnedValuePath::root()),
            Expr::Unary(unary) => {
                let Unary::Not(not) = unary.into_inner();
                self.expr(*not.into_inner().take().1);
                1
            }
            Expr::Abort(abort) => {
                self.sum(abort.into_inner().message.map(|message| *message));
                1
            }
            Expr::Return(give) => self.expr(*give.into_inner().expr),
            Expr::Break(_) => 1,
        }
    }

    /// What a target holds already, where it is merged.
    fn merged(&self, target: &AssignmentTarget, op: AssignmentOp) -> usize {
        let root = OwnedValuePath::root();
        match (op, target) {
            (AssignmentOp::Assign, _) | (_, AssignmentTarget::Noop) => 0,
            (_, AssignmentTarget::Internal(name, path)) => {
                self.state.variable(name.as_ref(), path.as_ref().unwrap_or(&root))
            }
            (_, AssignmentTarget::External(path)) => {
                self.state.event.at(path.as_ref().map_or(&root, |path| &path.path))
            }
            (_, AssignmentTarget::Query(query)) => match query.target.inner() {
                QueryTarget::Internal(name) => self.state.variable(name.as_ref(), query.path.inner()),
                _ => self.state.event.at(query.path.inner()),
            },
        }
    }

    fn if_statement(&mut self, statement: IfStatement) -> usize {
        match statement.predicate.into_inner() {
            Predicate::One(expr) => self.expr(*expr),
            Predicate::Many(exprs) => self.block(exprs),
        };
        let before = self.state.clone();
        let size = self.block(statement.if_node.into_inner());
        let after = std::mem::replace(&mut self.state, before.clone());
        let other = self.block(statement.else_node.into_iter().flat_map(Node::into_inner));
        self.state.join(&before, after);
        size.saturating_add(other)
    }

    fn container(&mut self, container: Container) -> usize {
        match container {
            Container::Group(group) => self.expr(group.into_inner().into_inner()),
            Container::Block(block) => self.block(block.into_inner()),
            Container::Array(array) => self.sum(array.into_inner()),
            Container::Object(object) => self.sum(object.into_inner().into_iter().map(|(_, value)| value)),
        }
    }

    fn query(&mut self, query: Query) -> usize {
        match query.target.into_inner() {
            QueryTarget::Internal(name) => self.state.variable(name.as_ref(), query.path.inner()),
            QueryTarget::External(PathPrefix::Event) => self.state.event.at(query.path.inner()),
            QueryTarget::External(PathPrefix::Metadata) => 1,
            QueryTarget::FunctionCall(call) => self.call(call),
            QueryTarget::Container(container) => self.container(container),
        }
    }

    fn call(&mut self, call: FunctionCall) -> usize {
        let name: &str = call.ident.inner().as_ref();
        let is_around = name == "unnest";
        let function = functions::available().iter().find(|function| function.identifier() == name);
        let is_scalar = function.is_some_and(|function| function.return_kind() & (kind::OBJECT | kind::ARRAY) == 0);
        let arguments = self.sum(call.arguments.into_iter().map(|argument| argument.into_inner().expr));
        let closure = call.closure.map_or(0, |closure| {
            let closure = closure.into_inner();
            for name in &closure.variables {
                self.state.set(Some(name.inner().as_ref()), &OwnedValuePath::root(), arguments);
            }
            self.block(closure.block.into_inner())
        });
        if is_scalar {
            return 1;
        }
        // The whole of which it gives a list.
        let around = if is_around { self.state.all } else { 0 };
        arguments.saturating_add(closure).saturating_add(around).saturating_add(RESULT)
    }

    fn assign(&mut self, target: &AssignmentTarget, size: usize) {
        let root = OwnedValuePath::root();
        match target {
            AssignmentTarget::Noop => {}
            AssignmentTarget::Internal(name, path) => {
                self.state.set(Some(name.as_ref()), path.as_ref().unwrap_or(&root), size);
            }
            AssignmentTarget::External(path) => {
                self.state.set(None, path.as_ref().map_or(&root, |path| &path.path), size)
            }
            AssignmentTarget::Query(query) => match query.target.inner() {
                QueryTarget::Internal(name) => self.state.set(Some(name.as_ref()), query.path.inner(), size),
                _ => self.state.set(None, query.path.inner(), size),
            },
        }
    }
}
