//! The shared kit.
#![allow(clippy::unwrap_used)]

use weir::component::{SinkConfig, conformance};
use weir::event::{Body, Codec};
use weir_console as _;

#[tokio::test(flavor = "multi_thread")]
async fn console_and_blackhole() {
    let good: Vec<Body> = (0..3).map(|n| Body::Raw(format!("{{\"n\":{n}}}").into(), Codec::Json)).collect();
    let console: Box<dyn SinkConfig> = serde_json::from_str(r#"{"type": "console", "target": "stderr"}"#).unwrap();
    let poison = Body::Raw("{\n not json".into(), Codec::Json);
    conformance::sink(&*console, &good, Some(poison)).await;
    let blackhole: Box<dyn SinkConfig> = serde_json::from_str(r#"{"type": "blackhole"}"#).unwrap();
    conformance::sink(&*blackhole, &good, None).await;
}
