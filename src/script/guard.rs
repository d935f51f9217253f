//! Finds the places of a program where values are copied or made, and has them entered in the [ledger](super::ledger).
//!
//! VRL has no hook for that. So a call of our own is put around variables and fields where their copies add up: in lists, objects
//! and sums, and where a variable is assigned. Functions enter what they return by themselves; what they have to know of the place
//! where they are called is noted by the place. Reads that cannot add up, such as `.a = .b` or `upcase(.a)`, stay as they are.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use vrl::compiler::Context;
use vrl::compiler::expression::{Expr as Compiled, Query as CompiledQuery, query};
use vrl::diagnostic::Span;
use vrl::parser::ast::{
    Abort, Assignment, AssignmentTarget, Block, Container, Expr, FunctionArgument, FunctionCall, FunctionClosure,
    Group, Ident, IfStatement, Literal, Node, Not, Op, Opcode, Predicate, Program, Query, QueryTarget, Return,
    RootExpr, Unary,
};
use vrl::path::{OwnedTargetPath, OwnedValuePath};
use vrl::value::Value;

use super::copies::NAME;
use super::functions::growth::{self, Growth};
use super::plan::{ON_PATHS, ON_THE_WHOLE};

/// Assignments of fields with the same beginning whose copies are not entered.
const FEW: usize = 4;

/// A variable or a field, which can be looked at without a copy.
#[derive(Debug, Clone)]
pub(super) enum Leaf {
    Variable(Ident, OwnedValuePath),
    Event(OwnedTargetPath),
}

impl Leaf {
    /// The leaf that an expression is, if it is one.
    pub(super) fn of(expr: &Compiled) -> Option<Leaf> {
        match expr {
            Compiled::Variable(variable) => Some(Leaf::Variable(variable.ident().clone(), OwnedValuePath::root())),
            Compiled::Query(query) => Leaf::of_query(query),
            _ => None,
        }
    }

    fn of_query(query: &CompiledQuery) -> Option<Leaf> {
        match query.target() {
            query::Target::Internal(variable) => Some(Leaf::Variable(variable.ident().clone(), query.path().clone())),
            query::Target::External(_) => query.external_path().cloned().map(Leaf::Event),
            query::Target::FunctionCall(_) | query::Target::Container(_) => None,
        }
    }

    fn of_syntax(expr: &Expr) -> Option<Leaf> {
        match expr {
            Expr::Variable(name) => Some(Leaf::Variable(name.inner().clone(), OwnedValuePath::root())),
            Expr::Query(query) => {
                let path = query.inner().path.inner().clone();
                match query.inner().target.inner() {
                    QueryTarget::Internal(name) => Some(Leaf::Variable(name.clone(), path)),
                    QueryTarget::External(prefix) => Some(Leaf::Event(OwnedTargetPath { prefix: *prefix, path })),
                    QueryTarget::FunctionCall(_) | QueryTarget::Container(_) => None,
                }
            }
            _ => None,
        }
    }

    /// Its value, where it stands.
    pub(super) fn peek<'a>(&self, context: &'a Context) -> Option<&'a Value> {
        match self {
            Leaf::Variable(name, path) => context.state().variable(name)?.get(path),
            Leaf::Event(path) => context.target().target_get(path).ok().flatten(),
        }
    }
}

/// What an operand or argument will be, as far as it can be known beside it.
#[derive(Debug, Clone)]
pub(super) enum Operand {
    Value(Value),
    Leaf(Leaf),
    Unknown,
}

impl Operand {
    pub(super) fn of(expr: &Node<Expr>) -> Operand {
        let expr = ungrouped(expr);
        match expr.inner() {
            Expr::Literal(literal) => match literal.inner() {
                Literal::Integer(number) => Operand::Value(Value::Integer(*number)),
                Literal::RawString(text) => Operand::Value(text.as_str().into()),
                Literal::String(text) => match (text.as_literal_string(), text.0.is_empty()) {
                    (Some(text), _) => Operand::Value(text.into()),
                    (None, true) => Operand::Value("".into()),
                    (None, false) => Operand::Unknown,
                },
                Literal::Regex(pattern) => regex::Regex::new(pattern)
                    .map_or(Operand::Unknown, |pattern| Operand::Value(Value::Regex(pattern.into()))),
                _ => Operand::Value(Value::Null),
            },
            other => Leaf::of_syntax(other).map_or(Operand::Unknown, Operand::Leaf),
        }
    }

