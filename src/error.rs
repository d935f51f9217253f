//! The one error type at the edge of a component.
//!
//! Leaves have their own `thiserror` enums; what crosses a component's edge is this: what kind it is,
//! whether waiting can help, what was being done, and on what.

use std::fmt;

/// `Result` with weir's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, coarsely. Retry looks at [`Error::is_temporary`], people look at the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The graph or an option is wrong; only editing it helps.
    Config,
    /// The peer could not be reached or did not answer in time.
    Unavailable,
    /// The peer refused our credentials or rights (401, 403, SASL, ACL).
    Denied,
    /// The peer, or a codec, refused this very input; sending it again gives the same answer.
    Rejected,
    /// Reading or writing a local file failed.
    Io,
    /// A bug in weir.
    Internal,
}

/// An error with its context. Texts are lower case, without a full stop, and say what to do.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    temporary: bool,
    operation: &'static str,
    message: String,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// `build` was called with an option that `check` would have refused: a fault in the program.
    pub fn unchecked(option: &'static str) -> Self {
        Error::new(ErrorKind::Internal, "build", "the option was not checked").with("option", option)
    }

    /// A permanent error; `operation` names what was being done, such as `"kafka produce"`.
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Error { kind, temporary: false, operation, message: message.into(), context: Vec::new(), source: None }
    }

    /// An error that waiting may cure: the caller retries with back-off instead of failing the event.
    pub fn temporary(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Error { temporary: true, ..Error::new(kind, operation, message) }
    }

    /// Adds a named fact, such as `("topic", "alerts")`.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.context.push((name, value.to_string()));
        self
    }

    /// Adds the error underneath.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What went wrong, coarsely.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether trying again later can succeed.
    pub fn is_temporary(&self) -> bool {
        self.temporary
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.message)?;
        for (i, (name, value)) in self.context.iter().enumerate() {
            write!(f, "{}{name}: {value}", if i == 0 { " (" } else { ", " })?;
        }
        if !self.context.is_empty() {
            f.write_str(")")?;
        }
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| &**e as _)
    }
}
