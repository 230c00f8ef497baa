//! Messages to tokens: the chat template renders, the vocabulary tokenizes, and
//! no text that a person or the model wrote becomes a control token.

use super::sequence::count;
use super::spelling::Pieces;
use super::vocab::{Token, Vocab, VocabError};
use chat::{Mark, Message, Next, Rendered, Segment, Splitter, Template, TemplateParams};
use protocol::TurnError;

/// A model's template and vocabulary, together.
pub(crate) struct Prompter<'m> {
    template: Template,
    vocab: Vocab<'m>,
    /// Put first, unless the template does.
    bos: Option<Token>,
    /// Ends an answer besides what the vocabulary says.
    end_of_turn: Option<Token>,
    /// Ends an answer where no token does.
    end_text: Option<String>,
    /// Control tokens whose text the splitter must see.
    visible: Vec<Token>,
    /// An answer begins with a space that is not its own: the template's, or the
    /// tokenizer's, which puts one before text that follows markup.
    leading_space: bool,
    room: ContextRoom,
    /// The longest text of a token, bytes.
    token_bytes_max: usize,
}

/// How long a conversation can be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ContextRoom {
    /// Tokens that the context holds.
    pub ctx_tokens: usize,
    /// Tokens that the largest context holds that could be had.
    pub ctx_max_tokens: u32,
    /// The longest answer, bytes.
    pub answer_bytes: u64,
}

impl ContextRoom {
    /// Refuses `need_tokens` with one for the answer if the context does not hold
    /// them; `counted`: there are not more.
    pub(crate) fn refuse_beyond(&self, need_tokens: usize, counted: bool) -> Result<(), TurnError> {
        if need_tokens < self.ctx_tokens {
            return Ok(());
        }
        Err(TurnError::ContextFull {
            need_tokens: count(need_tokens.saturating_add(1)),
            counted,
            ctx_tokens: count(self.ctx_tokens),
            ctx_max_tokens: self.ctx_max_tokens,
        })
    }
}

/// A conversation, tokenized.
pub(crate) struct Prompt {
    /// The tokens, as the tokenizer cuts them.
    pub tokens: Vec<Token>,
    /// Tells reasoning from answer in what follows.
    pub splitter: Splitter,
}

impl<'m> Prompter<'m> {
    /// `source` is the model's own template, or why there is none. `now_s` is local
    /// time in seconds since 1970, if known.
    ///
    /// # Errors
    /// Not even the built-in template can be used with this vocabulary.
    pub(crate) fn new(
        vocab: Vocab<'m>,
        source: Result<&str, &String>,
        now_s: Option<i64>,
        room: ContextRoom,
    ) -> Result<Self, TurnError> {
        let (bos, eos) = (vocab.bos_text(), vocab.eos_text());
        let marks = vocab.list_special().into_iter().map(|(_, special)| Mark {
            text: special.text,
            control: special.control,
            lstrip: special.lstrip,
            rstrip: special.rstrip,
        });
        let template = Template::new(&TemplateParams {
            source: source.map_err(String::as_str),
            bos: &bos,
            eos: &eos,
            marks: marks.collect(),
            now_s,
        })
        .map_err(|e| TurnError::Template(e.to_string()))?;
        let end_of_turn = template.end_of_turn().and_then(|text| vocab.special(text));
        let end_text = template.end_of_turn().filter(|_| end_of_turn.is_none());
        let visible = template.visible();
        let visible = visible.into_iter().filter_map(|text| vocab.special(text));
        Ok(Self {
            bos: vocab.bos().filter(|_| vocab.adds_bos()),
            end_text: end_text.map(str::to_owned),
            visible: visible.collect(),
            leading_space: template.opens_with_space() || puts_space_before(&vocab),
            token_bytes_max: vocab.text_bytes_max(),
            room,
            end_of_turn,
            template,
            vocab,
        })
    }

    /// How long a conversation can be.
    pub(crate) fn room(&self) -> ContextRoom {
        self.room
    }

