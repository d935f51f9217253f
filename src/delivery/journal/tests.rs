#![allow(clippy::unwrap_used)]
use super::super::log::faults::{Fault, FaultyDisk};
use super::*;

fn one(payload: &[u8]) -> Records {
    let mut records = Records::default();
    records.push(|out| out.extend(payload));
    records
}

fn payloads(records: &[Record]) -> Vec<&[u8]> {
    records.iter().map(|record| &*record.payload).collect()
}

pub(crate) fn owner(trouble: &Trouble) -> JournalOwner {
    JournalOwner { node: "in".into(), trouble: trouble.clone(), when_full: Some("raise it") }
}

fn open(disk: &FaultyDisk, trouble: &Trouble, max_size: u64) -> (Journal, JournalReader) {
    Journal::on(Arc::new(disk.clone()), owner(trouble), max_size).unwrap()
}

/// Waits until it holds; what is settled is stored meanwhile, as whoever reads does.
async fn until(reader: &mut JournalReader, what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        if reader.store_in() == Some(Duration::ZERO) {
            reader.store();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("in vain waited for: {what}");
}

#[test]
fn records_that_are_joined_stay_apart_and_in_order() {
    let mut all = Records::default();
    for mut later in [Records::default(), one(b"a"), one(b""), one(b"bcd")] {
        let size = all.size() + later.size();
        all.join(&mut later);
        assert_eq!(all.size(), size);
    }
    let mut last = one(b"e");
    last.push(|out| out.extend(b"fg"));
    all.join(&mut last);
    assert_eq!(all.payloads().collect::<Vec<_>>(), [b"a".as_slice(), b"", b"bcd", b"e", b"fg"]);
}

#[tokio::test]
async fn what_an_fsync_did_not_take_is_refused_and_never_read() {
    let (disk, trouble) = (FaultyDisk::default(), Trouble::default());
    let (journal, mut reader) = open(&disk, &trouble, 1 << 20);
    journal.append(one(b"first")).await.unwrap();
    disk.fail_sync();
    let refused = journal.append(one(b"lost")).await.unwrap_err();
    assert!(matches!(refused.error, JournalError::Io(_)) && refused.records.len() == 1);
    assert!(trouble.all().unwrap().contains("cannot be written"));
    journal.append(one(b"second")).await.unwrap();
    assert_eq!(trouble.all(), None);
    reader.ready().await;
    assert_eq!(payloads(&reader.read(10, 1000).unwrap()), [b"first".as_slice(), b"second"]);
    reader.settle(1);
    drop((journal, reader));
    let (_journal, mut reader) = open(&disk, &trouble, 1 << 20);
    assert_eq!(payloads(&reader.read(10, 1000).unwrap()), [b"second".as_slice()], "settled is settled");
}

#[tokio::test]
async fn a_full_log_takes_again_once_something_is_settled() {
    let (disk, trouble) = (FaultyDisk::default(), Trouble::default());
    let (journal, mut reader) = open(&disk, &trouble, 40_000);
    assert!(matches!(journal.append(one(&[0; 20_000])).await.unwrap_err().error, JournalError::TooLarge(..)));
    let mut taken = 0;
    let mut freed = journal.freed();
    let refused = loop {
        match journal.append(one(&[1; 1000])).await {
            Ok(()) => taken += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused.error, JournalError::Full(_)) && taken > 30);
    assert!(trouble.all().unwrap().ends_with("bytes of at most 40000: raise it"));
    assert_eq!(reader.read(100, 1 << 20).unwrap().len(), taken);
    reader.settle(reader.next_number());
    freed.changed().await.unwrap();
    assert_eq!(trouble.all(), None, "there is room, whether somebody asks for it or not");
    journal.append(refused.records).await.unwrap();
    assert_eq!(reader.lag(), 1);
}

#[tokio::test]
async fn on_a_full_disk_what_is_settled_is_freed_and_does_not_come_again() {
    // One file for all of it, and many.
    for max_size in [1 << 20, 40_000] {
        let (disk, trouble) = (FaultyDisk::default(), Trouble::default());
        let (journal, mut reader) = open(&disk, &trouble, max_size);
        disk.limit(Some(30_000));
        let mut taken = 0;
        while journal.append(one(&[1; 1000])).await.is_ok() {
            taken += 1;
        }
        assert!(trouble.all().unwrap().contains("cannot be written"), "{:?}", trouble.all());
        assert_eq!(reader.read(100, 1 << 20).unwrap().len(), taken);
        disk.limit(Some(0));
        reader.settle(reader.next_number());
        let log_bytes = || segments_on(&disk).unwrap().iter().map(|(_, size)| size).sum::<u64>();
        until(&mut reader, "the room to be free", || log_bytes() < 5000).await;
        assert!(trouble.all().is_some(), "the disk is full still");
        disk.limit(None);
        until(&mut reader, "the trouble to be over", || trouble.all().is_none()).await;
        drop((journal, reader));
        let (journal, mut reader) = open(&disk, &trouble, max_size);
        assert_eq!((reader.lag(), trouble.all()), (0, None));
        journal.append(one(b"later")).await.unwrap();
        let read = reader.read(10, 1000).unwrap();
        assert_eq!((payloads(&read), read[0].number), (vec![b"later".as_slice()], taken as u64));
    }
}

/// The rows of push logs and disk buffers: both are journals.
#[tokio::test]
async fn a_log_recovers_from_any_fault_of_its_disk_though_nobody_appends() {
    let recovers = |fault: Option<Fault>| async move {
        let (disk, trouble) = (FaultyDisk::default(), Trouble::default());
        let (journal, mut reader) = open(&disk, &trouble, 1 << 20);
        journal.append(one(b"first")).await.unwrap();
        assert_eq!(reader.read(10, 1000).unwrap().len(), 1);
        disk.fault(fault);
        disk.limit(fault.is_none().then_some(5));
        let refused = journal.append(one(b"second")).await.unwrap_err();
        assert!(matches!(refused.error, JournalError::Io(_)), "{refused:?}");
        reader.settle(1);
        // A full disk takes a position all the same.
        assert_eq!(reader.is_stored(), fault.is_none());
        let said = trouble.all().unwrap();
        assert!(said.contains("cannot be written") && (fault.is_none() || said.contains("cannot be stored")), "{said}");
        disk.fault(None);
        disk.limit(None);
        until(&mut reader, "the trouble to be over", || trouble.all().is_none()).await;
        assert!(reader.is_stored());
        journal.append(refused.records).await.unwrap();
        assert_eq!(payloads(&reader.read(10, 1000).unwrap()), [b"second"]);
    };
    let (full, io) = (recovers(None), recovers(Some(Fault::Io)));
    tokio::join!(full, io, recovers(Some(Fault::ReadOnly)), recovers(Some(Fault::Gone)));
}

#[test]
fn a_position_that_cannot_be_stored_at_the_end_fails_the_run() {
    for fault in [Fault::Io, Fault::ReadOnly, Fault::Gone] {
        let (disk, trouble) = (FaultyDisk::default(), Trouble::default());
        let (_journal, mut reader) = open(&disk, &trouble, 1 << 20);
        disk.fault(Some(fault));
        reader.settle(3);
        drop(reader);
        let why = trouble.last_word().unwrap();
        assert!(why.contains("cannot be stored in position") && why.contains("up to 3 events come again"), "{why}");
    }
}

#[tokio::test]
async fn an_answer_is_given_only_for_a_log_that_is_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (log, aside) = (dir.path().join("log"), dir.path().join("aside"));
    let trouble = Trouble::default();
    let (journal, mut reader) = Journal::open(&log, owner(&trouble), 1 << 20).unwrap();
    journal.append(one(b"first")).await.unwrap();
    std::fs::rename(&log, &aside).unwrap();
    std::fs::create_dir(&log).unwrap();
    for _ in 0..2 {
        let refused = journal.append(one(b"lost")).await.unwrap_err();
        assert!(refused.error.to_string().contains("put it back, or start weir again"), "{}", refused.error);
    }
    assert_eq!(std::fs::read_dir(&log).unwrap().count(), 0, "it is somebody else's");
    std::fs::remove_dir(&log).unwrap();
    std::fs::rename(&aside, &log).unwrap();
    until(&mut reader, "the trouble to be over", || trouble.all().is_none()).await;
    journal.append(one(b"second")).await.unwrap();
    assert_eq!(payloads(&reader.read(10, 1000).unwrap()), [b"first".as_slice(), b"second"]);
    let refused = Journal::open(&log, owner(&trouble), 1 << 20).err().unwrap();
    assert!(refused.to_string().contains("another graph or process writes to"), "{refused}");
    drop((journal, reader));
    Journal::open(&log, owner(&trouble), 1 << 20).unwrap();
}
