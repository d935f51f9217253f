#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod answer;
mod backoff;
mod client;
mod options;
mod task;
mod tls;

pub use answer::{Answer, Verdict, verdict};
pub use backoff::Backoff;
pub use client::{Client, Request};
pub use hyper::header::{HeaderName, HeaderValue};
pub use hyper::{HeaderMap, Method, StatusCode};
pub use options::{Address, Auth, Settings, Tls};
pub use task::{Ask, TaskSink};
