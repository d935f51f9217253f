#![allow(clippy::unwrap_used)]
use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;

use super::faults::FaultyDisk;
use super::format::Head;
use super::*;

const LIMITS: LogLimits = LogLimits { segment_bytes: 400, total_bytes: 100_000, record_bytes: 1000 };

fn open(disk: &FaultyDisk) -> SegmentedLog {
    SegmentedLog::on(Arc::new(disk.clone()), LIMITS).unwrap()
}

fn reader(disk: &FaultyDisk) -> LogReader {
    LogReader::on(Arc::new(disk.clone()), LIMITS.record_bytes, 0).unwrap()
}

fn log_of(disk: &FaultyDisk, payloads: impl IntoIterator<Item = Vec<u8>>) -> SegmentedLog {
    let mut log = open(disk);
    for payload in payloads {
        log.append(&payload).unwrap();
        log.sync().unwrap();
    }
    log
}

/// The records of a file by number, with the bytes they stand in.
fn records_in(disk: &FaultyDisk, first: u64) -> Vec<(u64, Range<usize>)> {
    let bytes = disk.read(&segment_name(first)).unwrap();
    let Head::Two { marker, .. } = format::read_head(&bytes, first) else { return Vec::new() };
    let record = |at: usize| {
        let head = format::read_record_head(marker, &bytes[at..])?;
        Some((head.number, at..at + head.size() as usize))
    };
    (0..bytes.len()).filter_map(record).collect()
}

#[test]
fn a_full_log_refuses_and_takes_again_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let limits = LogLimits { segment_bytes: 110, total_bytes: 310, record_bytes: 1000 };
    let mut log = SegmentedLog::open(dir.path(), limits).unwrap();
    let mut taken = 0;
    while log.append(&[7; 40]).is_ok() {
        taken += 1;
    }
    log.sync().unwrap();
    assert!(taken >= 2 && log.bytes() <= 310);
    log.truncate_before(2).unwrap();
    log.append(&[8; 40]).unwrap();
    log.sync().unwrap();
    drop(log);
    let last = LogReader::open(dir.path(), 1000, 0).unwrap().last().unwrap().unwrap();
    assert_eq!(last.payload, vec![8; 40]);
}

#[test]
fn an_unknown_version_is_refused() {
    let disk = FaultyDisk::default();
    log_of(&disk, [vec![1]]);
    disk.damage(&segment_name(0), |bytes| {
        bytes[7] = 3;
        let crc = crc32fast::hash(&bytes[..32]);
        bytes[32..36].copy_from_slice(&crc.to_le_bytes());
    });
    let error = SegmentedLog::on(Arc::new(disk), LIMITS).unwrap_err();
    assert!(error.to_string().contains("not a weir log of version 1 or 2"), "{error}");
}

#[test]
fn version_1_is_read_and_goes_on_in_version_2() {
    let disk = FaultyDisk::default();
    let mut bytes = b"WEIRLOG\x01".to_vec();
    bytes.extend(5_u64.to_le_bytes());
    for payload in [b"five", b"six "] {
        bytes.extend(4_u32.to_le_bytes());
        bytes.extend(format::checksum_1(4, payload).to_le_bytes());
        bytes.extend(payload);
    }
    // A torn write behind them.
    bytes.extend(4_u32.to_le_bytes());
    disk.create(&segment_name(5)).unwrap().append(&bytes).unwrap();
    let mut log = open(&disk);
    assert_eq!(log.append(b"seven").unwrap(), 7);
    log.sync().unwrap();
    let read: Vec<Record> = reader(&disk).map(Result::unwrap).collect();
    let expected = [(5, b"five".to_vec()), (6, b"six ".to_vec()), (7, b"seven".to_vec())];
    assert_eq!(read, expected.map(|(number, payload)| Record { number, payload }));
}

