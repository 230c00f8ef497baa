//! Sessions: conversations that are there the next day, in the plain command.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Output;

use rustix::process::Signal;
use vmtest::{
    ANSWER, Disks, Fault, LOAD, OrFail, PlainCommand, SOON, SYSTEM_PROMPT, Seat, TinyModel, model,
    native_executable, run_plain,
};

/// A session, and the model that is spoken with.
struct Desk {
    folder: Disks,
    model: PathBuf,
    flags: Vec<&'static str>,
}

impl Desk {
    /// With a model that says only that, at once.
    fn saying(words: &[&str]) -> Self {
        let folder = Disks::new();
        let model = folder.tiny(&TinyModel::saying(words));
        let flags = vec!["--threads", "1"];
        Self {
            folder,
            model,
            flags,
        }
    }

    fn session(&self) -> PathBuf {
        self.folder.path("talk.session")
    }

    fn arguments(&self, flags: &[&str]) -> Vec<std::ffi::OsString> {
        let mut all: Vec<_> = self.flags.iter().map(Into::into).collect();
        all.push("--session".into());
        all.push(self.session().into());
        all.extend(flags.iter().map(Into::into));
        all.push(self.model.clone().into());
        all
    }

    /// The command is started, and nothing is waited for.
    fn start(&self, flags: &[&str]) -> PlainCommand {
        let seat = Seat {
            directory: Some(self.folder.path("")),
            ..Seat::default()
        };
        PlainCommand::launch_at(&seat, &native_executable(), self.arguments(flags))
    }

    /// The command at its prompt, and what it showed until then.
    fn open(&self) -> (PlainCommand, String) {
        let command = self.start(&[]);
        let shown = command.expect_prompt(LOAD);
        (command, shown)
    }

    /// One turn without a terminal.
    fn turn(&self, flags: &[&str]) -> Output {
        run_plain(self.arguments(flags), LOAD)
    }

    /// What was said, the texts in turn.
    fn said(&self, command: &PlainCommand) -> Vec<String> {
        let told = command.ask("/save all.json", SOON);
        let (_, place) = told.split_once("saved as ").or_fail("find where it is");
        let place = place.split_whitespace().next().or_fail("find the file");
        let text = fs::read_to_string(self.folder.path(place)).or_fail("read it");
        let messages: serde_json::Value = serde_json::from_str(&text).or_fail("parse it");
        let messages = messages.as_array().or_fail("find messages");
        let text = |m: &serde_json::Value| m["text"].as_str().map(str::to_owned);
        messages.iter().filter_map(text).collect()
    }
}

fn leave(mut command: PlainCommand) {
    command.ctrl_d();
    assert_eq!(command.wait_exit(SOON).code(), Some(0));
}

#[test]
fn a_conversation_goes_on_as_if_it_had_not_been_left() {
    let desk = |name: &str| Desk {
        model: model().into(),
        flags: vec!["--temp", "0", "--threads", "1"],
        folder: {
            let folder = Disks::new();
            fs::create_dir(folder.path(name)).or_fail("make a directory");
            folder
        },
    };
    let questions = [
        "What is the capital of France?",
        "And of Italy?",
        "And of Spain?",
    ];
    // In one go.
    let whole = desk("whole");
    let (command, shown) = whole.open();
    assert!(shown.contains("a new session"), "{shown}");
    let _ = command.ask(&format!("/system {SYSTEM_PROMPT}"), SOON);
    for question in questions {
        let _ = command.ask(question, ANSWER);
    }
    let expected = whole.said(&command);
    leave(command);
    // In three: the system prompt comes back, too.
    let parts = desk("parts");
    let (mut command, _) = parts.open();
    let _ = command.ask(&format!("/system {SYSTEM_PROMPT}"), SOON);
    for question in questions {
        let _ = command.ask(question, ANSWER);
        leave(command);
        let shown;
        (command, shown) = parts.open();
        assert!(
            shown.contains("going on with \"What is the capital of France?\""),
            "{shown}"
        );
        assert!(shown.contains(&format!(">>> {question}")), "{shown}");
    }
    assert_eq!(parts.said(&command), expected);
    // Earlier days' lines.
    command.type_keys("\x1b[A\x1b[A");
    let _ = command.expect_line(">>> And of Spain?", 17);
}

