//! What `weir doctor` asks the cluster; nothing is changed there.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use weir::component::{Finding, ProbeContext, Problems};
use weir::state::{Clock, SystemClock};
use weir_http_client::{Answer, Method};

use crate::action::Action;
use crate::client::Client;
use crate::config::Elasticsearch;
use crate::template::Template;

/// The oldest line whose API is the one that is used here.
const OLDEST: u64 = 7;

/// Everything there is to say.
pub(crate) async fn probe(options: &Elasticsearch, context: &ProbeContext) -> Vec<Finding> {
    let mut reach = options.reach();
    reach.timeout = context.limit;
    let clock = Arc::new(SystemClock::default());
    let client = match Client::new(&reach, clock.clone()) {
        Ok(client) => client,
        Err(error) => {
            return vec![Finding::failed(error.to_string(), "correct what `endpoints`, `auth` and `tls` say")];
        }
    };
    let (mut findings, working) = ask_all(&client).await;
    let Some(at) = working else { return findings };
    let Some(mut writer) = options.writer(&mut Problems::default()) else { return findings };
    let action = writer.constant_action();
    let peer = Peer { client: &client, at };
    match writer.index_at(clock.now()) {
        Some(index) => {
            findings.push(peer.rights(&index, action).await);
            findings.push(peer.index(&index, action, options).await);
        }
        None => findings.push(Finding::ok("the index depends on the event, so that nothing of it was asked")),
    }
    if let Some(template) = &options.template {
        findings.push(peer.template(&template.name, template.overwrite).await);
    }
    findings
}

/// Who answers at each address; and the number of one that does.
async fn ask_all(client: &Client) -> (Vec<Finding>, Option<usize>) {
    let (mut findings, mut working, mut clusters) = (Vec::new(), None, BTreeSet::new());
    for (at, address) in client.addresses().enumerate() {
        let finding = match client.ask_node(at, Method::GET, "/", None).await {
            Err(why) => {
                Finding::failed(format!("{address}: {why}"), "check the address, `tls`, and that the node runs")
            }
            Ok(answer) => match answer.status.as_u16() {
                200..=299 => {
                    working.get_or_insert(at);
                    let said = body(&answer);
                    clusters.extend(said["cluster_uuid"].as_str().map(str::to_owned));
                    introduce(&address.to_string(), &said)
                }
                401 => Finding::failed(format!("{address}: {}", answer.text()), "check `auth`"),
                403 => {
                    working.get_or_insert(at);
                    let remedy =
                        "grant the cluster privilege `monitor` if doctor is to see more; writing does not need it";
                    Finding::warning(
                        format!("{address} answers, and does not say who it is: {}", answer.text()),
                        remedy,
                    )
                }
                _ => Finding::failed(
                    format!("{address}: {}", answer.text()),
                    "check the address, and what stands before the node",
                ),
            },
        };
        findings.push(finding);
    }
    if clusters.len() > 1 {
        let what = format!("the addresses belong to {} clusters", clusters.len());
        findings.push(Finding::failed(what, "name the nodes of one cluster in `endpoints`"));
    }
    (findings, working)
}

fn introduce(address: &str, said: &Value) -> Finding {
    let Some(number) = said["version"]["number"].as_str() else {
        let remedy = "check that the address is that of Elasticsearch or OpenSearch";
        return Finding::warning(format!("{address} answers, and does not say its version"), remedy);
    };
    let is_open = said["version"]["distribution"].as_str() == Some("opensearch");
    let name = if is_open { "OpenSearch" } else { "Elasticsearch" };
    let text =
        format!("{address} answers: {name} {number}, cluster {:?}", said["cluster_name"].as_str().unwrap_or_default());
    let major = number.split('.').next().and_then(|major| major.parse::<u64>().ok());
    match major {
        Some(major) if !is_open && major < OLDEST => {
            Finding::warning(text, format!("its API differs; use Elasticsearch {OLDEST} or newer, or OpenSearch"))
        }
        _ => Finding::ok(text),
    }
}

/// The node that is asked.
struct Peer<'a> {
    client: &'a Client,
    at: usize,
}

