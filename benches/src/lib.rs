//! Benchmarks, apart from the tests.
//!
//! `benches/pipelines` runs whole processes side by side; this crate makes its data ([`events`]), judges its outputs
//! ([`digest`]), and holds the two binaries it needs: `weir-bench` and `weir-bench-floor`.

pub mod digest;
pub mod events;
pub mod floor;
