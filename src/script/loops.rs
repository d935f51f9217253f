//! Variables that grow in a loop: `all = {"before": all}` nests one level deeper, and `text = text + text` doubles, each time a
//! closure runs. VRL has nothing to hold them to, so a call of our own is put in front of each closure that assigns variables.

use std::collections::BTreeSet;

use vrl::compiler::function::{ArgumentList, Compiled, Example, FunctionCompileContext, Parameter};
use vrl::compiler::state::TypeState;
use vrl::compiler::value::kind;
use vrl::compiler::{Context, Function, FunctionExpression, Resolved, TypeDef};
use vrl::diagnostic::Span;
use vrl::parser::ast::{
    Abort, Assignment, AssignmentTarget, Block, Container, Expr, FunctionArgument, FunctionCall, FunctionClosure,
    Group, Ident, IfStatement, Literal, Node, Not, Op, Predicate, Program, Query, QueryTarget, Return, RootExpr, Unary,
};
use vrl::value::Value;

use super::bounds;

/// The name of the function; no program can spell it.
const NAME: &str = "check variables";

/// Puts a check in front of each closure in which variables are assigned.
pub(super) fn checked(tree: Program) -> Program {
    let mut walk = Walk { assigned: BTreeSet::new(), closures: 0 };
    let root = |root: Node<RootExpr>| {
        root.map(|root| match root {
            RootExpr::Expr(inner) => RootExpr::Expr(walk.expr(inner)),
            RootExpr::Error(error) => RootExpr::Error(error),
        })
    };
    Program(tree.into_iter().map(root).collect())
}

struct Walk {
    /// Variables that are assigned in the closures around.
    assigned: BTreeSet<String>,
    /// Closures around.
    closures: usize,
}

impl Walk {
    fn expr(&mut self, expr: Node<Expr>) -> Node<Expr> {
        expr.map(|expr| match expr {
            Expr::Container(container) => Expr::Container(container.map(|container| self.container(container))),
            Expr::IfStatement(statement) => Expr::IfStatement(statement.map(|statement| IfStatement {
                predicate: statement.predicate.map(|predicate| match predicate {
                    Predicate::One(expr) => Predicate::One(Box::new(self.expr(*expr))),
                    Predicate::Many(exprs) => Predicate::Many(self.all(exprs)),
                }),
                if_node: self.block(statement.if_node),
                else_node: statement.else_node.map(|block| self.block(block)),
            })),
            Expr::Op(op) => Expr::Op(
                op.map(|Op(left, code, right)| Op(Box::new(self.expr(*left)), code, Box::new(self.expr(*right)))),
            ),
            Expr::Assignment(assignment) => Expr::Assignment(assignment.map(|assignment| match assignment {
                Assignment::Single { target, op, expr } => {
                    Assignment::Single { target: self.target(target), op, expr: Box::new(self.expr(*expr)) }
                }
                Assignment::Infallible { ok, err, op, expr } => {
                    let (ok, err) = (self.target(ok), self.target(err));
                    Assignment::Infallible { ok, err, op, expr: Box::new(self.expr(*expr)) }
                }
            })),
            Expr::Query(query) => Expr::Query(query.map(|query| self.query(query))),
            Expr::FunctionCall(call) => Expr::FunctionCall(call.map(|call| self.call(call))),
            Expr::Unary(unary) => Expr::Unary(unary.map(|Unary::Not(not)| {
                let (span, not) = not.take();
                Unary::Not(Node::new(span, Not::new(span, self.expr(*not.take().1))))
            })),
            Expr::Abort(abort) => Expr::Abort(
                abort.map(|abort| Abort { message: abort.message.map(|message| Box::new(self.expr(*message))) }),
            ),
            Expr::Return(give) => Expr::Return(give.map(|give| Return { expr: Box::new(self.expr(*give.expr)) })),
            expr @ (Expr::Literal(_) | Expr::Variable(_) | Expr::Break(_)) => expr,
        })
    }

    fn all<T: FromIterator<Node<Expr>>>(&mut self, exprs: impl IntoIterator<Item = Node<Expr>>) -> T {
        exprs.into_iter().map(|expr| self.expr(expr)).collect()
    }

