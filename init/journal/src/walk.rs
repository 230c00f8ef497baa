//! Reads the records of a session from the first to the last, around what is damaged.

use std::fmt;

use crate::BLOCK_BYTES;
use crate::chats::Contents;
use crate::disk::Disk;
use crate::error::{Action, Error};
use crate::frame::{BLOCK, Header, PAYLOAD_BYTES_MAX, zeros};
use crate::record::Stamped;
use crate::seal::Seal;
use crate::superblock::Head;

/// What is read at a time when the next record is looked for.
const SCAN_BYTES: usize = 16 * BLOCK;
/// What is read at a time when the remains of a record are looked for.
const REMAINS_BYTES: usize = 256 << 10;
/// As far as a record reaches.
pub(crate) const RECORD_BYTES_MAX: u64 = (PAYLOAD_BYTES_MAX as u64).saturating_add(BLOCK_BYTES);

/// What was found at opening other than what was written. Shown, it is one line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// A record that power was lost in: what was being written is not there.
    pub cut: bool,
    /// Records that cannot be read, first and last of each range, and not told before.
    pub lost: Vec<(u64, u64)>,
    /// Where the first of those is, in bytes from the beginning.
    pub lost_at: u64,
    /// How many records there are.
    pub records: u64,
    /// A conversation whose deleting power was lost in; it is deleted now.
    pub erased: bool,
}

impl Found {
    /// Whether there is anything to tell.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        !self.cut && self.lost.is_empty() && !self.erased
    }

    fn lose(&mut self, first: u64, last: u64, at: u64) {
        if self.lost.is_empty() {
            self.lost_at = at;
        }
        match self.lost.last_mut() {
            Some(range) if range.1.checked_add(1) == Some(first) => range.1 = last,
            _ => self.lost.push((first, last)),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(&(first, last)) = self.lost.first() else {
            let before = self.records;
            return match (self.cut, self.erased) {
                (true, _) => write!(
                    f,
                    "the last write to the session was cut off: \
                     what was under way is not in it, all {before} records before are"
                ),
                (false, true) => {
                    f.write_str("the deleting of a conversation was cut off: it is deleted now")
                }
                (false, false) => write!(f, "all {before} records are whole"),
            };
        };
        let count = self.lost.iter().fold(0_u64, |sum, (first, last)| {
            sum.saturating_add(last.saturating_sub(*first).saturating_add(1))
        });
        write!(f, "the session is damaged at byte {}: ", self.lost_at)?;
        match (count, self.lost.len()) {
            (1, _) => write!(f, "record {first} is lost")?,
            (_, 1) => write!(f, "records {first} to {last} are lost")?,
            _ => write!(f, "{count} records from {first} on are lost")?,
        }
        write!(f, ", what else is in it is kept [ZE-75]")
    }
}

/// What was read.
pub(crate) struct Walked {
    pub(crate) contents: Contents,
    pub(crate) head: Head,
    pub(crate) found: Found,
    /// Up to where there may be remains of a record that power was lost in.
    pub(crate) remains: u64,
}

/// Reads all records.
///
/// # Errors
/// The disk's only: damage is found, not an error.
pub(crate) fn walk(disk: &dyn Disk, id: &[u8; 16], seal: &Seal) -> Result<Walked, Error> {
    let told = Head::read(disk, id, seal)?;
    let size = disk.size().map_err(|e| Error::of(Action::Read, 0, e))?;
    let limit = told.map_or(size, |head| head.end).min(size);
    let mut walked = Walked {
        contents: Contents::default(),
        head: Head::first(id),
        found: Found::default(),
        remains: 0,
    };
    // What the next record chains to, if that is known.
    let mut chain = Some(walked.head.check);
    loop {
        let at = walked.head.end;
        let expected = walked.head.count.saturating_add(1);
        let next = Header::read(disk, at, id)?.filter(|header| match chain {
            Some(before) => header.number == expected && header.before == before,
            None => header.number >= expected,
        });
        if let Some(header) = next.filter(|header| header.next(at) <= size) {
            if header.number > expected {
                let last = header.number.saturating_sub(1);
                walked.found.lose(expected, last, at);
            }
            let stamped = read(disk, at, &header, id, seal)?;
            let counted = told.is_some_and(|head| head.count >= header.number);
            if stamped.is_none()
                && !counted
                && !is_followed(disk, at, &header, id)?
                && scan(disk, at, limit, id, expected.saturating_add(1))?.is_none()
            {
                // The header was written and the payload was not.
                break;
            }
            walked.contents.place(at, &header);
            match stamped {
                Some(stamped) => walked.contents.apply(header.number, stamped),
                None => {
                    walked.contents.unreadable.insert(header.number);
                }
            }
            walked.head = Head {
                count: header.number,
                end: header.next(at),
                check: header.check(id),
            };
            chain = Some(walked.head.check);
        } else if let Some(later) = scan(disk, at, limit, id, expected)? {
            walked.head.end = later;
            chain = None;
        } else {
            break;
        }
    }
    let number = walked.head.count;
    match told {
        Some(head) if head.count > number => {
            let first = number.saturating_add(1);
            walked.found.lose(first, head.count, walked.head.end);
            walked.head = head;
        }
        _ => {}
    }
    settle(&mut walked);
    walked.remains = remains(disk, walked.head.end)?;
    walked.found.cut = walked.remains > walked.head.end;
    walked.found.records = walked.head.count;
    Ok(walked)
}

