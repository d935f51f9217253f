//! How many different values there are.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Up to so many values are kept as they are.
const EXACT: usize = 256;
/// Registers of the estimate, as a power of two: its standard error is 1.04 / sqrt(2^12), 1.6 %.
const PRECISION: u32 = 12;

/// Different values by their hashes: exact while they are few, then an estimate (HyperLogLog, Flajolet et al. 2007, with
/// linear counting below two and a half times the registers).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Distinct {
    Exact(BTreeSet<u64>),
    /// For each register the longest run of leading zeros seen, plus one. As a text, which is the shortest in the store.
    Estimate(String),
}

impl Default for Distinct {
    fn default() -> Self {
        Distinct::Exact(BTreeSet::new())
    }
}

impl Distinct {
    pub fn add(&mut self, hash: u64) {
        let hash = mixed(hash);
        match self {
            Distinct::Exact(hashes) => {
                hashes.insert(hash);
                if hashes.len() > EXACT {
                    let mut registers = vec![0; 1 << PRECISION];
                    hashes.iter().for_each(|hash| note(&mut registers, *hash));
                    *self = Distinct::Estimate(text(registers));
                }
            }
            Distinct::Estimate(registers) => {
                let mut bytes = std::mem::take(registers).into_bytes();
                note(&mut bytes, hash);
                *registers = text(bytes);
            }
        }
    }

    /// Bytes beside itself, about.
    pub fn heap_size(&self) -> usize {
        match self {
            Distinct::Exact(hashes) => 12 * hashes.len(),
            Distinct::Estimate(registers) => registers.len(),
        }
    }

    pub fn count(&self) -> u64 {
        match self {
            Distinct::Exact(hashes) => hashes.len() as u64,
            Distinct::Estimate(registers) => estimate(registers.as_bytes()),
        }
    }
}

/// Every bit of the hash in every bit (SplitMix64's finalizer, Steele et al. 2014).
fn mixed(hash: u64) -> u64 {
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Registers are at most 64 - `PRECISION` + 1 and so ASCII.
fn text(registers: Vec<u8>) -> String {
    String::from_utf8(registers).unwrap_or_default()
}

fn note(registers: &mut [u8], hash: u64) {
    let (register, rest) = (hash >> (64 - PRECISION), hash << PRECISION);
    // At most 52 bits are left of the hash.
    let rank = rest.leading_zeros().min(64 - PRECISION) as u8 + 1;
    if let Some(register) = registers.get_mut(register as usize) {
        *register = rank.max(*register);
    }
}

fn estimate(registers: &[u8]) -> u64 {
    let count = registers.len() as f64;
    let sum: f64 = registers.iter().map(|rank| 0.5f64.powi(i32::from(*rank))).sum();
    let raw = 0.7213 / (1.0 + 1.079 / count) * count * count / sum;
    let empty = registers.iter().filter(|rank| **rank == 0).count();
    if raw <= 2.5 * count && empty > 0 {
        (count * (count / empty as f64).ln()).round() as u64
    } else {
        raw.round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_counted_and_many_estimated() {
        let mut distinct = Distinct::default();
        for number in 1..=20_000u64 {
            distinct.add(number);
            distinct.add(number);
            if number <= EXACT as u64 {
                assert_eq!(distinct.count(), number);
            } else if number % 500 == 0 {
                let error = distinct.count().abs_diff(number) as f64 / number as f64;
                assert!(error < 0.06, "{number}: {}", distinct.count());
            }
        }
    }
}
