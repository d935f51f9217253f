//! What the sources that are sent events over HTTP share. It is no component: it registers nothing.
//!
//! A source describes where it listens ([`Listen`]), says in a [`Handler`] what it makes of a request, and hands both to a
//! [`Receiver`], which is its `Source`. The server takes connections within a limit, does TLS and checks who sends, reads
//! bodies within a limit of size, time and memory, and on a stop answers what is under way. The handler sees whole bodies
//! alone, appends them to its log ([`Ledger`]), and answers.
//!
//! A request passes, in this order:
//!
//! 1. the connection: with its first request, one above `max_connections` takes the place of one that has sent no request, of
//!    one that has been idle for five seconds (or half of `timeout` if that is less), or of any of the peer address that has
//!    the most connections, unless it is being answered; where there is none it is answered 503 with `Retry-After`;
//! 2. [`Handler::greet`]: what is answered to anyone, such as that there is nothing at this path;
//! 3. `auth`: 401;
//! 4. [`Handler::refuse`]: what the head alone decides, before a body is read;
//! 5. the body: 408 when it does not come within `timeout`, 413 above `max_body_size`, 503 when all bodies together take too much
//!    memory;
//! 6. [`Handler::take`];
//! 7. [`Handler::seal`]: the last word on the answer, whoever gave it.
//!
//! What is left of a body that is refused for good is read and forgotten before the answer, up to 64 MiB and two seconds.
//!
//! No answer is given where there is no whole head: the connection of a sender who takes longer than `timeout` for a head, or for
//! the handshake of TLS, is closed. So is that of one who does not read an answer within `timeout`.
//!
//! A source that speaks something else than HTTP takes the first of these alone: it describes its [`Place`], says in a
//! [`Service`] what it makes of a connection, and hands both to a [`Receiver`].
#![deny(missing_docs)]

mod answer;
mod body;
mod gate;
mod listen;
mod options;
mod receiver;
mod server;
mod site;
mod tls;

pub use answer::{Answer, come_back, refused, with};
pub use body::{Memory, Missing, Share, gunzip};
pub use gate::{Gate, Lost, Service};
pub use hyper;
pub use listen::{Listen, Place};
pub use options::{Auth, Tls};
pub use receiver::{Ledger, Receiver};
pub use server::{Door, Handler, Head, Request};
pub use site::Site;
pub use weir::listen::{Doing, Guest};
