#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use super::*;

fn origin(node: &str, log: &str, partition: i32) -> OriginId {
    OriginId { node: node.to_owned(), log: log.to_owned(), partition, kind: OriginKind::Kafka }
}

fn event(position: u64, time: i64) -> Event {
    Event::new(Body::Raw("{}".into(), Codec::Json), Position(position), Timestamp(time))
}

#[test]
fn a_token_is_the_same_in_every_run_and_another_for_every_event() {
    let token = event(42, 7).token(&origin("in", "topic", 3));
    assert_eq!(token, "1cSFOHeBuu4rUr81HZSTJA", "a change of this duplicates what is read again");
    let mut child = event(42, 7);
    child.ordinal = child.ordinal.child(1, 0).unwrap();
    let mut sibling = event(42, 7);
    sibling.ordinal = sibling.ordinal.child(1, 1).unwrap();
    let others = [
        child.token(&origin("in", "topic", 3)),
        sibling.token(&origin("in", "topic", 3)),
        event(43, 7).token(&origin("in", "topic", 3)),
        event(42, 8).token(&origin("in", "topic", 3)),
        event(42, 7).token(&origin("in", "topic", 4)),
        event(42, 7).token(&origin("int", "opic", 3)),
    ];
    let all: HashSet<&String> = others.iter().chain([&token]).collect();
    assert_eq!(all.len(), 7);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    assert!(all.iter().all(|token| token.len() == 22 && token.chars().all(is_plain)));
}

#[test]
fn where_no_time_is_known_what_an_event_says_tells_it_from_others() {
    let line = |text: &'static str, time: i64| {
        Event::new(Body::Raw(text.into(), Codec::Text), Position(0), Timestamp(time)).token(&origin("in", "a.log", 0))
    };
    assert_ne!(line("a", 0), line("b", 0), "the first lines of a file, and of the one that took its place");
    assert_eq!(line("a", 0), line("a", 0));
    assert_eq!(line("a", 1), line("b", 1), "what a node changes of an event leaves it the same");
}

#[test]
fn an_identity_is_the_same_wherever_the_event_is_read() {
    let mut first = event(1, 1);
    first.set_identity(5);
    let mut again = event(2, 9);
    again.set_identity(5);
    let (here, there) = (origin("in", "topic", 0), origin("beats", "beats", 0));
    assert_eq!(first.token(&here), again.token(&there));
    assert_eq!(first.token(&here), "AAAAAAAAAAAAAAAAAAAABQ");
    again.ordinal = again.ordinal.child(1, 0).unwrap();
    assert_ne!(first.token(&here), again.token(&there), "a child is no copy of its parent");
}
