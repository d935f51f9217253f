//! Which connections wait for a request, so that they make room where there are too many.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Connections that wait for a request, by when they began to.
#[derive(Debug, Default)]
pub(crate) struct Idle(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    next: u64,
    since: BTreeMap<u64, (Instant, Arc<Notify>)>,
}

impl Idle {
    /// A connection that waits from now on.
    pub fn seat(self: &Arc<Idle>) -> Seat {
        let seat = Seat { idle: self.clone(), asked: Arc::new(Notify::new()), number: Mutex::new(None) };
        seat.waits();
        seat
    }

    /// Asks the one that has waited longest to go, if that is at least so long.
    pub fn ask_to_go(&self, least: Duration) -> bool {
        let mut all = self.all();
        let Some(first) = all.since.first_entry() else { return false };
        if first.get().0.elapsed() < least {
            return false;
        }
        first.remove().1.notify_one();
        true
    }

    fn all(&self) -> std::sync::MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place among them. It waits at first; while it works nobody takes its place.
#[derive(Debug)]
pub struct Seat {
    idle: Arc<Idle>,
    asked: Arc<Notify>,
    number: Mutex<Option<u64>>,
}

impl Seat {
    /// It waits for its sender.
    pub fn waits(&self) {
        let mut all = self.idle.all();
        let number = all.next;
        all.next += 1;
        all.since.insert(number, (Instant::now(), self.asked.clone()));
        *self.number() = Some(number);
    }

    /// It has something to do.
    pub fn works(&self) {
        let mut all = self.idle.all();
        if let Some(number) = self.number().take() {
            all.since.remove(&number);
        }
    }

    /// Resolves when it is to go.
    pub(crate) async fn asked_to_go(&self) {
        self.asked.notified().await;
    }

    fn number(&self) -> std::sync::MutexGuard<'_, Option<u64>> {
        self.number.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.works();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_longest_goes_first_and_who_works_or_is_gone_is_not_asked() {
        let idle = Arc::new(Idle::default());
        let [first, second, third, fourth] = [(); 4].map(|()| idle.seat());
        assert!(!idle.ask_to_go(Duration::from_secs(60)), "nobody has waited for so long");
        first.works();
        drop(second);
        assert!(idle.ask_to_go(Duration::ZERO));
        third.asked_to_go().await;
        first.waits();
        assert!(idle.ask_to_go(Duration::ZERO));
        fourth.asked_to_go().await;
        assert!(idle.ask_to_go(Duration::ZERO));
        first.asked_to_go().await;
        assert!(!idle.ask_to_go(Duration::ZERO), "each is asked once");
    }
}
