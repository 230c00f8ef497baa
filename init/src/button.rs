//! The machine's power button, which the host presses when the machine is to end: QEMU's
//! `system_powerdown`, the shutdown that libvirt or a Mac asks for.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};

use crate::mounts::Mounted;
use crate::power;

/// A `struct input_event` of 64-bit Linux: the time, type, code and value.
const EVENT_BYTES: usize = 24;
const EVENT_TIME_BYTES: usize = 16;

/// `EV_KEY`, `KEY_POWER` and 1 for down, as `linux/input-event-codes.h` numbers them.
const POWER_DOWN: [u8; 8] = {
    let [t0, t1] = 1_u16.to_ne_bytes();
    let [c0, c1] = 116_u16.to_ne_bytes();
    let [v0, v1, v2, v3] = 1_i32.to_ne_bytes();
    [t0, t1, c0, c1, v0, v1, v2, v3]
};

/// The machine's buttons; none in a plain command, or where the board has none.
#[derive(Debug, Default)]
pub(crate) struct Button {
    devices: Vec<File>,
}

impl Button {
    /// Whatever keys come from: the kernel has drivers for buttons alone.
    pub(crate) fn find(_proof: Mounted) -> Self {
        let entries = fs::read_dir("/dev/input").into_iter().flatten().flatten();
        let open = |path| {
            rustix::fs::open(
                path,
                OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
                Mode::empty(),
            )
        };
        let devices = entries.filter_map(|entry| open(entry.path()).ok());
        Self {
            devices: devices.map(File::from).collect(),
        }
    }

    /// What to poll for reading.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.devices.iter().map(|device| device.as_fd())
    }

    /// Whether it has been pressed since the last call.
    pub(crate) fn take_pressed(&mut self) -> bool {
        let mut pressed = false;
        self.devices.retain_mut(|device| {
            // The kernel gives whole events.
            let mut events = [0; 16 * EVENT_BYTES];
            loop {
                match device.read(&mut events) {
                    Ok(read @ 1..) => {
                        let mut events = events.chunks(EVENT_BYTES).take(read / EVENT_BYTES);
                        pressed |= events.any(is_power_down);
                    }
                    Err(e) => break e.kind() == ErrorKind::WouldBlock,
                    Ok(0) => break false,
                }
            }
        });
        pressed
    }

    /// From now on a press powers the machine off at once: for what has no prompt to leave.
    pub(crate) fn power_off_when_pressed(mut self) {
        if self.devices.is_empty() {
            return;
        }
        std::thread::spawn(move || {
            while !self.take_pressed() {
                let fds = self.fds();
                let fds = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
                let mut fds: Vec<PollFd<'_>> = fds.collect();
                if poll(&mut fds, None).is_err_and(|e| e != rustix::io::Errno::INTR) {
                    return;
                }
            }
            power::power_off()
        });
    }
}

fn is_power_down(event: &[u8]) -> bool {
    event.get(EVENT_TIME_BYTES..) == Some(&POWER_DOWN)
}
