//! How deep a program may be nested.
//!
//! VRL's parser and compiler have no limit of their own: they recurse into what is nested, look ahead as far as a bracket is open,
//! and take twice as long for each function call around another. So text is checked before it is parsed, the syntax tree before it
//! is compiled, and both happen on a stack that fits the text.

use std::ops::Range;
use std::thread;

use vrl::parser::ast::{
    Assignment, AssignmentTarget, Container, Expr, FunctionCall, Literal, Node, Predicate, Program, QueryTarget,
    RootExpr, Unary,
};
use vrl::parser::template_string::TemplateString;
use vrl::path::OwnedSegment;

use super::Problem;
use crate::event::json::MAX_DEPTH;

/// Longest text of a program, in bytes.
const MAX_SOURCE: usize = 256 << 10;
/// Open brackets, or prefixes in a row, in front of one another.
const MAX_BRACKETS: usize = 128;
/// Expressions inside one another: also operators in a row, of which each has all before it as its left side.
const MAX_EXPRESSIONS: usize = 512;
/// Comments and empty lines in a row: the lexer looks behind all of them at each.
const MAX_BLANK: usize = 2_000;
/// Highest index in a path: the compiler makes an entry for each one below it.
const MAX_INDEX: usize = 1_000;
/// Function calls inside one another, in arguments or closures: each doubles the time that compiling takes.
const MAX_CALLS: usize = 16;
/// Stack for compiling the deepest program.
const STACK: usize = 16 << 20;
/// More stack for each byte of text: a syntax tree that was parsed in vain is dropped level by level.
const STACK_PER_BYTE: usize = 512;

/// Longest search, in bytes: its grammar recurses on the stack as well.
const MAX_SEARCH: usize = 8 << 10;

/// Code of the problem for a program that is nested too deep or too long.
const TOO_DEEP: &str = "program_too_deep";

/// Runs `work` on a program's text, on a stack that fits it, if its text is neither too long nor nested too deep.
pub(super) fn with_stack<T: Send>(
    source: &str,
    work: impl FnOnce() -> Result<T, Vec<Problem>> + Send,
) -> Result<T, Vec<Problem>> {
    let problem = |message: String| vec![Problem::error(TOO_DEEP, 0..source.len(), message)];
    if source.len() > MAX_SOURCE {
        return Err(problem(format!("the program is longer than {} KiB", MAX_SOURCE >> 10)));
    }
    if let Some(at) = too_many_brackets(source) {
        let message = format!(
            "more than {MAX_BRACKETS} brackets, prefixes such as `!`, or parts of a path, or {MAX_BLANK} comments and empty lines, \
             follow one another here"
        );
        return Err(vec![Problem::error(TOO_DEEP, at..at + 1, message).with_note(HELP)]);
    }
    thread::scope(|scope| {
        let stack = STACK + STACK_PER_BYTE * source.len();
        let thread = thread::Builder::new().name("vrl-compiler".to_owned()).stack_size(stack);
        match thread.spawn_scoped(scope, work) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => Err(problem(format!("no thread to compile it on: {error}"))),
        }
    })
}

const HELP: &str = "split it up with variables, or write `includes([...], .field)` instead of many comparisons";

