//! The model's own tokens for its own words.
//!
//! A follow-up turn is rendered and tokenized from text, and a tokenizer may
//! cut an answer's text otherwise than the model did when it wrote it: the
//! context would then be rewound to the first difference. So each answer's
//! tokens are remembered, and put in place of the tokenizer's where the text
//! is the same.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::vocab::Token;

/// What is asked of a vocabulary here.
pub(crate) trait Pieces {
    /// Whether `token` is markup.
    fn is_markup(&self, token: Token) -> bool;
    /// Appends the bytes of `token`.
    fn push_bytes(&self, token: Token, bytes: &mut Vec<u8>);
}

/// The answers of the conversation, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answers {
    /// The conversation up to the end of the last of them.
    tokens: Vec<Token>,
    /// Where in it each is: from the first token after the last markup before the
    /// answer, which is what the template wrote before it, to the answer's end, without
    /// the token that ended it.
    spans: Vec<Range<usize>>,
}

impl Answers {
    /// The conversation up to the end of the last of them.
    pub(crate) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// Remembers that `generated` was written after `prompt`.
    pub(crate) fn remember(&mut self, pieces: &impl Pieces, prompt: &[Token], generated: &[Token]) {
        let markup = |token: &Token| pieces.is_markup(*token);
        let start = prompt.iter().rposition(markup).map_or(0, |at| at + 1);
        let kept = self.spans.iter().filter(|span| span.start < start).count();
        self.keep_first(kept);
        if generated.iter().any(markup) {
            return;
        }
        self.tokens = [prompt, generated].concat();
        self.spans.push(start..self.tokens.len());
    }

    /// `canonical`, the tokenizer's tokens of a conversation, with the
    /// remembered tokens in place of its own for each answer that has the same
    /// text at the same place after the same tokens. Answers from the first
    /// that has not are forgotten: what follows it has changed.
    pub(crate) fn splice(&mut self, pieces: &impl Pieces, canonical: &[Token]) -> Vec<Token> {
        let mut spliced: Vec<Token> = Vec::with_capacity(canonical.len());
        let mut rest = canonical;
        let mut matched = 0;
        for span in &self.spans {
            let gap = self.tokens.get(spliced.len()..span.start);
            let (Some(gap), Some(answer)) = (gap, self.tokens.get(span.clone())) else {
                break;
            };
            let Some(after_gap) = rest.strip_prefix(gap) else {
                break;
            };
            let end = after_gap
                .iter()
                .position(|token| pieces.is_markup(*token))
                .unwrap_or(after_gap.len());
            let (canonical_answer, after) = after_gap.split_at(end);
            if text(pieces, canonical_answer) != text(pieces, answer) {
                break;
            }
            spliced.extend_from_slice(gap);
            spliced.extend_from_slice(answer);
            rest = after;
            matched += 1;
        }
        self.keep_first(matched);
        spliced.extend_from_slice(rest);
        spliced
    }

    /// Keeps the first `count` answers, and nothing of what was said after them.
    fn keep_first(&mut self, count: usize) {
        self.spans.truncate(count);
        let end = self.spans.last().map_or(0, |span| span.end);
        self.tokens.truncate(end);
    }
}

fn text(pieces: &impl Pieces, tokens: &[Token]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for token in tokens {
        pieces.push_bytes(*token, &mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens below 0 are markup; 1 to 9 stand for that many letters `a`; 10
    /// and up for a letter of their own.
    struct Letters;

    impl Pieces for Letters {
        fn is_markup(&self, token: Token) -> bool {
            token < 0
        }
        fn push_bytes(&self, token: Token, bytes: &mut Vec<u8>) {
            match usize::try_from(token) {
                Ok(count @ 1..10) => bytes.extend(std::iter::repeat_n(b'a', count)),
                Ok(_) => bytes.extend(token.to_be_bytes()),
                Err(_) => {}
            }
        }
    }

    const USER: Token = -1;
    const MODEL: Token = -2;
    const END: Token = -3;

    #[test]
    fn an_answer_with_the_same_text_keeps_the_models_tokens() {
        let mut answers = Answers::default();
        let prompt = [USER, 50, END, MODEL, 10];
        answers.remember(&Letters, &prompt, &[1, 2, 11]);
        let canonical = [&prompt[..], &[3, 11, END, USER, 60, END, MODEL, 10]].concat();
        let want = [&prompt[..], &[1, 2, 11, END, USER, 60, END, MODEL, 10]].concat();
        assert_eq!(answers.splice(&Letters, &canonical), want);

        // And a second answer after it, its last token never evaluated.
        answers.remember(&Letters, &want, &[2, 2]);
        let canonical = [&canonical[..], &[4, END, USER]].concat();
        let want = [&want[..], &[2, 2, END, USER]].concat();
        assert_eq!(answers.splice(&Letters, &canonical), want);
    }

    #[test]
    fn a_token_that_reaches_over_the_answers_beginning_is_spliced_too() {
        let mut answers = Answers::default();
        // The template ends with one a, the answer begins with one; the
        // tokenizer makes one token of both.
        answers.remember(&Letters, &[USER, 50, MODEL, 1], &[1, 20]);
        let canonical = [USER, 50, MODEL, 2, 20, END];
        let got = answers.splice(&Letters, &canonical);
        assert_eq!(got, [USER, 50, MODEL, 1, 1, 20, END]);
    }

    #[test]
    fn another_text_or_another_beginning_is_left_alone_and_forgotten() {
        let prompt = [USER, 50, END, MODEL];
        for canonical in [
            vec![USER, 50, END, MODEL, 4, END],
            vec![USER, 51, END, MODEL, 3, END],
            vec![USER, 50, END],
        ] {
            let mut answers = Answers::default();
            answers.remember(&Letters, &prompt, &[1, 2]);
            assert_eq!(answers.splice(&Letters, &canonical), canonical);
            assert_eq!(answers, Answers::default());
        }
    }

    #[test]
    fn an_answer_with_markup_in_it_is_not_remembered() {
        let mut answers = Answers::default();
        answers.remember(&Letters, &[USER, 50, MODEL], &[1, USER, 2]);
        assert!(answers.spans.is_empty());
    }

    #[test]
    fn an_answer_made_again_replaces_the_one_before() {
        let mut answers = Answers::default();
        let prompt = [USER, 50, MODEL];
        answers.remember(&Letters, &prompt, &[1, 1]);
        answers.remember(&Letters, &prompt, &[1, 3]);
        assert_eq!(answers.spans.len(), 1);
        let got = answers.splice(&Letters, &[USER, 50, MODEL, 4]);
        assert_eq!(got, [USER, 50, MODEL, 1, 3]);
    }
}
