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
use crate::graph::{NodeSnapshot, Snapshot, Status};

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
    describe_gauge!("weir_memory_used_bytes", "Bytes batches in flight hold");
    describe_gauge!("weir_memory_limit_bytes", "Bytes batches in flight may hold");
    describe_gauge!("process_resident_memory_bytes", "Resident memory of the process");
    describe_counter!("process_cpu_milliseconds_total", "User and system time of the process");
}

async fn show_metrics(State(Shared { status, handle }): State<Shared>) -> impl IntoResponse {
    let Snapshot { lanes, memory_used, memory_limit, process, troubles, nodes, .. } = status.snapshot();
    for NodeSnapshot { id: node, books, lag, .. } in nodes {
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
        let is_ready = !troubles.contains_key(&node);
        gauge!("weir_node_in_flight_events", "node" => node.clone()).set(books.in_flight() as f64);
        gauge!("weir_node_ready", "node" => node).set(f64::from(u8::from(is_ready)));
    }
    gauge!("weir_memory_used_bytes").set(memory_used as f64);
    gauge!("weir_memory_limit_bytes").set(memory_limit as f64);
    gauge!("weir_lanes").set(lanes as f64);
    if let Some(process) = process {
        gauge!("process_resident_memory_bytes").set(process.resident_bytes as f64);
        counter!("process_cpu_milliseconds_total").absolute(process.cpu_millis);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render())
}

async fn show_ready(State(Shared { status, .. }): State<Shared>) -> impl IntoResponse {
    let troubles = status.troubles();
    if troubles.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let lines: String = troubles.iter().map(|(node, what)| format!("{node}: {what}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{lines}"))
}