    pub(super) fn peek<'a>(&'a self, context: &'a Context) -> Option<&'a Value> {
        match self {
            Operand::Value(value) => Some(value),
            Operand::Leaf(leaf) => leaf.peek(context),
            Operand::Unknown => None,
        }
    }
}

/// An expansion that a value is given to.
#[derive(Debug, Clone)]
pub(super) struct Feed {
    pub(super) growth: Growth,
    /// The other arguments, by their parameters.
    pub(super) others: Vec<(&'static str, Operand)>,
}

/// What a call has to know of its place.
#[derive(Debug, Clone, Default)]
pub(super) struct Note {
    /// It is the first of a statement that makes a value.
    pub(super) is_first: bool,
    /// It is the first of a closure whose values are collected, each with so many bytes of literals.
    pub(super) collects: Option<usize>,
    /// By what a number or text is multiplied.
    pub(super) times: Vec<Operand>,
    pub(super) feed: Option<Arc<Feed>>,
}

/// The notes of a program, for those who compile its calls.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Of calls in the program's text, by where they stand.
    calls: HashMap<(usize, usize), Note>,
    /// Of calls that were put in.
    copies: Vec<Note>,
    /// All variables of the program.
    pub(super) names: Arc<[Ident]>,
}

impl Notes {
    pub(super) fn of_call(&self, span: Span) -> Note {
        self.calls.get(&(span.start(), span.end())).cloned().unwrap_or_default()
    }

    pub(super) fn of_copy(&self, number: usize) -> Note {
        self.copies.get(number).cloned().unwrap_or_default()
    }
}

/// A program in which copies that add up are entered, and the notes for its calls.
pub(super) fn guarded(tree: Program) -> (Program, Notes) {
    let mut walk = Walk::default();
    let root = |root: Node<RootExpr>| {
        root.map(|root| match root {
            RootExpr::Expr(inner) => {
                walk.is_first = true;
                RootExpr::Expr(walk.expr(inner, false))
            }
            RootExpr::Error(error) => RootExpr::Error(error),
        })
    };
    let tree = Program(tree.into_iter().map(root).collect());
    let Walk { mut notes, names, .. } = walk;
    notes.names = names.into_iter().map(Ident::new).collect();
    (tree, notes)
}

fn ungrouped(mut expr: &Node<Expr>) -> &Node<Expr> {
    while let Expr::Container(container) = expr.inner()
        && let Container::Group(group) = container.inner()
    {
        expr = &group.inner().0;
    }
    expr
}

fn is_leaf_or_literal(expr: &Node<Expr>) -> bool {
    let expr = ungrouped(expr).inner();
    Leaf::of_syntax(expr).is_some() || matches!(expr, Expr::Literal(_))
}

fn is_call(expr: &Node<Expr>) -> bool {
    matches!(ungrouped(expr).inner(), Expr::FunctionCall(_))
}

#[derive(Default)]
struct Walk {
    notes: Notes,
    names: BTreeSet<String>,
    /// The next call that makes a value is the first of a statement.
    is_first: bool,
    /// Expressions around that hold values while this one is computed.
    holders: usize,
    times: Vec<Operand>,
    /// Fields that were assigned, by their beginnings.
    fields: HashMap<String, usize>,
}

impl Walk {
    fn note(&mut self) -> Note {
        Note { is_first: std::mem::take(&mut self.is_first), times: self.times.clone(), ..Note::default() }
    }

