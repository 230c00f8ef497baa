//! QEMU's own account of how the machine ended. Its exit status tells nothing:
//! power-off, reset and panic all give 0.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::OrFail;

/// The machine-readable monitor, listening.
pub(crate) struct Monitor {
    shutdown_reason: Receiver<String>,
}

impl Monitor {
    /// Begins to listen to the monitor at the other end of `stream`.
    pub(crate) fn listen(mut stream: UnixStream) -> Self {
        // Events come once the capabilities are negotiated.
        stream
            .write_all(b"{\"execute\": \"qmp_capabilities\"}\n")
            .or_fail("greet QEMU's monitor");
        let (send, shutdown_reason) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let message: Value = serde_json::from_str(&line).unwrap_or_default();
                if message["event"] == "SHUTDOWN" {
                    let reason = message["data"]["reason"].as_str().unwrap_or_default();
                    // Nobody waits any more when the test has ended.
                    let _ = send.send(reason.to_owned());
                }
            }
        });
        Self { shutdown_reason }
    }

    /// Why the machine ended: `guest-shutdown` is a power-off that the guest
    /// asked for. `None` if QEMU ended without saying.
    pub(crate) fn shutdown_reason(&self) -> Option<String> {
        self.shutdown_reason
            .recv_timeout(Duration::from_secs(5))
            .ok()
    }
}
