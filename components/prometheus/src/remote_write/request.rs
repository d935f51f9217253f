//! Requests of many points, as a sender makes them.

use std::collections::HashMap;

use bytes::Bytes;
use weir::event::CodecError;

use super::codec::{Referred, Said, Texts, put_series, unsupported, write};
use super::record::invalid;
use super::{Version, put};
use crate::codec::absolute;
use crate::point::{Measured, Point};

/// A request in the making.
#[derive(Debug)]
pub(crate) struct Builder {
    version: Version,
    table: Table,
    series: Vec<u8>,
    points: usize,
    measured: usize,
}

/// A symbol table in which no text stands twice.
#[derive(Debug)]
struct Table {
    numbers: HashMap<String, u64>,
    out: Vec<u8>,
}

impl Texts for Table {
    fn refer(&mut self, text: &str) -> u64 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.numbers.len() as u64;
        self.numbers.insert(text.to_owned(), number);
        put::bytes(&mut self.out, 4, text.as_bytes());
        number
    }
}

impl Builder {
    /// One without points.
    pub fn new(version: Version) -> Builder {
        let mut table = Table { numbers: HashMap::new(), out: Vec::new() };
        if version == Version::V2 {
            // The empty text has to be the first.
            table.refer("");
        }
        Builder { version, table, series: Vec::new(), points: 0, measured: 0 }
    }

    /// One more point, behind those before. A point that the message cannot say changes nothing.
    pub fn push(&mut self, point: &Point) -> Result<(), CodecError> {
        match self.version {
            Version::V1 => write(Version::V1, point, &mut self.series)?,
            Version::V2 => {
                absolute(point, "remote_write")?;
                if point.measured == Measured::Nothing && point.exemplars.is_empty() {
                    let what = "remote write 2.0 sends metadata with points, and not alone; filter by exists(.value)";
                    return Err(unsupported(what));
                }
                let said = Said::of(point)?;
                let referred = Referred::of(&said, point, &mut self.table);
                put_series(point, &said, &referred, &mut self.series);
            }
        }
        self.points += 1;
        self.measured += usize::from(point.measured != Measured::Nothing);
        Ok(())
    }

    /// How many points there are.
    pub fn points(&self) -> usize {
        self.points
    }

    /// Those of them that were measured: samples and histograms.
    pub fn measured(&self) -> usize {
        self.measured
    }

    /// Its bytes, not compressed.
    pub fn size(&self) -> usize {
        self.table.out.len() + self.series.len()
    }

    /// The request, as a snappy block.
    pub fn finish(self) -> Result<Bytes, CodecError> {
        let mut body = self.table.out;
        body.extend_from_slice(&self.series);
        Ok(snap::raw::Encoder::new().compress_vec(&body).map_err(invalid)?.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vrl::value::Value;

    use super::*;
    use crate::remote_write::codec_tests::read;
    use crate::remote_write::record::split;
    use crate::remote_write::{Limits, admit, decompress};
    use crate::testing::rich_points;

    proptest! {
        #[test]
        fn many_points_are_one_request_and_come_back_in_order(
            points in prop::collection::vec(rich_points(), 0..6), one in any::<bool>()
        ) {
            let version = if one { Version::V1 } else { Version::V2 };
            let mut builder = Builder::new(version);
            let taken: Vec<Point> = points.into_iter().filter(|point| builder.push(point).is_ok()).collect();
            prop_assert_eq!(builder.points(), taken.len());
            let body = decompress(&builder.finish().unwrap(), usize::MAX).unwrap();
            if taken.is_empty() {
                prop_assert_eq!(split(&body), None);
                return Ok(());
            }
            let parts = split(&body).unwrap_or_else(|| vec![body.clone()]);
            prop_assert_eq!(parts.len(), taken.len());
            for (part, point) in parts.iter().zip(&taken) {
                let mut alone = Vec::new();
                write(version, point, &mut alone).unwrap();
                let values: [Value; 2] = [read(part).unwrap(), read(&alone.into()).unwrap()];
                prop_assert_eq!(&values[0], &values[1]);
            }
            let is_sound = |point: &&Point| match &point.measured {
                Measured::Histogram(histogram) => histogram.check().is_ok(),
                _ => true,
            };
            let sound = taken.iter().filter(is_sound).count();
            if sound == taken.len() {
                prop_assert_eq!(admit(version, &body, &Limits::default()).unwrap().refused, None);
            }
        }
    }
}
