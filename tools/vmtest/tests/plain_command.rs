//! The same program as a command of the machine that runs the tests.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use vmtest::{
    Architecture, BOOT, Disks, LOAD, OrFail, PlainCommand, SOON, SYSTEM_PROMPT, TURN, TinyModel,
    model, native_executable, repository,
};

const CAPITAL: &str = "What is the capital of France?";

fn run(arguments: &[&OsStr]) -> Output {
    Command::new(native_executable())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .or_fail("start the plain command")
}

/// One thread, as tests share the machine's processors with others.
fn greedy(path: &Path) -> Vec<&OsStr> {
    let parameters = ["--temp", "0", "--threads", "1", "--system", SYSTEM_PROMPT];
    let parameters = parameters.into_iter().map(OsStr::new);
    parameters.chain([path.as_os_str()]).collect()
}

#[test]
fn one_turn_writes_the_answer_and_nothing_else() {
    let arguments = [greedy(model()), vec!["-p".as_ref(), CAPITAL.as_ref()]].concat();
    let done = run(&arguments);
    let answer = String::from_utf8(done.stdout).or_fail("read the answer");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(answer.contains("Paris"), "{answer}");
    assert!(
        answer.ends_with('\n') && !answer.contains('\x1b'),
        "{answer:?}"
    );
    assert_eq!(String::from_utf8_lossy(&done.stderr), "");
}

#[test]
fn a_chat_answers_and_remembers() {
    let mut command = PlainCommand::launch(&native_executable(), greedy(model()));
    let _ = command.expect_prompt(BOOT);
    let first = command.ask(CAPITAL, LOAD + TURN);
    assert!(first.contains("Paris"), "{first}");
    let second = command.ask("And of Italy?", TURN);
    assert!(second.contains("Rome"), "{second}");
    command.type_line("/exit");
    assert!(command.wait_exit(SOON).success());
}