#[test]
fn what_was_evaluated_is_back_the_next_day_and_no_answer_differs() {
    let desk = Desk {
        model: model().into(),
        flags: vec![
            "--temp",
            "0",
            "--threads",
            "1",
            "--max-tokens",
            "8",
            "--json",
        ],
        folder: Disks::new(),
    };
    let timings = |flags: &[&str]| {
        let output = desk.turn(flags);
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).or_fail("parse it");
        let count = |name: &str| told["timings"][name].as_u64().unwrap_or(0);
        let counts = ["recalled_tokens", "evaluated_tokens", "prompt_tokens"].map(count);
        (told["text"].as_str().map(str::to_owned), counts)
    };
    let long = format!("Read this: {}", "the road by the sea is long. ".repeat(120));
    let (_, [recalled, evaluated, prompt]) = timings(&["-p", &long]);
    assert_eq!((recalled, evaluated), (0, prompt));
    let kept = fs::read(desk.session()).or_fail("read the session");

    let (text, [recalled, evaluated, next]) = timings(&["-p", "And then?"]);
    assert!(recalled >= prompt, "{recalled} of {prompt}");
    assert_eq!(recalled + evaluated, next);
    let from = |session: &[u8], flags: &[&str]| {
        fs::write(desk.session(), session).or_fail("write the session");
        timings(&[flags, &["-p", "And then?"]].concat())
    };
    assert_eq!(
        from(&kept, &["--contexts", "0"]),
        (text.clone(), [0, next, next])
    );
    assert_eq!(
        from(&kept, &["--kv", "q8_0"]).1,
        [0, next, next],
        "of another kind"
    );
    // In the middle there are pieces only.
    let mut damaged = kept.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let (damaged_text, [recalled, ..]) = from(&damaged, &[]);
    assert_eq!(damaged_text, text);
    assert!(recalled < prompt, "{recalled} of {prompt}");
}

#[test]
fn conversations_are_listed_left_copied_named_and_deleted() {
    let desk = Desk::saying(&["yes"]);
    let (command, _) = desk.open();
    for question in ["One?", "Two?", "Three?"] {
        let told = command.ask(question, ANSWER);
        assert!(told.contains("yes"), "{told}");
    }
    let told = command.ask("/fork 2", SOON);
    assert!(told.contains(">>> Two?"), "{told}");
    assert_eq!(desk.said(&command), ["One?", "yes", "Two?", "yes"]);
    let _ = command.ask("/rename the second", SOON);
    let told = command.ask("/new", SOON);
    assert!(told.contains("a new conversation"), "{told}");
    let _ = command.ask("Other?", ANSWER);
    let _ = command.ask("/undo", SOON);
    let _ = command.ask("Another?", ANSWER);
    leave(command);

    let (command, shown) = desk.open();
    assert!(
        shown.contains("going on with \"Another?\", 1 turn"),
        "{shown}"
    );
    let listed = command.ask("/chats", SOON);
    for row in ["1 20", "3 turns", "the second", "* 3 20", "1 turn,"] {
        assert!(listed.contains(row), "{row}: {listed}");
    }
    // It is read from the disk when it is wanted.
    let told = command.ask("/chat 1", SOON);
    assert!(told.contains("going on with \"One?\", 3 turns"), "{told}");
    assert_eq!(desk.said(&command).len(), 6);
    let _ = command.ask("/delete 2", SOON);
    let _ = command.ask("/chats", SOON);
    let told = command.ask("/delete 2", SOON);
    assert!(
        told.contains("the same again deletes it for ever: \"the second\""),
        "{told}"
    );
    assert!(
        command
            .ask("/delete 2", SOON)
            .contains("deleted: \"the second\"")
    );
    let told = command.ask("/chat 7", SOON);
    assert!(told.contains("no conversation 7"), "{told}");
    let _ = command.ask("/drop", SOON);
    let _ = command.ask("/set temp 0", SOON);
    leave(command);

    let (command, _) = desk.open();
    assert_eq!(desk.said(&command), ["Two?", "yes", "Three?", "yes"]);
    assert!(command.ask("/show temp", SOON).contains("temp 0 "));
    let listed = command.ask("/chats", SOON);
    assert!(!listed.contains("the second"), "{listed}");
    // Only what was deleted is gone from the disk.
    let kept = fs::read(desk.session()).or_fail("read the session");
    let has = |words: &str| kept.windows(words.len()).any(|w| w == words.as_bytes());
    assert!(has("Three?"));
    leave(command);
}

#[test]
fn a_message_that_waits_for_room_is_no_other_conversation_s() {
    let desk = Desk::saying(&["yes"]);
    let (command, _) = desk.open();
    let _ = command.ask("One?", ANSWER);
    let _ = command.ask("/new", SOON);
    let _ = command.ask("Two?", ANSWER);
    command.paste(&"long ".repeat(20_000));
    command.type_keys("\r");
    let _ = command.expect("The message is not sent yet", ANSWER);
    let _ = command.expect_prompt(SOON);
    command.type_line("/chat 1");
    let _ = command.expect_screen("the message in the line", SOON, |screen| {
        screen.cursor.0 == 39 && screen.rows[0].contains("long long")
    });
    command.ctrl_c();
    let _ = command.expect_prompt(SOON);
    let _ = command.ask("/undo", SOON);
    assert_eq!(desk.said(&command), [""; 0]);
    leave(command);
}

