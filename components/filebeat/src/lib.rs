//! The source `filebeat`.
