//! Trees of `/sys` and `/dev` made of plain files.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

mod parts;

/// A machine's `/sys` and `/dev`, removed when dropped.
struct Machine(PathBuf);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Machine {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("zosia-disk-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(root.join("sys/class/block")).unwrap();
        fs::create_dir_all(root.join("dev")).unwrap();
        Self(root.canonicalize().unwrap())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn sys(&self, device: &str, file: &str, text: &str) {
        self.write(&format!("sys/class/block/{device}/{file}"), text.as_bytes());
    }

    /// Adds a disk that begins with `bytes`.
    fn disk(&self, name: &str, sectors: u64, bytes: &[u8]) {
        self.write(&format!("dev/{name}"), bytes);
        self.sys(name, "uevent", &format!("DEVNAME={name}\nDEVTYPE=disk\n"));
        self.sys(name, "size", &format!("{sectors}\n"));
    }

    /// Adds a partition of a disk.
    fn partition(&self, disk: &str, number: u32, label: &str, bytes: &[u8]) {
        let name = format!("{disk}{number}");
        self.disk(&name, 8, bytes);
        self.sys(&name, "partition", &format!("{number}\n"));
        let uevent = format!("DEVNAME={name}\nDEVTYPE=partition\nPARTNAME={label}\n");
        self.sys(&name, "uevent", &uevent);
        self.sys(disk, &format!("{name}/partition"), &format!("{number}\n"));
    }

    /// Adds a file to what a device holds when it is mounted.
    fn file_on(&self, device: &str, path: &str, bytes: &[u8]) {
        self.write(&format!("dev/{device}.mounted/{path}"), bytes);
    }

    fn finder(&self) -> Finder {
        Finder::with_roots(self.path("sys"), self.path("dev"), |device, _| {
            let target = device.with_extension("mounted");
            fs::create_dir_all(&target).unwrap();
            Ok(target)
        })
    }
}

fn erofs() -> Vec<u8> {
    with(2048, 1024, &0xe0f5_e1e2_u32.to_le_bytes())
}

fn ext4() -> Vec<u8> {
    with(2048, 1080, &0xef53_u16.to_le_bytes())
}

fn gpt() -> Vec<u8> {
    let mut bytes = with(4096, 510, &[0x55, 0xaa]);
    bytes[512..520].copy_from_slice(b"EFI PART");
    bytes
}

fn fat() -> Vec<u8> {
    let mut bytes = with(4096, 510, &[0x55, 0xaa]);
    bytes[82..87].copy_from_slice(b"FAT32");
    bytes
}

fn exfat() -> Vec<u8> {
    let mut bytes = with(4096, 510, &[0x55, 0xaa]);
    bytes[3..11].copy_from_slice(b"EXFAT   ");
    bytes
}

/// `length` zeroes with `bytes` at `at`.
fn with(length: usize, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut all = vec![0; length];
    all[at..at + bytes.len()].copy_from_slice(bytes);
    all
}

fn names(found: &Found) -> Vec<&str> {
    found.models.iter().map(|model| &*model.name).collect()
}

#[test]
fn contents_are_told_by_their_first_bytes() {
    let safetensors = [&[0x40, 1, 0, 0, 0, 0, 0, 0][..], b"{\"__metadata__\":{}}"].concat();
    let table: &[(&[u8], &str)] = &[
        (b"GGUF\x03\0\0\0", "Gguf"),
        (&erofs(), "FileSystem(Erofs)"),
        (&ext4(), "FileSystem(Ext4)"),
        (&gpt(), "PartitionTable"),
        (&with(512, 510, &[0x55, 0xaa]), "PartitionTable"),
        (&fat(), "Fat"),
        (&[0; 4096], "Empty"),
        (&[], "Empty"),
        (b"QFI\xfb\0\0\0\x03", "qcow2"),
        (b"PK\x03\x04", "zip"),
        (b"\x1f\x8b\x08", "gzip"),
        (&with(1024, 257, b"ustar"), "tar archive"),
        (&with(40_000, 32_769, b"CD001"), "ISO 9660"),
        (&with(70_000, 65_600, b"_BHRfS_M"), "btrfs"),
        (&exfat(), "exFAT"),
        (&with(4096, 32, b"NXSB"), "APFS"),
        (&with(4096, 1024, b"H+\0\x04"), "HFS+"),
        (&safetensors, "safetensors"),
        (b"<!DOCTYPE html>\n<html>", "web page"),
        (b"\n <HTML lang=en>", "web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "LFS pointer",
        ),
        (b"{\"error\": \"not found\"}", "text"),
        ("Zażółć gęślą jaźń\n\0\0\0".as_bytes(), "text"),
        (b"FUGG\0\0\0\x03", "Unknown"),
        (&[0x80, 1, 2, 3, 0xff, 0xfe, 7, 9], "Unknown"),
        (b"GGU", "Unknown"),
    ];
    for (prefix, expected) in table {
        let told = format!("{:?}", classify(prefix));
        assert!(told.contains(expected), "{expected} is not {told}");
    }
}

#[test]
fn finds_raw_models_on_disks_and_partitions() {
    let machine = Machine::new();
    machine.disk("vdb", 0x1000, b"GGUF");
    machine.disk("vda", 64, &gpt());
    machine.partition("vda", 1, "ESP", &fat());
    machine.partition("vda", 10, "smol lm", b"GGUF");
    machine.partition("vda", 2, "phi", b"GGUF");
    machine.disk("zram0", 64, b"GGUF");
    machine.disk("loop3", 64, b"GGUF");
    machine.disk("ram1", 64, b"GGUF");
    machine.disk("sr0", 0, b"GGUF");
    let found = machine.finder().scan();
    assert_eq!(names(&found), ["phi", "smol lm", "vdb"]);
    assert_eq!(found.notes, [""; 0]);
    assert_eq!(found.disks, 2);
    let phi = &found.models[0];
    assert_eq!(phi.path, machine.path("dev/vda2"));
    assert_eq!(phi.device.as_deref(), Some("vda2"));
    assert_eq!(phi.label.as_deref(), Some("phi"));
    assert_eq!(phi.origin, Origin::Raw);
    assert_eq!(found.models[2].bytes, 0x1000 * 512);
}

#[test]
fn the_serial_number_tells_a_files_exact_length() {
    let table = [
        ("zosia-4000", 4000),
        ("zosia-4000\0\0\0\n", 4000),
        ("zosia-3584", 4096),
        ("zosia-4097", 4096),
        ("zosia-x", 4096),
        ("QM00001", 4096),
        ("", 4096),
    ];
    for (serial, expected) in table {
        let machine = Machine::new();
        machine.disk("vda", 8, b"GGUF");
        machine.sys("vda", "serial", serial);
        let found = machine.finder().scan();
        assert_eq!(found.models[0].bytes, expected, "{serial:?}");
    }
}

#[test]
fn the_disk_of_the_session_is_never_taken_for_a_models() {
    let machine = Machine::new();
    assert_eq!(session_disk(&machine.path("sys")), None);
    machine.disk("vda", 8, b"GGUF");
    machine.sys("vda", "serial", "zosia-4096\n");
    machine.disk("vdb", 8, b"GGUF");
    machine.sys("vdb", "serial", "zosia-session");
    let disk = session_disk(&machine.path("sys"));
    assert_eq!(disk.as_deref(), Some("vdb".as_ref()));
    let found = machine.finder().scan();
    assert_eq!((names(&found), found.disks), (vec!["vda"], 1));
}

#[test]
fn texts_are_found_on_a_disk_of_theirs_and_in_file_systems() {
    let machine = Machine::new();
    let texts = b"zosia texts 1\ntext 4 3\na.mdoneend\n";
    let sectors = with(512, 0, texts);
    machine.disk("vda", 1, b"GGUF");
    machine.disk("vdb", 1, &sectors);
    machine.disk("vdc", 8, &ext4());
    machine.file_on("vdc", "notes/b.md", b"two");
    machine.file_on("vdc", "m.gguf", b"GGUF\x03\0\0\0");
    let found = machine.finder().scan();
    assert_eq!(names(&found), ["vda", "m.gguf"]);
    let read: Vec<(&str, bool, String)> = found
        .texts
        .iter()
        .map(|text| {
            let document = text.read(100).unwrap().document;
            (text.name.as_str(), text.is_given, document.text)
        })
        .collect();
    let expected = [("a.md", true, "one"), ("notes/b.md", false, "two")];
    assert_eq!(
        read,
        expected.map(|(name, given, text)| (name, given, text.to_owned()))
    );
    assert!(
        found.notes.is_empty() && found.unread.is_empty(),
        "{found:?}"
    );

    // One that is cut or cannot be read is told, whatever it begins with.
    machine.disk("vdb", 1, &with(512, 0, &texts[..20]));
    machine.disk("vdd", 1, &[0; 512]);
    machine.sys("vdd", "serial", "zosia-texts-500\n");
    machine.disk("vde", 1, &[]);
    machine.sys("vde", "serial", "zosia-texts-500\n");
    fs::remove_file(machine.path("dev/vde")).unwrap();
    let found = machine.finder().scan();
    let told: Vec<&str> = found
        .unread
        .iter()
        .map(|why| why.split_once(' ').unwrap().0)
        .collect();
    assert_eq!(told, ["vdb", "vdd", "vde"], "{:?}", found.unread);
    assert!(
        found.unread.iter().all(|why| why.ends_with("[ZE-23]")),
        "{:?}",
        found.unread
    );
}

#[test]
fn finds_files_on_file_systems_two_levels_deep() {
    let machine = Machine::new();
    machine.disk("vda", 8, &erofs());
    machine.disk("vdb", 8, &ext4());
    machine.file_on("vda", "model.gguf", b"GGUF....");
    machine.file_on("vda", "b/c/deep.GGUF", b"GGUF");
    machine.file_on("vda", "a/middle.gguf", b"GGUF");
    machine.file_on("vda", "a/b/c/too-deep.gguf", b"GGUF");
    machine.file_on("vda", "README", b"GGUF");
    machine.file_on("vdb", "only.gguf", b"GGUF");
    let found = machine.finder().scan();
    assert_eq!(
        names(&found),
        ["middle.gguf", "deep.GGUF", "model.gguf", "only.gguf"]
    );
    let model = &found.models[2];
    assert_eq!(model.path, machine.path("dev/vda.mounted/model.gguf"));
    assert_eq!((model.bytes, model.device.as_deref()), (8, Some("vda")));
    assert_eq!(model.origin, Origin::Mounted(FileSystem::Erofs));
    assert_eq!(found.models[3].origin, Origin::Mounted(FileSystem::Ext4));
}

#[test]
fn files_that_are_no_models_leave_a_note_each() {
    let machine = Machine::new();
    machine.disk("vda", 8, &ext4());
    machine.write("outside.gguf", b"GGUF");
    machine.file_on("vda", "big-00001-of-00002.gguf", b"GGUF");
    machine.file_on("vda", "odd-00002-of-00003.gguf", b"GGUF");
    machine.file_on("vda", "odd-00003-of-00003.gguf", b"GGUF");
    machine.file_on("vda", "page.gguf", b"<!DOCTYPE html>");
    machine.file_on("vda", "zero.gguf", b"");
    let inside = machine.path("dev/vda.mounted");
    std::os::unix::fs::symlink("../../outside.gguf", inside.join("link.gguf")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", inside.join("zeroes.gguf")).unwrap();
    std::os::unix::fs::symlink(".", inside.join("circle")).unwrap();
    let found = machine.finder().scan();
    assert_eq!(found.models, []);
    let table = [
        (
            "big-00001-of-00002.gguf is part 1 of a model in 2 parts",
            "big-00002-of-00002.gguf; copy it there",
        ),
        ("odd-00002-of-00003.gguf", "odd-00001-of-00003.gguf; copy"),
        ("page.gguf", "a web page"),
        ("zero.gguf", "is empty; copy it again"),
    ];
    assert_eq!(found.notes.len(), table.len(), "{:?}", found.notes);
    for (note, (file, why)) in found.notes.iter().zip(table) {
        assert!(note.contains(file) && note.contains(why), "{note}");
    }
}

#[test]
fn names_from_a_disk_cannot_move_the_cursor() {
    let machine = Machine::new();
    machine.disk("vda", 8, &ext4());
    machine.file_on("vda", "a\x1b[2Jb.gguf", b"GGUF");
    machine.disk("vdb", 8, &gpt());
    machine.partition("vdb", 1, "\x1b[31mred", b"GGUF");
    let found = machine.finder().scan();
    assert_eq!(names(&found), ["a\u{fffd}[2Jb.gguf", "\u{fffd}[31mred"]);
    assert!(found.models[0].path.exists());
}

#[test]
fn disks_of_no_use_leave_a_note_each() {
    let table: &[(&[u8], &str)] = &[
        (&[0; 4096], "vda is empty (zeroes)"),
        (b"just some text\n", "vda is not a GGUF file but text"),
        (
            b"QFI\xfb",
            "a qcow2 disk image; attach it in its own format",
        ),
        (&gpt(), "vda has a partition table without a partition"),
        (&fat(), "vda has a FAT file system"),
        (&[1, 2, 3, 4], "vda is not a GGUF file nor a file system"),
        (&erofs(), "vda has an erofs file system without any *.gguf"),
    ];
    for (bytes, expected) in table {
        let machine = Machine::new();
        machine.disk("vda", 8, bytes);
        let found = machine.finder().scan();
        let [note] = found.notes.as_slice() else {
            panic!("{expected}: {:?}", found.notes);
        };
        assert!(note.contains(expected), "{expected:?} not in {note:?}");
        assert!(note.contains("; ") && !note.contains('\n'), "{note}");
        let error = found.clone().or_why_not(Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), format!("no model: {note}"));
    }
}

#[test]
fn a_file_system_that_cannot_be_mounted_is_told_with_its_cause() {
    let machine = Machine::new();
    machine.disk("vda", 8, &erofs());
    let mut finder =
        Finder::with_roots(machine.path("sys"), machine.path("dev"), |device, kind| {
            Err(MountError::Mount {
                what: format!("{} ({})", device.display(), kind.name()),
                target: "/run/models/vda".into(),
                source: rustix::io::Errno::INVAL,
            })
        });
    let notes = finder.scan().notes;
    assert_eq!(notes.len(), 1);
    assert!(notes[0].starts_with("vda: cannot mount "), "{notes:?}");
    assert!(
        notes[0].contains("re-create it: Invalid argument"),
        "{notes:?}"
    );
}

#[test]
fn a_disk_that_appears_late_is_found_and_one_in_its_place_is_looked_at() {
    let machine = Machine::new();
    let mut finder = machine.finder();
    assert_eq!(names(&finder.scan()), [""; 0]);
    // The size comes first: the node is not there at once.
    machine.sys("vda", "size", "8\n");
    let found = finder.scan();
    assert_eq!(names(&found), [""; 0]);
    assert!(
        found.notes[0].starts_with("vda cannot be read"),
        "{found:?}"
    );
    machine.disk("vda", 8, b"GGUF");
    let found = finder.scan();
    assert_eq!((names(&found), found.notes.len()), (vec!["vda"], 0));
    // Taken away, and another one attached under the same name.
    fs::remove_dir_all(machine.0.join("sys/class/block/vda")).unwrap();
    assert_eq!(names(&finder.scan()), [""; 0]);
    machine.disk("vda", 8, &[0; 4096]);
    let found = finder.scan();
    assert_eq!(names(&found), [""; 0]);
    assert_eq!(found.notes.len(), 1, "{found:?}");
}

#[test]
fn without_any_disk_there_is_a_reason() {
    let waited = Duration::from_secs(5);
    let error = Machine::new()
        .finder()
        .scan()
        .or_why_not(waited)
        .unwrap_err();
    assert!(matches!(error, DiskError::NoDisk { .. }), "{error}");
}

#[test]
fn disks_without_a_model_are_not_waited_for_long() {
    let deadline = Duration::from_secs(60);
    let disks = Found {
        disks: 1,
        ..Found::default()
    };
    let settled = |found: &Found, wanted, ms| {
        Finder::is_settled(found, wanted, Duration::from_millis(ms), deadline)
    };
    assert!(!settled(&disks, None, 500) && settled(&disks, None, 1000));
    assert!(!settled(&Found::default(), None, 59_000));
    assert!(settled(&Found::default(), None, 60_000));
    let with_model = Found {
        models: vec![model("phi", "vda1")],
        ..disks
    };
    assert!(settled(&with_model, None, 0) && settled(&with_model, Some("phi"), 0));
    assert!(!settled(&with_model, Some("smol"), 0), "it may appear yet");
    assert!(settled(&with_model, Some("smol"), 1000));
}

#[test]
fn a_device_is_examined_once() {
    let machine = Machine::new();
    machine.disk("vda", 8, b"GGUF");
    let mut finder = machine.finder();
    let first = finder.scan();
    machine.write("dev/vda", &[0; 4096]);
    assert_eq!(finder.scan(), first);
}

fn model(name: &str, device: &str) -> ModelFile {
    ModelFile {
        path: format!("/run/models/{device}/{name}").into(),
        name: name.into(),
        bytes: 1,
        rest: Vec::new(),
        device: Some(device.into()),
        label: Some(format!("{device}-label")),
        origin: Origin::Mounted(FileSystem::Erofs),
    }
}

#[test]
fn a_model_is_picked_by_any_of_its_names() {
    let models = [
        model("Phi.gguf", "vda1"),
        model("smol.gguf", "vda2"),
        model("other.gguf", "vda2"),
    ];
    let table = [
        ("Phi.gguf", "Phi.gguf"),
        ("Phi", "Phi.gguf"),
        ("phi", "Phi.gguf"),
        ("vda1", "Phi.gguf"),
        ("VDA1-LABEL", "Phi.gguf"),
        ("smol", "smol.gguf"),
        ("/run/models/vda2/smol.gguf", "smol.gguf"),
        ("/smol.gguf", "smol.gguf"),
        ("vda2/smol.gguf", "smol.gguf"),
    ];
    for (wanted, expected) in table {
        match choose(&models, Some(wanted)) {
            Ok(Choice::One(model)) => assert_eq!(model.name, expected, "{wanted}"),
            other => panic!("{wanted}: {other:?}"),
        }
    }
    for (wanted, count) in [(Some("vda2"), 2), (Some("vda2-label"), 2), (None, 3)] {
        match choose(&models, wanted) {
            Ok(Choice::Several(several)) => assert_eq!(several.len(), count),
            other => panic!("{wanted:?}: {other:?}"),
        }
    }
    let error = choose(&models, Some("llama")).unwrap_err().to_string();
    assert_eq!(
        error,
        "no model is called \"llama\"; there is Phi.gguf (vda1), smol.gguf (vda2), other.gguf (vda2) [ZE-22]"
    );
    for wanted in ["", "/", "mol.gguf", ".gguf"] {
        assert!(choose(&models, Some(wanted)).is_err(), "{wanted:?}");
    }
    assert!(choose(&[], None).is_err());
}

#[test]
fn a_path_is_a_file_or_a_directory_of_models() {
    let machine = Machine::new();
    machine.write("m/a.gguf", b"GGUF1");
    machine.write("m/b.gguf", b"GGUF");
    machine.write("noext", b"GGUF");
    machine.write("text.gguf", b"hello world");
    machine.write("image", &ext4());
    fs::create_dir(machine.path("empty")).unwrap();
    let found = model_from_path(&machine.path("m/a.gguf")).unwrap();
    assert_eq!(names(&found), ["a.gguf"]);
    assert_eq!(
        (found.models[0].bytes, found.models[0].origin),
        (5, Origin::Given)
    );
    assert_eq!(
        names(&model_from_path(&machine.path("noext")).unwrap()),
        ["noext"]
    );
    assert_eq!(
        names(&model_from_path(&machine.path("m")).unwrap()),
        ["a.gguf", "b.gguf"]
    );
    let refusals = [
        (
            "absent",
            "absent does not exist; give the path of a .gguf file",
        ),
        ("text.gguf", "text.gguf is not a GGUF file but text"),
        ("image", "image holds an ext4 file system"),
        ("empty", "empty holds no *.gguf file"),
    ];
    for (path, expected) in refusals {
        let error = model_from_path(&machine.path(path))
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{expected:?} not in {error:?}");
    }
    let error = model_from_path(Path::new("/dev/null"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("is neither a file nor a disk"), "{error}");
}
