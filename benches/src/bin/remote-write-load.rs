//! A sender of remote write: as many samples a second as its peer takes, and what each cost the peer.
//!
//! usage: `remote-write-load ADDRESS PATH SERIES ROUNDS [--connections N] [--pid PID] [--version 1|2]`
//!
//! Every round sends one sample of each series, 2000 series a request, 15 s later than the round before. Series have ten
//! labels, as those of a cluster's containers. With `--pid` the CPU time of that process is taken before and after, and its
//! peak of memory. Prints one line of JSON.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;

/// Series of one request.
const BATCH: usize = 2000;
/// From one sample of a series to the next, in milliseconds.
const STEP: u64 = 15_000;

#[derive(Parser)]
struct Args {
    /// Where the peer listens: `127.0.0.1:9090`
    address: String,
    /// The path it takes requests on
    path: String,
    /// Series
    series: usize,
    /// Samples of each
    rounds: usize,
    /// Connections, each with its part of the series
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// The peer's process
    #[arg(long)]
    pid: Option<u32>,
    /// The protocol's version
    #[arg(long, default_value_t = 1)]
    version: u8,
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn field(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    varint(number << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Series number `i`, as one of a cluster's containers; sorted as the protocol has it.
fn labels(i: usize) -> BTreeMap<&'static str, String> {
    let hash = i.wrapping_mul(2_654_435_761);
    let name = if i % 2 == 1 { "container_cpu_usage_seconds_total" } else { "container_memory_working_set_bytes" };
    BTreeMap::from([
        ("__name__", name.to_owned()),
        ("cluster", "prod-eu-1".to_owned()),
        ("container", format!("main{}", i % 4)),
        ("id", format!("/kubepods/pod{:08x}", i.wrapping_mul(40_503) & 0xffff_ffff)),
        ("image", format!("registry.local/app:{}", i % 97)),
        ("instance", format!("10.0.{}.{}:10250", i % 60, i % 250)),
        ("job", "kubelet".to_owned()),
        ("namespace", format!("team-{:02}", i % 40)),
        ("node", format!("node-{:02}", i % 60)),
        ("pod", format!("svc-{:05}-{:x}", i / 4, hash & 0xf_ffff)),
    ])
}

/// The series of one request, as far as they are the same in every round.
struct Batch {
    /// What stands before the series: the symbols of version 2.
    head: Vec<u8>,
    series: Vec<Vec<u8>>,
    is_v2: bool,
}

impl Batch {
    fn new(range: std::ops::Range<usize>, is_v2: bool) -> Batch {
        let (mut head, mut symbols) = (Vec::new(), BTreeMap::from([(String::new(), 0_u64)]));
        if is_v2 {
            field(4, b"", &mut head);
        }
        let series = range.map(|i| {
            let mut out = Vec::new();
            let mut refs = Vec::new();
            for (name, value) in labels(i) {
                if is_v2 {
                    for text in [name.to_owned(), value] {
                        let next = symbols.len() as u64;
                        let number = *symbols.entry(text.clone()).or_insert_with(|| {
                            field(4, text.as_bytes(), &mut head);
                            next
                        });
                        varint(number, &mut refs);
                    }
                } else {
                    let mut label = Vec::new();
                    field(1, name.as_bytes(), &mut label);
                    field(2, value.as_bytes(), &mut label);
                    field(1, &label, &mut out);
                }
            }
            if is_v2 {
                field(1, &refs, &mut out);
            }
            out
        });
        let series = series.collect();
        Batch { head, series, is_v2 }
    }

    /// The message of a round.
    fn message(&self, round: usize, time: u64) -> Vec<u8> {
        let mut message = self.head.clone();
        let (mut sample, mut series) = (Vec::new(), Vec::new());
        for (at, labels) in self.series.iter().enumerate() {
            sample.clear();
            sample.push(0x09);
            sample.extend_from_slice(&((round * 3 + (at & 7)) as f64).to_le_bytes());
            sample.push(0x10);
            varint(time, &mut sample);
            series.clear();
            series.extend_from_slice(labels);
            field(2, &sample, &mut series);
            field(if self.is_v2 { 5 } else { 1 }, &series, &mut message);
        }
        message
    }
}

/// One connection, which is kept.
struct Sender {
    stream: BufReader<TcpStream>,
    head: String,
}

impl Sender {
    fn connect(args: &Args) -> Result<Sender> {
        let stream = TcpStream::connect(&args.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let (content, version) = match args.version {
            2 => ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
            _ => ("application/x-protobuf", "0.1.0"),
        };
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Encoding: snappy\r\nContent-Type: {content}\r\n\
             X-Prometheus-Remote-Write-Version: {version}\r\n",
            args.path, args.address
        );
        Ok(Sender { stream: BufReader::new(stream), head })
    }

    /// Sends one body and reads the answer, which must be good.
    fn post(&mut self, body: &[u8]) -> Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(format!("{}Content-Length: {}\r\n\r\n", self.head, body.len()).as_bytes())?;
        stream.write_all(body)?;
        let mut status = String::new();
        self.stream.read_line(&mut status)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            match line.trim_end().to_ascii_lowercase().split_once(':') {
                Some(("content-length", value)) => length = value.trim().parse()?,
                Some(_) => {}
                None => break,
            }
        }
        let mut text = vec![0; length];
        self.stream.read_exact(&mut text)?;
        match status.split(' ').nth(1) {
            Some("200" | "204") => Ok(()),
            _ => Err(format!("{} {}", status.trim_end(), String::from_utf8_lossy(&text)).into()),
        }
    }
}

