//! Texts of the sink's options that may contain `{{ VRL }}`.

use std::borrow::Cow;

use weir::component::Problems;
use weir::event::{Event, OriginId};
use weir::script::{Problem, Template};

/// An option's text, prepared. Clone one for every concurrent user.
#[derive(Debug, Clone)]
pub(crate) enum Text {
    Constant(String),
    Template(Box<Template>),
}

impl Text {
    /// Prepares the text of the option at `path`; what is wrong with it goes to `problems`.
    pub fn compile(source: &str, path: &str, problems: &mut Problems) -> Option<Text> {
        let template = Problem::report(Template::compile(source), path, "invalid_template", problems)?;
        Some(match template.is_constant() {
            Some(text) => Text::Constant(text.to_owned()),
            None => Text::Template(Box::new(template)),
        })
    }

    /// The text, if it is the same for all events.
    pub fn constant(&self) -> Option<&str> {
        match self {
            Text::Constant(text) => Some(text),
            Text::Template(_) => None,
        }
    }

    /// The text for one event, or why there is none.
    pub fn render(&mut self, event: &Event, origin: &OriginId) -> Result<Cow<'_, str>, String> {
        match self {
            Text::Constant(text) => Ok(Cow::Borrowed(text)),
            Text::Template(template) => template.render(event, origin).map(Cow::Owned).map_err(|why| why.message),
        }
    }
}
