//! The source `prometheus_remote_write`: what the specifications of remote write 1.0 and 2.0 say a receiver must do, and that
//! nobody who sends what he must not can harm it or others. `rw_points.rs` reads back what was sent.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_tests::campaign::Campaign;
use weir_tests::process::{Home, Weir};
use weir_tests::push::{Answer, Sender, free_address};
use weir_tests::remote_write::{
    Message, SNAPPY, V1, V2, bomb, declared, labels, post, request, request_2, sample, series, snappy, written,
};
use weir_tests::wait::{Over, PATIENCE, beside, found, moment, now_and_then, until};

const TO_FILE: &str = r#"name: rw
sources:
  in: {type: prometheus_remote_write, listen: "127.0.0.1:0", timeout: 2s, max_decompressed_size: 4MiB}
sinks:
  out: {type: file, inputs: [in], path: out.ndjson, encoding: points_json}
"#;

/// Nobody reads the other end of the pipe.
const TO_PIPE: &str = r#"name: rw
sources:
  in: {type: prometheus_remote_write, listen: "127.0.0.1:0", max_decompressed_size: 64KiB, max_size: 1MiB}
sinks:
  out: {type: console, inputs: [in], encoding: points_json}
"#;

const NOTHING: [Option<u64>; 3] = [Some(0); 3];

/// A weir with the source, and where it listens.
struct Receiver {
    home: Home,
    weir: Option<Weir>,
    address: SocketAddr,
}

impl Receiver {
    fn start(graph: &str, set: &[&str]) -> Receiver {
        let mut receiver = Receiver { home: Home::new(graph), weir: None, address: free_address() };
        receiver.again(set);
        receiver
    }

    /// Starts it, after it was killed if it ran.
    fn again(&mut self, set: &[&str]) {
        if let Some(weir) = self.weir.take() {
            weir.kill();
        }
        let listen = format!("sources.in.listen={}", self.address);
        self.weir = Some(self.home.start_with("weir", &[&[&*listen], set].concat(), &[], Stdio::piped()));
        found("the source to listen", PATIENCE, || Sender::connect(self.address).ok());
    }

    fn weir(&mut self) -> &mut Weir {
        self.weir.as_mut().unwrap()
    }

    fn connect(&self) -> Sender {
        Sender::connect(self.address).unwrap()
    }

    fn post(&self, version: &str, body: &[u8]) -> Answer {
        post(&mut self.connect(), version, body).unwrap()
    }

    /// What has come out, when it is so many points.
    fn points(&self, count: usize) -> Vec<Value> {
        found("the points to come out", PATIENCE, || {
            let out = std::fs::read_to_string(self.home.path("out.ndjson")).unwrap_or_default();
            (out.ends_with('\n') && out.lines().count() >= count).then(|| {
                let all: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                assert_eq!(all.len(), count, "{out}");
                all
            })
        })
    }