#[test]
fn damage_costs_the_record_it_is_in_and_is_kept_for_a_look() {
    for within in [0, 9, 17, 21, 25, 30] {
        let disk = FaultyDisk::default();
        log_of(&disk, (0..20_u8).map(|n| vec![n; 40]));
        let first = segments_on(&disk).unwrap()[1].0;
        let (number, range) = records_in(&disk, first)[1].clone();
        disk.damage(&segment_name(first), |bytes| bytes[range.start + within] ^= 1);
        let (mut numbers, mut damages) = (Vec::new(), Vec::new());
        let mut log = reader(&disk);
        while let Some(read) = log.next() {
            match read {
                Ok(record) => numbers.push(record.number),
                Err(damage) => {
                    log.quarantine(&damage).unwrap();
                    damages.push(damage);
                }
            }
        }
        assert_eq!(numbers, (0..20).filter(|n| *n != number).collect::<Vec<_>>(), "byte {within} of a record");
        let [Damage { offset, bytes, records: 1, .. }] = &damages[..] else { panic!("{damages:?}") };
        assert_eq!((*offset, *bytes), (range.start as u64, range.len() as u64));
        let kept = disk.read(&format!("{}.{}.quarantine", segment_name(first), range.start)).unwrap();
        assert_eq!(kept, disk.read(&segment_name(first)).unwrap()[range]);
    }
}

#[test]
fn a_file_that_is_missing_or_empty_costs_its_own_records_and_they_are_counted() {
    for remove in [true, false] {
        let disk = FaultyDisk::default();
        let log = log_of(&disk, (0..20_u8).map(|n| vec![n; 40]));
        let files = segments_on(&disk).unwrap();
        let (gone, behind) = (files[1].0, files[2].0);
        match remove {
            true => disk.remove(&segment_name(gone)).unwrap(),
            false => disk.damage(&segment_name(gone), Vec::clear),
        }
        let mut reader = reader(&disk).missing_none();
        let (mut numbers, mut lost) = (Vec::new(), 0);
        while let Some(read) = reader.read_below(log.durable()).unwrap() {
            match read {
                Ok(record) => numbers.push(record.number),
                Err(damage) => lost += damage.records,
            }
        }
        assert_eq!(numbers, (0..gone).chain(behind..20).collect::<Vec<_>>());
        assert_eq!(lost, behind - gone);
    }
}

#[test]
fn a_tail_that_is_zeroed_cut_or_gone_is_counted() {
    type Harm = fn(&FaultyDisk, &str);
    let harms: [(&str, Harm); 4] = [
        ("zeros", |disk, name| disk.damage(name, |bytes| bytes.fill(0))),
        ("empty", |disk, name| disk.damage(name, Vec::clear)),
        ("no records", |disk, name| disk.damage(name, |bytes| bytes.truncate(HEAD as usize))),
        ("gone", |disk, name| disk.remove(name).unwrap()),
    ];
    for (how, harm) in harms {
        let disk = FaultyDisk::default();
        log_of(&disk, (0..20_u8).map(|n| vec![n; 40]));
        let last = segments_on(&disk).unwrap().last().unwrap().0;
        harm(&disk, &segment_name(last));
        let mut log = open(&disk);
        assert_eq!(log.missing(), last..20, "{how}");
        assert_eq!((log.durable(), log.next() >= 20), (20, true), "{how}: numbers are not used again");
        log.append(b"later").unwrap();
        log.sync().unwrap();
        // Whether the end is known by who writes, or by the note alone.
        for until in [log.durable(), u64::MAX] {
            let mut reader = reader(&disk).missing_none();
            let (mut numbers, mut lost) = (Vec::new(), 0);
            while let Some(read) = reader.read_below(until).unwrap() {
                match read {
                    Ok(record) => numbers.push(record.number),
                    Err(damage) => lost += damage.records,
                }
            }
            assert_eq!((numbers, lost), ((0..last).chain([log.durable() - 1]).collect(), 20 - last), "{how}");
        }
    }
}

#[test]
fn a_large_file_of_zeros_is_read_in_one_pass() {
    let disk = FaultyDisk::default();
    log_of(&disk, [vec![1; 900]]);
    disk.damage(&segment_name(0), |bytes| *bytes = vec![0; 4 << 20]);
    let reads = disk.reads();
    assert_eq!(open(&disk).missing(), 0..1);
    assert!(disk.reads() - reads < 100, "{} reads", disk.reads() - reads);
}

