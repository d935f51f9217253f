//! What is done with records before they enter a lane: decoders ask peers, such as a schema registry, for what they need,
//! and records that hold several events become those.

use super::driver::back_off;
use crate::component::Trouble;
use crate::event::{Body, Codec, Event, Ordinal};
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
    let trouble = trouble.part("decoder");
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

/// Stands for the source itself among the nodes that make several events of one.
const SOURCE: u16 = u16::MAX;

/// The events as they enter the graph, with what their decoder tells of them, and several in the place of a record that holds
/// them. One that holds too many stays as it is, and is rejected by the node that looks.
pub(super) fn admitted(events: Vec<Event>) -> Vec<Event> {
    // All events of one origin have the same decoder.
    if !events.iter().any(|event| matches!(event.body, Body::Raw(_, Codec::Other(_)))) {
        return events;
    }
    let mut all = Vec::with_capacity(events.len());
    for event in events {
        match parts(&event) {
            Some(parts) => all.extend(parts),
            None => all.push(event),
        }
    }
    for event in &mut all {
        if let Body::Raw(_, Codec::Other(decoder)) = &event.body {
            decoder.clone().admit(event);
        }
    }
    all
}

fn parts(event: &Event) -> Option<Vec<Event>> {
    let Body::Raw(bytes, codec) = &event.body else { return None };
    let records = codec.decoder()?.split(bytes)?;
    let ordinals: Option<Vec<Ordinal>> = (0..records.len()).map(|index| event.ordinal.child(SOURCE, index)).collect();
    let part = |(record, ordinal)| Event { body: Body::Raw(record, codec.clone()), ordinal, ..event.clone() };
    Some(records.into_iter().zip(ordinals?).map(part).collect())
}
