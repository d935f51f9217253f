//! Seeded records in the form of Kubernetes events, about 460 bytes each, and what a correct program makes of them.
//!
//! One in five has the reason `BackOff`. A small part are decoys: documents whose bytes and whose meaning disagree about
//! that, each of them plain JSON. A record depends on the seed and its number alone, so any one can be made again.

/// How a record states its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `"reason":"..."`, as every usual writer has it.
    Plain,
    /// `"reason":"BackOff"` stands in an object further inside.
    Nested,
    /// `"reason":"BackOff"` stands in a string, with its quotes escaped.
    Quoted,
    /// The key is written `"\u0072eason"`.
    EscapedKey,
    /// The value is written `"Back\u004fff"`.
    EscapedValue,
    /// There are spaces around the colon.
    Spaced,
    /// The key comes twice, and the last says `BackOff`.
    DuplicateHit,
    /// The key comes twice, and the first says `BackOff`.
    DuplicateMiss,
    /// The string in front of the key ends in a backslash.
    Backslash,
}

const DECOYS: [Shape; 8] = [
    Shape::Nested,
    Shape::Quoted,
    Shape::EscapedKey,
    Shape::EscapedValue,
    Shape::Spaced,
    Shape::DuplicateHit,
    Shape::DuplicateMiss,
    Shape::Backslash,
];

const TEAMS: [&str; 12] = [
    "atlas", "borealis", "cobalt", "delta", "ember", "fjord", "granite", "harbor", "indigo", "juniper", "krypton",
    "lumen",
];
const WORKLOADS: [&str; 10] =
    ["api", "billing", "catalogue", "dispatch", "exporter", "frontend", "indexer", "notifier", "session", "uploader"];
const HEALTHY: [(&str, &str, &str); 4] = [
    ("Scheduled", "Normal", "Successfully assigned the pod to a node of its pool"),
    ("Pulled", "Normal", "Container image is already present on the machine"),
    ("Started", "Normal", "Started container main"),
    ("Unhealthy", "Warning", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
];
const BACK_OFF: (&str, &str, &str) = ("BackOff", "Warning", "Back-off restarting failed container main in pod");

/// What a record means to the benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Meaning {
    /// How it was written.
    pub shape: Shape,
    /// Whether `.reason == "BackOff"` holds for a reader of JSON.
    pub kept: bool,
    /// The number in the host's name `node-NN`.
    pub host: u64,
}

/// The records of one seed.
#[derive(Clone, Copy, Debug)]
pub struct Events {
    /// Two runs with the same seed see the same bytes.
    pub seed: u64,
    /// How many of a thousand records are decoys.
    pub decoys_per_mille: u64,
}

