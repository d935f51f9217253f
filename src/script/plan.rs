//! Which parts of an event a program can touch, read off its syntax tree.
//!
//! VRL's own `ProgramInfo` does not say it: `unnest!(.a)` reports `.a` and reads the root, and `del(.a)` appears
//! among the queries alone. So this is our own walk, and it trusts no function it does not know.

use std::ops::Range;

use vrl::parser::ast::{
    Assignment, AssignmentTarget, Block, Container, Expr, FunctionCall, Literal, Node, Predicate, Program, Query,
    QueryTarget, RootExpr, Unary,
};
use vrl::path::{OwnedSegment, OwnedValuePath, PathPrefix};

use super::{Access, Problem};

/// Code of the problem for a function that weir leaves out.
pub(super) const UNAVAILABLE: &str = "function_unavailable";

/// What a program can touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The event as a whole; then the fields below mean nothing.
    pub(super) whole: bool,
    /// Top-level fields that are read or written. (What is written is read as well: its old value decides.)
    pub(super) fields: Vec<String>,
    /// Those that can be written, as indexes into `fields`.
    pub(super) writes: Vec<usize>,
    /// Anything of `%`.
    pub(super) metadata: bool,
    /// The clock or random numbers.
    pub(super) chance: bool,
}

impl Plan {
    /// Takes in what another program of the same template touches.
    pub(super) fn join(&mut self, other: Plan) {
        self.whole |= other.whole;
        self.metadata |= other.metadata;
        self.chance |= other.chance;
        for name in other.fields {
            self.field(&name);
        }
    }

    /// One line for people.
    pub(super) fn explain(&self) -> String {
        if self.whole {
            return "takes the whole event apart".to_owned();
        }
        let named = |written: bool| {
            let fields = self.fields.iter().enumerate().filter(|(number, _)| self.writes.contains(number) == written);
            fields.map(|(_, name)| format!(".{name}")).collect::<Vec<_>>().join(", ")
        };
        let (reads, writes) = (named(false), named(true));
        match (reads.as_str(), writes.as_str()) {
            ("", "") => "does not look inside the event".to_owned(),
            (reads, "") => format!("reads {reads} out of the raw bytes"),
            ("", writes) => format!("writes {writes} into the raw bytes"),
            (reads, writes) => format!("reads {reads}, writes {writes}; the rest stays raw bytes"),
        }
    }

    fn field(&mut self, name: &str) -> usize {
        self.fields.iter().position(|field| field == name).unwrap_or_else(|| {
            self.fields.push(name.to_owned());
            self.fields.len() - 1
        })
    }
}

/// Functions that touch nothing but the values of their arguments.
#[rustfmt::skip]
pub(super) const ON_ARGUMENTS: &[&str] = &[
    "abs", "append", "array", "assert", "assert_eq", "basename", "bool", "camelcase", "ceil", "chunks",
    "community_id", "compact", "contains", "contains_all", "crc", "decode_base16", "decode_base64", "decode_charset",
    "decode_gzip", "decode_lz4", "decode_mime_q", "decode_percent", "decode_punycode", "decode_snappy", "decode_zlib",
    "decode_zstd", "decrypt", "decrypt_ip", "dirname", "downcase", "encode_base16", "encode_base64", "encode_charset",
    "encode_csv", "encode_gzip", "encode_json", "encode_key_value", "encode_logfmt", "encode_lz4", "encode_percent",
    "encode_punycode", "encode_snappy", "encode_zlib", "encode_zstd", "encrypt", "encrypt_ip", "ends_with", "filter",
    "find", "flatten", "float", "floor", "for_each", "format_int", "format_number", "format_timestamp",
    "from_entries", "from_unix_timestamp", "get", "haversine", "hmac", "includes", "int", "ip_aton",
    "ip_cidr_contains", "ip_ntoa", "ip_ntop", "ip_pton", "ip_subnet", "ip_to_ipv6", "ipv6_to_ipv4", "is_array",
    "is_boolean", "is_empty", "is_float", "is_integer", "is_ipv4", "is_ipv6", "is_json", "is_null", "is_nullish",
    "is_object", "is_regex", "is_string", "is_timestamp", "join", "kebabcase", "keys", "length", "log", "map_keys",
    "map_values", "match", "match_any", "match_array", "match_datadog_query", "md5", "merge", "mod", "now", "object",
    "object_from_array", "parse_apache_log", "parse_aws_alb_log", "parse_aws_cloudwatch_log_subscription_message",
    "parse_aws_vpc_flow_log", "parse_bytes", "parse_cbor", "parse_cef", "parse_common_log", "parse_csv",
    "parse_duration", "parse_float", "parse_glog", "parse_grok", "parse_groks", "parse_influxdb", "parse_int",
    "parse_json", "parse_key_value", "parse_klog", "parse_linux_authorization", "parse_logfmt", "parse_nginx_log",
    "parse_query_string", "parse_regex", "parse_regex_all", "parse_ruby_hash", "parse_syslog", "parse_timestamp",
    "parse_tokens", "parse_url", "parse_user_agent", "parse_xml", "parse_yaml", "pascalcase", "pop", "push",
    "random_bool", "random_bytes", "random_float", "random_int", "range", "redact", "remove", "replace",
    "replace_with", "round", "screamingsnakecase", "seahash", "set", "sha1", "sha2", "sha3", "shannon_entropy",
    "sieve", "slice", "snakecase", "split", "split_path", "starts_with", "string", "strip_ansi_escape_codes",
    "strip_whitespace", "strlen", "tag_types_externally", "tally", "tally_value", "timestamp", "to_bool",
    "to_entries", "to_float", "to_int", "to_regex", "to_string", "to_syslog_facility", "to_syslog_facility_code",
    "to_syslog_level", "to_syslog_severity", "to_unix_timestamp", "truncate", "type_def", "unflatten", "unique",
    "upcase", "uuid_from_friendly_id", "uuid_v4", "uuid_v7", "values", "xxhash", "zip",
];