    /// Whether a good request is still taken, in a short time.
    fn takes(&self, number: i64) {
        let begun = Instant::now();
        let answer = self.post(V1, &snappy(&numbered(number).0));
        assert_eq!(answer.status, 204, "{answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(10), "others wait {:?}", begun.elapsed());
    }

    fn stop(mut self) {
        self.weir.take().unwrap().stop(PATIENCE);
    }
}

/// A request of 1.0 with one point.
fn numbered(number: i64) -> Message {
    request([series(&[("__name__", "number")], &[(number as f64, number)])])
}

/// The same of 2.0.
fn numbered_2(number: i64) -> Message {
    let series = Message::new().packed(1, &[1, 2]).bytes(2, sample((number as f64).to_bits(), number));
    request_2(&["__name__", "number"], [series])
}

fn numbers(points: &[Value]) -> Vec<f64> {
    points.iter().map(|point| point["value"].as_f64().unwrap()).collect()
}

#[test]
fn the_message_is_told_by_its_content_type_and_the_body_is_a_block_of_snappy() {
    let receiver = Receiver::start(TO_FILE, &[]);
    let (first, second) = (snappy(&numbered(1).0), snappy(&numbered_2(1).0));
    let first_named = "content-type: application/x-protobuf;proto=prometheus.WriteRequest";
    for (status, headers, body) in [
        (204, &[V1, SNAPPY][..], &first),
        (204, &[first_named, SNAPPY], &first),
        (204, &[V2, SNAPPY], &second),
        // Senders before 1.0 said neither.
        (204, &[V1], &first),
        (204, &[SNAPPY], &first),
        (415, &["Content-Type: application/json", SNAPPY], &first),
        (415, &["Content-Type: application/x-protobuf;proto=io.prometheus.write.v3.Request", SNAPPY], &second),
        (415, &[V1, "Content-Encoding: gzip"], &first),
        (415, &[V2, "Content-Encoding: zstd"], &second),
        // What is said and what is there are two.
        (400, &[V1, SNAPPY], &second),
        (400, &[V2, SNAPPY], &first),
    ] {
        let answer = receiver.connect().post_to("/", headers, body).unwrap();
        assert_eq!(answer.status, status, "{headers:?}: {answer:?}");
    }
    assert_eq!(receiver.points(5).len(), 5);
    receiver.stop();
}

#[test]
fn it_is_there_at_any_path_and_answers_whoever_asks_whether_it_is() {
    let receiver = Receiver::start(TO_FILE, &["sources.in.auth={strategy: bearer, token: opensesame}"]);
    let mut sender = receiver.connect();
    sender.send(b"GET /ping HTTP/1.1\r\nHost: weir\r\n\r\n").unwrap();
    let answer = sender.answer().unwrap();
    assert_eq!((answer.status, &*answer.body), (200, "pong"), "without credentials");
    let body = snappy(&numbered_2(1).0);
    let authorized = "Authorization: Bearer opensesame";
    for path in ["/", "/api/v1/write", "/receive?tenant=a", "/ping"] {
        assert_eq!(sender.post_to(path, &[V2, authorized], &body).unwrap().status, 204, "{path}");
    }
    let answer = sender.post_to("/", &[V2], &body).unwrap();
    assert_eq!((answer.status, answer.header("www-authenticate"), written(&answer)), (401, Some("Bearer"), NOTHING));
    let mut sender = receiver.connect();
    sender.send(format!("GET / HTTP/1.1\r\nHost: weir\r\n{authorized}\r\n\r\n").as_bytes()).unwrap();
    let answer = sender.answer().unwrap();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    receiver.stop();

    let one = Receiver::start(TO_FILE, &["sources.in.path=/api/v1/write"]);
    let mut sender = one.connect();
    assert_eq!(sender.post_to("/api/v1/write", &[V2], &body).unwrap().status, 204);
    let answer = sender.post_to("/", &[V2], &body).unwrap();
    assert_eq!((answer.status, written(&answer)), (404, NOTHING));
    assert!(answer.body.contains("send to /api/v1/write"), "{answer:?}");
    one.stop();
}

#[test]
fn success_is_204_without_a_body_and_2_0_is_told_what_was_written() {
    let receiver = Receiver::start(TO_FILE, &[]);
    let histogram = Message::new().int(1, 3).double(3, 2.5_f64.to_bits()).int(4, 0).int(6, 3).int(15, 7);
    let exemplar = Message::new().packed(1, &[3, 4]).double(2, 1.0_f64.to_bits()).int(3, 7);
    let all = [
        Message::new().packed(1, &[1, 2]).bytes(2, sample(1, 1)).bytes(2, sample(2, 2)).bytes(4, &exemplar),
        Message::new().packed(1, &[1, 5]).bytes(3, &histogram),
    ];
    let body = request_2(&["__name__", "a", "trace_id", "b", "c"], all);
    let answer = receiver.post(V2, &snappy(&body.0));
    assert_eq!((answer.status, &*answer.body, written(&answer)), (204, "", [Some(2), Some(1), Some(1)]), "{answer:?}");
    let answer = receiver.post(V1, &snappy(&numbered(1).0));
    assert_eq!((answer.status, &*answer.body, written(&answer)), (204, "", [None; 3]), "{answer:?}");
    // Nothing to write is nothing that was not written.
    let answer = receiver.post(V2, &snappy(&request_2(&[], []).0));
    assert_eq!((answer.status, written(&answer)), (204, NOTHING), "{answer:?}");
    receiver.stop();
}

/// A series that cannot be taken: what is said of it, and what it is in 1.0 and 2.0. The symbols of 2.0 are `SYMBOLS`.
fn bad_series() -> Vec<(&'static str, Option<Message>, Option<Message>)> {
    let ok = sample(1.0_f64.to_bits(), 1);
    let of = |all: &[(&str, &str)]| Some(labels(Message::new(), all).bytes(2, &ok));
    let refs = |all: &[u64]| Some(Message::new().packed(1, all).bytes(2, &ok));
    let no_utf8 = Message::new().bytes(1, Message::new().bytes(1, "__name__").bytes(2, b"\xff")).bytes(2, &ok);
    let empty = (labels(Message::new(), &[("__name__", "bad")]), Message::new().packed(1, &[1, 3]));
    let odd_histogram = Message::new().int(1, 3).double(3, 0).int(4, 0).int(6, 2).int(15, 7);
    vec![
        ("it has no name", of(&[("job", "a")]), refs(&[4, 5])),
        ("it has no name", of(&[("__name__", "")]), refs(&[1, 0])),
        ("stands there twice", of(&[("__name__", "bad"), ("job", "a"), ("job", "b")]), refs(&[1, 3, 4, 5, 4, 6])),
        ("a label has no name", of(&[("__name__", "bad"), ("", "a")]), refs(&[1, 3, 0, 5])),
        ("a text is not UTF-8", Some(no_utf8), refs(&[1, 7])),
        ("it has no sample", Some(empty.0.clone()), Some(empty.1.clone())),
        ("refers to symbol 99", None, refs(&[1, 99])),
        ("are no pairs", None, refs(&[1, 3, 4])),
        ("a histogram is none", Some(empty.0.bytes(4, &odd_histogram)), Some(empty.1.bytes(3, &odd_histogram))),
        ("labels, at most 8", of(&many_labels(9)), refs(&[[1, 3].as_slice(), &[4, 5].repeat(8)].concat())),
    ]
}

fn many_labels(count: usize) -> Vec<(&'static str, &'static str)> {
    const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    [("__name__", "bad")].into_iter().chain(NAMES.into_iter().map(|name| (name, "v"))).take(count).collect()
}

const SYMBOLS: [&[u8]; 7] = [b"__name__", b"good", b"bad", b"job", b"a", b"b", b"\xff"];

#[test]
fn of_a_request_with_bad_series_the_good_ones_are_kept_and_the_sender_is_told() {
    let receiver = Receiver::start(TO_FILE, &["sources.in.max_labels=8"]);
    let mut sender = receiver.connect();
    let mut number = 0_i64;
    let mut next = || {
        number += 1;
        number as f64
    };
    for (why, first, second) in bad_series() {
        if let Some(bad) = first {
            let good = |value| series(&[("__name__", "good")], &[(value, 1)]);
            let body = request([good(next()), bad, good(next())]);
            let answer = post(&mut sender, V1, &snappy(&body.0)).unwrap();
            assert_eq!(answer.status, 400, "{why}: {answer:?}");
            assert!(answer.body.contains(why), "{why}: {answer:?}");
        }
        if let Some(bad) = second {
            let good = |value: f64| Message::new().packed(1, &[1, 2]).bytes(2, sample(value.to_bits(), 1));
            let symbols = Message::new().bytes(4, "").each(SYMBOLS, |request, symbol| request.bytes(4, symbol));
            let body = symbols.each([good(next()), bad, good(next())], |request, series| request.bytes(5, series));
            let answer = post(&mut sender, V2, &snappy(&body.0)).unwrap();
            assert_eq!((answer.status, written(&answer)), (400, [Some(2), Some(0), Some(0)]), "{why}: {answer:?}");
            assert!(answer.body.contains(why) && answer.body.contains("2 samples"), "{why}: {answer:?}");
        }
    }
    let points = receiver.points(usize::try_from(number).unwrap());
    assert_eq!(numbers(&points), (1..=number).map(|number| number as f64).collect::<Vec<_>>());
    assert!(points.iter().all(|point| point["name"] == "good"));
    receiver.stop();
}

/// What is no request, and what is answered.
fn hostile() -> Vec<(&'static str, u16, &'static str, Vec<u8>)> {
    let (first, second) = (numbered(-1).0, numbered_2(-1).0);
    let mut all = vec![
        ("empty", 400, V1, Vec::new()),
        ("no snappy", 400, V1, b"{\"name\":\"up\"}".to_vec()),
        ("framed", 400, V1, b"\xff\x06\x00\x00sNaPpY\x01\x05\x00\x00\x00\x00\x00\x00a".to_vec()),
        ("declares more than there is", 400, V1, declared(first.len() as u64 + 1, &first)),
        ("declares less", 400, V1, declared(first.len() as u64 - 1, &first)),
        ("declares what none can hold", 400, V1, declared(3 << 20, &first)),
        ("declares 4 GiB", 413, V1, declared(u64::from(u32::MAX), &first)),
        ("declares more than a number can be", 400, V1, [&[0xff; 10], &*first].concat()),
        ("a bomb", 413, V1, bomb(b'\n', 64 << 20)),
        ("the largest body of zeros", 400, V1, bomb(0, 4 << 20)),
        ("an end of a group", 400, V1, bomb(b'\x0c', 1 << 20)),
        ("2^20 empty series", 413, V1, snappy(&[10, 0].repeat(1 << 20))),
        ("2^20 empty series of 2.0", 413, V2, snappy(&[42, 0].repeat(1 << 20))),
        ("2^21 empty symbols", 413, V2, snappy(&[34, 0].repeat(2_000_000))),
        ("2^20 samples", 413, V1, {
            let of = labels(Message::new(), &[("__name__", "a")]).each(0..1 << 20, |series, _| series.bytes(2, ""));
            snappy(&request([of]).0)
        }),
        ("a length beyond the end", 400, V1, snappy(&[10, 0xff, 0xff, 0xff, 0xff, 7])),
        ("a length of 2^64", 400, V1, snappy(&[&[10][..], &[0xff; 9], &[1]].concat())),
        ("a wrong wire type", 400, V1, snappy(&Message::new().int(1, 7).0)),
        ("a wrong wire type of 2.0", 400, V2, snappy(&Message::new().double(5, 7).0)),
        ("a wrong wire type within", 400, V1, snappy(&request([Message::new().int(2, 7)]).0)),
    ];
    let cuts = |version: &'static str, whole: Vec<u8>, from: usize| {
        (from + 1..whole.len()).map(move |at| ("cut off", 400, version, snappy(&whole[..at])))
    };
    // Symbols without a series are a request that holds nothing.
    let symbols = request_2(&["__name__", "number"], []).0.len();
    all.extend(cuts(V1, first, 0).chain(cuts(V2, second, symbols)));
    all
}

