//! An alert as the sinks read it out of an event; pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vrl::value::Value;
use weir::component::Problems;
use weir::event::{Event, OriginId, Timestamp};
use weir::script::{Expression, Failure, Problem, Template};

/// Texts by name.
pub(crate) type Texts = BTreeMap<String, String>;

/// Why an event cannot be sent.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub code: &'static str,
    pub message: String,
}

impl From<Failure> for Refusal {
    fn from(Failure { code, message }: Failure) -> Refusal {
        Refusal { code, message }
    }
}

/// An alert at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Alert {
    pub labels: Texts,
    pub annotations: Texts,
    pub generator_url: String,
    /// Milliseconds since the epoch, as all times here.
    pub starts_at: i64,
    /// None: it fires.
    pub ends_at: Option<i64>,
}

impl Alert {
    /// Whether it fires: `firing` or `resolved`.
    pub fn status(&self) -> &'static str {
        if self.ends_at.is_some() { "resolved" } else { "firing" }
    }

    /// The fingerprint by which Prometheus and Alertmanager name an alert (`model.LabelSet.Fingerprint`): FNV-1a over sorted
    /// names and values, each with the byte 255 behind it.
    pub fn fingerprint(&self) -> u64 {
        let texts = self.labels.iter().flat_map(|(name, value)| [name, value]);
        texts
            .flat_map(|text| text.bytes().chain([255]))
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

/// A time as RFC 3339.
pub(crate) fn rfc3339(millis: i64) -> String {
    Timestamp(millis).to_rfc3339()
}

/// Reads alerts out of events. Clone one for every concurrent user.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    whole: Expression,
    annotations: Vec<(String, Template)>,
    generator_url: Option<Template>,
}

impl Reader {
    /// Prepares the texts of the options `annotations` and `generator_url`; what is wrong with them goes to `problems`.
    pub fn compile(annotations: &Texts, generator_url: Option<&str>, problems: &mut Problems) -> Option<Reader> {
        let mut template =
            |path: &str, text: &str| Problem::report(Template::compile(text), path, "invalid_template", problems);
        let texts: Vec<_> = annotations
            .iter()
            .map(|(name, text)| Some((name.clone(), template(&format!("annotations.{name}"), text)?)))
            .collect();
        let generator_url = generator_url.map(|text| template("generator_url", text));
        let (whole, _) = Expression::compile(".").ok()?;
        Some(Reader {
            whole,
            annotations: texts.into_iter().collect::<Option<_>>()?,
            generator_url: match generator_url {
                Some(template) => Some(template?),
                None => None,
            },
        })
    }

    /// The alert that an event is.
    pub fn read(&mut self, event: &Event, origin: &OriginId, now: Timestamp) -> Result<Alert, Refusal> {
        let value = self.whole.value(event, origin)?;
        let fields = value.as_object().ok_or_else(|| no_alert("it is no object"))?;
        let is_resolved = match fields.get("state").and_then(Value::to_str) {
            Some("firing") => false,
            Some("resolved") => true,
            _ => return Err(no_alert("its `state` is neither `firing` nor `resolved`")),
        };
        let mut labels = Texts::new();
        for (name, value) in fields.get("labels").and_then(Value::as_object).into_iter().flatten() {
            let text = value.to_str().ok_or_else(|| no_alert(format!("its label `{name}` is no text")))?;
            // To Prometheus an empty label is none.
            if !text.is_empty() {
                labels.insert(name.to_string(), text.to_owned());
            }
        }
        if labels.is_empty() {
            return Err(no_alert("it has no `labels`"));
        }
        let time = |name: &str| -> Result<Option<i64>, Refusal> {
            match fields.get(name) {
                None | Some(Value::Null) => Ok(None),
                Some(value) => {
                    let time = Timestamp::of(value).filter(|time| time.is_rfc3339());
                    let time =
                        time.ok_or_else(|| no_alert(format!("its `{name}` is no time of the years 0000 to 9999")))?;
                    Ok(Some(time.0))
                }
            }
        };
        let starts_at = time("starts_at")?.unwrap_or(event.time.0);
        let ends_at = if is_resolved { Some(time("ends_at")?.unwrap_or(now.0)) } else { None };
        let render = |template: &mut Template| template.render(event, origin);
        let mut annotations = Texts::new();
        for (name, template) in &mut self.annotations {
            annotations.insert(name.clone(), render(template)?);
        }
        let generator_url = self.generator_url.as_mut().map(render).transpose()?.unwrap_or_default();
        Ok(Alert { labels, annotations, generator_url, starts_at, ends_at })
    }
}

