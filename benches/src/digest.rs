//! Compares what programs wrote without asking them to write alike.
//!
//! Two JSON documents digest alike when they say the same: order of keys, spaces and escapes do not count, the last of
//! two equal keys wins, and `3` is `3.0`. A topic is judged as a multiset of digests, since neither partition nor order
//! is part of the work: count, sum and exclusive or must all agree.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A multiset of digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    /// How many there are.
    pub count: u64,
    /// Their wrapping sum, which sees a record that comes twice.
    pub sum: u64,
    /// Their exclusive or.
    pub xor: u64,
}

impl Tally {
    /// Adds one digest.
    pub fn add(&mut self, digest: Digest) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(digest.0);
        self.xor ^= digest.0;
    }
}

/// What a JSON document says, in 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(u64);

impl Digest {
    /// Reads one document.
    pub fn of(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DigestVisitor).map(Self)
    }
}

struct DigestVisitor;

// What a value is goes into its digest first, so that `"1"`, `1` and `[1]` differ.
const NULL: u64 = 1;
const BOOL: u64 = 2;
const INTEGER: u64 = 3;
const FLOAT: u64 = 4;
const STRING: u64 = 5;
const ARRAY: u64 = 6;
const OBJECT: u64 = 7;

impl<'de> Visitor<'de> for DigestVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<u64, E> {
        Ok(mix(NULL, 0))
    }

    fn visit_bool<E>(self, value: bool) -> Result<u64, E> {
        Ok(mix(BOOL, value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<u64, E> {
        Ok(mix(INTEGER, value.cast_unsigned()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<u64, E> {
        Ok(mix(INTEGER, value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<u64, E> {
        const EXACT: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;
        if value.fract() == 0.0 && value.abs() < EXACT {
            self.visit_i64(value as i64)
        } else {
            Ok(mix(FLOAT, value.to_bits()))
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<u64, E> {
        let start = mix(STRING, value.len() as u64);
        Ok(value.as_bytes().chunks(8).fold(start, |hash, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mix(hash, u64::from_le_bytes(word))
        }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<u64, A::Error> {
        let mut hash = mix(ARRAY, 0);
        while let Some(Digest(item)) = items.next_element()? {
            hash = mix(hash, item);
        }
        Ok(hash)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<u64, A::Error> {
        let mut seen: Vec<(Digest, Digest)> = Vec::with_capacity(16);
        while let Some((key, value)) = entries.next_entry()? {
            match seen.iter_mut().find(|(earlier, _)| *earlier == key) {
                Some((_, overwritten)) => *overwritten = value,
                None => seen.push((key, value)),
            }
        }
        // a sum, so that the order of keys does not count
        let sum = seen.iter().fold(0_u64, |sum, (key, value)| sum.wrapping_add(mix(key.0, value.0)));
        Ok(mix(OBJECT, sum))
    }
}

fn mix(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ 0x9e37_79b9_7f4a_7c15) * u128::from(word ^ 0xd6e8_feb8_6659_fd93);
    let folded = (product as u64) ^ ((product >> 64) as u64);
    (folded ^ hash.rotate_left(23)).wrapping_mul(0xff51_afd7_ed55_8ccd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(json: &str) -> Digest {
        Digest::of(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    #[test]
    fn says_the_same() {
        for (one, other) in [
            (r#"{"a":1,"b":"x"}"#, r#" { "b" : "\u0078", "a" : 1.0 } "#),
            (r#"{"a":1,"b":0,"a":2}"#, r#"{"a":2,"b":0}"#),
            (r#"{"a":{"b":[1,2]}}"#, r#"{"a":{"b":[1.0,2e0]}}"#),
        ] {
            assert_eq!(digest(one), digest(other), "{one} and {other}");
        }
    }

    #[test]
    fn says_something_else() {
        let all = [
            r#""1""#,
            "1",
            "[1]",
            "1.5",
            "true",
            "null",
            "{}",
            "[]",
            r#"{"a":1}"#,
            r#"{"1":"a"}"#,
            "[1,2]",
            "[2,1]",
            r#""""#,
        ];
        for (i, one) in all.iter().enumerate() {
            for other in &all[i + 1..] {
                assert_ne!(digest(one), digest(other), "{one} and {other}");
            }
        }
    }

    #[test]
    fn tally_sees_a_repeated_pair() {
        let (mut once, mut thrice) = (Tally::default(), Tally::default());
        once.add(digest("1"));
        for _ in 0..3 {
            thrice.add(digest("1"));
        }
        assert_eq!(once.xor, thrice.xor);
        assert_ne!(once, thrice);
    }
}
