//! What a machine is built of.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::{Architecture, Board, COLS, Drive, Processor, ROWS, SYSTEM_PROMPT};

/// What to build a machine of.
#[derive(Debug, Clone)]
pub struct VmSpec {
    pub(crate) board: Board,
    pub(crate) processor: Processor,
    pub(crate) has_slot: bool,
    pub(crate) keeps_memory: bool,
    pub(crate) initrd: Option<PathBuf>,
    pub(crate) start: Start,
    pub(crate) memory_mib: u32,
    pub(crate) drives: Vec<Drive>,
    pub(crate) parameters: Vec<OsString>,
    pub(crate) order: Option<Vec<u8>>,
}

/// Who starts the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// UEFI firmware that QEMU gives the EFI file and the command line.
    Firmware,
    /// UEFI firmware that finds the EFI file on the disk.
    Disk,
    /// The same, which starts only what its key has signed.
    SecureDisk,
    /// QEMU itself.
    Loader,
}

impl Default for VmSpec {
    fn default() -> Self {
        let architecture = Architecture::under_test();
        Self {
            board: Board::of(architecture),
            processor: Processor::of(architecture),
            has_slot: false,
            keeps_memory: false,
            initrd: None,
            start: Start::Firmware,
            memory_mib: 1024,
            drives: Vec::new(),
            parameters: Vec::new(),
            order: None,
        }
    }
}

impl VmSpec {
    /// A machine with two processors and 1024 MiB, and no disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A machine with this model, greedy, so that its answers can be foretold,
    /// and with one thread: emulated on a host that is busy too, two of them
    /// wait for each other most of the time.
    #[must_use]
    pub fn with_model(path: impl Into<PathBuf>) -> Self {
        Self::new()
            .disk(Drive::File(path.into()))
            .parameter("zosia.temp=0")
            .parameter("zosia.threads=1")
            .parameter(format!("zosia.system=\"{SYSTEM_PROMPT}\""))
    }

    /// Another disk.
    #[must_use]
    pub fn disk(mut self, drive: Drive) -> Self {
        self.drives.push(drive);
        self
    }

    /// Another kind of machine, with a processor that fits.
    #[must_use]
    pub fn board(mut self, board: Board) -> Self {
        if self.board.architecture() != board.architecture() {
            self.processor = Processor::of(board.architecture());
        }
        self.board = board;
        self
    }

    /// Another kind of processor.
    #[must_use]
    pub fn processor(mut self, processor: Processor) -> Self {
        self.processor = processor;
        self
    }

    /// Virtio over PCI, and a slot where a disk can be plugged in later.
    #[must_use]
    pub fn with_slot(mut self) -> Self {
        self.has_slot = true;
        match self.board {
            Board::Mmio => self.board(Board::Pci),
            _ => self,
        }
    }

    /// The firmware finds the EFI file on the disk, and nothing gives it a
    /// command line: parameters are those of the disk.
    #[must_use]
    pub fn starts_from_disk(mut self) -> Self {
        self.start = Start::Disk;
        self
    }

    /// The same, with Secure Boot: the firmware knows Debian's key for tests, and no
    /// other.
    #[must_use]
    pub fn starts_signed_from_disk(mut self) -> Self {
        self.start = Start::SecureDisk;
        self
    }

    /// QEMU starts the kernel, and hands it the bytes of the command line as
    /// they are; firmware takes them for ASCII.
    #[must_use]
    pub fn without_firmware(mut self) -> Self {
        self.start = Start::Loader;
        self
    }

    /// The host adds this archive to the initramfs.
    #[must_use]
    pub fn initrd(mut self, archive: PathBuf) -> Self {
        self.initrd = Some(archive);
        self
    }

    /// What is in its memory stays when it is switched off: [`crate::Vm::memory`].
    #[must_use]
    pub fn keeps_memory(mut self) -> Self {
        self.keeps_memory = true;
        self
    }

    /// This much memory.
    #[must_use]
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Another word on the kernel command line.
    #[must_use]
    pub fn parameter(mut self, parameter: impl AsRef<OsStr>) -> Self {
        self.parameters.push(parameter.as_ref().to_owned());
        self
    }

    /// One turn, whose prompt and answer go through ports and not the terminal.
    #[must_use]
    pub fn one_turn(self, prompt: &str) -> Self {
        self.order(format!("{}\n{prompt}", prompt.len()))
    }

    /// A conversation of its own for each of `lines`, JSON each.
    #[must_use]
    pub fn batch(self, lines: &[&str]) -> Self {
        let lines = lines.join("\n");
        self.order(format!("batch END 0\n{lines}\nEND\n"))
    }

    /// What the host sends in the place of one turn or of a batch.
    #[must_use]
    pub fn order(mut self, order: impl Into<Vec<u8>>) -> Self {
        self.order = Some(order.into());
        self.parameter("zosia.prompt=-")
    }

    pub(crate) fn command_line(&self) -> OsString {
        let console = self.board.console();
        let fixed = format!("console={console} quiet panic=-1 zosia.cols={COLS} zosia.rows={ROWS}");
        let all = [&[OsString::from(fixed)], &self.parameters[..]].concat();
        all.join(OsStr::new(" "))
    }
}
