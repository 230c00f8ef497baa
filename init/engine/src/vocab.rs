//! A model's vocabulary: text to tokens and back.

#![expect(unsafe_code, reason = "llama.cpp's vocabulary is a C handle")]

use std::collections::HashMap;
use std::ffi::CStr;
use std::marker::PhantomData;

use llama_cpp_sys_2 as sys;

use super::guarded::{self, Thrown};
use super::model::Model;
use super::runs::Kinds;

/// A token's number.
pub(crate) type Token = sys::llama_token;

/// A model's vocabulary. The model outlives it.
pub(crate) struct Vocab<'m> {
    /// A member of the model: never null, alive as long as it.
    handle: *const sys::llama_vocab,
    tokens: usize,
    /// Tokens that have a meaning of their own, by their exact text.
    special: HashMap<String, Token>,
    /// The file says which tokens begin and end a text.
    names_bos: bool,
    names_eos: bool,
    /// How text is cut before it is tokenized, if it may be.
    kinds: Option<Kinds>,
    model: PhantomData<&'m Model<'m>>,
}

/// A token that is markup, or may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Special {
    /// Its exact text.
    pub text: String,
    /// A control token; else one that its maker defined for text.
    pub control: bool,
    /// Swallows white space before it.
    pub lstrip: bool,
    /// Swallows white space after it.
    pub rstrip: bool,
}

/// Why text has no tokens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VocabError {
    /// More than llama.cpp can count, or memory can hold.
    #[error("a text of {bytes} bytes is too long to tokenize in this memory")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A tokenizer may give ids that are not tokens where a vocabulary lacks some.
    #[error("the model's vocabulary has no token for a part of this text")]
    NoToken,
    /// llama.cpp's own words.
    #[error(transparent)]
    Thrown(#[from] Thrown),
}

impl<'m> Vocab<'m> {
    /// The vocabulary of `model`.
    pub(crate) fn of(model: &'m Model<'m>) -> Self {
        // SAFETY: llama.h: a getter of a live model.
        let handle = unsafe { sys::llama_model_get_vocab(model.as_ptr()) };
        // SAFETY: llama.h: a getter of a live vocabulary.
        let tokens = unsafe { sys::llama_vocab_n_tokens(handle) };
        let mut vocab = Self {
            handle,
            tokens: usize::try_from(tokens).unwrap_or(0),
            special: HashMap::new(),
            names_bos: model.has_key(c"tokenizer.ggml.bos_token_id"),
            names_eos: model.has_key(c"tokenizer.ggml.eos_token_id"),
            kinds: None,
            model: PhantomData,
        };
        // SAFETY: llama.h: a getter of a live vocabulary.
        if unsafe { sys::llama_vocab_type(handle) } == sys::LLAMA_VOCAB_TYPE_BPE {
            let pre = model.name_at(c"tokenizer.ggml.pre");
            vocab.kinds = Some(Kinds::of(&pre.unwrap_or_default()));
        }
        for (token, special) in vocab.list_special() {
            vocab.special.entry(special.text).or_insert(token);
        }
        vocab
    }

    /// How many tokens, from the first on, mean the same in both; `None` if any differs in
    /// its text or its kind. At their ends, either may have some that nobody uses: makers
    /// round vocabularies up.
    pub(crate) fn common_tokens(&self, other: &Self) -> Option<usize> {
        let count = self.tokens.min(other.tokens);
        let rest = |vocab: &Self| {
            let unused = sys::LLAMA_TOKEN_ATTR_UNUSED;
            vocab
                .ids()
                .skip(count)
                .all(|token| vocab.kind(token) == unused)
        };
        let same = |token| {
            let kind = self.kind(token);
            let is_unused = kind == sys::LLAMA_TOKEN_ATTR_UNUSED;
            kind == other.kind(token) && (is_unused || self.text(token) == other.text(token))
        };
        let is_same = self.ids().take(count).all(same) && rest(self) && rest(other);
        is_same.then_some(count)
    }

    /// What a token is, without how white space is treated around it.
    fn kind(&self, token: Token) -> sys::llama_token_attr {
        let kinds = sys::LLAMA_TOKEN_ATTR_UNKNOWN
            | sys::LLAMA_TOKEN_ATTR_UNUSED
            | sys::LLAMA_TOKEN_ATTR_NORMAL
            | sys::LLAMA_TOKEN_ATTR_CONTROL
            | sys::LLAMA_TOKEN_ATTR_USER_DEFINED
            | sys::LLAMA_TOKEN_ATTR_BYTE;
        self.attributes(token) & kinds
    }

