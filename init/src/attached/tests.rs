//! Texts in files, in directories and on disks.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::*;

/// A directory of its own, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("zosia-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn holding(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn names(texts: &[Text]) -> Vec<&str> {
    texts.iter().map(|text| text.name.as_str()).collect()
}

fn given(paths: &[String]) -> Vec<Text> {
    let (texts, notes) = from_paths(paths).unwrap();
    assert_eq!(notes, [""; 0]);
    texts
}

/// The one text of the file that is attached alone.
fn alone(path: String) -> Text {
    given(&[path]).remove(0)
}

#[test]
fn a_directory_gives_its_texts_in_their_order_and_nothing_hidden_linked_or_binary() {
    let folder = Folder::new("walk");
    for (name, bytes) in [
        ("src/b.rs", &b"b"[..]),
        ("src/a/z.txt", b"z"),
        ("src/a.md", b"a"),
        ("src/utf16.txt", b"\xff\xfea\0"),
        ("src/picture.png", b"\x89PNG\0"),
        ("src/model.gguf", b"GGUF and more"),
        ("src/.git/config", b"hidden"),
        ("src/.hidden", b"hidden"),
    ] {
        folder.holding(name, bytes);
    }
    let src = folder.0.join("src");
    symlink("a.md", src.join("link.md")).unwrap();
    symlink("..", src.join("up")).unwrap();
    let src = src.to_str().unwrap().to_owned();
    let texts = given(std::slice::from_ref(&src));
    let expected = ["src/a.md", "src/a/z.txt", "src/b.rs", "src/utf16.txt"];
    assert_eq!(names(&texts), expected);
    assert_eq!(names(&given(&[format!("{src}/.")])), expected);
    assert!(texts.iter().all(|text| text.is_given));
    let in_file_system = in_file_system(Path::new(&src));
    assert_eq!(
        names(&in_file_system),
        ["a.md", "a/z.txt", "b.rs", "utf16.txt"]
    );
    assert!(in_file_system.iter().all(|text| !text.is_given));
}

#[test]
fn what_cannot_be_attached_is_refused_by_its_path() {
    let folder = Folder::new("refused");
    let picture = folder.holding("none/picture.png", b"\x89PNG\0");
    let at = |name: &str| folder.0.join(name).to_str().unwrap().to_owned();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), 0o600.into()).unwrap();
    for number in 0..=texts::FILES_MAX {
        folder.holding(&format!("many/{number}"), b"a");
    }
    for (path, why) in [
        (at("gone.md"), "cannot be read: No such file"),
        (at("none"), "has no text in it"),
        (picture, "is not text: it has zero bytes"),
        (at("fifo"), "is neither a file nor a directory"),
        (at("many"), "has more than 1000 files; name some of them"),
    ] {
        let error = from_paths(std::slice::from_ref(&path)).unwrap_err();
        let begin = format!("--attach: {path} {why}");
        assert!(error.starts_with(&begin), "{error}");
    }
}

#[test]
fn texts_of_one_name_are_told_apart_and_no_name_steers_a_terminal() {
    let folder = Folder::new("names");
    let paths = [
        "a/n.md",
        "b/n.md",
        "c/n.md",
        "a/Makefile",
        "b/Makefile",
        "a/-x y.md",
    ]
    .map(|name| folder.holding(name, b"text"));
    let texts = given(&paths);
    let expected = [
        "n.md",
        "n-2.md",
        "n-3.md",
        "Makefile",
        "Makefile-2",
        "-x y.md",
    ];
    assert_eq!(names(&texts), expected);
    let hostile = alone(folder.holding("a\x1b[2J\nb.md", b"text"));
    assert_eq!(hostile.name, "a␛[2J b.md");
}

fn named(names: &[&str]) -> Vec<Text> {
    let text = |name: &&str| Text {
        name: (*name).to_owned(),
        bytes: 1,
        is_given: true,
        place: Place::Disk {
            path: PathBuf::new(),
            at: 0,
        },
    };
    names.iter().map(text).collect()
}

#[test]
fn a_text_is_found_by_its_name_or_the_end_of_its_path() {
    let texts = named(&[
        "notes.md",
        "src/main.rs",
        "src/a/mod.rs",
        "src/b/mod.rs",
        "none",
    ]);
    let found = |wanted| find(&texts, wanted).map(|text| text.name.as_str());
    assert_eq!(found("notes.md"), Ok("notes.md"));
    assert_eq!(found("main.rs"), Ok("src/main.rs"));
    assert_eq!(found("b/mod.rs"), Ok("src/b/mod.rs"));
    for (wanted, why) in [
        (
            "mod.rs",
            "mod.rs may be src/a/mod.rs or src/b/mod.rs: give more of the name",
        ),
        (
            "note.md",
            "note.md: nothing of that name is attached; did you mean notes.md?",
        ),
        (
            "zygote",
            "zygote: nothing of that name is attached; /read lists what is",
        ),
    ] {
        assert_eq!(found(wanted), Err(why.to_owned()));
    }
    assert!(
        find(&[], "a")
            .unwrap_err()
            .starts_with("nothing is attached")
    );
}

