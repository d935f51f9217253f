//! The `dead_letter` transform: a rejected event as a document about it.

use schemars::JsonSchema;
use serde::Deserialize;
use weir::Result;
use weir::component::{BuildContext, Transform, TransformConfig};
use weir::event::{Body, Codec, Event, Reason, Verdict};
use weir::graph::DeadLetter;

/// Turns rejected events into JSON documents with event, node, error and time.
///
/// The format is that of `weir dlq export` and `weir dlq import`; send it to a topic or an index. The event's key is
/// kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToDeadLetter {}

weir::register_transform!("dead_letter", ToDeadLetter, "{type: dead_letter, inputs: [dead_letters]}");

#[typetag::deserialize(name = "dead_letter")]
impl TransformConfig for ToDeadLetter {
    fn build(&self, context: &BuildContext) -> Result<Transform> {
        let (clock, graph) = (context.clock.clone(), context.graph.clone());
        Ok(Transform::stateless(move |batch, output| {
            let (now, origin) = (clock.now(), batch.origin.clone());
            output.rejected = batch.decide(|event| {
                let error = event.meta.as_ref().and_then(|meta| meta.error.clone());
                let Some(Reason { node, code, message }) = error.as_deref() else {
                    let message = "nobody rejected this event; read `dead_letters`, or the `errors` port of a node";
                    return Verdict::Reject { code: "not_rejected", message: message.to_owned() };
                };
                let letter = DeadLetter::new(node, now, &origin, event, code, message);
                let document = letter.of_graph(&graph).to_json();
                become_document(event, document);
                Verdict::Pass
            });
        }))
    }
}

/// The event is the document now; what was beside its body is in it.
fn become_document(event: &mut Event, document: Vec<u8>) {
    event.body = Body::Raw(document.into(), Codec::Json);
    if let Some(meta) = &mut event.meta {
        meta.headers.clear();
        meta.error = None;
    }
}
