#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod answer;
mod backoff;
mod body;
mod client;
mod options;
mod task;
mod tls;

pub use answer::{Answer, Cut, Verdict, verdict};
pub use backoff::Backoff;
pub use client::{Client, NoAnswer, Request};
pub use hyper::header::{HeaderName, HeaderValue};
pub use hyper::{HeaderMap, Method, StatusCode};
pub use options::{Address, Auth, Settings, Tls, Url};
pub use task::{Ask, TaskSink};
