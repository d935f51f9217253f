//! What a request of remote write says, part by part and bit by bit: to compare what was sent with what arrives elsewhere.
//!
//! The reader is the kit's own, as plain as can be: what is tested must not vouch for itself.

use std::collections::BTreeSet;
use std::fmt::Write;

/// The value of a field.
enum Is<'a> {
    Number(u64),
    Double(u64),
    Bytes(&'a [u8]),
}

impl<'a> Is<'a> {
    fn number(&self) -> u64 {
        if let Is::Number(number) = self { *number } else { panic!("no number") }
    }

    fn double(&self) -> u64 {
        if let Is::Double(bits) = self { *bits } else { panic!("no double") }
    }

    fn bytes(&self) -> &'a [u8] {
        if let Is::Bytes(bytes) = self { bytes } else { panic!("no bytes") }
    }

    fn text(&self) -> &'a str {
        std::str::from_utf8(self.bytes()).unwrap()
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if *byte < 0x80 {
            return number;
        }
    }
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Is<'_>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let is = match key & 7 {
            0 => Is::Number(varint(&mut bytes)),
            1 => {
                let (double, rest) = bytes.split_first_chunk::<8>().unwrap();
                bytes = rest;
                Is::Double(u64::from_le_bytes(*double))
            }
            2 => {
                let length = varint(&mut bytes) as usize;
                let (inside, rest) = bytes.split_at(length);
                bytes = rest;
                Is::Bytes(inside)
            }
            wire => panic!("wire type {wire}"),
        };
        all.push((key >> 3, is));
    }
    all
}

fn varints(mut bytes: &[u8]) -> Vec<u64> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        all.push(varint(&mut bytes));
    }
    all
}

/// The symbol table, and which version it is of.
struct Request<'a> {
    symbols: Vec<&'a str>,
    is_2: bool,
}

/// What a request says, uncompressed: one line for each sample, histogram and exemplar, and for the metadata of each series or
/// metric. A time of creation is told with each point it holds for.
pub fn facts(request: &[u8]) -> BTreeSet<String> {
    let top = fields(request);
    let is_2 = top.iter().any(|(number, _)| *number >= 4);
    let symbols = top.iter().filter(|(number, _)| *number == 4).map(|(_, symbol)| symbol.text()).collect();
    let request = Request { symbols, is_2 };
    let mut facts = BTreeSet::new();
    for (number, message) in &top {
        match number {
            1 | 5 => request.series(message.bytes(), &mut facts),
            3 => drop(facts.insert(metadata(message.bytes()))),
            _ => {}
        }
    }
    facts
}

/// `MetricMetadata` of 1.0.
fn metadata(message: &[u8]) -> String {
    let (mut kind, mut texts) = (0, [""; 3]);
    for (number, field) in fields(message) {
        match number {
            1 => kind = field.number(),
            2 => texts[0] = field.text(),
            4 => texts[1] = field.text(),
            5 => texts[2] = field.text(),
            _ => panic!("field {number} of metadata"),
        }
    }
    format!("metadata of {:?}: {kind} {:?} {:?}", texts[0], texts[1], texts[2])
}