#[test]
fn hostile_bodies_are_refused_for_good_in_little_memory_and_cost_nobody_else_anything() {
    let mut receiver = Receiver::start(TO_FILE, &["sources.in.max_body_size=3MiB"]);
    receiver.takes(0);
    let before = receiver.weir().rss();
    let mut sender = receiver.connect();
    let mut taken = 1;
    for (at, (what, status, version, body)) in hostile().into_iter().enumerate() {
        let answer = post(&mut sender, version, &body).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        let is_2 = version == V2;
        assert_eq!(written(&answer), if is_2 { NOTHING } else { [None; 3] }, "{what}: {answer:?}");
        if answer.header("connection") == Some("close") {
            sender = receiver.connect();
        }
        if at % 8 == 0 {
            receiver.takes(taken);
            taken += 1;
        }
    }
    // Who sends far too much sees why, and does not send it again.
    let too_large = receiver.post(V2, &vec![0; 40 << 20]);
    assert_eq!((too_large.status, written(&too_large)), (413, NOTHING), "{too_large:?}");
    assert!(too_large.body.contains("max_body_size"), "{too_large:?}");
    let grown = receiver.weir().peak_rss().unwrap().saturating_sub(before);
    println!("hostile: {} MiB more at the peak", grown >> 20);
    assert!(grown < 64 << 20, "{grown}");
    let points = receiver.points(usize::try_from(taken).unwrap());
    assert_eq!(numbers(&points), (0..taken).map(|number| number as f64).collect::<Vec<_>>());
    receiver.stop();
}