#[test]
fn a_file_that_is_not_at_its_path_any_more_takes_no_record() {
    let disk = FaultyDisk::default();
    let mut log = log_of(&disk, [b"first".to_vec()]);
    disk.remove(&segment_name(0)).unwrap();
    log.append(b"second").unwrap();
    let error = log.sync().unwrap_err().to_string();
    assert!(error.contains("was removed or replaced while weir uses it: put it back"), "{error}");
    log.sync().unwrap();
    let read: Vec<_> = reader(&disk).filter_map(Result::ok).map(|record| record.payload).collect();
    assert_eq!(read, [b"second"]);
}

#[test]
fn records_that_belong_together_are_in_one_file() {
    let disk = FaultyDisk::default();
    let mut log = log_of(&disk, [vec![0; 200]]);
    let together = [vec![1; 100], vec![2; 100], vec![3; 100]];
    log.append_all(together.iter().map(Vec::as_slice)).unwrap();
    // Room for the first of them.
    disk.limit(Some(2 * HEAD as usize + 150));
    log.sync().unwrap_err();
    log.discard();
    disk.limit(None);
    log.append(b"later").unwrap();
    log.sync().unwrap();
    let read: Vec<_> = reader(&disk).map(|record| record.unwrap().payload).collect();
    assert_eq!(read, [vec![0; 200], b"later".to_vec()]);
}

#[test]
fn no_payload_passes_for_a_record() {
    let disk = FaultyDisk::default();
    let mut log = open(&disk);
    let mut inner = Vec::new();
    format::record(*b"notknown", 1, b"invented", &mut inner);
    log.append(&inner).unwrap();
    log.append(b"true").unwrap();
    log.sync().unwrap();
    disk.damage(&segment_name(0), |bytes| bytes[HEAD as usize] ^= 1);
    let read: Vec<_> = reader(&disk).filter_map(Result::ok).map(|record| record.payload).collect();
    assert_eq!(read, [b"true"]);
}

/// What happens to a log and its disk.
#[derive(Debug, Clone)]
enum Act {
    Append(usize),
    Sync,
    WriteFails,
    SyncFails,
    /// Room for so many bytes more.
    Full(usize),
    Room,
    Discard,
    /// Files of the first records go.
    Truncate,
    Crash(u64),
    /// After a crash, a bit of a file has flipped.
    Flip(u64, usize, usize),
    Empty(u64, usize),
    Remove(u64, usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        10 => (0_usize..120).prop_map(Act::Append),
        6 => Just(Act::Sync),
        1 => Just(Act::WriteFails),
        1 => Just(Act::SyncFails),
        1 => (0_usize..200).prop_map(Act::Full),
        2 => Just(Act::Room),
        1 => Just(Act::Discard),
        1 => Just(Act::Truncate),
        2 => any::<u64>().prop_map(Act::Crash),
        1 => (any::<u64>(), any::<usize>(), any::<usize>()).prop_map(|(chance, file, at)| Act::Flip(chance, file, at)),
        1 => (any::<u64>(), any::<usize>()).prop_map(|(chance, file)| Act::Empty(chance, file)),
        1 => (any::<u64>(), any::<usize>()).prop_map(|(chance, file)| Act::Remove(chance, file)),
    ]
}

/// A log, and what has to be in it.
struct Story {
    disk: FaultyDisk,
    log: SegmentedLog,
    acknowledged: BTreeMap<u64, Vec<u8>>,
    unsynced: Vec<(u64, Vec<u8>)>,
    /// Everything that ever had a number.
    written: HashMap<u64, Vec<Vec<u8>>>,
    /// Acknowledged records the medium lost.
    lost: BTreeSet<u64>,
    /// Files of which a bit has flipped already: two in one may cost all of it.
    flipped: BTreeSet<u64>,
    truncated: u64,
    count: u8,
}

impl Story {
    fn new() -> Story {
        let disk = FaultyDisk::default();
        let log = open(&disk);
        Story {
            disk,
            log,
            acknowledged: BTreeMap::new(),
            unsynced: Vec::new(),
            written: HashMap::new(),
            lost: BTreeSet::new(),
            flipped: BTreeSet::new(),
            truncated: 0,
            count: 0,
        }
    }

    fn acknowledge(&mut self) {
        for (number, payload) in self.unsynced.drain(..) {
            let reused = self.acknowledged.insert(number, payload).is_some();
            assert!(!reused || self.lost.remove(&number), "{number} was acknowledged before");
        }
    }

