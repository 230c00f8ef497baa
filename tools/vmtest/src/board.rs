//! Boards and processors, and what QEMU calls them.

use crate::Architecture;

/// The kind of processor, each the least that runs one level of ggml-cpu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    /// ARMv8.0, as in a Raspberry Pi 4.
    CortexA72,
    /// ARMv8.2 with dot products, as in most clouds.
    NeoverseN1,
    /// Everything that QEMU knows, matrix products among it, as in a Mac.
    Max,
    /// SSE4.2, as in a PC of 2008.
    Nehalem,
    /// The same as it was in 2008, without an instruction for random numbers.
    NehalemOf2008,
    /// AVX2, as in a PC of 2013. QEMU emulates nothing newer.
    Haswell,
}

impl Processor {
    /// The one that is emulated fastest.
    pub(crate) fn of(architecture: Architecture) -> Self {
        match architecture {
            Architecture::Aarch64 => Self::NeoverseN1,
            Architecture::X86_64 => Self::Nehalem,
        }
    }

    /// As QEMU calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CortexA72 => "cortex-a72",
            Self::NeoverseN1 => "neoverse-n1",
            Self::Max => "max",
            // Without random numbers of its own there is no session.
            Self::Nehalem => "Nehalem,+rdrand",
            Self::NehalemOf2008 => "Nehalem",
            Self::Haswell => "Haswell",
        }
    }

    /// The level of ggml-cpu that zosia chooses on it.
    #[must_use]
    pub fn level(self) -> &'static str {
        match self {
            Self::CortexA72 => "v80",
            Self::NeoverseN1 => "v82",
            Self::Max => "v86",
            Self::Nehalem | Self::NehalemOf2008 => "x64",
            Self::Haswell => "avx2",
        }
    }
}

/// What the machine is made of, and how the kernel learns of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Board {
    /// What `tools/run.sh` starts for ARM: virtio over MMIO and a PL011 serial
    /// port, described by a device tree.
    Mmio,
    /// Virtio over PCI, with a virtio console for the terminal, described by a
    /// device tree: what Apple's Virtualization.framework gives to a kernel
    /// that it loads itself.
    Pci,
    /// The same, described by ACPI: what its UEFI firmware gives.
    PciAcpi,
    /// What it starts for `x86_64`: virtio over PCI and a 16550 serial port,
    /// described by ACPI.
    Q35,
    /// A small machine of that kind, as Firecracker's is: virtio over MMIO, described by
    /// the command line. Its firmware is not UEFI and only starts the kernel. (With
    /// ACPI it has no clock but that of KVM.)
    Microvm,
}

impl Board {
    /// What `tools/run.sh` starts.
    pub(crate) fn of(architecture: Architecture) -> Self {
        match architecture {
            Architecture::Aarch64 => Self::Mmio,
            Architecture::X86_64 => Self::Q35,
        }
    }

    /// Whose board it is.
    #[must_use]
    pub fn architecture(self) -> Architecture {
        match self {
            Self::Mmio | Self::Pci | Self::PciAcpi => Architecture::Aarch64,
            Self::Q35 | Self::Microvm => Architecture::X86_64,
        }
    }

    pub(crate) fn machine(self) -> &'static str {
        match self {
            Self::Q35 => "q35,hpet=off,vmport=off,smm=off",
            Self::Microvm => "microvm,acpi=off",
            Self::Mmio | Self::Pci => "virt,acpi=off",
            Self::PciAcpi => "virt,acpi=on,gic-version=3",
        }
    }

    /// QEMU's word for the end of a machine that its guest has switched off. Without
    /// ACPI a PC has no power-off, and is restarted.
    pub(crate) fn power_off(self) -> &'static str {
        match self {
            Self::Microvm => "guest-reset",
            _ => "guest-shutdown",
        }
    }

    /// Where its memory begins.
    pub(crate) fn memory_address(self) -> u64 {
        match self.architecture() {
            Architecture::Aarch64 => 1 << 30,
            Architecture::X86_64 => 0,
        }
    }

    /// What ends the names of QEMU's virtio devices.
    pub(crate) fn bus(self) -> &'static str {
        match self {
            Self::Mmio | Self::Microvm => "device",
            Self::Pci | Self::PciAcpi | Self::Q35 => "pci",
        }
    }

    /// The same for the controller of the ports to the host: ARM's board has both kinds.
    pub(crate) fn ports(self) -> &'static str {
        match self {
            Self::Q35 => "pci",
            _ => "device",
        }
    }

    pub(crate) fn console(self) -> &'static str {
        match self {
            Self::Mmio => "ttyAMA0",
            Self::Q35 | Self::Microvm => "ttyS0",
            Self::Pci | Self::PciAcpi => "hvc0",
        }
    }

    /// The terminal, on the character device `console`. QEMU's board has its
    /// PL011 in any case; with virtio, nothing is connected to that.
    pub(crate) fn terminal(self) -> &'static [&'static str] {
        match self {
            Self::Mmio | Self::Q35 | Self::Microvm => &["-serial", "chardev:console"],
            Self::Pci | Self::PciAcpi => {
                &["-serial", "none", "-device", "virtconsole,chardev=console"]
            }
        }
    }
}
