//! The weir binary: one file per verb.
