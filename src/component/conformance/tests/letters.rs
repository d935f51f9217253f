//! The rules of push sources can fail: a source that is sent letters inside of the process, and such as break one rule.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::component::conformance::{PushAnswer, PushClient, PushRequest, push_source};
use crate::component::{BuildContext, Lanes, PushLog, PushOrigin, Pushed, Source, SourceConfig, async_trait};
use crate::event::{Codec, Timestamp};
use crate::state::DirStorage;

/// Breaks a rule, or none.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Not,
    ForgetsAtRestart,
    TakesTooMuch,
    TakesAPart,
    AnswersForAFullLog,
    RefusesForEver,
    CutsOffAtStop,
    TakesWhenStopped,
    KeepsNothingAtStop,
}

const MOST: usize = 64 << 10;

#[derive(Debug, Clone)]
struct Letters {
    fault: Fault,
    slot: Arc<Mutex<Option<mpsc::Sender<Letter>>>>,
}

#[derive(Debug)]
struct Letter {
    events: Vec<Bytes>,
    rest: oneshot::Receiver<()>,
    answer: oneshot::Sender<PushAnswer>,
}

struct Begun {
    rest: oneshot::Sender<()>,
    answer: oneshot::Receiver<PushAnswer>,
}

#[async_trait]
impl PushClient for Letters {
    async fn begin(&self, events: &[Bytes]) -> Option<Box<dyn PushRequest>> {
        let slot = self.slot.lock().unwrap().clone()?;
        let ((rest, comes), (answers, answer)) = (oneshot::channel(), oneshot::channel());
        slot.send(Letter { events: events.to_vec(), rest: comes, answer: answers }).await.ok()?;
        Some(Box::new(Begun { rest, answer }))
    }
}

#[async_trait]
impl PushRequest for Begun {
    async fn end(self: Box<Self>) -> PushAnswer {
        let _ = self.rest.send(());
        self.answer.await.unwrap_or(PushAnswer::Nothing)
    }
}

impl<'de> serde::Deserialize<'de> for Letters {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Letters { fault: Fault::Not, slot: Arc::default() })
    }
}

#[typetag::deserialize(name = "conformance_letters")]
#[async_trait]
impl SourceConfig for Letters {
    async fn build(&self, context: &BuildContext) -> crate::Result<Box<dyn Source>> {
        let (mut context, mut elsewhere) = (context.clone(), None);
        if self.fault == Fault::ForgetsAtRestart {
            let dir = tempfile::tempdir().unwrap();
            context.storage = Arc::new(DirStorage::open(dir.path()).unwrap());
            elsewhere = Some(dir);
        }
        let (log, origin) = PushLog::open(&context, 512 << 10, Codec::Json)?;
        let (send, letters) = mpsc::channel(16);
        *self.slot.lock().unwrap() = Some(send);
        Ok(Box::new(Office { config: self.clone(), log, origin, letters, _elsewhere: elsewhere }))
    }
}

struct Office {
    config: Letters,
    log: PushLog,
    origin: PushOrigin,
    letters: mpsc::Receiver<Letter>,
    _elsewhere: Option<tempfile::TempDir>,
}

async fn take(fault: Fault, log: PushLog, is_full: Arc<Mutex<bool>>, lanes: Lanes, letter: Letter) {
    let Letter { mut events, rest, answer } = letter;
    if rest.await.is_err() {
        return;
    }
    let is_too_much = events.iter().map(Bytes::len).sum::<usize>() > MOST;
    let was_full = fault == Fault::RefusesForEver && *is_full.lock().unwrap();
    let mut result = if was_full { PushAnswer::Refused } else { PushAnswer::Taken };
    if is_too_much && fault != Fault::TakesTooMuch {
        result = PushAnswer::Refused;
        events.truncate(if fault == Fault::TakesAPart { 1 } else { 0 });
    }
    if fault == Fault::KeepsNothingAtStop && lanes.is_stopping() || was_full {
        events.clear();
    }
    let mut pushed = Pushed::new(Timestamp(0));
    events.iter().for_each(|event| pushed.push(event));
    if log.append(pushed).await.is_err() && fault != Fault::AnswersForAFullLog {
        *is_full.lock().unwrap() = true;
        result = PushAnswer::Refused;
    }
    let _ = answer.send(result);
}

#[async_trait]
impl Source for Office {
    async fn run(self: Box<Self>, lanes: Lanes) -> crate::Result<()> {
        let Office { config, log, origin, mut letters, _elsewhere } = *self;
        let mut lane = lanes.open_one(Box::new(origin)).await?;
        let (mut under_way, is_full) = (JoinSet::new(), Arc::default());
        loop {
            tokio::select! {
                Some(letter) = letters.recv() => {
                    under_way.spawn(take(config.fault, log.clone(), Arc::clone(&is_full), lanes.clone(), letter));
                }
                () = lanes.stopping() => break,
            }
        }
        if config.fault == Fault::TakesWhenStopped
            && let Ok(Some(letter)) = tokio::time::timeout(Duration::from_secs(1), letters.recv()).await
        {
            take(config.fault, log, is_full, lanes, letter).await;
        }
        drop(letters);
        if config.fault != Fault::CutsOffAtStop {
            under_way.join_all().await;
        }
        lane.ended().await.map(drop)
    }
}

async fn check(fault: Fault) {
    let dir = tempfile::tempdir().unwrap();
    let letters = Letters { fault, slot: Arc::default() };
    let too_much = vec![Bytes::from(format!("\"{:->40000}\"", "")); 2];
    push_source(&letters, dir.path(), &letters, &too_much).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_push_source_passes() {
    check(Fault::Not).await;
}

macro_rules! fails {
    ($($name:ident $fault:ident $rule:literal)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        #[should_panic(expected = $rule)]
        async fn $name() {
            check(Fault::$fault).await;
        }
    )*};
}

fails! {
    one_that_forgets_at_a_restart_fails ForgetsAtRestart "not within 5s: what was answered for is read"
    one_that_takes_too_much_fails TakesTooMuch "what is above a limit is refused"
    one_that_takes_a_part_fails TakesAPart "what was taken is read, and nothing of what was refused"
    one_that_answers_for_a_full_log_fails AnswersForAFullLog "a log that is full refuses"
    one_that_refuses_for_ever_fails RefusesForEver "a log that has room takes again"
    one_that_cuts_off_at_a_stop_fails CutsOffAtStop "answers what has begun before it returns"
    one_that_takes_when_stopped_fails TakesWhenStopped "takes nothing new"
    one_that_keeps_nothing_at_a_stop_fails KeepsNothingAtStop "not within 5s: what was answered for is read"
}
