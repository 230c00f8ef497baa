//! Messages as bytes: a little-endian `u32` of length, then that many bytes of
//! postcard. No message is longer than the reader's limit, and what is too long
//! is refused by the writer, with both numbers, before any memory is taken for it.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of a frame before the message.
const HEAD_BYTES: usize = 4;

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of {bytes} bytes; {limit} is the most")]
pub struct TooLong {
    /// Its length.
    pub bytes: u64,
    /// The longest that is taken.
    pub limit: u32,
}

/// `message` as a frame.
///
/// # Errors
/// [`TooLong`] for more than `limit` bytes.
pub fn encode<T: Serialize>(message: &T, limit: u32) -> Result<Vec<u8>, TooLong> {
    // Counting takes no memory; the frame then takes just what it needs.
    let bytes = postcard::to_extend(message, Length(0)).map_or(u64::MAX, |length| length.0);
    let too_long = TooLong { bytes, limit };
    let length = u32::try_from(bytes).map_err(|_| too_long)?;
    if length > limit {
        return Err(too_long);
    }
    let whole = usize::try_from(length).map_err(|_| too_long)?;
    let mut frame = Vec::with_capacity(whole.saturating_add(HEAD_BYTES));
    frame.extend_from_slice(&length.to_le_bytes());
    postcard::to_extend(message, frame).map_err(|_| too_long)
}

/// Counts the bytes that it is given.
struct Length(u64);

impl Extend<u8> for Length {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        let more = u64::try_from(bytes.into_iter().count()).unwrap_or(u64::MAX);
        self.0 = self.0.saturating_add(more);
    }
}

/// Writes one message and flushes, blocking.
///
/// # Errors
/// The pipe's; `BrokenPipe` when the other side is gone; `InvalidInput` for a
/// message that is [`TooLong`].
pub fn send<T: Serialize>(to: &mut impl Write, message: &T, limit: u32) -> io::Result<()> {
    let frame =
        encode(message, limit).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    to.write_all(&frame)?;
    to.flush()
}

/// Reads one message, blocking.
///
/// # Errors
/// The pipe's; `UnexpectedEof` when the other side is gone; `InvalidData` for
/// bytes that are not a message, or one of more than `limit` bytes.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read, limit: u32) -> io::Result<T> {
    let mut length = [0; HEAD_BYTES];
    from.read_exact(&mut length)?;
    let mut body = vec![0; checked_length(length, limit)?];
    from.read_exact(&mut body)?;
    decode(&body)
}

/// Cuts messages out of bytes as they arrive from a pipe that must not block.
#[derive(Debug)]
pub struct Decoder {
    pending: Vec<u8>,
    limit: u32,
}

impl Decoder {
    /// Messages are of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            pending: Vec::new(),
            limit,
        }
    }

    /// Takes bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    /// `InvalidData` for bytes that are not a message.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some((head, rest)) = self.pending.split_first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let length = checked_length(*head, self.limit)?;
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = decode(body)?;
        self.pending.drain(..length.saturating_add(HEAD_BYTES));
        if self.pending.is_empty() {
            // A long message's memory is not kept for the next short one.
            self.pending = Vec::new();
        }
        Ok(Some(message))
    }
}

fn checked_length(head: [u8; HEAD_BYTES], limit: u32) -> io::Result<usize> {
    let length = u32::from_le_bytes(head);
    if length > limit {
        let bytes = u64::from(length);
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            TooLong { bytes, limit },
        ));
    }
    usize::try_from(length).map_err(io::Error::other)
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    postcard::from_bytes(body).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Event, Request};
    use crate::message::{Message, Role};

    const LIMIT: u32 = 1 << 20;

    #[test]
    fn messages_survive_any_splitting_of_the_bytes() {
        let sent = [
            Request::Cancel,
            Request::Render {
                messages: vec![Message::new(Role::User, "żółć 👋🏽")],
            },
            Request::Cancel,
        ];
        let mut wire = Vec::new();
        for message in &sent {
            send(&mut wire, message, LIMIT).unwrap();
        }
        for chunk in 1..wire.len() {
            let mut decoder = Decoder::new(LIMIT);
            let mut got: Vec<Request> = Vec::new();
            for bytes in wire.chunks(chunk) {
                decoder.push(bytes);
                while let Some(message) = decoder.next_message().unwrap() {
                    got.push(message);
                }
            }
            assert_eq!(got, sent, "chunks of {chunk}");
        }
    }

    #[test]
    fn a_hostile_length_is_an_error_and_not_an_allocation() {
        let mut decoder = Decoder::new(LIMIT);
        decoder.push(&[0xff; 8]);
        assert!(decoder.next_message::<Event>().is_err());
        assert!(receive::<Event>(&mut &[0xff; 8][..], LIMIT).is_err());
    }

    #[test]
    fn what_is_too_long_is_refused_with_both_numbers_and_what_just_fits_is_sent() {
        let notice = Event::Notice("x".repeat(100));
        let bytes = encode(&notice, LIMIT).unwrap().len() - HEAD_BYTES;
        let fits = u32::try_from(bytes).unwrap();
        assert_eq!(encode(&notice, fits).unwrap().len(), bytes + HEAD_BYTES);
        let refused = encode(&notice, fits - 1).unwrap_err();
        assert_eq!((refused.bytes, refused.limit), (u64::from(fits), fits - 1));
    }
}
