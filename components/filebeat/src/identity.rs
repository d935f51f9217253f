//! What an event of a Beat says of itself: when it happened, and which event it is. Bytes come in; no tree is built.
//!
//! Filebeat sends again what was not acknowledged, and after a restart reads again what it had not noted: the same line of
//! the same file is then the same event. In order, an event is known by
//!
//! 1. `@metadata._id`, which the user sets by Filebeat's processors `fingerprint` or `add_id`;
//! 2. who read it, the file, the offset in it, and the message. Who: `agent.id`, or else a host's name. The file: its path,
//!    and its inode, device and fingerprint where they are told;
//! 3. all of it, where it is no line of a log (it has no `message`) and says when it happened and who sent it: such as the
//!    measurements of Metricbeat.
//!
//! Any other event has no identity of its own: two equal lines that came over the network at the same time are two events.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::LazyLock;

use bytes::Bytes;
use weir::event::Timestamp;
use weir::event::json::{self, Fields, Found, JsonError, Numbers};
use xxhash_rust::xxh3::Xxh3;

/// What is known of an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub time: Option<Timestamp>,
    pub identity: Option<u128>,
}

/// Fields of some object; a place in the list is how they are asked for.
macro_rules! fields {
    ($list:ident: $($name:ident = $text:literal),+ $(,)?) => {
        static $list: LazyLock<Fields> = LazyLock::new(|| Fields::new([$($text),+]));
        fields!(@ 0, $($name,)+);
    };
    (@ $at:expr, $name:ident, $($rest:ident,)*) => {
        const $name: usize = $at;
        fields!(@ $at + 1, $($rest,)*);
    };
    (@ $at:expr,) => {};
}

fields!(EVENT: TIMESTAMP = "@timestamp", METADATA = "@metadata", MESSAGE = "message", AGENT = "agent", LOG = "log",
    BEAT = "beat", HOST = "host", SOURCE = "source", OFFSET = "offset");
fields!(METADATA_FIELDS: METADATA_ID = "_id");
fields!(WHO: WHO_ID = "id", WHO_HOSTNAME = "hostname", WHO_NAME = "name", WHO_EPHEMERAL = "ephemeral_id");
fields!(LOG_FIELDS: LOG_OFFSET = "offset", LOG_FILE = "file");
fields!(FILE: FILE_PATH = "path", FILE_INODE = "inode", FILE_DEVICE = "device_id", FILE_FINGERPRINT = "fingerprint");

thread_local! {
    /// Kept, for their memory.
    static FOUND: RefCell<[Found; 2]> = RefCell::default();
}

/// What is known of the event that these bytes are; an error where they are not JSON.
pub(crate) fn of(bytes: &Bytes) -> Result<Known, JsonError> {
    FOUND.with_borrow_mut(|[event, object]| {
        json::scan(bytes, &EVENT, event)?;
        let look = Look { bytes, event };
        Ok(Known { time: look.time(), identity: look.identity(object) })
    })
}

struct Look<'a> {
    bytes: &'a Bytes,
    event: &'a Found,
}

