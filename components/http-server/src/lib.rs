#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod answer;
mod body;
mod idle;
mod listen;
mod options;
mod receiver;
mod server;
mod tls;

pub use answer::{Answer, come_back, refused, with};
pub use body::{Missing, Share, gunzip};
pub use hyper;
pub use listen::Listen;
pub use options::{Auth, Tls};
pub use receiver::{Ledger, Receiver};
pub use server::{Handler, Head, Request};
