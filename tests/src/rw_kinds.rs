//! A request of remote write with every kind of point there is.

use crate::remote_write::{Message, labels, request_2, sample};

/// Bits of values: of those that are numbers the ends of their range, and several that are none.
pub const VALUES: [u64; 12] = [
    0x3ff0_0000_0000_0000,
    0,
    // -0.0, and the smallest number there is.
    0x8000_0000_0000_0000,
    1,
    0x3fb9_9999_9999_999a,
    0x7fef_ffff_ffff_ffff,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    // A series has ended; no number; and other bits that are none, of which nothing is known.
    0x7ff0_0000_0000_0002,
    0x7ff8_0000_0000_0001,
    0x7ff0_0000_0000_0001,
    0xfff8_0000_dead_beef,
];

/// When all of it was.
pub const STAMP: i64 = 1_700_000_000_000;

/// A span of buckets.
pub fn span(offset: i64, length: i64) -> Message {
    Message::new().sint(1, offset).int(2, length)
}

/// Floats one behind the other.
pub fn doubles(all: &[f64]) -> Vec<u8> {
    all.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect()
}

/// Native histograms, which are the same in both versions: whole counts, floats, buckets of one's own, and the end of a series.
pub fn histograms() -> [Message; 4] {
    let whole = Message::new()
        .int(1, 10)
        .double(3, 18.5_f64.to_bits())
        .sint(4, 3)
        .double(5, 1e-128_f64.to_bits())
        .int(6, 2)
        .bytes(8, span(-2, 1))
        .packed_sint(9, &[3])
        .bytes(11, span(0, 2))
        .bytes(11, span(1, 1))
        .packed_sint(12, &[1, 1, 0])
        .int(14, 2)
        .int(15, STAMP + 1);
    let float = Message::new()
        .double(2, 4.5_f64.to_bits())
        .double(3, 0xfff8_0000_dead_beef)
        .sint(4, -9)
        .double(7, 0.5_f64.to_bits())
        .bytes(11, span(-3, 2))
        .bytes(13, doubles(&[1.5, 2.5]))
        .int(14, 3)
        .int(15, STAMP + 2);
    let custom = Message::new()
        .int(1, 3)
        .double(3, 1.0_f64.to_bits())
        .sint(4, -53)
        .int(6, 0)
        .bytes(11, span(0, 2))
        .packed_sint(12, &[1, 1])
        .int(15, STAMP + 3)
        .bytes(16, doubles(&[0.5, 2.5]));
    let stale = Message::new().int(1, 0).double(3, 0x7ff0_0000_0000_0002).int(6, 0).int(15, STAMP + 4);
    [whole, float, custom, stale]
}

/// A request of 1.0 with all of it but what that version has no place for; metadata stands by itself there.
pub fn request_of_1() -> Message {
    let named = |name: &str| labels(Message::new(), &[("__name__", name)]);
    let samples =
        |series: Message| series.each(VALUES.iter().zip(-3..), |series, (bits, at)| series.bytes(2, sample(*bits, at)));
    let exemplar =
        |value: f64, at: i64| labels(Message::new(), &[("trace_id", "abc")]).double(2, value.to_bits()).int(3, at);
    let mut all = vec![
        samples(labels(Message::new(), &[("__name__", "values"), ("le", "+Inf"), ("text", TEXT)])),
        named("counted")
            .bytes(2, sample(1.0_f64.to_bits(), STAMP))
            .bytes(2, sample(2.0_f64.to_bits(), STAMP + 1))
            .bytes(3, exemplar(7.5, STAMP))
            .bytes(3, exemplar(-0.0, STAMP - 1)),
        // An exemplar may come without a point.
        named("traced").bytes(3, exemplar(0.1, STAMP + 9)),
        named("native").bytes(4, &histograms()[0]).bytes(3, exemplar(1.0, STAMP)),
    ];
    all.extend(histograms().map(|histogram| named("natives").bytes(4, histogram)));
    for (le, count) in [("0.5", 1.0_f64), ("+Inf", 3.0)] {
        let series = labels(Message::new(), &[("__name__", "classic_bucket"), ("le", le)]);
        all.push(series.bytes(2, sample(count.to_bits(), STAMP)));
    }
    all.push(named("classic_sum").bytes(2, sample(4.25_f64.to_bits(), STAMP)));
    all.push(named("classic_count").bytes(2, sample(3.0_f64.to_bits(), STAMP)));
    let metadata = |kind: i64, name: &str, help: &str, unit: &str| {
        Message::new().int(1, kind).bytes(2, name).bytes(4, help).bytes(5, unit)
    };
    Message::new().each(all, |request, series| request.bytes(1, series)).each(
        [metadata(1, "counted", "What is \"counted\".\n\\", "seconds"), metadata(3, "classic", "In buckets.", "")],
        |request, metadata| request.bytes(3, metadata),
    )
}