    fn ids(&self) -> impl Iterator<Item = Token> {
        0..Token::try_from(self.tokens).unwrap_or(0)
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.tokens
    }

    /// The beginning-of-text token, if there is one.
    pub(crate) fn bos(&self) -> Option<Token> {
        // SAFETY: llama.h: a getter of a live vocabulary; −1 for none.
        self.checked(unsafe { sys::llama_vocab_bos(self.as_ptr()) })
    }

    /// The end-of-text token, if there is one.
    pub(crate) fn eos(&self) -> Option<Token> {
        // SAFETY: llama.h: a getter of a live vocabulary; −1 for none.
        self.checked(unsafe { sys::llama_vocab_eos(self.as_ptr()) })
    }

    /// The text of [`Self::bos`] for a template; empty if the file does not name that
    /// token, for which llama.cpp then takes one of its own choice.
    pub(crate) fn bos_text(&self) -> String {
        let bos = self.bos().filter(|_| self.names_bos);
        bos.map_or_else(String::new, |token| self.spelling(token))
    }

    /// The same of [`Self::eos`].
    pub(crate) fn eos_text(&self) -> String {
        let eos = self.eos().filter(|_| self.names_eos);
        eos.map_or_else(String::new, |token| self.spelling(token))
    }

    /// Whether every prompt begins with [`Self::bos`].
    pub(crate) fn adds_bos(&self) -> bool {
        // SAFETY: llama.h: a getter of a live vocabulary.
        unsafe { sys::llama_vocab_get_add_bos(self.as_ptr()) }
    }

    /// Whether the model says with `token` that it is done.
    pub(crate) fn ends_generation(&self, token: Token) -> bool {
        self.checked(token).is_some_and(|token| {
            // SAFETY: llama.h: `token` is one of this vocabulary.
            unsafe { sys::llama_vocab_is_eog(self.as_ptr(), token) }
        })
    }

    /// Whether `token` is markup, not text.
    pub(crate) fn is_control(&self, token: Token) -> bool {
        self.attributes(token) & (sys::LLAMA_TOKEN_ATTR_CONTROL | sys::LLAMA_TOKEN_ATTR_UNKNOWN)
            != 0
    }

    /// The token whose whole text is `text`, if it has a meaning of its own.
    pub(crate) fn special(&self, text: &str) -> Option<Token> {
        self.special.get(text).copied()
    }

    /// The text of `token` as the vocabulary spells it.
    pub(crate) fn spelling(&self, token: Token) -> String {
        let text = self.text(token).unwrap_or_default();
        text.to_string_lossy().into_owned()
    }

    fn text(&self, token: Token) -> Option<&CStr> {
        let token = self.checked(token)?;
        // SAFETY: llama.h: `token` is one of this vocabulary; the result is a C
        // string that belongs to it, or null.
        let text = unsafe { sys::llama_vocab_get_text(self.as_ptr(), token) };
        if text.is_null() {
            return None;
        }
        // SAFETY: not null, a C string, alive as long as the model.
        Some(unsafe { CStr::from_ptr(text) })
    }

    /// Bytes of the longest text of a token, at least one.
    pub(crate) fn text_bytes_max(&self) -> usize {
        self.ids()
            .map(|token| self.text(token).map_or(0, CStr::count_bytes))
            .max()
            .unwrap_or(0)
            .max(1)
    }

    /// All tokens with a meaning of their own: what user text may not become.
    pub(crate) fn list_special(&self) -> Vec<(Token, Special)> {
        let kinds = sys::LLAMA_TOKEN_ATTR_CONTROL
            | sys::LLAMA_TOKEN_ATTR_UNKNOWN
            | sys::LLAMA_TOKEN_ATTR_USER_DEFINED;
        self.ids()
            .filter(|token| self.attributes(*token) & kinds != 0)
            .map(|token| {
                let attributes = self.attributes(token);
                let special = Special {
                    text: self.spelling(token),
                    control: self.is_control(token),
                    lstrip: attributes & sys::LLAMA_TOKEN_ATTR_LSTRIP != 0,
                    rstrip: attributes & sys::LLAMA_TOKEN_ATTR_RSTRIP != 0,
                };
                (token, special)
            })
            .filter(|(_, special)| !special.text.is_empty())
            .collect()
    }

