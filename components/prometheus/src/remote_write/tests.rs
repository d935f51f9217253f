//! Requests that are taken, refused in part, and refused as a whole.

use bytes::Bytes;

use super::*;

/// Names and values.
type Labels<'a> = &'a [(&'a [u8], &'a [u8])];

/// A label, in 1.0.
fn label(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    put::message(out, 1, |out| {
        put::text(out, 1, name);
        put::text(out, 2, value);
    });
}

fn sample(out: &mut Vec<u8>, value: f64, timestamp: i64) {
    put::message(out, 2, |out| {
        put::double(out, 1, value);
        put::int(out, 2, timestamp);
    });
}

/// A series of 1.0 with one sample.
fn series_v1(out: &mut Vec<u8>, labels: Labels<'_>) {
    put::message(out, 1, |out| {
        labels.iter().for_each(|(name, value)| label(out, name, value));
        sample(out, 1.0, 1_700_000_000_000);
    });
}

/// A series of 2.0 with one sample.
fn series_v2(out: &mut Vec<u8>, references: &[u64]) {
    put::message(out, 5, |out| {
        put::packed(out, 1, references, put::varint);
        sample(out, 1.0, 1_700_000_000_000);
    });
}

fn taken(version: Version, body: Vec<u8>) -> Admitted {
    admit(version, &body.into(), &Limits::default()).unwrap()
}

#[test]
fn a_good_request_is_taken_as_it_is() {
    let mut body = Vec::new();
    series_v1(&mut body, &[(b"__name__", b"up"), (b"job", b"a")]);
    series_v1(&mut body, &[(b"job", b"b"), (b"__name__", b"up")]);
    put::message(&mut body, 3, |out| {
        put::number(out, 1, 2);
        put::text(out, 2, b"up");
        put::text(out, 4, b"It is.");
    });
    let body = Bytes::from(body);
    let all = admit(Version::V1, &body, &Limits::default()).unwrap();
    assert_eq!((all.samples, all.histograms, all.exemplars, &all.refused), (2, 0, 0, &None));
    assert_eq!(all.record.unwrap().as_ptr(), body.as_ptr(), "it is not copied");

    let nothing = taken(Version::V2, Vec::new());
    assert_eq!((nothing.record, nothing.refused), (None, None));
}