/// A text with all that wants to be quoted somewhere.
const TEXT: &str = "a \"b\" {c}, d\\\n\u{1f98e}";

/// The symbols of [`request_of_2`], behind the empty one.
const SYMBOLS: [&str; 19] = [
    "__name__",
    "values",
    "text",
    TEXT,
    "counted",
    "trace_id",
    "abc",
    "traced",
    "native",
    "natives",
    "classic_bucket",
    "le",
    "0.5",
    "+Inf",
    "What is \"counted\".\n\\",
    "seconds",
    "In buckets.",
    "created",
    "since",
];

/// A request of 2.0 with all of it; metadata and times of creation, of the series and of single points, among it.
pub fn request_of_2() -> Message {
    let number = |text: &str| SYMBOLS.iter().position(|symbol| *symbol == text).unwrap() as u64 + 1;
    let named = |name: &str| Message::new().packed(1, &[1, number(name)]);
    let labelled = |all: &[&str]| {
        let numbers: Vec<u64> = all.iter().map(|text| number(text)).collect();
        Message::new().packed(1, &numbers)
    };
    let known =
        |kind: i64, help: &str, unit: u64| Message::new().int(1, kind).int(3, number(help) as i64).int(4, unit as i64);
    let exemplar = |value: f64, at: i64| labelled(&["trace_id", "abc"]).double(2, value.to_bits()).int(3, at);
    let counted = known(1, "What is \"counted\".\n\\", number("seconds"));
    let in_buckets = known(3, "In buckets.", 0);
    let mut all = vec![
        labelled(&["__name__", "values", "le", "+Inf", "text", TEXT])
            .each(VALUES.iter().zip(-3..), |series, (bits, at)| series.bytes(2, sample(*bits, at))),
        // Up to release candidate 3 a time of creation is that of the series, from 4 on that of a point.
        named("counted")
            .bytes(2, sample(1.0_f64.to_bits(), STAMP))
            .bytes(2, sample(2.0_f64.to_bits(), STAMP + 1))
            .bytes(4, exemplar(7.5, STAMP))
            .bytes(4, exemplar(-0.0, STAMP - 1))
            .bytes(5, &counted)
            .int(6, STAMP - 1000),
        named("since").bytes(2, sample(3.0_f64.to_bits(), STAMP).int(3, STAMP - 2000)).bytes(5, &counted),
        named("traced").bytes(4, exemplar(0.1, STAMP + 9)),
        named("native")
            .bytes(3, histograms()[0].clone().int(17, STAMP - 3000))
            .bytes(4, exemplar(1.0, STAMP))
            .bytes(5, known(3, "In buckets.", number("seconds"))),
        named("created").bytes(3, &histograms()[1]).int(6, STAMP - 4000),
    ];
    all.extend(histograms().map(|histogram| named("natives").bytes(3, histogram)));
    for (le, count) in [("0.5", 1.0_f64), ("+Inf", 3.0)] {
        let series = labelled(&["__name__", "classic_bucket", "le", le]);
        all.push(series.bytes(2, sample(count.to_bits(), STAMP)).bytes(5, &in_buckets));
    }
    request_2(&SYMBOLS, all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rw_facts::facts;

    #[test]
    fn every_kind_is_there() {
        for request in [request_of_1(), request_of_2()] {
            let facts = facts(&request.0);
            for word in [" sample ", " histogram ", " exemplar ", "metadata"] {
                assert!(facts.iter().any(|fact| fact.contains(word)), "{word}: {facts:#?}");
            }
            for bits in VALUES {
                assert!(facts.iter().any(|fact| fact.contains(&format!("sample {bits:016x}"))), "{bits:x}");
            }
        }
    }
}
