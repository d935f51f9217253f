//! Tests of the `console` sink.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc::Receiver;
use weir::delivery::{Receipt, Settlements};
use weir::event::{Body, Codec, Event, OriginId, OriginKind, Position, Timestamp};

use super::*;

/// A stream that somebody can look into, and close.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<(Vec<u8>, Option<io::ErrorKind>)>>);

impl Pipe {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap()
    }

    fn fail(&self, kind: Option<io::ErrorKind>) {
        self.0.lock().unwrap().1 = kind;
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.0.lock().unwrap();
        match pipe.1 {
            Some(kind) => Err(kind.into()),
            None => pipe.0.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Setup {
    sink: Stream,
    pipe: Pipe,
    context: BuildContext,
    rejected: Receiver<RejectedBatch>,
    settlements: Arc<Settlements>,
}

impl Setup {
    fn new(encoding: Encoding) -> Setup {
        let (context, rejected) = BuildContext::detached("show");
        let pipe = Pipe::default();
        let sink = Stream::new(encoding, Target::Stdout, &context, Box::new(pipe.clone()));
        Setup { sink, pipe, context, rejected, settlements: Arc::default() }
    }

    async fn write(&self, events: &[&'static str]) {
        let event = |(at, text): (usize, &&'static str)| {
            let body = Body::Raw(Bytes::from_static(text.as_bytes()), Codec::Json);
            Event::new(body, Position(at as u64), Timestamp(0))
        };
        let origin = OriginId { node: "in".into(), log: "in".into(), partition: 0, kind: OriginKind::Other };
        let batch = Batch {
            origin: Arc::new(origin),
            receipt: Receipt::new(1, self.settlements.clone(), None),
            watermark: Timestamp::MIN,
            events: events.iter().enumerate().map(event).collect(),
        };
        self.sink.write(batch).await;
        self.sink.flush().await;
    }

    fn outcomes(&self) -> Vec<Outcome> {
        self.settlements.take().into_iter().map(|settled| settled.outcome).collect()
    }
}

#[tokio::test]
async fn what_is_written_is_delivered() {
    let setup = Setup::new(Encoding::Json);
    setup.write(&[r#"{"a":1}"#, r#"{"b":2}"#]).await;
    assert_eq!(setup.pipe.text(), "{\"a\":1}\n{\"b\":2}\n");
    assert_eq!(setup.outcomes(), [Outcome::Delivered]);
    assert_eq!(setup.context.books.totals().passed, 2);
}

#[tokio::test]
async fn what_has_no_text_is_rejected_and_its_neighbours_are_delivered() {
    let mut setup = Setup::new(Encoding::Text);
    setup.write(&[r#"{"message":"one"}"#, r#"{"a":1}"#, r#"{"message":"three"}"#]).await;
    assert_eq!(setup.pipe.text(), "one\nthree\n");
    assert_eq!(setup.context.books.totals().passed, 2);
    assert!(setup.outcomes().is_empty(), "settled before the rejected event is");
    let batch = setup.rejected.recv().await.unwrap();
    assert_eq!((batch.rejected.len(), batch.rejected[0].event.position), (1, Position(1)));
    assert_eq!(batch.rejected[0].code, "no_message");
    batch.receipt.resolve(Outcome::DeadLettered);
    assert_eq!(setup.outcomes(), [Outcome::DeadLettered]);
}

#[tokio::test]
async fn a_stream_that_takes_nothing_is_trouble_until_it_does_again() {
    let setup = Setup::new(Encoding::Json);
    setup.pipe.fail(Some(io::ErrorKind::StorageFull));
    setup.write(&["{}"]).await;
    assert_eq!(setup.outcomes(), [Outcome::Failed]);
    assert!(setup.context.trouble.get().unwrap().starts_with("stdout cannot be written"));
    let books = setup.context.books.totals();
    assert_eq!((books.passed, books.failed), (0, 1));

    setup.pipe.fail(None);
    setup.write(&["{}"]).await;
    assert_eq!((setup.outcomes(), setup.context.trouble.get()), (vec![Outcome::Delivered], None));
    assert_eq!(setup.pipe.text(), "{}\n");
}

#[tokio::test]
async fn a_closed_pipe_is_the_end() {
    let setup = Setup::new(Encoding::Json);
    setup.pipe.fail(Some(io::ErrorKind::BrokenPipe));
    setup.write(&["{}"]).await;
    assert_eq!(setup.outcomes(), [Outcome::Failed]);
    setup.context.trouble.clear();
    assert_eq!(setup.context.trouble.given_up().await, "stdout is closed");
}

#[tokio::test]
async fn events_that_no_stream_could_take_are_rejected_once_only() {
    let mut setup = Setup::new(Encoding::Text);
    setup.pipe.fail(Some(io::ErrorKind::BrokenPipe));
    setup.write(&[r#"{"message":"one"}"#, r#"{"a":1}"#]).await;
    assert_eq!(setup.outcomes(), [Outcome::Failed]);
    assert!(setup.rejected.try_recv().is_err(), "the batch is read again as a whole");
}

/// A stream that takes nothing before it is let go.
struct Stuck(std::sync::mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _let_go = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn who_waits_for_a_stuck_stream_can_stop_waiting() {
    let mut setup = Setup::new(Encoding::Json);
    let (let_go, stuck) = std::sync::mpsc::channel();
    setup.sink = Stream::new(Encoding::Json, Target::Stdout, &setup.context, Box::new(Stuck(stuck)));
    let waited = tokio::time::timeout(std::time::Duration::from_millis(20), setup.write(&["{}"])).await;
    assert!(waited.is_err() && setup.outcomes().is_empty(), "nothing is delivered before it is written");
    drop(let_go);
    setup.sink.flush().await;
    assert_eq!(setup.outcomes(), [Outcome::Delivered]);
}

#[test]
fn options_are_read() {
    let read = |options| serde_json::from_value::<Box<dyn SinkConfig>>(options);
    let sink = read(json!({"type": "console", "encoding": "raw", "target": "stderr"})).unwrap();
    assert!(sink.explain().contains("stderr"));
    assert!(read(json!({"type": "console"})).unwrap().explain().contains("stdout"));
    assert!(read(json!({"type": "console", "target": "printer"})).is_err());
    assert!(read(json!({"type": "console", "colour": true})).is_err());
}
