//! File systems with one model in them, made by the system's own mkfs programs
//! in a file beside the image. Needs room for that file while it works.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use tempfile::TempDir;

use crate::layout::uuid_of;

/// How a model is stored in its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The GGUF file itself: nothing between the model and the reader.
    Raw,
    /// An EROFS file system, made by mkfs.erofs.
    Erofs,
    /// An ext4 file system, made by mkfs.ext4 and debugfs.
    Ext4,
}

impl Format {
    /// The word in the manifest.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Erofs => "erofs",
            Self::Ext4 => "ext4",
        }
    }
}

/// Where programs are that a user's PATH often lacks: Debian's, then Homebrew's
/// on Apple and on Intel processors.
const PROGRAM_DIRS: [&str; 4] = [
    "/usr/sbin",
    "/sbin",
    "/opt/homebrew/opt/e2fsprogs/sbin",
    "/usr/local/opt/e2fsprogs/sbin",
];

/// Makes the file system `DIR/fs` with `model` in it under `file_name`.
pub(crate) fn make(
    format: Format,
    model: &Path,
    file_name: &str,
    sha256: &[u8; 32],
    dir: &Path,
) -> Result<PathBuf> {
    let image = dir.join("fs");
    let uuid = uuid_of(sha256).to_string();
    match format {
        Format::Raw => bail!("a raw partition holds no file system"),
        Format::Erofs => make_erofs(model, file_name, &uuid, &image)?,
        Format::Ext4 => make_ext4(model, file_name, &uuid, &image)?,
    }
    Ok(image)
}

fn make_erofs(model: &Path, file_name: &str, uuid: &str, image: &Path) -> Result<()> {
    let parent = image.parent().context("no directory to work in")?;
    let tree = TempDir::new_in(parent).context("cannot make a directory")?;
    fs::set_permissions(tree.path(), Permissions::from_mode(0o755))?;
    stage(model, &tree.path().join(file_name))?;
    let mut command = program("mkfs.erofs");
    command
        .args(["--quiet", "-T0", "--all-root", "-x-1", "-U", uuid])
        .arg(image)
        .arg(tree.path());
    run(command, "mkfs.erofs", "erofs-utils").map(drop)
}

/// Puts `model` at `target`: by a link where that gives the permissions that
/// every image has, else by a copy.
fn stage(model: &Path, target: &Path) -> Result<()> {
    let model = fs::canonicalize(model)?;
    let mode = fs::metadata(&model)?.permissions().mode() & 0o7777;
    if mode == 0o644 && fs::hard_link(&model, target).is_ok() {
        return Ok(());
    }
    fs::copy(&model, target).with_context(|| format!("cannot copy {}", model.display()))?;
    fs::set_permissions(target, Permissions::from_mode(0o644))?;
    Ok(())
}

fn make_ext4(model: &Path, file_name: &str, uuid: &str, image: &Path) -> Result<()> {
    ensure!(
        !file_name.contains('"'),
        "a file name with a quotation mark cannot go into an ext4 file system"
    );
    let model = fs::canonicalize(model)?;
    let parent = image.parent().context("no directory to work in")?;
    // debugfs splits its lines at spaces: give it a name that has none.
    let link = parent.join("model");
    std::os::unix::fs::symlink(&model, &link)?;

    let bytes = fs::metadata(&model)?.len();
    // Bitmaps, group descriptors and inode tables take about a thousandth.
    let size_kib = (bytes + bytes / 256 + (8 << 20)) >> 10;
    let mut command = program("mkfs.ext4");
    command
        .args(["-q", "-F", "-b", "4096", "-m", "0", "-N", "16"])
        .args(["-O", "^has_journal,^resize_inode", "-U", uuid])
        .args(["-E", &format!("root_owner=0:0,hash_seed={uuid}")])
        .arg(image)
        .arg(format!("{size_kib}k"));
    run(command, "mkfs.ext4", "e2fsprogs")?;

    let path = format!("\"/{file_name}\"");
    let mut script = tempfile::tempfile_in(parent)?;
    writeln!(script, "write model {path}")?;
    for (field, value) in [("mode", "0100644"), ("uid", "0"), ("gid", "0")] {
        writeln!(script, "set_inode_field {path} {field} {value}")?;
    }
    writeln!(script, "stat {path}")?;
    script.seek(SeekFrom::Start(0))?;
    let mut command = program("debugfs");
    command
        .args(["-w", "-f", "-"])
        .arg(fs::canonicalize(image)?)
        .current_dir(parent)
        .stdin(Stdio::from(script));
    let log = run(command, "debugfs", "e2fsprogs")?;
    // debugfs returns success whatever happened; its last answer tells.
    ensure!(
        log.contains(&format!("Size: {bytes}\n")),
        "debugfs did not store the file: {}",
        log.trim()
    );
    fs::remove_file(&link)?;
    Ok(())
}

/// A command for `name`, wherever it is.
fn program(name: &str) -> Command {
    let in_path = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()));
    let found = PROGRAM_DIRS
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| !in_path && path.is_file());
    let mut command = Command::new(found.as_deref().map_or(OsStr::new(name), Path::as_os_str));
    // The same file system for the same model: no clock, no locale.
    command
        .env("E2FSPROGS_FAKE_TIME", "1")
        .env("SOURCE_DATE_EPOCH", "1")
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    command
}

/// Runs `command` to its end and returns what it printed.
fn run(mut command: Command, name: &str, package: &str) -> Result<String> {
    let output = command.output().with_context(|| {
        format!("cannot run {name}; install {package} (apt-get install {package}, brew install {package})")
    })?;
    let mut log = String::from_utf8_lossy(&output.stdout).into_owned();
    log.push_str(&String::from_utf8_lossy(&output.stderr));
    ensure!(
        output.status.success(),
        "{name} failed ({}): {}",
        output.status,
        log.trim()
    );
    Ok(log)
}

/// Opens a file system that [`make`] made, and says how long it is.
pub(crate) fn open(image: &Path) -> Result<(File, u64)> {
    let file = File::open(image)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}
