//! Files through a filter into a file, with `--once`, killed again and again: no event is lost, order holds, and only
//! what had not been committed comes twice.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use weir_tests::output::{Crash, Replay, check_complete, check_replays};
use weir_tests::process::Home;
use weir_tests::records::{matches_below, record, seq_of};
use weir_tests::wait::until;

/// Two files, as two partitions of the records.
const FILES: [&str; 2] = ["a.ndjson", "b.ndjson"];
const EACH: u64 = 150_000;
const KILLS: u64 = 8;
const LIMIT: Duration = Duration::from_secs(60);

/// All but the end of the condition only makes it slow enough to be killed on its way.
const GRAPH: &str = r#"name: killed
sources:
  in: {type: file, paths: [a.ndjson, b.ndjson]}
transforms:
  keep: {type: filter, inputs: [in], condition: 'exists(parse_json!(encode_json(.)).seq) && .reason == "BackOff"'}
sinks:
  out: {type: file, inputs: [keep], path: out.ndjson}
"#;

/// Writes the files; gives back where the lines of each begin, and its length.
fn write_inputs(home: &Home) -> Vec<Vec<u64>> {
    let write = |(partition, name): (i32, &&str)| {
        let mut file = std::io::BufWriter::new(std::fs::File::create(home.path(name)).unwrap());
        let (mut starts, mut at) = (Vec::new(), 0);
        for seq in 0..EACH {
            let line = record(partition, seq);
            starts.push(at);
            at += line.len() as u64 + 1;
            file.write_all(&line).unwrap();
            file.write_all(b"\n").unwrap();
        }
        file.flush().unwrap();
        starts.push(at);
        starts
    };
    (0..).zip(&FILES).map(write).collect()
}

/// The numbers of each partition in the whole lines of the output, in order.
fn output(home: &Home) -> Vec<Vec<u64>> {
    let bytes = std::fs::read(home.path("out.ndjson")).unwrap_or_default();
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let mut seqs = vec![Vec::new(); FILES.len()];
    for line in bytes[..whole].split_inclusive(|byte| *byte == b'\n') {
        let line = &line[..line.len() - 1];
        let found = (0..).zip(&mut seqs).find_map(|(partition, seqs)| Some((seqs, seq_of(partition, line)?)));
        let (seqs, seq) = found.unwrap_or_else(|| panic!("no record of ours: {}", String::from_utf8_lossy(line)));
        seqs.push(seq);
    }
    seqs
}

/// For each file the number of its first record that is not committed.
fn committed(home: &Home, starts: &[Vec<u64>]) -> Vec<u64> {
    let of_file = |(name, starts): (&&str, &Vec<u64>)| {
        let position = home.file_position("weir", "killed", "in", name);
        starts.partition_point(|start| *start < position) as u64
    };
    FILES.iter().zip(starts).map(of_file).collect()
}

#[test]
fn kills_lose_nothing_and_repeat_only_what_was_not_committed() {
    let home = Home::new(GRAPH);
    let starts = write_inputs(&home);
    let matches: u64 = (0..).zip(&FILES).map(|(partition, _)| matches_below(partition, EACH)).sum();
    let all = EACH * FILES.len() as u64;

    let mut crashes = Vec::new();
    let start = || home.start_with("weir", &[], &["--once"], Stdio::null());
    let mut weir = start();
    for number in 1..=KILLS {
        // Spread over both files; a goal that is passed already means a kill while it starts.
        let goal = all * number / (KILLS + 1);
        until("the commits to go on, or the end", LIMIT, || {
            weir.has_ended() || committed(&home, &starts).iter().sum::<u64>() >= goal
        });
        if !weir.kill_unless_ended() {
            break;
        }
        let output_end = output(&home).iter().map(|seqs| seqs.len() as u64).collect();
        crashes.push(Crash { committed: committed(&home, &starts), output_end });
        weir = start();
    }
    println!("{crashes:?}");
    assert!(!crashes.is_empty(), "it was too quick to be killed: give it more to do");
    assert_eq!(weir.wait(LIMIT).code(), Some(0), "{}", weir.log());

    let mut replays = vec![Replay::default(); crashes.len()];
    let mut duplicates = 0;
    for (partition, seqs) in (0..).zip(output(&home)) {
        duplicates += check_complete(partition, &seqs, EACH).unwrap();
        check_replays(partition, &seqs, &crashes, &mut replays).unwrap();
    }
    let bound: u64 = replays.iter().map(|replay| replay.bound).sum();
    assert_eq!(duplicates, replays.iter().map(|replay| replay.duplicates).sum::<u64>());
    println!(
        "kill: {} kills, {matches} matches all there and in order, {duplicates} duplicates, bound {bound}",
        crashes.len()
    );
    let bytes = std::fs::read(home.path("out.ndjson")).unwrap();
    assert_eq!(bytes.last(), Some(&b'\n'), "no torn line");
}
