//! The sink `prometheus_exporter`: the shared kit, and its page as a scraper sees it.
#![allow(clippy::unwrap_used)]

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir::component::{BuildContext, SinkConfig, conformance};
use weir::delivery::Receipt;
use weir::event::{Batch, Body, Codec, Event, OriginId, OriginKind, Position, Timestamp};
use weir_prometheus as _;

/// What a scraper is answered that accepts this.
async fn scraped(address: SocketAddr, path: &str, accept: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: weir\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _read = stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Waits until nobody listens there any more.
async fn is_free(address: SocketAddr) {
    let free = async {
        while TcpListener::bind(address).is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), free).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_has_the_latest_of_each_series_in_words_that_the_scraper_reads() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let options = json!({"type": "prometheus_exporter", "listen": address.to_string(), "max_series": 2});
    let config: Box<dyn SinkConfig> = serde_json::from_value(options).unwrap();
    let body = |event: serde_json::Value| Body::Raw(event.to_string().into(), Codec::Json);
    let good =
        [body(json!({"name": "up", "value": 1})), body(json!({"name": "a.b", "labels": {"c": "d"}, "value": "NaN"}))];
    conformance::sink(&*config, &good, Some(body(json!({"name": "third", "value": 1})))).await;

    let (context, _rejected) = BuildContext::detached("page");
    is_free(address).await;
    let sink = config.build(&context).await.unwrap();
    let origin = OriginId { node: "in".into(), log: "in".into(), partition: 0, kind: OriginKind::Other };
    let batch = Batch {
        origin: origin.into(),
        receipt: Receipt::new(0, Default::default(), None),
        watermark: Timestamp::MIN,
        events: good.into_iter().map(|body| Event::new(body, Position(0), Timestamp(0))).collect(),
    };
    sink.write(batch).await;
    let page = scraped(address, "/metrics", "text/plain;version=0.0.4").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("text/plain; version=0.0.4"), "{page}");
    assert!(page.ends_with("\r\n\r\na_b{c=\"d\"} NaN\nup 1\n"), "{page}");
    let page = scraped(address, "/metrics", "text/plain;version=1.0.0;escaping=allow-utf-8").await;
    assert!(page.ends_with("\r\n\r\n{\"a.b\",c=\"d\"} NaN\nup 1\n"), "{page}");
    assert!(scraped(address, "/", "*/*").await.starts_with("HTTP/1.1 404"));
    drop(sink);
    is_free(address).await;
}
