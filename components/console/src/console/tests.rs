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
        Setup::with(encoding, false)
    }

    fn with(encoding: Encoding, is_terminal: bool) -> Setup {
        let (context, rejected) = BuildContext::detached("show");
        let pipe = Pipe::default();
        let output = Output { stream: Box::new(pipe.clone()), is_terminal };
        let sink = Stream::new(encoding, Target::Stdout, &context, output);
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
async fn a_terminal_is_shown_control_characters_and_a_file_gets_the_bytes() {
    let event: &'static str = json!({ "message": terminal::HOSTILE }).to_string().leak();
    let written = |encoding: Encoding, is_terminal: bool| async move {
        let setup = Setup::with(encoding, is_terminal);
        setup.write(&[event]).await;
        assert_eq!(setup.outcomes(), [Outcome::Delivered]);
        setup.pipe.text()
    };
    let json = written(Encoding::Json, true).await;
    assert_eq!(terminal::hostile_in(&json), "");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["message"], terminal::HOSTILE);
    assert_eq!(written(Encoding::Json, false).await, format!("{event}\n"), "as it came");
    let text = terminal::HOSTILE.replace(['\n', '\r'], " ");
    let event: &'static str = json!({ "message": text }).to_string().leak();
    for is_terminal in [true, false] {
        let setup = Setup::with(Encoding::Text, is_terminal);
        setup.write(&[event]).await;
        let written = setup.pipe.text();
        assert_eq!(terminal::hostile_in(&written).is_empty(), is_terminal, "{written:?}");
        assert!(is_terminal || written == format!("{text}\n"));
    }
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
    let output = Output { stream: Box::new(Stuck(stuck)), is_terminal: false };
    setup.sink = Stream::new(Encoding::Json, Target::Stdout, &setup.context, output);
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
