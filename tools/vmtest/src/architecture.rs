//! The processors that zosia is built for, and where what is tested with each lies.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;

use crate::OrFail;
use crate::shipped::{built, repository};

/// The processors that artefacts are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// ARM's of 64 bits.
    Aarch64,
    /// The PC's.
    X86_64,
}

impl Architecture {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Aarch64, Self::X86_64];

    /// That of the machines whose test does not say: `ZOSIA_TEST_ARCH`, else ARM's.
    #[must_use]
    pub fn under_test() -> Self {
        let Some(name) = env::var_os("ZOSIA_TEST_ARCH") else {
            return Self::Aarch64;
        };
        let known = Self::ALL.into_iter().find(|known| *known.name() == name);
        known.or_fail(format_args!("know ZOSIA_TEST_ARCH={}", name.display()))
    }

    /// As tools call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64",
            Self::X86_64 => "x86_64",
        }
    }

    /// `tools/run.sh`'s flag for a machine with one.
    #[must_use]
    pub fn flag(self) -> &'static OsStr {
        OsStr::new(match self {
            Self::Aarch64 => "--arch=aarch64",
            Self::X86_64 => "--arch=x86_64",
        })
    }

    /// What `tools/build.sh` makes for it as `stem` and `end`: in the names of one
    /// architecture's files it is not said.
    #[must_use]
    pub fn artefact(self, stem: &str, end: &str) -> PathBuf {
        let suffix = match self {
            Self::Aarch64 => "",
            Self::X86_64 => "-x86_64",
        };
        let path = repository().join(format!("out/{stem}{suffix}{end}"));
        built(path, &format!("tools/build.sh --arch {}", self.name()))
    }

    /// UEFI firmware, where a distribution puts it; `ZOSIA_FIRMWARE` for the one under
    /// test.
    #[must_use]
    pub(crate) fn firmware(self) -> PathBuf {
        if let Some(path) = env::var_os("ZOSIA_FIRMWARE")
            && self == Self::under_test()
        {
            return path.into();
        }
        let known = match self {
            Self::Aarch64 => &[
                "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
                "/usr/share/AAVMF/AAVMF_CODE.fd",
                "/usr/share/edk2/aarch64/QEMU_EFI.fd",
                "/opt/homebrew/share/qemu/edk2-aarch64-code.fd",
            ][..],
            Self::X86_64 => &["/usr/share/ovmf/OVMF.fd", "/usr/share/edk2/x64/OVMF.4m.fd"],
        };
        let mut known = known.iter().map(PathBuf::from);
        known
            .find(|path| path.exists())
            .or_fail("find UEFI firmware (Debian: qemu-efi-aarch64, ovmf)")
    }

    /// Debian's firmware with Secure Boot, and its variables: the key
    /// [`Architecture::snakeoil`] and no other is known.
    pub(crate) fn secure_firmware(self) -> [&'static str; 2] {
        match self {
            Self::Aarch64 => [
                "/usr/share/AAVMF/AAVMF_CODE.snakeoil.fd",
                "/usr/share/AAVMF/AAVMF_VARS.snakeoil.fd",
            ],
            Self::X86_64 => [
                "/usr/share/OVMF/OVMF_CODE_4M.snakeoil.fd",
                "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd",
            ],
        }
    }

    /// Debian's key for tests of Secure Boot and its certificate; its passphrase is
    /// its name.
    #[must_use]
    pub fn snakeoil(self) -> [&'static str; 2] {
        match self {
            Self::Aarch64 => [
                "/usr/share/qemu-efi-aarch64/PkKek-1-snakeoil.key",
                "/usr/share/qemu-efi-aarch64/PkKek-1-snakeoil.pem",
            ],
            Self::X86_64 => [
                "/usr/share/ovmf/PkKek-1-snakeoil.key",
                "/usr/share/ovmf/PkKek-1-snakeoil.pem",
            ],
        }
    }
}