    /// `copies`: whether the value is kept beside others.
    fn expr(&mut self, expr: Node<Expr>, copies: bool) -> Node<Expr> {
        let is_text = matches!(expr.inner(), Expr::Literal(literal) if matches!(literal.inner(), Literal::String(_) | Literal::RawString(_)));
        if (copies && Leaf::of_syntax(expr.inner()).is_some()) || (is_text && !self.times.is_empty()) {
            let note = self.note();
            return self.copy(expr, note);
        }
        expr.map(|expr| match expr {
            Expr::Container(container) => Expr::Container(container.map(|container| self.container(container, copies))),
            Expr::IfStatement(statement) => {
                Expr::IfStatement(statement.map(|statement| self.if_statement(statement, copies)))
            }
            Expr::Op(op) => Expr::Op(op.map(|op| self.op(op, copies))),
            Expr::Assignment(assignment) => Expr::Assignment(assignment.map(|one| self.assignment(one, copies))),
            Expr::Query(query) => Expr::Query(query.map(|query| self.query(query))),
            Expr::FunctionCall(call) => {
                let span = call.span();
                Expr::FunctionCall(call.map(|call| self.call(call, span)))
            }
            Expr::Unary(unary) => Expr::Unary(unary.map(|Unary::Not(not)| {
                let (span, not) = not.take();
                Unary::Not(Node::new(span, Not::new(span, self.expr(*not.take().1, false))))
            })),
            Expr::Abort(abort) => Expr::Abort(
                abort.map(|abort| Abort { message: abort.message.map(|one| Box::new(self.expr(*one, false))) }),
            ),
            Expr::Return(give) => {
                Expr::Return(give.map(|give| Return { expr: Box::new(self.expr(*give.expr, false)) }))
            }
            Expr::Literal(literal) => match literal.inner() {
                // As the compiler does, so that the copies in it are seen.
                Literal::String(text) if text.as_literal_string().is_none() && !text.0.is_empty() => {
                    let sum = Node::new(literal.span(), text.rewrite_to_concatenated_strings());
                    self.expr(sum, copies).into_inner()
                }
                _ => Expr::Literal(literal),
            },
            expr @ (Expr::Variable(_) | Expr::Break(_)) => expr,
        })
    }

    fn copy(&mut self, expr: Node<Expr>, note: Note) -> Node<Expr> {
        let span = expr.span();
        let number = i64::try_from(self.notes.copies.len()).unwrap_or(i64::MAX);
        self.notes.copies.push(note);
        let number = Node::new(span, Expr::Literal(Node::new(span, Literal::Integer(number))));
        let argument = |expr| Node::new(span, FunctionArgument { ident: None, expr });
        let call = FunctionCall {
            ident: Node::new(span, Ident::new(NAME)),
            abort_on_error: false,
            arguments: vec![argument(expr), argument(number)],
            closure: None,
        };
        Node::new(span, Expr::FunctionCall(Node::new(span, call)))
    }

    /// Several expressions of which each is held until all are there.
    fn beside<T>(&mut self, work: impl FnOnce(&mut Walk) -> T) -> T {
        self.holders += 1;
        let result = work(self);
        self.holders -= 1;
        result
    }

    fn all<T: FromIterator<Node<Expr>>>(&mut self, exprs: impl IntoIterator<Item = Node<Expr>>, copies: bool) -> T {
        exprs.into_iter().map(|expr| self.expr(expr, copies)).collect()
    }

    /// Statements: what one has made is gone at the next, unless somebody around still holds values.
    fn block(&mut self, block: Node<Block>, copies: bool) -> Node<Block> {
        block.map(|Block(exprs)| {
            let last = exprs.len().saturating_sub(1);
            let exprs = exprs.into_iter().enumerate().map(|(at, expr)| {
                self.is_first |= self.holders == 0;
                self.expr(expr, copies && at == last)
            });
            Block(exprs.collect())
        })
    }

    fn container(&mut self, container: Container, copies: bool) -> Container {
        match container {
            Container::Group(group) => {
                Container::Group(Box::new(group.map(|group| Group(self.expr(group.into_inner(), copies)))))
            }
            Container::Block(block) => Container::Block(self.block(block, copies)),
            Container::Array(array) => Container::Array(array.map(|array| self.beside(|walk| walk.all(array, true)))),
            Container::Object(object) => Container::Object(object.map(|object| {
                self.beside(|walk| object.into_iter().map(|(key, value)| (key, walk.expr(value, true))).collect())
            })),
        }
    }

