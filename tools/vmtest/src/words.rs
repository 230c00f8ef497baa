//! What models of random weights speak: control tokens, bytes, and words without meaning,
//! each of them a token.

use crate::gguf_file::{BOOL, FLOAT32, GgufFile, INT32};

/// Messages in the form of `ChatML`. What was reasoned in earlier answers is left out.
pub(crate) const CHATML: &str = "\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}";

/// Text and type (`llama_token_type`) of the tokens in front of the bytes and words.
const CONTROL: [(&str, i32); 5] = [
    ("<unk>", 2),
    ("<s>", 3),
    ("</s>", 3),
    ("<|im_start|>", 3),
    ("<|im_end|>", 3),
];
const BOS: u32 = 1;
const EOS: u32 = 4;

/// Tokens in front of the words.
pub(crate) const WITHOUT_WORDS: u64 = CONTROL.len() as u64 + 256;

/// `file` with a model's name, a vocabulary of so many `tokens`, and its chat template.
pub(crate) fn speaking(file: GgufFile, name: &str, tokens: u64, template: &str) -> GgufFile {
    let vocabulary = vocabulary(tokens);
    let texts: Vec<&str> = vocabulary.iter().map(|token| token.0.as_str()).collect();
    let kinds = vocabulary.iter().flat_map(|token| token.1.to_le_bytes());
    let kinds: Vec<u8> = kinds.collect();
    let scores = vec![0; 4 * texts.len()];
    file.text("general.name", name)
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", &texts)
        .array("tokenizer.ggml.scores", FLOAT32, tokens, &scores)
        .array("tokenizer.ggml.token_type", INT32, tokens, &kinds)
        .u32("tokenizer.ggml.bos_token_id", BOS)
        .u32("tokenizer.ggml.eos_token_id", EOS)
        .value("tokenizer.ggml.add_bos_token", BOOL, &[0])
        .value("tokenizer.ggml.add_space_prefix", BOOL, &[0])
        .text("tokenizer.chat_template", template)
}

/// `file`, which has so many `tokens`, with the same words made by byte-pair encoding: its
/// text is cut before by `pre` (`tokenizer.ggml.pre`).
pub(crate) fn in_byte_pairs(file: GgufFile, tokens: u64, pre: &str) -> GgufFile {
    let words = vocabulary(tokens);
    let (control, words) = words.split_at(CONTROL.len());
    let words = words.get(256..).unwrap_or_default();
    // GPT-2 writes a byte that is no visible character as another character.
    let mut unseen = '\u{100}'..;
    let bytes = (0..=u8::MAX).map(|byte| match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
        _ => unseen.next().unwrap_or_default(),
    });
    let bytes: Vec<(String, i32)> = bytes.map(|byte| (byte.to_string(), 1)).collect();
    let all = control.iter().chain(&bytes).chain(words);
    let texts: Vec<&str> = all.clone().map(|token| token.0.as_str()).collect();
    let kinds: Vec<u8> = all.flat_map(|token| token.1.to_le_bytes()).collect();
    let syllables = words.iter().filter(|word| word.0.len() == 2);
    let merges = syllables.map(|word| format!("{} {}", &word.0[..1], &word.0[1..]));
    let merges: Vec<String> = merges.collect();
    file.text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", pre)
        .texts("tokenizer.ggml.tokens", &texts)
        .array("tokenizer.ggml.token_type", INT32, tokens, &kinds)
        .texts("tokenizer.ggml.merges", &merges)
}

/// Each token's text and type. A tokenizer cuts words in one way only: they have as many
/// syllables of a consonant and a vowel as there are digits in their number.
fn vocabulary(tokens: u64) -> Vec<(String, i32)> {
    let control = CONTROL.map(|(text, kind)| (text.to_owned(), kind));
    let bytes = (0..=u8::MAX).map(|byte| (format!("<0x{byte:02X}>"), 6));
    let consonants = "bcdfghjklmnpqrstvwxz".chars();
    let syllables = consonants.flat_map(|first| "aeiou".chars().map(move |second| [first, second]));
    let syllables: Vec<String> = syllables.map(String::from_iter).collect();
    let word = |number: u64| {
        let mut word = String::new();
        let mut rest = number;
        loop {
            let at = usize::try_from(rest % 100).unwrap_or(0);
            word.insert_str(0, syllables.get(at).map_or("", String::as_str));
            rest /= 100;
            if rest == 0 {
                return word;
            }
            // "ba" is a digit of its own in front of others.
            rest -= 1;
        }
    };
    let words = (0..tokens - WITHOUT_WORDS).map(|number| (word(number), 1));
    control.into_iter().chain(bytes).chain(words).collect()
}
