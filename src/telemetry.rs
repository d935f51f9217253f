//! What weir says of itself: `/metrics`, `/health` and `/ready`; `/` lists them.
//!
//! Labels are node ids and fixed words, so the number of series is bounded by the graph. The numbers are
//! read when they are asked for; between two scrapes telemetry costs nothing.

mod text;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::{TcpListener, TcpStream};

use crate::component::Kind;
use crate::delivery::BookTotals;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{NodeSnapshot, Snapshot, Status};
use crate::listen::{Doing, Gate, Guest, Service, WriteLimit};
use crate::state::SystemClock;
use crate::terminal;

/// Connections at the same time; one that waits makes room for a new one.
const CONNECTIONS: u32 = 64;
/// Time for the head of a request, and for reading the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const HEAD: usize = 16 << 10;

/// The endpoint, bound and not yet serving.
pub struct Endpoint {
    listener: TcpListener,
    handle: PrometheusHandle,
}

/// The pages and what they are made of.
struct Pages {
    status: Status,
    handle: PrometheusHandle,
}

impl Endpoint {
    /// Binds the address and installs the process's metrics recorder; once a process.
    pub async fn bind(address: SocketAddr) -> Result<Endpoint> {
        let refused = |error: std::io::Error| {
            Error::new(ErrorKind::Config, "listen", "cannot listen for telemetry; choose another telemetry.listen")
                .with("address", address)
                .caused_by(error)
        };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder)
            .map_err(|error| Error::new(ErrorKind::Internal, "metrics", error.to_string()))?;
        describe();
        Ok(Endpoint { listener, handle })
    }

    /// Where it listens; tells the port when 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Serves until the process ends.
    pub async fn serve(self, status: Status) {
        let gate = Gate {
            listener: self.listener,
            max_connections: CONNECTIONS,
            timeout: TIMEOUT,
            // Probes and scrapers connect again; none of them is refused because others are idle.
            idle: Duration::ZERO,
            node: "telemetry".into(),
            clock: Arc::new(SystemClock::default()),
        };
        gate.open(Arc::new(Pages { status, handle: self.handle }), std::future::pending()).await;
    }
}

type Page = Response<Full<Bytes>>;

impl Service for Pages {
    async fn serve(&self, stream: TcpStream, guest: &Guest) {
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(guest.patience(TIMEOUT)).max_buf_size(HEAD);
        let service = service_fn(|request| async move {
            let page = match guest.admitted().await {
                true => self.page(&request),
                false => busy(),
            };
            guest.is(Doing::Idle);
            Ok::<_, Infallible>(page)
        });
        let connection = pin!(http.serve_connection(TokioIo::new(WriteLimit::new(stream, TIMEOUT)), service));
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a telemetry connection broke off");
        }
    }

    fn displaced(&self, peer: SocketAddr) {
        tracing::debug!(%peer, "a telemetry connection made room for another");
    }
}

impl Pages {
    fn page<B>(&self, request: &Request<B>) -> Page {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut page = text(StatusCode::METHOD_NOT_ALLOWED, "read it with GET\n".to_owned());
            page.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return page;
        }
        match request.uri().path() {
            "/metrics" => {
                let mut page = text(StatusCode::OK, metrics(&self.status, &self.handle));
                let version = HeaderValue::from_static("text/plain; version=0.0.4");
                page.headers_mut().insert(CONTENT_TYPE, version);
                page
            }
            "/" => text(StatusCode::OK, index(&self.status)),
            "/health" => text(StatusCode::OK, "ok\n".to_owned()),
            "/ready" => ready(&self.status),
            _ => text(StatusCode::NOT_FOUND, format!("no such page; there are:\n{PAGES}")),
        }
    }
}

/// The endpoints.
const PAGES: &str = "\
/metrics  metrics in the Prometheus text format
/ready    200 while every node can work; else 503, with node, cause and remedy
/health   200 while the process runs
";

fn index(status: &Status) -> String {
    let graph = status.snapshot().graph;
    format!("weir {}, graph {}\n\n{PAGES}", env!("CARGO_PKG_VERSION"), terminal::line(&graph))
}

