//! One memory budget for the process: no permit, no reading, and so back-pressure to the source.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits are counted in these units, so that a budget of many gigabytes fits a `u32`.
const UNIT: usize = 1024;

/// The bytes that all batches in flight may hold together.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    units: u32,
    free: Arc<Semaphore>,
}

/// A share of the budget; given back on drop.
#[derive(Debug)]
pub struct MemoryPermit(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl MemoryBudget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> MemoryBudget {
        let units = u32::try_from(bytes.div_ceil(UNIT as u64)).unwrap_or(u32::MAX >> 3).clamp(1, u32::MAX >> 3);
        MemoryBudget { units, free: Arc::new(Semaphore::new(units as usize)) }
    }

    /// Waits until `bytes` are free. Asking for more than the whole budget waits for all of it, so that one
    /// oversize record is admitted alone.
    pub async fn acquire(&self, bytes: usize) -> MemoryPermit {
        let units = self.units_of(bytes);
        match self.free.clone().acquire_many_owned(units).await {
            Ok(permit) => MemoryPermit(permit),
            Err(_closed) => unreachable!("the budget's semaphore is never closed"),
        }
    }

    /// A share of up to `bytes` without waiting, for what is in memory already: whoever acquires next waits the longer.
    pub fn take(&self, bytes: usize) -> Option<MemoryPermit> {
        let free = u32::try_from(self.free.available_permits()).unwrap_or(u32::MAX);
        let permit = self.free.clone().try_acquire_many_owned(self.units_of(bytes).min(free));
        permit.ok().map(MemoryPermit)
    }

    /// Bytes in use now.
    pub fn used(&self) -> u64 {
        (self.units as usize - self.free.available_permits().min(self.units as usize)) as u64 * UNIT as u64
    }

    /// Bytes in all.
    pub fn total(&self) -> u64 {
        u64::from(self.units) * UNIT as u64
    }

    fn units_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_oversize_request_takes_the_whole_budget_and_no_more() {
        let budget = MemoryBudget::new(64 * 1024);
        let all = budget.acquire(10 << 20).await;
        assert_eq!(budget.used(), budget.total());
        drop(all);
        assert_eq!(budget.used(), 0);
        let some = budget.take(48 * 1024);
        let rest = budget.take(48 * 1024);
        assert_eq!(budget.used(), budget.total(), "what is in memory already does not wait");
        drop((some, rest));
        assert_eq!(budget.used(), 0);
    }
}
