//! What `weir doctor` finds out of peers.

use std::sync::Arc;

use weir::component::Finding;
use weir::state::SystemClock;
use weir_http_client::{Address, Client, HeaderMap, Method, Request, Settings, Verdict};

/// Asks an address by a request that changes nothing; `is_api`: it must answer 2xx.
pub(crate) async fn ask(settings: &Settings<'_>, address: Address, method: Method, is_api: bool) -> Finding {
    let shown = address.to_string();
    let client = match Client::new(settings, vec![address], Arc::new(SystemClock::default())) {
        Ok(client) => client,
        Err(error) => return Finding::failed(error.to_string(), "correct the files that `tls` names"),
    };
    let request = Request { method, headers: HeaderMap::new(), body: Default::default() };
    let remedy = "check the address, `auth` and `tls`, and that the peer runs";
    match client.send_to(0, &request).await {
        Verdict::Delivered(_) => Finding::ok(format!("{shown} answers")),
        Verdict::Refused { answer, .. } if !is_api => Finding::ok(format!("{shown} answers, with {}", answer.status)),
        // Many a webhook only knows POST, which would be more than a question.
        Verdict::Again { why, .. } if !is_api && (why.contains("HTTP 405") || why.contains("HTTP 501")) => {
            let rest = "whether it takes events is only known once one is sent";
            Finding::ok(format!("{shown} answers, and takes no {}: {rest}", request.method))
        }
        Verdict::Refused { why, .. } | Verdict::Again { why, .. } => Finding::failed(why, remedy),
    }
}
