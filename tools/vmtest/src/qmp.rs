//! QEMU's monitor: what is plugged in, and how the machine ended. The exit
//! status tells nothing: power-off, reset and panic all give 0.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use serde_json::Value;

use crate::{OrFail, SOON};

/// The machine-readable monitor, listening.
pub(crate) struct Monitor {
    commands: UnixStream,
    replies: Receiver<Value>,
    shutdown_reason: Receiver<String>,
}

impl Monitor {
    /// Begins to listen to the monitor at the other end of `stream`.
    pub(crate) fn listen(stream: UnixStream) -> Self {
        let commands = stream.try_clone().or_fail("copy a descriptor");
        let (reply, replies) = mpsc::channel();
        let (send, shutdown_reason) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let message: Value = serde_json::from_str(&line).unwrap_or_default();
                if message.get("return").is_some() || message.get("error").is_some() {
                    // As below.
                    let _ = reply.send(message);
                } else if message["event"] == "SHUTDOWN" {
                    let reason = message["data"]["reason"].as_str().unwrap_or_default();
                    // Nobody waits any more when the test has ended.
                    let _ = send.send(reason.to_owned());
                }
            }
        });
        let mut monitor = Self {
            commands,
            replies,
            shutdown_reason,
        };
        // Events come once the capabilities are negotiated.
        monitor.execute("qmp_capabilities", &serde_json::json!({}));
        monitor
    }

    /// Has QEMU do something.
    #[track_caller]
    pub(crate) fn execute(&mut self, command: &str, arguments: &Value) {
        if let Err(error) = self.try_execute(command, arguments) {
            panic!("{command} {arguments}: {error}");
        }
    }

    /// The same; its error is QEMU's.
    #[track_caller]
    pub(crate) fn try_execute(&mut self, command: &str, arguments: &Value) -> Result<(), Value> {
        let order = serde_json::json!({ "execute": command, "arguments": arguments });
        writeln!(self.commands, "{order}").or_fail("speak to QEMU's monitor");
        let reply = self.replies.recv_timeout(SOON);
        let reply = reply.or_fail(format_args!("hear what QEMU says to {command}"));
        reply
            .get("error")
            .map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Why the machine ended: `guest-shutdown` is a power-off that the guest
    /// asked for. `None` if QEMU ended without saying.
    pub(crate) fn shutdown_reason(&self) -> Option<String> {
        self.shutdown_reason.recv_timeout(SOON).ok()
    }
}
