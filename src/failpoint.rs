//! Places at which a test may end the process, as a power cut would: inside of a checkpoint, between its parts.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Ends the process here, the `n`-th time it comes by, when the environment says `WEIR_FAILPOINT=name:n`.
pub(crate) fn failpoint(name: &str) {
    static WANTED: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| {
        let (name, left) =
            std::env::var("WEIR_FAILPOINT").ok()?.split_once(':').map(|(n, l)| (n.to_owned(), l.parse()))?;
        Some((name, AtomicU64::new(left.ok()?)))
    });
    if let Some((wanted, left)) = wanted
        && wanted == name
        && left.fetch_sub(1, Relaxed) == 1
    {
        std::process::abort();
    }
}
