//! Conditions so plain that the bytes of the event decide them: `.a == "x"`, `!=`, and these joined by `&&` and `||`.
//!
//! Anything else is VRL's. The tests compare the two on generated conditions.

use bytes::Bytes;
use vrl::parser::ast::{Container, Expr, Literal, Node, Opcode, Program, QueryTarget, RootExpr};
use vrl::parser::template_string::StringSegment;
use vrl::path::{OwnedSegment, PathPrefix};

use super::plan::Plan;
use crate::event::json::{self, Found};

/// A plain condition, with a field as `F`: first its name, then its index in the plan.
#[derive(Debug, Clone)]
pub(super) enum Plain<F> {
    Is { field: F, text: Vec<u8>, equal: bool },
    All(Box<[Plain<F>; 2]>),
    Any(Box<[Plain<F>; 2]>),
}

/// Ready to run.
pub(super) type Native = Plain<usize>;

/// The plain condition a program is, if it is one.
pub(super) fn recognise(program: &Program, source: &str) -> Option<Plain<String>> {
    match &program[..] {
        [root] => match root.inner() {
            RootExpr::Expr(expr) => plain(expr, source),
            RootExpr::Error(_) => None,
        },
        _ => None,
    }
}

fn plain(expr: &Node<Expr>, source: &str) -> Option<Plain<String>> {
    match expr.inner() {
        Expr::Container(container) => match container.inner() {
            Container::Group(group) => plain(&group.inner().0, source),
            _ => None,
        },
        Expr::Op(op) => {
            let (left, right) = (&op.inner().0, &op.inner().2);
            match op.inner().1.inner() {
                Opcode::And => Some(Plain::All(Box::new([plain(left, source)?, plain(right, source)?]))),
                Opcode::Or => Some(Plain::Any(Box::new([plain(left, source)?, plain(right, source)?]))),
                code @ (Opcode::Eq | Opcode::Ne) => {
                    let equal = *code == Opcode::Eq;
                    Some(Plain::Is { field: top_field(left)?, text: text(right, source)?, equal })
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn top_field(expr: &Node<Expr>) -> Option<String> {
    let Expr::Query(query) = expr.inner() else { return None };
    let QueryTarget::External(PathPrefix::Event) = query.inner().target.inner() else { return None };
    match &query.inner().path.inner().segments[..] {
        [OwnedSegment::Field(name)] => Some(name.as_str().to_owned()),
        _ => None,
    }
}

fn text(expr: &Node<Expr>, source: &str) -> Option<Vec<u8>> {
    let Expr::Literal(literal) = expr.inner() else { return None };
    // What an escape means is for VRL to say.
    if source.get(literal.span().range())?.contains('\\') {
        return None;
    }
    match literal.inner() {
        Literal::RawString(text) => Some(text.clone().into_bytes()),
        Literal::String(template) => match &template.0[..] {
            [] => Some(Vec::new()),
            [StringSegment::Literal(text, _)] => Some(text.clone().into_bytes()),
            _ => None,
        },
        _ => None,
    }
}

impl Plain<String> {
    /// Looks the names up in the plan of the same program.
    pub(super) fn bind(&self, plan: &Plan) -> Option<Native> {
        Some(match self {
            Plain::Is { field, text, equal } => {
                let field = plan.fields.iter().position(|name| name == field)?;
                Plain::Is { field, text: text.clone(), equal: *equal }
            }
            Plain::All(both) => {
                let [left, right] = &**both;
                Plain::All(Box::new([left.bind(plan)?, right.bind(plan)?]))
            }
            Plain::Any(both) => {
                let [left, right] = &**both;
                Plain::Any(Box::new([left.bind(plan)?, right.bind(plan)?]))
            }
        })
    }
}

impl Native {
    /// Whether it holds for a document that has just been scanned.
    pub(super) fn holds(&self, doc: &Bytes, found: &Found) -> bool {
        match self {
            Plain::Is { field, text, equal } => is(doc, found, *field, text) == *equal,
            Plain::All(both) => both.iter().all(|part| part.holds(doc, found)),
            Plain::Any(both) => both.iter().any(|part| part.holds(doc, found)),
        }
    }
}

fn is(doc: &Bytes, found: &Found, field: usize, text: &[u8]) -> bool {
    let Some(range) = found.get(field) else { return false };
    match doc.get(range.clone()) {
        Some([b'"', spelled @ .., b'"']) => {
            let same =
                spelled.iter().zip(text).take_while(|(spelled, text)| spelled == text && **spelled != b'\\').count();
            match spelled.get(same) {
                None => same == text.len(),
                // Only what is the same up to its first escape is worth taking apart.
                Some(b'\\') => json::string_at(doc, range).is_some_and(|unescaped| unescaped == text),
                Some(_) => false,
            }
        }
        _ => false,
    }
}
