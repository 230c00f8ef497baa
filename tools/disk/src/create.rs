//! Makes an image: everything into a file beside it, then one rename.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{Cursor, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use gpt::mbr::ProtectiveMBR;
use gpt::partition::Partition;
use gpt::{GptConfig, disk::LogicalBlockSize};
use indicatif::ProgressBar;
use sha2::{Digest as _, Sha256};
use tempfile::{NamedTempFile, TempDir};
use uuid::Uuid;

use crate::esp;
use crate::filesystem::{self, Format};
use crate::layout::{
    self, ALIGNMENT_BYTES, ESP_LABEL, Extent, Kind, MANIFEST_LABEL, PARAMETERS_LABEL,
    PARTITIONS_MAX, SECTOR_BYTES,
};
use crate::named::Named;
use crate::partial::{self, Interrupt};
use crate::text::{self, PARAMETERS_BYTES, Parameters, Record};

/// What to make.
pub(crate) struct Order<'a> {
    /// Where.
    pub(crate) image: &'a Path,
    /// The EFI files that make the disk boot by itself, one for each kind of processor.
    pub(crate) efi: &'a [PathBuf],
    /// Parameters for the guest, `zosia.NAME=VALUE`.
    pub(crate) parameters: &'a [String],
    /// How models are stored.
    pub(crate) format: Format,
    /// Whether an existing image is replaced.
    pub(crate) replace: bool,
    /// `FILE` or `LABEL=FILE`.
    pub(crate) models: &'a [String],
}

/// Makes the image, or leaves everything as it was.
pub(crate) fn create(order: &Order<'_>, interrupt: &Interrupt) -> Result<()> {
    check_target(order)?;
    let mut parameters = Parameters::default();
    for assignment in order.parameters {
        parameters.set(assignment)?;
    }
    let parameters = parameters.to_text()?;
    let efi = match order.efi {
        [] => None,
        files => Some(EfiFiles::read(files)?),
    };
    let models = open_models(order)?;
    ensure!(
        efi.is_some() || !models.is_empty(),
        "nothing to put on the disk: name a model, or --efi FILE"
    );

    let parent = match order.image.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let bar = partial::progress_bar(work_bytes(order.format, &models), "writing");
    let models = models
        .into_iter()
        .map(|model| model.prepare(order.format, parent, &bar, interrupt))
        .collect::<Result<Vec<_>>>()?;

    let mut partial = tempfile::Builder::new()
        .prefix(".zosia-disk-")
        .suffix(".part")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(parent)
        .with_context(|| format!("cannot write in {}", parent.display()))?;
    let disk = Disk { parameters, efi };
    disk.write(partial.as_file_mut(), models, &bar, interrupt)
        .with_context(|| format!("cannot make {}", order.image.display()))?;
    interrupt.check()?;
    put_in_place(partial, order)
        .with_context(|| format!("cannot make {}", order.image.display()))?;
    // The name is on the disk, too; where directories cannot be synced, it will be.
    let _ = File::open(parent).and_then(|parent| parent.sync_all());
    bar.finish_and_clear();
    Ok(())
}

/// The image gets its name when it is on the disk, so that a power cut leaves the old
/// one or all of the new one. Only `--force` replaces what has come there meanwhile.
fn put_in_place(partial: NamedTempFile, order: &Order<'_>) -> std::io::Result<()> {
    partial.as_file().sync_all()?;
    if order.replace {
        partial.persist(order.image)?;
    } else {
        partial.persist_noclobber(order.image)?;
    }
    Ok(())
}

fn check_target(order: &Order<'_>) -> Result<()> {
    let image = order.image.display();
    match fs::symlink_metadata(order.image) {
        Ok(found) if !found.is_file() => bail!("{image} exists and is not a plain file"),
        Ok(_) if !order.replace => bail!("{image} exists; --force replaces it"),
        _ => Ok(()),
    }
}

/// How much will be read: raw models once, others to hash and to copy.
fn work_bytes(format: Format, models: &[Model]) -> u64 {
    let bytes: u64 = models.iter().map(|model| model.bytes).sum();
    if format == Format::Raw {
        bytes
    } else {
        2 * bytes
    }
}

/// The partition made of the EFI files.
struct EfiFiles {
    record: Record,
    volume: Vec<u8>,
}

impl EfiFiles {
    fn read(paths: &[PathBuf]) -> Result<Self> {
        let program = |path: &PathBuf| {
            let shown = path.display();
            let efi = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
            esp::Program::new(efi).with_context(|| format!("cannot use {shown}"))
        };
        let mut programs = paths.iter().map(program).collect::<Result<Vec<_>>>()?;
        esp::sort(&mut programs)?;
        let volume = esp::build(&programs)?;
        let efi = esp::joined(&programs);
        let sha256: [u8; 32] = Sha256::digest(&efi).into();
        let content_sha256: [u8; 32] = Sha256::digest(&volume).into();
        Ok(Self {
            record: Record {
                content_sha256: hex::encode(content_sha256),
                content_bytes: volume.len() as u64,
                ..Record::plain("efi", &sha256, efi.len() as u64, ESP_LABEL, "zosia.efi")
            },
            volume,
        })
    }
}

