//! End-to-end tests, embedded and against real servers.
