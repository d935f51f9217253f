//! The index template that is there before the first document.

use bytes::Bytes;
use serde_json::{Map, Value};
use weir::component::{BuildContext, Problems};
use weir::{Error, ErrorKind, Result};
use weir_http_client::{Answer, Backoff, Method};

use crate::client::Client;
use crate::config::IndexTemplate;

/// An index template, read.
#[derive(Debug)]
pub(crate) struct Template {
    pub name: String,
    pub body: Map<String, Value>,
    overwrite: bool,
}

impl Template {
    /// Reports every problem of the options.
    pub fn check(options: &IndexTemplate, problems: &mut Problems) {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.@".contains(c);
        if options.name.is_empty() || !options.name.chars().all(is_plain) {
            let help = "write lower case letters, digits, and - _ . @";
            problems.error("template.name", "bad_value", "is no name of an index template", help);
        }
        match (&options.body, &options.file) {
            (Some(_), Some(_)) => {
                problems.error("template.file", "invalid_option", "body says it already", "leave out one of the two");
            }
            (None, None) => {
                problems.error("template", "missing_value", "it says nothing", "set body, or file");
            }
            (Some(body), None) if !body.contains_key("index_patterns") => {
                let help = "say which indices it is for: index_patterns: [\"logs-*\"]";
                problems.error("template.body", "missing_value", "it has no index_patterns", help);
            }
            _ => {}
        }
    }

    /// From options; a file is read.
    pub fn read(options: &IndexTemplate) -> Result<Template> {
        let body = match (&options.body, &options.file) {
            (Some(body), _) => body.clone(),
            (None, Some(path)) => {
                let failed = |what: &str| {
                    Error::new(ErrorKind::Config, "read the index template", what).with("file", path.display())
                };
                let text = weir::files::read(path, weir::files::LARGEST)
                    .map_err(|error| failed("check the path").caused_by(error))?;
                serde_json::from_slice(&text).map_err(|error| failed("it holds no JSON object").caused_by(error))?
            }
            (None, None) => return Err(Error::unchecked("template")),
        };
        Ok(Template { name: options.name.clone(), body, overwrite: options.overwrite })
    }

    /// Its address in the API.
    pub fn path(name: &str) -> String {
        format!("/_index_template/{name}")
    }

    /// Sees to it that the cluster has it; waits while it cannot be asked, or refuses it, and says so.
    pub async fn bring(&self, client: &Client, context: &BuildContext) {
        let mut backoff = Backoff::default();
        while let Err(why) = self.try_to_bring(client).await {
            let why = format!("index template {:?}: {why}", self.name);
            if context.trouble.get().as_ref() != Some(&why) {
                tracing::warn!(why, "cannot deliver, will try again");
            }
            context.trouble.set(why);
            context.clock.sleep(backoff.pause()).await;
        }
        context.trouble.clear();
    }

    async fn try_to_bring(&self, client: &Client) -> std::result::Result<(), String> {
        let path = Template::path(&self.name);
        if !self.overwrite {
            let answer = client.ask_any(Method::HEAD, &path, None).await?;
            match answer.status.as_u16() {
                200..=299 => return Ok(()),
                404 => {}
                _ => return Err(answer.text()),
            }
        }
        // Where another was quicker it is refused, and found there the next time.
        let path = if self.overwrite { path } else { format!("{path}?create=true") };
        let body = Bytes::from(Value::Object(self.body.clone()).to_string());
        let answer: Answer = client.ask_any(Method::PUT, &path, Some(body)).await?;
        if answer.status.is_success() { Ok(()) } else { Err(answer.text()) }
    }
}