impl Look<'_> {
    fn time(&self) -> Option<Timestamp> {
        let range = self.event.get(TIMESTAMP)?;
        Timestamp::of(&json::parse_range(self.bytes, range).ok()?)
    }

    fn identity(&self, object: &mut Found) -> Option<u128> {
        if let [Some(id)] = self.texts(METADATA, &METADATA_FIELDS, [METADATA_ID], object) {
            return Some(hash(b"id", [&*id]));
        }
        let who = self.who(object)?;
        let message = self.text(MESSAGE);
        if let Some([path, inode, device, fingerprint, offset]) = self.place(object) {
            let message = message.unwrap_or_default();
            return Some(hash(b"line", [&*who, &*path, &*inode, &*device, &*fingerprint, &*offset, &*message]));
        }
        // A message without a place may come twice in one millisecond.
        if message.is_some() || self.time().is_none() {
            return None;
        }
        // Beats write the fields of the same event in another order when they send it again.
        let mut sorted = Vec::new();
        let mut numbers = Numbers::default();
        let event = json::parse_with(self.bytes, &mut numbers).ok()?;
        numbers.write(&event, &mut sorted).ok()?;
        Some(hash(b"all", [&*who, &*sorted]))
    }

    /// Who read the line.
    fn who(&self, object: &mut Found) -> Option<Bytes> {
        for holder in [AGENT, BEAT, HOST] {
            let names = self.texts(holder, &WHO, [WHO_ID, WHO_HOSTNAME, WHO_NAME, WHO_EPHEMERAL], object);
            if let Some(name) = names.into_iter().flatten().next() {
                return Some(name);
            }
        }
        None
    }

    /// Where the line stood: the file, as far as it is described, and the offset.
    fn place(&self, object: &mut Found) -> Option<[Bytes; 5]> {
        let [offset, file] = self.ranges(LOG, &LOG_FIELDS, [LOG_OFFSET, LOG_FILE], object);
        if let (Some(offset), Some(file)) = (offset, file) {
            let names = [FILE_PATH, FILE_INODE, FILE_DEVICE, FILE_FINGERPRINT];
            let [path, inode, device, fingerprint] = self.texts_in(file, &FILE, names, object);
            let [inode, device, fingerprint] = [inode, device, fingerprint].map(Option::unwrap_or_default);
            return Some([path?, inode, device, fingerprint, self.value(offset)?]);
        }
        // Before 7.0.
        let none = Bytes::new;
        Some([self.text(SOURCE)?, none(), none(), none(), self.text(OFFSET)?])
    }

    /// What a field of the event says.
    fn text(&self, field: usize) -> Option<Bytes> {
        self.value(self.event.get(field)?)
    }

    /// What some fields say of the object that a field of the event is.
    fn texts<const N: usize>(
        &self,
        holder: usize,
        fields: &Fields,
        wanted: [usize; N],
        object: &mut Found,
    ) -> [Option<Bytes>; N] {
        self.ranges(holder, fields, wanted, object).map(|range| self.value(range?))
    }

    /// The same, of the object that stands in this range.
    fn texts_in<const N: usize>(
        &self,
        holder: Range<usize>,
        fields: &Fields,
        wanted: [usize; N],
        object: &mut Found,
    ) -> [Option<Bytes>; N] {
        self.ranges_in(holder, fields, wanted, object).map(|range| self.value(range?))
    }

    fn ranges<const N: usize>(
        &self,
        holder: usize,
        fields: &Fields,
        wanted: [usize; N],
        object: &mut Found,
    ) -> [Option<Range<usize>>; N] {
        match self.event.get(holder) {
            Some(range) => self.ranges_in(range, fields, wanted, object),
            None => [const { None }; N],
        }
    }

    fn ranges_in<const N: usize>(
        &self,
        holder: Range<usize>,
        fields: &Fields,
        wanted: [usize; N],
        object: &mut Found,
    ) -> [Option<Range<usize>>; N] {
        let start = holder.start;
        let is_found = self.bytes.get(holder).is_some_and(|part| json::scan(part, fields, object).is_ok());
        wanted.map(|field| {
            let range = object.get(field).filter(|_| is_found)?;
            Some(start + range.start..start + range.end)
        })
    }

    /// A value as text: of a string what it says, of anything else its JSON; none of null.
    fn value(&self, range: Range<usize>) -> Option<Bytes> {
        let mut numbers = Numbers::default();
        let value = json::parse_range_with(self.bytes, range, &mut numbers).ok()?;
        if value.is_null() {
            return None;
        }
        if let Some(text) = value.as_bytes() {
            return Some(text.clone());
        }
        let mut text = Vec::new();
        numbers.write(&value, &mut text).ok()?;
        Some(text.into())
    }
}

/// The hash of some texts, which are told apart by their lengths.
fn hash<const N: usize>(kind: &[u8], parts: [&[u8]; N]) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(kind);
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.digest128()
}

#[cfg(test)]
mod tests;