    /// The vocabulary.
    pub(crate) fn vocab(&self) -> &Vocab<'m> {
        &self.vocab
    }

    /// Where the template came from.
    pub(crate) fn template_origin(&self) -> &str {
        self.template.origin()
    }

    /// Whether a generated token ends the answer; else its bytes that are to be shown
    /// are appended to `bytes`.
    ///
    /// # Errors
    /// llama.cpp's.
    pub(crate) fn hear(&self, token: Token, bytes: &mut Vec<u8>) -> Result<bool, TurnError> {
        if Some(token) == self.end_of_turn || self.vocab.ends_generation(token) {
            return Ok(true);
        }
        let show_control = self.visible.contains(&token);
        let pushed = self.vocab.push_piece(token, show_control, bytes);
        pushed.map_err(|e| TurnError::Evaluation(e.to_string()))?;
        Ok(false)
    }

    /// Text that ends an answer, where no token does.
    pub(crate) fn end_text(&self) -> Option<&str> {
        self.end_text.as_deref()
    }

    /// Whether an answer that begins with a space owes it to template or tokenizer.
    pub(crate) fn has_leading_space(&self) -> bool {
        self.leading_space
    }

    /// Renders and tokenizes `messages`.
    ///
    /// # Errors
    /// The template's, or that the text is too long to tokenize.
    pub(crate) fn prompt(&self, messages: &[Message], next: Next) -> Result<Prompt, TurnError> {
        let rendered = self.render(messages, next)?;
        Ok(Prompt {
            tokens: self.tokenize(&rendered)?,
            splitter: self.template.splitter(&rendered),
        })
    }

    /// What the model sees, as text and as tokens.
    ///
    /// # Errors
    /// As [`Self::prompt`].
    pub(crate) fn show(&self, messages: &[Message]) -> Result<(String, Vec<Token>), TurnError> {
        let rendered = self.render(messages, Next::Answer)?;
        let tokens = self.tokenize(&rendered)?;
        Ok((rendered.text(), tokens))
    }

    /// How many tokens the text of a message has; `None`: more than the context holds.
    pub(crate) fn count_text(&self, text: &str) -> Option<usize> {
        self.refuse_huge(text.len()).ok()?;
        let mut tokens = Vec::new();
        self.push_text(text, false, &mut tokens).ok()?;
        Some(tokens.len())
    }

    fn render(&self, messages: &[Message], next: Next) -> Result<Rendered<'_>, TurnError> {
        self.refuse_huge(messages.iter().map(|message| message.text.len()).sum())?;
        self.template
            .render(messages, next)
            .map_err(|e| TurnError::Template(e.to_string()))
    }

    /// What cannot fit into the context is neither rendered nor tokenized: that takes
    /// many times its own memory.
    fn refuse_huge(&self, bytes: usize) -> Result<(), TurnError> {
        let least_tokens = bytes / self.token_bytes_max;
        self.room.refuse_beyond(least_tokens, false)
    }

    fn tokenize(&self, rendered: &Rendered<'_>) -> Result<Vec<Token>, TurnError> {
        let mut tokens = Vec::new();
        let text = rendered.text();
        if rendered.has_guards() || self.vocab.cuts(&text) {
            self.push_segments(rendered, &mut tokens)?;
        } else {
            // As llama.cpp's own tools do it.
            self.push_text(&text, true, &mut tokens)?;
        }
        if let Some(bos) = self.bos.filter(|bos| tokens.first() != Some(bos)) {
            tokens.insert(0, bos);
        }
        if tokens.is_empty() {
            return Err(TurnError::Evaluation(VocabError::NoToken.to_string()));
        }
        Ok(tokens)
    }

    /// Control tokens by their number, everything else without any.
    fn push_segments(
        &self,
        rendered: &Rendered<'_>,
        tokens: &mut Vec<Token>,
    ) -> Result<(), TurnError> {
        for segment in rendered.segments() {
            match segment {
                Segment::Control(text) => match self.vocab.special(&text) {
                    Some(token) => tokens.push(token),
                    None => self.push_text(&text, false, tokens)?,
                },
                Segment::Plain(text) => self.push_text(&text, false, tokens)?,
            }
        }
        Ok(())
    }

    fn push_text(
        &self,
        text: &str,
        parse_special: bool,
        tokens: &mut Vec<Token>,
    ) -> Result<(), TurnError> {
        self.vocab
            .tokenize(text, parse_special, tokens)
            .map_err(|e| TurnError::Evaluation(e.to_string()))
    }
}

impl Pieces for Vocab<'_> {
    fn is_markup(&self, token: Token) -> bool {
        self.is_control(token)
    }

    fn push_bytes(&self, token: Token, bytes: &mut Vec<u8>) {
        // A token that cannot be spelled is like none: its answer is not spliced.
        let _ = self.push_piece(token, false, bytes);
    }
}

/// `SentencePiece` vocabularies begin every text with a space of their own.
fn puts_space_before(vocab: &Vocab<'_>) -> bool {
    let mut tokens = Vec::new();
    if vocab.tokenize("a", false, &mut tokens).is_err() {
        return false;
    }
    let mut bytes = Vec::new();
    for token in tokens {
        if vocab.push_piece(token, false, &mut bytes).is_err() {
            return false;
        }
    }
    bytes.starts_with(b" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_must_leave_a_token_for_the_answer() {
        let room = ContextRoom {
            ctx_tokens: 32,
            ctx_max_tokens: 64,
            answer_bytes: 1,
        };
        room.refuse_beyond(31, true).unwrap();
        let refused = room.refuse_beyond(32, true).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the conversation needs 33 tokens and the context holds 32; zosia.ctx=64 makes it larger [ZE-32]"
        );
        let huge = room.refuse_beyond(usize::MAX, false).unwrap_err();
        assert_eq!(
            huge.to_string(),
            "the conversation needs more than 4294967295 tokens and the context holds 32; \
             shorten it: 64 are the most for this model in this memory [ZE-32]"
        );
    }
}
