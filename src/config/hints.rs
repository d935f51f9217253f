//! "Did you mean": the nearest name, also among the names other products use.

/// What other products call an option, and what weir calls it. Never accepted, only recognised.
const ELSEWHERE: &[(&str, &[&str])] = &[
    ("brokers", &["bootstrap_servers"]),
    ("broker", &["bootstrap_servers"]),
    ("hosts", &["bootstrap_servers", "endpoints"]),
    ("servers", &["bootstrap_servers"]),
    ("addresses", &["bootstrap_servers"]),
    ("seed_brokers", &["bootstrap_servers"]),
    ("bootstrap.servers", &["bootstrap_servers"]),
    ("kafka.bootstrap.servers", &["bootstrap_servers"]),
    ("topic", &["topics"]),
    ("subscribe", &["topics"]),
    ("topics", &["topic"]),
    ("group", &["group_id"]),
    ("consumer_group", &["group_id"]),
    ("group.id", &["group_id"]),
    ("group.instance.id", &["group_instance_id"]),
    ("auto_offset_reset", &["start"]),
    ("auto.offset.reset", &["start"]),
    ("initial_offset", &["start"]),
    ("startingOffsets", &["start"]),
    ("start_from_oldest", &["start"]),
    ("read_from", &["start"]),
    ("codec", &["decoding", "encoding"]),
    ("format", &["decoding", "encoding"]),
    ("encoding", &["decoding"]),
    ("decoding", &["encoding"]),
    ("separator", &["delimiter"]),
    ("fields", &["columns"]),
    ("headers", &["columns"]),
    ("schema.registry.url", &["schema_registry", "url"]),
    ("schema_registry_url", &["schema_registry", "url"]),
    ("auto.register.schemas", &["auto_register"]),
    ("value.subject.name.strategy", &["subject_name_strategy"]),
    ("schema_file", &["schema"]),
    ("message_type", &["message"]),
    ("include", &["paths"]),
    ("path", &["paths"]),
    ("paths", &["path"]),
    ("filename", &["path"]),
    ("compression.type", &["compression"]),
    ("compression_codec", &["compression"]),
    ("compression_type", &["compression"]),
    ("key_field", &["key"]),
    ("partitioner", &["partition"]),
    ("linger.ms", &["linger"]),
    ("session_timeout_ms", &["session_timeout"]),
    ("session.timeout.ms", &["session_timeout"]),
    ("from", &["inputs"]),
    ("input", &["inputs"]),
    ("where", &["condition"]),
    ("when", &["condition"]),
    ("if", &["condition"]),
    ("query", &["condition"]),
    ("script", &["source"]),
    ("mapping", &["source"]),
    ("program", &["source"]),
    ("bloblang", &["source"]),
    ("kind", &["type"]),
    ("plugin", &["type"]),
    ("receivers", &["sources"]),
    ("inputs", &["sources"]),
    ("exporters", &["sinks"]),
    ("output", &["sinks"]),
    ("outputs", &["sinks"]),
    ("processors", &["transforms"]),
    ("pipeline", &["transforms"]),
    ("filters", &["transforms"]),
    ("dlq", &["dead_letters"]),
    ("route", &["routes"]),
    ("window_secs", &["window"]),
    ("average", &["mean"]),
    ("avg", &["mean"]),
    ("percentile", &["quantile"]),
    ("median", &["quantile"]),
    ("p50", &["quantile"]),
    ("p90", &["quantile"]),
    ("p95", &["quantile"]),
    ("p99", &["quantile"]),
    ("cardinality", &["distinct"]),
    ("unique", &["distinct"]),
    ("total", &["sum"]),
    ("dead_letter_queue", &["dead_letters"]),
    ("_unmatched", &["default"]),
    ("unmatched", &["default"]),
    ("dropped", &["errors"]),
    ("index_name", &["index"]),
    ("document_id", &["id"]),
    ("id_key", &["id"]),
    ("nodes", &["endpoints"]),
    ("urls", &["endpoints", "url"]),
    ("endpoint", &["endpoints", "url"]),
    ("url", &["endpoints"]),
    ("uri", &["url"]),
    ("address", &["listen"]),
    ("port", &["listen"]),
    ("host", &["listen"]),
    ("bind", &["listen"]),
    ("data_path", &["data_dir"]),
    ("limit", &["count", "max_events"]),
    ("threshold", &["max_events"]),
    ("sasl_mechanism", &["sasl"]),
    ("ca_cert", &["ca_file"]),
    ("cacert", &["ca_file"]),
    ("ssl", &["tls"]),
    ("crt_file", &["cert_file"]),
];

/// The allowed name that was probably meant.
pub fn nearest<'a>(written: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let elsewhere = ELSEWHERE
        .iter()
        .filter(|(name, _)| *name == written)
        .flat_map(|(_, ours)| ours.iter())
        .find_map(|ours| allowed.iter().find(|allowed| *allowed == ours));
    if let Some(name) = elsewhere {
        return Some(name);
    }
    let normal = |name: &str| name.to_lowercase().replace(['-', '.', ' '], "_");
    let written = normal(written);
    let distance = |name: &str| strsim::damerau_levenshtein(&written, &normal(name));
    let close = allowed.iter().map(|name| (distance(name), *name)).min()?;
    let length = written.chars().count();
    let is_close = close.0 <= 2 && close.0 < length;
    // Ids of a letter or two begin many a word.
    let is_long = |name: &str| name.chars().count() >= 3;
    let extends = |name: &&&str| {
        let name = normal(name);
        is_long(&written) && is_long(&name) && (name.starts_with(&written) || written.starts_with(&name))
    };
    if is_close { Some(close.1) } else { allowed.iter().find(extends).copied() }
}

/// `a`, `b` and `c`, for messages; long lists are cut.
pub(crate) fn listing<S: AsRef<str>>(names: &[S]) -> String {
    const SHOWN: usize = 24;
    let quoted: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{}`", name.as_ref())).collect();
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    quoted.join(", ") + more
}

/// A name or value as a message shows it: long ones are cut.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
