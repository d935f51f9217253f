//! What keyed state costs an event, in memory: nanoseconds for the first change of a key since a checkpoint, and for each
//! other; and what a checkpoint costs a changed key before it is written.
//!
//! usage: `state [KEYS]`

use std::time::Instant;

use weir::event::Timestamp;
use weir::state::{KeyedState, StateLimits, StatePart};

/// Comes to every key once, in no order, where `keys` is no multiple of it.
const STRIDE: usize = 7_368_787;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let keys: usize = std::env::args().nth(1).map_or(Ok(1_000_000), |keys| keys.parse())?;
    let names: Vec<Vec<u8>> = (0..keys).map(|at| format!("2026-03-01/key-{at}").into_bytes()).collect();
    let mut state: KeyedState<Vec<u8>, u64> = KeyedState::new(StateLimits::in_memory(keys));
    let nanos = |begun: Instant| begun.elapsed().as_nanos() / keys as u128;

    let begun = Instant::now();
    for name in &names {
        state.insert(name.clone(), 0, Timestamp(1000));
    }
    println!("{keys} keys in memory, nanoseconds each");
    println!("{:>26} {:>6}", "a new key", nanos(begun));
    for round in ["changed, new as it is", "changed for the first time", "changed again"] {
        let begun = Instant::now();
        for at in 0..keys {
            if let Some(count) = state.get_mut(&names[at * STRIDE % keys]) {
                *count += 1;
            }
        }
        println!("{round:>26} {:>6}", nanos(begun));
        if round == "changed, new as it is" {
            let (begun, mut bytes) = (Instant::now(), 0);
            state.snapshot(&mut |key, value| bytes += key.len() + value.map_or(0, |value| value.len()));
            state.written();
            println!("{:>26} {:>6} ({} bytes)", "told to a checkpoint", nanos(begun), bytes / keys);
        }
    }
    Ok(())
}
