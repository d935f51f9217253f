//! What an answer of a push source costs: MB/s and the time of an append, by the number of senders; and how long a log
//! takes to open.
//!
//! usage: `push-log DIR [SECONDS]`; DIR is a folder on the disk in question. A sender appends batches of 100 events of 450
//! bytes, one after the other.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use weir::component::{BuildContext, PushLog, Pushed};
use weir::event::{Codec, Timestamp};
use weir::state::DirStorage;

const BATCH: usize = 100;
const EVENT: usize = 450;
const MAX_SIZE: u64 = 64 << 30;

fn open(dir: &Path) -> weir::Result<(PushLog, weir::component::PushOrigin)> {
    let (mut context, _rejected) = BuildContext::detached("bench");
    let storage = DirStorage::open(dir)
        .map_err(|error| weir::Error::new(weir::error::ErrorKind::Io, "open", "refused").caused_by(error))?;
    context.storage = Arc::new(storage);
    PushLog::open(&context, MAX_SIZE, Codec::Raw)
}

async fn send(log: PushLog, over: Arc<AtomicBool>) -> Vec<Duration> {
    let body = [b'-'; EVENT];
    let mut took = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let mut pushed = Pushed::new(Timestamp(0));
        (0..BATCH).for_each(|_| pushed.push(&body));
        let begun = Instant::now();
        if let Err(error) = log.append(pushed).await {
            eprintln!("{error}");
            break;
        }
        took.push(begun.elapsed());
    }
    took
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: push-log DIR [SECONDS]")?;
    let span = Duration::from_secs(args.next().map_or(Ok(5), |seconds| seconds.parse())?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("{:>8} {:>10} {:>12} {:>10} {:>10}", "senders", "MB/s", "events/s", "p50 ms", "p99 ms");
    for senders in [1_usize, 10, 100] {
        let dir = Path::new(&dir).join(format!("senders-{senders}"));
        let (log, origin) = open(&dir)?;
        let over = Arc::new(AtomicBool::new(false));
        let begun = Instant::now();
        let mut took: Vec<Duration> = runtime.block_on(async {
            let tasks: Vec<_> = (0..senders).map(|_| tokio::spawn(send(log.clone(), over.clone()))).collect();
            tokio::time::sleep(span).await;
            over.store(true, Ordering::Relaxed);
            let mut all = Vec::new();
            for task in tasks {
                all.extend(task.await.unwrap_or_default());
            }
            all
        });
        let seconds = begun.elapsed().as_secs_f64();
        took.sort_unstable();
        let part = |part: usize| took.get(took.len() * part / 100).map_or(0.0, |took| took.as_secs_f64() * 1e3);
        let events = (took.len() * BATCH) as f64 / seconds;
        println!(
            "{senders:>8} {:>10.0} {events:>12.0} {:>10.2} {:>10.2}",
            events * EVENT as f64 / 1e6,
            part(50),
            part(99)
        );
        drop((log, origin));
        let begun = Instant::now();
        let reopened = open(&dir)?;
        println!(
            "{:>8} {:.0} MB in the log, open again after {:.1?}",
            "",
            (took.len() * BATCH * EVENT) as f64 / 1e6,
            begun.elapsed()
        );
        drop(reopened);
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(())
}
