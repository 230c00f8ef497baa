//! The EFI system partition: a FAT32 file system with one file, built in memory.

use std::io::{Cursor, Read as _, Write as _};

use anyhow::{Context as _, Result, ensure};
use fatfs::{
    Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider,
};

use crate::layout::SECTOR_BYTES;

/// Where UEFI firmware on an ARM machine looks on a disk that it knows nothing about.
pub(crate) const BOOT_PATH: [&str; 3] = ["EFI", "BOOT", "BOOTAA64.EFI"];

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

/// A file system holding `efi`; the same bytes for the same file, whenever it is made.
pub(crate) fn build(efi: &[u8]) -> Result<Vec<u8>> {
    ensure!(
        efi.starts_with(b"MZ"),
        "it is not an EFI executable (no MZ at its beginning)"
    );
    ensure!(
        efi.len() as u64 <= EFI_BYTES_MAX,
        "it is larger than {} MiB",
        EFI_BYTES_MAX >> 20
    );
    // The allocation table and directories take less than 2 MiB here.
    let bytes = ((efi.len() as u64) + (8 << 20))
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
        let [efi_dir, boot_dir, file_name] = BOOT_PATH;
        let directory = fat.root_dir().create_dir(efi_dir)?.create_dir(boot_dir)?;
        let mut file = directory.create_file(file_name)?;
        file.write_all(efi)?;
        file.flush()?;
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

/// The EFI file in a file system that [`build`] made.
pub(crate) fn read(volume: &mut [u8]) -> Result<Vec<u8>> {
    let fat = FileSystem::new(Cursor::new(volume), FsOptions::new())
        .context("cannot read the EFI system partition")?;
    let path = BOOT_PATH.join("/");
    let mut file = fat
        .root_dir()
        .open_file(&path)
        .with_context(|| format!("the EFI system partition has no {path}"))?;
    let mut efi = Vec::new();
    file.read_to_end(&mut efi)?;
    Ok(efi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_file_and_is_the_same_every_time() {
        let efi: Vec<u8> = b"MZ"
            .iter()
            .copied()
            .chain((0..=255).cycle().take(100_000))
            .collect();
        let mut volume = build(&efi).unwrap();
        assert_eq!(volume.len(), 64 << 20);
        assert_eq!(build(&efi).unwrap(), volume);
        assert_eq!(read(&mut volume).unwrap(), efi);
        let fat = FileSystem::new(Cursor::new(&mut volume), FsOptions::new()).unwrap();
        assert_eq!(fat.fat_type(), FatType::Fat32);
    }

    #[test]
    fn grows_with_the_file() {
        let mut efi = vec![7; 70 << 20];
        efi[..2].copy_from_slice(b"MZ");
        let mut volume = build(&efi).unwrap();
        assert_eq!(read(&mut volume).unwrap(), efi);
    }

    #[test]
    fn refuses_what_firmware_cannot_start() {
        let error = build(b"\x7fELF").unwrap_err().to_string();
        assert!(error.contains("not an EFI executable"), "{error}");
    }
}
