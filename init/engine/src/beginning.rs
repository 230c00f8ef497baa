//! What conversations of a batch have in common: the tokens that they begin with
//! whatever their prompts say, which are evaluated once for all of them. They are
//! a piece of their own for each conversation, whether others came before it or not, so
//! that its answer does not depend on these.

use super::prompter::Prompter;
use super::sequence::common_prefix;
use super::vocab::Token;
use chat::{Message, Next};

/// The beginning of the conversation seen last.
#[derive(Default)]
pub(crate) struct Beginning {
    /// Without its prompt.
    messages: Vec<Message>,
    tokens: Vec<Token>,
}

impl Beginning {
    /// How many of `tokens`, which are those of `messages`, are there whatever the last
    /// of these says behind its first `common_bytes`. One is left for its logits.
    pub(crate) fn shared(
        &mut self,
        prompter: &Prompter<'_>,
        messages: &[Message],
        common_bytes: usize,
        tokens: &[Token],
    ) -> usize {
        let mut begun = messages.to_vec();
        if let Some(last) = begun.last_mut() {
            let common = last.text.get(..common_bytes).unwrap_or_default();
            last.text = common.to_owned();
        }
        if self.tokens.is_empty() || self.messages != begun {
            let with = |text: &str| {
                let mut messages = begun.clone();
                if let Some(last) = messages.last_mut() {
                    last.text.push_str(text);
                }
                let prompt = prompter.prompt(&messages, Next::Answer);
                prompt.map_or(Vec::new(), |prompt| prompt.tokens)
            };
            let (mut one, other) = (with("0"), with("a"));
            one.truncate(common_prefix(&one, &other));
            self.tokens = one;
            self.messages = begun;
        }
        common_prefix(&self.tokens, tokens).min(tokens.len().saturating_sub(1))
    }
}