#[test]
fn what_is_bad_is_refused_and_the_rest_stays() {
    let wrong: [(Labels<'_>, &str); 6] = [
        (&[(b"job", b"a")], "it has no name (label `__name__`)"),
        (&[(b"__name__", b"")], "it has no name (label `__name__`)"),
        (&[], "it has no name (label `__name__`)"),
        (&[(b"__name__", b"up"), (b"", b"a")], "a label has no name"),
        (&[(b"b", b"1"), (b"__name__", b"up"), (b"b", b"2")], "the label `b` stands there twice"),
        (&[(b"__name__", b"up"), (b"b", b"\xff")], "a text is not UTF-8"),
    ];
    for (labels, why) in wrong {
        let mut good = Vec::new();
        series_v1(&mut good, &[(b"__name__", b"up")]);
        let mut body = good.clone();
        series_v1(&mut body, labels);
        body.extend_from_slice(&good);
        let all = taken(Version::V1, body);
        assert_eq!((all.samples, all.record.unwrap()), (2, Bytes::from([good.clone(), good].concat())), "{why}");
        let refused = all.refused.unwrap();
        assert!(refused.starts_with("1 of 3 series refused; number 2, ") && refused.ends_with(why), "{refused}");
    }
    let mut body = Vec::new();
    for _ in 0..5 {
        series_v1(&mut body, &[(b"a", b"\"\n")]);
    }
    let all = taken(Version::V1, body);
    assert_eq!((all.samples, all.record), (0, None));
    let first = "5 of 5 series refused; number 1, {a=\"\\\"\\n\"}: it has no name";
    let text = all.refused.unwrap();
    assert!(text.starts_with(first) && text.ends_with("; and 2 more"), "{text}");
}

#[test]
fn references_are_to_symbols_that_are_there() {
    let symbols = |out: &mut Vec<u8>| {
        [b"".as_slice(), b"__name__", b"up", b"\xff"].iter().for_each(|text| put::bytes(out, 4, text));
    };
    for (references, why) in [
        (&[1, 2][..], None),
        (&[1, 2, 2, 0], None),
        (&[1, 4], Some("it refers to symbol 4, and there are 4")),
        (&[1, u64::MAX], Some("it refers to symbol 18446744073709551615, and there are 4")),
        (&[1, 2, 2], Some("its label references are no pairs")),
        (&[1, 3], Some("a text is not UTF-8")),
        (&[1, 2, 1, 0], Some("the label `__name__` stands there twice")),
        (&[1, 2, 0, 1], Some("a label has no name")),
    ] {
        // The table may also stand behind what refers to it.
        let mut body = Vec::new();
        series_v2(&mut body, references);
        symbols(&mut body);
        let all = taken(Version::V2, body);
        assert_eq!(all.samples, usize::from(why.is_none()));
        assert!(all.refused.as_deref().unwrap_or_default().ends_with(why.unwrap_or_default()), "{all:?}");
    }
}

#[test]
fn a_series_has_a_point_or_an_exemplar() {
    let series = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut body = Vec::new();
        put::message(&mut body, 1, |out| {
            label(out, b"__name__", b"up");
            write(out);
        });
        taken(Version::V1, body)
    };
    assert!(series(&|_| ()).refused.unwrap().ends_with("it has no sample, histogram or exemplar"));
    let exemplar = |name: &'static [u8]| move |out: &mut Vec<u8>| put::message(out, 3, |out| label(out, name, b"1"));
    assert_eq!(series(&exemplar(b"trace_id")).exemplars, 1);
    assert!(series(&exemplar(b"\xff")).refused.is_some());
    let both = series(&|out| {
        exemplar(b"\xff")(out);
        sample(out, 1.0, 1);
    });
    assert_eq!((both.samples, both.exemplars, both.refused), (1, 0, None), "in 1.0 an exemplar fails nothing");
    let late = series(&|out| sample(out, 1.0, i64::MAX));
    assert!(late.refused.unwrap().ends_with("a timestamp is in no year that can be told"));
}

#[test]
fn an_exemplar_of_2_0_that_is_not_taken_is_told_and_its_series_is_taken() {
    let symbols = |body: &mut Vec<u8>| {
        for symbol in [&b""[..], b"__name__", b"up", b"trace_id", b"\xff"] {
            put::bytes(body, 4, symbol);
        }
    };
    let series = |exemplars: &[&[u64]]| {
        let mut body = Vec::new();
        symbols(&mut body);
        put::message(&mut body, 5, |out| {
            put::packed(out, 1, &[1_u64, 2], put::varint);
            put::message(out, 2, |out| put::int(out, 2, 7));
            for references in exemplars {
                put::message(out, 4, |out| put::packed(out, 1, references, put::varint));
            }
        });
        taken(Version::V2, body)
    };
    let whole = series(&[&[3, 2]]);
    assert_eq!((whole.samples, whole.exemplars, whole.refused), (1, 1, None));
    for wrong in [&[3_u64, 4][..], &[3, 9], &[3], &[3, 2, 3, 2]] {
        let part = series(&[&[3, 2], wrong]);
        assert_eq!((part.samples, part.exemplars), (1, 1));
        assert!(part.refused.unwrap().starts_with("1 exemplars refused"), "{wrong:?}");
        assert!(part.record.is_some());
    }
}