    fn sync(&mut self) {
        if self.log.sync().is_ok() {
            self.acknowledge();
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Append(size) => {
                self.count = self.count.wrapping_add(1);
                let payload = vec![self.count; size];
                // A file that is full is synced before the next one is begun; that may fail.
                if let Ok(number) = self.log.append(&payload) {
                    self.written.entry(number).or_default().push(payload.clone());
                    self.unsynced.push((number, payload));
                }
            }
            Act::Sync => self.sync(),
            Act::WriteFails => self.disk.fail_write(),
            Act::SyncFails => self.disk.fail_sync(),
            Act::Full(room) => self.disk.limit(Some(room)),
            Act::Room => self.disk.limit(None),
            Act::Discard => {
                self.log.discard();
                self.unsynced.clear();
            }
            Act::Truncate => {
                let middle = self.acknowledged.keys().nth(self.acknowledged.len() / 2).copied().unwrap_or(0);
                self.log.truncate_before(middle).unwrap();
                self.truncated = self.truncated.max(middle);
            }
            Act::Crash(chance) => self.crash(chance, |_| {}),
            Act::Flip(chance, file, at) => self.crash(chance, |story| {
                story.harm(file, |bytes, records, lost| {
                    let at = at % bytes.len().max(1);
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 0x10;
                    }
                    lost.extend(records.iter().filter(|(_, range)| range.contains(&at)).map(|(number, _)| *number));
                });
            }),
            Act::Empty(chance, file) => self.crash(chance, |story| {
                story.harm(file, |bytes, records, lost| {
                    bytes.clear();
                    lost.extend(records.iter().map(|(number, _)| *number));
                });
            }),
            Act::Remove(chance, file) => self.crash(chance, |story| {
                let name = story.harm(file, |_, records, lost| lost.extend(records.iter().map(|(number, _)| *number)));
                if let Some(name) = name {
                    story.disk.remove(&name).unwrap();
                    Disk::sync(&story.disk).unwrap();
                }
            }),
        }
    }

    fn crash(&mut self, chance: u64, harm: impl FnOnce(&mut Story)) {
        self.disk.crash(chance);
        self.disk.limit(None);
        self.unsynced.clear();
        harm(self);
        self.log = open(&self.disk);
        // As whoever removes what is done with remembers where that ends.
        self.log.skip_to(self.truncated);
    }

    fn harm(
        &mut self,
        file: usize,
        change: impl FnOnce(&mut Vec<u8>, &[(u64, Range<usize>)], &mut BTreeSet<u64>),
    ) -> Option<String> {
        let files = segments_on(&self.disk).unwrap();
        let first = files.get(file % files.len().max(1))?.0;
        let records = records_in(&self.disk, first);
        let lost = &mut self.lost;
        if !self.flipped.insert(first) {
            let end = files.iter().map(|(other, _)| *other).find(|other| *other > first).unwrap_or(u64::MAX);
            lost.extend(self.acknowledged.range(first..end).map(|(number, _)| *number));
        }
        self.disk.damage(&segment_name(first), |bytes| change(bytes, &records, lost));
        Some(segment_name(first))
    }

    fn check(mut self) {
        self.disk.limit(None);
        self.log = open(&self.disk);
        let mut reader = reader(&self.disk).missing_none();
        let mut found = BTreeMap::new();
        while let Some(read) = reader.read_below(self.log.durable()).unwrap() {
            if let Ok(Record { number, payload }) = read {
                let was_written = self.written.get(&number).is_some_and(|all| all.contains(&payload));
                assert!(was_written, "{number} was never written so: {payload:?}");
                assert!(found.last_key_value().is_none_or(|(last, _)| *last < number), "numbers rise");
                found.insert(number, payload);
            }
        }
        for (number, payload) in &self.acknowledged {
            if *number >= self.truncated && !self.lost.contains(number) {
                assert_eq!(found.get(number), Some(payload), "{number} was acknowledged");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever fails, and however often: what was acknowledged comes back as it was, unless the medium itself lost it,
    /// and nothing comes that was never written.
    #[test]
    fn what_is_acknowledged_comes_back_after_any_fault(acts in prop::collection::vec(act(), 1..60)) {
        let mut story = Story::new();
        for act in acts {
            story.act(act);
        }
        story.check();
    }
}
