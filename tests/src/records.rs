//! The records of the tests: every one tells its partition and its number in it, and every fifth is a match.

/// One record in this many is a match.
pub const ONE_IN: u64 = 5;

/// The record with number `seq` of a partition: JSON of about 450 bytes, the same at every call.
pub fn record(partition: i32, seq: u64) -> Vec<u8> {
    let reason = if is_match(partition, seq) { "BackOff" } else { "Pulled" };
    let padding = "Back-off restarting failed container, which this text stands for. ".repeat(5);
    format!(
        r#"{{"partition":{partition},"seq":{seq},"reason":"{reason}","kind":"Event","type":"Warning","message":"{padding}","count":{}}}"#,
        seq % 97
    )
    .into_bytes()
}

/// Whether `.reason == "BackOff"` holds for it.
pub fn is_match(partition: i32, seq: u64) -> bool {
    seq % ONE_IN == partition as u64 % ONE_IN
}

/// The number of the partition's match with this index: 0 is the first.
pub fn match_seq(partition: i32, index: u64) -> u64 {
    index * ONE_IN + partition as u64 % ONE_IN
}

/// How many of the numbers below `end` are matches.
pub fn matches_below(partition: i32, end: u64) -> u64 {
    (end + ONE_IN - 1 - partition as u64 % ONE_IN) / ONE_IN
}

/// The `seq` a record carries, if it is byte for byte one of ours.
pub fn seq_of(partition: i32, value: &[u8]) -> Option<u64> {
    let fields: serde_json::Value = serde_json::from_slice(value).ok()?;
    let seq = fields.get("seq")?.as_u64()?;
    (record(partition, seq) == value).then_some(seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_are_counted_as_they_fall() {
        for partition in 0..12 {
            let matches: Vec<u64> = (0..1000).filter(|seq| is_match(partition, *seq)).collect();
            assert_eq!(matches.len() as u64, matches_below(partition, 1000));
            for (index, seq) in matches.iter().enumerate() {
                assert_eq!(match_seq(partition, index as u64), *seq);
                assert_eq!(matches_below(partition, *seq), index as u64);
            }
        }
        assert!((400..500).contains(&record(3, 12_345).len()));
        assert_eq!(seq_of(3, &record(3, 12_345)), Some(12_345));
        assert_eq!(seq_of(4, &record(3, 12_345)), None);
    }
}
