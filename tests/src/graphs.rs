//! The graphs the tests run.

use crate::topic::Topic;

/// Kafka to Kafka, keeping the matches in the partitions they came from. `source` are further options of the source.
pub fn filter(input: &Topic, output: &Topic, source: &str) -> String {
    let (Topic { name: group, servers: from, .. }, Topic { name: output, servers: to, .. }) = (input, output);
    format!(
        r#"name: real-filter
drain: 15s
sources:
  in:
    type: kafka
    bootstrap_servers: "{from}"
    topics: ["{group}"]
    group_id: {group}
    start: earliest
    session_timeout: 6s
    {source}
transforms:
  keep: {{type: filter, inputs: [in], condition: '.reason == "BackOff"'}}
sinks:
  out: {{type: kafka, inputs: [keep], bootstrap_servers: "{to}", topic: {output}, partition: source, encoding: json}}
"#
    )
}
