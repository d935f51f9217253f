//! What a component says of its peers when it is asked before anything starts: `weir doctor`.

use std::time::Duration;

/// What a probe is given.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ProbeContext {
    /// How long one question may take.
    pub limit: Duration,
}

impl ProbeContext {
    /// With this limit for each question.
    pub fn new(limit: Duration) -> ProbeContext {
        ProbeContext { limit }
    }
}

/// How a look at a peer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The graph can run, but perhaps not as it is meant to; also what could not be found out.
    Warning,
    /// The graph cannot work.
    Failed,
}

impl Verdict {
    /// `ok`, `warning`, `failed`.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
        }
    }
}

/// One thing a probe found. Texts are one line, lower case, without a full stop, and hold no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// What was looked at, and what was seen.
    pub message: String,
    /// What to do about it, where there is something to do: a command, where one does it.
    pub remedy: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(message: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Ok, message: message.into(), remedy: None }
    }

    /// Something to know, and what to do about it.
    pub fn warning(message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Warning, message: message.into(), remedy: Some(remedy.into()) }
    }

    /// Something is wrong, and what to do about it.
    pub fn failed(message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Failed, message: message.into(), remedy: Some(remedy.into()) }
    }
}
