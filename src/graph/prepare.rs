//! Decoders that have to ask a peer before they can read, such as a schema registry.

use super::driver::back_off;
use crate::component::Trouble;
use crate::event::{Body, Codec, Event};
use crate::state::Clock;

/// The events with decoders that have all they need from peers. Waits as long as a peer cannot be asked.
pub(super) async fn prepared(mut events: Vec<Event>, trouble: &Trouble, clock: &dyn Clock) -> Vec<Event> {
    // All events of one origin have the same decoder.
    let raw = events.iter().find_map(|event| match &event.body {
        Body::Raw(_, codec) => Some(codec),
        Body::Parsed(_) => None,
    });
    if !raw.and_then(Codec::decoder).is_some_and(|decoder| decoder.must_prepare()) {
        return events;
    }
    let mut said = None;
    let mut failures = 0;
    for event in &mut events {
        let Body::Raw(bytes, Codec::Other(decoder)) = &mut event.body else { continue };
        *decoder = loop {
            match decoder.prepare(bytes).await {
                Ok(ready) => break ready,
                Err(error) => {
                    let why = error.to_string();
                    if said.as_ref() != Some(&why) {
                        tracing::warn!(%error, "waiting");
                    }
                    trouble.set(&*why);
                    said = Some(why);
                    clock.sleep(back_off(failures)).await;
                    failures = failures.saturating_add(1);
                }
            }
        };
    }
    // It may be another's by now.
    if said.is_some() && trouble.get() == said {
        trouble.clear();
    }
    events
}