/// Where more brackets, prefixes, parts of a path or comments follow one another than may. Literals and comments are stepped over as VRL does.
fn too_many_brackets(source: &str) -> Option<usize> {
    let bytes = source.as_bytes();
    let (mut open, mut prefixes, mut parts, mut blank, mut at) = (0usize, 0usize, 0usize, 0usize, 0);
    while let Some(&byte) = bytes.get(at) {
        let begin = at;
        at += 1;
        match byte {
            b'.' | b'[' => parts += 1,
            b']' | b'"' | b'_' | b'@' => {}
            byte if byte.is_ascii_alphanumeric() => {}
            _ => parts = 0,
        }
        match byte {
            b'\n' | b'#' => blank += 1,
            byte if byte.is_ascii_whitespace() => {}
            _ => blank = 0,
        }
        if parts > MAX_DEPTH || blank > MAX_BLANK {
            return Some(begin);
        }
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            b'!' => {
                prefixes += 1;
                if open + prefixes > MAX_BRACKETS {
                    return Some(begin);
                }
                continue;
            }
            b'"' => at = end_of_literal(bytes, at, b'"'),
            b'#' => at = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |end| at + end),
            b'r' | b's' | b't' if bytes.get(at) == Some(&b'\'') => at = end_of_literal(bytes, at + 1, b'\''),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'@' | b'0'..=b'9' => {
                let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'@');
                at = bytes[at..].iter().position(|byte| !is_word(byte)).map_or(bytes.len(), |end| at + end);
                if matches!(&bytes[begin..at], b"abort" | b"return" | b"if") {
                    prefixes += 1;
                    if open + prefixes > MAX_BRACKETS {
                        return Some(begin);
                    }
                    continue;
                }
            }
            _ if byte.is_ascii_whitespace() => continue,
            _ => {}
        }
        prefixes = 0;
        if open > MAX_BRACKETS {
            return Some(begin);
        }
    }
    None
}

