//! A request's body in memory: within its limit, its time, and what all bodies together may take.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flate2::bufread::GzDecoder;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answer::{Answer, come_back, refused};

/// Permits are counted in these units.
const UNIT: usize = 1024;
/// Bytes decompressed at once.
const STEP: usize = 64 << 10;
/// Bytes of a refused body that are still read.
const DRAINED: usize = 64 << 20;
/// And in what time.
const DRAINED_WITHIN: Duration = Duration::from_secs(2);

/// Why a body is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It is above the limit.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// All bodies together take too much memory.
    NoMemory,
    /// The connection broke off.
    BrokenOff,
    /// It is not what `Content-Encoding` says.
    NotGzip,
}

impl Missing {
    /// What its sender is told, where bodies may have so many bytes.
    pub fn answer(self, limit: usize) -> Answer {
        let text = |status, text: &str| refused(status, text);
        match self {
            Missing::TooLarge => refused(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is above {limit} bytes; send less at once, or raise max_body_size"),
            ),
            Missing::TooSlow => {
                text(StatusCode::REQUEST_TIMEOUT, "the body did not come in time; send again, or raise timeout")
            }
            Missing::NoMemory => come_back("too much is being sent at the same time", 1),
            Missing::BrokenOff => text(StatusCode::BAD_REQUEST, "the body breaks off; send it again"),
            Missing::NotGzip => text(
                StatusCode::BAD_REQUEST,
                "the body is not whole gzip, as Content-Encoding says; send it again, or without the header",
            ),
        }
    }
}

/// What all that is under way may take together.
#[derive(Debug, Clone)]
pub struct Memory {
    permits: Arc<Semaphore>,
    units: usize,
}

impl Memory {
    /// So many bytes.
    pub fn new(bytes: usize) -> Memory {
        let units = (bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS);
        Memory { permits: Arc::new(Semaphore::new(units)), units }
    }

    /// A share in it, of nothing yet.
    pub fn share(&self) -> Share {
        Share { memory: self.clone(), taken: 0, permit: None }
    }
}

/// What one request or connection takes of the memory for all; given back on drop.
#[derive(Debug)]
pub struct Share {
    memory: Memory,
    taken: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Takes so much more. Who does not get it is refused at once: waiting here could wait for one another.
    pub fn take(&mut self, bytes: usize) -> Result<(), Missing> {
        let units = (self.taken + bytes).div_ceil(UNIT) - self.taken.div_ceil(UNIT);
        let units = u32::try_from(units).map_err(|_| Missing::NoMemory)?;
        let more = self.memory.permits.clone().try_acquire_many_owned(units).map_err(|_| Missing::NoMemory)?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        self.taken += bytes;
        Ok(())
    }

    /// Takes memory for an answer of so many bytes, which are there already. One that is larger than the memory of all takes
    /// all of it.
    pub fn take_answer(&mut self, bytes: usize) -> Result<(), Missing> {
        let left = (self.memory.units - self.taken.div_ceil(UNIT)) * UNIT;
        self.take(bytes.min(left))
    }

    /// Takes more, or gives back, so that it has so much.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Missing> {
        if bytes > self.taken {
            return self.take(bytes - self.taken);
        }
        let surplus = self.taken.div_ceil(UNIT) - bytes.div_ceil(UNIT);
        self.taken = bytes;
        if let Some(permit) = &mut self.permit {
            drop(permit.split(surplus));
        }
        Ok(())
    }
}

/// Reads a body of at most `limit` bytes within `timeout`.
pub(crate) async fn read(
    body: &mut Incoming,
    limit: usize,
    timeout: Duration,
    share: &mut Share,
) -> Result<Bytes, Missing> {
    if body.size_hint().lower() > limit as u64 {
        return Err(Missing::TooLarge);
    }
    let all = async {
        let mut all = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Missing::BrokenOff)?.into_data() else { continue };
            if all.len() + data.len() > limit {
                return Err(Missing::TooLarge);
            }
            share.take(data.len())?;
            all.extend_from_slice(&data);
        }
        Ok(all.freeze())
    };
    tokio::time::timeout(timeout, all).await.unwrap_or(Err(Missing::TooSlow))
}