#[test]
fn histograms_have_to_agree_with_themselves() {
    let counted = |count: u64, sum: f64| {
        let mut body = Vec::new();
        put::message(&mut body, 1, |out| {
            label(out, b"__name__", b"h");
            put::message(out, 4, |out| {
                put::always(out, 1, count);
                put::double(out, 3, sum);
                put::message(out, 11, |out| put::number(out, 2, 2));
                put::packed(out, 12, &[2, -1], |out, delta| put::varint(out, put::zigzag(delta)));
                put::int(out, 15, 1_700_000_000_000);
            });
        });
        taken(Version::V1, body)
    };
    assert_eq!(counted(3, 1.5).histograms, 1);
    let refused = counted(99, 1.5).refused.unwrap();
    assert!(refused.ends_with("a histogram is none: its buckets hold 3, and its count is 99"), "{refused}");
    assert_eq!(counted(99, f64::NAN).histograms, 1, "what is no number is in no bucket");
    assert_eq!(counted(2, f64::NAN).histograms, 0);
}

#[test]
fn what_a_later_version_adds_is_passed_over() {
    // Fields of every wire type, in the request and in each of its parts.
    let unknown = |out: &mut Vec<u8>| {
        put::number(out, 90, 7);
        put::double(out, 91, 7.0);
        put::text(out, 92, b"later");
        put::key(out, 93, 5);
        out.extend_from_slice(b"four");
    };
    let with_unknown = |out: &mut Vec<u8>, number: u32, write: &dyn Fn(&mut Vec<u8>)| {
        put::message(out, number, |out| {
            unknown(out);
            write(out);
            unknown(out);
        });
    };
    let point = |out: &mut Vec<u8>| {
        put::double(out, 1, 1.5);
        put::int(out, 2, 1_700_000_000_000);
    };
    let label = |out: &mut Vec<u8>| {
        put::text(out, 1, b"__name__");
        put::text(out, 2, b"up");
    };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    unknown(&mut first);
    with_unknown(&mut first, 1, &|out| {
        with_unknown(out, 1, &label);
        with_unknown(out, 2, &point);
    });
    unknown(&mut second);
    [b"".as_slice(), b"__name__", b"up"].iter().for_each(|text| put::bytes(&mut second, 4, text));
    with_unknown(&mut second, 5, &|out| {
        put::packed(out, 1, &[1, 2], put::varint);
        with_unknown(out, 2, &point);
    });
    for (version, body) in [(Version::V1, first), (Version::V2, second)] {
        let body = Bytes::from(body);
        let all = admit(version, &body, &Limits::default()).unwrap();
        assert_eq!((all.samples, &all.refused, all.record.as_ref()), (1, &None, Some(&body)), "{version:?}");
        let event = serde_json::to_value(decoder().decode(&body).unwrap()).unwrap();
        assert_eq!((&event["name"], &event["value"]), (&"up".into(), &1.5.into()), "{version:?}: {event}");
    }
}

#[test]
fn a_request_of_the_other_version_is_none() {
    let mut one = Vec::new();
    series_v1(&mut one, &[(b"__name__", b"up")]);
    let mut two = Vec::new();
    put::bytes(&mut two, 4, b"");
    for (version, body) in [(Version::V2, one), (Version::V1, two)] {
        let refusal = admit(version, &body.into(), &Limits::default()).unwrap_err();
        assert!(matches!(&refusal, Refusal::Malformed(why) if why.contains("the content type says")), "{refusal:?}");
    }
}

