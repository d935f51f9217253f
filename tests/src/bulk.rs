//! A bulk server of a test's own: it speaks as much of Elasticsearch's HTTP interface as a sink needs, keeps what it is
//! sent, and fails as it is told to.
//!
//! It is no Elasticsearch. It is here because a real one cannot be made to answer half of what it means to say. What the
//! words of the interface mean was taken from a real one, and `real_elasticsearch.rs` holds the sink against that.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};

/// The largest body it reads.
const LARGEST: usize = 64 << 20;

/// One item of a bulk request.
#[derive(Debug, Clone)]
pub struct Item {
    /// `index`, `create`, `update` or `delete`.
    pub action: String,
    /// What stands beside it: `_index`, `_id`, `routing`, ...
    pub head: Map<String, Value>,
    /// The document's line, without its newline; empty with `delete`.
    pub line: String,
}

impl Item {
    /// What stands beside the action by this name, as a text.
    pub fn text(&self, name: &str) -> String {
        self.head.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// The document.
    pub fn document(&self) -> Value {
        serde_json::from_str(&self.line).unwrap_or_default()
    }
}

/// What the server does with a bulk request.
#[derive(Debug, Clone)]
pub enum Play {
    /// What is right.
    Right,
    /// What is right, but for items with a status other than 0, which fail with that.
    Items(Vec<u16>),
    /// Fails with this status, and writes nothing.
    Status(u16),
    /// The same, and asks to be left alone for so many seconds.
    LaterBy(u16, u64),
    /// Closes the connection without an answer; `true`: after it has written everything.
    Cut(bool),
    /// Writes everything, and closes the connection in the middle of its answer.
    Half,
    /// Writes everything, and tells of one item less than it was sent.
    Short,
    /// Waits, then goes on.
    After(Duration, Box<Play>),
    /// Fails the items of an index with this error, and does what is right with the others.
    Refuse(Refusal),
    /// Answers with these lines in its head and these bytes, which it repeats for ever if it `is_endless`.
    Hostile {
        /// Lines of the head, each with its end.
        head: String,
        /// The bytes behind the head.
        bytes: Vec<u8>,
        /// Whether they are repeated.
        is_endless: bool,
    },
}

/// What an index that takes no documents answers.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Its name.
    pub index: String,
    /// The status of each item.
    pub status: u16,
    /// The type of the error.
    pub kind: &'static str,
    /// The reason.
    pub reason: String,
}

impl Play {
    /// An answer that never ends.
    pub fn endless() -> Play {
        let chunk = [&b"10000\r\n"[..], &vec![b' '; 1 << 16], b"\r\n"].concat();
        Play::Hostile { head: "transfer-encoding: chunked\r\n".to_owned(), bytes: chunk, is_endless: true }
    }

    /// An answer of some kilobytes that is 2 GiB when it is decompressed.
    pub fn bomb() -> Play {
        let mut member = GzEncoder::new(Vec::new(), Compression::best());
        member.write_all(&vec![b' '; 64 << 20]).unwrap();
        let body = member.finish().unwrap().repeat(32);
        let head = format!("content-encoding: gzip\r\ncontent-length: {}\r\n", body.len());
        Play::Hostile { head, bytes: body, is_endless: false }
    }
}

/// Decides on each bulk request.
pub type Script = Box<dyn FnMut(&[Item]) -> Play + Send>;

/// What the server has.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The document's line.
    pub line: String,
    /// Its version.
    pub version: i64,
}

/// What the server has seen.
#[derive(Default)]
pub struct Seen {
    /// Documents by index and id.
    pub store: BTreeMap<(String, String), Stored>,
    /// Items of each bulk request that was written, in order.
    pub sizes: Vec<usize>,
    /// Bulk requests, also those that failed.
    pub requests: usize,
    /// Index templates by name.
    pub templates: BTreeMap<String, Value>,
    /// Items that came again though their own 2xx had been answered.
    pub again_after_success: Vec<String>,
    /// The most bulk requests at once.
    pub most_at_once: usize,
    /// Header lines of the last request.
    pub head: Vec<String>,
    /// Names that are aliases.
    pub aliases: HashSet<String>,
    at_once: usize,
    made_up: u64,
    told: HashSet<(String, String, String)>,
}