/// Seconds of CPU that a process has used, by all its threads.
fn cpu(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    // Ticks are hundredths of a second on every Linux there is.
    Ok((ticks(11) + ticks(12)) / 100.0)
}

/// The most memory a process has had resident, in MiB.
fn peak(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? / 1024)
}

fn send(args: &Args, range: std::ops::Range<usize>, begin: u64) -> Result<usize> {
    let batches: Vec<Batch> =
        range.clone().step_by(BATCH).map(|at| Batch::new(at..(at + BATCH).min(range.end), args.version == 2)).collect();
    let mut sender = Sender::connect(args)?;
    let mut snappy = snap::raw::Encoder::new();
    let mut sent = 0;
    for round in 0..args.rounds {
        for batch in &batches {
            let message = batch.message(round, begin + round as u64 * STEP);
            sender.post(&snappy.compress_vec(&message)?)?;
            sent += batch.series.len();
        }
    }
    Ok(sent)
}

#[expect(clippy::disallowed_methods, reason = "a sender of samples has the time of the world")]
fn main() -> Result<()> {
    let args = Args::parse();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let begin = now - args.rounds as u64 * STEP;
    let before = args.pid.map(cpu).transpose()?;
    let started = Instant::now();
    let part = args.series.div_ceil(args.connections);
    let sent: Result<usize> = std::thread::scope(|scope| {
        let ranges = (0..args.series).step_by(part).map(|at| at..(at + part).min(args.series));
        let senders: Vec<_> = ranges.map(|range| scope.spawn(|| send(&args, range, begin))).collect();
        senders.into_iter().map(|sender| sender.join().unwrap_or_else(|_| Err("a sender panicked".into()))).sum()
    });
    let (sent, seconds) = (sent?, started.elapsed().as_secs_f64());
    let used = match (args.pid, before) {
        (Some(pid), Some(before)) => Some((cpu(pid)? - before, peak(pid)?)),
        _ => None,
    };
    let report = serde_json::json!({
        "samples": sent,
        "seconds": (seconds * 100.0).round() / 100.0,
        "samples_per_second": (sent as f64 / seconds).round(),
        "cpu_us_per_sample": used.map(|(cpu, _)| (cpu * 1e8 / sent as f64).round() / 100.0),
        "peak_mib": used.map(|(_, peak)| peak),
    });
    println!("{report}");
    Ok(())
}
