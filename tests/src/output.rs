//! What an output must look like: every match, first occurrences in order, duplicates only where a crash explains them.

use crate::records::{match_seq, matches_below};

/// What was read from the brokers when a process had just been killed.
#[derive(Debug, Clone)]
pub struct Crash {
    /// By partition: the group's committed offset.
    pub committed: Vec<u64>,
    /// By partition: where the output ended.
    pub output_end: Vec<u64>,
}

/// A crash and the duplicates it cost, over all partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replay {
    /// Records seen again.
    pub duplicates: u64,
    /// What may be seen again: matches from the committed offset to the last in the output.
    pub bound: u64,
}

/// The numbers that are larger than all before them: what a replay repeats is left out.
pub fn without_repeats(seqs: &[u64]) -> Vec<u64> {
    let mut new: Vec<u64> = Vec::new();
    for seq in seqs {
        if new.last().is_none_or(|last| seq > last) {
            new.push(*seq);
        }
    }
    new
}

/// Checks one partition without regard to crashes; `seqs` are its output in order. Gives the number of duplicates.
///
/// # Errors
/// What is wrong, when a match is missing, or first occurrences are out of order, or a record does not belong here.
pub fn check_complete(partition: i32, seqs: &[u64], records: u64) -> Result<u64, String> {
    let mut next = 0;
    for (at, seq) in seqs.iter().enumerate() {
        let expected = match_seq(partition, next);
        match seq.cmp(&expected) {
            std::cmp::Ordering::Equal => next += 1,
            std::cmp::Ordering::Less if crate::records::is_match(partition, *seq) => {}
            _ => return Err(format!("partition {partition}: at {at} of the output is {seq} instead of {expected}")),
        }
    }
    let all = matches_below(partition, records);
    if next != all {
        return Err(format!("partition {partition}: {next} of {all} matches arrived"));
    }
    Ok(seqs.len() as u64 - all)
}

/// Checks one partition against the crashes it saw, and adds what each cost to `replays`.
///
/// # Errors
/// As [`check_complete`]; also when a record is skipped inside a replay, when something is seen again without a crash
/// or from below the committed offset, and when more is seen again than lay beyond the committed offset.
pub fn check_replays(partition: i32, seqs: &[u64], crashes: &[Crash], replays: &mut [Replay]) -> Result<(), String> {
    let place = partition as usize;
    let starts = replay_starts(seqs, crashes.iter().map(|crash| crash.output_end[place] as usize));
    let fail = |what: String| Err(format!("partition {partition}: {what}"));
    let first = starts.first().copied().unwrap_or(seqs.len());
    if let Some(at) = (1..first).find(|&at| seqs[at] <= seqs[at - 1]) {
        return fail(format!("{} is seen again at {at}, before any crash", seqs[at]));
    }
    for (number, crash) in crashes.iter().enumerate() {
        let (from, to) = (starts[number], starts.get(number + 1).copied().unwrap_or(seqs.len()));
        let committed = crash.committed[place];
        let last = seqs[..from].iter().max().copied();
        let bound = last
            .map_or(0, |last| matches_below(partition, last + 1).saturating_sub(matches_below(partition, committed)));
        let window = &seqs[from..to];
        let duplicates = window.iter().filter(|seq| last.is_some_and(|last| **seq <= last)).count() as u64;
        if duplicates > bound {
            return fail(format!("crash {number} cost {duplicates} duplicates, at most {bound} lay beyond the commit"));
        }
        if let Some(seq) = window.iter().find(|seq| **seq < committed) {
            return fail(format!("after crash {number} {seq} is seen again, but {committed} was committed"));
        }
        for pair in window.windows(2) {
            if matches_below(partition, pair[1]) != matches_below(partition, pair[0]) + 1 {
                return fail(format!("after crash {number} {} follows on {}", pair[1], pair[0]));
            }
        }
        replays[number].duplicates += duplicates;
        replays[number].bound += bound;
    }
    Ok(())
}

/// Where each replay begins in the output: a request on its way at the crash may still have been taken after the
/// output's end was read, so it is at the first step back behind that end.
fn replay_starts(seqs: &[u64], ends: impl Iterator<Item = usize>) -> Vec<usize> {
    let ends: Vec<usize> = ends.map(|end| end.min(seqs.len())).collect();
    let mut starts = Vec::with_capacity(ends.len());
    for (number, &end) in ends.iter().enumerate() {
        let next = ends.get(number + 1).copied().unwrap_or(seqs.len());
        let back = (end.max(1)..next).find(|&at| seqs[at] <= seqs[at - 1]);
        starts.push(back.unwrap_or(end));
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(indices: impl IntoIterator<Item = u64>) -> Vec<u64> {
        indices.into_iter().map(|index| match_seq(0, index)).collect()
    }

    fn crash(committed: u64, output_end: u64) -> Crash {
        Crash { committed: vec![match_seq(0, committed)], output_end: vec![output_end] }
    }

    #[test]
    fn loss_and_disorder_are_found() {
        assert_eq!(check_complete(0, &matches(0..20), 100), Ok(0));
        assert_eq!(check_complete(0, &matches((0..10).chain(7..20)), 100), Ok(3));
        assert!(check_complete(0, &matches(0..19), 100).is_err());
        assert!(check_complete(0, &matches((0..9).chain(10..20)), 100).is_err());
        assert!(check_complete(0, &matches((0..9).chain([10, 9]).chain(11..20)), 100).is_err());
        assert!(check_complete(0, &[0, 5, 6, 10], 15).is_err(), "6 is no match");
    }

    #[test]
    fn duplicates_need_a_crash_that_explains_them() {
        let seqs = matches((0..10).chain(7..20));
        let run = |seqs: &[u64], crashes: &[Crash]| {
            let mut replays = vec![Replay::default(); crashes.len()];
            check_replays(0, seqs, crashes, &mut replays).map(|()| replays)
        };
        assert_eq!(run(&seqs, &[crash(7, 10)]), Ok(vec![Replay { duplicates: 3, bound: 3 }]));
        assert_eq!(run(&seqs, &[crash(5, 8)]), Ok(vec![Replay { duplicates: 3, bound: 5 }]), "two were on their way");
        assert!(run(&seqs, &[]).is_err(), "no crash");
        assert!(run(&seqs, &[crash(8, 10)]).is_err(), "8 was committed");
        assert!(run(&matches((0..10).chain([7, 9]).chain(10..20)), &[crash(7, 10)]).is_err(), "8 is skipped");
        assert!(run(&matches((0..10).chain(7..12).chain(9..20)), &[crash(7, 10)]).is_err(), "twice for one crash");
        let twice = matches((0..10).chain(7..12).chain(7..20));
        let both = [Replay { duplicates: 3, bound: 3 }, Replay { duplicates: 5, bound: 5 }];
        assert_eq!(run(&twice, &[crash(7, 10), crash(7, 15)]), Ok(both.to_vec()));
    }
}
