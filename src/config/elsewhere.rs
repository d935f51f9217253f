//! Names that other products use, and what weir has instead. None of them is accepted; all are recognised.

/// What becomes of a component of another product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instead {
    /// A component of ours, in its place.
    Ours(&'static str),
    /// Another way to do it.
    Way(&'static str),
    /// There is nothing like it yet.
    Nothing,
}

use Instead::{Nothing, Ours, Way};

const REMAP: Instead = Way("write it as a VRL program in a `remap` transform");
const NOTIFY: Instead = Way("send it through the sinks `alertmanager` or `webhook`");

/// Sources, transforms and sinks of Vector, Logstash, Redpanda Connect, Filebeat, Fluent Bit, Telegraf and the OpenTelemetry
/// Collector. The first entry that has a component of the wanted kind is taken.
const COMPONENTS: &[(&str, Instead)] = &[
    ("aggregator", Ours("aggregate")),
    ("amqp", Nothing),
    ("aws_kinesis_streams", Nothing),
    ("aws_s3", Nothing),
    ("aws_sqs", Nothing),
    ("azure_blob", Nothing),
    ("beats", Ours("filebeat")),
    ("bloblang", REMAP),
    ("bulk", Ours("elasticsearch")),
    ("cache", Ours("dedupe")),
    ("clickhouse", Nothing),
    ("datadog_logs", Nothing),
    ("datadog_metrics", Nothing),
    ("date", REMAP),
    ("dedup", Ours("dedupe")),
    ("deduplicate", Ours("dedupe")),
    ("demo_logs", Ours("generate")),
    ("devnull", Ours("blackhole")),
    ("dissect", REMAP),
    ("docker_logs", Nothing),
    ("drop", Ours("blackhole")),
    ("drop_fields", REMAP),
    ("elastic", Ours("elasticsearch")),
    ("elastic_agent", Ours("filebeat")),
    ("elasticsearch_v8", Ours("elasticsearch")),
    ("email", NOTIFY),
    ("es", Ours("elasticsearch")),
    ("exec", Way("pipe the program into `weir run` and read it with the source `stdin`")),
    ("filelog", Ours("file")),
    ("filestream", Ours("file")),
    ("filter_regex", Ours("filter")),
    ("fluent", Nothing),
    ("forward", Nothing),
    ("gcp_cloud_storage", Nothing),
    ("gelf", Nothing),
    ("generator", Ours("generate")),
    ("grep", Ours("filter")),
    ("grok", REMAP),
    ("group_by", Ours("aggregate")),
    ("head", Ours("limit")),
    ("host_metrics", Way("let node_exporter and Prometheus write to the source `prometheus_remote_write`")),
    ("http_client", Ours("webhook")),
    ("http_server", Ours("http")),
    ("influxdb", Nothing),
    ("influxdb_logs", Nothing),
    ("influxdb_metrics", Nothing),
    ("internal_metrics", Way("scrape `/metrics` of `telemetry.listen`")),
    ("javascript", REMAP),
    ("jq", REMAP),
    ("journald", Nothing),
    ("jmespath", REMAP),
    ("json", Way("set `decoding: json` in the source; it is the default")),
    ("json_parser", Way("set `decoding: json` in the source; it is the default")),
    ("kafka_consumer", Ours("kafka")),
    ("kafka_franz", Ours("kafka")),
    ("kafka_receiver", Ours("kafka")),
    ("kubernetes_events", Way("read them with `kafka` or `file` and find them with the transform `event_filter`")),
    ("kubernetes_logs", Way("read `/var/log/pods/*/*/*.log` with the source `file` and `decoding: cri`")),
    ("kv", Way("set `decoding: logfmt` in the source, or parse it with `remap`")),
    ("log", Ours("file")),
    (
        "log_to_metric",
        Way("count and sum with the transform `aggregate`; its results become points by a `remap` behind it"),
    ),
    ("loki", Nothing),
    ("lua", REMAP),
    ("lumberjack", Ours("filebeat")),
    ("logstash", Ours("filebeat")),
    ("mapping", REMAP),
    ("metric", Ours("aggregate")),
    ("mongo", Nothing),
    ("mongodb", Nothing),
    ("mqtt", Nothing),
    ("multiline", Way("let Filebeat join lines (`multiline`) and send them to the source `filebeat`")),
    ("mutate", REMAP),
    ("nats", Nothing),
    ("new_relic", Nothing),
    ("null", Ours("blackhole")),
    ("opensearch", Ours("elasticsearch")),
    ("opentelemetry", Nothing),
    ("otlp", Nothing),
    ("pagerduty", NOTIFY),
    ("parser", REMAP),
    ("post", Ours("webhook")),
    ("postgres", Nothing),
    ("prometheus", Ours("prometheus_exporter")),
    ("prometheus", Way("let Prometheus write to the source `prometheus_remote_write`")),
    ("prometheus_scrape", Way("let Prometheus scrape and write to the source `prometheus_remote_write`")),
    ("prometheusremotewrite", Ours("prometheus_remote_write")),
    ("pulsar", Nothing),
    ("rate_limit", Ours("throttle")),
    ("record_modifier", REMAP),
    ("redis", Nothing),
    ("redpanda", Ours("kafka")),
    (
        "reduce",
        Way(
            "count, sum and list by key with the transform `aggregate`; joining whole events is not available in this version",
        ),
    ),
    ("remote_write", Ours("prometheus_remote_write")),
    ("rename", REMAP),
    ("rewrite_tag", Ours("route")),
    ("ruby", REMAP),
    ("s3", Nothing),
    ("sampler", Ours("sample")),
    ("scrape", Way("let Prometheus scrape and write to the source `prometheus_remote_write`")),
    ("script", REMAP),
    ("select", Ours("filter")),
    ("slack", NOTIFY),
    ("socket", Nothing),
    ("splunk_hec", Nothing),
    ("splunk_hec_logs", Nothing),
    ("statsd", Nothing),
    ("stdout", Ours("console")),
    ("stderr", Way("use the sink `console` with `target: stderr`")),
    ("swimlanes", Ours("route")),
    ("exclusive_route", Ours("route")),
    ("switch", Ours("route")),
    (
        "syslog",
        Way(
            "syslog over the network is not available in this version; of files and Kafka it is read and written by `decoding: syslog` and `encoding: syslog`",
        ),
    ),
    ("tag_cardinality_limit", Nothing),
    ("tail", Ours("file")),
    ("tcp", Nothing),
    ("udp", Nothing),
    ("unmatched", Way("read `NAME.default` of a `route` transform in `inputs`")),
    ("vector", Nothing),
    ("websocket", Nothing),
    ("where", Ours("filter")),
    ("window", Ours("aggregate")),
];

/// What takes the place of another product's component, where the names that are allowed are these.
pub(crate) fn component(written: &str, allowed: &[&str]) -> Option<Instead> {
    let written = written.to_lowercase().replace('-', "_");
    let named = COMPONENTS.iter().filter(|(name, _)| *name == written).map(|(_, instead)| *instead);
    let (ours, others): (Vec<Instead>, Vec<Instead>) = named.partition(|instead| matches!(instead, Ours(_)));
    let fits = |instead: &&Instead| matches!(instead, Ours(name) if allowed.contains(name));
    let other_kind = || ours.first().copied();
    ours.iter().find(fits).copied().or_else(|| others.first().copied()).or_else(other_kind)
}

/// Options of other products that have no counterpart of one name.
const OPTIONS: &[(&str, &str)] = &[
    ("acknowledgements", "an event is always acknowledged once it is delivered"),
    ("healthcheck", "run `weir doctor` instead"),
    ("bulk", "write what is below it as options of the sink: `index`, `action`, `id`"),
    (
        "multiline",
        "let Filebeat join lines and send them to the source `filebeat`; it is not available in this version",
    ),
    ("processors", "write transforms instead"),
    ("filter", "write a transform `filter` behind it"),
    ("api_version", "the server's version is found out"),
    ("sincedb_path", "positions are kept in `data_dir`"),
    ("ignore_older_secs", "not available in this version"),
    ("ignore_older", "not available in this version"),
    ("close_inactive", "not available in this version"),
    ("fingerprint", "files are recognised by device, inode and content without an option"),
    ("retry_limit", "delivery is retried until it succeeds; what the peer refuses becomes a dead letter"),
    ("max_retries", "delivery is retried until it succeeds; what the peer refuses becomes a dead letter"),
    ("retry_attempts", "delivery is retried until it succeeds; what the peer refuses becomes a dead letter"),
    ("enable.auto.commit", "positions are committed once events are delivered"),
    ("auto_commit_interval", "positions are committed once events are delivered"),
    ("enable_auto_commit", "positions are committed once events are delivered"),
    ("required_acks", "the sink always waits for all in-sync replicas"),
    ("acks", "the sink always waits for all in-sync replicas"),
    ("enable.idempotence", "the sink is always idempotent"),
    ("workers", "a graph runs one lane per partition; there is nothing to set"),
    ("threads", "a graph runs one lane per partition; there is nothing to set"),
    ("pipeline.workers", "a graph runs one lane per partition; there is nothing to set"),
    ("drop_on_error", "events that fail become dead letters or leave by the port `errors`"),
    ("drop_on_abort", "an event whose program aborts is dropped; see `abort` in docs/reference/transform-remap.md"),
    ("reroute_dropped", "read `NAME.errors` in the `inputs` of another node"),
];

/// What to know about another product's option.
pub(crate) fn option(written: &str) -> Option<&'static str> {
    OPTIONS.iter().find(|(name, _)| *name == written).map(|(_, advice)| *advice)
}

