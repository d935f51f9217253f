//! What lies in a graph's state, for people: without the components that put it there.

use serde::Serialize;

use super::checkpoint::{GraphState, entries_of, text_of};
use super::keyed::Stored;
use crate::error::Result;

/// A lane and what it remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptLane {
    /// The lane, as `source/log/partition`.
    pub lane: String,
    /// Everything below is in the state; none before the first checkpoint.
    pub position: Option<u64>,
    /// Its states, by node and name.
    pub states: Vec<KeptState>,
}

/// What one lane remembers for one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptState {
    /// The node.
    pub node: String,
    /// The state's name there.
    pub state: String,
    /// Keys, among them some that have expired.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// The latest event time it was told, milliseconds since the epoch.
    pub clock: Option<i64>,
    /// Entries that cannot be read.
    pub damaged: u64,
}

/// One entry of a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptEntry {
    /// The lane, as `source/log/partition`.
    pub lane: String,
    /// The node.
    pub node: String,
    /// The state's name there.
    pub state: String,
    /// The key; what is not UTF-8 in it is replaced.
    pub key: String,
    /// Version of the value's type.
    pub version: u8,
    /// When it expires, milliseconds since the epoch.
    pub expires: i64,
    /// The value.
    pub value: serde_json::Value,
}

impl GraphState {
    /// Every lane and what it remembers. Reads all of it; `each` is told of every entry.
    pub fn inventory(&self, each: &mut dyn FnMut(KeptEntry)) -> Result<Vec<KeptLane>> {
        let mut names = Vec::new();
        self.scan(b"n", &mut |name, number| names.push((number.to_vec(), text_of(&name[1..]))))?;
        let mut lanes = Vec::new();
        self.scan(b"l", &mut |name, number| lanes.push((number.to_vec(), text_of(&name[1..]))))?;
        let mut kept = Vec::new();
        for (lane, parts) in lanes {
            let lane_name = parts.join("/");
            let mut states = Vec::new();
            for (state, name) in &names {
                let (node, state_name) = (name.first().cloned().unwrap_or_default(), name[1..].join("/"));
                let mut found = KeptState { node, state: state_name, keys: 0, bytes: 0, clock: None, damaged: 0 };
                let prefix = entries_of(&lane, state);
                self.scan(&prefix, &mut |key, bytes| {
                    found.bytes += (key.len() + bytes.len()) as u64;
                    match Stored::of(&key[prefix.len()..], bytes) {
                        Some(Stored::Clock(now)) => found.clock = Some(now.0),
                        Some(Stored::Entry { key, version, expires, value }) => {
                            let Ok(value) = rmp_serde::from_slice(value) else {
                                found.damaged += 1;
                                return;
                            };
                            found.keys += 1;
                            each(KeptEntry {
                                lane: lane_name.clone(),
                                node: found.node.clone(),
                                state: found.state.clone(),
                                key: crate::event::readable(key).into_owned(),
                                version,
                                expires: expires.0,
                                value,
                            });
                        }
                        Some(Stored::Aid) => {}
                        None => found.damaged += 1,
                    }
                })?;
                if found.bytes > 0 {
                    states.push(found);
                }
            }
            let position = self.place(&lane)?.map(|resume| resume.position.0);
            kept.push(KeptLane { lane: lane_name, position, states });
        }
        Ok(kept)
    }
}
