//! Reads images: what is on them, whether it is whole, which parameters they carry.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use gpt::partition::Partition;
use gpt::{GptConfig, GptDisk, disk::LogicalBlockSize};
use sha2::{Digest as _, Sha256};

use crate::esp;
use crate::layout::{self, ALIGNMENT_BYTES, Kind, MANIFEST_LABEL, PARAMETERS_LABEL, SECTOR_BYTES};
use crate::partial::{self, Interrupt};
use crate::text::{self, PARAMETERS_BYTES, Parameters, Record, one_line};

/// Longest EFI system partition that is read into memory.
const ESP_BYTES_MAX: u64 = 1 << 30;

/// An image with a partition table.
struct Image {
    disk: GptDisk<File>,
}

impl Image {
    fn open(path: &Path, writable: bool) -> Result<Self> {
        let shown = path.display();
        let file = OpenOptions::new()
            .read(true)
            .write(writable)
            .open(path)
            .with_context(|| format!("cannot open {shown}"))?;
        let disk = GptConfig::new()
            .logical_block_size(LogicalBlockSize::Lb512)
            .open_from_device(file)
            .with_context(|| format!("{shown} has no GPT partition table"))?;
        Ok(Self { disk })
    }

    fn bytes(&mut self) -> Result<u64> {
        Ok(self.disk.device_mut().seek(SeekFrom::End(0))?)
    }

    fn partitions(&self) -> Vec<(u32, Partition)> {
        self.disk
            .partitions()
            .iter()
            .filter(|(_, entry)| entry.is_used())
            .map(|(&number, entry)| (number, entry.clone()))
            .collect()
    }

    fn by_label(&self, label: &str) -> Result<Partition> {
        self.disk
            .partitions()
            .values()
            .find(|entry| entry.is_used() && entry.name == label)
            .cloned()
            .with_context(|| format!("the disk has no partition \"{label}\""))
    }

    /// The first `bytes` of a partition, at most all of it.
    fn read(&mut self, entry: &Partition, bytes: u64) -> Result<Vec<u8>> {
        let file = self.seek(entry)?;
        let bytes = bytes.min(size_of(entry)?);
        let mut buffer = vec![0; usize::try_from(bytes)?];
        file.read_exact(&mut buffer)
            .with_context(|| format!("cannot read \"{}\"", entry.name))?;
        Ok(buffer)
    }

    fn seek(&mut self, entry: &Partition) -> Result<&mut File> {
        let offset = entry
            .first_lba
            .checked_mul(SECTOR_BYTES)
            .with_context(|| format!("\"{}\" begins nowhere", entry.name))?;
        let file = self.disk.device_mut();
        file.seek(SeekFrom::Start(offset))?;
        Ok(file)
    }

    fn manifest(&mut self) -> Result<(String, Vec<Record>)> {
        let entry = self.by_label(MANIFEST_LABEL)?;
        let bytes = self.read(&entry, ALIGNMENT_BYTES)?;
        let records = text::parse_manifest(&bytes)?;
        Ok((text::manifest_text(&records), records))
    }
}

fn size_of(entry: &Partition) -> Result<u64> {
    entry
        .sectors_len()
        .ok()
        .and_then(|sectors| sectors.checked_mul(SECTOR_BYTES))
        .with_context(|| format!("\"{}\" has no size", entry.name))
}

/// Shows what is on the image; a disk made by other programs as well.
pub(crate) fn list(path: &Path, out: &mut impl Write) -> Result<()> {
    let mut image = Image::open(path, false)?;
    let bytes = image.bytes()?;
    let records = image
        .manifest()
        .map(|(_, records)| records)
        .unwrap_or_default();
    writeln!(
        out,
        "{}  {} bytes  GPT {}",
        one_line(&path.display().to_string()),
        bytes,
        image.disk.guid()
    )?;
    for (number, entry) in image.partitions() {
        let kind = Kind::of(entry.part_type_guid.guid).map_or("other", Kind::name);
        let record = records.iter().find(|record| record.label == entry.name);
        writeln!(
            out,
            "{number}  {kind:<11}  {:>12} bytes at {:>12}  {}",
            record.map_or(size_of(&entry)?, |record| record.content_bytes),
            entry.first_lba * SECTOR_BYTES,
            one_line(&entry.name),
        )?;
        if let Some(record) = record {
            writeln!(
                out,
                "   {} {} bytes, sha256 {}",
                one_line(&record.file_name),
                record.bytes,
                record.sha256
            )?;
        }
    }
    Ok(())
}