struct State {
    seen: Mutex<Seen>,
    script: Mutex<Script>,
    /// The header `Authorization` that is asked for.
    auth: Mutex<Option<String>>,
    /// The largest body that is taken.
    max_bytes: Mutex<usize>,
    is_closed: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

/// A bulk server. It ends when it is dropped.
pub struct BulkServer {
    address: SocketAddr,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BulkServer {
    /// One that does what is right.
    pub fn start() -> BulkServer {
        BulkServer::play(|_| Play::Right)
    }

    /// One that follows a script.
    pub fn play(script: impl FnMut(&[Item]) -> Play + Send + 'static) -> BulkServer {
        let state = Arc::new(State {
            seen: Mutex::default(),
            script: Mutex::new(Box::new(script)),
            auth: Mutex::default(),
            max_bytes: Mutex::new(LARGEST),
            is_closed: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = BulkServer { address, state, accepting: None };
        server.accept(listener);
        server
    }

    fn accept(&mut self, listener: TcpListener) {
        let state = self.state.clone();
        state.is_closed.store(false, Ordering::SeqCst);
        self.accepting = Some(std::thread::spawn(move || {
            for stream in listener.incoming() {
                if state.is_closed.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let _ = stream.set_nodelay(true);
                lock(&state.streams).push(stream.try_clone().unwrap());
                let state = state.clone();
                std::thread::spawn(move || while_it_lives(stream, &state));
            }
        }));
    }

    /// Where it is to be found.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it, as a crash would; it keeps what it has.
    pub fn close(&mut self) {
        self.state.is_closed.store(true, Ordering::SeqCst);
        // The one that wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            accepting.join().unwrap();
        }
        for stream in lock(&self.state.streams).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Starts it again where it was.
    pub fn open(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        self.accept(listener);
    }

    /// What it has seen.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.state.seen)
    }

    /// From now on it follows another script.
    pub fn follow(&self, script: impl FnMut(&[Item]) -> Play + Send + 'static) {
        *lock(&self.state.script) = Box::new(script);
    }

    /// From now on requests need this header `Authorization`.
    pub fn ask_for(&self, authorization: Option<&str>) {
        *lock(&self.state.auth) = authorization.map(str::to_owned);
    }

    /// From now on larger bodies are answered with 413.
    pub fn take_at_most(&self, bytes: usize) {
        *lock(&self.state.max_bytes) = bytes;
    }

    /// How many documents it has.
    pub fn count(&self) -> usize {
        self.seen().store.len()
    }
}

impl Drop for BulkServer {
    fn drop(&mut self) {
        self.close();
    }
}

/// A request.
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

fn while_it_lives(stream: TcpStream, state: &State) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(asked) = read(&mut reader) {
        let Reply { bytes, is_last, repeated } = answer(&asked, state);
        if writer.write_all(&bytes).is_err() || is_last {
            break;
        }
        while !repeated.is_empty() && writer.write_all(&repeated).is_ok() {}
    }
    let _ = writer.shutdown(Shutdown::Both);
}

/// The next request of a connection.
pub(crate) fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let mut first = String::new();
    if reader.read_line(&mut first).ok()? == 0 {
        return None;
    }
    let mut words = first.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut asked = Asked { method, path: path.to_owned(), query: query.to_owned(), head, body: Vec::new() };
    let size: usize = asked.header("content-length").and_then(|size| size.parse().ok()).unwrap_or(0);
    assert!(size <= LARGEST, "a body of {size} bytes");
    let mut body = vec![0; size];
    reader.read_exact(&mut body).ok()?;
    if asked.header("content-encoding") == Some("gzip") {
        let mut plain = Vec::new();
        GzDecoder::new(&body[..]).take(LARGEST as u64).read_to_end(&mut plain).ok()?;
        body = plain;
    }
    asked.body = body;
    Some(asked)
}

/// What goes back.
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    /// The connection is closed behind it.
    is_last: bool,
    /// What comes behind it, again and again.
    repeated: Vec<u8>,
}

pub(crate) fn response(status: u16, more: &str, body: &str) -> Reply {
    let head =
        format!("HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", body.len());
    Reply { bytes: format!("{head}{more}\r\n{body}").into_bytes(), is_last: false, repeated: Vec::new() }
}

pub(crate) fn failure(status: u16, kind: &str) -> Reply {
    let error = json!({"error": {"type": kind, "reason": "the script says so"}, "status": status});
    response(status, "", &error.to_string())
}