impl Peer<'_> {
    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer, String> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        self.client.ask_node(self.at, method, path, body).await
    }

    /// Whether we may write, where that can be asked.
    async fn rights(&self, index: &str, action: Option<Action>) -> Finding {
        let wanted: &[&str] = match action {
            Some(Action::Create) => &["create_doc", "auto_configure"],
            Some(Action::Index | Action::Update | Action::Upsert) => &["index", "auto_configure"],
            Some(Action::Delete) => &["delete"],
            None => &["write", "auto_configure"],
        };
        let question = json!({"index": [{"names": [index], "privileges": wanted}]});
        match self.ask(Method::POST, "/_security/user/_has_privileges", Some(question)).await {
            Err(why) => Finding::warning(format!("rights were not asked: {why}"), "run doctor again"),
            Ok(answer) if answer.status.is_success() => {
                let said = body(&answer);
                let has = |right: &&&str| said["index"][index][**right].as_bool() == Some(true);
                let missing: Vec<&str> = wanted.iter().filter(|right| !has(right)).copied().collect();
                let user = said["username"].as_str().unwrap_or("the user");
                match missing.is_empty() {
                    true => Finding::ok(format!("{user} may write to {index:?}")),
                    false => Finding::failed(
                        format!("{user} lacks privileges on {index:?}: {}", missing.join(", ")),
                        "grant them, or a role that has them",
                    ),
                }
            }
            // Without security there are no rights, and other products ask for them in other ways.
            Ok(answer) => Finding::ok(format!("rights cannot be asked for here (HTTP {})", answer.status.as_u16())),
        }
    }

    /// What stands behind the name of the index.
    async fn index(&self, index: &str, action: Option<Action>, options: &Elasticsearch) -> Finding {
        let answer = match self.ask(Method::GET, &format!("/_resolve/index/{}", escaped(index)), None).await {
            Err(why) => return Finding::warning(format!("{index:?} was not asked for: {why}"), "run doctor again"),
            Ok(answer) => answer,
        };
        let said = body(&answer);
        let is_named = |kind: &str| said[kind].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == index));
        let kinds = [("data_streams", "a data stream"), ("aliases", "an alias"), ("indices", "an index")];
        let kind = kinds.into_iter().find(|(key, _)| is_named(key)).map(|(_, kind)| kind);
        match (answer.status.as_u16(), kind) {
            (200..=299 | 404, None) => missing(index, options),
            (200..=299, Some("a data stream")) if action != Some(Action::Create) => Finding::failed(
                format!("{index:?} is a data stream, which takes new documents alone"),
                "set `data_stream: true`",
            ),
            (200..=299, Some(kind @ ("an index" | "an alias"))) if options.data_stream => Finding::failed(
                format!("{index:?} is {kind} and no data stream"),
                "leave `data_stream` out, or name another",
            ),
            (200..=299, Some(kind)) if options.require_alias && kind != "an alias" => Finding::failed(
                format!("{index:?} is {kind} and no alias"),
                "make an alias, or leave `require_alias` out",
            ),
            (200..=299, Some(kind)) => Finding::ok(format!("{index:?} is {kind}")),
            _ => Finding::warning(
                format!("what {index:?} is was not told: {}", answer.text()),
                "grant the privilege `view_index_metadata` if doctor is to see it",
            ),
        }
    }

    async fn template(&self, name: &str, overwrite: bool) -> Finding {
        match self.ask(Method::HEAD, &Template::path(name), None).await {
            Err(why) => {
                Finding::warning(format!("index template {name:?} was not asked for: {why}"), "run doctor again")
            }
            Ok(answer) => match (answer.status.as_u16(), overwrite) {
                (200..=299, false) => Finding::ok(format!("index template {name:?} is there, and stays as it is")),
                (200..=299, true) => Finding::ok(format!("index template {name:?} is there, and will be replaced")),
                (404, _) => Finding::ok(format!("index template {name:?} is not there yet, and will be made")),
                (status, _) => Finding::warning(
                    format!("index template {name:?}: HTTP {status}"),
                    "grant the cluster privilege `manage_index_templates`",
                ),
            },
        }
    }
}

fn missing(index: &str, options: &Elasticsearch) -> Finding {
    let brings_stream = options.template.as_ref().is_some_and(|template| {
        Template::read(template).is_ok_and(|template| template.body.contains_key("data_stream"))
    });
    match (options.require_alias, options.data_stream) {
        (true, _) => {
            Finding::failed(format!("alias {index:?} does not exist"), "make the alias; documents wait for it")
        }
        (_, true) if !brings_stream => Finding::warning(
            format!("data stream {index:?} does not exist yet"),
            "it is made with the first document if an index template with `data_stream` fits its name: see `template`",
        ),
        _ => Finding::ok(format!("{index:?} does not exist yet, and is made with the first document")),
    }
}

fn body(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// A name as a part of a path.
fn escaped(name: &str) -> String {
    name.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}