/// Functions that look at, or change, the path they are given and no other.
pub(super) const ON_PATHS: &[&str] = &["del", "exists"];

/// Functions that reach beyond their arguments. Whatever is in no list counts as one of these.
pub(super) const ON_THE_WHOLE: &[&str] = &["unnest"];

/// Functions that ask the system or the network. The first rule of a script is that it waits for nothing.
pub(super) const LEFT_OUT: &[&str] = &[
    "dns_lookup",
    "encode_proto",
    "get_env_var",
    "get_hostname",
    "get_timezone_name",
    "http_request",
    "parse_etld",
    "parse_proto",
    "reverse_dns",
    "validate_json_schema",
];

/// Functions whose answer is not in their arguments; a deterministic run replaces them.
pub(super) const BY_CHANCE: &[&str] =
    &["now", "random_bool", "random_bytes", "random_float", "random_int", "uuid_v4", "uuid_v7"];

/// The plan of a program, and what is wrong with it in our eyes.
pub(super) fn plan(tree: Program, access: Access) -> (Plan, Vec<Problem>) {
    let mut walk = Walk { plan: Plan::default(), problems: Vec::new(), access };
    for root in tree {
        match root.into_inner() {
            RootExpr::Expr(expr) => walk.expr(expr),
            RootExpr::Error(_) => walk.plan.whole = true,
        }
    }
    (walk.plan, walk.problems)
}

struct Walk {
    plan: Plan,
    problems: Vec<Problem>,
    access: Access,
}

impl Walk {
    fn expr(&mut self, expr: Node<Expr>) {
        match expr.into_inner() {
            Expr::Literal(literal) => match literal.into_inner() {
                // Templates inside strings can only name variables.
                Literal::String(_)
                | Literal::RawString(_)
                | Literal::Integer(_)
                | Literal::Float(_)
                | Literal::Boolean(_)
                | Literal::Regex(_)
                | Literal::Timestamp(_)
                | Literal::Null => {}
            },
            Expr::Container(container) => self.container(container.into_inner()),
            Expr::IfStatement(statement) => {
                let statement = statement.into_inner();
                match statement.predicate.into_inner() {
                    Predicate::One(expr) => self.expr(*expr),
                    Predicate::Many(exprs) => self.all(exprs),
                }
                self.block(statement.if_node);
                if let Some(block) = statement.else_node {
                    self.block(block);
                }
            }
            Expr::Op(op) => {
                let op = op.into_inner();
                self.expr(*op.0);
                self.expr(*op.2);
            }
            Expr::Assignment(assignment) => {
                let span = assignment.span().range();
                match assignment.into_inner() {
                    Assignment::Single { target, expr, .. } => {
                        self.target(target.into_inner(), span);
                        self.expr(*expr);
                    }
                    Assignment::Infallible { ok, err, expr, .. } => {
                        self.target(ok.into_inner(), span.clone());
                        self.target(err.into_inner(), span);
                        self.expr(*expr);
                    }
                }
            }
            Expr::Query(query) => self.query(query.into_inner()),
            Expr::FunctionCall(call) => {
                let span = call.span().range();
                self.call(call.into_inner(), span);
            }
            Expr::Variable(_) | Expr::Break(_) => {}
            Expr::Unary(unary) => {
                let Unary::Not(not) = unary.into_inner();
                self.expr(*not.into_inner().take().1);
            }
            Expr::Abort(abort) => {
                if let Some(message) = abort.into_inner().message {
                    self.expr(*message);
                }
            }
            Expr::Return(expr) => self.expr(*expr.into_inner().expr),
        }
    }

