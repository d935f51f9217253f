//! Stands between a sink and a real Elasticsearch, and lets go wrong what a real one cannot be made to do: it is away, it has
//! no room for some items, and there are items that it never takes.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::bulk::{Asked, Item, parse, read, response};
use crate::search::whole;
use crate::wait::PATIENCE;

/// What becomes of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The server decides.
    Goes,
    /// 429 for the first time, then the server decides.
    Waits,
    /// 400, each time.
    Refused,
}

/// Decides on an item.
pub type Fates = Box<dyn FnMut(&Item) -> Fate + Send>;

#[derive(Default)]
struct State {
    is_away: bool,
    fates: Option<Fates>,
    /// Items that have waited, by index and id.
    waited: HashSet<(String, String)>,
    streams: Vec<TcpStream>,
    counts: Counts,
}

/// What has passed.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Items of each bulk request that was answered by the server, or would have been.
    pub sizes: Vec<usize>,
    /// Items that were answered with 429.
    pub waits: usize,
}

/// The proxy. It listens as long as the process runs.
#[derive(Clone)]
pub struct BulkProxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl BulkProxy {
    /// One in front of a server, given as `http://host:port`.
    pub fn start(server: &str) -> BulkProxy {
        let server = server.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = BulkProxy { address: listener.local_addr().unwrap(), state: Arc::default() };
        let accepting = proxy.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut state = accepting.state();
                // Nobody is there: the connection is closed at once.
                if !state.is_away {
                    state.streams.push(stream.try_clone().unwrap());
                    let (proxy, server) = (accepting.clone(), server.clone());
                    std::thread::spawn(move || proxy.serve(stream, &server));
                }
            }
        });
        proxy
    }

    /// Where it is to be found.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nobody is there; what is under way is cut off.
    pub fn goes_away(&self) {
        let mut state = self.state();
        state.is_away = true;
        for stream in state.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// The server is back.
    pub fn comes_back(&self) {
        self.state().is_away = false;
    }

    /// From now on these decide.
    pub fn decide(&self, fates: impl FnMut(&Item) -> Fate + Send + 'static) {
        self.state().fates = Some(Box::new(fates));
    }

    /// What has passed.
    pub fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream, server: &str) {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        let mut writer = stream;
        while let Some(asked) = read(&mut reader) {
            let answer =
                if asked.path == "/_bulk" { self.bulk(&asked, server) } else { forward(&asked, &asked.body, server) };
            if answer.and_then(|answer| writer.write_all(&answer).ok()).is_none() {
                break;
            }
        }
        let _ = writer.shutdown(Shutdown::Both);
    }

    fn bulk(&self, asked: &Asked, server: &str) -> Option<Vec<u8>> {
        let items = parse(&asked.body);
        let fates: Vec<Fate> = items.iter().map(|item| self.fate(item)).collect();
        let mut body = Vec::new();
        for (item, _) in items.iter().zip(&fates).filter(|(_, fate)| **fate == Fate::Goes) {
            writeln!(body, "{}\n{}", json!({ item.action.clone(): item.head }), item.line).unwrap();
        }
        let mut said = match body.is_empty() {
            true => json!({"items": []}),
            false => {
                let answer = String::from_utf8(forward(asked, &body, server)?).ok()?;
                let (head, body) = answer.split_once("\r\n\r\n")?;
                if !head.contains(" 200 ") {
                    return Some(answer.into_bytes());
                }
                serde_json::from_str::<Value>(body).ok()?
            }
        };
        let mut of_server = said["items"].as_array_mut()?.drain(..);
        let end = |(item, fate): (&Item, &Fate)| match fate {
            Fate::Goes => of_server.next(),
            Fate::Waits => Some(failed(item, 429, "es_rejected_execution_exception")),
            Fate::Refused => Some(failed(item, 400, "document_parsing_exception")),
        };
        let all = items.iter().zip(&fates).map(end).collect::<Option<Vec<Value>>>()?;
        let is_failed =
            |item: &Value| item.as_object().is_some_and(|item| item.values().any(|end| !end["error"].is_null()));
        let has_errors = all.iter().any(is_failed);
        let mut state = self.state();
        state.counts.sizes.push(items.len());
        state.counts.waits += fates.iter().filter(|fate| **fate == Fate::Waits).count();
        Some(response(200, "", &json!({"took": 1, "errors": has_errors, "items": all}).to_string()).bytes)
    }

    fn fate(&self, item: &Item) -> Fate {
        let mut state = self.state();
        let State { fates: Some(fates), waited, .. } = &mut *state else { return Fate::Goes };
        match fates(item) {
            Fate::Waits if !waited.insert((item.text("_index"), item.text("_id"))) => Fate::Goes,
            fate => fate,
        }
    }
}

fn failed(item: &Item, status: u16, kind: &str) -> Value {
    let error = json!({"type": kind, "reason": "the proxy says so"});
    json!({ item.action.clone(): {"_index": item.text("_index"), "_id": item.text("_id"), "status": status, "error": error} })
}

/// Whether a line of a head is about the way to the proxy alone.
fn is_own(line: &str) -> bool {
    let own = ["host", "content-length", "content-encoding", "accept-encoding", "connection", "transfer-encoding"];
    line.split_once(':').is_some_and(|(name, _)| own.iter().any(|own| name.eq_ignore_ascii_case(own)))
}

/// The server's answer to a request with this body, with a length where it had none.
fn forward(asked: &Asked, body: &[u8], server: &str) -> Option<Vec<u8>> {
    let target = if asked.query.is_empty() { asked.path.clone() } else { format!("{}?{}", asked.path, asked.query) };
    let mut stream = TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    // 1.0, for an answer in one piece
    let mut head =
        format!("{} {target} HTTP/1.0\r\nHost: {server}\r\nContent-Length: {}\r\n", asked.method, body.len());
    for line in asked.head.iter().filter(|line| !is_own(line)) {
        head += &format!("{line}\r\n");
    }
    head += "\r\n";
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let product = head.lines().find(|line| line.to_ascii_lowercase().starts_with("x-elastic-product"));
    let more = product.map(|line| format!("{line}\r\n")).unwrap_or_default();
    Some(response(status, &more, &whole(head, body)).bytes)
}