impl Request<'_> {
    fn series(&self, message: &[u8], facts: &mut BTreeSet<String>) {
        let parts = fields(message);
        let labels = self.labels(&parts);
        let created = parts.iter().find(|(number, _)| self.is_2 && *number == 6).map_or(0, |(_, at)| at.number());
        let histograms = if self.is_2 { 3 } else { 4 };
        for (number, part) in &parts {
            let fact = match *number {
                2 => sample(part.bytes(), created),
                number if number == histograms => histogram(part.bytes(), created),
                3 | 4 => self.exemplar(part.bytes()),
                5 if self.is_2 => self.metadata(part.bytes()),
                _ => continue,
            };
            facts.insert(format!("{labels} {fact}"));
        }
    }

    /// Names and values, sorted by name.
    fn labels(&self, parts: &[(u64, Is<'_>)]) -> String {
        let mut labels: Vec<(&str, &str)> = Vec::new();
        for (_, field) in parts.iter().filter(|(number, _)| *number == 1) {
            if self.is_2 {
                let symbols = varints(field.bytes());
                labels.extend(symbols.chunks(2).map(|pair| (self.symbol(pair[0]), self.symbol(pair[1]))));
            } else {
                let mut pair = ("", "");
                for (number, text) in fields(field.bytes()) {
                    *(if number == 1 { &mut pair.0 } else { &mut pair.1 }) = text.text();
                }
                labels.push(pair);
            }
        }
        labels.sort_unstable();
        format!("{labels:?}")
    }

    fn symbol(&self, number: u64) -> &str {
        self.symbols[number as usize]
    }

    fn exemplar(&self, message: &[u8]) -> String {
        let parts = fields(message);
        let (mut value, mut at) = (0, 0);
        for (number, field) in &parts {
            match number {
                1 => {}
                2 => value = field.double(),
                3 => at = field.number(),
                _ => panic!("field {number} of an exemplar"),
            }
        }
        format!("exemplar {} {value:016x} at {at}", self.labels(&parts))
    }

    fn metadata(&self, message: &[u8]) -> String {
        let (mut kind, mut texts) = (0, [0; 2]);
        for (number, field) in fields(message) {
            match number {
                1 => kind = field.number(),
                3 => texts[0] = field.number(),
                4 => texts[1] = field.number(),
                _ => panic!("field {number} of metadata"),
            }
        }
        format!("metadata {kind} {:?} {:?}", self.symbol(texts[0]), self.symbol(texts[1]))
    }
}

fn sample(message: &[u8], created: u64) -> String {
    let (mut value, mut at, mut start) = (0, 0, created);
    for (number, field) in fields(message) {
        match number {
            1 => value = field.double(),
            2 => at = field.number(),
            3 => start = field.number(),
            _ => panic!("field {number} of a sample"),
        }
    }
    format!("sample {value:016x} at {} since {}", at as i64, start as i64)
}

/// All fields that are not what they are without a word, by number. Of the counts it shows which of the two they are.
fn histogram(message: &[u8], created: u64) -> String {
    let mut all: Vec<(u64, String)> = Vec::new();
    let mut start = created;
    for (number, field) in fields(message) {
        let text = match (number, &field) {
            (17, at) => {
                start = at.number();
                continue;
            }
            (8 | 11, span) => {
                let of = |wanted| {
                    fields(span.bytes()).iter().find(|(number, _)| *number == wanted).map_or(0, |is| is.1.number())
                };
                format!("{}+{}", of(1), of(2))
            }
            (9 | 12, deltas) => format!("{:?}", varints(deltas.bytes())),
            (10 | 13 | 16, doubles) => {
                let mut text = String::new();
                for double in doubles.bytes().chunks(8) {
                    write!(text, "{:016x},", u64::from_le_bytes(double.try_into().unwrap())).unwrap();
                }
                text
            }
            (1 | 6, Is::Number(0)) => "0".to_owned(),
            (2 | 7, Is::Double(0)) => "0.0".to_owned(),
            (_, Is::Number(0) | Is::Double(0)) => continue,
            (_, Is::Number(number)) => number.to_string(),
            (_, Is::Double(bits)) => format!("{bits:016x}"),
            (number, Is::Bytes(_)) => panic!("field {number} of a histogram"),
        };
        all.push((number, text));
    }
    all.sort_by_key(|(number, _)| *number);
    format!("histogram {all:?} since {}", start as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote_write::{Message, request, request_2, sample as one, series};

    #[test]
    fn both_versions_of_the_same_say_the_same() {
        let first = facts(&request([series(&[("__name__", "a"), ("b", "c")], &[(1.5, 7)])]).0);
        let second = Message::new().packed(1, &[3, 4, 1, 2]).bytes(2, one(1.5_f64.to_bits(), 7));
        let second = facts(&request_2(&["__name__", "a", "b", "c"], [second]).0);
        assert_eq!(first, second);
        assert_eq!(first.len(), 1);
        assert!(first.first().unwrap().ends_with("sample 3ff8000000000000 at 7 since 0"), "{first:?}");
    }
}
