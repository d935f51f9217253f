//! A receiver of remote write that keeps what it is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};

use crate::rw_facts::facts;

/// What came, by path.
type Kept = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

/// The receiver; it serves until the test's process ends.
#[derive(Debug)]
pub struct Recorder {
    /// Where it listens.
    pub address: SocketAddr,
    kept: Kept,
}

impl Recorder {
    /// Starts one.
    pub fn start() -> Recorder {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Kept::default();
        let router = Router::new().fallback(take).with_state(Arc::clone(&kept));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
            });
        });
        Recorder { address, kept }
    }

    /// The [facts] that came to a path.
    pub fn facts(&self, path: &str) -> BTreeSet<String> {
        self.kept.lock().unwrap().get(path).cloned().unwrap_or_default()
    }
}

/// Takes a request whole, and says what a receiver of 2.0 says.
async fn take(State(kept): State<Kept>, uri: Uri, body: Bytes) -> (StatusCode, HeaderMap) {
    let facts = facts(&snap::raw::Decoder::new().decompress_vec(&body).unwrap());
    let mut headers = HeaderMap::new();
    for (name, word) in [
        ("x-prometheus-remote-write-samples-written", "] sample "),
        ("x-prometheus-remote-write-histograms-written", "] histogram "),
        ("x-prometheus-remote-write-exemplars-written", "] exemplar "),
    ] {
        headers.insert(name, facts.iter().filter(|fact| fact.contains(word)).count().into());
    }
    kept.lock().unwrap().entry(uri.path().to_owned()).or_default().extend(facts);
    (StatusCode::NO_CONTENT, headers)
}
