//! Many prompts, in the machine as in the plain command.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use vmtest::{BOOT, Disks, LOAD, OrFail, TURN, Vm, VmSpec, model, native_executable};

const LINES: [&str; 7] = [
    r#"{"id": "a", "prompt": "What is the capital of France?"}"#,
    r#"{"id": 2, "prompt": "Name three colours.", "max_tokens": 3}"#,
    r#"{"id": null, "prompt": "Why is the sky blue?", "system": "Be brief."}"#,
    r#"{"id": [4], "promt": "Hello"}"#,
    r#"{"prompt": "Hello"}"#,
    r#"{"prompt": "List the days of the week.", "system": ""}"#,
    r#"{"prompt": "Say yes."}"#,
];

/// The plain command, greedy, with one thread, as tests share processors.
fn command(parallel: &str, lines: &str) -> Command {
    let mut command = Command::new(native_executable());
    command
        .args(["--batch", lines, "--parallel", parallel, "--temp", "0"])
        .args(["--threads", "1", "--ctx", "512", "--max-tokens", "24"])
        .arg(model());
    command
}

/// What a result says, but for the times it took.
fn said(results: &str) -> Vec<Value> {
    let without_times = |line: &str| {
        let mut result: Value = serde_json::from_str(line).or_fail("read a result");
        if let Some(result) = result.as_object_mut() {
            result.remove("timings");
        }
        result
    };
    results.lines().map(without_times).collect()
}

fn lines_in(disks: &Disks) -> OsString {
    let lines = LINES.join("\n\n");
    disks.holding("lines.jsonl", lines.as_bytes()).into()
}

