//! What weir says of itself: `/metrics`, `/health` and `/ready`.
//!
//! Labels are node ids and fixed words, so the number of series is bounded by the graph. The numbers are
//! read when they are asked for; between two scrapes telemetry costs nothing.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::delivery::BookTotals;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::Status;

/// The endpoint, bound and not yet serving.
pub struct Endpoint {
    listener: tokio::net::TcpListener,
    handle: PrometheusHandle,
}

#[derive(Clone)]
struct Shared {
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
        let listener = tokio::net::TcpListener::bind(address).await.map_err(refused)?;
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
        let shared = Shared { status, handle: self.handle };
        let app = Router::new()
            .route("/metrics", get(show_metrics))
            .route("/health", get(|| async { "ok\n" }))
            .route("/ready", get(show_ready))
            .with_state(shared);
        if let Err(error) = axum::serve(self.listener, app).await {
            tracing::error!(%error, "telemetry stopped");
        }
    }
}

fn describe() {
    describe_counter!(
        "weir_node_events_total",
        "Events of a node by outcome: received, passed, filtered, absorbed, dead_lettered, failed; and emitted beside them"
    );
    describe_gauge!("weir_node_in_flight_events", "Events a node received and has not ended");
    describe_gauge!("weir_node_ready", "1 while the node can work, else 0; /ready says why");
    describe_gauge!("weir_source_lag_events", "Events a source's log still holds for it, as of the last reads");
    describe_gauge!("weir_lanes", "Lanes running");
    describe_gauge!("weir_memory_used_bytes", "Bytes batches in flight hold");
    describe_gauge!("weir_memory_limit_bytes", "Bytes batches in flight may hold");
    describe_gauge!("process_resident_memory_bytes", "Resident memory of the process");
    describe_counter!("process_cpu_milliseconds_total", "User and system time of the process");
}

async fn show_metrics(State(Shared { status, handle }): State<Shared>) -> impl IntoResponse {
    let troubled: Vec<String> = status.troubles();
    for (node, totals) in status.books() {
        let BookTotals { received, passed, filtered, absorbed, dead_lettered, failed, emitted } = totals;
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
        let prefix = format!("{node}: ");
        let is_ready = !troubled.iter().any(|trouble| trouble.starts_with(&prefix));
        gauge!("weir_node_in_flight_events", "node" => node.clone()).set(totals.in_flight() as f64);
        gauge!("weir_node_ready", "node" => node).set(f64::from(u8::from(is_ready)));
    }
    for (node, lag) in status.lags() {
        gauge!("weir_source_lag_events", "node" => node).set(lag as f64);
    }
    let (used, limit) = status.memory();
    gauge!("weir_memory_used_bytes").set(used as f64);
    gauge!("weir_memory_limit_bytes").set(limit as f64);
    gauge!("weir_lanes").set(status.lanes() as f64);
    if let Some(process) = Process::read() {
        gauge!("process_resident_memory_bytes").set(process.resident_bytes as f64);
        counter!("process_cpu_milliseconds_total").absolute(process.cpu_millis);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render())
}

async fn show_ready(State(Shared { status, .. }): State<Shared>) -> impl IntoResponse {
    match status.troubles() {
        troubles if troubles.is_empty() => (StatusCode::OK, "ready\n".to_owned()),
        troubles => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", troubles.join("\n"))),
    }
}

/// What the kernel says of this process.
struct Process {
    resident_bytes: u64,
    cpu_millis: u64,
}

impl Process {
    fn read() -> Option<Process> {
        // proc(5): page size and clock ticks are 4 KiB and 100 Hz on every Linux weir is built for.
        const PAGE: u64 = 4096;
        const TICK_MILLIS: u64 = 10;
        let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let resident: u64 = statm.split(' ').nth(1)?.parse().ok()?;
        // The command name before ')' may hold blanks.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Process { resident_bytes: resident * PAGE, cpu_millis: ticks * TICK_MILLIS })
    }
}