fn end_of_literal(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            byte if *byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// What is too deep in a syntax tree. It is taken apart from the root on, so that dropping it does not recurse either.
pub(super) fn check(tree: Program) -> Option<Problem> {
    let mut walk = Walk::default();
    for root in tree {
        if let RootExpr::Expr(expr) = root.into_inner() {
            walk.open.push((expr, 1, 0));
        }
    }
    let mut found = None;
    while let Some((expr, depth, calls)) = walk.open.pop() {
        let span = expr.span().range();
        let what = if depth > MAX_EXPRESSIONS {
            format!("more than {MAX_EXPRESSIONS} expressions inside one another, or operators in a row")
        } else if calls > MAX_CALLS {
            format!("more than {MAX_CALLS} function calls inside one another")
        } else {
            walk.take_apart(expr, depth, calls);
            continue;
        };
        found.get_or_insert_with(|| Problem::error(TOO_DEEP, span, what).with_note(HELP));
        walk.take_apart(expr, depth, calls);
    }
    found.or(walk.found)
}

/// What a literal says.
fn text(expr: &Node<Expr>) -> Option<&str> {
    let Expr::Literal(literal) = expr.inner() else { return None };
    match literal.inner() {
        Literal::RawString(text) => Some(text),
        Literal::String(template) => template.as_literal_string(),
        _ => None,
    }
}

fn is_search_too_deep(search: &str) -> bool {
    let many = |what: &str| search.matches(what).count() > MAX_BRACKETS;
    search.len() > MAX_SEARCH || many("(") || many("NOT") || many("-")
}

#[derive(Default)]
struct Walk {
    /// What is to be taken apart, with the expressions and the calls around it.
    open: Vec<(Node<Expr>, usize, usize)>,
    found: Option<Problem>,
}

impl Walk {
    fn all(&mut self, exprs: impl IntoIterator<Item = Node<Expr>>, depth: usize, calls: usize) {
        self.open.extend(exprs.into_iter().map(|expr| (expr, depth, calls)));
    }

    fn take_apart(&mut self, expr: Node<Expr>, depth: usize, calls: usize) {
        let span = expr.span().range();
        let inner = depth + 1;
        match expr.into_inner() {
            Expr::Literal(literal) => {
                // A text with variables in it is compiled as a sum.
                if let Literal::String(TemplateString(parts)) = literal.inner()
                    && depth + parts.len() > MAX_EXPRESSIONS
                {
                    let text = format!("a text of more than {MAX_EXPRESSIONS} parts");
                    self.found.get_or_insert_with(|| Problem::error(TOO_DEEP, span, text));
                }
            }
            Expr::Container(container) => self.container(container.into_inner(), inner, calls),
            Expr::IfStatement(statement) => {
                let statement = statement.into_inner();
                match statement.predicate.into_inner() {
                    Predicate::One(expr) => self.open.push((*expr, inner, calls)),
                    Predicate::Many(exprs) => self.all(exprs, inner, calls),
                }
                self.all(statement.if_node.into_inner(), inner, calls);
                self.all(statement.else_node.into_iter().flat_map(Node::into_inner), inner, calls);
            }
            Expr::Op(op) => {
                let op = op.into_inner();
                self.all([*op.0, *op.2], inner, calls);
            }
            Expr::Assignment(assignment) => match assignment.into_inner() {
                Assignment::Single { target, expr, .. } => {
                    self.target(target.into_inner(), inner, calls);
                    self.open.push((*expr, inner, calls));
                }
                Assignment::Infallible { ok, err, expr, .. } => {
                    self.target(ok.into_inner(), inner, calls);
                    self.target(err.into_inner(), inner, calls);
                    self.open.push((*expr, inner, calls));
                }
            },
            Expr::Query(query) => {
                let query = query.into_inner();
                self.path(&query.path.inner().segments, query.path.span().range());
                self.query(query.target.into_inner(), inner, calls);
            }
            Expr::FunctionCall(call) => self.call(call.into_inner(), inner, calls),
            Expr::Variable(_) | Expr::Break(_) => {}
            Expr::Unary(unary) => {
                let Unary::Not(not) = unary.into_inner();
                self.open.push((*not.into_inner().take().1, inner, calls));
            }
            Expr::Abort(abort) => self.all(abort.into_inner().message.map(|message| *message), inner, calls),
            Expr::Return(expr) => self.open.push((*expr.into_inner().expr, inner, calls)),
        }
    }

    fn container(&mut self, container: Container, depth: usize, calls: usize) {
        match container {
            Container::Group(group) => self.open.push((group.into_inner().into_inner(), depth, calls)),
            Container::Block(block) => self.all(block.into_inner(), depth, calls),
            Container::Array(array) => self.all(array.into_inner(), depth, calls),
            Container::Object(object) => {
                self.all(object.into_inner().into_iter().map(|(_, value)| value), depth, calls);
            }
        }
    }

    fn target(&mut self, target: AssignmentTarget, depth: usize, calls: usize) {
        match target {
            AssignmentTarget::Query(query) => {
                self.path(&query.path.inner().segments, query.path.span().range());
                self.query(query.target.into_inner(), depth, calls);
            }
            AssignmentTarget::Noop | AssignmentTarget::Internal(..) | AssignmentTarget::External(_) => {}
        }
    }

    fn query(&mut self, target: QueryTarget, depth: usize, calls: usize) {
        match target {
            QueryTarget::Internal(_) | QueryTarget::External(_) => {}
            QueryTarget::FunctionCall(call) => self.call(call, depth, calls),
            QueryTarget::Container(container) => self.container(container, depth, calls),
        }
    }

    fn path(&mut self, segments: &[OwnedSegment], span: Range<usize>) {
        let is_far =
            |segment: &OwnedSegment| matches!(segment, OwnedSegment::Index(at) if at.unsigned_abs() > MAX_INDEX);
        let message = if segments.len() > MAX_DEPTH {
            format!("a path of more than {MAX_DEPTH} parts")
        } else if segments.iter().any(is_far) {
            format!("an index beyond {MAX_INDEX}")
        } else {
            return;
        };
        self.found.get_or_insert_with(|| Problem::error(TOO_DEEP, span, message));
    }

    fn call(&mut self, call: FunctionCall, depth: usize, calls: usize) {
        if call.ident.inner().as_ref() == "match_datadog_query" {
            let texts = call.arguments.iter().filter_map(|argument| text(&argument.inner().expr));
            if texts.into_iter().any(is_search_too_deep) {
                let message = format!(
                    "the search is longer than {MAX_SEARCH} bytes or has more than {MAX_BRACKETS} brackets or negations"
                );
                let span = call.ident.span().range();
                self.found.get_or_insert_with(|| Problem::error(TOO_DEEP, span, message));
            }
        }
        self.all(call.arguments.into_iter().map(|argument| argument.into_inner().expr), depth, calls + 1);
        if let Some(closure) = call.closure {
            self.all(closure.into_inner().block.into_inner(), depth, calls + 1);
        }
    }
}
