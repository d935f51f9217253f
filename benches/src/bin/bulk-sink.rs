//! What a document costs the sink `elasticsearch`: a bulk server that answers at once, in this process, and weir in its own.
//!
//! usage: `bulk-sink WEIR [--documents N] [--gzip]`
//!
//! Documents are lines of a file, Kubernetes events of some 450 bytes. The file is read twice: into `blackhole`, and into the
//! sink; the difference is the sink. Prints one line of JSON.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use clap::Parser;
use flate2::read::GzDecoder;

#[derive(Parser)]
struct Args {
    /// The weir binary
    weir: std::path::PathBuf,
    /// Documents
    #[arg(long, default_value_t = 2_000_000)]
    documents: usize,
    /// Compresses requests
    #[arg(long)]
    gzip: bool,
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Answers bulk requests: each of its documents was written.
fn serve(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(1 << 20, stream);
    let (mut body, mut plain) = (Vec::new(), Vec::new());
    loop {
        let (mut size, mut is_gzip) = (0, false);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                size = value.trim().parse()?;
            }
            is_gzip |= line == "content-encoding: gzip";
        }
        body.resize(size, 0);
        reader.read_exact(&mut body)?;
        let lines = if is_gzip {
            plain.clear();
            GzDecoder::new(&body[..]).read_to_end(&mut plain)?;
            &plain
        } else {
            &body
        };
        let count = memchr::memchr_iter(b'\n', lines).count() / 2;
        let mut answer = String::from("{\"errors\":false,\"items\":[");
        for number in 0..count {
            answer.push_str(if number == 0 { "" } else { "," });
            answer.push_str("{\"index\":{\"status\":201}}");
        }
        answer.push_str("]}");
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
        writer.write_all(format!("{head}: {}\r\n\r\n{answer}", answer.len()).as_bytes())?;
    }
}

/// A file of events as a cluster has them.
fn write_documents(path: &Path, count: usize) -> Result<u64> {
    let mut text = String::new();
    for n in 0..count {
        let reason = ["BackOff", "Pulled", "Created", "Scheduled", "Started"][n % 5];
        writeln!(
            text,
            "{{\"verb\":\"ADDED\",\"event\":{{\"metadata\":{{\"name\":\"checkout-{n:07}.17f3a5c2\",\"namespace\":\"shop-{}\",\"uid\":\
             \"6f1d2c3b-8e4a-4c1d-9b2e-{n:012}\"}},\"involvedObject\":{{\"kind\":\"Pod\",\"namespace\":\"shop-{}\",\"name\":\
             \"checkout-{n:07}\"}},\"reason\":\"{reason}\",\"message\":\"Back-off restarting failed container checkout in pod\",\
             \"source\":{{\"component\":\"kubelet\",\"host\":\"node-{}\"}},\"firstTimestamp\":\"2026-03-01T12:00:00Z\",\
             \"lastTimestamp\":\"2026-03-01T12:00:00Z\",\"count\":{},\"type\":\"Warning\"}}}}",
            n % 17,
            n % 17,
            n % 40,
            n % 90 + 1
        )?;
    }
    std::fs::write(path, &text)?;
    Ok(text.len() as u64)
}

/// What a run took.
struct Cost {
    /// Seconds on the clock, from start to end.
    wall: f64,
    /// Seconds of CPU.
    cpu: f64,
    /// The most resident memory, in KiB.
    peak: u64,
}

/// Runs a graph to its end, under the system's `time`.
fn run(weir: &Path, dir: &Path, sink: &str) -> Result<Cost> {
    let graph = format!(
        "name: bench\nsources: {{in: {{type: file, paths: [in.ndjson], decoding: json}}}}\nsinks: {{out: {{inputs: [in], {sink}}}}}\n"
    );
    std::fs::write(dir.join("graph.yaml"), graph)?;
    let started = Instant::now();
    let mut child = Command::new(weir).args(["run", "--once", "graph.yaml"]).current_dir(dir).spawn()?;
    let mut peak = 0;
    let (mut ticks, id) = (0, child.id());
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if let Ok(text) = std::fs::read_to_string(format!("/proc/{id}/status")) {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let now = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            peak = now.unwrap_or(peak).max(peak);
        }
        if let Ok(text) = std::fs::read_to_string(format!("/proc/{id}/stat"))
            && let Some((_, rest)) = text.rsplit_once(") ")
        {
            let fields: Vec<&str> = rest.split(' ').collect();
            let used: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
            ticks = used.max(ticks);
        }
        std::thread::park_timeout(std::time::Duration::from_millis(2));
    };
    if !status.success() {
        return Err(format!("weir ended with {status}").into());
    }
    Ok(Cost { wall: started.elapsed().as_secs_f64(), cpu: ticks as f64 / 100.0, peak })
}

fn main() -> Result<()> {
    let args = Args::parse();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    let dir = std::env::temp_dir().join(format!("weir-bulk-sink-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let bytes = write_documents(&dir.join("in.ndjson"), args.documents)?;
    let weir = args.weir.canonicalize()?;
    let base = run(&weir, &dir, "type: blackhole")?;
    let compression = if args.gzip { "gzip" } else { "none" };
    let sink = format!("type: elasticsearch, endpoints: [\"{url}\"], index: logs, compression: {compression}");
    let cost = run(&weir, &dir, &sink)?;
    std::fs::remove_dir_all(&dir)?;
    let per = |seconds: f64| (seconds * 1e9 / args.documents as f64).round() / 1000.0;
    println!(
        "{}",
        serde_json::json!({
            "documents": args.documents, "bytes_each": bytes / args.documents as u64, "compression": compression,
            "cpu_us_each": per(cost.cpu), "cpu_us_each_without_sink": per(base.cpu), "sink_cpu_us_each": per(cost.cpu - base.cpu),
            "documents_per_second": (args.documents as f64 / cost.wall).round(), "peak_kib": cost.peak,
        })
    );
    Ok(())
}
