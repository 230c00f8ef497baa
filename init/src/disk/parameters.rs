//! Parameters that a disk carries, for machines whose firmware starts the EFI
//! file from it and gives no command line. docs/models-and-disks.md has the
//! format.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::sysfs::list_devices;
use crate::mounts::Mounted;
use protocol::{DISK_MAGIC, from_disk};

/// The labels of partitions of a disk made by zosia-disk that hold no model.
pub(super) const LABELS: [&str; 3] = ["EFI", "zosia-manifest", LABEL];

const LABEL: &str = "zosia-parameters";
const BYTES_MAX: u64 = 4096;

/// The parameters on the first disk that has some, written as on the kernel's
/// command line, to be put before it: what is given there counts. Does not
/// wait: disks that the machine starts with are there before PID 1 is.
///
/// # Errors
/// One line that says why the partition cannot be used.
pub(crate) fn read_parameters(
    _proof: Mounted,
    sys_root: &Path,
    dev_root: &Path,
) -> Result<String, String> {
    read_from(sys_root, dev_root)
}

fn read_from(sys_root: &Path, dev_root: &Path) -> Result<String, String> {
    let devices = list_devices(sys_root);
    let Some(device) = devices.iter().find(|d| d.label.as_deref() == Some(LABEL)) else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    File::open(dev_root.join(&device.name))
        .and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| {
            format!(
                "{} cannot be read: {error}; check the disk [ZE-23]",
                device.shown()
            )
        })?;
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    let text = bytes
        .get(..end)
        .map(String::from_utf8_lossy)
        .unwrap_or_default();
    from_disk(&text).ok_or_else(|| {
        format!(
            "{} does not begin with \"{DISK_MAGIC}\"; its parameters are not used, re-create the disk [ZE-53]",
            device.shown()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# zosia parameters\n# a comment\n\nzosia.system=50 % = \"za\u{17c}\"\n\
                        zosia.temp=0\npanic=1\n";

    #[test]
    fn reads_the_partition_by_its_label() {
        let root = std::env::temp_dir().join(format!("zosia-parameters-{}", std::process::id()));
        let sys = root.join("sys/class/block/vda1");
        std::fs::create_dir_all(&sys).unwrap();
        std::fs::create_dir_all(root.join("dev")).unwrap();
        std::fs::write(sys.join("size"), "8\n").unwrap();
        std::fs::write(sys.join("partition"), "1\n").unwrap();
        std::fs::write(sys.join("uevent"), "PARTNAME=zosia-parameters\n").unwrap();
        let mut bytes = TEXT.as_bytes().to_vec();
        bytes.resize(4096, 0);
        std::fs::write(root.join("dev/vda1"), bytes).unwrap();
        let words = read_from(&root.join("sys"), &root.join("dev")).unwrap();
        assert!(words.ends_with("zosia.temp=0 "), "{words}");
        std::fs::write(root.join("dev/vda1"), "something else").unwrap();
        let error = read_from(&root.join("sys"), &root.join("dev")).unwrap_err();
        assert!(
            error.contains("vda1 (zosia-parameters) does not begin"),
            "{error}"
        );
        std::fs::remove_dir_all(&root).unwrap();
    }
}
