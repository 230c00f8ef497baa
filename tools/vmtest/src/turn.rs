//! The port of one turn: the order when the guest asks for it, then the answer.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::{BOOT, OrFail};

/// The byte by which a guest asks for its order: ENQ.
const ENQUIRY: u8 = 5;

/// The port of one turn.
pub(crate) struct Turn {
    port: UnixStream,
    /// Until the order was asked for.
    asked: Option<JoinHandle<()>>,
}

impl Turn {
    pub(crate) fn new(port: UnixStream, order: Vec<u8>) -> Self {
        let for_order = port.try_clone().or_fail("copy a descriptor");
        let asked = thread::spawn(move || send_when_asked(for_order, order));
        Self {
            port,
            asked: Some(asked),
        }
    }

    /// The port, on which nothing but the answer comes.
    pub(crate) fn answer(&mut self, within: Duration) -> &mut UnixStream {
        if let Some(asked) = self.asked.take() {
            assert!(asked.join().is_ok(), "the guest asks for its order");
        }
        let port = &mut self.port;
        port.set_read_timeout(Some(within))
            .or_fail("set a deadline");
        port
    }
}

/// Returns when the guest asked; what it refuses to read is left unsent.
fn send_when_asked(mut port: UnixStream, order: Vec<u8>) {
    port.set_read_timeout(Some(BOOT)).or_fail("set a deadline");
    let mut request = [0];
    // A guest that ends before it asks says so elsewhere.
    if port.read_exact(&mut request).is_ok() {
        assert_eq!(request, [ENQUIRY], "a request for the order");
        thread::spawn(move || port.write_all(&order));
    }
}