/// Reads what is left of a body, and forgets it, as far as that is not too much: whoever is still sending may not see an answer
/// that comes meanwhile, and would send the same again for ever.
pub(crate) async fn drain(body: &mut Incoming) {
    let all = async {
        let mut left = DRAINED;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(length) else { return };
            left = rest;
        }
    };
    let _ = tokio::time::timeout(DRAINED_WITHIN, all).await;
}

/// What a gzipped body holds, which is at most `limit` bytes. Zeros behind a member are padding; other bytes that begin no
/// member are refused, for the sender is there to be told.
pub fn gunzip(body: &[u8], limit: usize, share: &mut Share) -> Result<Bytes, Missing> {
    let mut members = body;
    let (mut all, mut taken) = (Vec::new(), 0);
    loop {
        let mut member = GzDecoder::new(members);
        loop {
            let before = all.len();
            // Many small members take no more than one large one.
            if before + STEP > taken {
                share.take(STEP)?;
                taken += STEP;
            }
            let read = (&mut member).take(STEP as u64).read_to_end(&mut all).map_err(|_| Missing::NotGzip)?;
            if before + read > limit {
                return Err(Missing::TooLarge);
            }
            if read == 0 {
                break;
            }
        }
        let rest = member.into_inner();
        let padding = rest.iter().take_while(|byte| **byte == 0).count();
        members = &rest[padding..];
        if members.is_empty() {
            return Ok(all.into());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_share_grows_and_shrinks() {
        let memory = Memory::new(10 << 10);
        let (mut one, mut other) = (memory.share(), memory.share());
        one.hold(6000).unwrap();
        assert_eq!(other.hold(6000), Err(Missing::NoMemory));
        one.hold(1).unwrap();
        other.hold(9 << 10).unwrap();
        other.hold(0).unwrap();
        assert_eq!(memory.permits.available_permits(), 9);
        drop(one);
        assert_eq!(memory.permits.available_permits(), 10);
    }

    #[test]
    fn an_answer_that_is_larger_than_the_memory_takes_all_of_it() {
        let memory = Memory::new(10 << 10);
        let mut share = memory.share();
        share.take(1).unwrap();
        share.take_answer(1 << 30).unwrap();
        assert_eq!(memory.permits.available_permits(), 0);
        assert_eq!(memory.share().take_answer(1), Err(Missing::NoMemory));
        drop(share);
        assert_eq!(memory.permits.available_permits(), 10);
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit_and_at_the_memory_of_all() {
        let bomb = gzip(&vec![b' '; 50 << 20]);
        assert!(bomb.len() < 100_000);
        let memory = Memory::new(8 << 20);
        assert_eq!(gunzip(&bomb, 1 << 20, &mut memory.share()), Err(Missing::TooLarge));
        assert_eq!(gunzip(&bomb, 100 << 20, &mut memory.share()), Err(Missing::NoMemory));
        assert_eq!(memory.permits.available_permits(), 8 << 10, "all of it is given back");
        assert_eq!(gunzip(b"plain", 100, &mut memory.share()), Err(Missing::NotGzip));
        assert_eq!(
            gunzip(&bomb[..bomb.len() / 2], 100 << 20, &mut Memory::new(1 << 30).share()),
            Err(Missing::NotGzip)
        );
        let two = [gzip(b"a"), gzip(b"b")].concat();
        assert_eq!(gunzip(&two, 100, &mut memory.share()).unwrap(), "ab");
    }

    #[test]
    fn zeros_behind_gzip_are_padding_and_other_bytes_are_refused() {
        let gunzip = |body: &[u8]| gunzip(body, 100, &mut Memory::new(8 << 20).share());
        assert_eq!(gunzip(&[&gzip(b"a")[..], &[0; 600], &gzip(b"b"), &[0]].concat()).unwrap(), "ab");
        for rest in [&b"garbage"[..], b"\0x", &gzip(b"b")[..9]] {
            assert_eq!(gunzip(&[&gzip(b"a")[..], rest].concat()), Err(Missing::NotGzip), "{rest:?}");
        }
        assert_eq!(gunzip(b""), Err(Missing::NotGzip));
        assert_eq!(gunzip(&gzip(b"").repeat(1000)).unwrap(), "", "which takes no memory");
    }
}