/// A model that the user named.
struct Model {
    path: PathBuf,
    label: Option<String>,
    file_name: String,
    file: File,
    bytes: u64,
}

/// Checks all models before a byte is copied. The first part of one brings the others.
fn open_models(order: &Order<'_>) -> Result<Vec<Model>> {
    let named = order.models.iter();
    let named = named
        .map(|argument| Named::parse(argument)?.with_parts())
        .collect::<Result<Vec<_>>>()?;
    let named: Vec<Named> = named.into_iter().flatten().collect();
    ensure!(
        order.format == Format::Raw || named.len() == order.models.len(),
        "a model in parts is stored as it is; leave out --fs"
    );
    // The EFI system partition, the parameters and the manifest take three.
    ensure!(
        named.len() <= PARTITIONS_MAX - 3,
        "{} models; a disk holds {}",
        named.len(),
        PARTITIONS_MAX - 3
    );
    let models = named.into_iter().map(Model::open);
    let models = models.collect::<Result<Vec<_>>>()?;
    // Hashes are not known yet: stand-ins that differ do for long names.
    check_distinct(models.iter().enumerate().map(|(index, model)| {
        let stand_in = [u8::try_from(index).unwrap_or(u8::MAX); 32];
        model.label(&stand_in)
    }))?;
    Ok(models)
}

fn check_distinct(labels: impl Iterator<Item = String>) -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    for label in labels {
        if let Some(twice) = seen.replace(label) {
            bail!("two models would be called \"{twice}\"; name one with LABEL=FILE");
        }
    }
    Ok(())
}

impl Model {
    fn open(Named { label, path }: Named) -> Result<Self> {
        let shown = path.display();
        let mut file = File::open(&path).with_context(|| format!("cannot open {shown}"))?;
        let metadata = file.metadata()?;
        ensure!(metadata.is_file(), "{shown} is not a plain file");
        let mut magic = [0; 4];
        let known = file.read_exact(&mut magic).is_ok() && magic == *b"GGUF";
        ensure!(
            known,
            "{shown} is not a GGUF model (it does not begin with GGUF)"
        );
        file.seek(SeekFrom::Start(0))?;
        let file_name = path
            .file_name()
            .and_then(|name| name.to_str())
            .filter(|name| !name.chars().any(char::is_control))
            .with_context(|| format!("the name of {shown} is not plain text"))?
            .to_owned();
        let model = Self {
            label,
            file_name,
            file,
            bytes: metadata.len(),
            path,
        };
        layout::check_label(&model.label(&[0; 32]))?;
        Ok(model)
    }

    fn label(&self, sha256: &[u8; 32]) -> String {
        self.label
            .clone()
            .unwrap_or_else(|| layout::label_for(&self.file_name, sha256))
    }

    /// Makes what will be copied into the partition.
    fn prepare(
        mut self,
        format: Format,
        parent: &Path,
        bar: &ProgressBar,
        interrupt: &Interrupt,
    ) -> Result<Contents> {
        if format == Format::Raw {
            return Ok(Contents {
                bytes: self.bytes,
                packed: None,
                model: self,
            });
        }
        let shown = self.path.display().to_string();
        let sha256 = partial::hash(&mut self.file, self.bytes, bar, interrupt)
            .with_context(|| format!("cannot read {shown}"))?;
        let dir = tempfile::Builder::new()
            .prefix(".zosia-disk-")
            .tempdir_in(parent)
            .with_context(|| format!("cannot write in {}", parent.display()))?;
        let made = filesystem::make(format, &self.path, &self.file_name, &sha256, dir.path())
            .with_context(|| format!("cannot pack {shown}"));
        interrupt.check()?; // The program was interrupted as well: say so.
        let (file, bytes) = filesystem::open(&made?)?;
        self.file = file;
        Ok(Contents {
            model: self,
            bytes,
            packed: Some(Packed {
                format,
                sha256,
                _dir: dir,
            }),
        })
    }
}

/// A model as its partition will hold it; `model.file` gives the bytes.
struct Contents {
    model: Model,
    bytes: u64,
    packed: Option<Packed>,
}

struct Packed {
    format: Format,
    sha256: [u8; 32],
    /// Holds the file system until it has been copied.
    _dir: TempDir,
}

