//! One sender's connection: bytes in, events into the log, acknowledgements out.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use weir::component::Pushed;
use weir::delivery::JournalError;
use weir_http_server::{Doing, Guest, Share};

use crate::lumberjack::{Broken, Decoder};
use crate::server::Lumberjack;
use crate::session::{Batch, Owed, Session};

/// How often a sender who waits is told that all is well. Filebeat gives up after 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// How long to wait before what the log refused is tried again, if nothing says that there is room.
const RETRY: Duration = Duration::from_secs(1);
/// The same, for memory.
const MEMORY_RETRY: Duration = Duration::from_millis(100);
/// Bytes that are read at once.
const READ: usize = 16 << 10;
/// Bytes that have to come within `timeout` as long as something is not whole.
const PROGRESS: usize = 64 << 10;
/// Memory of each connection, in which it gets on with events of some KiB; more comes out of what is for all.
const BASE: usize = 192 << 10;
/// More memory is taken in steps, as long as there is enough.
const MEMORY_STEP: usize = 256 << 10;
/// Frames that are taken before other connections have their turn.
const TURN: usize = 4096;

/// Why a connection was ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cut {
    /// Against the protocol, or its limits.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// A frame or a window that does not go on.
    #[error("a frame or window did not go on within `timeout`; the sender keeps it, and sends it again")]
    Slow,
    /// Memory for a frame did not come.
    #[error("a frame found no memory within `timeout`, for others hold it; the sender keeps it, and sends it again")]
    NoMemory,
    /// Who does not read acknowledgements.
    #[error("it does not read what it is told")]
    Deaf,
    /// Nothing came.
    #[error("nothing came for `idle_timeout`")]
    Idle,
    /// The connection itself.
    #[error("it broke off: {0}")]
    Io(#[from] io::Error),
}

/// What an append comes to, and the events if it failed.
type Kept = Result<(), (JournalError, Pushed)>;

/// Events on their way into the log.
enum Keeping {
    Nothing,
    Appending {
        append: Pin<Box<dyn Future<Output = Kept> + Send>>,
        owed: Owed,
        size: u64,
    },
    /// The log refused them.
    Refused {
        batch: Batch,
        until: Duration,
    },
}

/// What was waited for.
enum Happened {
    Read(io::Result<usize>),
    Appended(Kept),
    Freed,
    Time,
    Stopping,
}

