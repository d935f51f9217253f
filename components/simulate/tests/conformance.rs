//! The shared kit.
#![allow(clippy::unwrap_used)]

use weir::component::{SourceConfig, conformance};
use weir_simulate as _;

#[tokio::test]
async fn generate() {
    for rate in ["", ", \"rate\": 10000"] {
        let options = format!(r#"{{"type": "generate", "count": 300{rate}}}"#);
        let config: Box<dyn SourceConfig> = serde_json::from_str(&options).unwrap();
        conformance::source(&*config, 300).await;
    }
}
