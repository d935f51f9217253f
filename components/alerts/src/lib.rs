#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod alert;
mod alertmanager;
mod firing;
mod held;
mod hysteresis;
mod line;
mod notifier;
mod payload;
mod probe;
mod sample;
mod watch;
mod webhook;

pub use alertmanager::Alertmanager;
pub use firing::{AlertFiring, Emit};
pub use hysteresis::{Emit as EmitSignal, Hysteresis};
pub use webhook::{Payload, Webhook};