    fn if_statement(&mut self, statement: IfStatement, copies: bool) -> IfStatement {
        let times = std::mem::take(&mut self.times);
        let predicate = statement.predicate.map(|predicate| match predicate {
            Predicate::One(expr) => Predicate::One(Box::new(self.expr(*expr, false))),
            Predicate::Many(exprs) => Predicate::Many(self.all(exprs, false)),
        });
        self.times = times;
        let if_node = self.block(statement.if_node, copies);
        let else_node = statement.else_node.map(|block| self.block(block, copies));
        IfStatement { predicate, if_node, else_node }
    }

    fn op(&mut self, Op(left, code, right): Op, copies: bool) -> Op {
        let (left, right) = match code.inner() {
            // One of them is the value.
            Opcode::Err | Opcode::Or | Opcode::And => (self.expr(*left, copies), self.expr(*right, copies)),
            Opcode::Add | Opcode::Merge => self.beside(|walk| (walk.expr(*left, true), walk.expr(*right, true))),
            Opcode::Mul => self.beside(|walk| {
                let (for_left, for_right) = (Operand::of(&right), Operand::of(&left));
                walk.times.push(for_left);
                let left = walk.expr(*left, true);
                walk.times.pop();
                walk.times.push(for_right);
                let right = walk.expr(*right, true);
                walk.times.pop();
                (left, right)
            }),
            // A copy is held while something larger is computed.
            _ => {
                let is_held = !is_leaf_or_literal(&right);
                self.beside(|walk| (walk.expr(*left, is_held), walk.expr(*right, false)))
            }
        };
        Op(Box::new(left), code, Box::new(right))
    }

    fn assignment(&mut self, assignment: Assignment, copies: bool) -> Assignment {
        match assignment {
            Assignment::Single { target, op, expr } => {
                let (target, expr) = (self.target(target), self.assigned(*expr, copies));
                Assignment::Single { target, op, expr: Box::new(expr) }
            }
            Assignment::Infallible { ok, err, op, expr } => {
                let (ok, err) = (self.target(ok), self.target(err));
                Assignment::Infallible { ok, err, op, expr: Box::new(self.assigned(*expr, copies)) }
            }
        }
    }

    /// What is assigned: variables as a whole, and fields that are assigned often.
    fn assigned(&mut self, expr: Node<Expr>, copies: bool) -> Node<Expr> {
        let is_many = match Leaf::of_syntax(ungrouped(&expr).inner()) {
            Some(Leaf::Event(path)) => match path.path.segments.first() {
                Some(begin) => {
                    let count = self.fields.entry(begin.to_string()).or_default();
                    *count += 1;
                    *count > FEW
                }
                None => true,
            },
            Some(Leaf::Variable(..)) => true,
            // Each in a row of assignments gets a copy.
            None if matches!(ungrouped(&expr).inner(), Expr::Assignment(_)) => {
                self.times.push(Operand::Value(Value::Integer(2)));
                let expr = self.expr(expr, true);
                self.times.pop();
                return expr;
            }
            None => false,
        };
        self.expr(expr, copies || is_many)
    }

    fn query(&mut self, query: Query) -> Query {
        let span = query.target.span();
        let target = query.target.map(|target| match target {
            QueryTarget::FunctionCall(call) => QueryTarget::FunctionCall(self.call(call, span)),
            QueryTarget::Container(container) => QueryTarget::Container(self.container(container, true)),
            target @ (QueryTarget::Internal(_) | QueryTarget::External(_)) => target,
        });
        Query { target, path: query.path }
    }

