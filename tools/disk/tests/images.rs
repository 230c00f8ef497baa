//! Runs the program on small files and looks at its images from outside: with
//! the `gpt` and `fatfs` crates, and with other programs where they are installed.

#![expect(
    clippy::unwrap_used,
    reason = "a test has nobody to report to but the harness"
)]

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use gpt::GptConfig;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file that begins with `magic`; the rest depends on `seed` only.
    fn file(&self, name: &str, magic: &[u8], seed: u64, bytes: usize) -> PathBuf {
        let mut state = seed | 1;
        let mut contents = magic.to_vec();
        while contents.len() < bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            contents.push(state.to_le_bytes()[7]);
        }
        let path = self.path(name);
        fs::write(&path, contents).unwrap();
        path
    }

    /// An EFI file for ARM machines (0xaa64) or PCs (0x8664).
    fn efi(&self, name: &str, machine: u16, seed: u64, bytes: usize) -> PathBuf {
        let mut header = [0; 70];
        header[..2].copy_from_slice(b"MZ");
        header[60] = 64;
        header[64..66].copy_from_slice(b"PE");
        header[68..].copy_from_slice(&machine.to_le_bytes());
        self.file(name, &header, seed, bytes)
    }

    fn model(&self, name: &str, seed: u64, bytes: usize) -> PathBuf {
        self.file(name, b"GGUF", seed, bytes)
    }

    /// Runs the program in the bench's directory.
    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zosia-disk"));
        command.args(arguments).current_dir(self.dir.path());
        command
    }

    fn run_well(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        assert_eq!(stderr, "", "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the program, which must fail, and returns its one line.
    fn run_badly(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        stderr
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn partition(image: &Path, label: &str) -> (u64, u64) {
    let disk = GptConfig::new()
        .only_valid_headers(true)
        .open(image)
        .unwrap();
    let entry = disk
        .partitions()
        .values()
        .find(|entry| entry.name == label)
        .unwrap_or_else(|| panic!("no {label}"));
    (
        entry.first_lba * 512,
        (entry.last_lba - entry.first_lba + 1) * 512,
    )
}

fn read_at(image: &Path, offset: u64, bytes: u64) -> Vec<u8> {
    let mut file = File::open(image).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    let mut contents = Vec::new();
    file.take(bytes).read_to_end(&mut contents).unwrap();
    contents
}

fn flip_byte(image: &Path, offset: u64) {
    let byte = read_at(image, offset, 1)[0] ^ 0x40;
    let mut file = File::options().write(true).open(image).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(&[byte]).unwrap();
}

/// The program, unless this machine lacks it.
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: {name} is not installed");
    }
    found
}

/// Runs a program, which must succeed, and returns what it printed.
fn ask(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {text}", program.display());
    text
}

#[test]
fn raw_models_lie_aligned_and_whole() {
    let bench = Bench::new();
    let small = bench.model("small.gguf", 1, 1001);
    let large = bench.model("large.gguf", 2, 3 * 1_048_576 + 5);
    bench.run_well(&["create", "d.img", "small.gguf", "big=large.gguf"]);
    let image = bench.path("d.img");
    for (label, model) in [("small", small), ("big", large)] {
        let model = fs::read(model).unwrap();
        let (offset, bytes) = partition(&image, label);
        assert_eq!(offset % MIB, 0);
        assert_eq!(bytes, (model.len() as u64).next_multiple_of(512));
        let mut found = read_at(&image, offset, bytes);
        assert!(found.split_off(model.len()).iter().all(|&b| b == 0));
        assert!(found == model, "{label} differs");
    }
    let shown = bench.run_well(&["list", "d.img"]);
    assert!(shown.contains("small.gguf 1001 bytes, sha256 "), "{shown}");
    assert!(shown.contains("large.gguf 3145733 bytes"), "{shown}");
    let checked = bench.run_well(&["verify", "d.img"]);
    assert_eq!(checked.matches("ok      ").count(), 5, "{checked}");
    if let Some(sgdisk) = installed("sgdisk") {
        let said = ask(&sgdisk, &["-v", image.to_str().unwrap()]);
        assert!(said.contains("No problems found"), "{said}");
    }
    if let Some(sfdisk) = installed("sfdisk") {
        let said = ask(&sfdisk, &["-V", image.to_str().unwrap()]);
        assert!(said.contains("No errors detected"), "{said}");
    }
}

#[test]
fn the_first_part_of_a_model_brings_the_others() {
    let bench = Bench::new();
    for number in 1..=3 {
        let name = format!("a-0000{number}-of-00003.gguf");
        bench.model(&name, 2 * number, 1000);
    }
    bench.run_well(&["create", "a.img", "a-00001-of-00003.gguf"]);
    bench.run_well(&["create", "b.img", "big=a-00001-of-00003.gguf"]);
    for (image, stem) in [("a.img", "a"), ("b.img", "big")] {
        for number in 1..=3 {
            let (offset, _) =
                partition(&bench.path(image), &format!("{stem}-0000{number}-of-00003"));
            let file = fs::read(bench.path(&format!("a-0000{number}-of-00003.gguf"))).unwrap();
            assert!(read_at(&bench.path(image), offset, file.len() as u64) == file);
        }
    }
}

#[test]
fn the_same_inputs_make_the_same_bytes() {
    let bench = Bench::new();
    bench.model("m.gguf", 3, 70_000);
    bench.efi("z.efi", 0xaa64, 4, 50_000);
    let make = |image: &str, extra: &[&str]| {
        let mut arguments = vec!["create", "--efi", "z.efi"];
        arguments.extend(extra);
        arguments.extend([image, "m.gguf"]);
        bench.run_well(&arguments);
        fs::read(bench.path(image)).unwrap()
    };
    let first = make("a.img", &[]);
    // FAT counts time in steps of two seconds.
    thread::sleep(Duration::from_millis(2100));
    assert!(make("b.img", &[]) == first);
    assert!(make("c.img", &["--append", "zosia.temp=0"]) != first);
}

#[test]
fn the_esp_holds_the_efi_files_where_firmware_looks() {
    let bench = Bench::new();
    let files = [
        ("BOOTAA64.EFI", bench.efi("a.efi", 0xaa64, 5, 300_000)),
        ("BOOTX64.EFI", bench.efi("x.efi", 0x8664, 6, 200_000)),
    ];
    bench.run_well(&["create", "--efi", "x.efi", "--efi", "a.efi", "d.img"]);
    let image = bench.path("d.img");
    let (offset, bytes) = partition(&image, "EFI");
    let mut volume = std::io::Cursor::new(read_at(&image, offset, bytes));
    let fat = fatfs::FileSystem::new(&mut volume, fatfs::FsOptions::new()).unwrap();
    for (name, efi) in files {
        let mut found = Vec::new();
        fat.root_dir()
            .open_file(&format!("EFI/BOOT/{name}"))
            .unwrap()
            .read_to_end(&mut found)
            .unwrap();
        assert!(found == fs::read(efi).unwrap(), "{name}");
    }
    drop(fat);
    bench.run_well(&["verify", "d.img"]);
    if let Some(mdir) = installed("mdir") {
        let volume = format!("{}@@{offset}", image.display());
        let said = ask(&mdir, &["-b", "-i", &volume, "-/", "::/"]);
        assert!(said.contains("::/EFI/BOOT/BOOTAA64.EFI"), "{said}");
    }
    if let Some(fsck) = installed("fsck.fat") {
        let alone = bench.path("esp.fat");
        fs::write(&alone, volume.get_ref()).unwrap();
        ask(&fsck, &["-n", alone.to_str().unwrap()]);
    }
}

#[test]
fn parameters_are_where_the_guest_reads_them_and_can_be_changed() {
    let bench = Bench::new();
    bench.model("m.gguf", 6, 5000);
    let system = "zosia.system=Answer in one line = short.";
    bench.run_well(&[
        "create",
        "--append",
        system,
        "--append",
        "zosia.temp=0",
        "d.img",
        "m.gguf",
    ]);
    let image = bench.path("d.img");
    let (offset, bytes) = partition(&image, "zosia-parameters");
    assert_eq!(bytes, 4096);
    let mut wanted = format!("# zosia parameters\n{system}\nzosia.temp=0\n").into_bytes();
    wanted.resize(4096, 0);
    assert!(read_at(&image, offset, 4096) == wanted);

    let shown = bench.run_well(&["params", "d.img", "zosia.system=", "zosia.seed=7"]);
    assert_eq!(shown, "# zosia parameters\nzosia.temp=0\nzosia.seed=7\n");
    assert_eq!(bench.run_well(&["params", "d.img"]), shown);
    bench.run_well(&["verify", "d.img"]);
    let error = bench.run_badly(&["params", "d.img", "temp=1"]);
    assert!(error.contains("write zosia.NAME=VALUE"), "{error}");
}

#[test]
fn verify_finds_every_changed_byte() {
    let bench = Bench::new();
    bench.model("m.gguf", 7, 10_000);
    bench.efi("z.efi", 0xaa64, 8, 10_000);
    let image = bench.path("d.img");
    let make = || bench.run_well(&["create", "--force", "--efi", "z.efi", "d.img", "m.gguf"]);
    make();
    let (model, _) = partition(&image, "m");
    let (esp, _) = partition(&image, "EFI");
    let (manifest, _) = partition(&image, "zosia-manifest");
    let end = fs::metadata(&image).unwrap().len();
    for (offset, what) in [
        (model + 9_999, "FAILED  m: sha256 is "),
        (model + 10_001, "FAILED  m: something follows"),
        (esp + 3 * MIB, "FAILED  EFI: sha256"),
        (manifest + 30, "FAILED"),
        (512 + 60, "FAILED  partition tables: the first table"),
        (end - 512 + 60, "FAILED  partition tables: the second table"),
    ] {
        make();
        flip_byte(&image, offset);
        let output = bench.run(&["verify", "d.img"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{what}: {said}");
        assert!(said.contains(what), "{what}: {said}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("checks failed"), "{error}");
    }
}

#[test]
fn models_over_four_gibibytes_are_copied_without_their_holes() {
    let bench = Bench::new();
    let big = bench.model("big.gguf", 9, 4096);
    let bytes = (4 << 30) + 12_345;
    let mut file = File::options().write(true).open(&big).unwrap();
    file.seek(SeekFrom::Start(bytes - 3)).unwrap();
    file.write_all(b"end").unwrap();
    drop(file);
    bench.model("after.gguf", 10, 2000);
    bench.run_well(&["create", "d.img", "big.gguf", "after.gguf"]);
    let image = bench.path("d.img");
    let (offset, _) = partition(&image, "big");
    assert_eq!(read_at(&image, offset + bytes - 3, 3), b"end");
    let (after, _) = partition(&image, "after");
    assert_eq!(after, offset + (4 << 30) + MIB);
    assert_eq!(read_at(&image, after, 4), b"GGUF");
    let used = fs::metadata(&image).unwrap().blocks() * 512;
    assert!(used < 8 * MIB, "{used} bytes are allocated");
}

#[test]
fn file_systems_hold_the_model_and_are_the_same_every_time() {
    for (format, program) in [("erofs", "mkfs.erofs"), ("ext4", "mkfs.ext4")] {
        if installed(program).is_none() {
            continue;
        }
        let bench = Bench::new();
        let model = fs::read(bench.model("a model.gguf", 11, 300_001)).unwrap();
        bench.run_well(&["create", "--fs", format, "a.img", "a model.gguf"]);
        thread::sleep(Duration::from_millis(1100));
        bench.run_well(&["create", "--fs", format, "b.img", "a model.gguf"]);
        let image = bench.path("a.img");
        assert!(fs::read(&image).unwrap() == fs::read(bench.path("b.img")).unwrap());
        bench.run_well(&["verify", "a.img"]);
        let (offset, bytes) = partition(&image, "a-model");
        fs::write(bench.path("fs"), read_at(&image, offset, bytes)).unwrap();
        let alone = bench.path("fs");
        let alone = alone.to_str().unwrap();
        if format == "ext4" {
            ask(&installed("e2fsck").unwrap(), &["-fn", alone]);
            let out = bench.path("out");
            let dump = format!("dump \"/a model.gguf\" \"{}\"", out.display());
            ask(&installed("debugfs").unwrap(), &["-R", &dump, alone]);
            assert!(fs::read(out).unwrap() == model);
        } else if let Some(fsck) = installed("fsck.erofs") {
            ask(&fsck, &[alone]);
            // Uncompressed and contiguous: the model can be seen as it is.
            let volume = fs::read(alone).unwrap();
            assert!(volume.windows(4096).any(|window| window == &model[..4096]));
        }
        assert_eq!(
            bench.names(),
            ["a model.gguf", "a.img", "b.img", "fs"]
                .into_iter()
                .chain((format == "ext4").then_some("out"))
                .collect::<Vec<_>>()
        );
    }
}

#[test]
fn refusals_name_the_cause_and_leave_nothing() {
    let bench = Bench::new();
    bench.model("m.gguf", 12, 5000);
    bench.file("text.gguf", b"text", 13, 5000);
    bench.file("empty.gguf", b"", 14, 0);
    for name in [
        "p-00001-of-00003",
        "p-00003-of-00003",
        "q-00001-of-00002",
        "q-00002-of-00002",
    ] {
        bench.model(&format!("{name}.gguf"), 16, 5000);
    }
    fs::create_dir(bench.path("sub")).unwrap();
    bench.model("sub/m.gguf", 15, 5000);
    fs::copy(bench.path("m.gguf"), bench.path("copy.gguf")).unwrap();
    fs::write(bench.path("old.img"), "old").unwrap();
    let before = bench.names();
    for (arguments, cause) in [
        (vec!["create", "d.img"], "nothing to put on the disk"),
        (
            vec!["create", "d.img", "none.gguf"],
            "cannot open none.gguf",
        ),
        (vec!["create", "d.img", "sub"], "sub is not a plain file"),
        (
            vec!["create", "d.img", "p-00001-of-00003.gguf"],
            "this one is missing: p-00002-of-00003.gguf",
        ),
        (
            vec!["create", "d.img", "p-00003-of-00003.gguf"],
            "is part 3 of a model in 3 parts; give the first",
        ),
        (
            vec!["create", "--fs", "erofs", "d.img", "q-00001-of-00002.gguf"],
            "a model in parts is stored as it is",
        ),
        (
            vec!["create", "d.img", "text.gguf"],
            "text.gguf is not a GGUF model",
        ),
        (
            vec!["create", "d.img", "empty.gguf"],
            "empty.gguf is not a GGUF model",
        ),
        (vec!["create", "d.img", "a b=m.gguf"], "cannot be a label"),
        (vec!["create", "d.img", "EFI=m.gguf"], "it is taken"),
        (
            vec!["create", "d.img", "m.gguf", "sub/m.gguf"],
            "would be called \"m\"",
        ),
        (
            vec!["create", "d.img", "m.gguf", "copy.gguf"],
            "on the disk twice",
        ),
        (
            vec!["create", "--efi", "text.gguf", "d.img"],
            "not an EFI executable",
        ),
        (
            vec!["create", "--append", "x=y", "d.img", "m.gguf"],
            "is not a parameter",
        ),
        (
            vec!["create", "old.img", "m.gguf"],
            "old.img exists; --force replaces it",
        ),
        (
            vec!["create", "--force", "sub", "m.gguf"],
            "not a plain file",
        ),
        (
            vec!["create", "none/d.img", "m.gguf"],
            "cannot write in none",
        ),
        (vec!["list", "m.gguf"], "has no GPT partition table"),
        (vec!["verify", "none.img"], "cannot open none.img"),
    ] {
        let error = bench.run_badly(&arguments);
        assert!(error.contains(cause), "{arguments:?}: {error}");
        assert_eq!(bench.names(), before, "{arguments:?}");
    }
    assert_eq!(fs::read(bench.path("old.img")).unwrap(), b"old");
    bench.run_well(&["create", "--force", "old.img", "m.gguf"]);
    bench.run_well(&["verify", "old.img"]);
}

/// Waits until a partial image is there, so that a signal meets the program at work.
fn await_partial(bench: &Bench, child: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !bench
        .names()
        .iter()
        .any(|name| name.starts_with(".zosia-disk-"))
    {
        assert!(child.try_wait().unwrap().is_none(), "ended too early");
        assert!(Instant::now() < deadline, "no partial image");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_signal_leaves_no_half_image() {
    for (signal, number) in [("INT", 130), ("TERM", 143)] {
        let bench = Bench::new();
        let model = bench.model("m.gguf", 16, 4096);
        // So long that it cannot end before the signal arrives.
        File::options()
            .write(true)
            .open(model)
            .unwrap()
            .set_len(64 << 30)
            .unwrap();
        let mut child = bench
            .command(&["create", "d.img", "m.gguf"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        await_partial(&bench, &mut child);
        ask(
            Path::new("/bin/kill"),
            &[&format!("-{signal}"), &child.id().to_string()],
        );
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(number), "{error}");
        assert!(error.contains("interrupted by signal"), "{error}");
        assert_eq!(bench.names(), ["m.gguf"]);
    }
}

#[test]
fn a_disk_made_by_other_programs_can_be_listed() {
    let Some(sgdisk) = installed("sgdisk") else {
        return;
    };
    let bench = Bench::new();
    let image = bench.path("d.img");
    File::create(&image).unwrap().set_len(4 * MIB).unwrap();
    let shown = image.to_str().unwrap();
    ask(&sgdisk, &["-n", "1:0:0", "-c", "1:by\nhand", shown]);
    let said = bench.run_well(&["list", "d.img"]);
    assert!(said.contains("by␊hand"), "{said}");
    let error = bench.run_badly(&["verify", "d.img"]);
    assert!(error.contains("no partition \"zosia-manifest\""), "{error}");
}