/// A connection at work.
pub(crate) struct Connection<'a, S> {
    terms: &'a Lumberjack,
    guest: &'a Guest,
    stream: S,
    decoder: Decoder,
    session: Session,
    keeping: Keeping,
    /// Changes when the log has room.
    freed: watch::Receiver<u64>,
    share: Share,
    /// Of the memory of all.
    granted: usize,
    /// There is not enough memory to go on.
    is_short: bool,
    broken: Option<Broken>,
    /// The sender sends no more.
    is_over: bool,
    is_idle: bool,
    doing: Doing,
    /// When it last went on, and how much came since.
    heard: (Duration, usize),
    /// When the sender was last told something, or had to begin to wait.
    told: Duration,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Connection<'a, S> {
    pub fn new(terms: &'a Lumberjack, guest: &'a Guest, stream: S) -> Connection<'a, S> {
        let now = terms.clock.uptime();
        Connection {
            terms,
            guest,
            stream,
            decoder: Decoder::new(terms.limits),
            session: Session::new(terms.windows),
            keeping: Keeping::Nothing,
            freed: terms.log.freed(),
            share: terms.memory.share(),
            granted: 0,
            is_short: false,
            broken: None,
            is_over: false,
            is_idle: true,
            doing: Doing::Arriving,
            heard: (now, 0),
            told: now,
        }
    }

    /// Until the sender goes, or has to.
    pub async fn run(mut self) -> Result<(), Cut> {
        loop {
            self.decode().await;
            if self.keep().await? {
                self.decode().await;
            }
            if self.is_done() {
                return self.broken.map_or(Ok(()), |broken| Err(broken.into()));
            }
            self.take_place();
            match self.wait().await {
                Happened::Read(read) => self.has_read(read?),
                Happened::Appended(kept) => self.has_appended(kept).await?,
                Happened::Freed => self.retry(),
                Happened::Time => self.look_at_time().await?,
                Happened::Stopping => {}
            }
        }
    }

    /// Takes the frames that are there, as far as there is memory for what they hold.
    async fn decode(&mut self) {
        let now = self.terms.clock.now();
        let mut frames = 0;
        self.is_short = !self.has_memory(0);
        while self.broken.is_none() && !self.is_short && !self.session.is_full() && !self.is_leaving() {
            match self.decoder.frame() {
                Ok(Some(frame)) => match self.session.take(frame, now) {
                    Ok(true) => self.heard = (self.terms.clock.uptime(), 0),
                    Ok(false) => {}
                    Err(broken) => self.broken = Some(broken),
                },
                Ok(None) => match self.decoder.wants() {
                    Some(bytes) if self.has_memory(bytes) => self.decoder.allow(bytes),
                    Some(_) => self.is_short = true,
                    None => break,
                },
                Err(broken) => self.broken = Some(broken),
            }
            self.is_short |= !self.has_memory(0);
            frames += 1;
            if frames % TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Whether it may hold what it does, and so much more.
    fn has_memory(&mut self, more: usize) -> bool {
        let appending = match &self.keeping {
            Keeping::Nothing => 0,
            Keeping::Appending { size, .. } => *size,
            Keeping::Refused { batch, .. } => batch.events.size(),
        };
        // What grows has up to twice its size.
        let events = 2 * usize::try_from(self.session.size() + appending).unwrap_or(usize::MAX / 4);
        let held = (self.decoder.footprint() + events + more).saturating_sub(BASE);
        let is_much = held + 2 * MEMORY_STEP < self.granted;
        if held <= self.granted && !is_much {
            return true;
        }
        let wanted = if held == 0 { 0 } else { held + MEMORY_STEP };
        let granted = [wanted, held].into_iter().find(|bytes| self.share.hold(*bytes).is_ok());
        self.granted = granted.unwrap_or(self.granted);
        granted.is_some()
    }

    /// Begins to keep what is gathered, if it is time to.
    async fn keep(&mut self) -> Result<bool, Cut> {
        if !matches!(self.keeping, Keeping::Nothing) {
            return Ok(false);
        }
        let Some(batch) = self.session.next(self.is_short) else { return Ok(false) };
        self.told = self.terms.clock.uptime();
        if batch.events.is_empty() {
            // Of empty windows.
            let told = self.session.kept(&batch.owed);
            self.tell(&told).await?;
        } else {
            self.append(batch);
        }
        Ok(true)
    }

    fn append(&mut self, Batch { events, owed }: Batch) {
        self.freed.borrow_and_update();
        let (size, log) = (events.size(), self.terms.log.clone());
        let append = Box::pin(async move { log.offer(events).await });
        self.keeping = Keeping::Appending { append, owed, size };
    }

    /// Tries again what was refused.
    fn retry(&mut self) {
        match std::mem::replace(&mut self.keeping, Keeping::Nothing) {
            Keeping::Refused { batch, .. } => self.append(batch),
            other => self.keeping = other,
        }
    }

    /// Whether nothing new is to be begun.
    fn is_leaving(&self) -> bool {
        !self.session.is_in_window() && self.guest.is_stopping()
    }

    /// Whether nothing is left to do for this sender.
    fn is_done(&self) -> bool {
        let is_last = self.broken.is_some() || self.is_over || self.is_leaving();
        match self.keeping {
            Keeping::Nothing => is_last,
            // It has to send again what is not acknowledged; when weir stops there will be no room.
            Keeping::Refused { .. } => self.is_over || self.guest.is_stopping(),
            Keeping::Appending { .. } => false,
        }
    }

    /// Whether something has begun to come and is not whole.
    fn is_unfinished(&self) -> bool {
        self.session.is_in_window() || !self.decoder.is_between_frames()
    }

    fn is_reading(&self) -> bool {
        !self.session.is_full() && !self.is_short && !self.is_over && self.broken.is_none() && !self.is_leaving()
    }

    /// Who has nothing to do makes room for others.
    fn take_place(&mut self) {
        let doing = match self.keeping {
            Keeping::Nothing if self.is_unfinished() => Doing::Sending,
            Keeping::Nothing if self.doing == Doing::Arriving => Doing::Arriving,
            Keeping::Nothing => Doing::Idle,
            Keeping::Appending { .. } | Keeping::Refused { .. } => Doing::Working,
        };
        if doing != self.doing {
            self.doing = doing;
            self.guest.is(doing);
        }
        let is_idle = matches!(doing, Doing::Arriving | Doing::Idle);
        if is_idle == self.is_idle {
            return;
        }
        self.is_idle = is_idle;
        self.heard = (self.terms.clock.uptime(), 0);
    }

    /// When to look at the time again.
    fn wake(&self, now: Duration) -> Duration {
        let heard = self.heard.0;
        let deadline = match self.is_idle {
            true if self.decoder.footprint() > 0 => heard + KEEP_ALIVE.min(self.terms.idle_timeout),
            true => heard + self.terms.idle_timeout,
            false if self.is_short => now + MEMORY_RETRY,
            false if self.is_unfinished() => heard + self.terms.timeout,
            false => Duration::MAX,
        };
        let retry = match self.keeping {
            Keeping::Nothing => Duration::MAX,
            Keeping::Appending { .. } => self.told + KEEP_ALIVE,
            Keeping::Refused { until, .. } => until.min(self.told + KEEP_ALIVE),
        };
        deadline.min(retry)
    }

    async fn wait(&mut self) -> Happened {
        let now = self.terms.clock.uptime();
        let is_reading = self.is_reading();
        if !is_reading && (!self.is_short || !matches!(self.keeping, Keeping::Nothing)) {
            // It is not the sender who lets us wait.
            self.heard = (now, 0);
        }
        let wake = self.wake(now).saturating_sub(now);
        let is_stopping = self.guest.is_stopping();
        let (stream, decoder) = (&mut self.stream, &mut self.decoder);
        let is_refused = matches!(self.keeping, Keeping::Refused { .. });
        let appending = match &mut self.keeping {
            Keeping::Appending { append, .. } => Some(append),
            _ => None,
        };
        let is_appending = appending.is_some();
        let appended = async {
            match appending {
                Some(append) => append.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            kept = appended, if is_appending => Happened::Appended(kept),
            read = async { stream.read_buf(decoder.room(READ)).await }, if is_reading => Happened::Read(read),
            Ok(()) = self.freed.changed(), if is_refused => Happened::Freed,
            () = self.guest.stopping(), if !is_stopping => Happened::Stopping,
            () = self.terms.clock.sleep(wake) => Happened::Time,
        }
    }

    fn has_read(&mut self, count: usize) {
        self.is_over = count == 0;
        self.heard.1 += count;
        if self.heard.1 >= PROGRESS {
            self.heard = (self.terms.clock.uptime(), 0);
        }
    }

    async fn has_appended(&mut self, kept: Kept) -> Result<(), Cut> {
        let Keeping::Appending { owed, .. } = std::mem::replace(&mut self.keeping, Keeping::Nothing) else {
            return Ok(());
        };
        match kept {
            Ok(()) => {
                let told = self.session.kept(&owed);
                self.tell(&told).await
            }
            Err((error, events)) => {
                if events.is_empty() {
                    // The writer took them along, and ended: there is nothing to be told.
                    return Err(io::Error::other(error).into());
                }
                self.keeping =
                    Keeping::Refused { batch: Batch { events, owed }, until: self.terms.clock.uptime() + RETRY };
                Ok(())
            }
        }
    }

    async fn look_at_time(&mut self) -> Result<(), Cut> {
        let now = self.terms.clock.uptime();
        let (since, _) = self.heard;
        if self.is_idle {
            if now >= since + self.terms.idle_timeout {
                return Err(Cut::Idle);
            }
            self.decoder.rest();
            self.has_memory(0);
        } else if self.is_unfinished() && now >= since + self.terms.timeout {
            return Err(if self.is_short { Cut::NoMemory } else { Cut::Slow });
        }
        if !matches!(self.keeping, Keeping::Nothing) && now >= self.told + KEEP_ALIVE {
            let nothing_new = self.session.keep_alive();
            self.tell(&nothing_new).await?;
        }
        if matches!(self.keeping, Keeping::Refused { until, .. } if now >= until) {
            self.retry();
        }
        Ok(())
    }

    async fn tell(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        let (stream, clock) = (&mut self.stream, &self.terms.clock);
        let told = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        tokio::select! {
            told = told => told?,
            () = clock.sleep(self.terms.timeout) => return Err(Cut::Deaf),
        }
        self.told = clock.uptime();
        Ok(())
    }
}
