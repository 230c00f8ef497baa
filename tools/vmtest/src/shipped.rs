//! Where the things under test are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::{Architecture, OrFail};

/// The top of the working tree. As cargo says when it runs a test: two trees that
/// share a target directory share what was compiled, too.
#[must_use]
pub fn repository() -> &'static Path {
    static REPOSITORY: OnceLock<PathBuf> = OnceLock::new();
    REPOSITORY.get_or_init(|| {
        let told = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let package = told.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        package.join("../..")
    })
}

/// The kernel with the initramfs inside.
#[must_use]
pub fn efi_file(architecture: Architecture) -> PathBuf {
    architecture.artefact("zosia", ".efi")
}

/// The static executable that is in the initramfs.
#[must_use]
pub fn static_executable(architecture: Architecture) -> PathBuf {
    architecture.artefact("init", "")
}

/// The same program for the machine that runs the tests: `ZOSIA_NATIVE`, else
/// what cargo's release profile made in the directory of these tests.
#[must_use]
pub fn native_executable() -> PathBuf {
    let beside = || beside_tests("init");
    let path = env::var_os("ZOSIA_NATIVE").map_or_else(beside, PathBuf::from);
    built(path, "cargo build --release -p init")
}

/// The tool that makes disks.
#[must_use]
pub fn disk_tool() -> PathBuf {
    built(
        beside_tests("zosia-disk"),
        "cargo build --release -p zosia-disk",
    )
}

/// What cargo's release profile made in the directory of these tests.
fn beside_tests(name: &str) -> PathBuf {
    let test = env::current_exe().or_fail("find the running test");
    // …/PROFILE/deps/TEST
    let target = test.ancestors().nth(3).or_fail("find cargo's directory");
    target.join("release").join(name)
}

/// SmolLM2-135M: `ZOSIA_TEST_MODEL`, else what `tools/model.sh` fetches.
#[must_use]
pub fn model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        if let Some(path) = env::var_os("ZOSIA_TEST_MODEL") {
            return path.into();
        }
        let got = Command::new(repository().join("tools/model.sh"))
            .args(["get", "smollm2-135m"])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .or_fail("run tools/model.sh");
        assert!(got.status.success(), "tools/model.sh: {}", got.status);
        let said = String::from_utf8_lossy(&got.stdout).into_owned();
        PathBuf::from(said.lines().next_back().or_fail("read the model's path"))
    })
}

/// Runs a command to its end and returns its standard output.
#[track_caller]
#[must_use]
pub fn command(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .or_fail(format_args!("start {program}"));
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success(),
        "{program} {arguments:?}: {}\n{errors}",
        done.status
    );
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[track_caller]
pub(crate) fn built(path: PathBuf, by: &str) -> PathBuf {
    assert!(
        path.exists(),
        "{} is not there; {by} makes it",
        path.display()
    );
    path
}
