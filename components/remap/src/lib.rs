//! The filter, remap and dedupe transforms.
