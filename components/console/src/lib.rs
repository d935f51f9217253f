//! The console and blackhole sinks.