#[test]
fn who_sends_too_much_too_soon_or_too_slowly_is_told_to_come_back() {
    let mut receiver = Receiver::start(TO_PIPE, &["sources.in.timeout=1s"]);
    let pad = "-".repeat(60_000);
    let body = request_2(
        &["__name__", "padded", "pad", &pad],
        [Message::new().packed(1, &[1, 2, 3, 4]).bytes(2, sample(1.0_f64.to_bits(), 1))],
    );
    let body = snappy(&body.0);
    let mut sender = receiver.connect();
    let full = found("the log to be full", PATIENCE, || {
        let answer = post(&mut sender, V2, &body).unwrap();
        (answer.status != 204).then_some(answer)
    });
    assert_eq!((full.status, full.header("retry-after"), written(&full)), (503, Some("5"), NOTHING), "{full:?}");
    until("/ready to name it", PATIENCE, || receiver.weir().get("/ready").1.contains("in: the log holds"));

    // 408 would be the end of these points.
    let mut slow = receiver.connect();
    let head = format!("POST / HTTP/1.1\r\nHost: weir\r\n{V2}\r\nContent-Length: 9\r\n\r\n{{");
    slow.send(head.as_bytes()).unwrap();
    let answer = slow.answer().unwrap();
    assert_eq!(
        (answer.status, answer.header("retry-after"), written(&answer)),
        (503, Some("1"), NOTHING),
        "{answer:?}"
    );

    // Nobody reads: what is under way cannot be drained.
    drop(receiver.weir.take());
    receiver.again(&["sources.in.max_connections=2"]);
    let mut open = Vec::new();
    let busy = found("a connection to be turned away", PATIENCE, || {
        let mut sender = receiver.connect();
        let answer = post(&mut sender, V2, b"").unwrap();
        open.push(sender);
        (answer.status == 503).then_some(answer)
    });
    assert_eq!((busy.header("retry-after"), written(&busy)), (Some("1"), NOTHING), "{busy:?}");
}

