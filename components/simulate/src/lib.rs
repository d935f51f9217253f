//! The generate source: seeded, realistic events.