fn answer(asked: &Asked, state: &State) -> Reply {
    lock(&state.seen).head.clone_from(&asked.head);
    let wanted = lock(&state.auth).clone();
    if wanted.is_some() && asked.header("authorization") != wanted.as_deref() {
        return failure(401, "security_exception");
    }
    let name = asked.path.rsplit('/').next().unwrap_or_default();
    match (asked.method.as_str(), asked.path.as_str()) {
        (_, "/_bulk") => bulk(asked, state),
        ("GET", "/") => {
            let version = json!({"number": "8.19.0", "build_flavor": "default"});
            let said = json!({"name": "scripted", "cluster_name": "scripted", "cluster_uuid": "u", "version": version});
            response(200, "", &said.to_string())
        }
        ("HEAD", path) if path.starts_with("/_index_template/") => {
            let is_there = lock(&state.seen).templates.contains_key(name);
            response(if is_there { 200 } else { 404 }, "", "")
        }
        ("PUT", path) if path.starts_with("/_index_template/") => {
            let body = serde_json::from_slice(&asked.body).unwrap();
            let mut seen = lock(&state.seen);
            if asked.query == "create=true" && seen.templates.contains_key(name) {
                failure(400, "illegal_argument_exception")
            } else {
                seen.templates.insert(name.to_owned(), body);
                response(200, "", r#"{"acknowledged":true}"#)
            }
        }
        ("GET", path) if path.starts_with("/_resolve/index/") => {
            let is_alias = lock(&state.seen).aliases.contains(name);
            let aliases = if is_alias { json!([{"name": name}]) } else { json!([]) };
            response(200, "", &json!({"indices": [], "aliases": aliases, "data_streams": []}).to_string())
        }
        _ => failure(400, "no_handler_found"),
    }
}

/// The items of a bulk request.
pub(crate) fn parse(body: &[u8]) -> Vec<Item> {
    assert_eq!(body.last(), Some(&b'\n'), "a bulk request ends with a newline");
    let text = std::str::from_utf8(body).unwrap();
    let mut lines = text.lines();
    let mut items = Vec::new();
    while let Some(line) = lines.next() {
        let head: BTreeMap<String, Map<String, Value>> = serde_json::from_str(line).unwrap();
        let (action, head) = head.into_iter().next().unwrap();
        let line = if action == "delete" { "" } else { lines.next().unwrap() };
        items.push(Item { action, head, line: line.to_owned() });
    }
    items
}

fn bulk(asked: &Asked, state: &State) -> Reply {
    {
        let mut seen = lock(&state.seen);
        seen.requests += 1;
        seen.at_once += 1;
        seen.most_at_once = seen.most_at_once.max(seen.at_once);
    }
    let answer = if asked.body.len() > *lock(&state.max_bytes) {
        failure(413, "content_too_long_exception")
    } else {
        let items = parse(&asked.body);
        let mut play = lock(&state.script)(&items);
        while let Play::After(pause, then) = play {
            let until = std::time::Instant::now() + pause;
            while let Some(left) = until.checked_duration_since(std::time::Instant::now()) {
                std::thread::park_timeout(left);
            }
            play = *then;
        }
        act(play, &items, state)
    };
    lock(&state.seen).at_once -= 1;
    answer
}

fn act(play: Play, items: &[Item], state: &State) -> Reply {
    let nothing = || Reply { bytes: Vec::new(), is_last: true, repeated: Vec::new() };
    match play {
        Play::Status(status) => failure(status, "scripted_exception"),
        Play::LaterBy(status, seconds) => response(status, &format!("retry-after: {seconds}\r\n"), "{}"),
        Play::Right | Play::After(..) => response(200, "", &write(items, &[], true, state)),
        Play::Items(statuses) => response(200, "", &write(items, &statuses, true, state)),
        Play::Refuse(refusal) => response(200, "", &refuse(items, &refusal, state)),
        Play::Hostile { head, bytes, is_endless } => {
            let head = format!("HTTP/1.1 200 Said\r\ncontent-type: application/json\r\n{head}\r\n").into_bytes();
            let (bytes, repeated) = if is_endless { (head, bytes) } else { ([head, bytes].concat(), Vec::new()) };
            Reply { bytes, is_last: false, repeated }
        }
        Play::Cut(false) => nothing(),
        Play::Cut(true) => {
            write(items, &[], false, state);
            nothing()
        }
        Play::Half => {
            let body = write(items, &[], false, state);
            let mut reply = response(200, "", &body);
            reply.bytes.truncate(reply.bytes.len() - body.len() / 2 - 1);
            Reply { is_last: true, ..reply }
        }
        Play::Short => {
            let mut body: Value = serde_json::from_str(&write(items, &[], false, state)).unwrap();
            body["items"].as_array_mut().unwrap().pop();
            response(200, "", &body.to_string())
        }
    }
}

/// Writes the items of other indices; gives the answer's body.
fn refuse(items: &[Item], refusal: &Refusal, state: &State) -> String {
    let is_refused = |item: &Item| item.text("_index") == refusal.index;
    let statuses: Vec<u16> = items.iter().map(|item| if is_refused(item) { refusal.status } else { 0 }).collect();
    let mut answer: Value = serde_json::from_str(&write(items, &statuses, true, state)).unwrap();
    for (item, said) in items.iter().zip(answer["items"].as_array_mut().unwrap()) {
        if is_refused(item) {
            said[&item.action]["error"] = json!({"type": refusal.kind, "reason": refusal.reason});
        }
    }
    answer.to_string()
}

/// Writes what may be written; gives the answer's body. `is_told`: whoever asked will see it.
fn write(items: &[Item], statuses: &[u16], is_told: bool, state: &State) -> String {
    let mut seen = lock(&state.seen);
    seen.sizes.push(items.len());
    let mut said = Vec::with_capacity(items.len());
    let mut has_errors = false;
    for (at, item) in items.iter().enumerate() {
        let this = (item.text("_index"), item.text("_id"), item.line.clone());
        if !this.1.is_empty() && seen.told.contains(&this) {
            seen.again_after_success.push(format!("{} {} {}", item.action, this.1, item.line));
        }
        let status = match statuses.get(at) {
            None | Some(0) => seen.apply(item),
            Some(status) => *status,
        };
        let mut outcome = json!({"status": status});
        if status >= 400 && !(status == 404 && item.action == "delete") {
            has_errors = true;
            outcome["error"] = json!({"type": kind_of(status), "reason": "the script says so"});
        }
        if is_told && status < 300 && !this.1.is_empty() {
            seen.told.insert(this);
        }
        said.push(json!({ item.action.clone(): outcome }));
    }
    json!({"errors": has_errors, "items": said}).to_string()
}

fn kind_of(status: u16) -> &'static str {
    match status {
        400 => "document_parsing_exception",
        404 => "document_missing_exception",
        409 => "version_conflict_engine_exception",
        429 => "es_rejected_execution_exception",
        503 => "unavailable_shards_exception",
        _ => "scripted_exception",
    }
}

