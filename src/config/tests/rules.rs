//! Rules over all goldens, and what a golden cannot show.

use std::fs::File;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::{SECRET, first_text, goldens, load_golden, load_text};
use crate::component::Severity;
use crate::config::{LoadRequest, load, render_json, render_text, schema};
