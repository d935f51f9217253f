//! The bare librdkafka loop of `pipelines/floor.c`, linked with the librdkafka that `weir` itself links.

use std::ffi::c_int;

// brings the library; nothing of it is named in Rust
use rdkafka_sys as _;

#[expect(unsafe_code, reason = "the loop to compare with is C by intent")]
mod c {
    unsafe extern "C" {
        /// Takes nothing and shares nothing with Rust, so any time is a good time to call it.
        pub(super) safe fn weir_bench_floor() -> std::ffi::c_int;
    }
}

/// Reads KAFKA_BOOTSTRAP_SERVERS, GROUP, TOPIC_IN and TOPIC_OUT, and runs until SIGTERM. Returns an exit code.
pub fn run() -> c_int {
    c::weir_bench_floor()
}