#[test]
fn names_are_typed_as_for_a_shell_and_completed_so() {
    let texts = named(&[
        "notes.md",
        "my notes.md",
        "it's.md",
        "-x.md",
        "żółw.md",
        "src/lib.rs",
    ]);
    for (operand, expected) in [
        ("notes.md -x.md", &["notes.md", "-x.md"][..]),
        ("my notes.md", &["my notes.md"]),
        ("'my notes.md' notes.md", &["my notes.md", "notes.md"]),
        ("it's.md", &["it's.md"]),
        ("it's", &["it's"]),
    ] {
        assert_eq!(split_names(&texts, operand), expected, "{operand}");
    }
    for (typed, start, expected) in [
        ("/read no", 6, &["notes.md"][..]),
        ("/read notes.md my", 15, &["'my notes.md'"]),
        ("/read 'my no", 6, &["'my notes.md'"]),
        ("/read \"my", 6, &["'my notes.md'"]),
        ("/read it", 6, &["\"it's.md\""]),
        ("/read ż", 6, &["żółw.md"]),
        ("/read li", 6, &["src/lib.rs"]),
        ("/read zz", 6, &[]),
    ] {
        let (at, candidates) = complete(&texts, typed);
        assert_eq!(at, start, "{typed}");
        assert_eq!(candidates, expected, "{typed}");
        for candidate in candidates {
            let names = split_names(&texts, &candidate);
            assert!(find(&texts, &names[0]).is_ok(), "{candidate} is understood");
        }
    }
}

#[test]
fn what_is_read_is_text_and_what_is_not_says_why() {
    let folder = Folder::new("read");
    let read = |bytes: &[u8]| {
        let text = alone(folder.holding("a.md", bytes));
        text.read(16)
    };
    let reading = read(b"\xef\xbb\xbfone\r\ntwo\r\n").unwrap();
    assert_eq!(reading.document.text, "one\ntwo");
    assert_eq!(reading.notices, [""; 0]);
    let reading = read(b"\xff\xfea\0").unwrap();
    assert_eq!(reading.document.text, "a");
    assert_eq!(reading.notices, ["a.md was UTF-16 and is read as UTF-8"]);
    for (bytes, why) in [
        (&b""[..], "a.md is empty: there is nothing to read [ZE-61]"),
        (
            b" \n\r\n",
            "a.md is empty: there is nothing to read [ZE-61]",
        ),
        (b"a\xff", "a.md is not UTF-8 text: see byte 1 [ZE-61]"),
        (
            &[b'a'; 17],
            "a.md has 1 MiB, and a message has room for 0 MiB",
        ),
    ] {
        let error = read(bytes).unwrap_err();
        assert!(error.starts_with(why), "{error}");
    }
}

#[test]
fn a_file_that_changes_or_goes_after_it_was_listed_says_so() {
    let folder = Folder::new("changes");
    let text = alone(folder.holding("a.md", b"one"));
    folder.holding("a.md", b"three");
    let reading = text.read(16).unwrap();
    assert_eq!(reading.document.text, "three");
    assert_eq!(
        reading.notices,
        ["a.md has changed since it was listed: it has 5 bytes now"]
    );
    folder.holding("a.md", &[b'a'; 17]);
    assert!(text.read(16).unwrap_err().contains("[ZE-33]"));
    let path = folder.0.join("a.md");
    fs::remove_file(&path).unwrap();
    let error = text.read(16).unwrap_err();
    assert!(
        error.starts_with("a.md cannot be read: No such file"),
        "{error}"
    );
    // Something that never ends, and somebody who never writes.
    for (program, operands) in [("ln", ["-s", "/dev/zero"]), ("mkfifo", ["-m", "600"])] {
        let made = Command::new(program).args(operands).arg(&path).status();
        assert!(made.unwrap().success());
        assert!(
            text.read(16)
                .unwrap_err()
                .contains("it is not a regular file")
        );
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_gibibyte_is_refused_by_its_size_before_it_is_read() {
    let folder = Folder::new("large");
    let path = folder.holding("large.log", &[b'a'; 9000]);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    // Sparse: it would be zeroes, which are another reason.
    file.set_len(1 << 30).unwrap();
    let error = alone(path).read(16 << 20).unwrap_err();
    assert_eq!(
        error,
        "large.log has 1024 MiB, and a message has room for 16 MiB of it on this machine; attach \
         a part of it [ZE-33]"
    );
}

#[test]
fn the_texts_of_a_disk_are_read_from_their_places() {
    let folder = Folder::new("disk");
    let disk = b"zosia texts 1\ntext 4 3\na.mdonetext 4 4\na.mdtwo\nend\n\0\0\0\0";
    let path = folder.holding("disk", disk);
    let bytes = length(disk);
    let texts = on_disk(Path::new(&path), bytes).unwrap();
    assert_eq!(names(&texts), ["a.md", "a-2.md"]);
    let read: Vec<String> = texts
        .iter()
        .map(|text| text.read(16).unwrap().document.text)
        .collect();
    assert_eq!(read, ["one", "two"]);
    folder.holding("disk", &disk[..30]);
    let error = on_disk(Path::new(&path), 30).unwrap_err();
    assert!(error.contains("start again [ZE-23]"), "{error}");
}

#[test]
fn a_turn_gets_all_that_was_attached_or_none() {
    let folder = Folder::new("turn");
    let paths = ["a.md", "b.md"].map(|name| folder.holding(name, name.as_bytes()));
    let mut texts = given(&paths);
    texts[1].is_given = false;
    let mut budget = Budget::of(None);
    let read = |texts: &[Text], budget: &Budget| read_given(texts, budget, &mut |_| {});
    let documents = read(&texts, &budget).unwrap();
    assert_eq!(documents.len(), 1, "what lies on a disk was not asked for");
    texts[1].is_given = true;
    assert_eq!(read(&texts, &budget).unwrap().len(), 2);
    budget.prompt_bytes = 7;
    assert!(read(&texts, &budget).unwrap_err().contains("[ZE-33]"));
}
