//! Waiting for conditions: the only place that sleeps.

use std::sync::atomic::{AtomicBool, Ordering};
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

/// Whether those who work beside a test go on.
#[derive(Default)]
pub struct Over(AtomicBool);

impl Over {
    /// Whether the work is over.
    pub fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs `main`, and beside it `count` threads of `work`, each until it is told that it is over. Gives what all of them give.
///
/// They are told also when `main` panics: a check that fails ends the test, rather than to keep it waiting for them.
///
/// # Panics
/// When one of them does.
pub fn beside<R, T: Send>(count: u64, work: impl Fn(u64, &Over) -> T + Sync, main: impl FnOnce() -> R) -> (R, Vec<T>) {
    struct Tells<'a>(&'a Over);
    impl Drop for Tells<'_> {
        fn drop(&mut self) {
            self.0.0.store(true, Ordering::Relaxed);
        }
    }
    let over = Over::default();
    std::thread::scope(|scope| {
        let (work, over) = (&work, &over);
        let tells = Tells(over);
        let workers: Vec<_> = (0..count).map(|worker| scope.spawn(move || work(worker, over))).collect();
        let result = main();
        drop(tells);
        (result, workers.into_iter().map(|worker| worker.join().unwrap()).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_works_beside_a_check_that_fails_is_told() {
        let failed = std::panic::catch_unwind(|| {
            beside(2, |_, over| until("the end", PATIENCE, || over.is()), || panic!("a check that fails"))
        });
        assert!(failed.is_err());
    }
}
