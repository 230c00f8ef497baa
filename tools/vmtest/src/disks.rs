//! Disks that hold a model, and disks that should not be believed.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{Architecture, OrFail, TinyModel, command, disk_tool, efi_file};

const SECTOR_BYTES: u64 = 512;
/// Room for the partition table before and after the partitions.
const TABLE_BYTES: u64 = 2 << 20;

/// A place for disk images that goes away with the test.
pub struct Disks {
    directory: TempDir,
}

impl Disks {
    /// An empty place.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "it makes a directory, which a default would not"
    )]
    pub fn new() -> Self {
        Self {
            directory: TempDir::with_prefix("zosia-disks-").or_fail("make a directory"),
        }
    }

    /// A file of this name in here.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A disk of nothing but zeros.
    #[must_use]
    pub fn empty(&self, bytes: u64) -> PathBuf {
        let path = self.path("empty.img");
        let file = File::create(&path).or_fail("create an empty disk");
        file.set_len(bytes).or_fail("size an empty disk");
        path
    }

    /// A disk that begins with `contents`.
    #[must_use]
    pub fn holding(&self, name: &str, contents: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).or_fail("write a disk");
        path
    }

    /// A disk that is this model.
    #[must_use]
    pub fn tiny(&self, model: &TinyModel) -> PathBuf {
        self.holding("tiny.gguf", &model.file())
    }

    /// A link to `model` with `files` beside it, for the plain command.
    #[must_use]
    pub fn link_beside(&self, model: &Path, files: &[(&str, &str)]) -> PathBuf {
        for (name, contents) in files {
            fs::write(self.path(name), contents).or_fail("write a file beside the model");
        }
        let link = self.path("model.gguf");
        std::os::unix::fs::symlink(model, &link).or_fail("link the model");
        link
    }

    /// The first `bytes` of `model`.
    #[must_use]
    pub fn cut(&self, model: &Path, bytes: u64) -> PathBuf {
        let path = self.path(&format!("cut-{bytes}.gguf"));
        let mut source = File::open(model).or_fail("open the model").take(bytes);
        let mut target = File::create(&path).or_fail("create a cut model");
        let copied = std::io::copy(&mut source, &mut target).or_fail("cut the model");
        assert_eq!(
            copied, bytes,
            "the model is longer than what is cut from it"
        );
        path
    }

    /// `model` with an architecture of the same length that nobody knows.
    #[must_use]
    pub fn of_unknown_architecture(&self, model: &Path) -> PathBuf {
        const KEY: &[u8] = b"general.architecture";
        // Behind the key: the type (a u32, 8 is a string) and the length (a u64).
        const STRING: [u8; 4] = 8_u32.to_le_bytes();
        let path = self.path("unknown-architecture.gguf");
        fs::copy(model, &path).or_fail("copy the model");
        let mut file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .or_fail("open the copy");
        let mut head = vec![0; 1 << 20];
        file.read_exact(&mut head).or_fail("read the copy's head");
        let at = head.windows(KEY.len()).position(|bytes| bytes == KEY);
        let kind = at.or_fail("find the architecture") + KEY.len();
        assert_eq!(head[kind..kind + 4], STRING, "the architecture is a string");
        let bytes = usize::from(head[kind + 4]);
        let name = "zosiazosiazosia".get(..bytes).or_fail("fit the name");
        file.seek(SeekFrom::Start(kind as u64 + 12))
            .or_fail("seek to the architecture");
        file.write_all(name.as_bytes())
            .or_fail("change the architecture");
        path
    }

    /// An ext4 file system holding `/model.gguf`.
    #[must_use]
    pub fn ext4(&self, model: &Path) -> PathBuf {
        self.ext4_with(model, &[])
    }

    /// An ext4 file system holding `/model.gguf`, and `files` beside it.
    #[must_use]
    pub fn ext4_with(&self, model: &Path, files: &[(&str, &str)]) -> PathBuf {
        let tree = self.tree_with(model, "model.gguf");
        for (name, contents) in files {
            fs::write(tree.join(name), contents).or_fail("write a file beside the model");
        }
        let path = self.path("ext4.img");
        let mib = model_bytes(model) / (1 << 20) + 16;
        let size = format!("{mib}M");
        let (tree, image) = (tree.to_string_lossy(), path.to_string_lossy());
        let mkfs = if Path::new("/sbin/mkfs.ext4").exists() {
            "/sbin/mkfs.ext4"
        } else {
            "mkfs.ext4"
        };
        let _ = command(mkfs, &["-q", "-F", "-d", &tree, &image, &size]);
        path
    }

    /// A GPT disk with one partition that holds an EROFS file system with the
    /// model in it, under `name`.
    #[must_use]
    pub fn gpt_erofs(&self, model: &Path, name: &str) -> PathBuf {
        let tree = self.tree_with(model, name);
        let erofs = self.path("erofs.img");
        let _ = command(
            "mkfs.erofs",
            &["--quiet", &erofs.to_string_lossy(), &tree.to_string_lossy()],
        );
        let path = self.path("gpt.img");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .or_fail("create a disk");
        let partition_bytes = model_bytes(&erofs).next_multiple_of(1 << 20);
        let disk_bytes = partition_bytes + 2 * TABLE_BYTES;
        file.set_len(disk_bytes).or_fail("size the disk");
        let sectors = u32::try_from(disk_bytes / SECTOR_BYTES - 1).or_fail("count the sectors");
        gpt::mbr::ProtectiveMBR::with_lb_size(sectors)
            .overwrite_lba0(&mut file)
            .or_fail("write the protective MBR");
        let mut disk = gpt::GptConfig::new()
            .writable(true)
            .logical_block_size(gpt::disk::LogicalBlockSize::Lb512)
            .create_from_device(file, None)
            .or_fail("create the partition table");
        let kind = gpt::partition_types::LINUX_FS;
        let id = disk
            .add_partition("model", partition_bytes, kind, 0, Some(2048))
            .or_fail("add a partition");
        let start = disk.partitions()[&id].first_lba * SECTOR_BYTES;
        let mut file = disk.write().or_fail("write the partition table");
        file.seek(SeekFrom::Start(start))
            .or_fail("seek to the partition");
        let mut contents = File::open(&erofs).or_fail("open the file system");
        std::io::copy(&mut contents, &mut file).or_fail("fill the partition");
        path
    }

    /// A disk with the model, the shipped EFI files and these parameters, made
    /// by the disk tool.
    #[must_use]
    pub fn booting(&self, model: &Path, parameters: &[String]) -> PathBuf {
        self.booting_with(&Architecture::ALL.map(efi_file), model, parameters)
    }

    /// The same, with these EFI files.
    #[must_use]
    pub fn booting_with(&self, efi: &[PathBuf], model: &Path, parameters: &[String]) -> PathBuf {
        let path = self.path("booting.img");
        let mut arguments = ["create", "--force"].map(str::to_owned).to_vec();
        for efi in efi {
            arguments.push(format!("--efi={}", efi.display()));
        }
        for parameter in parameters {
            arguments.push(format!("--append={parameter}"));
        }
        arguments.push(path.to_string_lossy().into_owned());
        arguments.push(model.to_string_lossy().into_owned());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let _ = command(&disk_tool().to_string_lossy(), &arguments);
        path
    }

    /// A directory that holds nothing but the model, under `name`.
    fn tree_with(&self, model: &Path, name: &str) -> PathBuf {
        let tree = self.path("tree");
        // The last disk's tree, if there was one.
        let _ = fs::remove_dir_all(&tree);
        fs::create_dir(&tree).or_fail("make a directory");
        fs::copy(model, tree.join(name)).or_fail("copy the model");
        tree
    }
}