#[test]
fn the_engine_has_given_up_its_rights() {
    let command = PlainCommand::launch(&native_executable(), greedy(model()));
    let _ = command.expect_prompt(BOOT);
    let _ = command.ask(CAPITAL, LOAD + TURN);
    let engine = command.engine().or_fail("find the engine");
    let proc = Path::new("/proc").join(engine.as_raw_nonzero().to_string());
    let read = |name: &str| std::fs::read_to_string(proc.join(name)).or_fail("read of a process");
    let status = read("status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.or_fail("find a field").trim().to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    // Its pipes and the model; an end that tells C++ that its input is over.
    let open = std::fs::read_dir(proc.join("fd")).or_fail("list descriptors");
    let open: Vec<String> = open
        .flatten()
        .map(|fd| std::fs::read_link(fd.path()).or_fail("read a descriptor"))
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    let (pipes, others): (Vec<_>, Vec<_>) = open.iter().partition(|at| at.starts_with("pipe:"));
    assert_eq!(pipes.len(), 5, "{open:?}");
    let file = model().canonicalize().or_fail("find the model");
    assert_eq!(others, [&file.to_string_lossy().into_owned()], "{open:?}");
    assert_eq!(read("oom_score_adj").trim(), "1000");
    // What root has to give up; anybody else never had it.
    if rustix::process::geteuid().is_root() {
        assert_eq!(field("Uid:"), "65534\t65534\t65534\t65534");
        assert_eq!(field("CapEff:"), "0000000000000000");
        assert_eq!(field("CapPrm:"), "0000000000000000");
        let root = std::fs::read_link(proc.join("root")).or_fail("find its root");
        assert!(
            root.to_string_lossy().ends_with("(deleted)"),
            "{}",
            root.display()
        );
    }
}

/// One line on standard error that holds all of `words`, nothing on standard
/// output, and a status that says failure.
fn refuses(path: &Path, words: &[&str]) {
    let done = run(&[path.as_os_str(), "-p".as_ref(), CAPITAL.as_ref()]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert_eq!(String::from_utf8_lossy(&done.stdout), "");
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing: {said}");
    }
}

#[test]
fn refuses_files_that_are_no_models() {
    let disks = Disks::new();
    let bytes = std::fs::metadata(model())
        .or_fail("look at the model")
        .len();
    refuses(Path::new("/nowhere/model.gguf"), &["/nowhere/model.gguf"]);
    refuses(&disks.empty(1 << 20), &["is empty", "a .gguf file"]);
    refuses(
        &disks.holding("letter.gguf", b"This is a letter."),
        &["not a GGUF file"],
    );
    refuses(&disks.cut(model(), bytes / 10), &["the file is cut"]);
    refuses(&disks.cut(model(), bytes / 2), &["the file is cut"]);
    refuses(&disks.cut(model(), bytes - 1), &["the file is cut"]);
    refuses(&disks.of_unknown_architecture(model()), &["architecture"]);
}

#[test]
fn run_sh_answers_from_the_machine_and_names_a_missing_file() {
    let script = repository().join("tools/run.sh");
    let run = |arguments: &[&OsStr]| {
        Command::new(&script)
            .arg(Architecture::under_test().flag())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .or_fail("start tools/run.sh")
    };
    let system = format!("zosia.temp=0 zosia.system=\"{SYSTEM_PROMPT}\"");
    let parameters: [&OsStr; 2] = ["--append".as_ref(), system.as_ref()];
    let turn: [&OsStr; 3] = [model().as_os_str(), "-p".as_ref(), CAPITAL.as_ref()];
    let done = run(&[parameters.as_slice(), turn.as_slice()].concat());
    let (answer, said) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(done.status.success(), "{}: {said}", done.status);
    assert!(
        answer.contains("Paris") && !answer.contains('\x1b'),
        "{answer:?}"
    );

    let done = run(&[
        "/nowhere/model.gguf".as_ref(),
        "-p".as_ref(),
        CAPITAL.as_ref(),
    ]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && done.stdout.is_empty());
    assert!(said.contains("/nowhere/model.gguf"), "{said}");
}

/// A folder with these files.
fn folder_of(files: &[(&str, Vec<u8>)]) -> Disks {
    let folder = Disks::new();
    for (name, content) in files {
        fs::write(folder.path(name), content).or_fail("write a file");
    }
    folder
}

/// One turn with what is in `folder`, `flags` before it: status, standard output,
/// standard error.
fn turn_in(folder: &Path, flags: &[&str]) -> (bool, String, String) {
    let mut arguments: Vec<&OsStr> = flags.iter().map(OsStr::new).collect();
    arguments.extend([folder.as_os_str(), "-p".as_ref(), "Say it.".as_ref()]);
    let done = run(&arguments);
    (
        done.status.success(),
        String::from_utf8(done.stdout).or_fail("read the answer"),
        String::from_utf8(done.stderr).or_fail("read what is said"),
    )
}

#[test]
fn of_a_folder_the_one_model_that_can_be_used_is_used() {
    let good = TinyModel::saying(&["yes"]).file();
    let cut = good[..good.len() / 2].to_vec();
    let folder = folder_of(&[
        ("good.gguf", good.clone()),
        ("cut.gguf", cut),
        ("._good.gguf", b"about good.gguf".to_vec()),
    ]);
    let (answered, answer, said) = turn_in(&folder.path(""), &[]);
    assert!(answered && answer.starts_with("yes"), "{answer:?} {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("cut.gguf is passed over: "), "{said}");

    let folder = folder_of(&[("a.gguf", good.clone()), ("b.gguf", good)]);
    let (answered, _, said) = turn_in(&folder.path(""), &[]);
    assert!(!answered, "{said}");
    assert_eq!(
        said,
        "zosia: there are several models, a.gguf, b.gguf; --model NAME says which [ZE-22]\n"
    );
    let (answered, answer, _) = turn_in(&folder.path(""), &["--model", "b"]);
    assert!(answered && answer.starts_with("yes"), "{answer:?}");
}

#[test]
fn a_folder_of_links_and_a_model_in_one_part_are_used() {
    let elsewhere = folder_of(&[("blob", TinyModel::saying(&["yes"]).file())]);
    let folder = Disks::new();
    let link = folder.path("m-00001-of-00001.gguf");
    std::os::unix::fs::symlink(elsewhere.path("blob"), link).or_fail("make a link");
    let (answered, answer, said) = turn_in(&folder.path(""), &[]);
    assert!(answered && answer.starts_with("yes"), "{answer:?} {said}");
}

/// A model of a few words, in three parts, each with its name.
fn parts() -> Vec<(String, Vec<u8>)> {
    let model = TinyModel::saying(&["Three", " parts", "."]).gguf();
    let name = |number| format!("big-0000{number}-of-00003.gguf");
    let parts = model.split(3).into_iter().zip(1..);
    parts.map(|(part, n)| (name(n), part.bytes())).collect()
}

#[test]
fn a_model_in_parts_answers_as_the_whole_one_does() {
    let whole = TinyModel::saying(&["Three", " parts", "."]).file();
    let folder = folder_of(&[("whole.gguf", whole)]);
    let expected = turn_in(&folder.path(""), &[]);
    assert_eq!(expected.1, "Three parts.\n", "{}", expected.2);
    let folder = Disks::new();
    for (name, bytes) in parts() {
        fs::write(folder.path(&name), bytes).or_fail("write a part");
    }
    for repack in ["off", "on"] {
        let flags = ["--repack", repack];
        assert_eq!(
            turn_in(&folder.path("big-00001-of-00003.gguf"), &flags),
            expected
        );
        assert_eq!(turn_in(&folder.path(""), &flags), expected);
    }
}

#[test]
fn the_other_model_of_a_folder_answers_where_a_draft_model_is_named() {
    let big = TinyModel::saying(&["Three", " words", "."]).gguf();
    let small = big.clone().text("general.name", "Small");
    let folder = folder_of(&[("big.gguf", big.bytes()), ("small.gguf", small.bytes())]);
    let small = folder.path("small.gguf");
    let small = small.to_str().or_fail("name the small model");
    let expected = (true, "Three words.\n".to_owned(), String::new());
    // Neither is asked about, and nothing is wrong with it.
    for draft in ["small", "small.gguf", small] {
        let flags = ["--spec", "on", "--draft-model", draft];
        assert_eq!(turn_in(&folder.path(""), &flags), expected);
        assert_eq!(turn_in(&folder.path("big.gguf"), &flags).1, expected.1);
    }
    let named = turn_in(&folder.path("big.gguf"), &["--draft-model", small]);
    assert_eq!(named, expected);
    for (draft, why) in [
        ("tiny", "no model is called \"tiny\""),
        ("big", "big.gguf is the model that answers"),
    ] {
        let (answered, answer, said) = turn_in(&folder.path("big.gguf"), &["--draft-model", draft]);
        assert!(answered && answer == expected.1, "{answer} {said}");
        assert!(said.contains("the draft model is not used: "), "{said}");
        assert!(said.contains(why) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_part_that_is_missing_or_another_is_named_in_one_line() {
    let other = TinyModel::saying(&["No"]).gguf();
    let good = parts();
    let second = "big-00002-of-00003.gguf";
    let table: [(&str, Option<Vec<u8>>, &str); 6] = [
        ("missing", None, "this one is missing"),
        (
            "the first",
            Some(good[0].1.clone()),
            "should be part 2 of 3 and is part 1 of 3",
        ),
        (
            "cut",
            Some(good[1].1[..good[1].1.len() - 1].to_vec()),
            "the file is cut",
        ),
        ("a whole model", Some(other.bytes()), "is a whole model"),
        ("of four", Some(other.split(4)[1].bytes()), "is part 2 of 4"),
        (
            "of another model",
            Some(other.without_tensor("output_norm.weight").split(3)[1].bytes()),
            "is of a model of",
        ),
    ];
    for (what, bytes, expected) in table {
        let folder = Disks::new();
        for (name, bytes) in &good {
            fs::write(folder.path(name), bytes).or_fail("write a part");
        }
        match bytes {
            Some(bytes) => fs::write(folder.path(second), bytes),
            None => fs::remove_file(folder.path(second)),
        }
        .or_fail("change a part");
        for path in ["", "big-00001-of-00003.gguf"] {
            let (answered, _, said) = turn_in(&folder.path(path), &[]);
            assert!(!answered, "{what}: {said}");
            assert_eq!(said.lines().count(), 1, "{what}: {said}");
            assert!(
                said.contains(second) && said.contains(expected),
                "{what}: {said}"
            );
        }
    }
}
