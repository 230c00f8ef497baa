//! Engines at the ceiling of their memory, each in a process of its own.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use protocol::KvType;

use super::super::checkpoints::Checkpoints;
use super::super::context::{Context, ContextParams, Pieces};
use super::super::sequence::Sequence;
use super::super::*;
use super::{Session, alone, greedy, load_of, run_alone, saved, test_model, with_sequence};

const SIGABRT: i32 = 6;

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
fn a_context_that_fills_takes_no_more_than_was_planned() {
    alone("tests::memory::fill_a_long_context");
}

#[test]
#[ignore = "counts its process's memory; run by a_context_that_fills_takes_no_more_than_was_planned"]
fn fill_a_long_context() {
    const BATCH: usize = 128;
    const TOKENS: usize = 8192;
    let file = saved(&vmtest::Shape::Lfm2.file());
    let mut load = load_of(file.path().to_owned());
    load.params.ctx_tokens = u32::try_from(TOKENS).ok();
    with_sequence(&load, |_, mut sequence| {
        sequence.extend(&[1; BATCH], 1).unwrap();
        let before = held_bytes();
        while sequence.tokens().len() < TOKENS {
            sequence.extend(&[1; BATCH], 1).unwrap();
        }
        let more = held_bytes() - before;
        // The mask of a batch, which threads compute from a copy of at most levels.
        let copy = 2 * (BATCH * TOKENS) as u64;
        assert!(more < copy + (1 << 20), "{more} beside {copy}");
    });
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn an_engine_that_has_no_memory_for_a_graph_ends() {
    let output = run_alone("tests::memory::compute_without_memory", "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{said}");
    assert!(said.contains("std::bad_alloc"), "{said}");
}

#[test]
#[ignore = "limits its process; run by an_engine_that_has_no_memory_for_a_graph_ends"]
fn compute_without_memory() {
    with_model(|machine, model| {
        let params = ContextParams {
            ctx_tokens: 4096,
            sequences: 1,
            batch_tokens: 128,
            outputs: 1,
            kv: KvType::F16,
            pieces: Pieces::Never,
            rollback_tokens: 0,
            threads: Some(1),
            batch_threads: None,
            processors: 1,
            poll: 0,
        };
        let context =
            Context::new(&machine.backend, model, &params, Interrupt::new().into()).unwrap();
        let mut sequence = Sequence::new(context, Checkpoints::new(0));
        sequence.extend(&[1, 2], 1).unwrap();
        limit_to_what_is_held(0);
        // What a pass needs is there, what a batch does is not.
        loop {
            let mut block = Vec::<u8>::new();
            if block.try_reserve_exact(64 << 10).is_err() {
                break;
            }
            std::mem::forget(std::hint::black_box(block));
        }
        let ended = sequence.extend(&[1; 128], 1);
        // A panic would want memory for its words.
        eprintln!("it goes on: {ended:?}");
        std::process::exit(1);
    });
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn a_text_that_memory_does_not_suffice_for_is_an_error() {
    alone("tests::memory::tokenize_without_memory");
}

#[test]
#[ignore = "limits its process; run by a_text_that_memory_does_not_suffice_for_is_an_error"]
fn tokenize_without_memory() {
    with_model(|_, model| {
        let vocab = vocab::Vocab::of(model);
        limit_to_what_is_held(24 << 20);
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
    });
}

/// Loads the test's model, for `then`.
fn with_model(then: impl FnOnce(&Machine, &model::Model<'_>)) {
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
    then(&machine, &model.unwrap());
}

/// From now on this process has `more` bytes besides what it holds.
fn limit_to_what_is_held(more: u64) {
    confine::limit_memory(held_bytes() + more).unwrap();
}

fn held_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    protocol::memory::meminfo_bytes(&status, "VmData:").unwrap()
}