/// A file of another product, and where its user finds what to write.
pub(crate) struct Foreign {
    /// The product.
    pub product: &'static str,
    /// Byte range of what gives it away, on one line.
    pub at: std::ops::Range<usize>,
    /// The page in `docs/`.
    pub guide: &'static str,
}

/// Recognises files of other products that are no YAML, or another product's YAML.
pub(crate) fn file(text: &str) -> Option<Foreign> {
    let mut begin = 0;
    for line in text.split_inclusive('\n').take(200) {
        let word = line.trim();
        let at = begin + (line.len() - line.trim_start().len())..begin + line.trim_end().len();
        begin += line.len();
        let found = |product, guide| Some(Foreign { product, at: at.clone(), guide });
        let block = word.strip_suffix('{').map(str::trim_end);
        if matches!(block, Some("input" | "filter" | "output")) {
            return found("Logstash", "coming-from-logstash.md");
        }
        if word.starts_with("filebeat.") && word.contains(':') {
            return found("Filebeat", "coming-from-filebeat-logstash.md");
        }
        if word.starts_with("[sources.") || word.starts_with("[transforms.") || word.starts_with("[sinks.") {
            return found("Vector (TOML)", "coming-from-vector.md");
        }
        if matches!(word, "[INPUT]" | "[FILTER]" | "[OUTPUT]" | "[SERVICE]") {
            return found("Fluent Bit", "coming-from-filebeat-logstash.md");
        }
        if matches!(word, "<source>") || word.starts_with("<match ") {
            return found("Fluentd", "coming-from-filebeat-logstash.md");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_the_component_of_its_kind() {
        assert_eq!(component("stdout", &["console", "file"]), Some(Ours("console")));
        assert_eq!(component("prometheus", &["prometheus_exporter"]), Some(Ours("prometheus_exporter")));
        assert!(matches!(component("prometheus", &["http"]), Some(Way(_))));
        assert_eq!(component("Rate-Limit", &["throttle"]), Some(Ours("throttle")));
        assert_eq!(component("s3", &["console"]), Some(Nothing));
        assert_eq!(component("nonsense", &["console"]), None);
    }

    #[test]
    fn files_of_other_products_are_known_by_a_line() {
        let products = [
            ("# mine\ninput {\n  beats { port => 5044 }\n}\n", "Logstash"),
            ("filebeat.inputs:\n- type: log\n", "Filebeat"),
            ("data_dir = \"/var\"\n[sources.in]\n", "Vector (TOML)"),
            ("[SERVICE]\n  Flush 1\n", "Fluent Bit"),
            ("<source>\n  @type tail\n", "Fluentd"),
        ];
        for (text, product) in products {
            let found = file(text).unwrap();
            assert_eq!(found.product, product);
            assert!(!text[found.at].contains('\n'));
        }
        assert!(file("name: a\nsources:\n  in: {type: stdin}\n").is_none());
    }
}
