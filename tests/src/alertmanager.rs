//! An Alertmanager of a test's own.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::wait::PATIENCE;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/services/alertmanager");

/// An Alertmanager; it stops when this is dropped, also when the test has failed.
#[derive(Debug)]
pub struct OwnAlertmanager {
    dir: TempDir,
    address: String,
}

impl OwnAlertmanager {
    /// One that is not started yet.
    pub fn reserve() -> OwnAlertmanager {
        let port = call(&["free-port".as_ref()]);
        let dir = tempfile::Builder::new().prefix("weir-alertmanager-").tempdir().unwrap();
        OwnAlertmanager { dir, address: format!("127.0.0.1:{port}") }
    }

    /// Starts it; returns when it is ready.
    pub fn start(&self) {
        let (_, port) = self.address.split_once(':').unwrap();
        call(&["start".as_ref(), port.as_ref(), self.dir.path()]);
    }

    /// Ends it without warning, as a crash would. It forgets all alerts with that.
    pub fn kill(&self) {
        call(&["kill".as_ref(), self.dir.path()]);
    }

    /// Where it is to be found.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The alerts that are not resolved, by their labels as JSON.
    pub fn active(&self) -> BTreeMap<String, Value> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // 1.0, for an answer in one piece
        write!(stream, "GET /api/v2/alerts HTTP/1.0\r\nHost: {}\r\n\r\n", self.address).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{answer}");
        let alerts: Vec<Value> = serde_json::from_str(body).unwrap();
        alerts.into_iter().map(|alert| (alert["labels"].to_string(), alert)).collect()
    }
}

impl Drop for OwnAlertmanager {
    fn drop(&mut self) {
        // Of one that is gone already there is nothing to stop; a panic here would hide the test's own.
        let _ = Command::new(SCRIPT).arg("stop").arg(self.dir.path()).status();
    }
}

fn call(args: &[&Path]) -> String {
    let output = Command::new(SCRIPT).args(args).stderr(std::process::Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{SCRIPT} {args:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