    fn all(&mut self, exprs: impl IntoIterator<Item = Node<Expr>>) {
        for expr in exprs {
            self.expr(expr);
        }
    }

    fn block(&mut self, block: Node<Block>) {
        self.all(block.into_inner());
    }

    fn container(&mut self, container: Container) {
        match container {
            Container::Group(group) => self.expr(group.into_inner().into_inner()),
            Container::Block(block) => self.block(block),
            Container::Array(array) => self.all(array.into_inner()),
            Container::Object(object) => self.all(object.into_inner().into_iter().map(|(_, expr)| expr)),
        }
    }

    fn query(&mut self, query: Query) {
        match query.target.into_inner() {
            QueryTarget::Internal(_) => {}
            QueryTarget::External(prefix) => {
                self.path(prefix, &query.path);
            }
            QueryTarget::FunctionCall(call) => {
                let span = query.path.span().range();
                self.call(call, span);
            }
            QueryTarget::Container(container) => self.container(container),
        }
    }

    /// A path is read. Gives the field it begins with, when it is of the event and begins with one.
    fn path(&mut self, prefix: PathPrefix, path: &OwnedValuePath) -> Option<usize> {
        match (prefix, path.segments.first()) {
            (PathPrefix::Metadata, _) => {
                self.plan.metadata = true;
                None
            }
            (PathPrefix::Event, Some(OwnedSegment::Field(name))) => Some(self.plan.field(name.as_str())),
            (PathPrefix::Event, _) => {
                self.plan.whole = true;
                None
            }
        }
    }

    fn target(&mut self, target: AssignmentTarget, span: Range<usize>) {
        match target {
            AssignmentTarget::Noop | AssignmentTarget::Internal(..) => {}
            AssignmentTarget::Query(query) => match query.target.inner() {
                QueryTarget::External(prefix) => self.write(*prefix, query.path.inner(), span),
                _ => self.query(query),
            },
            AssignmentTarget::External(Some(path)) => self.write(path.prefix, &path.path, span),
            AssignmentTarget::External(None) => self.write(PathPrefix::Event, &OwnedValuePath::root(), span),
        }
    }

    fn write(&mut self, prefix: PathPrefix, path: &OwnedValuePath, span: Range<usize>) {
        if let Some(field) = self.path(prefix, path)
            && !self.plan.writes.contains(&field)
        {
            self.plan.writes.push(field);
        }
        if prefix == PathPrefix::Metadata {
            let text = "metadata (%) is read-only: it says where the event came from; set a field of the event instead";
            self.problems.push(Problem::error("metadata_read_only", span, text));
        } else if self.access == Access::Read {
            let text = "this expression may only read: it must not assign to the event or delete from it";
            self.problems.push(Problem::error("read_only", span, text).with_note("to compare two values write `==`"));
        }
    }

    fn call(&mut self, call: FunctionCall, span: Range<usize>) {
        let name: &str = call.ident.as_ref();
        if LEFT_OUT.contains(&name) {
            let text =
                format!("function {name} is not available in weir: scripts do not ask the system or the network");
            self.problems.push(Problem::error(UNAVAILABLE, span.clone(), text));
        }
        if !ON_ARGUMENTS.contains(&name) && !ON_PATHS.contains(&name) {
            self.plan.whole = true;
        }
        if BY_CHANCE.contains(&name) {
            self.plan.chance = true;
        }
        let deletes = name == "del";
        for argument in call.arguments {
            let expr = argument.into_inner().expr;
            if deletes
                && let Expr::Query(query) = expr.inner()
                && let QueryTarget::External(prefix) = query.target.inner()
            {
                self.write(*prefix, query.path.inner(), span.clone());
            } else {
                self.expr(expr);
            }
        }
        if let Some(closure) = call.closure {
            self.block(closure.into_inner().block);
        }
    }
}