impl Contents {
    /// Copies it to its place; returns what its partition is to be.
    fn write(
        &mut self,
        image: &mut File,
        place: Extent,
        bar: &ProgressBar,
        interrupt: &Interrupt,
    ) -> Result<(Partition, Record)> {
        let content = partial::copy_sparse(
            &mut self.model.file,
            image,
            place.offset,
            place.bytes,
            bar,
            interrupt,
        )
        .with_context(|| self.model.path.display().to_string())?;
        let mut more = [0];
        let grew = self.model.file.read(&mut more)? > 0;
        ensure!(
            !grew,
            "{} grew while it was copied",
            self.model.path.display()
        );
        let (kind, format, sha256) = match &self.packed {
            Some(packed) => (Kind::FileSystem, packed.format, packed.sha256),
            None => (Kind::Model, Format::Raw, content),
        };
        let label = self.model.label(&sha256);
        let record = Record {
            content_sha256: hex::encode(content),
            content_bytes: place.bytes,
            ..Record::plain(
                format.name(),
                &sha256,
                self.model.bytes,
                &label,
                &self.model.file_name,
            )
        };
        let entry = place.entry(kind, layout::uuid_of(&content), &label);
        Ok((entry, record))
    }
}

/// What a disk holds besides models.
struct Disk {
    parameters: String,
    efi: Option<EfiFiles>,
}

impl Disk {
    /// Fills `image`, an empty file.
    fn write(
        &self,
        image: &mut File,
        models: Vec<Contents>,
        bar: &ProgressBar,
        interrupt: &Interrupt,
    ) -> Result<()> {
        let mut sizes: Vec<u64> = Vec::new();
        sizes.extend(self.efi.iter().map(|efi| efi.record.content_bytes));
        sizes.extend([PARAMETERS_BYTES as u64, ALIGNMENT_BYTES]);
        sizes.extend(models.iter().map(|model| model.bytes));
        let (places, disk_bytes) = layout::lay_out(&sizes);
        let mut places = places.into_iter();
        let mut next_place = || places.next().context("the layout is short of a place");
        image
            .set_len(disk_bytes)
            .with_context(|| format!("cannot make a file of {} MiB", disk_bytes >> 20))?;

        let mut entries = Vec::new();
        let mut records = Vec::new();
        if let Some(efi) = &self.efi {
            let place = next_place()?;
            let content = partial::copy_sparse(
                &mut Cursor::new(&efi.volume),
                image,
                place.offset,
                place.bytes,
                &ProgressBar::hidden(),
                interrupt,
            )?;
            entries.push(place.entry(Kind::Esp, layout::uuid_of(&content), ESP_LABEL));
            records.push(efi.record.clone());
        }
        let parameters_place = next_place()?;
        let manifest_place = next_place()?;
        let mut model_entries = Vec::new();
        for mut model in models {
            let (entry, record) = model.write(image, next_place()?, bar, interrupt)?;
            model_entries.push(entry);
            records.push(record);
        }
        check_distinct(records.iter().map(|record| record.label.clone()))?;

        let manifest = text::manifest_text(&records);
        ensure!(
            manifest.len() as u64 <= ALIGNMENT_BYTES,
            "the manifest is too long"
        );
        write_at(image, parameters_place.offset, self.parameters.as_bytes())?;
        write_at(image, manifest_place.offset, manifest.as_bytes())?;
        // Parameters can be changed later, so their UUID comes from the rest.
        let parameters_uuid = layout::uuid_of_text(&format!("parameters\n{manifest}"));
        entries.push(parameters_place.entry(Kind::Parameters, parameters_uuid, PARAMETERS_LABEL));
        let manifest_uuid = layout::uuid_of_text(&manifest);
        entries.push(manifest_place.entry(Kind::Manifest, manifest_uuid, MANIFEST_LABEL));
        entries.append(&mut model_entries);
        let disk_uuid = layout::uuid_of_text(&format!("{manifest}{}", self.parameters));
        write_tables(image, disk_bytes, disk_uuid, entries)?;
        image.sync_all()?;
        Ok(())
    }
}

fn write_at(image: &mut File, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
    image.seek(SeekFrom::Start(offset))?;
    image.write_all(bytes)
}

/// Writes the protective MBR and both partition tables.
fn write_tables(
    image: &mut File,
    disk_bytes: u64,
    disk_uuid: Uuid,
    entries: Vec<Partition>,
) -> Result<()> {
    let mut numbered = BTreeMap::new();
    for (number, entry) in (1..).zip(entries) {
        let twice = numbered
            .values()
            .any(|known: &Partition| known.part_guid == entry.part_guid);
        ensure!(!twice, "\"{}\" is on the disk twice", entry.name);
        numbered.insert(number, entry);
    }
    // A disk beyond 2 TiB does not fit the field; the standard wants all ones.
    let sectors = u32::try_from(disk_bytes / SECTOR_BYTES - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(sectors)
        .overwrite_lba0(image)
        .context("cannot write the protective MBR")?;
    let mut disk = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(image, Some(disk_uuid))
        .context("cannot make a partition table")?;
    disk.update_partitions(numbered)
        .context("cannot fill the partition table")?;
    disk.write().context("cannot write the partition table")?;
    Ok(())
}
