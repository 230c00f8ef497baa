//! The messages between PID 1 and engine, in both directions: bytes in pieces are a
//! message or an error, and what is a message is the same when it is sent again.

#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use protocol::{Decoder, Event, Request, encode};

/// As in a small machine.
const LIMIT: u32 = 1 << 20;

fn read<T>(bytes: &[u8])
where
    T: Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let mut decoder = Decoder::new(LIMIT);
    for piece in bytes.chunks(7) {
        decoder.push(piece);
        while let Ok(Some(message)) = decoder.next_message::<T>() {
            let sent = encode(&message, LIMIT).expect("what was short enough stays so");
            let mut again = Decoder::new(LIMIT);
            again.push(&sent);
            let got = again.next_message::<T>().expect("it can be read");
            assert_eq!(format!("{:?}", Some(message)), format!("{got:?}"));
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    read::<Event>(bytes);
    read::<Request>(bytes);
});