#[test]
fn connections_that_say_nothing_or_little_make_room_for_others() {
    let campaign = Campaign::of("idle");
    let count = if campaign.is_full() { 10_000 } else { 2_000 };
    let mut receiver = Receiver::start(TO_FILE, &["sources.in.timeout=30s"]);
    receiver.takes(0);
    let before = receiver.weir().rss();
    let begun = Instant::now();
    let mut idle = Vec::new();
    for number in 0..count {
        // Those behind the limit wait at the door.
        let Ok(mut sender) = Sender::connect(receiver.address) else { break };
        // Some begin a head, which never ends.
        if number % 2 == 0 {
            let _ = sender.send(b"POST / HTTP/1.1\r\nHost: weir\r\nX-A: ");
        }
        idle.push(sender);
    }
    println!("idle: {} connections after {:?}", idle.len(), begun.elapsed());
    for number in 1..=5 {
        receiver.takes(number);
    }
    let grown = receiver.weir().rss().saturating_sub(before);
    println!("idle: answered after {:?}, {} MiB more", begun.elapsed(), grown >> 20);
    assert!(idle.len() > 1_500, "{}", idle.len());
    assert!(grown < 64 << 20, "{grown}");
    drop(idle);
    assert_eq!(numbers(&receiver.points(6)), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    receiver.stop();
}

const SENDERS: u64 = 6;

#[test]
fn what_was_answered_for_is_in_the_output_however_often_the_process_is_killed() {
    let mut campaign = Campaign::of("remote write");
    let span = campaign.span(Duration::from_secs(60), Duration::from_secs(4));
    let mut receiver = Receiver::start(TO_FILE, &[]);
    let address = receiver.address;
    let send = |sender: u64, over: &Over| {
        let (mut taken, mut number, mut connection) = (Vec::new(), (sender as i64) << 32, None);
        while !over.is() {
            let Some(open) = &mut connection else {
                connection = Sender::connect(address).ok();
                moment();
                continue;
            };
            let points: Vec<i64> = (number..number + 20).collect();
            number += 20;
            let all = points
                .iter()
                .map(|number| series(&[("__name__", "n"), ("pad", &"-".repeat(100))], &[(*number as f64, 1)]));
            match post(open, V1, &snappy(&request(all).0)) {
                Ok(answer) if answer.status == 204 => taken.extend(points),
                // Asked to come back, or gone.
                Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
                Err(_) => connection = None,
            }
        }
        taken
    };
    let (kills, taken) = beside(SENDERS, send, || now_and_then(&mut campaign.random, span, || receiver.again(&[])));
    let taken = taken.concat();
    assert!(taken.len() > 500, "only {} points were taken", taken.len());
    let mut lines = 0;
    until("everything that was answered for to be in the output", PATIENCE, || {
        let out = std::fs::read_to_string(receiver.home.path("out.ndjson")).unwrap_or_default();
        let values = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["value"].as_f64());
        let there: BTreeSet<i64> = values.map(|value| value as i64).collect();
        lines = out.lines().count();
        taken.iter().all(|number| there.contains(number))
    });
    println!("remote write: {kills} kills, {} points answered for, {lines} lines", taken.len());
    receiver.stop();
}
