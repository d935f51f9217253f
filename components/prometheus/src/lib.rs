#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod adapter;
mod codec;
mod exporter;
mod exposition;
mod histogram;
mod influx;
mod point;
mod points_json;
pub mod remote_write;
mod scan;
mod sender;
mod source;
#[cfg(test)]
mod testing;
mod vector_text;

pub use adapter::{PrometheusKafkaAdapterDecoding, PrometheusKafkaAdapterEncoding};
pub use exporter::PrometheusExporter;
pub use exposition::{ExpositionDecoding, ExpositionEncoding};
pub use histogram::{Buckets, Counts, Histogram, ResetHint, Side, Stretch};
pub use influx::{InfluxDecoding, InfluxEncoding, Precision};
pub use point::{Exemplar, Labels, Measured, Metadata, NAN, Point, STALE};
pub use points_json::{PointsJsonDecoding, PointsJsonEncoding};
pub use sender::{Batching, RemoteWriteSink};
pub use source::PrometheusRemoteWriteSource;
pub use vector_text::{VectorTextDecoding, VectorTextEncoding};
