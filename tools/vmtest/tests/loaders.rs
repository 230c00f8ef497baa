//! The loader that cloud-hypervisor and Firecracker start kernels with takes ours.
#![cfg(target_arch = "x86_64")]

use std::fs::File;
use std::io::{Cursor, Seek, SeekFrom};

use linux_loader::loader::{BzImage, Elf, KernelLoader, elf::PvhBootCapability};
use vm_memory::{Address, GuestAddress, GuestMemoryMmap};
use vmtest::{Architecture, OrFail, efi_file, packed_kernel};

const ABOVE_THE_FIRST_MIB: GuestAddress = GuestAddress(1 << 20);

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 256 << 20)]).or_fail("make a guest's memory")
}

#[test]
fn the_efi_file_is_a_kernel_with_a_64_bit_entry() {
    let mut file = File::open(efi_file(Architecture::X86_64)).or_fail("open the EFI file");
    let loaded = BzImage::load(&memory(), None, &mut file, Some(ABOVE_THE_FIRST_MIB))
        .or_fail("load a bzImage");
    let header = loaded.setup_header.or_fail("find its setup header");
    let flags = header.xloadflags;
    assert_eq!(flags & 1, 1, "no 64-bit entry: {flags:#x}");
    let end = file.seek(SeekFrom::End(0)).or_fail("measure the EFI file");
    assert!(loaded.kernel_end < end + ABOVE_THE_FIRST_MIB.raw_value());
}

#[test]
fn what_is_packed_in_it_is_an_elf_kernel_without_pvh() {
    let packed =
        packed_kernel(&std::fs::read(efi_file(Architecture::X86_64)).or_fail("read the EFI file"));
    let loaded = Elf::load(
        &memory(),
        None,
        &mut Cursor::new(packed),
        Some(ABOVE_THE_FIRST_MIB),
    )
    .or_fail("load an ELF kernel");
    // Where Linux's own protocol enters it.
    assert_eq!(loaded.kernel_load, GuestAddress(16 << 20));
    assert_eq!(loaded.pvh_boot_cap, PvhBootCapability::PvhEntryNotPresent);
}