fn text(status: StatusCode, text: String) -> Page {
    let mut page = Response::new(Full::from(text));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    page
}

fn busy() -> Page {
    let mut page = text(StatusCode::SERVICE_UNAVAILABLE, "there are too many connections; ask again\n".to_owned());
    page.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    page
}

fn describe() {
    describe_counter!(
        "weir_node_events_total",
        "Events of a node by outcome: received, passed, filtered, absorbed, dead_lettered, failed; and emitted beside them"
    );
    describe_gauge!("weir_node_in_flight_events", "Events a node received and has not ended");
    describe_gauge!("weir_node_ready", "1 while the node can work, else 0; /ready says why");
    describe_gauge!("weir_source_lag_events", "Events a source's log still holds for it, as of the last reads");
    describe_gauge!("weir_log_bytes", "Bytes the log of a push source or a buffer holds");
    describe_counter!(
        "weir_log_lost_records_total",
        "Records of such a log or of the dead letters that were lost to damage of the disk"
    );
    describe_counter!("weir_state_lost_checkpoints_total", "Last checkpoints that were lost to damage of the disk");
    describe_counter!("weir_buffer_dropped_events_total", "Events dropped because a buffer was full");
    describe_counter!("weir_kafka_offset_jumps_total", "Times a source went on elsewhere, its next record being gone");
    describe_counter!("weir_state_evicted_keys_total", "Keys that had to leave a state because there were too many");
    describe_counter!("weir_ahead_events_total", "Events further ahead of the clock than max_ahead");
    describe_counter!("weir_late_events_total", "Events that came too late for a node and that no node reads");
    describe_gauge!("weir_lanes", "Lanes running");
    describe_counter!("weir_node_bytes_total", "Bytes of events a source read, or a sink wrote, before compression");
    describe_gauge!("weir_memory_used_bytes", "Bytes batches in flight hold");
    describe_gauge!("weir_memory_limit_bytes", "Bytes batches in flight may hold");
    describe_gauge!("process_resident_memory_bytes", "Resident memory of the process");
    describe_gauge!("weir_build_info", "1; the version is a label");
    gauge!("weir_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

fn metrics(status: &Status, handle: &PrometheusHandle) -> String {
    let Snapshot { lanes, memory_used, memory_limit, process, troubles, nodes, .. } = status.snapshot();
    let own = text::render(&nodes, process.as_ref());
    for NodeSnapshot { id: node, kind, books, bytes, lag, .. } in nodes {
        let BookTotals { received, passed, filtered, absorbed, dead_lettered, failed, emitted } = books;
        let outcomes = [
            ("received", received),
            ("passed", passed),
            ("filtered", filtered),
            ("absorbed", absorbed),
            ("dead_lettered", dead_lettered),
            ("failed", failed),
            ("emitted", emitted),
        ];
        for (outcome, count) in outcomes {
            counter!("weir_node_events_total", "node" => node.clone(), "outcome" => outcome).absolute(count);
        }
        if let Some(lag) = lag {
            gauge!("weir_source_lag_events", "node" => node.clone()).set(lag as f64);
        }
        if kind != Kind::Transform {
            counter!("weir_node_bytes_total", "node" => node.clone()).absolute(bytes);
        }
        let is_ready = !troubles.contains_key(&node);
        gauge!("weir_node_in_flight_events", "node" => node.clone()).set(books.in_flight() as f64);
        gauge!("weir_node_ready", "node" => node).set(f64::from(u8::from(is_ready)));
    }
    gauge!("weir_memory_used_bytes").set(memory_used as f64);
    gauge!("weir_memory_limit_bytes").set(memory_limit as f64);
    gauge!("weir_lanes").set(lanes as f64);
    if let Some(process) = process {
        gauge!("process_resident_memory_bytes").set(process.resident_bytes as f64);
    }
    handle.render() + &own
}

fn ready(status: &Status) -> Page {
    let troubles = status.troubles();
    if troubles.is_empty() {
        return text(StatusCode::OK, "ready\n".to_owned());
    }
    let line = |(node, what): (&String, &String)| format!("{node}: {}\n", terminal::line(what));
    let lines: String = troubles.iter().map(line).collect();
    text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{lines}"))
}
