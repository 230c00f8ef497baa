//! Runs the program on sessions, and the page's Python.

#![expect(
    clippy::unwrap_used,
    reason = "a test has nobody to report to but the harness"
)]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use journal::{FileDisk, Journal, Model};
use protocol::{Message, Role};
use tempfile::TempDir;

fn said(journal: &mut Journal, chat: journal::ChatId, question: &str, answer: &str) {
    let question = Message::new(Role::User, question);
    let answer = Message::new(Role::Assistant, answer);
    journal.turn(chat, &question, &answer, 25).unwrap();
}

/// A session with three conversations, one of which is deleted.
fn session(dir: &TempDir, passphrase: Option<&str>) -> PathBuf {
    let path = dir.path().join("session");
    let disk = FileDisk::open(&path, true).unwrap();
    let mut journal = Journal::create(Box::new(disk), passphrase).unwrap();
    let first = journal.begin().unwrap();
    let model = Model {
        name: "smollm2-135m".to_owned(),
        sha256: None,
    };
    journal.model(first, &model).unwrap();
    said(&mut journal, first, "What is 1 + 1?", "3");
    let better = Message::new(Role::Assistant, "It is \x1b[31m2.");
    journal.answer(first, &better, 30).unwrap();
    said(&mut journal, first, "Never mind", "Well");
    journal.take_back(first).unwrap();
    let second = journal.fork(first, 1).unwrap();
    journal.system(second, "Be brief.").unwrap();
    said(&mut journal, second, "And 2 + 2?", "4.");
    journal.rename(second, Some("sums")).unwrap();
    let third = journal.begin().unwrap();
    said(&mut journal, third, "secret", "yes");
    journal.delete(third).unwrap();
    journal.switch(second).unwrap();
    path
}

fn command(arguments: &[&str], path: &Path, rest: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zosia-disk"));
    command.arg("session").args(arguments).arg(path).args(rest);
    command
}

fn stdout(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refusal(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

#[test]
fn conversations_are_listed_shown_and_exported() {
    let dir = TempDir::new().unwrap();
    let path = session(&dir, None);
    let run = |arguments: &[&str], rest: &[&str]| command(arguments, &path, rest).output().unwrap();
    let before = fs::read(&path).unwrap();

    let list = stdout(&run(&["list"], &[]));
    let lines: Vec<_> = list.lines().collect();
    assert_eq!(lines.len(), 2, "{list}");
    assert!(
        lines[0].starts_with("  1 ") && lines[1].starts_with("  2*"),
        "{list}"
    );
    assert!(
        lines[0].ends_with("1 turns      30 tokens  smollm2-135m  What is 1 + 1?"),
        "{list}"
    );
    assert!(
        lines[1].ends_with("2 turns      25 tokens  smollm2-135m  sums"),
        "{list}"
    );

    let shown = stdout(&run(&["show"], &[]));
    let expected = "## system\n\nBe brief.\n\n## user\n\nWhat is 1 + 1?\n\n## assistant\n\n\
                    It is \x1b[31m2.\n\n## user\n\nAnd 2 + 2?\n\n## assistant\n\n4.\n\n";
    assert_eq!(shown, expected);
    assert!(!stdout(&run(&["show"], &["1"])).contains("2 + 2"));
    assert!(refusal(&run(&["show"], &["3"])).contains("no conversation 3"));

    let out = dir.path().join("talk.json");
    let out = out.to_str().unwrap();
    stdout(&run(&["export"], &[out]));
    let messages: Vec<Message> = serde_json::from_slice(&fs::read(out).unwrap()).unwrap();
    assert_eq!(messages.len(), 5);
    assert!(refusal(&run(&["export"], &[out])).contains("exists"));
    let out = dir.path().join("talk.md");
    stdout(&run(&["export"], &[out.to_str().unwrap()]));
    assert_eq!(fs::read_to_string(out).unwrap(), expected);
    assert_eq!(fs::read(&path).unwrap(), before, "nothing is written to it");
}

#[test]
fn a_passphrase_comes_from_a_descriptor() {
    let dir = TempDir::new().unwrap();
    let path = session(&dir, Some("open sesame"));
    let give = |text: &str| {
        let mut command = command(&["list", "--passphrase-fd", "0"], &path, &[]);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.stderr(Stdio::piped()).spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    };
    assert!(stdout(&give("open sesame\n")).contains("sums"));
    assert!(refusal(&give("open barley\n")).contains("ZE-74"));
}

#[test]
fn damage_is_named_and_a_lost_superblock_is_made_again() {
    let dir = TempDir::new().unwrap();
    let path = session(&dir, None);
    let mut bytes = fs::read(&path).unwrap();
    bytes[..4096].fill(1);
    bytes[3 * 4096..4 * 4096].fill(1);
    // The first turn's header.
    bytes[6 * 4096 + 10] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let run = |arguments: &[&str]| command(arguments, &path, &[]).output().unwrap();
    assert!(refusal(&run(&["list"])).contains("ZE-73"));
    let repaired = stdout(&run(&["repair"]));
    assert!(
        repaired.contains("made again") && repaired.contains("record 3 is lost"),
        "{repaired}"
    );
    let list = stdout(&run(&["list"]));
    assert!(
        list.contains("sums") && list.contains("record 3 is lost"),
        "{list}"
    );
    assert!(stdout(&run(&["show"])).contains("And 2 + 2?"));
}

#[test]
fn a_session_in_use_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = session(&dir, None);
    let disk = FileDisk::open(&path, false).unwrap();
    let repair = || command(&["repair"], &path, &[]).output().unwrap();
    assert!(
        refusal(&repair()).contains("in use by another zosia"),
        "{:?}",
        repair()
    );
    drop(disk);
    stdout(&repair());
    fs::write(&path, b"GGUF and more").unwrap();
    assert!(refusal(&repair()).contains("not a session"));
}

#[test]
fn the_page_s_python_reads_a_session() {
    let page = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/sessions.md"
    ));
    let page = page.unwrap();
    let (_, code) = page.split_once("```python\n").unwrap();
    let (code, _) = code.split_once("```").unwrap();
    let dir = TempDir::new().unwrap();
    let script = dir.path().join("read.py");
    File::create(&script)
        .unwrap()
        .write_all(code.as_bytes())
        .unwrap();
    let output = Command::new("python3")
        .arg(&script)
        .arg(session(&dir, None))
        .output();
    let read = stdout(&output.unwrap());
    let expected = "1 > What is 1 + 1?\n1 < It is \x1b[31m2.\n\
                    2 > What is 1 + 1?\n2 < It is \x1b[31m2.\n2 > And 2 + 2?\n2 < 4.\n";
    assert_eq!(read, expected);
}
