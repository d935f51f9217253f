//! How large a run is, and its chance.
//!
//! `WEIR_CAMPAIGN=full` gives the full counts, the default is a tenth. `WEIR_CAMPAIGN_SEED` repeats a run's choices.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The size and the source of random choices of one test.
#[derive(Debug)]
pub struct Campaign {
    is_full: bool,
    /// The choices of this test.
    pub random: StdRng,
}

impl Campaign {
    /// As the environment says; prints what is needed to repeat it.
    ///
    /// # Panics
    /// When a variable cannot be understood.
    pub fn of(test: &str) -> Campaign {
        let is_full = match std::env::var("WEIR_CAMPAIGN").as_deref() {
            Ok("full") => true,
            Ok("" | "tenth") | Err(_) => false,
            Ok(other) => panic!("WEIR_CAMPAIGN={other}: it is `full` or `tenth`"),
        };
        let seed = match std::env::var("WEIR_CAMPAIGN_SEED") {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("WEIR_CAMPAIGN_SEED={text} is no number")),
            Err(_) => rand::random::<u32>().into(),
        };
        let size = if is_full { "full" } else { "tenth" };
        println!("{test}: size {size}; repeat the choices with WEIR_CAMPAIGN_SEED={seed}");
        Campaign { is_full, random: StdRng::seed_from_u64(seed) }
    }

    /// Whether this run has the full counts.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// A count whose full size is given.
    pub fn count(&self, full: u64) -> u64 {
        if self.is_full { full } else { full / 10 }
    }

    /// One of two, by size.
    pub fn span(&self, full: Duration, tenth: Duration) -> Duration {
        if self.is_full { full } else { tenth }
    }
}
