//! The EFI system partition: a FAT32 file system with an EFI file for one kind of
//! processor or for both, built in memory.

use std::io::{Cursor, ErrorKind, Read as _, Write as _};

use anyhow::{Context as _, Result, ensure};
use fatfs::{
    Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider,
};

use crate::layout::SECTOR_BYTES;

/// Where UEFI firmware looks on a disk that it knows nothing about.
const BOOT_FOLDER: [&str; 2] = ["EFI", "BOOT"];

/// What it looks for there, by the processor that a file says in its header that it is
/// for (`Machine` in the PE format), in the order in which files are built and read.
const BOOT_NAMES: [(u16, &str); 2] = [(0xaa64, "BOOTAA64.EFI"), (0x8664, "BOOTX64.EFI")];

/// FAT32 begins at 65,525 clusters; smaller volumes would be FAT16, which the
/// UEFI specification does not promise for fixed disks.
const ESP_BYTES_MIN: u64 = 64 << 20;
/// Clusters are single sectors, to reach that number in a small volume.
const CLUSTER_BYTES: u16 = 512;
/// An EFI file beyond this is a mistake, and would not fit the memory used here.
const EFI_BYTES_MAX: u64 = 512 << 20;

/// Dates every file with the first day that FAT knows.
#[derive(Debug)]
struct NoClock;

impl TimeProvider for NoClock {
    fn get_current_date(&self) -> Date {
        Date {
            year: 1980,
            month: 1,
            day: 1,
        }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime {
            date: self.get_current_date(),
            time: Time {
                hour: 0,
                min: 0,
                sec: 0,
                millis: 0,
            },
        }
    }
}

/// An EFI file.
pub(crate) struct Program {
    bytes: Vec<u8>,
    /// Its place in [`BOOT_NAMES`].
    kind: usize,
}

impl Program {
    /// Takes a file's bytes, if they are what firmware can start.
    pub(crate) fn new(bytes: Vec<u8>) -> Result<Self> {
        ensure!(
            bytes.starts_with(b"MZ"),
            "it is not an EFI executable (no MZ at its beginning)"
        );
        ensure!(
            bytes.len() as u64 <= EFI_BYTES_MAX,
            "it is larger than {} MiB",
            EFI_BYTES_MAX >> 20
        );
        let machine = machine_of(&bytes);
        let kind = BOOT_NAMES.iter().position(|(of, _)| Some(*of) == machine);
        let kind = kind.context("it is an EFI executable for neither AArch64 nor x86_64")?;
        Ok(Self { bytes, kind })
    }

    fn name(&self) -> &'static str {
        BOOT_NAMES[self.kind].1
    }
}

/// The processor in the header of a PE file, whose place is told at byte 60.
fn machine_of(bytes: &[u8]) -> Option<u16> {
    let header = u32::from_le_bytes(bytes.get(60..64)?.try_into().ok()?);
    let header = bytes.get(usize::try_from(header).ok()?..)?;
    let machine = header.strip_prefix(b"PE\0\0")?.get(..2)?;
    Some(u16::from_le_bytes(machine.try_into().ok()?))
}

/// Sorts `programs` as they are built and read, at most one for each processor.
pub(crate) fn sort(programs: &mut [Program]) -> Result<()> {
    programs.sort_by_key(|program| program.kind);
    for pair in programs.windows(2) {
        let name = pair[0].name();
        ensure!(pair[0].kind != pair[1].kind, "two files would be {name}");
    }
    Ok(())
}

/// All of them, one after the other: what the manifest's checksum is of.
pub(crate) fn joined(programs: &[Program]) -> Vec<u8> {
    programs
        .iter()
        .flat_map(|p| p.bytes.iter().copied())
        .collect()
}

/// A file system holding `programs`; the same bytes for the same files, whenever it is
/// made.
pub(crate) fn build(programs: &[Program]) -> Result<Vec<u8>> {
    let files: u64 = programs.iter().map(|p| p.bytes.len() as u64).sum();
    // The allocation table and directories take less than 4 MiB here.
    let bytes = (files + (8 << 20))
        .next_multiple_of(1 << 20)
        .max(ESP_BYTES_MIN);
    let mut volume = vec![0; usize::try_from(bytes)?];
    fatfs::format_volume(
        Cursor::new(&mut volume),
        FormatVolumeOptions::new()
            .fat_type(FatType::Fat32)
            .bytes_per_cluster(u32::from(CLUSTER_BYTES))
            .total_sectors(u32::try_from(bytes / SECTOR_BYTES)?)
            .volume_id(0x7a6f_7369)
            .volume_label(*b"ZOSIA      "),
    )
    .context("cannot format the EFI system partition")?;
    let volume_cursor = Cursor::new(&mut volume);
    let fat = FileSystem::new(volume_cursor, FsOptions::new().time_provider(&NoClock))?;
    {
        let [efi_dir, boot_dir] = BOOT_FOLDER;
        let directory = fat.root_dir().create_dir(efi_dir)?.create_dir(boot_dir)?;
        for program in programs {
            let mut file = directory.create_file(program.name())?;
            file.write_all(&program.bytes)?;
            file.flush()?;
        }
    }
    fat.unmount()?;
    point_to_root(&mut volume).context("the new file system is not as expected")?;
    Ok(volume)
}