impl Events {
    /// Writes record `number` to the end of `out`.
    pub fn write(&self, number: u64, out: &mut Vec<u8>) -> Meaning {
        let mut dice = Dice(self.seed.wrapping_mul(0xd134_2543_de82_ef95) ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let shape = if dice.below(1000) < self.decoys_per_mille { *dice.pick(&DECOYS) } else { Shape::Plain };
        let back_off = dice.below(5) == 0;
        let (kept, (reason, kind, message)) = match shape {
            Shape::Plain if back_off => (true, BACK_OFF),
            Shape::Plain | Shape::Nested | Shape::Quoted | Shape::DuplicateMiss => (false, *dice.pick(&HEALTHY)),
            _ => (true, BACK_OFF),
        };
        let (team, workload, host) = (dice.pick(&TEAMS), dice.pick(&WORKLOADS), dice.below(97));
        let (set, pod, uid) = (dice.next(), dice.next(), dice.next());

        let text = |out: &mut Vec<u8>, pieces: &[&str]| {
            pieces.iter().for_each(|piece| out.extend_from_slice(piece.as_bytes()))
        };
        let pod_name = |out: &mut Vec<u8>| {
            text(out, &[workload, "-"]);
            hex(set, 10, out);
            out.push(b'-');
            hex(pod, 5, out);
        };

        text(out, &[r#"{"kind":"Event","apiVersion":"v1","metadata":{"name":""#]);
        pod_name(out);
        out.push(b'.');
        hex(uid.rotate_left(17), 16, out);
        text(out, &[r#"","namespace":"team-"#, team, r#"-prod","uid":""#]);
        for (i, digits) in [8, 4, 4, 4, 12].into_iter().enumerate() {
            if i > 0 {
                out.push(b'-');
            }
            hex(uid.rotate_right(11 * i as u32) ^ set, digits, out);
        }
        text(out, &[r#"","resourceVersion":""#]);
        decimal(100_000 + number, 1, out);
        text(out, &[r#""},"involvedObject":{"kind":"Pod","name":""#]);
        pod_name(out);
        text(out, &[r#""},"#]);

        match shape {
            Shape::Plain => text(out, &[r#""reason":""#, reason, r#"","message":""#, message]),
            Shape::Nested => {
                text(out, &[r#""related":{"reason":"BackOff"},"reason":""#, reason, r#"","message":""#, message])
            }
            Shape::Quoted => text(
                out,
                &[r#""reason":""#, reason, r#"","message":"was {\"reason\":\"BackOff\"} – ,\"reason\":\"BackOff\",\\"#],
            ),
            Shape::EscapedKey => text(out, &[r#""\u0072eason":""#, reason, r#"","message":""#, message]),
            Shape::EscapedValue => text(out, &[r#""reason":"Back\u004fff","message":""#, message]),
            Shape::Spaced => text(out, &[r#""reason" : "#, "\"", reason, r#"" , "message": ""#, message]),
            Shape::DuplicateHit => text(out, &[r#""reason":"Pulled","reason":""#, reason, r#"","message":""#, message]),
            Shape::DuplicateMiss => {
                text(out, &[r#""reason":"BackOff","message":""#, message, r#"","reason":""#, reason])
            }
            Shape::Backslash => text(out, &[r#""message":"mounted C:\\var\\lib\\","reason":""#, reason]),
        }

        text(out, &[r#"","source":{"component":"kubelet","host":"node-"#]);
        decimal(host, 2, out);
        text(out, &[r#""},"lastTimestamp":""#]);
        let second = number / 100; // a hundred events a second
        text(out, &["2026-11-"]);
        decimal(1 + second / 86_400 % 28, 2, out);
        for (mark, value) in [("T", second / 3600 % 24), (":", second / 60 % 60), (":", second % 60)] {
            text(out, &[mark]);
            decimal(value, 2, out);
        }
        text(out, &[r#"Z","count":"#]);
        decimal(1 + dice.below(9), 1, out);
        text(out, &[r#","type":""#, kind, r#""}"#]);
        Meaning { shape, kept, host }
    }
}

/// Turns a kept record into what `remap.yaml` makes of it.
pub fn remapped(record: &[u8], meaning: Meaning, out: &mut Vec<u8>) {
    let inside = record.strip_suffix(b"}").unwrap_or(record);
    out.clear();
    out.extend_from_slice(inside);
    out.extend_from_slice(br#","cluster":"bench","node":"node-"#);
    decimal(meaning.host, 2, out);
    out.extend_from_slice(br#""}"#);
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}

fn hex(value: u64, digits: u32, out: &mut Vec<u8>) {
    out.extend((0..digits).rev().map(|digit| b"0123456789abcdef"[(value >> (4 * digit) & 15) as usize]));
}

/// Writes `value` with at least `width` digits.
fn decimal(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while value > 0 || digits.len() - start < width {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    const EVENTS: Events = Events { seed: 7, decoys_per_mille: 200 };

    fn record(number: u64) -> (Vec<u8>, Meaning) {
        let mut out = Vec::new();
        let meaning = EVENTS.write(number, &mut out);
        (out, meaning)
    }

    #[test]
    fn meaning_is_what_a_json_reader_sees() {
        for number in 0..20_000 {
            let (json, meaning) = record(number);
            let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
            assert_eq!(
                value["reason"] == "BackOff",
                meaning.kept,
                "{:?} {}",
                meaning.shape,
                String::from_utf8_lossy(&json)
            );
            assert_eq!(value["source"]["host"], format!("node-{:02}", meaning.host));
        }
    }

    #[test]
    fn remapped_adds_two_fields() {
        let (json, meaning) = record(3);
        let mut value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        value["cluster"] = "bench".into();
        value["node"] = value["source"]["host"].clone();
        let mut out = Vec::new();
        remapped(&json, meaning, &mut out);
        assert_eq!(Digest::of(&out).unwrap(), Digest::of(value.to_string().as_bytes()).unwrap());
    }

    #[test]
    fn every_shape_occurs_and_the_mix_is_as_stated() {
        let mut shapes = Vec::new();
        let (mut kept, mut bytes, mut decoys) = (0, 0, 0);
        for number in 0..50_000 {
            let (json, meaning) = record(number);
            bytes += json.len();
            if meaning.shape == Shape::Plain {
                kept += u32::from(meaning.kept);
            } else {
                decoys += 1;
                if !shapes.contains(&meaning.shape) {
                    shapes.push(meaning.shape);
                }
            }
        }
        assert_eq!(shapes.len(), DECOYS.len());
        assert!((9_500..10_500).contains(&decoys), "{decoys} decoys of 50,000 at 200 in a thousand");
        assert!((7_700..8_300).contains(&kept), "{kept} back-offs among 40,000 plain records");
        assert!((450..470).contains(&(bytes / 50_000)), "{} bytes a record", bytes / 50_000);
    }

    #[test]
    fn a_record_can_be_made_again() {
        assert_eq!(record(41).0, record(41).0);
        assert_ne!(record(41).0, record(42).0);
    }
}
