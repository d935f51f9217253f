//! Waiting for conditions: the only place that sleeps.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

/// How long a test waits for what has to happen soon.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Lets a moment pass between two looks at a condition.
#[expect(clippy::disallowed_methods, reason = "the processes waited for have no clock of ours")]
pub fn moment() {
    std::thread::sleep(LOOK);
}

/// Waits until `look` finds something.
///
/// # Panics
/// When it has not after `limit`.
pub fn found<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < deadline, "in vain waited {limit:?} for: {what}");
        moment();
    }
}

/// Waits until `holds`.
///
/// # Panics
/// When it does not after `limit`.
pub fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    found(what, limit, || holds().then_some(()));
}

/// Does something, such as a kill, at moments left to chance in a span; gives how often.
pub fn now_and_then(random: &mut StdRng, span: Duration, mut does: impl FnMut()) -> usize {
    let begun = Instant::now();
    let mut times = 0;
    while begun.elapsed() < span {
        let pause = Duration::from_millis(random.random_range(300..1200));
        let started = Instant::now();
        until("the next moment", PATIENCE, || started.elapsed() >= pause);
        does();
        times += 1;
    }
    times
}
