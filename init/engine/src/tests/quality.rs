//! What `bench/quality.sh` compares: the logits of a text, as `bench/quality.cpp` writes
//! llama.cpp's.

use std::io::BufWriter;

use super::super::*;
use super::{load_of, with_sequence};
use crate::speculate::WIDTH_MAX;
use crate::vocab::Vocab;
use protocol::{KvType, Switch};

/// Tokens of the text that are in a context together.
const CHUNK: usize = 256;
/// Of these the first do not count: as many are evaluated at once, and the others some at
/// a time, as a prompt and an answer are.
const SKIPPED: usize = 128;

#[test]
#[ignore = "a part of bench/quality.sh, which says in ZOSIA_QUALITY what it wants"]
fn write_rows() {
    let wanted = std::env::var("ZOSIA_QUALITY").unwrap();
    let mut wanted = wanted.split('\n');
    let mut next = || wanted.next().unwrap();
    let (model, text, kv, threads, rows, level) = (next(), next(), next(), next(), next(), next());
    let mut load = load_of(model.into());
    load.params.cpu = (!level.is_empty()).then(|| level.to_owned());
    load.params.kv = match kv {
        "f16" => KvType::F16,
        "q8_0" => KvType::Q8_0,
        other => panic!("{other} is not f16 or q8_0"),
    };
    load.params.threads = Some(threads.parse().unwrap());
    // As many at once as have logits.
    load.params.speculate = Switch::On;

    let level = ggml::level_name(load.params.cpu.as_deref());
    println!("level {level} {}", ggml::compiler_flags(&level));
    with_sequence(&load, |model, mut sequence| {
        let vocab = Vocab::of(model);
        let mut tokens = Vec::new();
        let text = std::fs::read_to_string(text).unwrap();
        vocab.tokenize(&text, false, &mut tokens).unwrap();
        let mut out = BufWriter::new(File::create(rows).unwrap());
        out.write_all(&u32::try_from(vocab.len()).unwrap().to_le_bytes())
            .unwrap();
        let mut begin = 0;
        while begin + CHUNK < tokens.len() {
            sequence.forget();
            let chunk = &tokens[begin..begin + CHUNK];
            sequence
                .set(&chunk[..SKIPPED], &[], &mut |_, _| {})
                .unwrap();
            for batch in chunk[SKIPPED..].chunks(WIDTH_MAX) {
                sequence.extend(batch, batch.len()).unwrap();
                let end = sequence.tokens().len();
                for count in end - batch.len() + 1..=end {
                    out.write_all(&tokens[begin + count].to_le_bytes()).unwrap();
                    for logit in &*sequence.logits_after(count).unwrap() {
                        out.write_all(&logit.to_le_bytes()).unwrap();
                    }
                }
            }
            begin += CHUNK - SKIPPED;
        }
        out.flush().unwrap();
    });
}
