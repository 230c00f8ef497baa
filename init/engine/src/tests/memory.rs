//! Engines at the ceiling of their memory, each in a process of its own.

use std::fs;

use super::super::*;
use super::{Session, alone, greedy, load_of, test_model};

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn what_is_planned_fits_below_the_ceiling() {
    alone("tests::memory::answer_below_the_ceiling");
}

#[test]
#[ignore = "limits its process; run by what_is_planned_fits_below_the_ceiling"]
fn answer_below_the_ceiling() {
    let mut small = load_of(test_model());
    small.params.ctx_tokens = None;
    small.budget.engine_bytes = 128 << 20;
    let mut session = Session::start_with(small, |bytes| {
        confine::limit_memory(bytes).unwrap();
        Ok(None)
    });
    let info = session.wait_until_ready();
    assert!((512..4096).contains(&info.ctx_tokens), "{info:?}");
    // The longest prompt there can be, and an answer.
    let words = info.ctx_tokens as usize - 60;
    session.ask(&"word ".repeat(words), greedy());
    let (_, stats) = session.answer().unwrap();
    assert!(stats.evaluated_tokens + 60 > info.ctx_tokens, "{stats:?}");
    assert!(stats.generated_tokens > 0, "{stats:?}");
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn a_text_that_memory_does_not_suffice_for_is_an_error() {
    alone("tests::memory::tokenize_without_memory");
}

#[test]
#[ignore = "limits its process; run by a_text_that_memory_does_not_suffice_for_is_an_error"]
fn tokenize_without_memory() {
    let load = load_of(test_model());
    let machine = Machine::look(&load).unwrap();
    let mut outbox = Outbox::new(io::sink());
    let mut checked = load::check(
        &machine,
        vec![File::open(&load.path).unwrap()],
        &load,
        &mut outbox,
    )
    .unwrap();
    let interrupt = Interrupt::new();
    let model = checked.load_model(&machine, &load, &interrupt, &mut outbox);
    let model = model.unwrap();
    let vocab = vocab::Vocab::of(&model);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let held = protocol::memory::meminfo_bytes(&status, "VmData:").unwrap();
    confine::limit_memory(held + (24 << 20)).unwrap();
    // The first is more than Rust has memory for, the second than C++.
    for (words, told) in [
        (2_000_000, "too long to tokenize"),
        (800_000, "memory ran out"),
    ] {
        let text = "word ".repeat(words);
        let error = vocab.tokenize(&text, false, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
    }
    let mut tokens = Vec::new();
    vocab.tokenize("word", false, &mut tokens).unwrap();
    assert_eq!(tokens.len(), 1);
}