impl Seen {
    /// Does what an item says; gives its status.
    fn apply(&mut self, item: &Item) -> u16 {
        let mut id = item.text("_id");
        if id.is_empty() {
            self.made_up += 1;
            id = format!("made-up-{}", self.made_up);
        }
        let key = (item.text("_index"), id);
        let there = self.store.get(&key);
        let version = there.map_or(0, |stored| stored.version);
        let document = item.document();
        if document["poison"] == json!(true) || document["doc"]["poison"] == json!(true) {
            return 400;
        }
        let next = match (item.head.get("version").and_then(Value::as_i64), item.text("version_type").as_str()) {
            (Some(next), "external_gte") if next < version => return 409,
            (Some(next), "external") if next <= version && there.is_some() => return 409,
            (Some(next), _) => next,
            (None, _) => version + 1,
        };
        let is_new = there.is_none();
        let line = match item.action.as_str() {
            "create" if !is_new => return 409,
            "delete" => {
                self.store.remove(&key);
                return if is_new { 404 } else { 200 };
            }
            "update" => {
                let mut fields = match there {
                    Some(stored) => serde_json::from_str(&stored.line).unwrap(),
                    None if document["doc_as_upsert"] == json!(true) => Map::new(),
                    None => return 404,
                };
                fields.extend(document["doc"].as_object().cloned().unwrap_or_default());
                Value::Object(fields).to_string()
            }
            _ => item.line.clone(),
        };
        self.store.insert(key, Stored { line, version: next });
        if is_new { 201 } else { 200 }
    }
}
