//! What senders are told, and when.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Running, in_time};
use serde_json::json;
use weir_filebeat::lumberjack::encode::{batch, compressed, event, window};

const SMALL: &str = "{}";

fn texts(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("{{\"n\":{number}}}")).collect()
}

fn window_of(events: &[String], level: Option<u32>) -> Vec<u8> {
    batch(events.iter().map(String::as_bytes), level)
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_that_are_sent_without_waiting_are_acknowledged_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = Running::start(dir.path(), json!({})).await;
    let mut client = source.connect().await;
    let sizes = [3, 1, 200, 7, 2048, 1];
    let (mut all, mut bytes, mut first) = (Vec::new(), Vec::new(), 0);
    for (size, level) in sizes.into_iter().zip([Some(3), None].into_iter().cycle()) {
        let events = texts(first..first + size);
        first += size;
        bytes.extend(window_of(&events, level));
        all.extend(events);
    }
    client.send(&bytes).await;
    for size in sizes {
        assert_eq!(client.acknowledged().await.unwrap(), size);
    }
    assert_eq!(source.read(all.len()).await, all, "and they are in the log in that order");
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_are_those_of_the_sender_wherever_they_begin_and_wrap() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = Running::start(dir.path(), json!({})).await;
    let mut client = source.connect().await;
    // An empty one; then one that goes on counting over the end of its numbers.
    let mut bytes = Vec::new();
    window(0, &mut bytes);
    window(4, &mut bytes);
    for number in 0..4_u32 {
        event(number.wrapping_sub(2), SMALL.as_bytes(), &mut bytes);
    }
    window(1, &mut bytes);
    event(2, SMALL.as_bytes(), &mut bytes);
    client.send(&bytes).await;
    assert_eq!(client.acknowledged().await.unwrap(), 0);
    assert_eq!(client.acknowledged().await.unwrap(), 1);
    assert_eq!(client.acknowledged().await.unwrap(), 2);
    assert_eq!(source.read(5).await, [SMALL; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_byte_for_byte_as_they_came_also_where_they_are_no_json() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = Running::start(dir.path(), json!({})).await;
    let mut client = source.connect().await;
    let events = [
        r#"{"@timestamp":"2026-01-01T00:00:00.000Z","@metadata":{"beat":"filebeat","pipeline":"a"},"message":"\u0041 é"}"#,
        "{\n  \"pretty\": [1,\n 2.50]\n}\n",
        "{\"broken\":",
    ];
    client.send(&batch(events.iter().map(|text| text.as_bytes()), Some(6))).await;
    assert_eq!(client.acknowledged().await.unwrap(), 3);
    assert_eq!(source.read(3).await, events);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_log_is_full_the_sender_is_kept_waiting_and_then_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let options = json!({"max_frame_size": "64KiB", "max_size": "1MiB", "max_decompressed_size": "1MiB"});
    let mut source = Running::start(dir.path(), options).await;
    let mut client = source.connect().await;
    let events: Vec<String> = (0..8).map(|n| format!("{{\"n\":{n},\"pad\":\"{:->8000}\"}}", "")).collect();
    let mut taken = 0;
    // It is full when all that comes is that it waits.
    loop {
        client.send(&window_of(&events, Some(1))).await;
        match client.acknowledged().await.unwrap() {
            8 => taken += 8,
            0 => break,
            other => panic!("{other} is acknowledged of a window that is not whole in the log"),
        }
    }
    assert!(taken >= 64, "{taken}");
    let trouble = source.trouble.all().unwrap();
    assert!(trouble.contains("raise max_size"), "{trouble}");
    assert_eq!(client.acknowledged().await.unwrap(), 0, "it is told again and again");
    assert_eq!(source.read(taken).await.len(), taken);
    while client.acknowledged().await.unwrap() != 8 {
        // Room comes in steps.
    }
    assert_eq!(source.trouble.all(), None);
    assert_eq!(source.read(8).await, events);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_while_the_log_is_full_has_sent_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = json!({"max_frame_size": "64KiB", "max_size": "1MiB", "max_decompressed_size": "1MiB"});
    let mut source = Running::start(dir.path(), options).await;
    let events: Vec<String> = (0..8).map(|n| format!("{{\"n\":{n},\"pad\":\"{:->8000}\"}}", "")).collect();
    let mut client = source.connect().await;
    let mut taken = 0;
    loop {
        client.send(&window_of(&events, Some(1))).await;
        if client.acknowledged().await.unwrap() == 0 {
            break;
        }
        taken += 8;
    }
    drop(client);
    assert_eq!(source.read(taken).await.len(), taken);
    let mut other = source.connect().await;
    other.send(&window_of(&texts(0..1), None)).await;
    while other.acknowledged().await.unwrap() != 1 {}
    assert_eq!(source.read(1).await, texts(0..1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_is_larger_than_what_is_held_at_once_is_acknowledged_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let options = json!({"max_frame_size": "64KiB", "max_size": "8MiB", "max_decompressed_size": "64MiB"});
    let mut source = Running::start(dir.path(), options).await;
    let events: Vec<String> = (0..500).map(|n| format!("{{\"n\":{n},\"pad\":\"{:->8000}\"}}", "")).collect();
    let mut client = source.connect().await;
    client.send(&window_of(&events, Some(1))).await;
    let mut sequences = vec![client.acknowledged().await.unwrap()];
    while sequences.last() != Some(&500) {
        sequences.push(client.acknowledged().await.unwrap());
    }
    assert!(sequences.len() > 2 && sequences.is_sorted(), "{sequences:?}");
    assert_eq!(source.read(500).await, events);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_whole_before_something_wrong_is_acknowledged_and_what_was_not_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = Running::start(dir.path(), json!({"max_window": 10})).await;
    let whole = window_of(&texts(0..2), Some(3));
    let mut wrong: Vec<Vec<u8>> = vec![b"1W\0\0\0\x01".to_vec(), b"2D".to_vec(), b"2J\0\0\0\x01\0\0\0\x02{}".to_vec()];
    let mut frames = Vec::new();
    window(11, &mut frames);
    wrong.push(std::mem::take(&mut frames));
    window(2, &mut frames);
    event(1, b"-1", &mut frames);
    window(1, &mut frames);
    wrong.push(std::mem::take(&mut frames));
    window(2, &mut frames);
    compressed(b"2J\0\0\0\x01\0\0\0\x02-", 3, &mut frames);
    wrong.push(frames);
    for wrong in wrong {
        let mut client = source.connect().await;
        client.send(&[&whole[..], &wrong].concat()).await;
        assert_eq!(client.until_closed().await, [2], "{wrong:?}");
        assert_eq!(source.read(2).await, texts(0..2));
    }
    let mut client = source.connect().await;
    client.send(&whole).await;
    assert_eq!(client.acknowledged().await.unwrap(), 2);
    assert_eq!(source.read(2).await, texts(0..2), "nothing of what was wrong stands in between");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_is_slow_in_the_middle_is_let_go_of_and_one_that_is_quiet_in_between_later() {
    let dir = tempfile::tempdir().unwrap();
    let options = json!({"timeout": "10s", "idle_timeout": "60s"});
    let mut source = Running::start(dir.path(), options).await;
    let half = &window_of(&texts(0..2), None)[..20];
    let mut halves = source.connect().await;
    halves.send(half).await;
    let mut drop_by_drop = source.connect().await;
    let mut quiet = source.connect().await;
    quiet.send(&window_of(&texts(0..1), None)).await;
    assert_eq!(quiet.acknowledged().await.unwrap(), 1);
    let begun = std::time::Instant::now();
    let mut bytes = window_of(&texts(0..200), None).into_iter();
    let closed = in_time(async {
        loop {
            use tokio::io::AsyncWriteExt;
            let byte = bytes.next().unwrap();
            if drop_by_drop.0.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        begun.elapsed()
    });
    let (halves, closed) = tokio::join!(halves.until_closed(), closed);
    assert_eq!(halves, [0_u32; 0]);
    assert!(closed.as_secs() < 3, "byte by byte is no way to go on: {closed:?}");
    assert_eq!(quiet.until_closed().await, [0_u32; 0]);
    assert!(begun.elapsed().as_secs_f64() > 2.0, "the quiet one had its time: {:?}", begun.elapsed());
    assert_eq!(source.read(1).await, texts(0..1));
}

#[tokio::test(flavor = "multi_thread")]
async fn those_beyond_the_limit_take_the_place_of_who_is_idle_or_are_closed() {
    let dir = tempfile::tempdir().unwrap();
    let options = json!({"max_connections": 2, "timeout": "4s"});
    let source = Running::start(dir.path(), options).await;
    let mut working = source.connect().await;
    let mut idle = source.connect().await;
    for client in [&mut working, &mut idle] {
        client.send(&window_of(&texts(0..1), None)).await;
        assert_eq!(client.acknowledged().await.unwrap(), 1);
    }
    // The one that is idle goes, once it has been so for some time.
    let mut begun = Vec::new();
    window(2, &mut begun);
    event(1, b"{}", &mut begun);
    working.send(&begun).await;
    drop(working);
    in_time(async {
        loop {
            let mut next = source.connect().await;
            next.send(&window_of(&texts(0..1), None)).await;
            if next.acknowledged().await.is_ok_and(|sequence| sequence == 1) {
                break;
            }
        }
    })
    .await;
}
