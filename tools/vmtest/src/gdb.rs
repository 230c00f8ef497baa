//! A debugger at QEMU's port that makes a process inside the guest crash, which
//! needs neither a shell nor a hook in there. Of GDB's remote protocol only
//! what that takes; register numbers are those of QEMU's `aarch64-core.xml` and
//! `i386-64bit.xml`.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Architecture, OrFail, SOON};

/// What tells of a processor whether it runs a process, and where.
struct Registers {
    instruction: usize,
    level: usize,
    /// The bits of the level that say so, and what they are in a process.
    level_mask: u64,
    level_of_process: u64,
}

/// The exception level in CPSR's mode field.
const AARCH64: Registers = Registers {
    instruction: 0x20,
    level: 0x21,
    level_mask: 0b1100,
    level_of_process: 0,
};

/// The privilege level in CS.
const X86_64: Registers = Registers {
    instruction: 0x10,
    level: 0x12,
    level_mask: 0b11,
    level_of_process: 0b11,
};

/// A connection to QEMU's debug stub. The machine stands still while it lasts.
pub(crate) struct Debugger {
    stub: UnixStream,
    registers: Registers,
}

impl Debugger {
    /// Stops the machine.
    pub(crate) fn attach(socket: &Path, architecture: Architecture) -> Self {
        let stub = UnixStream::connect(socket).or_fail("connect to QEMU's debug stub");
        stub.set_read_timeout(Some(SOON)).or_fail("set a deadline");
        let registers = match architecture {
            Architecture::Aarch64 => AARCH64,
            Architecture::X86_64 => X86_64,
        };
        let mut debugger = Self { stub, registers };
        let _ = debugger.request("?");
        debugger
    }

    /// Lets whichever process runs on one of the `processors` go on at
    /// `address`, and the machine with it. Waits until there is one.
    pub(crate) fn divert_process(mut self, processors: u32, address: u64) {
        let deadline = Instant::now() + SOON;
        while !(1..=processors).any(|processor| self.runs_process(processor)) {
            assert!(Instant::now() < deadline, "no processor runs a process");
            self.send("c");
            thread::sleep(Duration::from_millis(20));
            self.stub
                .write_all(b"\x03")
                .or_fail("interrupt the machine");
            let _ = self.receive();
        }
        // Values are sent in the machine's byte order, lowest byte first.
        let value = address.swap_bytes();
        let jump = format!("P{:x}={value:016x}", self.registers.instruction);
        assert_eq!(self.request(&jump), "OK", "the jump is set");
        assert_eq!(self.request("D"), "OK", "the debugger detaches");
    }

    /// Looks at this processor, counted from 1, from now on.
    fn runs_process(&mut self, processor: u32) -> bool {
        assert_eq!(
            self.request(&format!("Hg{processor:x}")),
            "OK",
            "there is such a processor"
        );
        let level = self.register(self.registers.level) & self.registers.level_mask;
        level == self.registers.level_of_process
    }

    fn register(&mut self, number: usize) -> u64 {
        let digits = self.request(&format!("p{number:x}"));
        digits
            .as_bytes()
            .chunks(2)
            .rev()
            .filter_map(|pair| u64::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .fold(0, |value, byte| value << 8 | byte)
    }

    fn request(&mut self, packet: &str) -> String {
        self.send(packet);
        self.receive()
    }

    fn send(&mut self, packet: &str) {
        let framed = format!("${packet}#{:02x}", checksum(packet.as_bytes()));
        self.stub
            .write_all(framed.as_bytes())
            .or_fail("speak to QEMU's debug stub");
    }

    /// The next packet, acknowledged; acknowledgements before it are skipped.
    fn receive(&mut self) -> String {
        while self.byte() != b'$' {}
        let mut packet = Vec::new();
        loop {
            match self.byte() {
                b'#' => break,
                byte => packet.push(byte),
            }
        }
        let _ = (self.byte(), self.byte());
        self.stub.write_all(b"+").or_fail("acknowledge a packet");
        String::from_utf8_lossy(&packet).into_owned()
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.stub
            .read_exact(&mut byte)
            .or_fail("listen to QEMU's debug stub");
        byte[0]
    }
}

fn checksum(packet: &[u8]) -> u8 {
    packet
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}