    fn target(&mut self, target: Node<AssignmentTarget>) -> Node<AssignmentTarget> {
        target.map(|target| {
            let name = match &target {
                AssignmentTarget::Internal(name, _) => Some(name),
                AssignmentTarget::Query(query) => match query.target.inner() {
                    QueryTarget::Internal(name) => Some(name),
                    _ => None,
                },
                AssignmentTarget::Noop | AssignmentTarget::External(_) => None,
            };
            if let Some(name) = name {
                self.names.insert(name.to_string());
            }
            match target {
                AssignmentTarget::Query(query) => AssignmentTarget::Query(self.query(query)),
                target => target,
            }
        })
    }

    fn call(&mut self, call: FunctionCall, span: Span) -> FunctionCall {
        let name: &str = call.ident.inner().as_ref();
        let note = self.note();
        self.notes.calls.insert((span.start(), span.end()), note);
        if ON_PATHS.contains(&name) || ON_THE_WHOLE.contains(&name) {
            return call;
        }
        let collects = growth::COLLECT.contains(&name);
        let growth = growth::of(name);
        let times = std::mem::take(&mut self.times);
        // Copies are held while other arguments or a closure are computed.
        let is_held = |at: usize, arguments: &[Node<FunctionArgument>]| {
            call.closure.is_some()
                || arguments[at + 1..].iter().any(|argument| !is_leaf_or_literal(&argument.inner().expr))
        };
        let held: Vec<bool> = (0..call.arguments.len()).map(|at| is_held(at, &call.arguments)).collect();
        let fed = growth.and_then(|growth| growth::fed(name, growth, &call.arguments));
        let mut arguments = Vec::new();
        self.beside(|walk| {
            for (at, argument) in call.arguments.into_iter().enumerate() {
                let feed = fed.as_ref().filter(|(fed, _)| *fed == at).map(|(_, feed)| feed.clone());
                arguments.push(argument.map(|FunctionArgument { ident, expr }| FunctionArgument {
                    ident,
                    expr: walk.argument(expr, held[at], feed.clone()),
                }));
            }
        });
        let closure = call.closure.map(|closure| closure.map(|closure| self.closure(closure, collects)));
        self.times = times;
        FunctionCall { arguments, closure, ..call }
    }

    fn argument(&mut self, expr: Node<Expr>, is_held: bool, feed: Option<Arc<Feed>>) -> Node<Expr> {
        match feed {
            Some(feed) if is_held && Leaf::of_syntax(expr.inner()).is_some() => {
                let note = Note { feed: Some(feed), ..Note::default() };
                self.copy(expr, note)
            }
            // Looked at by the function itself.
            Some(_) if is_leaf_or_literal(&expr) => self.expr(expr, false),
            Some(feed) if is_call(&expr) => {
                let span = ungrouped(&expr).span();
                let expr = self.expr(expr, is_held);
                if let Some(note) = self.notes.calls.get_mut(&(span.start(), span.end())) {
                    note.feed = Some(feed);
                }
                expr
            }
            Some(feed) => {
                let note = Note { feed: Some(feed), ..Note::default() };
                let expr = self.expr(expr, is_held);
                self.copy(expr, note)
            }
            None => self.expr(expr, is_held),
        }
    }

    fn closure(&mut self, closure: FunctionClosure, collects: bool) -> FunctionClosure {
        self.names.extend(closure.variables.iter().map(|name| name.inner().to_string()));
        let holders = std::mem::take(&mut self.holders);
        self.is_first = true;
        let more = literals(&closure.block);
        let span = closure.block.span();
        let mut block = self.block(closure.block, collects);
        if collects {
            let null = Node::new(span, Expr::Literal(Node::new(span, Literal::Null)));
            let begin = self.copy(null, Note { collects: Some(super::bounds::TEXT + more), ..Note::default() });
            block = block.map(|Block(exprs)| Block(std::iter::once(begin.clone()).chain(exprs).collect()));
        }
        (self.holders, self.is_first) = (holders, false);
        FunctionClosure { block, ..closure }
    }
}

/// Bytes of the literals in a block, about: what a value that is made there has beside its copies.
fn literals(block: &Node<Block>) -> usize {
    block.span().end().saturating_sub(block.span().start())
}
