//! The messages between PID 1 and the engine, in both directions: bytes that are not a
//! message are an error, those that are one are the same however they arrive and
//! however often they are sent on.

#![no_main]

use std::fmt::Debug;
use std::io;

use libfuzzer_sys::fuzz_target;
use protocol::{Decoder, Event, Request, encode};

const LIMIT: u32 = 1 << 16;

/// All messages at the beginning of `bytes`, which come in `pieces` of that length.
fn received<T>(bytes: &[u8], piece: usize) -> Vec<io::Result<T>>
where
    T: serde::de::DeserializeOwned,
{
    let mut decoder = Decoder::new(LIMIT);
    let mut messages = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        decoder.push(piece);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => messages.push(Ok(message)),
                Ok(None) => break,
                Err(error) => {
                    messages.push(Err(error));
                    return messages;
                }
            }
        }
    }
    messages
}

/// As text, for a number in a message may be none and then equals nothing.
fn shown<T: Debug>(messages: &[io::Result<T>]) -> Vec<String> {
    let message =
        |message: &io::Result<T>| format!("{:?}", message.as_ref().map_err(io::Error::kind));
    messages.iter().map(message).collect()
}

fn check<T>(bytes: &[u8], piece: usize)
where
    T: serde::de::DeserializeOwned + serde::Serialize + Debug,
{
    let messages = received::<T>(bytes, bytes.len());
    assert_eq!(shown(&messages), shown(&received::<T>(bytes, piece)));
    for message in messages.iter().flatten() {
        let sent = encode(message, u32::MAX).expect("it was received");
        let again = received::<T>(&sent, sent.len());
        if sent.len() <= LIMIT as usize {
            assert_eq!(
                shown(&again),
                [format!("{:?}", Ok::<_, io::ErrorKind>(message))]
            );
        }
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    check::<Request>(bytes, piece.into());
    check::<Event>(bytes, piece.into());
});