    fn block(&mut self, block: Node<Block>) -> Node<Block> {
        block.map(|block| Block(self.all(block)))
    }

    fn container(&mut self, container: Container) -> Container {
        match container {
            Container::Group(group) => {
                Container::Group(Box::new(group.map(|group| Group(self.expr(group.into_inner())))))
            }
            Container::Block(block) => Container::Block(self.block(block)),
            Container::Array(array) => Container::Array(array.map(|array| self.all(array))),
            Container::Object(object) => Container::Object(
                object.map(|object| object.into_iter().map(|(key, value)| (key, self.expr(value))).collect()),
            ),
        }
    }

    fn query(&mut self, query: Query) -> Query {
        let target = query.target.map(|target| match target {
            QueryTarget::FunctionCall(call) => QueryTarget::FunctionCall(self.call(call)),
            QueryTarget::Container(container) => QueryTarget::Container(self.container(container)),
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
            if let Some(name) = name.filter(|_| self.closures > 0) {
                self.assigned.insert(name.to_string());
            }
            match target {
                AssignmentTarget::Query(query) => AssignmentTarget::Query(self.query(query)),
                target => target,
            }
        })
    }

    fn call(&mut self, call: FunctionCall) -> FunctionCall {
        let argument = |argument: FunctionArgument, walk: &mut Walk| FunctionArgument {
            expr: walk.expr(argument.expr),
            ..argument
        };
        let arguments = call.arguments.into_iter().map(|one| one.map(|one| argument(one, self))).collect();
        let closure = call.closure.map(|closure| closure.map(|closure| self.closure(closure)));
        FunctionCall { arguments, closure, ..call }
    }

    fn closure(&mut self, closure: FunctionClosure) -> FunctionClosure {
        let around = std::mem::take(&mut self.assigned);
        self.closures += 1;
        let mut block = self.block(closure.block);
        self.closures -= 1;
        if !self.assigned.is_empty() {
            let span = block.span();
            block = block.map(|Block(mut exprs)| {
                exprs.insert(0, check(span, &self.assigned));
                Block(exprs)
            });
        }
        self.assigned.extend(around);
        FunctionClosure { block, ..closure }
    }
}

/// A call that checks these variables.
fn check(span: Span, names: &BTreeSet<String>) -> Node<Expr> {
    let names = names.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let names = Node::new(span, Expr::Literal(Node::new(span, Literal::RawString(names))));
    let call = FunctionCall {
        ident: Node::new(span, Ident::new(NAME)),
        abort_on_error: false,
        arguments: vec![Node::new(span, FunctionArgument { ident: None, expr: names })],
        closure: None,
    };
    Node::new(span, Expr::FunctionCall(Node::new(span, call)))
}

/// Fails where one of the variables it is told is too deep or too large.
#[derive(Debug)]
pub(super) struct CheckVariables;

impl Function for CheckVariables {
    fn identifier(&self) -> &'static str {
        NAME
    }

    fn usage(&self) -> &'static str {
        "Checks variables; weir puts it in front of closures."
    }

    fn category(&self) -> &'static str {
        "Debug"
    }

    fn return_kind(&self) -> u16 {
        kind::NULL
    }

    fn examples(&self) -> &'static [Example] {
        &[]
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[Parameter::required("names", kind::BYTES, "Names of the variables.")];
        PARAMETERS
    }

    fn compile(&self, state: &TypeState, _: &mut FunctionCompileContext, arguments: ArgumentList) -> Compiled {
        let names = arguments.required_literal("names", state)?;
        let names = names.to_string_lossy().split(' ').map(Ident::new).collect();
        Ok(VariablesCheck { names }.as_expr())
    }
}

#[derive(Debug, Clone)]
struct VariablesCheck {
    names: Vec<Ident>,
}

impl FunctionExpression for VariablesCheck {
    fn resolve(&self, context: &mut Context) -> Resolved {
        let values = self.names.iter().filter_map(|name| context.state().variable(name));
        for value in values {
            bounds::check(value)?;
        }
        Ok(Value::Null)
    }

    fn type_def(&self, _: &TypeState) -> TypeDef {
        TypeDef::null()
    }
}