fn model_bytes(path: &Path) -> u64 {
    fs::metadata(path)
        .or_fail(format_args!("look at {}", path.display()))
        .len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_holds_the_file_system() {
        const EROFS_MAGIC: [u8; 4] = 0xE0F5_E1E2_u32.to_le_bytes();
        let disks = Disks::new();
        let model = disks.holding("some.gguf", &vec![7; 3 << 20]);
        let path = disks.gpt_erofs(&model, "some.gguf");
        let disk = gpt::GptConfig::new().open(&path).unwrap();
        let (_, partition) = disk.partitions().iter().next().unwrap();
        assert_eq!(partition.name, "model");
        let mut file = File::open(&path).unwrap();
        let superblock = partition.first_lba * SECTOR_BYTES + 1024;
        file.seek(SeekFrom::Start(superblock)).unwrap();
        let mut magic = [0; 4];
        file.read_exact(&mut magic).unwrap();
        assert_eq!(magic, EROFS_MAGIC);
    }

    #[test]
    fn only_the_architecture_is_changed() {
        let disks = Disks::new();
        let mut header = b"GGUF\x03".to_vec();
        header.extend(b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama rest");
        header.resize(1 << 20, 0);
        let model = disks.holding("model.gguf", &header);
        let changed = fs::read(disks.of_unknown_architecture(&model)).unwrap();
        let text = String::from_utf8_lossy(&changed[25..]).into_owned();
        assert!(
            text.starts_with("\x08\0\0\0\x05\0\0\0\0\0\0\0zosia rest"),
            "{text:.40}"
        );
        assert_eq!(changed.len(), header.len());
        assert_eq!(fs::metadata(disks.cut(&model, 100)).unwrap().len(), 100);
    }
}