fn no_alert(why: impl std::fmt::Display) -> Refusal {
    Refusal { code: "no_alert", message: format!("the event is no alert: {why}") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};
    use weir::event::{Body, Codec, OriginKind, Position};

    use super::*;

    fn read(body: Json) -> Result<Alert, Refusal> {
        let origin = OriginId { node: "in".into(), log: "in".into(), partition: 0, kind: OriginKind::Other };
        let event = Event::new(Body::Raw(body.to_string().into(), Codec::Json), Position(0), Timestamp(5));
        let annotations = Texts::from([("summary".to_owned(), "{{ .labels.alertname }} is on".to_owned())]);
        let mut reader =
            Reader::compile(&annotations, Some("http://p/{{ .value }}"), &mut Problems::default()).unwrap();
        reader.read(&event, &origin, Timestamp(99))
    }

    #[test]
    fn an_alert_has_all_that_its_event_says() {
        let alert = read(json!({
            "state": "firing", "labels": {"alertname": "A", "why": "disk almost full", "empty": ""}, "value": 1,
            "starts_at": "2022-08-02T14:12:43.5Z", "ends_at": null, "cluster": "a"
        }));
        let alert = alert.unwrap();
        assert_eq!(
            alert.labels,
            Texts::from([("alertname".into(), "A".into()), ("why".into(), "disk almost full".into())])
        );
        assert_eq!(alert.annotations["summary"], "A is on");
        assert_eq!(
            (&*alert.generator_url, rfc3339(alert.starts_at)),
            ("http://p/1", "2022-08-02T14:12:43.500Z".to_owned())
        );
        assert_eq!((alert.status(), alert.ends_at), ("firing", None));
        let resolved = read(json!({"state": "resolved", "labels": {"alertname": "A"}, "value": 1})).unwrap();
        assert_eq!((resolved.status(), resolved.starts_at, resolved.ends_at), ("resolved", 5, Some(99)));
    }

    #[test]
    fn what_is_no_alert_says_why() {
        for (body, why) in [
            (json!("firing"), "it is no object"),
            (json!({"state": "pending", "labels": {"a": "b"}}), "`state` is neither"),
            (json!({"state": "firing", "labels": {}}), "it has no `labels`"),
            (json!({"state": "firing", "labels": {"a": ""}}), "it has no `labels`"),
            (json!({"state": "firing", "labels": {"a": 1}}), "label `a` is no text"),
            (json!({"state": "firing", "labels": {"a": "b"}, "starts_at": "soon"}), "`starts_at` is no time"),
        ] {
            let Refusal { code, message } = read(body.clone()).unwrap_err();
            assert!(code == "no_alert" && message.contains(why), "{body}: {code} {message}");
        }
    }

    #[test]
    fn the_fingerprint_is_that_of_prometheus() {
        let alert = |labels: &[(&str, &str)]| Alert {
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            annotations: Texts::new(),
            generator_url: String::new(),
            starts_at: 0,
            ends_at: None,
        };
        // `model/labelset_test.go` and `model/signature_test.go` of prometheus/common.
        assert_eq!(alert(&[]).fingerprint(), 14_695_981_039_346_656_037);
        let labels = [("name", "garland, briggs"), ("fear", "love is not enough")];
        assert_eq!(alert(&labels).fingerprint(), 5_799_056_148_416_392_346);
    }
}