/// Reads everything on the image and compares it with the manifest. Every
/// check is made, and shown on a line; any that failed is an error at the end.
pub(crate) fn verify(path: &Path, interrupt: &Interrupt, out: &mut impl Write) -> Result<()> {
    let mut image = Image::open(path, false)?;
    let (manifest, records) = image.manifest()?;
    let bar = partial::progress_bar(
        records.iter().map(|record| record.content_bytes).sum(),
        "reading",
    );
    let mut failed = 0;
    let mut report = |what: &str, result: Result<()>| -> Result<()> {
        interrupt.check()?;
        let line = match result {
            Ok(()) => format!("ok      {what}"),
            Err(error) => {
                failed += 1;
                format!("FAILED  {what}: {error:#}")
            }
        };
        bar.suspend(|| writeln!(out, "{}", one_line(&line)))?;
        Ok(())
    };
    report("partition tables", check_tables(&image))?;
    let found = image.by_label(MANIFEST_LABEL).and_then(|entry| {
        ensure!(
            entry.part_guid == layout::uuid_of_text(&manifest),
            "it is not the text that the disk was made with"
        );
        Ok(())
    });
    report(MANIFEST_LABEL, found)?;
    let read = image.by_label(PARAMETERS_LABEL).and_then(|entry| {
        let bytes = image.read(&entry, PARAMETERS_BYTES as u64)?;
        Parameters::parse(&bytes).map(drop)
    });
    report(PARAMETERS_LABEL, read)?;
    for record in &records {
        let result = check_record(&mut image, record, &bar, interrupt);
        report(&record.label, result)?;
    }
    bar.finish_and_clear();
    if failed > 0 {
        bail!(
            "{}: {failed} of {} checks failed",
            path.display(),
            records.len() + 3
        );
    }
    Ok(())
}

fn check_tables(image: &Image) -> Result<()> {
    let primary = image.disk.primary_header().context("the first table")?;
    let backup = image.disk.backup_header().context("the second table")?;
    ensure!(
        primary.crc32_parts == backup.crc32_parts && primary.disk_guid == backup.disk_guid,
        "the two tables differ"
    );
    Ok(())
}

fn check_record(
    image: &mut Image,
    record: &Record,
    bar: &indicatif::ProgressBar,
    interrupt: &Interrupt,
) -> Result<()> {
    let entry = image.by_label(&record.label)?;
    let partition_bytes = size_of(&entry)?;
    ensure!(
        record.content_bytes <= partition_bytes
            && partition_bytes - record.content_bytes < SECTOR_BYTES,
        "the partition is of another size"
    );
    let file = image.seek(&entry)?;
    let digest = partial::hash(file, record.content_bytes, bar, interrupt)?;
    ensure!(
        hex::encode(digest) == record.content_sha256,
        "sha256 is {}, not {}",
        hex::encode(digest),
        record.content_sha256
    );
    ensure!(
        entry.part_guid == layout::uuid_of(&digest),
        "the partition's UUID belongs to other contents"
    );
    let mut rest = vec![0; usize::try_from(partition_bytes - record.content_bytes)?];
    file.read_exact(&mut rest)?;
    ensure!(
        rest.iter().all(|&byte| byte == 0),
        "something follows the file"
    );
    if record.kind == "efi" {
        check_efi(image, &entry, record)?;
    }
    Ok(())
}

fn check_efi(image: &mut Image, entry: &Partition, record: &Record) -> Result<()> {
    let mut volume = image.read(entry, ESP_BYTES_MAX)?;
    let efi = esp::read(&mut volume)?;
    let digest: [u8; 32] = Sha256::digest(&efi).into();
    ensure!(
        hex::encode(digest) == record.sha256,
        "the sha256 of its EFI files is {}, not {}",
        hex::encode(digest),
        record.sha256
    );
    Ok(())
}

/// Changes the parameters on an image as `assignments` say, and shows them.
pub(crate) fn params(path: &Path, assignments: &[String], out: &mut impl Write) -> Result<()> {
    let mut image = Image::open(path, !assignments.is_empty())?;
    let entry = image.by_label(PARAMETERS_LABEL)?;
    let bytes = image.read(&entry, PARAMETERS_BYTES as u64)?;
    let mut parameters = Parameters::parse(&bytes)?;
    for assignment in assignments {
        parameters.set(assignment)?;
    }
    let text = parameters.to_text()?;
    if !assignments.is_empty() {
        let mut block = text.clone().into_bytes();
        block.resize(PARAMETERS_BYTES, 0);
        let file = image.seek(&entry)?;
        file.write_all(&block)
            .and_then(|()| file.sync_all())
            .with_context(|| format!("cannot write to {}", path.display()))?;
    }
    out.write_all(text.as_bytes())?;
    Ok(())
}