    /// Whether a run of characters in `text` is so long that it is cut, and with it, it may
    /// be, what spells a control token.
    pub(crate) fn cuts(&self, text: &str) -> bool {
        let pieces = self.kinds.map(|kinds| kinds.pieces(text));
        pieces.is_some_and(|pieces| pieces.count() > 1)
    }

    /// Appends the tokens of `text`. With `parse_special`, text that spells a
    /// control token becomes it; without, no control token can arise.
    ///
    /// # Errors
    /// A text of more than 2³¹ bytes, one that memory does not suffice for, or one that
    /// this vocabulary has not all tokens for.
    pub(crate) fn tokenize(
        &self,
        text: &str,
        parse_special: bool,
        tokens: &mut Vec<Token>,
    ) -> Result<(), VocabError> {
        let Some(kinds) = self.kinds else {
            return self.tokenize_piece(text, parse_special, tokens);
        };
        let mut pieces = kinds.pieces(text);
        pieces.try_for_each(|piece| self.tokenize_piece(piece, parse_special, tokens))
    }

    fn tokenize_piece(
        &self,
        text: &str,
        parse_special: bool,
        tokens: &mut Vec<Token>,
    ) -> Result<(), VocabError> {
        let too_long = VocabError::TooLong { bytes: text.len() };
        let mut buffer: Vec<Token> = Vec::new();
        // A token is a byte or more, and one for a space in front.
        let mut room = text.len() + 8;
        for _ in 0..2 {
            // As many as there are bytes: more than memory may have.
            if buffer.try_reserve_exact(room).is_err() {
                break;
            }
            buffer.resize(room, 0);
            // SAFETY: the vocabulary is live.
            let count =
                unsafe { guarded::tokenize(self.as_ptr(), text, parse_special, &mut buffer) }?;
            if let Ok(count) = usize::try_from(count) {
                buffer.truncate(count);
                if buffer.iter().any(|token| self.checked(*token).is_none()) {
                    return Err(VocabError::NoToken);
                }
                tokens.append(&mut buffer);
                return Ok(());
            }
            // Minus the number that there would have been.
            room = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
            if count == i32::MIN {
                break;
            }
        }
        Err(too_long)
    }

    /// Appends the bytes that `token` stands for; they need not be whole
    /// characters. Control tokens have bytes only if `show_control`.
    ///
    /// # Errors
    /// llama.cpp's: a byte token whose text names no byte.
    pub(crate) fn push_piece(
        &self,
        token: Token,
        show_control: bool,
        bytes: &mut Vec<u8>,
    ) -> Result<(), VocabError> {
        /// Few tokens are longer.
        const ROOM: usize = 64;
        if self.checked(token).is_none() {
            return Ok(());
        }
        let start = bytes.len();
        let mut room = ROOM;
        for _ in 0..2 {
            bytes.resize(start + room, 0);
            let buffer = bytes.get_mut(start..).unwrap_or_default();
            // SAFETY: the vocabulary is live and `token` one of its tokens.
            let length = unsafe { guarded::piece(self.as_ptr(), token, show_control, buffer) };
            let length = length.inspect_err(|_| bytes.truncate(start))?;
            bytes.truncate(start + usize::try_from(length).unwrap_or(0));
            if length >= 0 {
                break;
            }
            // Minus the number of bytes that there would have been.
            room = usize::try_from(length.unsigned_abs()).unwrap_or(0);
        }
        Ok(())
    }

    fn attributes(&self, token: Token) -> sys::llama_token_attr {
        self.checked(token).map_or(0, |token| {
            // SAFETY: llama.h: `token` is one of this vocabulary.
            unsafe { sys::llama_vocab_get_attr(self.as_ptr(), token) }
        })
    }

    /// `token` if it is one of this vocabulary: llama.cpp's getters index
    /// without a check of their own.
    fn checked(&self, token: Token) -> Option<Token> {
        let index = usize::try_from(token).ok()?;
        (index < self.tokens).then_some(token)
    }

    /// The C handle, for the grammar sampler.
    pub(super) fn as_ptr(&self) -> *const sys::llama_vocab {
        self.handle
    }
}
