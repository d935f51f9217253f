//! A real Elasticsearch or OpenSearch of a test's own, and questions to it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::wait::PATIENCE;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/services/elasticsearch");

/// What `tests/services/elasticsearch` starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Elasticsearch 8.19.
    Elasticsearch8,
    /// Elasticsearch 9.1.
    Elasticsearch9,
    /// OpenSearch 2.19.
    OpenSearch2,
    /// OpenSearch 3.3.
    OpenSearch3,
}

impl Kind {
    /// All there are.
    pub const ALL: [Kind; 4] = [Kind::Elasticsearch8, Kind::Elasticsearch9, Kind::OpenSearch2, Kind::OpenSearch3];

    fn name(self) -> &'static str {
        match self {
            Kind::Elasticsearch8 => "elasticsearch-8",
            Kind::Elasticsearch9 => "elasticsearch-9",
            Kind::OpenSearch2 => "opensearch-2",
            Kind::OpenSearch3 => "opensearch-3",
        }
    }

    /// Whether it [counts](OwnSearch::bulk_requests) the requests it gets.
    pub fn counts_requests(self) -> bool {
        matches!(self, Kind::Elasticsearch8 | Kind::Elasticsearch9)
    }
}

/// A node; it stops when this is dropped, also when the test has failed.
#[derive(Debug)]
pub struct OwnSearch {
    dir: TempDir,
    address: String,
    kind: Kind,
}

impl OwnSearch {
    /// Starts one; returns when it is ready.
    pub fn start(kind: Kind) -> OwnSearch {
        let port = call(&["free-port".as_ref()]);
        let dir = tempfile::Builder::new().prefix("weir-search-").tempdir().unwrap();
        let search = OwnSearch { dir, address: format!("127.0.0.1:{port}"), kind };
        search.restart();
        search
    }

    /// Starts it where it was.
    pub fn restart(&self) {
        let (_, port) = self.address.split_once(':').unwrap();
        call(&["start".as_ref(), port.as_ref(), self.dir.path(), self.kind.name().as_ref()]);
    }

    /// Ends it without warning, as a crash would; what it has said it has stays.
    pub fn kill(&self) {
        call(&["kill".as_ref(), self.dir.path()]);
    }

    /// Where it is to be found.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks it; gives status and answer.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(&whole(head, body)).unwrap_or_default())
    }

    /// The same, which has to go well.
    pub fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, &Value::Null);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// How many documents an index has, after what was written is to be seen.
    pub fn count(&self, index: &str) -> u64 {
        let (status, _) = self.ask("POST", &format!("/{index}/_refresh"), &Value::Null);
        if status == 404 {
            return 0;
        }
        self.get(&format!("/{index}/_count"))["count"].as_u64().unwrap()
    }

    /// Bulk requests it has got for the shards of an index; OpenSearch does not count them.
    pub fn bulk_requests(&self, index: &str) -> Option<u64> {
        self.get(&format!("/{index}/_stats"))["_all"]["primaries"]["bulk"]["total_operations"].as_u64()
    }
}

impl Drop for OwnSearch {
    fn drop(&mut self) {
        // A panic here would hide the test's own.
        let _ = Command::new(SCRIPT).arg("stop").arg(self.dir.path()).status();
    }
}

/// A body without the sizes of its chunks: Elasticsearch sends chunks, also to those who speak HTTP 1.0.
pub(crate) fn whole(head: &str, mut body: &str) -> String {
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

fn call(args: &[&Path]) -> String {
    let output = Command::new(SCRIPT).args(args).stderr(std::process::Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{SCRIPT} {args:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
