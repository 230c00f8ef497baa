//! How much memory opening takes does not depend on what somebody else's session says.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "in a test, a failure is to be seen")]

use std::fmt::Write as _;
use std::fs;

use journal::Journal;
use journal::rehearsal::{Memory, session};

/// The most memory that the process has had, in MiB.
fn most_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() / 1024
}

fn payload(rest: &str) -> Vec<u8> {
    let salt = "00".repeat(16);
    format!(r#"{{"at":1,"salt":"{salt}",{rest}}}"#).into_bytes()
}

fn opens(payloads: &[Vec<u8>]) -> Journal {
    let payloads: Vec<_> = payloads.iter().map(Vec::as_slice).collect();
    let disk: Memory = session(&payloads).unwrap();
    let (journal, found) = Journal::open(Box::new(disk), None).unwrap();
    assert!(found.is_quiet(), "{found}");
    journal
}

#[test]
fn what_a_record_says_takes_no_more_memory_than_the_record() {
    // Names that no kind has.
    let other = payload(&format!(
        r#""kind":"begin","chat":1,"x":[0{}]"#,
        ",0".repeat(8 << 20)
    ));
    assert_eq!(opens(&[other]).chats().len(), 1);
    // A long turn that a fork has again and again, as the answer to other questions, too.
    let long = "x".repeat(1 << 20);
    let said = |text: &str| {
        format!(
            r#""question":{{"role":"user","text":"{text}"}},"answer":{{"role":"assistant","text":"{text}"}}"#
        )
    };
    let turn = |text: &str| {
        payload(&format!(
            r#""kind":"turn","chat":1,{},"tokens":1"#,
            said(text)
        ))
    };
    let mut payloads = vec![turn(&long)];
    payloads.extend((0..500).map(|_| turn("short")));
    let mut turns = String::new();
    for question in (1..=501).chain([1; 2000]) {
        write!(turns, r#"{{"question":{question},"answer":1}},"#).unwrap();
    }
    let turns = turns.trim_end_matches(',');
    payloads.push(payload(&format!(
        r#""kind":"fork","chat":2,"from":1,"turns":[{turns}],"tokens":1,"system":"","parameters":{{}},"model":null,"context":[]"#
    )));
    let journal = opens(&payloads);
    let fork = journal.current().unwrap();
    assert_eq!(fork.turns(), 501);
    let messages = journal.messages(fork.id).unwrap();
    let bytes: usize = messages.iter().map(|message| message.text.len()).sum();
    assert!(bytes < 3 << 20, "{bytes}");
    let most = most_mib();
    assert!(most < 160, "{most} MiB");
}
