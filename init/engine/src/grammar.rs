//! Answers that obey a GBNF grammar: llama.cpp's grammar sampler.

#![expect(unsafe_code, reason = "llama.cpp's sampler is a C handle")]

use std::ffi::CString;
use std::marker::PhantomData;
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::guarded::{self, Thrown};
use super::vocab::{Token, Vocab};

/// A token that may be drawn, with its logit.
pub(crate) type Candidate = sys::llama_token_data;

/// A grammar and how far the answer has got in it.
pub(crate) struct Grammar<'v> {
    handle: NonNull<sys::llama_sampler>,
    source: CString,
    vocab: PhantomData<&'v ()>,
}

impl<'v> Grammar<'v> {
    /// Parses `source`, whose start symbol is `root`.
    ///
    /// # Errors
    /// One line: what is wrong with it.
    pub(crate) fn parse(vocab: &'v Vocab<'_>, source: &str) -> Result<Self, String> {
        if source.trim().is_empty() {
            return Err("it is empty".to_owned());
        }
        refuse_deep(source)?;
        let text = CString::new(source).map_err(|_| "it holds a zero byte".to_owned())?;
        // SAFETY: llama.h: two C strings, read during the call, and a live
        // vocabulary, which outlives the sampler (lifetime); null on failure.
        let handle = unsafe { guarded::grammar(vocab.as_ptr(), &text, c"root") };
        match NonNull::new(handle.map_err(|e| e.to_string())?) {
            Some(handle) => Ok(Self {
                handle,
                source: text,
                vocab: PhantomData,
            }),
            // Its parser writes what it found to standard error only.
            None => Err(
                "llama.cpp's parser refuses it; it needs a rule `root`, and a definition \
                 of every rule that it names"
                    .to_owned(),
            ),
        }
    }

    /// Whether its source has the text of `marker` in it.
    pub(crate) fn spells(&self, marker: &str) -> bool {
        let mut texts = self.source.as_bytes().windows(marker.len());
        texts.any(|text| text == marker.as_bytes())
    }

    /// Keeps of `candidates` those that the grammar lets follow.
    ///
    /// # Errors
    /// llama.cpp's.
    pub(crate) fn retain_allowed(&self, candidates: &mut Vec<Candidate>) -> Result<(), Thrown> {
        let mut array = sys::llama_token_data_array {
            data: candidates.as_mut_ptr(),
            size: candidates.len(),
            selected: -1,
            sorted: false,
        };
        // SAFETY: llama.h: the array describes `candidates`, which nothing else
        // uses meanwhile; the grammar sampler changes logits in place only.
        unsafe { guarded::apply(self.handle.as_ptr(), &mut array) }?;
        candidates.retain(|candidate| candidate.logit != f32::NEG_INFINITY);
        Ok(())
    }

    /// The answer goes on with `token`.
    ///
    /// # Errors
    /// llama.cpp's: the grammar does not allow it.
    pub(crate) fn accept(&mut self, token: Token) -> Result<(), Thrown> {
        // SAFETY: llama.h: advances the sampler's own state.
        unsafe { guarded::accept(self.handle.as_ptr(), token) }
    }
}

/// llama.cpp's parser calls itself for each group within a group and for each rule
/// that may begin with another, and has no bound of its own. What may be left out can
/// be followed by all that comes behind it: with so many rules, 2,000 of them in a row
/// that may, a token takes seconds, and with twice as many four times as long.
fn refuse_deep(source: &str) -> Result<(), String> {
    const GROUPS_MAX: usize = 1000;
    const RULES_MAX: usize = 4000;
    let (mut depth, mut deepest, mut rules) = (0_usize, 0, 0_usize);
    // What ends the text that is being stepped over.
    let mut until = None;
    // The number being read, of a repetition that is being stepped over.
    let mut times = 0_usize;
    let mut bytes = source.bytes();
    while let Some(byte) = bytes.next() {
        match (byte, until) {
            (b'\\', Some(b'"' | b']')) => {
                bytes.next();
            }
            (b'0'..=b'9', Some(b'}')) => {
                times = times
                    .saturating_mul(10)
                    .saturating_add(usize::from(byte - b'0'));
            }
            (b',' | b'}', Some(b'}')) => {
                rules = rules.saturating_add(times);
                times = 0;
                until = until.filter(|_| byte != b'}');
            }
            (_, Some(end)) if byte == end => until = None,
            (b'"', None) => until = Some(b'"'),
            (b'[', None) => until = Some(b']'),
            (b'#', None) => until = Some(b'\n'),
            (b'{', None) => until = Some(b'}'),
            (b'(', None) => {
                depth += 1;
                deepest = deepest.max(depth);
                // It makes a rule of each group, and of all that is repeated.
                rules += 1;
            }
            (b')', None) => depth = depth.saturating_sub(1),
            (b'=' | b'?' | b'*' | b'+', None) => rules = rules.saturating_add(1),
            _ => {}
        }
    }
    if deepest > GROUPS_MAX {
        return Err(format!(
            "it has more than {GROUPS_MAX} groups in each other"
        ));
    }
    if rules > RULES_MAX {
        return Err(format!("it has more than {RULES_MAX} rules"));
    }
    Ok(())
}

impl Drop for Grammar<'_> {
    fn drop(&mut self) {
        // SAFETY: llama.h: frees a sampler that belongs to no chain; this is
        // its only owner.
        unsafe { sys::llama_sampler_free(self.handle.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_of_texts_classes_and_remarks() {
        let nested =
            |depth: usize| format!("root ::= {}\"a\"{}", "(".repeat(depth), ")".repeat(depth));
        refuse_deep(&nested(1000)).unwrap();
        assert!(refuse_deep(&nested(1001)).is_err());
        for harmless in ["\"\\\"(\" ", "[\\](] ", "# (((\n", "(\"a\") "] {
            refuse_deep(&harmless.repeat(2000)).unwrap();
        }
        for rules in ["a ::= b\n", "b? ", "b* ", "b+ ", "b{1} ", "\"=\"{0,1} "] {
            refuse_deep(&rules.repeat(4000)).unwrap();
            assert!(refuse_deep(&rules.repeat(4001)).is_err(), "{rules}");
        }
        assert!(refuse_deep("root ::= b{99999999999999999999}").is_err());
    }
}
