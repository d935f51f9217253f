//! The thread that writes a journal: one fsync for all that wait for it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use metrics::gauge;
use tokio::sync::{mpsc, oneshot};

use super::super::log::{AppendError, SegmentedLog};
use super::{JournalError, Records, Refused, Request, Shared};
use crate::component::Trouble;

/// Bytes after which no more appends join an fsync.
const GROUP: u64 = 8 << 20;
/// How often the writer looks for requests while the disk fails, and after how many looks it tries the disk.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 20;

/// The thread that writes. It ends with the last sender, and the lock of the folder with it.
#[derive(Debug)]
pub(super) struct WriterThread(Mutex<Work>);

#[derive(Debug)]
enum Work {
    /// Opening starts no thread: the first request does.
    Idle(Box<Writer>),
    Running(JoinHandle<()>),
    Over,
}

impl WriterThread {
    pub fn new(writer: Writer) -> WriterThread {
        WriterThread(Mutex::new(Work::Idle(Box::new(writer))))
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it, if it was not yet.
    pub fn wake(&self) {
        let mut work = self.work();
        if let Work::Idle(_) = &*work
            && let Work::Idle(writer) = std::mem::replace(&mut *work, Work::Over)
        {
            let thread = std::thread::Builder::new().name("journal".to_owned());
            match thread.spawn(move || writer.run()) {
                Ok(running) => *work = Work::Running(running),
                Err(error) => tracing::error!(%error, "cannot start the writer's thread"),
            }
        }
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        if let Work::Running(thread) = std::mem::replace(&mut *self.work(), Work::Over) {
            // One that panicked is over, too.
            let _ = thread.join();
        }
    }
}

/// Appends groups of records, each with one fsync.
#[derive(Debug)]
pub(super) struct Writer {
    pub log: SegmentedLog,
    pub requests: mpsc::Receiver<Request>,
    pub shared: Arc<Shared>,
    pub node: Arc<str>,
    pub max_size: u64,
    /// Appended and not durable.
    pub group: Vec<(Records, oneshot::Sender<Result<(), Refused>>)>,
    pub trouble: Trouble,
    /// What helps when the log is full, where that keeps the node from being ready.
    pub when_full: Option<&'static str>,
    /// Why records were refused last, while that may hold.
    pub refused: Option<Hindrance>,
}

/// Why the log takes nothing.
#[derive(Debug)]
pub(super) enum Hindrance {
    /// The disk fails; it was to take so many bytes.
    Disk(u64),
    /// There is no room for so many records and bytes.
    Full(usize, usize),
}

impl Writer {
    fn run(mut self) {
        while let Some(first) = self.next() {
            self.make_room();
            let (mut next, mut size) = (Some(first), 0);
            while let Some(request) = next {
                match request {
                    Request::Settled => self.make_room(),
                    Request::Append(records, done) => {
                        size += records.size();
                        self.append(records, done);
                    }
                }
                next = if size < GROUP { self.requests.try_recv().ok() } else { None };
            }
            self.finish_group();
            gauge!("weir_log_bytes", "node" => self.node.to_string()).set(self.log.bytes() as f64);
        }
        self.trouble.clear();
    }

    /// The next request; `None` when nobody can make one any more. While the disk fails it is tried again and again:
    /// senders that go by `/ready` come back only once it is ready.
    fn next(&mut self) -> Option<Request> {
        let mut looks: u32 = 0;
        while let Some(Hindrance::Disk(bytes)) = self.refused {
            match self.requests.try_recv() {
                Ok(request) => return Some(request),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
            std::thread::park_timeout(LOOK);
            looks += 1;
            if looks.is_multiple_of(LOOKS) {
                // The file that could not be written any more may be one of which everything is settled.
                self.make_room();
                if self.log.probe(bytes).is_ok() {
                    self.is_well();
                }
            }
        }
        self.requests.blocking_recv()
    }

    /// Puts the records into the group, or refuses them.
    fn append(&mut self, records: Records, done: oneshot::Sender<Result<(), Refused>>) {
        let size = records.size();
        let error = match self.has_room(&records) {
            Err(error) => error,
            Ok(()) => {
                // What is in one file and in no other is durable as a whole or not at all.
                if self.log.ends_file(size) {
                    self.finish_group();
                }
                match self.log.append_all(records.payloads()) {
                    Ok(()) => return self.group.push((records, done)),
                    Err(AppendError::Full(full)) => JournalError::Full(full),
                    Err(error) => self.failed(&error, size),
                }
            }
        };
        if let (JournalError::Full(full), Some(remedy)) = (&error, self.when_full) {
            self.trouble.set(format!("{full}: {remedy}"));
            self.refused = Some(Hindrance::Full(records.ends.len(), records.bytes.len()));
        }
        // Who appended may be gone.
        let _ = done.send(Err(Refused { error, records }));
    }

    /// Makes the group durable, and answers.
    fn finish_group(&mut self) {
        if self.group.is_empty() {
            return;
        }
        match self.log.sync() {
            Ok(()) => {
                if matches!(self.refused, Some(Hindrance::Disk(_))) {
                    self.is_well();
                }
                self.shared.durable.send_replace(self.log.durable());
                self.group.drain(..).for_each(|(_, done)| drop(done.send(Ok(()))));
            }
            Err(error) => {
                self.log.discard();
                let size = self.group.iter().map(|(records, _)| records.size()).sum();
                let JournalError::Io(why) = self.failed(&AppendError::Io(error), size) else { return };
                for (records, done) in self.group.drain(..) {
                    let _gone = done.send(Err(Refused { error: JournalError::Io(why.clone()), records }));
                }
            }
        }
    }

    fn failed(&mut self, error: &AppendError, size: u64) -> JournalError {
        tracing::error!(node = &*self.node, %error, "the log cannot be written");
        let text = format!("the log in {} cannot be written: {error}", self.log.dir().display());
        self.trouble.set(format!("{text}; make room or mend the disk: it is tried again until it works"));
        self.refused = Some(Hindrance::Disk(size));
        JournalError::Io(error.to_string())
    }

    fn is_well(&mut self) {
        tracing::info!(node = &*self.node, "the log takes records again");
        self.refused = None;
        self.trouble.clear();
    }

    fn has_room(&self, records: &Records) -> Result<(), JournalError> {
        // What is settled may stand in the file that is written to, which is as large as one record at most.
        if records.size() > self.max_size / 4 {
            return Err(JournalError::TooLarge(records.size(), self.max_size));
        }
        Ok(self.log.has_room(records.ends.len(), records.bytes.len())?)
    }

    /// Removes files of which everything is settled; that is durable, so that numbers go on behind it.
    fn make_room(&mut self) {
        let before = self.log.bytes();
        if let Err(error) = self.log.truncate_before(self.shared.settled.load(Ordering::Acquire)) {
            tracing::warn!(node = &*self.node, %error, "a file of the log that is done with cannot be removed");
        }
        if self.log.bytes() < before {
            if let Some(Hindrance::Full(records, bytes)) = self.refused
                && self.log.has_room(records, bytes).is_ok()
            {
                self.is_well();
            }
            self.shared.freed.send_modify(|freed| *freed += 1);
        }
    }
}