/// Whether a record chains to the one at `at`.
fn is_followed(disk: &dyn Disk, at: u64, header: &Header, id: &[u8; 16]) -> Result<bool, Error> {
    let next = Header::read(disk, header.next(at), id)?;
    Ok(next.is_some_and(|next| next.before == header.check(id)))
}

/// What the record at `at` says, if it is what was written.
pub(crate) fn read(
    disk: &dyn Disk,
    at: u64,
    header: &Header,
    id: &[u8; 16],
    seal: &Seal,
) -> Result<Option<Stamped>, Error> {
    let payload = header.read_payload(disk, at)?;
    Ok(payload
        .and_then(|payload| seal.open(&header.bound(id), payload))
        .and_then(|json| Stamped::of_json(&json).ok()))
}

/// Of what could not be read, tells what is neither erased nor told before.
fn settle(walked: &mut Walked) {
    let mut lost = std::mem::take(&mut walked.found.lost);
    let mut at = walked.found.lost_at;
    let contents = &walked.contents;
    for number in contents.unreadable.difference(&contents.erased) {
        let place = contents.places.get(number).copied().unwrap_or_default();
        at = if lost.is_empty() {
            place
        } else {
            at.min(place)
        };
        lost.push((*number, *number));
    }
    lost.sort_unstable();
    let mut told = walked.contents.lost.clone();
    told.sort_unstable();
    let mut end = 0;
    for (_, last) in &mut told {
        end = end.max(*last);
        *last = end;
    }
    let is_told = |n| {
        let from = told.partition_point(|&(first, _)| first <= n);
        let before = told.get(..from).and_then(<[_]>::last);
        before.is_some_and(|&(_, last)| n <= last)
    };
    for (first, last) in lost {
        if !(is_told(first) && is_told(last)) {
            walked.found.lose(first, last, at);
        }
    }
}

/// Where the first record after `at` and no later than `limit` is that has a number of
/// at least `least`.
fn scan(
    disk: &dyn Disk,
    at: u64,
    limit: u64,
    id: &[u8; 16],
    least: u64,
) -> Result<Option<u64>, Error> {
    let mut from = at.saturating_add(BLOCK_BYTES);
    let mut buffer = zeros(SCAN_BYTES)?;
    while from <= limit {
        let count = disk
            .read_at(from, &mut buffer)
            .map_err(|e| Error::of(Action::Read, from, e))?;
        let there = buffer.get(..count).unwrap_or_default();
        for (block, index) in there.chunks(BLOCK).zip(0_u64..) {
            let place = from.saturating_add(index.saturating_mul(BLOCK_BYTES));
            let header = Header::parse(block, id).filter(|header| header.number >= least);
            if header.is_some() && place <= limit {
                return Ok(Some(place));
            }
        }
        if count < buffer.len() {
            break;
        }
        from = from.saturating_add(SCAN_BYTES as u64);
    }
    Ok(None)
}

/// Up to where there is something other than zeros from `at` on, as far as a record goes.
/// Any of its sectors may have been written: a deletion looks behind zeros, too.
fn remains(disk: &dyn Disk, at: u64) -> Result<u64, Error> {
    let mut buffer = zeros(REMAINS_BYTES)?;
    let mut end = at;
    for from in (at..at.saturating_add(RECORD_BYTES_MAX)).step_by(REMAINS_BYTES) {
        let count = disk
            .read_at(from, &mut buffer)
            .map_err(|e| Error::of(Action::Read, from, e))?;
        let there = buffer.get(..count).unwrap_or_default();
        // Without an end before the last byte, this is one operation for many of them.
        let is_written = |block: &[u8]| block.iter().fold(0, |any, byte| any | byte) != 0;
        let Some(last) = there.chunks(BLOCK).rposition(is_written) else {
            break;
        };
        let blocks = (last as u64).saturating_add(1);
        end = from.saturating_add(blocks.saturating_mul(BLOCK_BYTES));
        if count < buffer.len() {
            break;
        }
    }
    Ok(end)
}