#[test]
fn what_breaks_off_or_has_wrong_types_is_malformed() {
    let mut body = Vec::new();
    series_v1(&mut body, &[(b"__name__", b"up"), (b"job", b"a")]);
    for end in 1..body.len() {
        let refusal = admit(Version::V1, &Bytes::copy_from_slice(&body[..end]), &Limits::default());
        assert!(matches!(refusal, Err(Refusal::Malformed(_))), "cut at {end}: {refusal:?}");
    }
    for (wrong, why) in [
        (&b"\x08\x01"[..], "byte 0: a field has the wrong wire type"),
        (b"\x0a\x02\x08\x01", "byte 2: a field has the wrong wire type"),
        (b"\x0a\x02\x12\x7f", "byte 4: the message breaks off"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "byte 1: a number has more than 64 bits"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "byte 1: a number has more than 64 bits"),
        (b"\x0b\x0c", "byte 0: a group"),
        (b"\x0f", "byte 0: this is no wire type"),
        (b"\x02\x00", "byte 0: this is no number of a field"),
    ] {
        let refusal = admit(Version::V1, &Bytes::from_static(wrong), &Limits::default()).unwrap_err();
        assert!(matches!(&refusal, Refusal::Malformed(text) if text.contains(why)), "{wrong:?}: {refusal}");
    }
}

#[test]
fn limits_hold() {
    let limits = Limits { series: 2, labels: 2, points: 3, label_bytes: 20, symbols: 2 };
    let admitted = |version, body: Vec<u8>| admit(version, &body.into(), &limits);
    let is_too_large = |refusal: Result<Admitted, Refusal>| matches!(refusal, Err(Refusal::TooLarge(_)));

    let mut body = Vec::new();
    (0..3).for_each(|_| series_v1(&mut body, &[(b"__name__", b"up")]));
    assert!(is_too_large(admitted(Version::V1, body)), "series");
    let mut body = Vec::new();
    put::message(&mut body, 1, |out| {
        label(out, b"__name__", b"up");
        (0..4).for_each(|at| sample(out, 1.0, at));
    });
    assert!(is_too_large(admitted(Version::V1, body)), "points");
    let mut body = Vec::new();
    (0..3).for_each(|_| put::bytes(&mut body, 4, b""));
    assert!(is_too_large(admitted(Version::V2, body)), "symbols");

    let mut body = Vec::new();
    series_v1(&mut body, &[(b"__name__", b"up"), (b"a", b""), (b"b", b"")]);
    series_v1(&mut body, &[(b"__name__", b"longer than it may be")]);
    let refused = admitted(Version::V1, body).unwrap().refused.unwrap();
    assert!(refused.contains("it has 3 labels, at most 2 are taken"), "{refused}");
    assert!(refused.contains("its labels have 29 bytes, at most 20 are taken"), "{refused}");
}

#[test]
fn a_small_request_that_would_be_huge_is_too_large() {
    let mut body = Vec::new();
    [b"".as_slice(), b"__name__", b"up", &[b'x'; 60_000]].iter().for_each(|text| put::bytes(&mut body, 4, text));
    (0..10_000).for_each(|_| series_v2(&mut body, &[1, 2, 2, 3]));
    let refusal = admit(Version::V2, &body.into(), &Limits::default()).unwrap_err();
    assert!(matches!(&refusal, Refusal::TooLarge(why) if why.contains("the labels of all points")), "{refusal}");
}

#[test]
fn snappy_says_how_long_it_is_and_is_not_believed() {
    let request = b"a request a request a request".repeat(10);
    let block = snap::raw::Encoder::new().compress_vec(&request).unwrap();
    assert_eq!(decompress(&block, request.len()).unwrap(), request);
    assert!(matches!(decompress(&block, request.len() - 1), Err(Refusal::TooLarge(_))));
    assert_eq!(decompress(b"\x00", 0).unwrap(), "");
    for (body, why) in [
        (&b""[..], "it is empty"),
        (b"\xff\x06\x00\x00sNaPpY", "framing format"),
        (b"\xff\xff\xff\x7f\x00", "it declares 268435455 bytes, which its 5 cannot hold"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff", "invalid header"),
        (&block[..block.len() - 1], "no snappy block"),
    ] {
        let refusal = decompress(body, 1 << 30).unwrap_err();
        assert!(matches!(&refusal, Refusal::Malformed(text) if text.contains(why)), "{body:?}: {refusal}");
    }
    for end in 0..block.len() {
        assert!(decompress(&block[..end], 1 << 20).is_err());
    }
}