/// Corrects the `..` of the directory EFI: the root directory is spelled as
/// cluster 0 there, whatever its cluster is, and fatfs 0.3.6 writes the cluster.
/// Offsets are those of Microsoft's FAT specification, sections 3 and 6.
fn point_to_root(volume: &mut [u8]) -> Option<()> {
    let u16_at = |volume: &[u8], offset: usize| {
        let bytes = volume.get(offset..offset + 2)?;
        Some(usize::from(u16::from_le_bytes(bytes.try_into().ok()?)))
    };
    let reserved_sectors = u16_at(volume, 14)?;
    let tables = usize::from(*volume.get(16)?);
    let table_sectors = u16_at(volume, 36)? | (u16_at(volume, 38)? << 16);
    let cluster_bytes = usize::from(CLUSTER_BYTES);
    let data = (reserved_sectors + tables * table_sectors) * cluster_bytes;
    // The root directory is cluster 2, the first; EFI is among its entries.
    let root = volume.get(data..data + cluster_bytes)?;
    let entry = root
        .chunks(32)
        .find(|entry| entry.starts_with(b"EFI     "))?;
    let cluster = u16_at(entry, 26)? | (u16_at(entry, 20)? << 16);
    let parent = data + cluster.checked_sub(2)? * cluster_bytes + 32;
    let parent = volume.get_mut(parent..parent + 32)?;
    if !parent.starts_with(b"..      ") {
        return None;
    }
    parent[20..22].fill(0);
    parent[26..28].fill(0);
    Some(())
}

/// The EFI files in a file system that [`build`] made, one after the other.
pub(crate) fn read(volume: &mut [u8]) -> Result<Vec<u8>> {
    let fat = FileSystem::new(Cursor::new(volume), FsOptions::new())
        .context("cannot read the EFI system partition")?;
    let folder = BOOT_FOLDER.join("/");
    let directory = fat
        .root_dir()
        .open_dir(&folder)
        .with_context(|| format!("the EFI system partition has no {folder}"))?;
    let mut efi = Vec::new();
    for (_, name) in BOOT_NAMES {
        match directory.open_file(name) {
            Ok(mut file) => drop(file.read_to_end(&mut efi)?),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("cannot read {name}")),
        }
    }
    Ok(efi)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An EFI file of this many bytes.
    fn program(machine: u16, bytes: usize) -> Program {
        let mut efi: Vec<u8> = (0..=255).cycle().take(bytes).collect();
        efi[..2].copy_from_slice(b"MZ");
        efi[60..64].copy_from_slice(&64_u32.to_le_bytes());
        efi[64..68].copy_from_slice(b"PE\0\0");
        efi[68..70].copy_from_slice(&machine.to_le_bytes());
        Program::new(efi).unwrap()
    }

    #[test]
    fn holds_the_files_and_is_the_same_every_time() {
        for machines in [&[0xaa64][..], &[0x8664], &[0x8664, 0xaa64]] {
            let mut programs: Vec<Program> =
                machines.iter().map(|m| program(*m, 100_000)).collect();
            sort(&mut programs).unwrap();
            let mut volume = build(&programs).unwrap();
            assert_eq!(volume.len(), 64 << 20);
            assert_eq!(build(&programs).unwrap(), volume);
            assert_eq!(read(&mut volume).unwrap(), joined(&programs));
            let fat = FileSystem::new(Cursor::new(&mut volume), FsOptions::new()).unwrap();
            assert_eq!(fat.fat_type(), FatType::Fat32);
        }
    }

    #[test]
    fn grows_with_the_files() {
        let programs = [program(0xaa64, 70 << 20), program(0x8664, 30 << 20)];
        let mut volume = build(&programs).unwrap();
        assert_eq!(read(&mut volume).unwrap(), joined(&programs));
    }

    #[test]
    fn refuses_what_firmware_cannot_start() {
        let error = |bytes: &[u8]| Program::new(bytes.to_vec()).err().unwrap().to_string();
        assert!(error(b"\x7fELF").contains("not an EFI executable"));
        assert!(error(b"MZ").contains("neither AArch64 nor x86_64"));
        let mut twice = [program(0xaa64, 100), program(0xaa64, 100)];
        let error = sort(&mut twice).unwrap_err().to_string();
        assert_eq!(error, "two files would be BOOTAA64.EFI");
    }
}