#[test]
fn results_are_the_same_side_by_side_as_one_after_the_other_and_resumed() {
    let disks = Disks::new();
    let lines = lines_in(&disks);
    let lines = lines.to_str().or_fail("name the lines");
    let mut wanted = None;
    for parallel in ["1", "4"] {
        let done = command(parallel, lines).output().or_fail("run a batch");
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(1), "{told}");
        assert!(told.contains("6 of 7 prompts were answered"), "{told}");
        let results = String::from_utf8(done.stdout).or_fail("read the results");
        let said = said(&results);
        let ids: Vec<&Value> = said.iter().map(|result| &result["id"]).collect();
        let absent = Value::Null;
        let a = Value::from("a");
        let (two, four) = (Value::from(2), Value::from(vec![4]));
        assert_eq!(ids, [&a, &two, &absent, &four, &absent, &absent, &absent]);
        assert!(results.contains(r#""id":null"#), "{results}");
        let error = said[3]["error"].as_str().unwrap_or_default();
        assert!(error.starts_with("line 7: "), "{error}");
        assert_eq!(said[1]["stop"], "max_tokens");
        assert_eq!(*wanted.get_or_insert_with(|| said.clone()), said);
    }
    // Broken off within the third result.
    let whole = wanted.or_fail("have results");
    let first = command("2", lines).output().or_fail("run a batch");
    let text = String::from_utf8_lossy(&first.stdout).into_owned();
    let third: usize = text.lines().take(2).map(|line| line.len() + 1).sum();
    let results = disks.holding("results", &text.as_bytes()[..third + 20]);
    let go_on = || {
        command("4", lines)
            .args(["--resume", "--output"])
            .arg(&results)
            .output()
            .or_fail("resume a batch")
    };
    let told = String::from_utf8_lossy(&go_on().stderr).into_owned();
    assert!(told.contains("4 of 5 prompts"), "{told}");
    let got = fs::read_to_string(&results).or_fail("read the results");
    assert_eq!(said(&got), whole);
    // Nothing is left to do.
    assert!(go_on().status.success());
    assert_eq!(fs::read_to_string(&results).or_fail("read them"), got);
    let there = command("4", lines)
        .arg("--output")
        .arg(&results)
        .output()
        .or_fail("refuse");
    assert_eq!(there.status.code(), Some(1));
    let told = String::from_utf8_lossy(&there.stderr).into_owned();
    assert!(told.contains("--resume"), "{told}");
}

#[test]
fn every_prompt_of_a_batch_has_what_is_attached() {
    let disks = Disks::new();
    let lines = lines_in(&disks);
    let lines = lines.to_str().or_fail("name the lines");
    let text = disks.holding(
        "colours.txt",
        b"The three colours are red, green and blue.\n",
    );
    let results = |parallel, flags: &[&OsStr]| {
        let done = command(parallel, lines).args(flags).output();
        said(&String::from_utf8_lossy(
            &done.or_fail("run a batch").stdout,
        ))
    };
    let attached = ["--attach".as_ref(), text.as_os_str()];
    let one = results("1", &attached);
    assert_eq!(one, results("4", &attached));
    assert_ne!(one[0]["text"], results("4", &[])[0]["text"]);
}

/// The engine of the process `parent`.
fn child_of(parent: u32) -> Option<String> {
    let children = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(children).or_fail("list the children");
    children.split_whitespace().next().map(str::to_owned)
}

#[test]
fn an_engine_that_is_killed_in_the_middle_loses_and_doubles_no_line() {
    let mut batch = command("4", "-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .or_fail("start a batch");
    let mut lines = batch.stdin.take().or_fail("have its input");
    let mut results = BufReader::new(batch.stdout.take().or_fail("have its output"));
    let line = |id: u32| format!("{{\"id\":{id},\"prompt\":\"Count to {id}.\"}}\n");
    let first: String = (0..8).map(line).collect();
    lines.write_all(first.as_bytes()).or_fail("write lines");
    let mut result = String::new();
    results.read_line(&mut result).or_fail("read a result");
    // The rest is under way, or will be: its input has not ended.
    let engine = child_of(batch.id()).or_fail("find the engine");
    let killed = Command::new("kill").args(["-9", &engine]).status();
    assert!(killed.or_fail("kill the engine").success());
    let rest: String = (8..12).map(line).collect();
    lines.write_all(rest.as_bytes()).or_fail("write more");
    drop(lines);
    for next in results.lines() {
        result.push_str(&next.or_fail("read a result"));
        result.push('\n');
    }
    assert!(batch.wait().or_fail("wait for its end").success());
    let results = said(&result);
    assert_eq!(results.len(), 12, "{results:?}");
    for (id, result) in results.iter().enumerate() {
        assert_eq!(
            (&result["id"], &result["answered"]),
            (&id.into(), &true.into())
        );
    }
}

#[test]
fn a_million_lines_are_not_held() {
    let disks = Disks::new();
    // Each fails at once: it is the streaming that is looked at.
    let lines = "{\"prompt\":\"\"}\n".repeat(1_000_000);
    let path = disks.holding("lines.jsonl", lines.as_bytes());
    let none = disks.holding("none.gguf", b"GGUF, says this letter of some length.");
    let script = "ulimit -v 200000; \"$1\" --batch \"$2\" \"$3\" | wc -l";
    let done = Command::new("sh")
        .args(["-c", script, "sh"])
        .args([native_executable(), path, none])
        .output()
        .or_fail("run a batch");
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    let counted = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(counted.trim(), "1000000", "{told}");
}

#[test]
fn the_machine_answers_a_batch_in_order() {
    let spec = VmSpec::with_model(Path::new(model()).to_path_buf())
        .parameter("zosia.parallel=3")
        .parameter("zosia.ctx=512")
        .parameter("zosia.max_tokens=8")
        .parameter("zosia.temp=0")
        .batch(&LINES[..4]);
    let mut vm = Vm::launch(&spec);
    let exit = vm.wait_exit(BOOT + LOAD + 4 * TURN);
    assert_eq!(exit.reason, "guest-shutdown");
    let ids: Vec<&Value> = exit.results.iter().map(|result| &result["id"]).collect();
    let (a, two, four) = (Value::from("a"), Value::from(2), Value::from(vec![4]));
    assert_eq!(ids, [&a, &two, &Value::Null, &four], "{:?}", exit.results);
    for (at, result) in exit.results.iter().enumerate() {
        assert_eq!(result["answered"], at != 3, "{result}");
    }
    assert!(exit.answer.contains("3 of 4 prompts"), "{}", exit.answer);
}
