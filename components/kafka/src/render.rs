//! Texts of the sink's options that may contain `{{ VRL }}`.

use std::borrow::Cow;

use weir::component::{Problem, Severity};
use weir::event::{Event, OriginId};

/// An option's text, prepared. Clone one for every concurrent user.
#[derive(Debug, Clone)]
pub(crate) struct Text(String);

impl Text {
    /// Prepares `source`; every problem in it is returned.
    pub fn compile(source: &str) -> Result<Text, Vec<Problem>> {
        if !source.contains("{{") {
            return Ok(Text(source.to_owned()));
        }
        Err(vec![Problem {
            path: Vec::new(),
            severity: Severity::Error,
            code: "unsupported_template".to_owned(),
            message: "templates are not supported yet".to_owned(),
            help: None,
            span: None,
        }])
    }

    /// The text, if it is the same for all events.
    pub fn constant(&self) -> Option<&str> {
        Some(&self.0)
    }

    /// The text for one event, or why there is none.
    pub fn render(&mut self, _event: &Event, _origin: &OriginId) -> Result<Cow<'_, str>, String> {
        Ok(Cow::Borrowed(&self.0))
    }
}