#[test]
fn what_is_deleted_is_gone_from_the_file() {
    let desk = Desk::saying(&["yes"]);
    let (command, _) = desk.open();
    let mode = fs::metadata(desk.session()).or_fail("look at it").mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else may read it");
    let has = || {
        let kept = fs::read(desk.session()).or_fail("read the session");
        kept.windows(8).any(|w| w == b"treasure")
    };
    for _ in 0..2 {
        let _ = command.ask("/system You guard a treasure.", SOON);
        let _ = command.ask("The treasure lies under the oak.", ANSWER);
        assert!(has());
        let _ = command.ask("/delete", SOON);
        let _ = command.ask("/delete", SOON);
        let _ = command.ask("What lies under the oak?", ANSWER);
        let _ = command.ask("/new", SOON);
    }
    // It is nowhere else, either, if it is taken back before a conversation begins.
    let _ = command.ask("/system You guard a treasure.", SOON);
    leave(command);
    assert!(!has());
}

#[test]
fn without_a_session_nothing_is_written_and_a_line_says_how_to_have_one() {
    let desk = Desk::saying(&["yes"]);
    let mut arguments = desk.arguments(&[]);
    arguments.drain(2..4);
    let command = PlainCommand::launch(&native_executable(), arguments);
    let _ = command.expect_prompt(LOAD);
    for line in ["/new", "/chats", "/chat 1", "/fork", "/rename x", "/delete"] {
        let told = command.ask(line, SOON);
        assert!(
            told.contains("is not kept; --session FILE keeps them"),
            "{line}: {told}"
        );
    }
    leave(command);
    let files = fs::read_dir(desk.folder.path("")).or_fail("list the folder");
    assert_eq!(files.count(), 1, "the model, and nothing else");
}

#[test]
fn a_session_has_one_user_at_a_time() {
    let desk = Desk::saying(&["yes"]);
    let (first, _) = desk.open();
    let fault = Fault::begins(23, "a second command opens the session");
    let mut second = desk.start(&[]);
    let line = second.expect("[ZE-72]", LOAD);
    assert_eq!(second.wait_exit(SOON).code(), Some(1));
    let told = line.split("zosia: ").last().or_fail("find the line");
    let words = told.split_once(": ").map_or(told, |(_, words)| words);
    fault.told(words, "the second one ends; the first goes on");
    assert!(first.ask("Still here?", ANSWER).contains("yes"));
    let output = desk.turn(&["-p", "Hello?"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("[ZE-72]") && !output.status.success(),
        "{told}"
    );
    leave(first);
}

#[test]
fn one_turn_goes_on_with_the_conversation() {
    let desk = Desk::saying(&["yes"]);
    for (question, turns) in [("One?", 1), ("Two?", 2)] {
        let output = desk.turn(&["-p", question]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "yes\n");
        let (command, shown) = desk.open();
        assert!(shown.contains(&format!("{turns} turn")), "{shown}");
        assert_eq!(desk.said(&command).len(), 2 * turns);
        leave(command);
    }
}

#[test]
fn an_encrypted_session_opens_with_its_passphrase_only() {
    let desk = Desk::saying(&["yes"]);
    let command = desk.start(&["--encrypt", "on"]);
    let _ = command.expect("new passphrase: ", LOAD);
    command.type_keys("open sesame\r");
    let _ = command.expect("the same again", SOON);
    command.type_keys("open sesami\r");
    let _ = command.expect("two different passphrases", SOON);
    for _ in 0..2 {
        command.type_keys("open sesame\r");
    }
    let shown = command.expect_prompt(LOAD);
    assert!(shown.contains("a new session"), "{shown}");
    assert!(command.ask("Is it a secret?", ANSWER).contains("yes"));
    leave(command);

    let fault = Fault::begins(23, "three wrong passphrases");
    let mut command = desk.start(&[]);
    for _ in 0..3 {
        let _ = command.expect("passphrase: ", LOAD);
        command.type_keys("sesame\r");
    }
    let told = command.expect("[ZE-74]", LOAD);
    assert_eq!(command.wait_exit(SOON).code(), Some(1));
    let told = told.split("zosia: ").last().or_fail("find the line");
    fault.told(told, "the session is left as it is");

    let mut command = desk.start(&[]);
    let _ = command.expect("passphrase: ", LOAD);
    command.ctrl_c();
    assert_eq!(command.wait_exit(SOON).code(), Some(0));

    let command = desk.start(&[]);
    let _ = command.expect("passphrase: ", LOAD);
    command.type_keys("wrong\r");
    let _ = command.expect("not the passphrase; once more", LOAD);
    command.type_keys("open sesame\r");
    let shown = command.expect_prompt(LOAD);
    assert!(
        shown.contains("going on with \"Is it a secret?\""),
        "{shown}"
    );
    for typed in ["sesam", "wrong"] {
        let log = command.dump();
        assert!(!log.contains(typed), "{log}");
    }
    leave(command);

    let output = desk.turn(&["-p", "Hello?"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("no terminal to ask for its passphrase at"),
        "{told}"
    );
    let kept = fs::read(desk.session()).or_fail("read the session");
    for plain in ["secret", "yes", "question", "turn"] {
        let found = kept.windows(plain.len()).any(|w| w == plain.as_bytes());
        assert!(!found, "{plain} stands in the file");
    }
}

#[test]
fn whatever_kills_it_each_turn_that_was_shown_is_kept() {
    kill_often(8);
}

#[test]
#[ignore = "takes half an hour"]
fn whatever_kills_it_each_turn_that_was_shown_is_kept_500_times() {
    kill_often(500);
}

/// Kills the command, time after time, at a moment that chance chooses within a turn.
fn kill_often(times: usize) {
    let fault = Fault::begins(23, "SIGKILL in the middle of a turn that is kept");
    let mut desk = Desk::saying(&["yes"]);
    // All of them fit.
    desk.flags.extend(["--ctx", "65536"]);
    let mut random = fastrand::Rng::with_seed(23);
    let mut shown = Vec::new();
    for round in 0..times {
        let (mut command, _) = desk.open();
        let mut kept = desk.said(&command);
        // The turn under way may be there, too.
        if kept.len() > 2 * shown.len() {
            assert_eq!(kept.len(), 2 * shown.len() + 2, "round {round}");
            shown.push(kept[kept.len() - 2].clone());
        }
        kept.retain(|text| text != "yes");
        assert_eq!(kept, shown, "round {round}");
        if random.bool() {
            let question = format!("Number {round}?");
            assert!(command.ask(&question, ANSWER).contains("yes"));
            shown.push(question);
        }
        command.type_line(&format!("Cut {round}?"));
        std::thread::sleep(std::time::Duration::from_micros(random.u64(..30_000)));
        command.signal(Signal::KILL);
        let _ = command.wait_end(SOON);
    }
    fault.is_harmless("every turn whose counts were shown is there");
}

#[test]
fn a_session_that_is_read_only_is_told() {
    let desk = Desk::saying(&["yes"]);
    let fault = Fault::begins(23, "a session that is read-only");
    // Not even root can write to it.
    let file = "/sys/devices/system/cpu/possible";
    std::os::unix::fs::symlink(file, desk.session()).or_fail("make a link");
    let mut command = desk.start(&[]);
    let told = command.expect("[ZE-72]", LOAD);
    assert_eq!(command.wait_exit(SOON).code(), Some(1));
    let (_, line) = told
        .split_once(".session: ")
        .or_fail("find the session's line");
    assert!(line.starts_with("the session is read-only"), "{told}");
    fault.told(line, "it is left as it is");
}

#[test]
fn a_session_that_cannot_be_opened_is_told_and_left_alone() {
    let desk = Desk::saying(&["yes"]);
    for (what, contents, words) in [
        (
            "a session's name that is another file's",
            &b"a letter to a friend"[..],
            "not a session",
        ),
        (
            "a session that exists, and --encrypt",
            b"",
            "is not encrypted: leave out",
        ),
    ] {
        let fault = Fault::begins(23, what);
        fs::write(desk.session(), contents).or_fail("write a file");
        let flags = if contents.is_empty() {
            let (command, _) = desk.open();
            leave(command);
            &["--encrypt", "on"][..]
        } else {
            &[]
        };
        let before = fs::read(desk.session()).or_fail("read the file");
        let mut command = desk.start(flags);
        let told = command.expect("[ZE-7", LOAD);
        let told = format!("{told}{}", command.expect("]", SOON));
        assert!(told.contains(words), "{told}");
        assert_eq!(command.wait_exit(SOON).code(), Some(1));
        assert_eq!(fs::read(desk.session()).or_fail("read the file"), before);
        let told = told.split("zosia: ").last().or_fail("find the line");
        let told = told
            .split_once(".session: ")
            .map_or(told, |(_, words)| words);
        fault.told(told, "it is left as it is");
    }
}
